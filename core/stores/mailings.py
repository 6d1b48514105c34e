"""Campaigns, their snapshots and send journals on SQLite, in the ledger's file: see ``core.records.Mailings``."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from core.errors import AmbiguousOutcome, StoreError
from core.model import Basis, PixelMode, RecipientId
from core.records import CampaignRecord, Choice, PartState
from core.stores.database import Database, in_chunks

SCHEMA = """
CREATE TABLE IF NOT EXISTS campaign(
  id TEXT PRIMARY KEY, record BLOB NOT NULL, sent INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS edition(
  id INTEGER PRIMARY KEY AUTOINCREMENT, campaign TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS snapshot(
  edition INTEGER NOT NULL, recipient BLOB NOT NULL, mode TEXT NOT NULL, part TEXT NOT NULL, basis TEXT NOT NULL,
  reason TEXT NOT NULL, PRIMARY KEY(edition, recipient)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS snapshot_part ON snapshot(edition, part);
CREATE TABLE IF NOT EXISTS send_part(
  campaign TEXT NOT NULL, part TEXT NOT NULL, state TEXT NOT NULL, PRIMARY KEY(campaign, part)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS poll_cursor(
  campaign TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

CHUNK = 10_000
"""Rows that are written or deleted in one transaction, so that others get their turn."""

_LEFT = "SELECT part FROM send_part WHERE campaign=? AND state<>'failed'"
_RECORD = msgspec.json.Decoder(CampaignRecord)
_MODES = {mode.value: mode for mode in PixelMode}
_CHOICE = "SELECT recipient, mode, part, basis, reason FROM snapshot"
_PUT = "INSERT OR REPLACE INTO snapshot VALUES (?,?,?,?,?,?)"
DELETE_CHUNK = """
DELETE FROM snapshot WHERE edition=?1 AND recipient IN (
  SELECT recipient FROM snapshot WHERE edition=?1 ORDER BY recipient LIMIT ?2)
"""
"""Deletes at most so many rows of one snapshot."""


class SqliteMailings:
    """See ``core.records.Mailings``.

    Args:
        db: The database, made with ``SCHEMA``.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    def new_edition(self, campaign: str) -> int:
        """Begin a snapshot beside the one in force, and drop what was begun and never taken into use."""
        record = self.campaign(campaign)
        self._drop_editions(campaign, keep=record.edition if record else None)
        with self.db.transaction() as connection:
            number = connection.execute("INSERT INTO edition(campaign) VALUES (?)", (campaign,)).lastrowid
        assert number is not None
        return number

    def add_choices(self, edition: int, choices: Sequence[Choice]) -> None:
        """Add to a snapshot that is not in force yet."""
        with self.db.transaction() as connection:
            connection.executemany(_PUT, [_choice_row(edition, choice) for choice in choices])

    def choices(self, edition: int, part: str | None = None) -> Iterator[Choice]:
        """A snapshot, or one part of it, in the order of recipients; read page by page, so that nothing is held up."""
        last = b""
        where = "edition=? AND recipient>?" + (" AND part=?" if part is not None else "")
        sql = f"{_CHOICE} WHERE {where} ORDER BY recipient LIMIT {CHUNK}"
        while rows := list(self.db.rows(sql, (edition, last, *([part] if part is not None else [])))):
            yield from map(_choice, rows)
            last = rows[-1][0]

    def change_choices(self, campaign: str, edition: int, choices: Sequence[Choice]) -> None:
        """Change these recipients' pixels and parts.

        Raises:
            StoreError: the part that somebody would be taken from, or put into, has begun to leave.
        """
        with self.db.transaction() as connection:
            left = {part for (part,) in connection.execute(_LEFT, (campaign,))}
            select = "SELECT DISTINCT part FROM snapshot WHERE recipient IN ({}) AND edition=?"
            parts = {choice.part for choice in choices}
            for sql, chunk in in_chunks([choice.recipient for choice in choices], select):
                parts.update(part for (part,) in connection.execute(sql, [*chunk, edition]))
            if not left.isdisjoint(parts):
                raise StoreError(f"campaign {campaign}: a part of it left while it was being changed; try again")
            connection.executemany(_PUT, [_choice_row(edition, choice) for choice in choices])

    def next_part(self, edition: int, after: str) -> tuple[str, int] | None:
        """The name and size of the part behind ``after``, in the order of names."""
        (part,) = self.db.row("SELECT min(part) FROM snapshot WHERE edition=? AND part>?", (edition, after))
        return (part, self._size(edition, part)) if part is not None else None

    def last_part(self, edition: int, prefix: str) -> tuple[str, int] | None:
        """The name and size of the last part whose name begins with ``prefix``."""
        sql = "SELECT max(part) FROM snapshot WHERE edition=? AND part>=? AND part<?"
        (part,) = self.db.row(sql, (edition, prefix, f"{prefix}~"))
        return (part, self._size(edition, part)) if part is not None else None

    def part_state(self, campaign: str, part: str) -> PartState:
        """How far one part of a release has come."""
        row = self.db.row("SELECT state FROM send_part WHERE campaign=? AND part=?", (campaign, part))
        return PartState(row[0]) if row else PartState.WAITING

    def part_states(self, campaign: str) -> dict[str, PartState]:
        """How far the parts of a release have come; those that are absent wait."""
        rows = self.db.rows("SELECT part, state FROM send_part WHERE campaign=? ORDER BY part", (campaign,))
        return {part: PartState(state) for part, state in rows}

    def save_campaign(self, record: CampaignRecord) -> None:
        """Put an applied campaign and its snapshot in force, in place of an earlier one that was not sent.

        Raises:
            StoreError: a part of it left already.
        """
        name = record.campaign.id
        with self.db.transaction() as connection:
            if connection.execute(_LEFT, (name,)).fetchone():
                raise StoreError(f"campaign {name}: a part of it left already; what was applied can no longer change")
            connection.execute(
                "INSERT OR REPLACE INTO campaign(id, record) VALUES (?,?)", (name, msgspec.json.encode(record))
            )
        self._drop_editions(name, keep=record.edition)

    def campaign(self, campaign: str) -> CampaignRecord | None:
        """An applied campaign."""
        row = self.db.row("SELECT record, sent FROM campaign WHERE id=?", (campaign,))
        return _record(row) if row else None

    def campaigns(self) -> list[CampaignRecord]:
        """All applied campaigns, by name."""
        return [_record(row) for row in self.db.rows("SELECT record, sent FROM campaign ORDER BY id")]

    def started(self, campaign: str) -> bool:
        """Whether a part of it left, or may have: from then on what was applied must not change."""
        return self.db.row(_LEFT, (campaign,)) is not None

    def mark_sent(self, campaign: str) -> None:
        """Note that both halves left."""
        with self.db.transaction() as connection:
            connection.execute("UPDATE campaign SET sent=1 WHERE id=?", (campaign,))

    def modes(
        self, campaign: str, recipients: Collection[RecipientId], edition: int | None = None
    ) -> dict[RecipientId, PixelMode]:
        """Which pixel those recipients got, from the snapshot in force: ``edition``, where that is known."""
        if edition is None:
            record = self.campaign(campaign)
            edition = record.edition if record else None
        found: dict[RecipientId, PixelMode] = {}
        if edition is not None:
            select = "SELECT recipient, mode FROM snapshot WHERE recipient IN ({}) AND edition=?"
            for sql, chunk in in_chunks([*recipients], select):
                rows = self.db.rows(sql, [*chunk, edition])
                found.update((recipient, _MODES.get(mode, PixelMode.NONE)) for recipient, mode in rows)
        return found

    def journal(self, campaign: str) -> SqliteSendJournal:
        """The campaign's send journal."""
        return SqliteSendJournal(self.db, campaign)

    def poll_cursor(self, campaign: str) -> datetime | None:
        """Up to when a campaign's opens have been fetched."""
        row = self.db.row("SELECT at FROM poll_cursor WHERE campaign=?", (campaign,))
        return datetime.fromtimestamp(row[0], UTC) if row else None

    def save_poll_cursor(self, campaign: str, at: datetime) -> None:
        """Note up to when they have."""
        with self.db.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO poll_cursor VALUES (?,?)", (campaign, int(at.timestamp())))

    def _size(self, edition: int, part: str) -> int:
        return int(self.db.row("SELECT count(*) FROM snapshot WHERE edition=? AND part=?", (edition, part))[0])

    def _drop_editions(self, campaign: str, *, keep: int | None) -> None:
        """Delete the snapshots that are not in force, a chunk at a time."""
        numbers = self.db.rows("SELECT id FROM edition WHERE campaign=? AND id IS NOT ?", (campaign, keep))
        for (edition,) in list(numbers):
            gone = CHUNK
            while gone == CHUNK:
                with self.db.transaction() as connection:
                    gone = connection.execute(DELETE_CHUNK, (edition, CHUNK)).rowcount
            with self.db.transaction() as connection:
                connection.execute("DELETE FROM edition WHERE id=?", (edition,))


class SqliteSendJournal:
    """See ``core.ports.SendJournal``."""

    def __init__(self, db: Database, campaign: str) -> None:
        self._db = db
        self._campaign = campaign

    def begin(self, part: str) -> bool:
        """Note that ``part`` is about to be sent; False when it was sent before; raises AmbiguousOutcome."""
        with self._db.transaction() as connection:
            row = connection.execute(
                "SELECT state FROM send_part WHERE campaign=? AND part=?", (self._campaign, part)
            ).fetchone()
            if row == (PartState.DONE,):
                return False
            if row == (PartState.BEGUN,):
                raise AmbiguousOutcome(
                    f"campaign {self._campaign}",
                    f"part {part} began to be sent and nobody knows whether it left: look it up at the ESP, then say"
                    f" `pixelproof campaigns settle` --sent or --not-sent",
                )
            self._set(connection, part, PartState.BEGUN)
            return True

    def done(self, part: str) -> None:
        """Note that the ESP accepted ``part``."""
        with self._db.transaction() as connection:
            self._set(connection, part, PartState.DONE)

    def failed(self, part: str) -> None:
        """Note that the ESP refused ``part``."""
        with self._db.transaction() as connection:
            self._set(connection, part, PartState.FAILED)

    def _set(self, connection: sqlite3.Connection, part: str, state: PartState) -> None:
        connection.execute("INSERT OR REPLACE INTO send_part VALUES (?,?,?)", (self._campaign, part, state.value))


@lru_cache(maxsize=256)
def _record(row: tuple[bytes, int]) -> CampaignRecord:
    return replace(_RECORD.decode(row[0]), sent=bool(row[1]))


def _choice(row: tuple[bytes, str, str, str, str]) -> Choice:
    recipient, mode, part, basis, reason = row
    return Choice(RecipientId(recipient), PixelMode(mode), part, Basis(basis), reason)


def _choice_row(edition: int, choice: Choice) -> tuple[int, bytes, str, str, str, str]:
    return edition, choice.recipient, choice.mode.value, choice.part, choice.basis.value, choice.reason
