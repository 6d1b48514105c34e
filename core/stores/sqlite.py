"""The ledger on SQLite: chains, heads, idempotency keys, opens and counters in one file, one transaction a batch.

The *seal* covers what the chains alone cannot show: that no entry, no whole chain and no head is missing. It is the
right edge of the Merkle tree over all entries in the order of their positions, authenticated under the ledger key,
and is written in the same transaction as the entries.
"""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec

from core.consent import Standing
from core.errors import DamagedState, HeadConflict, StoreError
from core.incidents import Incident
from core.merkle import Frontier
from core.model import PurposeId, RecipientId
from core.ports import Batch, Entry, Head, Open
from core.stores import incidents
from core.stores.database import Database, in_chunks

SCHEMA = """
CREATE TABLE IF NOT EXISTS entry(
  position INTEGER PRIMARY KEY, recipient BLOB NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL, body BLOB NOT NULL,
  UNIQUE(recipient, seq)) STRICT;
CREATE TABLE IF NOT EXISTS head(
  recipient BLOB PRIMARY KEY, seq INTEGER NOT NULL, hash BLOB NOT NULL, standings BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seal(
  id INTEGER PRIMARY KEY CHECK (id = 1), size INTEGER NOT NULL, peaks BLOB NOT NULL, mac BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS idempotency(key BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS open(
  id INTEGER PRIMARY KEY, campaign TEXT NOT NULL, recipient BLOB NOT NULL, opened_at INTEGER NOT NULL,
  serves TEXT NOT NULL, source TEXT NOT NULL, machine INTEGER NOT NULL, client TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS counter(
  scope TEXT NOT NULL, name TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY(scope, name)) STRICT, WITHOUT ROWID;
"""

SEAL = "SELECT size, peaks, mac FROM seal"

_STANDINGS = msgspec.msgpack.Decoder(dict[PurposeId, Standing])
_encode_standings = msgspec.msgpack.Encoder(order="sorted").encode


class SqliteStore:
    """The default LedgerStore: one file, one machine.

    Args:
        db: The database, made with ``SCHEMA``.
        seal_key: Authenticates the seal; whoever lacks it cannot alter the ledger unnoticed.
    """

    def __init__(self, db: Database, seal_key: bytes) -> None:
        self.db = db
        self._seal_key = seal_key

    @contextmanager
    def batch(self) -> Iterator[SqliteBatch]:
        """One transaction; see ``core.ports.Batch``."""
        with self.db.transaction() as connection:
            batch = SqliteBatch(connection, self._genuine(connection.execute(SEAL).fetchone()))
            yield batch
            if batch.appended:
                self._write_seal(connection, batch.tree)

    def heads(self, recipients: Collection[RecipientId]) -> dict[RecipientId, Head]:
        """The heads of those recipients that have a chain, as last committed."""
        return _heads(self.db.reader, recipients)

    def head(self, recipient: RecipientId) -> Head | None:
        """One recipient's head."""
        return self.heads([recipient]).get(recipient)

    def chain(self, recipient: RecipientId) -> list[Entry]:
        """All entries of one recipient, the oldest first."""
        sql = "SELECT recipient, seq, body, hash FROM entry WHERE recipient=? ORDER BY seq"
        return [_entry(row) for row in self.db.rows(sql, (recipient,))]

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """Every entry with its position, in the order of positions."""
        for position, *row in self.db.rows("SELECT position, recipient, seq, body, hash FROM entry ORDER BY position"):
            yield position, _entry(row)

    def size(self) -> int:
        """How many entries there are: the position of the newest."""
        return int(self.db.row("SELECT coalesce(max(position), 0) FROM entry")[0])

    def touched(self, after: int, until: int) -> Iterator[RecipientId]:
        """Whose chains grew behind position ``after``, up to ``until``, in the order of recipients."""
        sql = "SELECT DISTINCT recipient FROM entry WHERE position>? AND position<=? ORDER BY recipient"
        return (recipient for (recipient,) in self.db.rows(sql, (after, until)))

    def chains(self) -> Iterator[Entry]:
        """Every entry, chain by chain."""
        for row in self.db.rows("SELECT recipient, seq, body, hash FROM entry ORDER BY recipient, seq"):
            yield _entry(row)

    def all_heads(self) -> Iterator[tuple[RecipientId, Head]]:
        """Every head, in the order of recipients."""
        for row in self.db.rows("SELECT recipient, seq, hash, standings FROM head ORDER BY recipient"):
            yield _head(row)

    def counters(self, scope: str) -> dict[str, int]:
        """The counters of one scope."""
        return dict(self.db.rows("SELECT name, n FROM counter WHERE scope=?", (scope,)))

    def count_opens(self) -> int:
        """How many opens are on record."""
        return int(self.db.row("SELECT count(*) FROM open")[0])

    def forget_opens(self, before: datetime) -> int:
        """Delete the opens from before that time; answers how many there were."""
        with self.db.transaction() as connection:
            return connection.execute("DELETE FROM open WHERE opened_at<?", (int(before.timestamp()),)).rowcount

    def sealed(self) -> Frontier:
        """The tree over all entries as it was sealed; raises StoreError when the seal is not genuine."""
        return self._genuine(self.db.row(SEAL))

    def damage(self) -> list[str]:
        """What SQLite finds wrong with the file."""
        return self.db.problems()

    def _genuine(self, row: tuple[int, bytes, bytes] | None) -> Frontier:
        if row is None:
            return Frontier()
        size, peaks, mac = _typed(row, int, bytes, bytes)
        try:
            tree = Frontier.from_bytes(size, peaks)
        except ValueError:
            raise StoreError("the ledger's seal is damaged: see `pixelproof ledger verify`") from None
        if not hmac.compare_digest(self._mac(tree), mac):
            raise StoreError(
                "the ledger's seal does not fit: PIXELPROOF_LEDGER_KEY is not the key that this ledger was written"
                " with, or the file was altered: see `pixelproof ledger verify`"
            )
        return tree

    def _write_seal(self, connection: sqlite3.Connection, tree: Frontier) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO seal VALUES (1, ?, ?, ?)", (tree.size, tree.to_bytes(), self._mac(tree))
        )

    def _mac(self, tree: Frontier) -> bytes:
        return hmac.digest(self._seal_key, b"pixelproof seal v1\n%d\n%s" % (tree.size, tree.root), "sha256")


class SqliteBatch:
    """A batch inside one transaction."""

    def __init__(self, connection: sqlite3.Connection, tree: Frontier) -> None:
        self._db = connection
        self.tree = tree
        self.appended = False

    @contextmanager
    def savepoint(self) -> Iterator[Batch]:
        """A part of the batch that an exception undoes alone."""
        tree, appended = Frontier(self.tree.size, [*self.tree.peaks]), self.appended
        self._db.execute("SAVEPOINT part")
        try:
            yield self
        except BaseException:
            self.tree, self.appended = tree, appended
            self._db.execute("ROLLBACK TO part")
            raise
        finally:
            self._db.execute("RELEASE part")

    def seen(self, keys: Collection[bytes]) -> set[bytes]:
        """See ``core.ports.Batch``."""
        found: set[bytes] = set()
        for sql, chunk in in_chunks([*keys], "SELECT key FROM idempotency WHERE key IN ({})"):
            found.update(key for (key,) in self._db.execute(sql, chunk))
        return found

    def remember(self, keys: Collection[bytes]) -> None:
        """See ``core.ports.Batch``."""
        self._db.executemany("INSERT OR IGNORE INTO idempotency VALUES (?)", [(key,) for key in sorted(keys)])

    def heads(self, recipients: Collection[RecipientId]) -> dict[RecipientId, Head]:
        """See ``core.ports.Batch``."""
        return _heads(self._db, recipients)

    def append(self, recipient: RecipientId, entries: Sequence[Entry], *, expected: Head | None, head: Head) -> None:
        """See ``core.ports.Batch``."""
        standings = _encode_standings(head.standings)
        if expected is None:
            sql = "INSERT OR IGNORE INTO head(seq, hash, standings, recipient) VALUES (?,?,?,?)"
            values: tuple[object, ...] = (head.seq, head.hash, standings, recipient)
        else:
            sql = "UPDATE head SET seq=?, hash=?, standings=? WHERE recipient=? AND seq=? AND hash=?"
            values = (head.seq, head.hash, standings, recipient, expected.seq, expected.hash)
        if self._db.execute(sql, values).rowcount != 1:
            raise HeadConflict("another entry came first")
        rows = []
        for entry in entries:
            self.tree.push(entry.hash)
            rows.append((self.tree.size, recipient, entry.seq, entry.hash, entry.body))
        self._db.executemany("INSERT INTO entry VALUES (?,?,?,?,?)", rows)
        self.appended = True

    def record_opens(self, opens: Sequence[Open]) -> None:
        """See ``core.ports.Batch``."""
        self._db.executemany(
            "INSERT INTO open(campaign, recipient, opened_at, serves, source, machine, client) VALUES (?,?,?,?,?,?,?)",
            [_open_row(each) for each in opens],
        )

    def count(self, scope: str, name: str, by: int = 1) -> int:
        """See ``core.ports.Batch``."""
        sql = "INSERT INTO counter VALUES (?,?,?) ON CONFLICT DO UPDATE SET n=n+excluded.n RETURNING n"
        return int(self._db.execute(sql, (scope, name, by)).fetchone()[0])

    def last_incident(self, scope: str, kind: str) -> Incident | None:
        """See ``core.ports.Batch``."""
        return incidents.last(self._db, scope, kind)

    def open_incident(self, incident: Incident) -> None:
        """See ``core.ports.Batch``."""
        incidents.open_(self._db, incident)


def _open_row(o: Open) -> tuple[object, ...]:
    at = int(o.opened_at.timestamp())
    return o.campaign, o.recipient, at, " ".join(o.serves), o.source, int(o.machine), o.client


def _typed(row: Sequence[Any], *types: type) -> Sequence[Any]:
    """The row, if its values have these types: a flipped bit in the file changes a type in spite of STRICT."""
    if [*map(type, row)] != [*types]:
        raise DamagedState("a stored value is damaged: see `pixelproof ledger verify`")
    return row


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(*_typed(row, bytes, int, bytes, bytes))


def _head(row: Sequence[Any]) -> tuple[RecipientId, Head]:
    recipient, seq, digest, standings = _typed(row, bytes, int, bytes, bytes)
    try:
        return recipient, Head(seq, digest, _STANDINGS.decode(standings))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise DamagedState("a recipient's stored state is damaged: see `pixelproof ledger verify`") from None


def _heads(connection: sqlite3.Connection, recipients: Collection[RecipientId]) -> dict[RecipientId, Head]:
    found: dict[RecipientId, Head] = {}
    select = "SELECT recipient, seq, hash, standings FROM head WHERE recipient IN ({})"
    try:
        for sql, chunk in in_chunks([*recipients], select):
            found.update(map(_head, connection.execute(sql, chunk)))
    except sqlite3.Error as error:
        raise StoreError(f"the ledger cannot be read: {error}") from error
    return found
