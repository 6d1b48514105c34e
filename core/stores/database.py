"""SQLite as this project uses it: WAL, ``synchronous=FULL``, one writer at a time, a reader for each thread."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from core.errors import StoreError

BUSY_TIMEOUT = 30.0
"""Seconds to wait for another process that is writing."""
CACHE = 64 * 1024
"""KiB of pages that the writer keeps: indexes of random keys touch a page for each row."""
VARIABLES = 500
"""Values in one IN list."""
PAGES_AHEAD = 8_192
"""Pages of the log before they are moved into the file: those that change often are moved once."""
READER_CACHE = 16_384
"""KiB of pages that each thread's connection for reading keeps at most."""
FORM = 4
"""The form of the tables, written into each file; a file of another form is not touched."""


class Database:
    """One database file, made with its tables when it is not there yet; its mode is 0600.

    Args:
        path: The file. Its folder must exist.
        schema: ``CREATE TABLE IF NOT EXISTS`` statements.

    Raises:
        StoreError: the file cannot be opened, is not a database, or was made by another version of this program.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        self._threads = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._writing = threading.RLock()
        with self._reporting():
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            self._writer = self._connect()
            _switch_to_wal(self._writer)
            self._writer.execute("PRAGMA synchronous=FULL")
            self._writer.execute(f"PRAGMA cache_size=-{CACHE}")
            self._writer.execute(f"PRAGMA wal_autocheckpoint={PAGES_AHEAD}")
            self._writer.execute("PRAGMA secure_delete=ON")  # who is erased is gone from the file too
            self._make(schema)

    def close(self) -> None:
        """Close every connection. Nothing may be under way."""
        for connection in self._open:
            connection.close()
        self._open.clear()

    @property
    def reader(self) -> sqlite3.Connection:
        """This thread's connection for reading; it sees what is committed."""
        connection: sqlite3.Connection | None = getattr(self._threads, "connection", None)
        if connection is None:
            with self._reporting():
                connection = self._threads.connection = self._connect()
                connection.execute("PRAGMA query_only=ON")
                connection.execute(f"PRAGMA cache_size=-{READER_CACHE}")
        return connection

    def rows(self, sql: str, values: Sequence[object] = ()) -> Iterator[Any]:
        """The rows of a query, streamed."""
        with self._reporting():
            yield from self.reader.execute(sql, values)

    def row(self, sql: str, values: Sequence[object] = ()) -> Any:  # noqa: ANN401 - as sqlite3 has it
        """The first row of a query, or None."""
        with self._reporting():
            return self.reader.execute(sql, values).fetchone()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The writing connection, inside a transaction: durable on leaving, undone by an exception.

        Raises:
            StoreError: the file is out of reach, full, locked for too long, or damaged.
        """
        with self._writing, self._reporting():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def forget_log(self) -> None:
        """Move the log into the file and empty it: what was deleted is gone from both.

        While somebody reads or writes there it stays for another time; SQLite does it by itself before long.

        Raises:
            StoreError: the file is out of reach.
        """
        with self._writing, self._reporting(), suppress(sqlite3.OperationalError):  # busy
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def problems(self, further: Callable[[sqlite3.Connection], list[str]] = lambda _: []) -> list[str]:
        """What SQLite itself finds wrong with the file; where that is nothing, what ``further`` finds."""
        try:
            found = [str(text) for (text,) in self.reader.execute("PRAGMA integrity_check(20)")]
            if found == ["ok"]:
                return further(self.reader)
        except sqlite3.Error as error:
            return [f"{self.path.name}: {error}"]
        return [f"{self.path.name}: {text}" for text in found]

    def _make(self, schema: str) -> None:
        """Make the tables in one transaction; a file that has tables must have them in today's form."""
        (tables,) = self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (form,) = self._writer.execute("PRAGMA user_version").fetchone()
        if tables and form != FORM:
            raise StoreError(
                f"{self.path.name}: made by another version of pixelproof (form {form}, this one reads {FORM})"
            )
        self._writer.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version={FORM}; COMMIT")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        self._open.append(connection)
        return connection

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.path.name}: {type(error).__name__}: {error}") from error


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Two processes that open a new file at once collide here, and SQLite does not wait for this by itself."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def in_chunks(values: Sequence[object], select: str) -> Iterator[tuple[str, Sequence[object]]]:
    """``select`` with its ``{}`` filled by the placeholders of an IN list, in chunks that SQLite takes."""
    for start in range(0, len(values), VARIABLES):
        chunk = values[start : start + VARIABLES]
        yield select.format(",".join("?" * len(chunk))), chunk
