"""The ledger on SQLite: compare and swap, whole batches or nothing, the seal, and what a full or locked disk does."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from core.consent import absorb
from core.errors import HeadConflict, StoreError
from core.ledger import Recording, entry, idempotency_key
from core.model import Action, ConsentEvent, PurposeId, RecipientId
from core.ports import Entry, Head, Open
from core.retention import Kind, Purge
from core.stores import sqlite
from core.stores.database import VARIABLES, Database
from core.stores.embedded import LEDGER_FILE
from core.stores.retention import OldRows
from core.stores.sqlite import SqliteBatch, SqliteStore
from core.verify import verify
from tests.embedded import database_of, ledger_of
from webhooks.assembly import Services

Make = Callable[..., ConsentEvent]
Record = Callable[..., int]
Wait = Callable[..., datetime]

ADA, BOB = RecipientId(b"a" * 16), RecipientId(b"b" * 16)
KEY = idempotency_key("once")


def follow(head: Head | None, event: ConsentEvent) -> tuple[list[Entry], Head]:
    """The entry and the head that come after ``head``."""
    seq, prev = (head.seq + 1, head.hash) if head else (1, b"")
    made = entry(event, seq=seq, prev=prev, now=event.received_at, salt=bytes(16))
    return [made], Head(made.seq, made.hash, absorb(head.standings if head else {}, event))


@pytest.fixture
def store(services: Services) -> SqliteStore:
    """An empty store."""
    return ledger_of(services)


# Chains


def test_an_empty_store_is_sound(store: SqliteStore) -> None:
    """It has no heads, no entries, and the seal of nothing."""
    assert store.head(ADA) is None
    assert store.chain(ADA) == []
    assert (list(store.entries()), list(store.chains()), list(store.all_heads())) == ([], [], [])
    assert store.sealed().size == 0
    assert verify(store).ok


def test_entries_keep_their_order(store: SqliteStore, record: Record) -> None:
    """By position as they were written; by chain in the order of recipients."""
    for recipient in (BOB, ADA, BOB):
        record(Action.GIVEN, recipient=recipient)
    assert [(p, e.recipient, e.seq) for p, e in store.entries()] == [(1, BOB, 1), (2, ADA, 1), (3, BOB, 2)]
    assert [(e.recipient, e.seq) for e in store.chains()] == [(ADA, 1), (BOB, 1), (BOB, 2)]
    assert [(recipient, head.seq) for recipient, head in store.all_heads()] == [(ADA, 1), (BOB, 2)]
    assert store.sealed().size == 3


def test_a_stale_head_is_a_conflict(store: SqliteStore, record: Record, event: Make) -> None:
    """Whoever appends to what is no longer the end of the chain is told so, and nothing is written."""
    record(Action.GIVEN, recipient=ADA)
    stale = store.head(ADA)
    record(Action.REFUSED, recipient=ADA)
    current = store.head(ADA)
    assert stale is not None
    assert current is not None
    for expected in (stale, None, replace(current, hash=b"x" * 32), replace(current, seq=1)):
        entries, head = follow(expected, event(Action.WITHDRAWN, recipient=ADA))
        with pytest.raises(HeadConflict), store.batch() as batch:
            batch.append(ADA, entries, expected=expected, head=head)
    assert store.head(ADA) == current
    entries, head = follow(current, event(Action.WITHDRAWN, recipient=ADA))
    with store.batch() as batch:
        batch.append(ADA, entries, expected=current, head=head)
    assert store.head(ADA) == head
    assert verify(store).ok


def test_a_head_that_is_missing_is_a_conflict(store: SqliteStore, event: Make) -> None:
    """An append that expects a chain where there is none writes nothing."""
    _, head = follow(None, event(Action.GIVEN, recipient=ADA))
    entries, after = follow(head, event(Action.GIVEN, recipient=ADA))
    with pytest.raises(HeadConflict), store.batch() as batch:
        batch.append(ADA, entries, expected=head, head=after)
    assert list(store.entries()) == []


def test_more_recipients_and_keys_than_one_statement_takes(services: Services, store: SqliteStore, event: Make) -> None:
    """Long lists are looked up in chunks, none left out."""
    many = [RecipientId(n.to_bytes(16, "big")) for n in range(2 * VARIABLES + 1)]
    keys = [idempotency_key(str(n)) for n in range(len(many))]
    pairs = zip(many, keys, strict=True)
    recordings = [Recording(event(Action.GIVEN, recipient=recipient), (key,)) for recipient, key in pairs]
    assert services.ledger.record(recordings) == len(many)
    assert set(store.heads(many)) == set(many)
    with store.batch() as batch:
        assert batch.seen([*keys, KEY]) == set(keys)
        assert set(batch.heads([*many, ADA])) == set(many)
    assert services.ledger.record(recordings) == 0


# Batches


def test_an_exception_undoes_the_whole_batch(services: Services, store: SqliteStore, event: Make) -> None:
    """Entries, heads, keys, opens and counters: all of it, and the store goes on as before."""
    before = store.sealed()

    def fail(batch: SqliteBatch) -> None:
        services.ledger.record_in(batch, [Recording(event(Action.GIVEN, recipient=ADA), (KEY,))])
        batch.record_opens([Open("autumn", ADA, services.now(), (PurposeId("performance"),), "hosted")])
        batch.count("campaign:autumn", "opens")
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="the caller's own"), store.batch() as batch:
        fail(batch)
    assert store.head(ADA) is None
    assert (list(store.entries()), store.counters("campaign:autumn")) == ([], {})
    assert store.db.row("SELECT count(*) FROM open") == (0,)
    assert store.sealed() == before
    assert services.ledger.record([Recording(event(Action.GIVEN, recipient=ADA), (KEY,))]) == 1
    assert verify(store).ok


def test_a_savepoint_undoes_its_part_alone(services: Services, store: SqliteStore, event: Make) -> None:
    """What came before and after it in the batch stands, keys and seal included."""

    def add(batch: object, recipient: RecipientId, key: str) -> int:
        assert isinstance(batch, SqliteBatch)
        made = event(Action.GIVEN, recipient=recipient)
        return services.ledger.record_in(batch, [Recording(made, (idempotency_key(key),))])

    with store.batch() as batch:
        with batch.savepoint() as part:
            assert add(part, ADA, "first") == 1
        with suppress(ZeroDivisionError), batch.savepoint() as part:
            assert add(part, BOB, "second") == 1
            assert add(part, ADA, "third") == 1
            assert 1 / 0
        assert batch.seen([idempotency_key(k) for k in ("first", "second", "third")]) == {idempotency_key("first")}
        with batch.savepoint() as part:
            assert add(part, ADA, "fourth") == 1
    assert [(e.recipient, e.seq) for e in store.chains()] == [(ADA, 1), (ADA, 2)]
    assert store.sealed().size == 2
    assert verify(store).ok


def test_a_batch_of_which_nothing_remains_leaves_the_seal(services: Services, store: SqliteStore, event: Make) -> None:
    """When its only part was undone there is nothing to seal."""
    with store.batch() as batch:
        with suppress(ZeroDivisionError), batch.savepoint() as part:
            assert services.ledger.record_in(part, [Recording(event(Action.GIVEN))]) == 1
            assert 1 / 0
        assert not batch.appended
    assert store.db.row(sqlite.SEAL) is None
    assert verify(store).ok


def test_others_see_a_batch_when_it_has_ended(services: Services, store: SqliteStore, event: Make) -> None:
    """Inside it reads its own writes; outside nothing shows before the commit."""
    with store.batch() as batch:
        services.ledger.record_in(batch, [Recording(event(Action.GIVEN, recipient=ADA), (KEY,))])
        assert batch.heads([ADA])[ADA].seq == 1
        assert batch.seen([KEY]) == {KEY}
        assert store.head(ADA) is None
    head = store.head(ADA)
    assert head is not None
    assert head.seq == 1


# The seal


def test_another_key_neither_reads_nor_writes(services: Services, store: SqliteStore, record: Record) -> None:
    """A ledger that was written under another key is refused, with the setting's name."""
    record(Action.GIVEN, recipient=ADA)
    foreign = SqliteStore(database_of(services), b"another key of thirty-two bytes!")
    with pytest.raises(StoreError, match="PIXELPROOF_LEDGER_KEY"):
        foreign.sealed()
    with pytest.raises(StoreError, match="PIXELPROOF_LEDGER_KEY"), foreign.batch():
        pass
    assert not verify(foreign).ok
    assert verify(store).ok


def test_nothing_is_appended_after_the_last_entry_was_deleted(store: SqliteStore, record: Record) -> None:
    """Positions are the tree's: an append over a hole would seal the damage."""
    record(Action.GIVEN, recipient=ADA)
    with store.db.transaction() as connection:
        connection.execute("DELETE FROM seal")
    with pytest.raises(StoreError):
        record(Action.REFUSED, recipient=ADA)
    assert not verify(store).ok


# Opens and counters


def test_opens_are_kept_and_forgotten(store: SqliteStore, wait: Wait, services: Services) -> None:
    """An open holds the purposes that it may serve; what is older than the retention is deleted, to the second."""
    purposes = (PurposeId("performance"), PurposeId("deliverability"))
    first = services.now()
    with store.batch() as batch:
        batch.record_opens([Open("autumn", ADA, first, purposes, "ses", machine=True)])
        batch.record_opens([Open("autumn", BOB, wait(days=1), purposes[:1], "hosted")])
    rows = list(store.db.rows("SELECT campaign, recipient, opened_at, serves, source, machine FROM open ORDER BY id"))
    assert rows[0] == ("autumn", ADA, int(first.timestamp()), "performance deliverability", "ses", 1)
    assert rows[1][3:] == ("performance", "hosted", 0)
    assert store.count_opens() == 2
    retained = OldRows(store.db, "open", "opened_at")
    assert retained.forget(Purge(first, Kind.OPENS, first)) == 0
    assert retained.forget(Purge(first, Kind.OPENS, wait(seconds=0))) == 1
    assert store.db.row("SELECT recipient FROM open") == (BOB,)


def test_counters_add_up(store: SqliteStore) -> None:
    """Each scope on its own."""
    for _ in range(2):
        with store.batch() as batch:
            batch.count("campaign:autumn", "opens", 2)
            batch.count("campaign:winter", "opens")
    assert store.counters("campaign:autumn") == {"opens": 4}
    assert store.counters("campaign:winter") == {"opens": 2}
    assert store.counters("campaign:spring") == {}


# The file


def test_the_writing_connection_is_durable(store: SqliteStore) -> None:
    """WAL, and ``synchronous=FULL`` (2), as the writer itself reports them."""
    with store.db.transaction() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_durability_does_not_hang_on_how_sqlite_was_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds differ in what they do unless told; here it is told."""
    connect = sqlite3.connect

    def careless(*args: Any, **options: Any) -> sqlite3.Connection:  # noqa: ANN401 - as sqlite3 has it
        connection: sqlite3.Connection = connect(*args, **options)
        connection.execute("PRAGMA synchronous=OFF")
        return connection

    monkeypatch.setattr("core.stores.database.sqlite3.connect", careless)
    with (
        closing(Database(tmp_path / "ledger.sqlite3", sqlite.SCHEMA)) as database,
        database.transaction() as connection,
    ):
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_each_thread_has_one_reader(store: SqliteStore) -> None:
    """Its own and always the same."""
    readers: list[sqlite3.Connection] = []
    thread = threading.Thread(target=lambda: readers.extend([store.db.reader, store.db.reader]))
    thread.start()
    thread.join()
    assert readers[0] is readers[1]
    assert store.db.reader is store.db.reader
    assert store.db.reader is not readers[0]


def test_a_closed_store_says_so(services: Services, store: SqliteStore, record: Record) -> None:
    """Every connection is closed, so that all stands in one file; reading and writing are errors of the store."""
    record(Action.GIVEN, recipient=ADA)
    assert store.head(ADA) is not None
    store.db.close()
    assert [file.name for file in services.data.glob(f"{LEDGER_FILE}*")] == [LEDGER_FILE]
    with pytest.raises(StoreError, match="closed"):
        store.head(ADA)
    with pytest.raises(StoreError, match="closed"):
        record(Action.GIVEN, recipient=ADA)


def test_only_the_owner_reads_the_files(services: Services, record: Record) -> None:
    """The database and SQLite's files beside it are 0600, their folder 0700."""
    record(Action.GIVEN)
    files = sorted(services.data.glob(f"{LEDGER_FILE}*"))
    assert [file.name for file in files] == [LEDGER_FILE, f"{LEDGER_FILE}-shm", f"{LEDGER_FILE}-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(services.data.stat().st_mode) == 0o700


def test_readers_cannot_write(store: SqliteStore, record: Record) -> None:
    """There is one writer; a reading connection refuses."""
    record(Action.GIVEN, recipient=ADA)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        store.db.reader.execute("DELETE FROM entry")


def test_what_is_no_database_is_a_store_error(tmp_path: Path) -> None:
    """Rubbish, a missing folder, a folder: the error names the file."""
    (tmp_path / "ledger.sqlite3").write_bytes(b"not a database at all, " * 100)
    for path in (tmp_path / "ledger.sqlite3", tmp_path / "nowhere" / "ledger.sqlite3", tmp_path):
        with pytest.raises(StoreError, match=f"^{path.name}: "):
            Database(path, sqlite.SCHEMA)


def test_a_full_disk_loses_nothing(services: Services, store: SqliteStore, event: Make) -> None:
    """A batch that does not fit is undone whole and reported; with room again it is recorded once."""
    large = [
        Recording(event(Action.GIVEN, recipient=n.to_bytes(16, "big"), evidence="x" * 400), (idempotency_key(str(n)),))
        for n in range(200)
    ]
    (pages,) = store.db._writer.execute("PRAGMA page_count").fetchone()
    store.db._writer.execute(f"PRAGMA max_page_count={pages + 3}")
    with pytest.raises(StoreError, match="full"):
        services.ledger.record(large)
    assert list(store.entries()) == []
    store.db._writer.execute("PRAGMA max_page_count=1000000")
    assert services.ledger.record(large) == len(large)
    assert verify(store).ok


def test_a_lock_held_by_somebody_else_is_reported(store: SqliteStore, record: Record) -> None:
    """After the wait it is an error and nothing was written; once they are done it works."""
    store.db._writer.execute("PRAGMA busy_timeout=20")
    other = sqlite3.connect(store.db.path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            record(Action.GIVEN, keys=(KEY,))
        other.execute("ROLLBACK")
    finally:
        other.close()
    assert record(Action.GIVEN, keys=(KEY,)) == 1


def test_counters_know_what_the_batch_added(store: SqliteStore) -> None:
    """A total counts what is stored and what this batch added, whether or not it is written yet."""
    for total in (2, 7):
        with store.batch() as batch:
            assert batch.count("campaign:autumn", "opens", total - (2 if total == 7 else 0)) == total
    with store.batch() as batch:
        assert [batch.count("campaign:autumn", "opens"), batch.count("campaign:autumn", "opens", 3)] == [8, 11]
    assert store.counters("campaign:autumn") == {"opens": 11}


def test_a_part_that_fails_takes_its_counts_and_entries_along(store: SqliteStore, event: Make) -> None:
    """What comes before and behind it stays, and the tree has no gap."""

    def part(batch: SqliteBatch, recipient: RecipientId, failure: Exception | None = None) -> None:
        with batch.savepoint():
            batch.count("campaign:autumn", "opens")
            entries, head = follow(None, event(Action.GIVEN, recipient=recipient))
            batch.append(recipient, entries, expected=None, head=head)
            if failure:
                raise failure

    with store.batch() as batch:
        part(batch, ADA)
        with pytest.raises(RuntimeError, match="failed"):
            part(batch, BOB, RuntimeError("failed"))
        with pytest.raises(HeadConflict):
            part(batch, ADA)
        part(batch, RecipientId(b"c" * 16))
    assert store.counters("campaign:autumn") == {"opens": 2}
    assert [e.recipient for _, e in store.entries()] == [ADA, RecipientId(b"c" * 16)]
    assert store.head(BOB) is None
    assert verify(store).ok


def test_what_was_appended_is_read_in_the_same_batch(store: SqliteStore, event: Make) -> None:
    """A second append to a chain finds the head that the first one left."""
    entries, head = follow(None, event(Action.GIVEN, recipient=ADA))
    more, after = follow(head, event(Action.WITHDRAWN, recipient=ADA))
    with store.batch() as batch:
        batch.append(ADA, entries, expected=None, head=head)
        assert batch.heads([ADA]) == {ADA: head}
        batch.append(ADA, more, expected=head, head=after)
    assert [e.seq for e in store.chain(ADA)] == [1, 2]
    assert verify(store).ok
