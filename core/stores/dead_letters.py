"""Dead letters on SQLite, in the address book's file: see ``core.dead_letters.DeadLetters``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from core.dead_letters import DeadLetter, Reason
from core.stores.database import Database, in_chunks

SCHEMA = """
CREATE TABLE IF NOT EXISTS dead_letter(
  id INTEGER PRIMARY KEY AUTOINCREMENT, provider TEXT NOT NULL, reason TEXT NOT NULL, received_at REAL NOT NULL,
  signed_at REAL, body BLOB NOT NULL, digest BLOB NOT NULL, UNIQUE(provider, digest)) STRICT;
"""

_PUT = """
INSERT OR IGNORE INTO dead_letter(provider, reason, received_at, signed_at, body, digest) VALUES (?,?,?,?,?,?)
"""
_SELECT = "SELECT provider, reason, received_at, signed_at, body, id FROM dead_letter"
PAGE = 50
"""Letters that are held in memory at a time; one may be as large as a callback's body."""


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

    def listed(self, provider: str | None = None) -> Iterator[DeadLetter]:
        """Those that wait, the oldest first, read in pages."""
        sql = f"{_SELECT} WHERE id>?1 AND (?2 IS NULL OR provider=?2) ORDER BY id LIMIT {PAGE}"
        after = 0
        while page := [_letter(row) for row in self.db.rows(sql, (after, provider))]:
            yield from page
            after = page[-1].id

    def get(self, numbers: Collection[int]) -> list[DeadLetter]:
        """Those with these ids, the oldest first; the others are left out."""
        chunks = in_chunks([*numbers], f"{_SELECT} WHERE id IN ({{}})")
        found = [_letter(row) for sql, chunk in chunks for row in self.db.rows(sql, chunk)]
        return sorted(found, key=lambda letter: letter.id)

    def counts(self) -> dict[tuple[str, Reason], int]:
        """How many wait, by provider and reason."""
        sql = "SELECT provider, reason, count(*) FROM dead_letter GROUP BY 1, 2 ORDER BY 1, 2"
        return {(provider, Reason(reason)): n for provider, reason, n in self.db.rows(sql)}

    def remove(self, numbers: Iterable[int]) -> int:
        """Forget those with these ids; answers how many there were."""
        with self.db.transaction() as connection:
            gone = sum(connection.execute("DELETE FROM dead_letter WHERE id=?", (n,)).rowcount for n in numbers)
        if gone:
            self.db.forget_log()
        return gone


def _values(letter: DeadLetter) -> tuple[object, ...]:
    signed = letter.signed_at.timestamp() if letter.signed_at else None
    digest = sha256(letter.body).digest()
    return letter.provider, letter.reason, letter.received_at.timestamp(), signed, letter.body, digest


def _letter(row: Sequence[Any]) -> DeadLetter:
    provider, reason, received_at, signed_at, body, number = row
    signed = datetime.fromtimestamp(signed_at, UTC) if signed_at is not None else None
    return DeadLetter(provider, Reason(reason), datetime.fromtimestamp(received_at, UTC), signed, body, number)
