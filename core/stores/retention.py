"""What expires on SQLite, and the log of purges: see ``core.retention``.

Deleting and noting how much was deleted is one transaction; a kind with many rows takes many of them, so that others
get their turn. Both files have a log of their own, for each is written on its own.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from core.errors import StoreError
from core.model import RecipientId
from core.records import NO_EDITION, CampaignRecord, Mailings
from core.retention import Age, Kind, Purge, Purged
from core.stores.database import Database, in_chunks
from core.stores.mailings import CHUNK, DELETE_CHUNK

SCHEMA = """
CREATE TABLE IF NOT EXISTS purge(
  at INTEGER NOT NULL, kind TEXT NOT NULL, before INTEGER NOT NULL, deleted INTEGER NOT NULL,
  PRIMARY KEY(at, kind)) STRICT, WITHOUT ROWID;
"""

_NOTE = "INSERT INTO purge VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET deleted=deleted+excluded.deleted"


def noted(db: Database, purge: Purge, work: Callable[[sqlite3.Connection], int]) -> int:
    """Delete something and note how much, in one transaction; answers how much."""
    with db.transaction() as connection:
        deleted = work(connection)
        if deleted:
            connection.execute(_NOTE, (*_row(purge), deleted))
    return deleted


class SqlitePurgeLog:
    """See ``core.retention.PurgeLog``.

    Args:
        databases: Every file that has such a log, made with ``SCHEMA``; the first one takes what ``note`` notes.
    """

    def __init__(self, *databases: Database) -> None:
        self._databases = databases

    def note(self, purge: Purge) -> None:
        """Note that a purge came to its end."""
        with self._databases[0].transaction() as connection:
            connection.execute(_NOTE, (*_row(purge), 0))

    def listed(self, *, since: datetime | None = None) -> list[Purged]:
        """The purges, the oldest first."""
        after = int(since.timestamp()) if since else 0
        found: dict[tuple[int, str], tuple[int, int]] = {}
        for db in self._databases:
            for at, kind, before, deleted in db.rows(
                "SELECT at, kind, before, deleted FROM purge WHERE at>=?", (after,)
            ):
                _, sofar = found.get((at, kind), (0, 0))
                found[at, kind] = before, sofar + deleted
        return [_purged(at, kind, before, deleted) for (at, kind), (before, deleted) in sorted(found.items())]

    def last(self) -> datetime | None:
        """When everything was purged last: when a purge of the kind that comes last ended."""
        kinds = [*Kind]
        row = self._databases[0].row("SELECT max(at) FROM purge WHERE kind=?", (kinds[-1],))
        return datetime.fromtimestamp(row[0], UTC) if row and row[0] is not None else None


class OldRows:
    """Rows of one table that have a time.

    Args:
        db: The database.
        table: The table; it has a numeric key ``id`` unless ``whole``.
        column: The column of the time, in whole units of 1 / ``scale`` seconds.
        scale: How many of them a second has.
        whole: The table is small, or has no numeric key: it is gone through in one transaction.
    """

    def __init__(self, db: Database, table: str, column: str, *, scale: int = 1, whole: bool = False) -> None:
        self._db, self._table, self._scale, self._whole = db, table, scale, whole
        self._old = f"{column}<?"

    def due(self, before: datetime) -> int:
        """How many there are."""
        sql = f"SELECT count(*) FROM {self._table} WHERE {self._old}"  # noqa: S608 - our own names
        return int(self._db.row(sql, (self._limit(before),))[0])

    def forget(self, purge: Purge) -> int:
        """Delete them, chunk by chunk of the table."""
        limit, sql = self._limit(purge.before), f"DELETE FROM {self._table} WHERE {self._old}"  # noqa: S608
        if self._whole:
            return noted(self._db, purge, _deleting(sql, limit))
        deleted, part = 0, f"{sql} AND id>? AND id<=?"
        for start in self._starts():
            deleted += noted(self._db, purge, _deleting(part, limit, start, start + CHUNK))
        return deleted

    def _starts(self) -> Iterator[int]:
        first, last = self._db.row(f"SELECT min(id), max(id) FROM {self._table}")  # noqa: S608
        return iter(range(first - 1, last, CHUNK)) if first is not None else iter(())

    def _limit(self, before: datetime) -> int:
        return int(before.timestamp() * self._scale)


@dataclass(frozen=True, slots=True)
class OldFiles:
    """Files of a folder, by when they were written. A file that somebody put there under another name stays."""

    db: Database
    folder: Path
    endings: tuple[str, ...]

    def due(self, before: datetime) -> int:
        """How many there are."""
        return len(self._old(before))

    def forget(self, purge: Purge) -> int:
        """Delete them. A note may be lost where this is cut off just after a file went."""
        return sum(noted(self.db, purge, partial(_unlink, file)) for file in self._old(purge.before))

    def _old(self, before: datetime) -> list[Path]:
        try:
            files = sorted(f for f in self.folder.glob("*") if f.suffix in self.endings)
            return [f for f in files if f.stat().st_mtime < before.timestamp()]
        except OSError as error:
            raise StoreError(f"{self.folder.name}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class OldSnapshots:
    """Who got which pixel in campaigns that were released long ago: the rows, and the Parquet files.

    The campaign itself stays on record, so that it is not sent again; the digest of the file stays in the ledger.
    """

    db: Database
    mailings: Mailings
    age: Age
    folder: Path

    def due(self, before: datetime) -> int:
        """How many rows there are."""
        return sum(self._size(record.edition) for record in self._old(before))

    def forget(self, purge: Purge) -> int:
        """Delete them, file first: as long as there are rows, this is not done."""
        deleted = 0
        for record in self._old(purge.before):
            name = record.campaign.id
            for file in self.folder.glob(f"{name}-*.parquet"):
                if re.fullmatch(re.escape(name) + r"-[0-9a-f]{12}\.parquet", file.name):
                    _unlink(file)
            gone = CHUNK
            while gone == CHUNK:
                gone = noted(self.db, purge, _deleting(DELETE_CHUNK, record.edition, CHUNK))
                deleted += gone
            self._close(record)
        return deleted

    def _old(self, before: datetime) -> list[CampaignRecord]:
        sent = [record for record in self.mailings.campaigns() if record.sent and record.edition != NO_EDITION]
        return [record for record in sent if (at := self.age(record.campaign.id)) is not None and at < before]

    def _size(self, edition: int) -> int:
        return int(self.db.row("SELECT count(*) FROM snapshot WHERE edition=?", (edition,))[0])

    def _close(self, record: CampaignRecord) -> None:
        emptied = msgspec.json.encode(replace(record, edition=NO_EDITION))
        with self.db.transaction() as connection:
            connection.execute("UPDATE campaign SET record=? WHERE id=?", (emptied, record.campaign.id))
            connection.execute("DELETE FROM edition WHERE id=?", (record.edition,))


@dataclass(frozen=True, slots=True)
class OldCounters:
    """The counters of campaigns that were released long ago, unless an incident of theirs is open."""

    db: Database
    age: Age

    def due(self, before: datetime) -> int:
        """How many there are."""
        sql = "SELECT count(*) FROM counter WHERE scope=?"
        return sum(int(self.db.row(sql, (scope,))[0]) for scope in self._old(before))

    def forget(self, purge: Purge) -> int:
        """Delete them, campaign by campaign."""
        sql = "DELETE FROM counter WHERE scope=?"
        old = self._old(purge.before)
        return sum(noted(self.db, purge, _deleting(sql, scope)) for scope in old)

    def _old(self, before: datetime) -> list[str]:
        sql = (
            "SELECT DISTINCT scope FROM counter WHERE scope>='campaign:' AND scope<'campaign;' AND scope NOT IN"
            " (SELECT scope FROM incident WHERE closed_at IS NULL)"
        )
        found = [scope for (scope,) in self.db.rows(sql)]
        ages = {scope: self.age(scope.removeprefix("campaign:")) for scope in found}
        return [scope for scope, at in ages.items() if at is not None and at < before]


def remove_addresses(db: Database) -> Callable[[Sequence[RecipientId], Purge], int]:
    """Deletes addresses from the book; answers what ``core.leaving`` calls for that."""

    def delete(connection: sqlite3.Connection, recipients: Sequence[RecipientId]) -> int:
        deleted = 0
        for sql, chunk in in_chunks([*recipients], "DELETE FROM {{}} WHERE recipient IN ({})"):
            connection.execute(sql.format("arrival"), chunk)
            deleted += connection.execute(sql.format("contact"), chunk).rowcount
        return deleted

    return lambda recipients, purge: noted(db, purge, lambda c: delete(c, recipients))


def remove_letters(db: Database) -> Callable[[Sequence[int], Purge], int]:
    """Deletes dead letters; answers what ``core.leaving`` calls for that."""
    sql = "DELETE FROM dead_letter WHERE id=?"
    return lambda numbers, purge: noted(db, purge, lambda c: sum(c.execute(sql, (n,)).rowcount for n in numbers))


def remove_opens(db: Database) -> Callable[[RecipientId], int]:
    """Deletes the opens of one person; answers what ``core.erasing`` calls for that."""
    # By campaign, since no index is on recipients alone: see ``core.stores.opens``.
    sql = "DELETE FROM open WHERE id IN (SELECT id FROM open INDEXED BY open_of WHERE campaign=? AND recipient=?)"

    def remove(recipient: RecipientId) -> int:
        with db.transaction() as connection:
            campaigns = connection.execute("SELECT id FROM campaign").fetchall()
            return sum(connection.execute(sql, (campaign, recipient)).rowcount for (campaign,) in campaigns)

    return remove


def _deleting(sql: str, *values: object) -> Callable[[sqlite3.Connection], int]:
    """Something for ``noted`` that carries out one statement."""
    return lambda connection: connection.execute(sql, values).rowcount


def _unlink(file: Path, _connection: sqlite3.Connection | None = None) -> int:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{file.name}: cannot be deleted: {error.strerror}") from None
    return 1


def _row(purge: Purge) -> tuple[int, str, int]:
    return int(purge.at.timestamp()), purge.kind.value, int(purge.before.timestamp())


def _purged(at: int, kind: str, before: int, deleted: int) -> Purged:
    return Purged(Purge(datetime.fromtimestamp(at, UTC), Kind(kind), datetime.fromtimestamp(before, UTC)), deleted)
