"""The API's keys and the answers that it may have to repeat, on SQLite, in the ledger's file.

An answer to be repeated is written in the transaction that wrote what it tells of (``core.ports.Batch``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from core.api_keys import ApiKey, Scope, Secret
from core.errors import StoreError
from core.ports import Answered
from core.stores.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS api_key(
  id TEXT PRIMARY KEY, name TEXT NOT NULL, scopes TEXT NOT NULL, created_at TEXT NOT NULL, expires_at TEXT,
  revoked_at TEXT, last_used TEXT) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS api_secret(
  key TEXT NOT NULL, sha256 BLOB NOT NULL, created_at TEXT NOT NULL, expires_at TEXT,
  PRIMARY KEY(key, sha256)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answered(
  name BLOB PRIMARY KEY, request BLOB NOT NULL, answer BLOB NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

_KEYS = """
SELECT k.id, k.name, k.scopes, k.created_at, k.expires_at, k.revoked_at, k.last_used,
  s.sha256, s.created_at, s.expires_at FROM api_key k JOIN api_secret s ON s.key=k.id
"""
_PUT = """
INSERT INTO api_key(id, name, scopes, created_at, expires_at, revoked_at) VALUES (?,?,?,?,?,?)
ON CONFLICT DO UPDATE SET expires_at=excluded.expires_at, revoked_at=coalesce(revoked_at, excluded.revoked_at)
"""


class SqliteKeys:
    """See ``core.api_keys.KeyStore``.

    Args:
        db: The database, made with ``SCHEMA``.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    def find(self, id_: str) -> ApiKey | None:
        """The key with that id, as last committed by any process; raises StoreError."""
        return next(iter(_keys(self.db.rows(f"{_KEYS} WHERE k.id=? ORDER BY s.created_at", (id_,)))), None)

    def listed(self) -> list[ApiKey]:
        """All keys, the oldest first; raises StoreError."""
        return _keys(self.db.rows(f"{_KEYS} ORDER BY k.created_at, k.id, s.created_at"))

    def put(self, key: ApiKey) -> None:
        """Keep a new key, or an old one as it is now; raises StoreError."""
        times = (key.created_at.isoformat(), _text(key.expires_at), _text(key.revoked_at))
        secrets = [(key.id, s.sha256, s.created_at.isoformat(), _text(s.expires_at)) for s in key.secrets]
        with self.db.transaction() as connection:
            connection.execute(_PUT, (key.id, key.name, " ".join(sorted(key.scopes)), *times))
            connection.execute("DELETE FROM api_secret WHERE key=?", (key.id,))
            connection.executemany("INSERT INTO api_secret VALUES (?,?,?,?)", secrets)

    def used(self, id_: str, day: date) -> None:
        """Note the day of a key's last use; raises StoreError."""
        with self.db.transaction() as connection:
            connection.execute("UPDATE api_key SET last_used=? WHERE id=?", (day.isoformat(), id_))

    def answered(self, name: bytes) -> Answered | None:
        """The answer kept under a name, as last committed; raises StoreError."""
        row = self.db.row("SELECT name, request, answer, at FROM answered WHERE name=?", (name,))
        return _answered(row) if row else None


def answered(connection: sqlite3.Connection, name: bytes) -> Answered | None:
    """The answer kept under a name, that of this very transaction included."""
    row = connection.execute("SELECT name, request, answer, at FROM answered WHERE name=?", (name,)).fetchone()
    return _answered(row) if row else None


def keep_answer(connection: sqlite3.Connection, given: Answered) -> None:
    """Keep an answer."""
    row = (given.name, given.request, given.answer, int(given.at.timestamp()))
    connection.execute("INSERT INTO answered VALUES (?,?,?,?)", row)


def _answered(row: Sequence[Any]) -> Answered:
    name, request, answer, at = row
    return Answered(name, request, answer, datetime.fromtimestamp(at, UTC))


def _keys(rows: Any) -> list[ApiKey]:  # noqa: ANN401 - rows as sqlite3 has them
    """Keys from rows of key and secret, in the order of the rows."""
    found: dict[str, tuple[Sequence[Any], list[Secret]]] = {}
    try:
        for row in rows:
            _, secrets = found.setdefault(row[0], (row, []))
            secrets.append(Secret(row[7], datetime.fromisoformat(row[8]), _time(row[9])))
        return [_key(row, secrets) for row, secrets in found.values()]
    except (ValueError, TypeError):
        raise StoreError("an API key's stored form is damaged; revoke it and create another one") from None


def _key(row: Sequence[Any], secrets: list[Secret]) -> ApiKey:
    id_, name, scopes, created_at, expires_at, revoked_at, last_used = row[:7]
    return ApiKey(
        id=id_,
        name=name,
        scopes=frozenset(map(Scope, scopes.split())),
        created_at=datetime.fromisoformat(created_at),
        secrets=tuple(secrets),
        expires_at=_time(expires_at),
        revoked_at=_time(revoked_at),
        last_used=date.fromisoformat(last_used) if last_used else None,
    )


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
