"""Gives entries their positions, which they do not have when they are appended: then appending would wait in one line.

What waits is found by an index that may lag behind and may still show what was placed since. So what it shows is read
once more from the table itself, and a chain is always placed in order and without a gap. A chunk of the log, the seal
and the markers are written by one transaction: whatever is cut off leaves nothing half done, and of two sequencers at
once one finds the seal changed and looks again.
"""

from __future__ import annotations

import heapq
import struct
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from core.batches import batched
from core.errors import DamagedState, HeadConflict
from core.model import RecipientId
from core.stores.dynamodb import forms
from core.stores.dynamodb.seal import Seal
from core.stores.dynamodb.table import (
    Condition,
    ConditionFailed,
    Item,
    Put,
    Table,
    Update,
    Write,
    number,
    raw,
    text,
    transact,
)
from core.stores.dynamodb.writes import MOST_ACTIONS

ROW = struct.Struct(">16sI32s")
"""One row of a log chunk: recipient, number in the chain, hash."""
TOGETHER = MOST_ACTIONS - 2
"""Entries placed by one transaction, beside the chunk and the seal."""
LOOKED_AT = 490
"""Waiting entries that are read from the table together."""
MOST = 100_000
"""Placed by one run, unless told."""
MOST_TRIES = 20
"""Of one chunk, while other sequencers are first."""


class Waiting(NamedTuple):
    """An entry without a position."""

    recipient: RecipientId
    seq: int
    hash: bytes


class Sequencer:
    """See the module.

    Args:
        ledger: The ledger's table.
        state: The table of markers and of the seal.
        seal: The seal.
    """

    def __init__(self, ledger: Table, state: Table, seal: Seal) -> None:
        self._ledger = ledger
        self._state = state
        self._seal = seal

    def run(self, most: int = MOST) -> int:
        """Place what waits, about in the order of time, at most so many; answers how many were placed.

        Raises:
            StoreError: DynamoDB is out of reach, the seal is not genuine, or others kept being first.
        """
        shards = (self._shown(shard) for shard in forms.NIBBLES)
        shown = ((recipient, seq) for _, recipient, seq in heapq.merge(*shards))
        return sum(self._place_shown(some) for some in batched(islice(shown, most), LOOKED_AT))

    def place(self, recipient: RecipientId) -> int:
        """Place what waits of one chain, whatever the index shows; answers how many were placed."""
        return self._again(lambda: self._behind(recipient))

    def _shown(self, shard: str) -> Iterator[tuple[str, RecipientId, int]]:
        """What the index shows of a shard, the oldest first: time, recipient, number in the chain."""
        for item in self._state.query(f"pending#{shard}", index=forms.PENDING):
            yield text(item, "at"), *_marked(item)

    def _place_shown(self, shown: Sequence[tuple[RecipientId, int]]) -> int:
        return self._again(lambda: self._waiting(shown))

    def _again(self, waiting: Callable[[], list[Waiting]]) -> int:
        """Place what waits; what somebody else changed meanwhile is looked at once more."""
        placed = 0
        for _ in range(MOST_TRIES):
            for some in batched(waiting(), TOGETHER):
                if not self._write(some):
                    break
                placed += len(some)
            else:
                return placed
        raise HeadConflict("others kept giving positions to the ledger's entries; try again")

    def _waiting(self, shown: Collection[tuple[RecipientId, int]]) -> list[Waiting]:
        """Those of the shown that wait indeed, each chain in order and with whatever must come before."""
        before = [(recipient, seq - 1) for recipient, seq in shown if seq > 1]
        keys = [(forms.person_key(recipient), forms.marker_sort(seq)) for recipient, seq in (*shown, *before)]
        markers = self._state.get_many(keys)
        chains: dict[RecipientId, list[int]] = {}
        for recipient, seq in shown:
            chains.setdefault(recipient, []).append(seq)
        waiting = {whose: deque(self._in_order(whose, sorted(numbers), markers)) for whose, numbers in chains.items()}
        found = []
        for recipient, seq in shown:  # in the order of time, as far as the chains allow
            chain = waiting[recipient]
            while chain and chain[0].seq <= seq:
                found.append(chain.popleft())
        return found + [each for chain in waiting.values() for each in chain]

    def _in_order(
        self, recipient: RecipientId, numbers: Sequence[int], markers: Mapping[tuple[str, str], Item]
    ) -> list[Waiting]:
        pk = forms.person_key(recipient)
        waiting: list[Waiting] = []
        for seq in numbers:
            marker = markers.get((pk, forms.marker_sort(seq)))
            if marker is None or "position" in marker:
                continue
            earlier = markers.get((pk, forms.marker_sort(seq - 1)), {})
            if seq > 1 and "position" not in earlier and not (waiting and waiting[-1].seq == seq - 1):
                return self._behind(recipient)  # the index does not show all of it yet
            waiting.append(Waiting(recipient, seq, raw(marker, "hash")))
        return waiting

    def _behind(self, recipient: RecipientId) -> list[Waiting]:
        """All that waits of one chain, the oldest first."""
        waiting = []
        for item in self._state.query(forms.person_key(recipient), prefix="entry#", newest_first=True):
            if "position" in item:
                break
            waiting.append(Waiting(*_marked(item), raw(item, "hash")))
        return waiting[::-1]

    def _write(self, some: Sequence[Waiting]) -> bool:
        """Give these the next positions; False when somebody else was first, and nothing was done."""
        tree, unchanged = self._seal.growing()
        first = tree.size + 1
        for each in some:
            tree.push(each.hash)
        writes: list[Write] = [logged(self._ledger, first, some), self._seal.put(tree, unchanged)]
        writes += [self._placed(each, first + n) for n, each in enumerate(some)]
        try:
            transact(self._state.client, writes, uuid.uuid4().hex)
        except ConditionFailed:
            return False
        return True

    def _placed(self, each: Waiting, position: int) -> Update:
        return Update(
            self._state.name,
            forms.person_key(each.recipient),
            forms.marker_sort(each.seq),
            set={"position": position},
            remove=("pending", "at"),
            condition=Condition.exists("pending"),
        )


def _marked(item: Item) -> tuple[RecipientId, int]:
    """Whose marker it is, and of which entry; raises DamagedState."""
    return forms.recipient_in(item, "pk", "person#"), forms.number_in(item, "sk", "entry#")


def logged(ledger: Table, first: int, rows: Sequence[Waiting]) -> Put:
    """The write of a log chunk whose first row has that position."""
    pk, sk = forms.log_key(first)
    row = b"".join(ROW.pack(*each) for each in rows)
    return Put(ledger.name, {"pk": pk, "sk": sk, "n": len(rows), "rows": row}, Condition.absent())


def rows_of(chunk: Item) -> Iterator[tuple[int, Waiting]]:
    """The positions of a log chunk and what stands there; raises DamagedState."""
    rows, first = raw(chunk, "rows"), forms.number_in(chunk, "sk")
    if len(rows) != ROW.size * number(chunk, "n"):
        raise DamagedState("a part of the log is damaged: see `pixelproof ledger verify`")
    for n, (recipient, seq, digest) in enumerate(ROW.iter_unpack(rows)):
        yield first + n, Waiting(RecipientId(recipient), seq, digest)
