"""``POST /v1/consents``: choices from the team's own forms, all of a request or none of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from core.consent import given
from core.consent_forms import Accepted, ConsentForms, Statement
from core.errors import BatchTooLarge
from core.ledger import Ledger, idempotency_key
from core.links import Links
from core.model import RecipientId
from core.ports import Answered, Batch, Clock
from core.records import AddressBook, Records
from core.stores.bundle import Answers, Writer
from webhooks.api.endpoint import Call, Endpoint, ItemError, ProblemError, Scope
from webhooks.api.problems import INVALID, KEY_REUSED

PATH = "/v1/consents"
OPERATION = "recordConsents"
MOST = 1_000

_SUMMARY = "Record choices from your own forms"
_DESCRIPTION = """\
Records what people chose in forms of your own, where the address is collected, and answers once that is durable. All
of it is recorded or, when one item is wrong, nothing; the problem then lists every wrong item. Addresses that are new
are added to the address book.

A consent quotes the notice that the person was shown, and names its purposes. What a third party collected for you
does not belong here.

Repeating a request: with an `Idempotency-Key` it is answered as the first time, for seven days. Without one, an item
that has `occurred_at` and was recorded already is recognised, and answered with the receipt of the entry that stands.
An item without `occurred_at` is a new statement each time.
"""


class Consents(Struct, frozen=True, forbid_unknown_fields=True):
    """What people chose."""

    consents: Annotated[tuple[Statement, ...], Meta(min_length=1, max_length=MOST)]


class Recorded(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What became of one item, in the order of the request."""

    __repr__ = object.__repr__  # it holds somebody's links

    recipient: Annotated[str, Meta(description="The recipient's pseudonym, in hex.")]
    receipts: Annotated[tuple[str, ...], Meta(description="Hashes of the ledger entries that record it, in hex.")]
    choices_url: Annotated[str, Meta(description="The recipient's own link: whoever has it may choose for them.")]
    pixel_path: Annotated[
        str, Meta(description="The path of the hosted pixel, below the base URL; empty without any consent.")
    ]


class RecordedConsents(Struct, frozen=True, forbid_unknown_fields=True):
    """What became of them."""

    consents: tuple[Recorded, ...]


Rows = list[tuple[bytes, bytes]]
"""Recipient and entry hash of each item: what is kept of an answer. Links are made anew: they are somebody's."""

_ROWS = msgspec.msgpack.Decoder(Rows)


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records choices.

    Attributes:
        answers: Those that were given before.
        changed: Told of recipients whose choice is durable, so that the ESPs hear of it.
    """

    forms: ConsentForms
    ledger: Ledger
    book: AddressBook
    records: Records
    links: Links
    answers: Answers
    writer: Writer
    now: Clock
    changed: Callable[[Collection[RecipientId]], None]

    def endpoint(self) -> Endpoint:
        """The operation."""
        return Endpoint(
            method="POST",
            path=PATH,
            operation=OPERATION,
            scope=Scope.CONSENTS_WRITE,
            summary=_SUMMARY,
            description=_DESCRIPTION,
            body=Consents,
            answer=RecordedConsents,
            status=201,
            problems=(KEY_REUSED,),
            idempotent=True,
            handle=self.record,
        )

    def record(self, call: Call) -> RecordedConsents:
        """Record what a request holds.

        Raises:
            ProblemError: an item is wrong, or the idempotency key was used for something else; nothing is changed.
            StoreError: the store is out of reach; repeat it.
        """
        name = _name(call)
        if name and (before := self.answers.answered(name)):
            return self._answer(self._told_before(before, call))
        accepted = self._checked(call.body)
        # Before the ledger: an entry without its address could reach nobody, an address without entry tracks nobody.
        self.book.put((each.recipient, each.address, each.locale) for each in accepted)
        for text in {each.text for each in accepted if each.text}:
            self.records.put_notice(sha256(text.encode()).hexdigest(), text)
        return self._answer(self._written(call, name, accepted))

    def _written(self, call: Call, name: bytes | None, accepted: Sequence[Accepted]) -> Rows:
        """Write all of it together or, where the store writes less at once, in parts, and what is answered last.

        In parts it can still be repeated under its idempotency key: what stands already is found.
        """
        try:
            return self.writer.submit(lambda batch: self._write(batch, call, name, accepted)).result()
        except BatchTooLarge:
            parts = self.ledger.in_parts(self._recorded, _keyed(name, accepted))
        rows = [row for part in parts for row in part]
        return self.writer.submit(lambda batch: self._kept(batch, call, name, rows)).result()

    def _write(self, batch: Batch, call: Call, name: bytes | None, accepted: Sequence[Accepted]) -> Rows:
        if name and (before := batch.answered(name)):  # another request with the same key came first
            return self._told_before(before, call)
        return self._kept(batch, call, name, self._recorded(batch, accepted))

    def _recorded(self, batch: Batch, accepted: Sequence[Accepted]) -> Rows:
        hashes = self.forms.record_in(self.ledger, batch, accepted)
        return [(each.recipient, digest) for each, digest in zip(accepted, hashes, strict=True)]

    def _kept(self, batch: Batch, call: Call, name: bytes | None, rows: Rows) -> Rows:
        """Keep what is answered, where it has a name that has no answer yet."""
        if name and (before := batch.answered(name)):
            return self._told_before(before, call)
        if name:
            batch.keep_answer(Answered(name, call.digest, msgspec.msgpack.encode(rows), self.now()))
        return rows

    def _checked(self, body: Consents) -> Sequence[Accepted]:
        accepted, faults = self.forms.check(body.consents)
        if faults:
            errors = [ItemError(f"#/consents/{f.index}/{f.field}", f.problem) for f in faults]
            raise ProblemError(INVALID, "Nothing was recorded: mend these items and send all of them again.", errors)
        return accepted

    def _told_before(self, before: Answered, call: Call) -> Rows:
        if before.request != call.digest:
            raise ProblemError(KEY_REUSED, "Give every new request an idempotency key of its own.")
        return _ROWS.decode(before.answer)

    def _agreed(self, recipients: Collection[RecipientId]) -> set[RecipientId]:
        """Those who agree to something now: later statements may stand already beside the ones just recorded."""
        now, forms = self.now(), self.forms
        heads = self.ledger.store.heads({*recipients})
        return {r for r, head in heads.items() if given(head.standings, forms.purposes, now, forms.policy)}

    def _answer(self, rows: Rows) -> RecordedConsents:
        recipients = [RecipientId(recipient) for recipient, _ in rows]
        # Also of what was known: an earlier attempt may have been written without anybody hearing of it.
        self.changed(recipients)
        agreed = self._agreed(recipients)
        return RecordedConsents(
            tuple(
                Recorded(
                    recipient=recipient.hex(),
                    receipts=(digest.hex(),),
                    choices_url=self.links.choices_url(recipient),
                    pixel_path=self.links.pixel_path(recipient) if recipient in agreed else "",
                )
                for recipient, (_, digest) in zip(recipients, rows, strict=True)
            )
        )


def _keyed(name: bytes | None, accepted: Sequence[Accepted]) -> Sequence[Accepted]:
    """With what undated items of a request that has a name are known by when it is repeated."""
    if name is None:
        return accepted
    found = []
    for n, each in enumerate(accepted):
        keys = each.recording.keys or (idempotency_key(f"{OPERATION}|{name.hex()}|{n}"),)
        found.append(replace(each, recording=replace(each.recording, keys=keys)))
    return found


def _name(call: Call) -> bytes | None:
    """What an answer is kept under: a digest, because callers may put anything into an idempotency key."""
    if call.idempotency is None:
        return None
    return sha256(f"{call.key}\n{OPERATION}\n{call.idempotency}".encode()).digest()
