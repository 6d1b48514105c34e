"""What is read about one person or one campaign, on SQLite in the ledger's file: see ``core.records.Readings``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from core.errors import DamagedState
from core.model import Basis, PixelMode, PurposeId, RecipientId
from core.ports import Entry, Open
from core.records import Choice
from core.stores import chains
from core.stores.database import Database, in_chunks

SCHEMA = """
CREATE INDEX IF NOT EXISTS open_in ON open(campaign);
CREATE INDEX IF NOT EXISTS open_of ON open(campaign, recipient, machine);
"""
# No index on recipients alone: it costs ten times as much for each open as these two, whose pages are in memory.

DAMAGED = "a stored value is damaged: see `pixelproof ledger verify`"

_OPEN = "campaign, recipient, opened_at, serves, source, machine, client"
_PAGE = f"""
SELECT id, {_OPEN} FROM open INDEXED BY open_in
WHERE campaign=? AND id>? AND instr(' '||serves||' ', ?)>0 ORDER BY id LIMIT ?
"""  # noqa: S608 - our own column names
_OF_PERSON = f"""
SELECT {_OPEN} FROM open INDEXED BY open_of
WHERE campaign IN (SELECT id FROM campaign) AND recipient=? ORDER BY opened_at, id
"""  # noqa: S608 - our own column names
_OPENERS = "SELECT count(DISTINCT recipient) FROM open INDEXED BY open_of WHERE campaign=? AND machine=0"
_CHOICES = "SELECT edition, recipient, mode, part, basis, reason FROM snapshot WHERE edition IN ({}) AND recipient=?"


class SqliteReadings:
    """See ``core.records.Readings``.

    Args:
        db: The database, made with the schemas of the ledger, of mailings, and ``SCHEMA``.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    def opens_of(self, recipient: RecipientId) -> list[Open]:
        """All opens on record of one person, the oldest first."""
        return [_open(row) for row in self.db.rows(_OF_PERSON, (recipient,))]

    def opens(self, campaign: str, purpose: PurposeId, after: int, limit: int) -> list[tuple[int, Open]]:
        """A page of a campaign's opens that may serve a purpose, in the order in which they were recorded."""
        rows = self.db.rows(_PAGE, (campaign, after, f" {purpose} ", limit))
        return [(int(number), _open(row)) for number, *row in rows]

    def openers(self, campaign: str) -> int:
        """How many different recipients have an open on record that no machine made."""
        return int(self.db.row(_OPENERS, (campaign,))[0])

    def entries(self, recipient: RecipientId, after: int, limit: int) -> list[Entry]:
        """A page of a chain, the oldest first."""
        return [_entry(row) for row in self.db.rows(chains.PAGE, (recipient, after, limit))]

    def choices_of(self, recipient: RecipientId, editions: Collection[int]) -> dict[int, Choice]:
        """What those snapshots say of one person, by edition."""
        found: dict[int, Choice] = {}
        for sql, chunk in in_chunks([*editions], _CHOICES):
            found.update((edition, _choice(row)) for edition, *row in self.db.rows(sql, [*chunk, recipient]))
        return found


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(*_typed(row, bytes, int, bytes, bytes))


def _open(row: Sequence[Any]) -> Open:
    campaign, recipient, opened_at, serves, source, machine, client = _typed(row, str, bytes, int, str, str, int, str)
    try:
        at = datetime.fromtimestamp(opened_at, UTC)
    except (ValueError, OverflowError, OSError):
        raise DamagedState(DAMAGED) from None
    purposes = tuple(map(PurposeId, serves.split()))
    return Open(campaign, RecipientId(recipient), at, purposes, source, bool(machine), client)


def _choice(row: Sequence[Any]) -> Choice:
    recipient, mode, part, basis, reason = _typed(row, bytes, str, str, str, str)
    try:
        return Choice(RecipientId(recipient), PixelMode(mode), part, Basis(basis), reason)
    except ValueError:
        raise DamagedState(DAMAGED) from None


def _typed(row: Sequence[Any], *types: type) -> Sequence[Any]:
    """The row, if its values have these types: a flipped bit in the file changes a type in spite of STRICT."""
    if [*map(type, row)] != [*types]:
        raise DamagedState(DAMAGED)
    return row
