"""Crashes, failing commits and several processes at once: what was acknowledged is there, and nothing twice."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from core.errors import StoreError
from core.ledger import idempotency_key, parse
from core.model import Action, RecipientId
from core.stores import mailings, records, sqlite
from core.stores.database import FORM, Database
from core.stores.sqlite import SqliteStore
from core.verify import verify
from tests.embedded import ledger_of
from webhooks.assembly import Services

Record = Callable[..., int]

ROOT = Path(__file__).parents[2]
ADA = RecipientId(b"a" * 16)
KEY = idempotency_key("once")
SEAL_KEY = b"k" * 32

APPENDER = """
import sys
from datetime import UTC, datetime
from pathlib import Path

from core.ledger import Ledger, Recording, idempotency_key
from core.model import Action, ConsentEvent, PurposeId, RecipientId
from core.stores import mailings, records, sqlite
from core.stores.database import FORM, Database

folder, name, calls = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()

def event(evidence, n):
    now = datetime.now(UTC)
    recipient = RecipientId(bytes([n % 3]) * 16)
    return ConsentEvent(recipient, (PurposeId("performance"),), Action.GIVEN, now, now, name, evidence=evidence)

for file in sorted(Path(folder).glob("*.wanted")):
    database = Database(file.with_suffix(".sqlite3"), sqlite.SCHEMA + records.SCHEMA + mailings.SCHEMA)
    ledger = Ledger(sqlite.SqliteStore(database, b"k" * 32), lambda: datetime.now(UTC))
    for call in range(int(calls)):
        said = [f"{name}:{call}:{part}" for part in range(5)]
        ledger.record([Recording(event(s, n), (idempotency_key(s),)) for n, s in enumerate(said)])
        print(file.stem, *said, flush=True)
"""


def appender(folder: Path, name: str, calls: int) -> subprocess.Popen[str]:
    """A process that waits for a line and then appends to every ``*.wanted`` database, telling what is durable."""
    command = [sys.executable, "-c", APPENDER, str(folder), name, str(calls)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(  # noqa: S603 - this very interpreter
        command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    """Let it begin."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def acknowledged(output: str) -> set[str]:
    """Everything that the process was told is durable; a last line that was cut off does not count."""
    lines = output.split("\n")[:-1]
    return {said for line in lines for said in line.split()[1:]}


@contextmanager
def opened(path: Path) -> Iterator[SqliteStore]:
    """The store in a file."""
    database = Database(path, sqlite.SCHEMA + records.SCHEMA + mailings.SCHEMA)
    try:
        yield SqliteStore(database, SEAL_KEY)
    finally:
        database.close()


def recorded(store: SqliteStore) -> list[str]:
    """What the entries hold, in the order of positions."""
    return [parse(entry.body).evidence or "" for _, entry in store.entries()]


def test_whatever_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """SIGKILL at any moment: the ledger is sound, no call is half there, and every acknowledged one is there."""
    (tmp_path / "ledger.wanted").touch()
    told: set[str] = set()
    for round_, seconds in enumerate((0.01, 0.04, 0.09, 0.15, 0.23)):
        process = appender(tmp_path, f"round-{round_}", 100_000)
        go(process)
        time.sleep(seconds)
        process.kill()
        output, errors = process.communicate()
        assert errors == ""
        told |= acknowledged(output)
        with opened(tmp_path / "ledger.sqlite3") as store:
            found = verify(store)
            assert found.problems == []
            there = recorded(store)
        assert len(there) == len(set(there))
        assert told <= set(there)
        assert len(there) % 5 == 0
    assert len(told) > 50


def test_processes_open_new_databases_at_once_and_share_them(tmp_path: Path) -> None:
    """Three at a time make eight new files and append to the same chains: all is there, once, in sound chains."""
    names, files, calls = ("one", "two", "three"), [f"ledger-{n}" for n in range(8)], 4
    for file in files:
        (tmp_path / f"{file}.wanted").touch()
    processes = [appender(tmp_path, name, calls) for name in names]
    for process in processes:
        go(process)
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    expected = {f"{name}:{call}:{part}" for name in names for call in range(calls) for part in range(5)}
    for file in files:
        with opened(tmp_path / f"{file}.sqlite3") as store:
            assert verify(store).problems == []
            assert sorted(recorded(store)) == sorted(expected)


def busy(path: Path) -> sqlite3.Connection:
    """Another process that is just making this new database."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode=DELETE")
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE other(x)")
    other.execute(f"PRAGMA user_version={FORM}")
    return other


def test_a_file_of_another_version_is_not_touched(tmp_path: Path) -> None:
    """Tables of another form would be read wrongly: an error says so, and nothing is added to them."""
    path = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE entry(x)")
    with pytest.raises(StoreError, match="another version"), opened(path):
        pass
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("entry",)]


def test_a_database_that_somebody_is_making_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself does not wait when the journal's mode is to change."""
    path = tmp_path / "ledger.sqlite3"
    with closing(busy(path)) as other:
        done = threading.Timer(0.3, lambda: other.execute("COMMIT"))
        done.start()
        with opened(path) as store, store.db.transaction() as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        done.join()


def test_a_database_that_stays_locked_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time-out it is an error of the store."""
    monkeypatch.setattr("core.stores.database.BUSY_TIMEOUT", 0.2)
    path = tmp_path / "ledger.sqlite3"
    with closing(busy(path)), pytest.raises(StoreError, match="locked"), opened(path):
        pass


class Faulty:
    """The writing connection, whose next COMMIT reports failure although it was done, or without having been."""

    def __init__(self, connection: sqlite3.Connection, *, done: bool) -> None:
        self._connection = connection
        self._done = done
        self._armed = True

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Pass it on; fail the first COMMIT."""
        if sql != "COMMIT" or not self._armed:
            return self._connection.execute(sql, *values)  # type: ignore[arg-type]
        self._armed = False
        if self._done:
            self._connection.execute(sql)
        raise sqlite3.OperationalError("disk I/O error")

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


@pytest.mark.parametrize("done", [False, True])
def test_a_failing_commit_may_be_repeated(
    services: Services, record: Record, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    """Whether or not it was done, the caller hears of a failure, and repeating the record leaves one entry."""
    store = ledger_of(services)
    monkeypatch.setattr(store.db, "_writer", Faulty(store.db._writer, done=done))
    with pytest.raises(StoreError, match="disk I/O error"):
        record(Action.WITHDRAWN, recipient=ADA, keys=(KEY,))
    assert len(store.chain(ADA)) == int(done)
    assert record(Action.WITHDRAWN, recipient=ADA, keys=(KEY,)) == int(not done)
    assert len(store.chain(ADA)) == 1
    assert store.sealed().size == 1
    assert verify(store).problems == []


@pytest.mark.parametrize("done", [False, True])
def test_an_undated_withdrawal_survives_a_failing_commit(
    services: Services, record: Record, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    """The one that may stand again is not doubled either: nobody agreed in between."""
    store = ledger_of(services)
    record(Action.GIVEN, recipient=ADA)
    monkeypatch.setattr(store.db, "_writer", Faulty(store.db._writer, done=done))
    undated = {"recipient": ADA, "keys": (KEY,), "occurred_at": None}
    with pytest.raises(StoreError):
        record(Action.WITHDRAWN, **undated)
    assert record(Action.WITHDRAWN, **undated) == int(not done)
    assert [parse(e.body).action for e in store.chain(ADA)] == ["given", "withdrawn"]
