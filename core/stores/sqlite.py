"""The ledger on SQLite: chains, heads, idempotency keys, opens and counters in one file, one transaction a batch.

The *seal* covers what the chains alone cannot show: that no entry, no whole chain and no head is missing. It is the
right edge of the Merkle tree over all entries in the order of their positions, authenticated under the ledger key,
and is written in the same transaction as the entries.
"""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from core.consent import Standing
from core.errors import DamagedState, HeadConflict, StoreError
from core.incidents import Incident
from core.merkle import Frontier
from core.model import PurposeId, RecipientId
from core.ports import Answered, Batch, Entry, Head, Open
from core.stores import api_keys, chains, incidents
from core.stores.database import Database, in_chunks

if TYPE_CHECKING:
    from core.transfer import Placed

SCHEMA = """
CREATE TABLE IF NOT EXISTS entry(
  position INTEGER PRIMARY KEY, recipient BLOB NOT NULL, seq INTEGER NOT NULL, before INTEGER NOT NULL,
  hash BLOB NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS head(
  recipient BLOB PRIMARY KEY, seq INTEGER NOT NULL, last INTEGER NOT NULL, hash BLOB NOT NULL,
  standings BLOB NOT NULL) STRICT, WITHOUT ROWID;
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
ROWS = 500
"""Inserted by one statement."""
_PUT_OPENS = "INSERT INTO open(campaign, recipient, opened_at, serves, source, machine, client)"
_PUT_ENTRIES = "INSERT INTO entry(position, recipient, seq, before, hash, body)"
_PUT_HEADS = "INSERT OR IGNORE INTO head(seq, last, hash, standings, recipient)"
_CHANGE_HEAD = "UPDATE head SET seq=?, last=?, hash=?, standings=? WHERE recipient=? AND seq=? AND hash=?"

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
        self._known: tuple[int, bytes, bytes] | None = None

    @contextmanager
    def batch(self) -> Iterator[SqliteBatch]:
        """One transaction; see ``core.ports.Batch``."""
        with self.db.transaction() as connection:
            batch = SqliteBatch(connection, self._genuine(connection.execute(SEAL).fetchone()))
            yield batch
            batch.write()
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
        return [_entry(row) for row in self.db.rows(chains.CHAIN, (recipient,))]

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """Every entry with its position, in the order of positions."""
        for position, *row in self.db.rows("SELECT position, recipient, seq, body, hash FROM entry ORDER BY position"):
            yield position, _entry(row)

    def size(self) -> int:
        """How many entries there are: the position of the newest."""
        return int(self.db.row("SELECT coalesce(max(position), 0) FROM entry")[0])

    def hashes(self, after: int, until: int) -> Iterator[bytes]:
        """The stored hashes of the entries behind ``after``, up to ``until``; a missing one is left out."""
        sql = "SELECT hash FROM entry WHERE position>? AND position<=? ORDER BY position"
        for row in self.db.rows(sql, (after, until)):
            yield from _typed(row, bytes)

    def position(self, recipient: RecipientId, seq: int) -> int | None:
        """The position of one entry of a chain, from 1; None when there is no such entry."""
        row = self.db.row(chains.POSITION, (recipient, seq))
        return int(row[0]) if row else None

    def erase_bodies(self, recipient: RecipientId) -> int:
        """Erase what a person's entries say; their hashes stay, so that chains, tree and checkpoints still verify.

        Answers how many entries there were to erase. Nobody can find out what they said by trying: see their salt.
        """
        with self.db.transaction() as connection:
            erased = chains.erase_bodies(connection, recipient)
        self.db.forget_log()
        return erased

    def touched(self, after: int, until: int) -> Iterator[RecipientId]:
        """Whose chains grew behind position ``after``, up to ``until``, in the order of recipients."""
        sql = "SELECT DISTINCT recipient FROM entry WHERE position>? AND position<=? ORDER BY recipient"
        return (recipient for (recipient,) in self.db.rows(sql, (after, until)))

    def chains(self) -> Iterator[Entry]:
        """Every entry, chain by chain."""
        for row in self.db.rows(chains.CHAINS):
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

    def restore(self, rows: Iterable[Placed]) -> None:
        """Append entries of another store in this order: see ``core.transfer.Movable``."""
        with self.batch() as batch:
            for row in rows:
                batch.append(row.entry.recipient, [row.entry], expected=row.before, head=row.after)

    def known_keys(self) -> Iterator[bytes]:
        """All idempotency keys that are remembered."""
        return (key for (key,) in self.db.rows("SELECT key FROM idempotency ORDER BY key"))

    def sealed(self) -> Frontier:
        """The tree over all entries as it was sealed; raises StoreError when the seal is not genuine."""
        return self._genuine(self.db.row(SEAL))

    def damage(self) -> list[str]:
        """What SQLite finds wrong with the file, and where entries do not name each other as they should."""
        return self.db.problems(chains.broken_links)

    def _genuine(self, row: tuple[int, bytes, bytes] | None) -> Frontier:
        if row is None:
            return Frontier()
        size, peaks, mac = _typed(row, int, bytes, bytes)
        if row == self._known:
            return Frontier.from_bytes(size, peaks)
        try:
            tree = Frontier.from_bytes(size, peaks)
        except ValueError:
            raise StoreError("the ledger's seal is damaged: see `pixelproof ledger verify`") from None
        if not hmac.compare_digest(self._mac(tree), mac):
            raise StoreError(
                "the ledger's seal does not fit: PIXELPROOF_LEDGER_KEY is not the key that this ledger was written"
                " with, or the file was altered: see `pixelproof ledger verify`"
            )
        self._known = row
        return tree

    def _write_seal(self, connection: sqlite3.Connection, tree: Frontier) -> None:
        # Genuine by what it holds, whether or not it will be committed: it need not be checked when it is read again.
        self._known = row = (tree.size, tree.to_bytes(), self._mac(tree))
        connection.execute("INSERT OR REPLACE INTO seal VALUES (1, ?, ?, ?)", row)

    def _mac(self, tree: Frontier) -> bytes:
        return hmac.digest(self._seal_key, b"pixelproof seal v1\n%d\n%s" % (tree.size, tree.root), "sha256")


class _Grown(NamedTuple):
    """What was appended to one chain."""

    recipient: RecipientId
    entries: Sequence[Entry]
    expected: Head | None
    head: Head


class SqliteBatch:
    """A batch inside one transaction.

    Entries and counters are written together, at the end of a part or before they are read: each statement costs more
    than each row, and asks for Python's lock, which the event loop needs.
    """

    def __init__(self, connection: sqlite3.Connection, tree: Frontier) -> None:
        self._db = connection
        self.tree = tree
        self.appended = False
        self._grown: list[_Grown] = []
        self._stored: dict[str, dict[str, int]] = {}
        self._added: dict[tuple[str, str], int] = {}

    @contextmanager
    def savepoint(self) -> Iterator[Batch]:
        """A part of the batch that an exception undoes alone."""
        self._write_entries()
        tree, appended = Frontier(self.tree.size, [*self.tree.peaks]), self.appended
        added = {**self._added}
        self._db.execute("SAVEPOINT part")
        try:
            yield self
            self._write_entries()
        except BaseException:
            self.tree, self.appended, self._added, self._grown = tree, appended, added, []
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
        self._insert("INSERT OR IGNORE INTO idempotency", [(key,) for key in sorted(keys)])

    def heads(self, recipients: Collection[RecipientId]) -> dict[RecipientId, Head]:
        """See ``core.ports.Batch``."""
        self._write_entries()
        return _heads(self._db, recipients)

    def touched(self, after: int) -> set[RecipientId]:
        """See ``core.ports.Batch``."""
        self._write_entries()
        # Without DISTINCT: SQLite would walk the whole index of recipients for it.
        rows = self._db.execute("SELECT recipient FROM entry WHERE position>?", (after,))
        return {recipient for (recipient,) in rows}

    def append(self, recipient: RecipientId, entries: Sequence[Entry], *, expected: Head | None, head: Head) -> None:
        """See ``core.ports.Batch``."""
        self._grown.append(_Grown(recipient, entries, expected, head))

    def _write_entries(self) -> None:
        """Write what was appended; raises HeadConflict when somebody was first."""
        grown, self._grown = self._grown, []
        if not grown:
            return
        last = self._last([each.recipient for each in grown if each.expected is not None])
        entries, heads = [], []
        for each in grown:
            before = last.get(each.recipient, 0)
            for entry in each.entries:
                position = self.tree.push(entry.hash)
                entries.append((position, each.recipient, entry.seq, before, entry.hash, entry.body))
                before = position
            last[each.recipient] = before
            heads.append((each, before))
        self._write_heads(heads)
        self._insert(_PUT_ENTRIES, entries)
        self.appended = True

    def _last(self, recipients: Sequence[RecipientId]) -> dict[RecipientId, int]:
        """The positions of the last entries of those that have a chain."""
        found: dict[RecipientId, int] = {}
        for sql, chunk in in_chunks(recipients, "SELECT recipient, last FROM head WHERE recipient IN ({})"):
            found.update(self._db.execute(sql, chunk))
        return found

    def _write_heads(self, grown: Sequence[tuple[_Grown, int]]) -> None:
        new, changed = [], []
        for each, last in sorted(grown, key=lambda each: each[0].recipient):
            head = each.head
            values = (head.seq, last, head.hash, _encode_standings(head.standings), each.recipient)
            if each.expected is None:
                new.append(values)
            else:
                changed.append((*values, each.expected.seq, each.expected.hash))
        written = self._insert(_PUT_HEADS, new)
        written += sum(self._db.execute(_CHANGE_HEAD, values).rowcount for values in changed)
        if written != len(grown):
            raise HeadConflict("another entry came first")

    def _insert(self, insert: str, rows: Sequence[tuple[object, ...]]) -> int:
        """Insert many rows by few statements; answers how many were."""
        written = 0
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            places = f"({','.join('?' * len(some[0]))})"
            sql = f"{insert} VALUES {','.join([places] * len(some))}"
            written += self._db.execute(sql, [value for row in some for value in row]).rowcount
        return written

    def record_opens(self, opens: Sequence[Open]) -> None:
        """See ``core.ports.Batch``."""
        self._insert(_PUT_OPENS, [_open_row(each) for each in opens])

    def count(self, scope: str, name: str, by: int = 1) -> int:
        """See ``core.ports.Batch``."""
        if scope not in self._stored:
            self._stored[scope] = dict(self._db.execute("SELECT name, n FROM counter WHERE scope=?", (scope,)))
        added = self._added[scope, name] = self._added.get((scope, name), 0) + by
        return self._stored[scope].get(name, 0) + added

    def write(self) -> None:
        """Write what waits; counters once for all the jobs that a transaction holds."""
        self._write_entries()
        rows = [(scope, name, self._stored[scope].get(name, 0) + n) for (scope, name), n in sorted(self._added.items())]
        self._insert("INSERT OR REPLACE INTO counter", rows)

    def last_incident(self, scope: str, kind: str) -> Incident | None:
        """See ``core.ports.Batch``."""
        return incidents.last(self._db, scope, kind)

    def open_incident(self, incident: Incident) -> None:
        """See ``core.ports.Batch``."""
        incidents.open_(self._db, incident)

    def chain(self, recipient: RecipientId) -> list[Entry]:
        """See ``core.ports.Batch``."""
        self._write_entries()
        return [_entry(row) for row in self._db.execute(chains.CHAIN, (recipient,))]

    def answered(self, name: bytes) -> Answered | None:
        """See ``core.ports.Batch``."""
        return api_keys.answered(self._db, name)

    def keep_answer(self, answered: Answered) -> None:
        """See ``core.ports.Batch``."""
        api_keys.keep_answer(self._db, answered)


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
