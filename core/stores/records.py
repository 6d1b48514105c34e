"""The working records on SQLite, in the ledger's file: see ``core.ports.Records``."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import msgspec

from core.errors import AmbiguousOutcome, StoreError
from core.model import PixelMode, PurposeId, RecipientId
from core.ports import CampaignRecord, Confirmed
from core.stores.database import Database, in_chunks

SCHEMA = """
CREATE TABLE IF NOT EXISTS notice(sha256 TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS confirmed(
  provider TEXT NOT NULL, recipient BLOB NOT NULL, purposes TEXT NOT NULL, carried BLOB NOT NULL,
  PRIMARY KEY(provider, recipient)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS campaign(
  id TEXT PRIMARY KEY, record BLOB NOT NULL, sent INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshot(
  campaign TEXT NOT NULL, recipient BLOB NOT NULL, mode TEXT NOT NULL,
  PRIMARY KEY(campaign, recipient)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS send_part(
  campaign TEXT NOT NULL, part TEXT NOT NULL, state TEXT NOT NULL, PRIMARY KEY(campaign, part)) STRICT, WITHOUT ROWID;
"""

_STARTED = "SELECT 1 FROM send_part WHERE campaign=? AND state<>'failed'"
_RECORD = msgspec.json.Decoder(CampaignRecord)


class SqliteRecords:
    """See ``core.ports.Records``.

    Args:
        db: The database, made with ``SCHEMA``.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    def put_notice(self, sha256: str, text: str) -> None:
        """Keep the exact text that people were shown, by its hash."""
        if self.notice(sha256) is None:
            with self.db.transaction() as connection:
                connection.execute("INSERT OR IGNORE INTO notice VALUES (?,?)", (sha256, text))

    def notice(self, sha256: str) -> str | None:
        """The text with that hash."""
        row = self.db.row("SELECT text FROM notice WHERE sha256=?", (sha256,))
        return row[0] if row else None

    def confirmed(self, provider: str, recipients: Collection[RecipientId]) -> dict[RecipientId, Confirmed]:
        """What was last confirmed at an ESP."""
        found: dict[RecipientId, Confirmed] = {}
        select = "SELECT recipient, purposes, carried FROM confirmed WHERE recipient IN ({}) AND provider=?"
        for sql, chunk in in_chunks([*recipients], select):
            for recipient, purposes, carried in self.db.rows(sql, [*chunk, provider]):
                found[recipient] = Confirmed(frozenset(map(PurposeId, purposes.split())), carried)
        return found

    def confirm(self, provider: str, rows: Mapping[RecipientId, Confirmed]) -> None:
        """Note what an ESP confirmed."""
        values = [(provider, r, " ".join(sorted(row.purposes)), row.carried) for r, row in rows.items()]
        with self.db.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO confirmed VALUES (?,?,?,?)", values)

    def save_campaign(self, record: CampaignRecord, modes: Iterable[tuple[RecipientId, PixelMode]]) -> None:
        """Keep an applied campaign with its snapshot, in place of an earlier one that was not sent.

        Raises:
            StoreError: a part of it left already.
        """
        name = record.campaign.id
        with self.db.transaction() as connection:
            if connection.execute(_STARTED, (name,)).fetchone():
                raise StoreError(f"campaign {name}: a part of it left already; what was applied can no longer change")
            connection.execute("DELETE FROM snapshot WHERE campaign=?", (name,))
            connection.executemany(
                "INSERT INTO snapshot VALUES (?,?,?)", ((name, recipient, mode.value) for recipient, mode in modes)
            )
            connection.execute(
                "INSERT OR REPLACE INTO campaign(id, record) VALUES (?,?)", (name, msgspec.json.encode(record))
            )

    def campaign(self, campaign: str) -> CampaignRecord | None:
        """An applied campaign."""
        row = self.db.row("SELECT record, sent FROM campaign WHERE id=?", (campaign,))
        if row is None:
            return None
        return replace(_RECORD.decode(row[0]), sent=bool(row[1]))

    def started(self, campaign: str) -> bool:
        """Whether a part of it left, or may have: from then on what was applied must not change."""
        return self.db.row(_STARTED, (campaign,)) is not None

    def mark_sent(self, campaign: str) -> None:
        """Note that both halves left."""
        with self.db.transaction() as connection:
            connection.execute("UPDATE campaign SET sent=1 WHERE id=?", (campaign,))

    def modes(self, campaign: str, recipients: Collection[RecipientId]) -> dict[RecipientId, PixelMode]:
        """Which pixel those recipients got, from the snapshot."""
        found: dict[RecipientId, PixelMode] = {}
        select = "SELECT recipient, mode FROM snapshot WHERE recipient IN ({}) AND campaign=?"
        for sql, chunk in in_chunks([*recipients], select):
            found.update((r, PixelMode(mode)) for r, mode in self.db.rows(sql, [*chunk, campaign]))
        return found

    def journal(self, campaign: str) -> SqliteSendJournal:
        """The campaign's send journal."""
        return SqliteSendJournal(self.db, campaign)


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
            if row == ("done",):
                return False
            if row == ("begun",):
                raise AmbiguousOutcome(
                    f"campaign {self._campaign}",
                    f"part {part} began to be sent and nobody knows whether it left: look it up at the ESP",
                )
            self._set(connection, part, "begun")
            return True

    def done(self, part: str) -> None:
        """Note that the ESP accepted ``part``."""
        with self._db.transaction() as connection:
            self._set(connection, part, "done")

    def failed(self, part: str) -> None:
        """Note that the ESP refused ``part``."""
        with self._db.transaction() as connection:
            self._set(connection, part, "failed")

    def _set(self, connection: sqlite3.Connection, part: str, state: str) -> None:
        connection.execute("INSERT OR REPLACE INTO send_part VALUES (?,?,?)", (self._campaign, part, state))
