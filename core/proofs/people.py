"""Finds the recipients of records whose address is not spelt in the plain way, or is given by its hash."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256

from core.addresses import normalise
from core.errors import AddressError
from core.model import RecipientId
from core.proofs.workshop import Workshop
from core.records import AddressBook

_ODD = "SELECT DISTINCT odd FROM staged WHERE odd IS NOT NULL"
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_PSEUDONYM = re.compile(r"[0-9a-fA-F]{32}")


def recognise(work: Workshop, identify: Callable[[str], RecipientId], book: AddressBook) -> None:
    """Complete ``staged.recipient``. Who cannot be recognised stays NULL: such a record belongs to no claim.

    An address is normalised as everywhere else. 64 hex digits are the SHA-256 of a normalised address, which only the
    address book can tell: of somebody who was erased it no longer does.
    """
    if not work.number(f"SELECT count(*) FROM ({_ODD} LIMIT 1)"):  # noqa: S608 - no input
        return
    work.fill("known", "odd VARCHAR, recipient UUID", _addresses(work, identify))
    work.run("UPDATE staged SET recipient = known.recipient FROM known WHERE staged.odd = known.odd")
    left = "odd IS NOT NULL AND staged.recipient IS NULL AND regexp_full_match(trim(odd), '[0-9a-fA-F]{64}')"
    if work.number(f"SELECT count(*) FROM (SELECT 1 FROM staged WHERE {left} LIMIT 1)"):  # noqa: S608 - no input
        work.fill("booked", "digest VARCHAR, recipient UUID", _hashes(book))
        booked = "UPDATE staged SET recipient = booked.recipient FROM booked"
        work.run(f"{booked} WHERE {left} AND lower(trim(odd)) = booked.digest")
    work.run("UPDATE staged SET odd = NULL WHERE odd IS NOT NULL")


def _addresses(work: Workshop, identify: Callable[[str], RecipientId]) -> Iterator[tuple[str, str]]:
    for page in work.pages(_ODD):
        for (odd,) in page:
            if _PSEUDONYM.fullmatch(odd.strip()):
                yield odd, odd.strip()
            elif not _HASH.fullmatch(odd.strip()):
                with suppress(AddressError):
                    yield odd, identify(normalise(odd)).hex()


def _hashes(book: AddressBook) -> Iterator[tuple[str, str]]:
    last: RecipientId | None = None
    while page := book.scan(last):
        for recipient, address, _ in page:
            yield sha256(address.encode()).hexdigest(), recipient.hex()
        last = page[-1][0]
