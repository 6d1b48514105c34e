"""The working records on SQLite, in the ledger's file: see ``core.records.Records``."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from core.model import TO_ASK, PurposeId, RecipientId
from core.ports import Clock
from core.records import Confirmed, SyncState, TakenOut
from core.stores.database import Database, in_chunks

SCHEMA = """
CREATE TABLE IF NOT EXISTS notice(sha256 TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS confirmed(
  provider TEXT NOT NULL, recipient BLOB NOT NULL, purposes TEXT NOT NULL, carried BLOB NOT NULL,
  mark INTEGER NOT NULL, refused INTEGER NOT NULL, PRIMARY KEY(provider, recipient)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS taken_out(
  recipient BLOB NOT NULL, provider TEXT NOT NULL, at INTEGER NOT NULL, purposes TEXT NOT NULL,
  PRIMARY KEY(recipient, provider, at)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS in_doubt ON confirmed(provider, recipient) WHERE mark<>0;
CREATE TABLE IF NOT EXISTS sync_state(
  provider TEXT PRIMARY KEY, position INTEGER NOT NULL, arrivals INTEGER NOT NULL, settings BLOB NOT NULL,
  complete_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

MARK_BITS = 62
MILLISECONDS = 1_000
_COLUMNS = "recipient, purposes, carried, mark, refused"
_PENDING = f"SELECT {_COLUMNS} FROM confirmed INDEXED BY in_doubt WHERE provider=? AND mark<>0 ORDER BY recipient"  # noqa: S608
_PUT = "INSERT OR REPLACE INTO confirmed VALUES (?,?,?,?,?,?)"


class SqliteRecords:
    """See ``core.records.Records``.

    Args:
        db: The database, made with ``SCHEMA``.
        now: The clock, for when an ESP was seen to hold somebody no longer.
    """

    def __init__(self, db: Database, now: Clock) -> None:
        self.db = db
        self._now = now

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
        return _confirmed(self.db.reader, provider, recipients)

    def doubt(self, provider: str, rows: Mapping[RecipientId, frozenset[PurposeId]]) -> int:
        """Note all that the ESP may hold, besides what it may hold already; answers the mark of this doubt."""
        mark = _new_mark()
        with self.db.transaction() as connection:
            before = _confirmed(connection, provider, rows)
            _put(
                connection,
                provider,
                {r: Confirmed(p | before[r].purposes if r in before else p, b"", mark) for r, p in rows.items()},
            )
        return mark

    def settle(self, provider: str, rows: Mapping[RecipientId, Confirmed], mark: int) -> set[RecipientId]:
        """Settle what is still in doubt by that mark; whatever else was doubted or settled since stays in doubt."""
        written, crossed = {}, set()
        with self.db.transaction() as connection:
            before = _confirmed(connection, provider, rows)
            gone: dict[RecipientId, frozenset[PurposeId]] = {}
            for recipient, row in rows.items():
                known = before.get(recipient, Confirmed())
                if known.mark == mark:
                    written[recipient] = row
                    gone[recipient] = known.purposes - row.purposes if not row.refused else frozenset()
                else:
                    # A new mark, so that the other call cannot settle it either: which came last is not known.
                    written[recipient] = Confirmed(known.purposes | row.purposes, b"", _new_mark())
                    crossed.add(recipient)
            _put(connection, provider, written)
            self._note_taken_out(connection, provider, gone)
        return crossed

    def pending(self, provider: str) -> Iterator[tuple[RecipientId, Confirmed]]:
        """What is in doubt, in the order of recipients."""
        # SQLite would read the whole table in the order of its key, for want of statistics.
        return (_row(row) for row in self.db.rows(_PENDING, (provider,)))

    def held(
        self, provider: str, after: RecipientId | None = None, limit: int = 10_000
    ) -> list[tuple[RecipientId, Confirmed]]:
        """A page of all that an ESP holds, in the order of recipients, beginning behind ``after``."""
        sql = f"SELECT {_COLUMNS} FROM confirmed WHERE provider=? AND recipient>? ORDER BY recipient LIMIT ?"  # noqa: S608
        return [_row(row) for row in self.db.rows(sql, (provider, after or b"", limit))]

    def forget_held(self, provider: str, recipients: Collection[RecipientId]) -> None:
        """Forget what an ESP held about people whom it has erased."""
        with self.db.transaction() as connection:
            held = _confirmed(connection, provider, recipients)
            self._note_taken_out(connection, provider, {r: c.purposes for r, c in held.items()})
            connection.executemany(
                "DELETE FROM confirmed WHERE provider=? AND recipient=?", [(provider, r) for r in recipients]
            )

    def taken_out(self, recipient: RecipientId) -> list[TakenOut]:
        """When ESPs were seen to hold somebody no longer in segments in which they may have been, the oldest first."""
        sql = "SELECT provider, at, purposes FROM taken_out WHERE recipient=? ORDER BY at, provider"
        return [
            TakenOut(provider, datetime.fromtimestamp(at / MILLISECONDS, UTC), tuple(map(PurposeId, purposes.split())))
            for provider, at, purposes in self.db.rows(sql, (recipient,))
        ]

    def _note_taken_out(
        self, connection: sqlite3.Connection, provider: str, gone: Mapping[RecipientId, frozenset[PurposeId]]
    ) -> None:
        at = int(self._now().timestamp() * MILLISECONDS)
        left = [(r, provider, at, " ".join(sorted(purposes - {TO_ASK}))) for r, purposes in sorted(gone.items())]
        connection.executemany("INSERT OR REPLACE INTO taken_out VALUES (?,?,?,?)", [row for row in left if row[3]])

    def sync_state(self, provider: str) -> SyncState | None:
        """How far the last sync came; None before the first one."""
        sql = "SELECT position, arrivals, settings, complete_at FROM sync_state WHERE provider=?"
        row = self.db.row(sql, (provider,))
        if row is None:
            return None
        position, arrivals, settings, complete_at = row
        return SyncState(position, arrivals, settings, datetime.fromtimestamp(complete_at, UTC))

    def save_sync_state(self, provider: str, state: SyncState) -> None:
        """Note how far a sync came."""
        at = int(state.complete_at.timestamp())
        with self.db.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO sync_state VALUES (?,?,?,?,?)",
                (provider, state.position, state.arrivals, state.settings, at),
            )


def _new_mark() -> int:
    return secrets.randbits(MARK_BITS) | 1


def _row(row: tuple[bytes, str, bytes, int, int]) -> tuple[RecipientId, Confirmed]:
    recipient, purposes, carried, mark, refused = row
    return RecipientId(recipient), Confirmed(_purposes(purposes), carried, mark, bool(refused))


@lru_cache(maxsize=4_096)
def _purposes(text: str) -> frozenset[PurposeId]:
    return frozenset(map(PurposeId, text.split()))


def _confirmed(
    connection: sqlite3.Connection, provider: str, recipients: Collection[RecipientId]
) -> dict[RecipientId, Confirmed]:
    found: dict[RecipientId, Confirmed] = {}
    select = f"SELECT {_COLUMNS} FROM confirmed WHERE recipient IN ({{}}) AND provider=?"  # noqa: S608 - no input
    for sql, chunk in in_chunks([*recipients], select):
        found.update(map(_row, connection.execute(sql, [*chunk, provider])))
    return found


def _put(connection: sqlite3.Connection, provider: str, rows: Mapping[RecipientId, Confirmed]) -> None:
    connection.executemany(
        _PUT,
        [
            (provider, r, " ".join(sorted(c.purposes)), c.carried, c.mark, int(c.refused))
            for r, c in sorted(rows.items())
        ],
    )
