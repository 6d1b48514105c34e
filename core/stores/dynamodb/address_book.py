"""The address book on DynamoDB, in a table of its own: its access and its key can be others than the ledger's.

    contact   pk ``contact#<nibble>``, sk recipient: ``address``, ``locale``, and ``arrival``: the block it came in with
    block     pk ``arrival#<last // 10,000>``, sk its last number: ``recipients`` (16 bytes each) that came in together
    book      pk ``book``, sk ``book``: ``arrived``, the highest number given, and ``held``, how many contacts there are

Contacts that come in together, the block that names them, and the book's numbers are one transaction, whose condition
is that ``arrived`` still is what the block counts on from. So no number is given twice, none is left out, and none
becomes visible behind a higher one: whoever reads ``arrived`` reads what was committed with all that it counts. As
reads of several items are no transaction, ``arrived()`` looks whether the blocks follow one another without a gap, and
waits for one whose commit has not reached every part of DynamoDB yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

from core.batches import batched
from core.errors import DamagedState, StoreError
from core.model import RecipientId
from core.stores.dynamodb.forms import NIBBLES, nibble
from core.stores.dynamodb.persisting import TRIES, new_token, persist, wait_before
from core.stores.dynamodb.table import (
    ADDRESSES,
    Client,
    Condition,
    Delete,
    Item,
    Key,
    Put,
    Table,
    Update,
    Write,
    number,
    raw,
    table_name,
    text,
    transact,
)
from core.stores.dynamodb.values import DAMAGED

Contact = tuple[RecipientId, str, str | None]
"""Recipient, normalised address, locale."""

TOGETHER = 98
"""Contacts of one transaction: their block and the book make it a hundred."""
ERASED_TOGETHER = 48
"""Contacts erased in one transaction: each may have come in with another block."""
NUMBERS = 10_000
"""Numbers whose blocks share a hash key."""

_SIZE = 16
_NOBODY = bytes(_SIZE)
"""Stands in a block for somebody who was erased since."""
_BOOK = ("book", "book")


class DynamoAddressBook:
    """See ``core.records.AddressBook``.

    Args:
        client: DynamoDB.
        prefix: That of the tables' names.
        sleep: How to wait, in seconds.
    """

    def __init__(self, client: Client, prefix: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.table = Table(client, table_name(prefix, ADDRESSES), sleep=sleep)
        self._sleep = sleep

    def put(self, contacts: Iterable[Contact]) -> int:
        """Store (recipient, normalised address, locale); answers how many were new. A locale is kept unless given.

        In parts of ``TOGETHER``, each durable before the next one begins: what was cut off can be run again.

        Raises:
            HeadConflict: others kept being quicker; run it again.
            StoreError: DynamoDB is out of reach or refused; run it again.
        """
        return sum(persist(partial(self._put, part), self._sleep) for part in batched(contacts, TOGETHER))

    def _put(self, contacts: Sequence[Contact]) -> int:
        given = _once(contacts)
        known = self.table.get_many(map(_contact_key, given))
        new = [contact for recipient, contact in given.items() if _contact_key(recipient) not in known]
        writes = [*self._relocated(given, known), *(self._welcomed(new) if new else ())]
        transact(self.table.client, writes, new_token(), sleep=self._sleep)
        return len(new)

    def _relocated(self, given: Mapping[RecipientId, Contact], known: Mapping[Key, Item]) -> Iterator[Write]:
        """The writes by which those who are known get another locale."""
        for recipient, _, locale in given.values():
            item = known.get(_contact_key(recipient))
            if item and locale is not None and item.get("locale") != locale:
                yield Update(
                    self.table.name, *_contact_key(recipient), set={"locale": locale}, condition=Condition.exists()
                )

    def _welcomed(self, new: Sequence[Contact]) -> Iterator[Write]:
        """The writes by which contacts come in: they, their block, and the book, if nobody came in meanwhile."""
        book = self.table.get(*_BOOK)
        before = number(book, "arrived") if book else 0
        last = before + len(new)
        for contact in new:
            yield Put(self.table.name, _item(contact, last), Condition.absent())
        pk, sk = _block_key(last)
        block: Item = {"pk": pk, "sk": sk, "recipients": b"".join(recipient for recipient, _, _ in new)}
        yield Put(self.table.name, block, Condition.absent())
        still = Condition.equals("arrived", before) if book else Condition.absent()
        yield Update(self.table.name, *_BOOK, set={"arrived": last}, add={"held": len(new)}, condition=still)

    def get(self, recipients: Collection[RecipientId]) -> dict[RecipientId, tuple[str, str | None]]:
        """The address and locale of those that are known."""
        found = self.table.get_many(map(_contact_key, recipients))
        return {recipient: (address, locale) for recipient, address, locale in map(_contact, found.values())}

    def scan(self, after: RecipientId | None = None, limit: int = 10_000) -> list[Contact]:
        """A page in the order of recipients, beginning behind ``after``."""
        first, page = nibble(after) if after else NIBBLES[0], list[Contact]()
        for shard in NIBBLES[NIBBLES.index(first) :]:
            if len(page) == limit:
                break
            behind = after.hex() if after and shard == first else ""
            page += map(_contact, self.table.query(f"contact#{shard}", after=behind, limit=limit - len(page)))
        return page

    def count(self) -> int:
        """How many addresses are held."""
        book = self.table.get(*_BOOK)
        return number(book, "held") if book else 0

    def arrivals(self) -> int:
        """The number of the newest arrival, counted from 1 since the book was begun; erasing gives no number back."""
        book = self.table.get(*_BOOK)
        return number(book, "arrived") if book else 0

    def arrived(self, after: int, until: int) -> Iterator[RecipientId]:
        """Who came in behind ``after``, up to ``until``, in the order of recipients; all of them are held in memory.

        Raises:
            StoreError: DynamoDB is out of reach, or does not have all the blocks.
        """
        until = min(until, self.arrivals())
        found: set[bytes] = set()
        for attempt in range(TRIES):
            after = self._collect(after, until, found)
            if after >= until:
                return (RecipientId(recipient) for recipient in sorted(found - {_NOBODY}))
            self._sleep(wait_before(attempt))
        raise StoreError(f"DynamoDB: {self.table.name}: the arrivals behind number {after} are missing; try again")

    def _collect(self, after: int, until: int, found: set[bytes]) -> int:
        """Add who came in behind ``after``, up to the first gap; answers up to which number everybody is there."""
        group = (after + 1) // NUMBERS
        while after < until and group <= (until + TOGETHER) // NUMBERS:
            for block in self.table.query(f"arrival#{group:08}", after=_block_key(after)[1]):
                last, recipients = _block(block)
                first = last - len(recipients) + 1
                if first > after + 1:
                    return after
                found.update(recipients[after + 1 - first : until + 1 - first])
                after = last
                if after >= until:
                    return after
            group += 1
        return after

    def erase(self, recipient: RecipientId) -> bool:
        """Forget an address; False when it was not known."""
        return self.erase_all([recipient]) == 1

    def erase_all(self, recipients: Iterable[RecipientId], note: Callable[[int], Sequence[Write]] | None = None) -> int:
        """Forget addresses and that they came in; answers how many there were.

        Args:
            recipients: Those who are forgotten, known or not.
            note: Writes that go into the same transaction as so many deletions; at most two.

        Raises:
            StoreError: DynamoDB is out of reach or refused; run it again.
        """
        parts = batched(dict.fromkeys(recipients), ERASED_TOGETHER)
        return sum(persist(partial(self._erase, part, note), self._sleep) for part in parts)

    def _erase(self, recipients: Sequence[RecipientId], note: Callable[[int], Sequence[Write]] | None) -> int:
        known = self.table.get_many(map(_contact_key, recipients))
        if not known:
            return 0
        writes: list[Write] = [
            Delete(self.table.name, *each, Condition.equals("arrival", number(item, "arrival")))
            for each, item in known.items()
        ]
        blocks = self.table.get_many(_block_key(number(item, "arrival")) for item in known.values())
        gone = {_contact(item)[0] for item in known.values()}
        for each, item in blocks.items():
            left = b"".join(_NOBODY if recipient in gone else recipient for recipient in _block(item)[1])
            still = Condition.equals("recipients", raw(item, "recipients"))
            writes.append(Update(self.table.name, *each, set={"recipients": left}, condition=still))
        writes.append(Update(self.table.name, *_BOOK, add={"held": -len(known)}))
        transact(self.table.client, [*writes, *(note(len(known)) if note else ())], new_token(), sleep=self._sleep)
        return len(known)


def _once(contacts: Iterable[Contact]) -> dict[RecipientId, Contact]:
    """Each recipient once: by the first address, and the last locale that was given."""
    given: dict[RecipientId, Contact] = {}
    for recipient, address, locale in contacts:
        _, first, known = given.get(recipient, (recipient, address, None))
        given[recipient] = recipient, first, known if locale is None else locale
    return given


def _contact_key(recipient: RecipientId) -> Key:
    return f"contact#{nibble(recipient)}", recipient.hex()


def _item(contact: Contact, arrival: int) -> Item:
    recipient, address, locale = contact
    pk, sk = _contact_key(recipient)
    item: Item = {"pk": pk, "sk": sk, "address": address, "arrival": arrival}
    return item if locale is None else {**item, "locale": locale}


def _contact(item: Item) -> Contact:
    """A contact as it is stored; raises DamagedState."""
    try:
        recipient = RecipientId(bytes.fromhex(text(item, "sk")))
    except ValueError:
        raise DamagedState(DAMAGED) from None
    return recipient, text(item, "address"), text(item, "locale") if "locale" in item else None


def _block_key(last: int) -> Key:
    """The key of the block whose last number this is."""
    return f"arrival#{last // NUMBERS:08}", f"{last:012}"


def _block(item: Item) -> tuple[int, list[bytes]]:
    """A block's last number, and who came in, by number; raises DamagedState."""
    recipients = raw(item, "recipients")
    try:
        return int(text(item, "sk")), [recipients[at : at + _SIZE] for at in range(0, len(recipients), _SIZE)]
    except ValueError:
        raise DamagedState(DAMAGED) from None
