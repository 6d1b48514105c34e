"""Entries of another store, put in at the positions that they had there: see ``core.transfer``."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence

from core.errors import HeadConflict
from core.stores.dynamodb import forms
from core.stores.dynamodb.batch import still
from core.stores.dynamodb.seal import Seal
from core.stores.dynamodb.sequencer import Waiting, logged
from core.stores.dynamodb.table import Condition, ConditionFailed, Put, Table, Write, transact
from core.stores.dynamodb.writes import MOST_ACTIONS
from core.transfer import Placed

BESIDES = 2
"""Actions of a transaction that belong to none of its entries: the log and the seal."""
EACH = 3
"""Actions for each entry at most, besides one for each purpose: itself, its marker, the head."""


def restore(ledger: Table, state: Table, seal: Seal, rows: Iterable[Placed]) -> None:
    """Append entries at the next positions, in this order; what was cut off keeps a beginning of them.

    Args:
        ledger: The ledger's table.
        state: The table of heads, markers and the seal.
        seal: The seal.
        rows: The entries, with their chains' heads before and after.

    Raises:
        HeadConflict: somebody else writes to this ledger.
        StoreError: DynamoDB is out of reach, or the seal is not genuine.
    """
    for part in _fitting(rows):
        tree, unchanged = seal.growing()
        first = tree.size + 1
        for row in part:
            tree.push(row.entry.hash)
        logged_rows = [Waiting(row.entry.recipient, row.entry.seq, row.entry.hash) for row in part]
        writes: list[Write] = [logged(ledger, first, logged_rows), seal.put(tree, unchanged), *_heads(state, part)]
        for position, row in enumerate(part, first):
            writes.append(Put(ledger.name, forms.entry_item(row.entry), Condition.absent()))
            marker = {**forms.marker_item(row.entry), "position": position}
            writes.append(Put(state.name, marker, Condition.absent()))
        try:
            transact(state.client, writes, uuid.uuid4().hex)
        except ConditionFailed:
            raise HeadConflict("somebody else writes to this ledger: fill it while nothing else runs") from None


def _fitting(rows: Iterable[Placed]) -> Iterator[list[Placed]]:
    """The rows in parts that one transaction takes each."""
    part: list[Placed] = []
    actions = BESIDES
    for row in rows:
        more = EACH + len(row.after.standings)
        if part and actions + more > MOST_ACTIONS:
            yield part
            part, actions = [], BESIDES
        part.append(row)
        actions += more
    if part:
        yield part


def _heads(state: Table, part: Sequence[Placed]) -> Iterator[Write]:
    """Each chain's head as it is after the part, on condition that it is as it was before; and who stands where."""
    before = {row.entry.recipient: row.before for row in reversed(part)}
    after = {row.entry.recipient: row.after for row in part}
    for recipient, head in after.items():
        was = before[recipient]
        yield Put(state.name, forms.head_item(recipient, head), still(was))
        for row in forms.segment_changes(recipient, was.standings if was else {}, head.standings):
            yield Put(state.name, row)
