"""A batch on DynamoDB: it collects what is to be written, and writes it as one transaction when it ends.

What it read is what it writes on condition of: a head that it appends to, a head by which it judged an open, a key or
an answer that was not there. When one of these has changed meanwhile, nothing of the batch is written (HeadConflict),
and whoever runs it again sees what was committed.
"""

from __future__ import annotations

import secrets
import struct
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import timedelta
from typing import Any

from core.errors import HeadConflict
from core.incidents import Incident
from core.model import RecipientId
from core.ports import Answered, Clock, Entry, Head, Open
from core.stores.dynamodb import forms
from core.stores.dynamodb.table import (
    Check,
    Condition,
    ConditionFailed,
    Item,
    Put,
    Table,
    Update,
    Write,
    number,
    transact,
)

KEYS_LAST = timedelta(days=400)
"""For which an idempotency key is remembered, counted from when it was, or from what it is about, whichever is later.
One that is about nothing dated is remembered for good."""
ANSWERS_LAST = timedelta(days=7)
"""For which an answer may be asked for again, unless the settings say otherwise."""

_UNDATED = b"\0\0\0\0"


class Everybody(set[RecipientId]):
    """A set in which everybody is: positions do not tell here whose chains grew behind one."""

    def __contains__(self, _member: object) -> bool:
        return True

    def __and__(self, others: AbstractSet[object]) -> set[Any]:
        return set(others)

    __rand__ = __and__

    def __bool__(self) -> bool:
        return True


class DynamoBatch:
    """See ``core.ports.Batch``.

    Args:
        ledger: The ledger's table.
        state: The table of heads and of all that goes with them.
        now: The clock.
        answers_last: For which an answer may be asked for again.
        keys_last: For which an idempotency key is remembered.
    """

    def __init__(
        self,
        ledger: Table,
        state: Table,
        now: Clock,
        *,
        answers_last: timedelta = ANSWERS_LAST,
        keys_last: timedelta = KEYS_LAST,
    ) -> None:
        self._ledger = ledger
        self._state = state
        self._at = now()
        self._answers_last = answers_last
        self._keys_last = keys_last
        self._checked: dict[bytes, bool] = {}
        self._keys: set[bytes] = set()
        self._stored: dict[RecipientId, Head | None] = {}
        self._grown: dict[RecipientId, Head] = {}
        self._entries: dict[RecipientId, list[Entry]] = {}
        self._opens: list[Open] = []
        self._counted: dict[str, dict[str, int]] = {}
        self._added: Counter[tuple[str, str]] = Counter()
        self._incidents: dict[tuple[str, str], Incident] = {}
        self._before: dict[tuple[str, str], int | None] = {}
        self._answers: dict[bytes, Answered] = {}

    def seen(self, keys: Collection[bytes]) -> set[bytes]:
        """See ``core.ports.Batch``; a key that has expired was never seen, whether or not it is still there."""
        wanted = {forms.seen_key(key): key for key in keys if key not in self._checked}
        found = self._state.get_many(wanted)
        for place, key in wanted.items():
            self._checked[key] = place in found and self._stands(found[place])
        return {key for key in keys if self._checked[key] or key in self._keys}

    def remember(self, keys: Collection[bytes]) -> None:
        """See ``core.ports.Batch``."""
        self._keys.update({*keys} - self.seen(keys))

    def heads(self, recipients: Collection[RecipientId]) -> dict[RecipientId, Head]:
        """See ``core.ports.Batch``."""
        wanted = {forms.head_key(each): each for each in recipients if each not in self._stored}
        found = self._state.get_many(wanted)
        for place, recipient in wanted.items():
            self._stored[recipient] = forms.head_of(found[place])[1] if place in found else None
        heads = {each: self._grown.get(each) or self._stored[each] for each in recipients}
        return {recipient: head for recipient, head in heads.items() if head}

    def touched(self, after: int) -> set[RecipientId]:  # noqa: ARG002 - see there
        """See ``core.ports.Batch``: everybody, so that whoever asks judges once more by ``heads``."""
        return Everybody()

    def append(self, recipient: RecipientId, entries: Sequence[Entry], *, expected: Head | None, head: Head) -> None:
        """See ``core.ports.Batch``."""
        stored = self._stored.setdefault(recipient, expected)
        if _end(self._grown.get(recipient) or stored) != _end(expected):
            raise HeadConflict("another entry came first")
        self._entries.setdefault(recipient, []).extend(entries)
        self._grown[recipient] = head

    def record_opens(self, opens: Sequence[Open]) -> None:
        """See ``core.ports.Batch``.

        Each is written on condition that its recipient's chain is as this batch read it, so that a withdrawal that is
        committed before the batch ends is seen.
        """
        self.heads({each.recipient for each in opens})
        self._opens.extend(opens)

    def count(self, scope: str, name: str, by: int = 1) -> int:
        """See ``core.ports.Batch``; what others add at the same time is not in it yet."""
        if scope not in self._counted:
            self._counted[scope] = counted(self._state, scope)
        self._added[scope, name] += by
        return self._counted[scope].get(name, 0) + self._added[scope, name]

    def last_incident(self, scope: str, kind: str) -> Incident | None:
        """See ``core.ports.Batch``."""
        if (scope, kind) in self._incidents:
            return self._incidents[scope, kind]
        pointer = self._state.get(*forms.last_incident_key(scope, kind))
        self._before[scope, kind] = number(pointer, "number") if pointer else None
        if pointer is None:
            return None
        found = self._state.get(forms.INCIDENTS, forms.incident_sort(number(pointer, "number")))
        return forms.incident_of(found) if found else None

    def open_incident(self, incident: Incident) -> None:
        """See ``core.ports.Batch``. Of two batches that open one at the same time, one fails with HeadConflict."""
        place = incident.scope, incident.kind.value
        if place not in self._before:
            self.last_incident(*place)
        newest = self._state.query(forms.INCIDENTS, limit=1, newest_first=True)
        numbers = [forms.incident_of(item).id for item in newest] + [each.id for each in self._incidents.values()]
        self._incidents[place] = replace(incident, id=max(numbers, default=0) + 1)

    def chain(self, recipient: RecipientId) -> list[Entry]:
        """See ``core.ports.Batch``."""
        stored = [forms.entry_of(item) for item in self._ledger.query(forms.chain_key(recipient))]
        return stored + self._entries.get(recipient, [])

    def answered(self, name: bytes) -> Answered | None:
        """See ``core.ports.Batch``; an answer that has expired was never given."""
        if name in self._answers:
            return self._answers[name]
        found = self._state.get(*forms.answered_key(name))
        return forms.answered_of(found) if found and self._stands(found) else None

    def keep_answer(self, answered: Answered) -> None:
        """See ``core.ports.Batch``."""
        self._answers[answered.name] = answered

    def write(self) -> None:
        """Write all of it in one transaction.

        Raises:
            BatchTooLarge: it is more than one transaction takes; nothing was written.
            HeadConflict: what the batch read has changed; nothing was written.
            StoreError: DynamoDB is out of reach. All of it may have been written, or nothing.
        """
        parts = (self._chains(), self._key_items(), self._open_items(), self._counters())
        writes = [write for part in parts for write in part]
        writes += [*self._incident_items(), *self._answer_items()]
        try:
            transact(self._state.client, writes, uuid.uuid4().hex)
        except ConditionFailed:
            raise HeadConflict("another entry came first") from None

    def _chains(self) -> Iterator[Write]:
        state = self._state.name
        for recipient, entries in sorted(self._entries.items()):
            before, after = self._stored[recipient], self._grown[recipient]
            yield Put(state, forms.head_item(recipient, after), still(before))
            for entry in entries:
                yield Put(self._ledger.name, forms.entry_item(entry), Condition.absent())
                marker = {**forms.marker_item(entry), **forms.waiting(recipient, self._at)}
                yield Put(state, marker, Condition.absent())
            for row in forms.segment_changes(recipient, before.standings if before else {}, after.standings):
                yield Put(state, row)

    def _key_items(self) -> Iterator[Write]:
        for key in sorted(self._keys):
            pk, sk = forms.seen_key(key)
            item: Item = {"pk": pk, "sk": sk}
            if not key.startswith(_UNDATED):
                (about,) = struct.unpack(">I", key[:4])
                item["expires"] = max(about, int(self._at.timestamp())) + int(self._keys_last.total_seconds())
            yield Put(self._state.name, item, self._gone())

    def _open_items(self) -> Iterator[Write]:
        for recipient in sorted({each.recipient for each in self._opens} - self._entries.keys()):
            yield Check(self._state.name, *forms.head_key(recipient), still(self._stored[recipient]))
        numbers: set[int] = set()
        while len(numbers) < len(self._opens):
            numbers.add(forms.open_number(self._at))
        for each, nth in zip(self._opens, sorted(numbers), strict=True):
            yield Put(self._state.name, forms.open_item(each, nth), Condition.absent())

    def _counters(self) -> Iterator[Write]:
        shard = secrets.randbelow(forms.SHARDS)
        for (scope, name), n in sorted(self._added.items()):
            yield Update(self._state.name, forms.counter_key(scope), forms.counter_sort(name, shard), add={"n": n})

    def _incident_items(self) -> Iterator[Write]:
        for (scope, kind), incident in sorted(self._incidents.items()):
            before = self._before[scope, kind]
            unchanged = Condition.absent() if before is None else Condition.equals("number", before)
            pk, sk = forms.last_incident_key(scope, kind)
            yield Put(self._state.name, {"pk": pk, "sk": sk, "number": incident.id}, unchanged)
            yield Put(self._state.name, forms.incident_item(incident), Condition.absent())

    def _answer_items(self) -> Iterable[Write]:
        for answered in self._answers.values():
            expires = int((answered.at + self._answers_last).timestamp())
            yield Put(self._state.name, forms.answered_item(answered, expires), self._gone())

    def _stands(self, item: Item) -> bool:
        """Whether an item has not expired: DynamoDB may leave those for days that have."""
        return "expires" not in item or number(item, "expires") > int(self._at.timestamp())

    def _gone(self) -> Condition:
        """There is no such item, or none that stands."""
        return Condition.any_of(Condition.absent(), Condition.at_most("expires", int(self._at.timestamp())))


def counted(state: Table, scope: str) -> dict[str, int]:
    """The counters of one scope, by name."""
    totals: Counter[str] = Counter()
    for item in state.query(forms.counter_key(scope)):
        totals[forms.counter_name(item)] += number(item, "n")
    return dict(totals)


def _end(head: Head | None) -> tuple[int, bytes]:
    return (head.seq, head.hash) if head else (0, b"")


def still(head: Head | None) -> Condition:
    """A chain's head is as it was read."""
    if head is None:
        return Condition.absent()
    return Condition.all_of(Condition.equals("seq", head.seq), Condition.equals("hash", head.hash))
