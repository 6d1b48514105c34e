"""Dead letters on DynamoDB, in the address book's table: see ``core.dead_letters.DeadLetters``.

    letter     pk ``letter#<number // 10,000>``, sk number: what is known of it but its body
    body       pk ``body#<provider>#<SHA-256>``, sk ``body``: ``number``, and the body's beginning; keeps it once
    rest       pk ``rest#<random>``, sk ``0001`` …: what of a body does not go into one item (DynamoDB takes 400 KB)
    loose      pk ``loose``, sk time and the name of a rest: a rest that belongs to no letter, or not yet
    letters    pk ``letters``: sk ``last``, the highest number given; sk ``count#<provider>#<reason>``

Letter, body and count are written in one transaction, and deleted in one. A rest is announced as loose before it is
written; the transaction that writes its letter ends that, and the one that deletes the letter begins it anew. So a
rest that was left behind by whatever was cut off is found, and goes: it holds addresses. Numbers only grow; one that
was given to a letter that was not written is missing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from hashlib import sha256

from core.batches import batched
from core.dead_letters import DeadLetter, Reason
from core.errors import DamagedState, HeadConflict
from core.ports import Clock
from core.stores.dynamodb.persisting import new_token, persist
from core.stores.dynamodb.table import (
    ADDRESSES,
    Client,
    Condition,
    ConditionFailed,
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
from core.stores.dynamodb.times import micros, time_in
from core.stores.dynamodb.values import DAMAGED

PART = 350_000
"""Bytes of a body in one item."""
PAGE = 50
"""Letters that are looked for at a time; their bodies are read one by one."""
REMOVED_TOGETHER = 10
"""Letters deleted in one transaction: it may be that what is deleted counts towards its 4 MB (unconfirmed)."""
NUMBERS = 10_000
"""Numbers whose letters share a hash key."""
LOOSE_FOR = timedelta(days=1)
"""From then on nobody is still writing the letter that a loose rest was for."""

_LAST = ("letters", "last")
_COUNT = "count#"


class DynamoDeadLetters:
    """See ``core.dead_letters.DeadLetters``.

    Args:
        client: DynamoDB.
        prefix: That of the tables' names.
        now: The clock, for what was left behind.
        sleep: How to wait, in seconds.
    """

    def __init__(self, client: Client, prefix: str, now: Clock, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.table = Table(client, table_name(prefix, ADDRESSES), sleep=sleep)
        self._now = now
        self._sleep = sleep

    def put(self, letters: Iterable[DeadLetter]) -> int:
        """Keep them durably, each body once; answers how many were new. Each is durable before the next one's turn.

        Raises:
            StoreError: DynamoDB is out of reach or refused; some may be kept, and putting them again is safe.
        """
        return sum(persist(partial(self._put, letter), self._sleep) for letter in letters)

    def _put(self, letter: DeadLetter) -> int:
        if self.table.get_many([_body_key(letter)], only=("number",)):
            return 0
        counted = self.table.update(*_LAST, add={"n": 1})
        assert counted is not None  # there was no condition
        nth, rest = number(counted, "n"), letter.body[PART:]
        name = self._announced() if rest else ""
        self.table.put_many(_rest(name, rest))
        try:
            transact(self.table.client, self._kept(letter, nth, name), new_token(), sleep=self._sleep)
        except (ConditionFailed, HeadConflict):  # certainly not written
            if name:
                self._throw_away(name)
            raise
        return 1

    def _kept(self, letter: DeadLetter, nth: int, name: str) -> list[Write]:
        """The writes that keep a letter; ``name``: of its rest, if it has one."""
        pk, sk = _body_key(letter)
        body: Item = {"pk": pk, "sk": sk, "number": nth, "body": letter.body[:PART]}
        writes: list[Write] = [
            Put(self.table.name, body, Condition.absent()),
            Put(self.table.name, _item(letter, nth, name), Condition.absent()),
            Update(self.table.name, *_count_key(letter.provider, letter.reason), add={"n": 1}),
        ]
        if name:  # unless it is being swept up
            loose = Condition.all_of(Condition.exists(), Condition.absent("swept"))
            writes.append(Delete(self.table.name, *_loose_key(name), loose))
        return writes

    def _announced(self) -> str:
        """A new name for a rest, which stands among the loose ones."""
        name = f"{micros(self._now()):020}#{secrets.token_hex(16)}"
        pk, sk = _loose_key(name)
        self.table.put({"pk": pk, "sk": sk})
        return name

    def listed(self, provider: str | None = None) -> Iterator[DeadLetter]:
        """Those that wait, the oldest first, read in pages; before that, what nobody wrote to its end is deleted."""
        self._sweep()
        last = self.table.get(*_LAST)
        for group in range(number(last, "n") // NUMBERS + 1 if last else 0):
            after = ""
            while page := list(self.table.query(f"letter#{group:08}", after=after, limit=PAGE)):
                for item in page:
                    if provider in {None, item.get("provider")}:
                        yield from self._whole(item)
                after = text(page[-1], "sk")

    def get(self, numbers: Collection[int]) -> list[DeadLetter]:
        """Those with these ids, the oldest first; the others are left out."""
        found = self.table.get_many(map(_letter_key, sorted(set(numbers))))
        return [letter for each in sorted(found) for letter in self._whole(found[each])]

    def _whole(self, item: Item) -> Iterator[DeadLetter]:
        """A letter with its body; none when it was removed meanwhile."""
        pk, sk = text(item, "body_key"), "body"
        parts, name = number(item, "parts"), text(item, "rest")
        keys = [(pk, sk), *((_rest_key(name), f"{n:04}") for n in range(1, parts))]
        found = self.table.get_many(keys)
        if len(found) == len(keys):
            yield _letter(item, b"".join(raw(found[each], "body") for each in keys))
        elif self.table.get(text(item, "pk"), text(item, "sk")) is not None:
            raise DamagedState(f"dead letter {_number(item)}: a part of its body is missing")

    def counts(self) -> dict[tuple[str, Reason], int]:
        """How many wait, by provider and reason."""
        found = {}
        for item in self.table.query("letters", prefix=_COUNT):
            provider, _, reason = text(item, "sk").removeprefix(_COUNT).rpartition("#")
            if n := number(item, "n"):
                found[provider, _reason(reason)] = n
        return dict(sorted(found.items()))

    def remove(self, numbers: Iterable[int], note: Callable[[int], Sequence[Write]] | None = None) -> int:
        """Forget those with these ids; answers how many there were.

        Args:
            numbers: Those that are forgotten, there or not.
            note: Writes that go into the same transaction as so many deletions; at most two.

        Raises:
            StoreError: DynamoDB is out of reach or refused; run it again.
        """
        parts = batched(dict.fromkeys(numbers), REMOVED_TOGETHER)
        return sum(persist(partial(self._remove, part, note), self._sleep) for part in parts)

    def _remove(self, numbers: Sequence[int], note: Callable[[int], Sequence[Write]] | None) -> int:
        found = self.table.get_many(map(_letter_key, numbers))
        if not found:
            return 0
        writes: list[Write] = []
        fewer: dict[Key, int] = {}
        for each, item in found.items():
            writes.append(Delete(self.table.name, *each, Condition.exists()))
            writes.append(Delete(self.table.name, text(item, "body_key"), "body"))
            count = _count_key(text(item, "provider"), _reason(text(item, "reason")))
            fewer[count] = fewer.get(count, 0) - 1
        names = [name for item in found.values() if (name := text(item, "rest"))]
        for pk, sk in map(_loose_key, names):
            writes.append(Put(self.table.name, {"pk": pk, "sk": sk}))
        writes += [Update(self.table.name, *count, add={"n": n}) for count, n in fewer.items()]
        transact(self.table.client, [*writes, *(note(len(found)) if note else ())], new_token(), sleep=self._sleep)
        for name in names:
            self._throw_away(name)
        return len(found)

    def _sweep(self) -> None:
        """Delete the rests that belong to no letter, once it is certain that none will still be written for them."""
        before = f"{micros(self._now() - LOOSE_FOR):020}"
        for item in self.table.query("loose", until=f"{before}#~"):
            name = text(item, "sk")
            if self.table.update(*_loose_key(name), set={"swept": True}, condition=Condition.exists()):
                self._throw_away(name)

    def _throw_away(self, name: str) -> None:
        """Delete a rest, and then that it was loose."""
        rest = _rest_key(name)
        self.table.delete_many((rest, text(item, "sk")) for item in self.table.query(rest, only=("sk",)))
        self.table.delete(*_loose_key(name))


def _body_key(letter: DeadLetter) -> Key:
    return f"body#{letter.provider}#{sha256(letter.body).hexdigest()}", "body"


def _letter_key(nth: int) -> Key:
    return f"letter#{nth // NUMBERS:08}", f"{nth:012}"


def _count_key(provider: str, reason: Reason) -> Key:
    return "letters", f"{_COUNT}{provider}#{reason}"


def _loose_key(name: str) -> Key:
    return "loose", name


def _rest_key(name: str) -> str:
    return f"rest#{name}"


def _rest(name: str, rest: bytes) -> Iterator[Item]:
    """The items of what does not go into a body's first one."""
    for n, at in enumerate(range(0, len(rest), PART), 1):
        yield {"pk": _rest_key(name), "sk": f"{n:04}", "body": rest[at : at + PART]}


def _item(letter: DeadLetter, nth: int, rest: str) -> Item:
    """A letter without its body."""
    pk, sk = _letter_key(nth)
    item: Item = {
        "pk": pk,
        "sk": sk,
        "provider": letter.provider,
        "reason": letter.reason.value,
        "received_at": micros(letter.received_at),
        "body_key": _body_key(letter)[0],
        "parts": max(1, -(-len(letter.body) // PART)),
        "rest": rest,
    }
    return item if letter.signed_at is None else {**item, "signed_at": micros(letter.signed_at)}


def _letter(item: Item, body: bytes) -> DeadLetter:
    """A letter as it is stored; raises DamagedState."""
    signed = time_in(item, "signed_at") if "signed_at" in item else None
    reason = _reason(text(item, "reason"))
    return DeadLetter(text(item, "provider"), reason, time_in(item, "received_at"), signed, body, _number(item))


def _number(item: Item) -> int:
    try:
        return int(text(item, "sk"))
    except ValueError:
        raise DamagedState(DAMAGED) from None


def _reason(name: str) -> Reason:
    try:
        return Reason(name)
    except ValueError:
        raise DamagedState(DAMAGED) from None
