"""A DuckDB database of its own for each reconciliation, gone when it is done.

It holds what partners delivered, addresses among it. What does not fit into memory goes into a folder that only its
owner can look into, and that does not outlive the run.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from core.errors import InputError, StoreError

if TYPE_CHECKING:
    import duckdb

MEMORY = "2GB"
"""What DuckDB keeps in memory before it writes to disk."""
PAGE = 10_000
PREFIX = "run-"


@dataclass(frozen=True, slots=True)
class Workshop:
    """The database and the folder in which it lies."""

    db: duckdb.DuckDBPyConnection
    folder: Path

    def run(self, sql: str, **values: object) -> duckdb.DuckDBPyConnection:
        """Run a statement of ours over tables of ours.

        Raises:
            StoreError: DuckDB could not; its own message may hold what a record holds, and goes no further.
        """
        with reporting():
            return self.db.execute(sql, values or None)

    def number(self, sql: str, **values: object) -> int:
        """The single number that a query gives."""
        row = self.run(sql, **values).fetchone()
        assert row is not None
        return int(row[0])

    def pages(self, sql: str, **values: object) -> Iterator[list[Any]]:
        """The rows of a query, page by page. Other statements may be run meanwhile."""
        with reporting():
            cursor = self.db.cursor()
            cursor.execute(sql, values or None)
            while rows := cursor.fetchmany(PAGE):
                yield rows

    def fill(self, table: str, columns: str, rows: Iterable[Sequence[object]]) -> None:
        """Make a table of these rows: by way of a file, since DuckDB takes single rows slowly. NULL is None."""
        file = self.folder / f"{table}.csv"
        with file.open("w", encoding="utf-8", newline="") as text:
            csv.writer(text).writerows(rows)
        names = [column.split(maxsplit=1) for column in columns.split(", ")]
        types = ", ".join(f"'{name}': '{type_}'" for name, type_ in names)
        self.run(f"CREATE OR REPLACE TABLE {table}({columns})")
        if file.stat().st_size:
            self.run(
                f"INSERT INTO {table} FROM read_csv({quoted(file)}, header=false, auto_detect=false, delim=',',"
                f" quote='\"', escape='\"', new_line='\\r\\n', max_line_size=16777216, columns={{{types}}})"
            )
        file.unlink()


@contextmanager
def workshop(parent: Path) -> Iterator[Workshop]:
    """A database in a new folder below ``parent``; what earlier runs that were killed left there is removed."""
    import duckdb

    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _clear(parent)
        folder = Path(mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
    except OSError as error:
        raise StoreError(f"{parent.name}: {error.strerror}") from None
    try:
        with reporting():
            db = duckdb.connect(
                ":memory:",
                config={
                    "memory_limit": MEMORY,
                    "temp_directory": str(folder),
                    "autoinstall_known_extensions": "false",
                    "autoload_known_extensions": "false",
                    "preserve_insertion_order": "true",
                },
            )
        try:
            db.execute("SET enable_progress_bar = false")  # stdout is for the result alone
            yield Workshop(db, folder)
        finally:
            db.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def reporting() -> Iterator[None]:
    """Turn DuckDB's errors into ours, without its words: they may quote a row."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException:
        raise StoreError("reconciliation: out of memory or disk space") from None
    except duckdb.Error as error:
        raise StoreError(f"reconciliation: {type(error).__name__}") from None


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn DuckDB's errors over somebody's file into InputError, without its words."""
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.InvalidInputException, duckdb.DataError, duckdb.ProgrammingError):
        raise InputError(what) from None
    except duckdb.Error as error:
        raise StoreError(f"{what}: {type(error).__name__}") from None


def quoted(value: object) -> str:
    """A text as SQL writes it."""
    return "'" + str(value).replace("'", "''") + "'"


def _clear(parent: Path) -> None:
    """Remove the folders of runs whose process is gone."""
    for left in parent.glob(f"{PREFIX}*"):
        number = left.name.removeprefix(PREFIX).partition("-")[0]
        if number.isdigit() and not _alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
