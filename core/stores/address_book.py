"""The address book on SQLite, in a file of its own.

So erasing an address harms no proof, and a copy of the ledger carries no address.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from core.model import RecipientId
from core.stores.database import Database, in_chunks

SCHEMA = """
CREATE TABLE IF NOT EXISTS contact(
  recipient BLOB PRIMARY KEY, address TEXT NOT NULL, locale TEXT) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS arrival(id INTEGER PRIMARY KEY AUTOINCREMENT, recipient BLOB NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS arrived AFTER INSERT ON contact BEGIN
  INSERT INTO arrival(recipient) VALUES (new.recipient);
END;
"""
_PUT = """
INSERT INTO contact VALUES (?,?,?)
ON CONFLICT DO UPDATE SET locale=coalesce(excluded.locale, locale) WHERE excluded.locale IS NOT NULL
"""


class SqliteAddressBook:
    """See ``core.records.AddressBook``.

    Args:
        db: The database, made with ``SCHEMA``.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    def put(self, contacts: Iterable[tuple[RecipientId, str, str | None]]) -> int:
        """Store (recipient, normalised address, locale); answers how many were new. A locale is kept unless given."""
        with self.db.transaction() as connection:
            (before,) = connection.execute("SELECT count(*) FROM contact").fetchone()
            connection.executemany(_PUT, contacts)
            (after,) = connection.execute("SELECT count(*) FROM contact").fetchone()
        return int(after - before)

    def get(self, recipients: Collection[RecipientId]) -> dict[RecipientId, tuple[str, str | None]]:
        """The address and locale of those that are known."""
        found: dict[RecipientId, tuple[str, str | None]] = {}
        for sql, chunk in in_chunks([*recipients], "SELECT * FROM contact WHERE recipient IN ({})"):
            found.update((recipient, (address, locale)) for recipient, address, locale in self.db.rows(sql, chunk))
        return found

    def scan(self, after: RecipientId | None = None, limit: int = 10_000) -> list[tuple[RecipientId, str, str | None]]:
        """A page in the order of recipients, beginning behind ``after``."""
        sql = "SELECT * FROM contact WHERE recipient>? ORDER BY recipient LIMIT ?"
        return list(self.db.rows(sql, (after or b"", limit)))

    def arrivals(self) -> int:
        """The number of the newest arrival, counted from 1 since the book was begun."""
        return int(self.db.row("SELECT coalesce(max(id), 0) FROM arrival")[0])

    def arrived(self, after: int, until: int) -> Iterator[RecipientId]:
        """Who came in behind ``after``, up to ``until``."""
        sql = "SELECT DISTINCT recipient FROM arrival WHERE id>? AND id<=? ORDER BY recipient"
        return (recipient for (recipient,) in self.db.rows(sql, (after, until)))

    def erase(self, recipient: RecipientId) -> bool:
        """Forget an address; False when it was not known."""
        with self.db.transaction() as connection:
            connection.execute("DELETE FROM arrival WHERE recipient=?", (recipient,))
            known = connection.execute("DELETE FROM contact WHERE recipient=?", (recipient,)).rowcount == 1
        self.db.forget_log()
        return known

    def count(self) -> int:
        """How many addresses are held."""
        return int(self.db.row("SELECT count(*) FROM contact")[0])
