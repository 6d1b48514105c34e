"""The working records on DynamoDB: see ``core.records.Records``. All in the state table but the texts of notices.

    held       pk ``held#<provider>#<nibble>``, sk recipient: ``purposes``, ``carried``, ``mark``, ``refused``, and
               ``stamp``, another random number after each change; ``segment`` only while it is in doubt
    taken out  pk ``out#<nibble>``, sk ``<recipient>#<milliseconds>#<provider>``: ``purposes``, ``seen_at``
    sync       pk ``sync``, sk provider
    notice     pk ``notices``, sk SHA-256: that there is such a text in the ledger table

What somebody else may change meanwhile is written on condition that its stamp is still the one that was read.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import NamedTuple, TypeVar

from core.batches import batched
from core.errors import StoreError
from core.model import EPOCH, TO_ASK, PurposeId, RecipientId
from core.ports import Clock
from core.records import Confirmed, SyncState, TakenOut
from core.stores.dynamodb.forms import NIBBLES, SEGMENT, nibble, notice_key, recipient_in
from core.stores.dynamodb.persisting import new_token, persist
from core.stores.dynamodb.table import (
    LEDGER,
    STATE,
    Client,
    Condition,
    Delete,
    Item,
    Key,
    Put,
    Table,
    Value,
    Write,
    number,
    raw,
    table_name,
    text,
    transact,
)
from core.stores.dynamodb.times import micros, time_in

T = TypeVar("T")

TOGETHER = 48
"""Rows of one transaction: each may say besides that somebody was taken out."""
AT_ONCE = 8
"""Transactions that are under way at the same time."""
MARK_BITS = 62
MILLISECONDS = 1_000


class _Held(NamedTuple):
    """What is on record about somebody at an ESP, and the stamp of it; None: nothing is."""

    row: Confirmed
    stamp: int | None


_NOTHING = _Held(Confirmed(), None)


class DynamoRecords:
    """See ``core.records.Records``.

    Args:
        client: DynamoDB.
        prefix: That of the tables' names.
        now: The clock, for when an ESP was seen to hold somebody no longer.
        sleep: How to wait, in seconds.
    """

    def __init__(self, client: Client, prefix: str, now: Clock, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.table = Table(client, table_name(prefix, STATE), sleep=sleep)
        self._ledger = Table(client, table_name(prefix, LEDGER), sleep=sleep)
        self._now = now
        self._sleep = sleep

    def put_notice(self, sha256: str, text: str) -> None:
        """Keep the exact text that people were shown, by its hash."""
        pk, sk = notice_key(sha256)
        if self.table.get("notices", sha256) is None:
            self._ledger.put({"pk": pk, "sk": sk, "text": text}, new=True)
            self.table.put({"pk": "notices", "sk": sha256})

    def notice(self, sha256: str) -> str | None:
        """The text with that hash."""
        item = self._ledger.get(*notice_key(sha256))
        return text(item, "text") if item else None

    def confirmed(self, provider: str, recipients: Collection[RecipientId]) -> dict[RecipientId, Confirmed]:
        """What was last confirmed at an ESP."""
        return {recipient: held.row for recipient, held in self._held(provider, recipients).items()}

    def doubt(self, provider: str, rows: Mapping[RecipientId, frozenset[PurposeId]]) -> int:
        """Note all that the ESP may hold, besides what it may hold already; answers the mark of this doubt.

        In parts: what was cut off leaves some of them in doubt, so that they are looked at again.

        Raises:
            StoreError: DynamoDB is out of reach or refused, or others kept changing the same rows.
        """
        mark = _new_mark()
        self._in_parts(rows, lambda part: self._doubt(provider, {r: rows[r] for r in part}, mark))
        return mark

    def _doubt(self, provider: str, rows: Mapping[RecipientId, frozenset[PurposeId]], mark: int) -> None:
        before = self._held(provider, rows)
        writes = []
        for recipient, purposes in rows.items():
            held = before.get(recipient, _NOTHING)
            row = Confirmed(purposes | held.row.purposes, b"", mark)
            writes.append(self._write(provider, recipient, row, held))
        transact(self.table.client, writes, new_token(), sleep=self._sleep)

    def settle(self, provider: str, rows: Mapping[RecipientId, Confirmed], mark: int) -> set[RecipientId]:
        """Settle what is still in doubt by that mark; whatever else was doubted or settled since stays in doubt.

        Raises:
            StoreError: DynamoDB is out of reach or refused, or others kept changing the same rows.
        """
        parts = self._in_parts(rows, lambda part: self._settle(provider, {r: rows[r] for r in part}, mark))
        return set(chain.from_iterable(parts))

    def _settle(self, provider: str, rows: Mapping[RecipientId, Confirmed], mark: int) -> set[RecipientId]:
        before = self._held(provider, rows)
        writes: list[Write] = []
        crossed = set()
        for recipient, row in rows.items():
            held = before.get(recipient, _NOTHING)
            if held.row.mark == mark:
                gone = held.row.purposes - row.purposes if not row.refused else frozenset[PurposeId]()
                writes += [self._write(provider, recipient, row, held), *self._taken_out(provider, recipient, gone)]
            else:
                # A new mark, so that the other call cannot settle it either: which came last is not known.
                doubted = Confirmed(held.row.purposes | row.purposes, b"", _new_mark())
                writes.append(self._write(provider, recipient, doubted, held))
                crossed.add(recipient)
        transact(self.table.client, writes, new_token(), sleep=self._sleep)
        return crossed

    def pending(self, provider: str) -> Iterator[tuple[RecipientId, Confirmed]]:
        """What is in doubt, in the order of recipients. By an index: what was doubted just now may be missing."""
        for shard in NIBBLES:
            found = self.table.query(_doubts(provider, shard), index=SEGMENT, only=("recipient",))
            for page in batched((recipient_in(item, "recipient") for item in found), TOGETHER):
                rows = self.confirmed(provider, page)
                yield from (
                    (recipient, rows[recipient]) for recipient in page if recipient in rows and rows[recipient].mark
                )

    def held(
        self, provider: str, after: RecipientId | None = None, limit: int = 10_000
    ) -> list[tuple[RecipientId, Confirmed]]:
        """A page of all that an ESP holds, in the order of recipients, beginning behind ``after``."""
        begun = after.hex() if after else ""
        page: list[tuple[RecipientId, Confirmed]] = []
        for shard in NIBBLES[NIBBLES.index(begun[0]) if begun else 0 :]:
            left = limit - len(page)
            if left <= 0:
                break
            items = self.table.query(_place(provider, shard), after=begun, limit=left)
            page += ((recipient_in(item, "sk"), _row(item).row) for item in items)
        return page

    def forget_held(self, provider: str, recipients: Collection[RecipientId]) -> None:
        """Forget what an ESP held about people whom it has erased."""
        self._in_parts(recipients, lambda part: self._forget(provider, part))

    def _forget(self, provider: str, recipients: Sequence[RecipientId]) -> None:
        writes: list[Write] = []
        for recipient, held in self._held(provider, recipients).items():
            writes.append(Delete(self.table.name, *_key(provider, recipient), _unchanged(held)))
            writes += self._taken_out(provider, recipient, held.row.purposes)
        transact(self.table.client, writes, new_token(), sleep=self._sleep)

    def taken_out(self, recipient: RecipientId) -> list[TakenOut]:
        """When ESPs were seen to hold somebody no longer in segments in which they may have been, the oldest first."""
        found = self.table.query(f"out#{nibble(recipient)}", prefix=f"{recipient.hex()}#")
        return [taken_out_of(item)[1] for item in found]

    def sync_state(self, provider: str) -> SyncState | None:
        """How far the last sync came; None before the first one."""
        item = self.table.get("sync", provider)
        if item is None:
            return None
        at = time_in(item, "complete_at")
        return SyncState(number(item, "position"), number(item, "arrivals"), raw(item, "settings"), at)

    def save_sync_state(self, provider: str, state: SyncState) -> None:
        """Note how far a sync came."""
        said: Item = {"position": state.position, "arrivals": state.arrivals, "settings": state.settings}
        at = micros(state.complete_at.replace(microsecond=0))
        self.table.put({"pk": "sync", "sk": provider, **said, "complete_at": at})

    def _held(self, provider: str, recipients: Collection[RecipientId]) -> dict[RecipientId, _Held]:
        items = self.table.get_many(_key(provider, recipient) for recipient in recipients)
        return {recipient_in(item, "sk"): _row(item) for item in items.values()}

    def _write(self, provider: str, recipient: RecipientId, row: Confirmed, before: _Held) -> Put:
        pk, sk = _key(provider, recipient)
        item: Item = {
            "pk": pk,
            "sk": sk,
            "purposes": " ".join(sorted(row.purposes)),
            "carried": row.carried,
            "mark": row.mark,
            "refused": row.refused,
            "stamp": _new_mark(),
        }
        if row.mark:
            item |= {"segment": _doubts(provider, nibble(recipient)), "recipient": recipient.hex()}
        return Put(self.table.name, item, _unchanged(before))

    def _taken_out(self, provider: str, recipient: RecipientId, gone: frozenset[PurposeId]) -> list[Write]:
        purposes = " ".join(sorted(gone - {TO_ASK}))
        if not purposes:
            return []
        at = int(self._now().timestamp() * MILLISECONDS)
        sort = f"{recipient.hex()}#{at:015}#{provider}"
        return [
            Put(self.table.name, {"pk": f"out#{nibble(recipient)}", "sk": sort, "purposes": purposes, "seen_at": at})
        ]

    def _in_parts(self, recipients: Collection[RecipientId], work: Callable[[list[RecipientId]], T]) -> list[T]:
        """Do something for all of them, so many at a time, each part until nobody else is quicker."""
        parts = list(batched(sorted(recipients), TOGETHER))
        if len(parts) == 1:  # no threads for a push of one withdrawal
            return [persist(partial(work, parts[0]), self._sleep)]
        with ThreadPoolExecutor(AT_ONCE, "records") as pool:
            return list(pool.map(lambda part: persist(partial(work, part), self._sleep), parts))


def taken_out_of(item: Mapping[str, Value]) -> tuple[RecipientId, TakenOut]:
    """When an ESP was seen to hold somebody no longer, as it is stored; raises StoreError when it is damaged."""
    try:
        who, _, provider = str(item["sk"]).split("#", 2)
        at = EPOCH + int(str(item["seen_at"])) * (EPOCH.resolution * MILLISECONDS)
        return RecipientId(bytes.fromhex(who)), TakenOut(
            provider, at, tuple(map(PurposeId, str(item["purposes"]).split()))
        )
    except (ValueError, KeyError, OverflowError):
        raise StoreError("a stored value is damaged: see `pixelproof ledger verify`") from None


def _new_mark() -> int:
    return secrets.randbits(MARK_BITS) | 1


def _place(provider: str, shard: str) -> str:
    return f"held#{provider}#{shard}"


def _key(provider: str, recipient: RecipientId) -> Key:
    return _place(provider, nibble(recipient)), recipient.hex()


def _doubts(provider: str, shard: str) -> str:
    """The hash key, in the index, of what is in doubt."""
    return f"doubt#{provider}#{shard}"


def _unchanged(before: _Held) -> Condition:
    return Condition.absent() if before.stamp is None else Condition.equals("stamp", before.stamp)


def _row(item: Mapping[str, Value]) -> _Held:
    purposes = frozenset(map(PurposeId, text(item, "purposes").split()))
    row = Confirmed(purposes, raw(item, "carried"), number(item, "mark"), item.get("refused") is True)
    return _Held(row, number(item, "stamp"))
