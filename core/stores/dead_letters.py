"""Dead letters on SQLite, in the address book's file: see ``core.dead_letters.DeadLetters``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from core.dead_letters import DeadLetter, Reason
from core.stores.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS dead_letter(
  id INTEGER PRIMARY KEY AUTOINCREMENT, provider TEXT NOT NULL, reason TEXT NOT NULL, received_at REAL NOT NULL,
  signed_at REAL, body BLOB NOT NULL, digest BLOB NOT NULL, UNIQUE(provider, digest)) STRICT;
"""

_PUT = """
INSERT OR IGNORE INTO dead_letter(provider, reason, received_at, signed_at, body, digest) VALUES (?,?,?,?,?,?)
"""
_SELECT = "SELECT provider, reason, received_at, signed_at, body, id FROM dead_letter"


class SqliteDeadLetters:
    """See ``core.dead_letters.DeadLetters``.

    Args:
        db: The address book's database, made with ``SCHEMA``.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    def put(self, letters: Iterable[DeadLetter]) -> int:
        """Keep them durably, each body once; answers how many were new."""
        with self.db.transaction() as connection:
            return sum(connection.execute(_PUT, _values(letter)).rowcount for letter in letters)

    def listed(self, provider: str | None = None) -> list[DeadLetter]:
        """Those that wait, the oldest first."""
        rows = self.db.rows(f"{_SELECT} WHERE ?1 IS NULL OR provider=?1 ORDER BY id", (provider,))
        return [_letter(row) for row in rows]

    def remove(self, numbers: Iterable[int]) -> int:
        """Forget those with these ids; answers how many there were."""
        with self.db.transaction() as connection:
            return sum(connection.execute("DELETE FROM dead_letter WHERE id=?", (n,)).rowcount for n in numbers)


def _values(letter: DeadLetter) -> tuple[object, ...]:
    signed = letter.signed_at.timestamp() if letter.signed_at else None
    digest = sha256(letter.body).digest()
    return letter.provider, letter.reason, letter.received_at.timestamp(), signed, letter.body, digest


def _letter(row: Sequence[Any]) -> DeadLetter:
    provider, reason, received_at, signed_at, body, number = row
    signed = datetime.fromtimestamp(signed_at, UTC) if signed_at is not None else None
    return DeadLetter(provider, Reason(reason), datetime.fromtimestamp(received_at, UTC), signed, body, number)
