"""Verification: whatever is altered, removed, added or moved in a ledger is reported, and nothing makes it fail."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.consent import fold
from core.errors import StoreError
from core.ledger import Ledger, Recording, entry, event_of, parse
from core.merkle import Frontier, leaf_hash
from core.model import Action, ConsentEvent, NoticeRef, PurposeId, RecipientId
from core.stores import sqlite
from core.stores.database import Database
from core.stores.sqlite import SqliteStore
from core.verify import MOST_PROBLEMS, Verification, verify

SEAL_KEY = b"k" * 32
SALT = b"s" * 16
START = datetime(2026, 11, 2, 9, 0, 0, 250_000, tzinfo=UTC)
ADA, BOB, CAT, EVE = (RecipientId(bytes([n]) * 16) for n in b"abce")
ORDER = (ADA, BOB, ADA, CAT, ADA, BOB, CAT)
ACTIONS = (Action.GIVEN, Action.WITHDRAWN, Action.REFUSED)


@dataclass
class Sound:
    """A sound ledger that a test may alter: each time anew."""

    raw: bytes
    path: Path

    @contextmanager
    def copy(self, *statements: tuple[str, tuple[Any, ...]]) -> Iterator[SqliteStore]:
        """A store over a fresh copy in which somebody with access to the file ran these statements."""
        self.path.write_bytes(self.raw)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(*statement)
        with closing(Database(self.path, sqlite.SCHEMA)) as database:
            yield SqliteStore(database, SEAL_KEY)

    def after(self, *statements: tuple[str, tuple[Any, ...]]) -> Verification:
        """What verification says after these statements."""
        with self.copy(*statements) as store:
            return verify(store)


def events() -> Iterator[ConsentEvent]:
    """Seven decisions of three people."""
    for n, recipient in enumerate(ORDER):
        at = START + timedelta(minutes=n)
        notice = NoticeRef("2026-11", "fr", "ab" * 32) if n % 2 else None
        action = ACTIONS[n % len(ACTIONS)]
        yield ConsentEvent(recipient, (PurposeId("performance"),), action, at, at, "form", notice, evidence=f"row {n}")


def append(store: SqliteStore) -> None:
    """Record the seven decisions."""
    for event in events():
        Ledger(store, lambda: START).record([Recording(event)])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """A ledger of seven entries, closed, so that all of it stands in one file."""
    path = tmp_path_factory.mktemp("verify") / "ledger.sqlite3"
    with closing(Database(path, sqlite.SCHEMA)) as database:
        append(SqliteStore(database, SEAL_KEY))
    return Sound(path.read_bytes(), path)


def test_a_sound_ledger_is_found_sound(sound: Sound) -> None:
    """Seven entries, three people, no problem."""
    found = sound.after()
    assert (found.ok, found.problems, found.entries, found.recipients) == (True, [], len(ORDER), 3)


# Bytes


def test_every_byte_of_an_entry_counts(sound: Sound) -> None:
    """Each bit of each byte of one entry, and each byte replaced by a digit, a quote or a blank."""
    with sound.copy() as store, closing(sqlite3.connect(sound.path, isolation_level=None)) as thief:
        thief.execute("PRAGMA synchronous=OFF")
        (body,) = thief.execute("SELECT body FROM entry WHERE position=6").fetchone()
        for place, byte in enumerate(body):
            for other in {*(byte ^ 1 << bit for bit in range(8)), *b'0" '} - {byte}:
                altered = body[:place] + bytes([other]) + body[place + 1 :]
                thief.execute("UPDATE entry SET body=? WHERE position=6", (altered,))
                found = verify(store)
                assert any("position 6" in problem for problem in found.problems), altered
        thief.execute("UPDATE entry SET body=? WHERE position=6", (body,))
        assert verify(store).ok


@given(position=st.integers(1, len(ORDER)), place=st.integers(0, 10_000), other=st.integers(0, 255))
def test_any_byte_of_any_entry_counts(sound: Sound, position: int, place: int, other: int) -> None:
    """Whichever entry it is in and whatever it becomes."""
    with sound.copy() as store, closing(sqlite3.connect(sound.path, isolation_level=None)) as thief:
        (body,) = thief.execute("SELECT body FROM entry WHERE position=?", (position,)).fetchone()
        place %= len(body)
        altered = body[:place] + bytes([other]) + body[place + 1 :]
        thief.execute("UPDATE entry SET body=? WHERE position=?", (altered, position))
        assert verify(store).ok is (altered == body)


def test_flipped_bytes_of_an_entry_in_the_raw_file_are_reported(sound: Sound, tmp_path: Path) -> None:
    """What a failing disk does to an entry is found when it is verified, and is no exception."""
    path = tmp_path / "ledger.sqlite3"
    with sound.copy() as store:
        bodies = [e.body for _, e in store.entries()]
    for body in bodies:
        start = sound.raw.index(body)
        for place in range(start, start + len(body), 29):
            raw = bytearray(sound.raw)
            raw[place] ^= 0x08
            path.write_bytes(raw)
            with closing(Database(path, sqlite.SCHEMA)) as database:
                found = verify(SqliteStore(database, SEAL_KEY))
            assert not found.ok
            assert found.problems


def test_flipped_bytes_of_what_sqlite_says_about_an_entry_are_reported(sound: Sound, tmp_path: Path) -> None:
    """Record headers, where a bit turns a blob into text or nothing, positions, hashes: no exception either."""
    path = tmp_path / "ledger.sqlite3"
    with sound.copy() as store:
        bodies = [e.body for _, e in store.entries()]
    # Before a body stand the record's size, position, column types, recipient, number and hash: 58 bytes.
    starts = [sound.raw.index(body) for body in bodies]
    for place in (place for start in starts for place in range(start - 58, start)):
        raw = bytearray(sound.raw)
        raw[place] ^= 0x01
        path.write_bytes(raw)
        with closing(Database(path, sqlite.SCHEMA)) as database:
            assert not verify(SqliteStore(database, SEAL_KEY)).ok, place


# What somebody with access to the file may do


DROPPED = "DELETE FROM entry WHERE recipient=?"
MOVED = "UPDATE entry SET position=? WHERE position=?"


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        ([("UPDATE entry SET hash=zeroblob(32) WHERE position=3", ())], "position 3: the entry does not have the hash"),
        ([(MOVED, (99, 2)), (MOVED, (2, 3)), (MOVED, (3, 99))], "put in another order"),
        ([(MOVED, (99, 2)), (MOVED, (2, 4)), (MOVED, (4, 99))], "put in another order"),
        ([(MOVED, (-1, 1))], "position 1: missing"),
        ([("DELETE FROM entry WHERE position=7", ())], "the seal covers 7 entries, the store holds 6"),
        ([("DELETE FROM entry WHERE position=1", ())], "position 1: missing"),
        ([(DROPPED, (BOB,))], f"recipient {BOB.hex()}: its entries were removed"),
        ([(DROPPED, (CAT,))], f"recipient {CAT.hex()}: its entries were removed"),
        ([(DROPPED, (CAT,)), ("DELETE FROM head WHERE recipient=?", (CAT,))], "the seal covers 7 entries"),
        ([("DELETE FROM entry", ()), ("DELETE FROM head", ())], "the seal covers 7 entries, the store holds 0"),
        ([("DELETE FROM head WHERE recipient=?", (ADA,))], f"recipient {ADA.hex()}: has entries but no head"),
        ([("DELETE FROM head", ())], f"recipient {CAT.hex()}: has entries but no head"),
        ([("UPDATE head SET standings=(SELECT standings FROM head LIMIT 1)", ())], "not what its entries amount to"),
        ([("UPDATE head SET standings=x'80' WHERE recipient=?", (ADA,))], "not what its entries amount to"),
        ([("UPDATE head SET standings=x'c1'", ())], "stored state is damaged"),
        ([("UPDATE head SET standings=?", (b"\x91" * 100_000,))], "stored state is damaged"),
        ([("UPDATE head SET seq=2 WHERE recipient=?", (ADA,))], "does not belong to its last entry"),
        ([("UPDATE head SET hash=zeroblob(32) WHERE recipient=?", (ADA,))], "does not belong to its last entry"),
        (
            [("INSERT INTO head SELECT ?, seq, last, hash, standings FROM head LIMIT 1", (EVE,))],
            "its entries were removed",
        ),
        ([("UPDATE entry SET recipient=? WHERE position=2", (EVE,))], "is not in its place"),
        ([("UPDATE entry SET seq=9 WHERE position=5", ())], "is missing, or is not in its place"),
        ([("UPDATE entry SET before=0 WHERE position=7", ())], "position 7: does not name the entry before it"),
        ([("UPDATE entry SET before=7 WHERE position=7", ())], "position 7: does not name the entry before it"),
        ([("UPDATE head SET last=1", ())], "heads do not name the last entry of their chain"),
        ([("DELETE FROM seal", ())], "the seal covers 0 entries, the store holds 7"),
        ([("UPDATE seal SET mac=zeroblob(32)", ())], "the ledger's seal does not fit"),
        ([("UPDATE seal SET peaks=zeroblob(96)", ())], "the ledger's seal does not fit"),
        ([("UPDATE seal SET peaks=zeroblob(95)", ())], "the ledger's seal is damaged"),
        ([("UPDATE seal SET size=6", ())], "the ledger's seal is damaged"),
        ([("UPDATE seal SET size=-7", ())], "the ledger's seal is damaged"),
        ([("UPDATE seal SET size=11", ())], "the ledger's seal does not fit"),
    ],
)
def test_tampering_is_reported(sound: Sound, statements: list[tuple[str, tuple[Any, ...]]], problem: str) -> None:
    """Each way to touch the tables, with what is said about it."""
    found = sound.after(*statements)
    assert not found.ok
    assert any(problem in said for said in found.problems), found.problems


def seal_of(store: SqliteStore, key: bytes) -> tuple[int, bytes, bytes]:
    """The seal that fits the entries as they are now, under a key."""
    tree = Frontier()
    for _, stored in store.entries():
        tree.push(leaf_hash(stored.body))
    return tree.size, tree.to_bytes(), SqliteStore(store.db, key)._mac(tree)


def test_an_entry_from_outside_is_reported(sound: Sound) -> None:
    """Well made, in its right place in chain and order, with a head to match: the seal tells."""
    with sound.copy() as store:
        head = store.head(BOB)
        assert head is not None
        event = ConsentEvent(BOB, (PurposeId("performance"),), Action.GIVEN, START + timedelta(days=1))
        forged = entry(event, seq=head.seq + 1, prev=head.hash, now=START, salt=SALT)
        standings = fold([*(event_of(parse(e.body)) for e in store.chain(BOB)), event])
        with store.db.transaction() as connection:
            values = (8, forged.recipient, forged.seq, store.position(BOB, head.seq), forged.hash, forged.body)
            connection.execute("INSERT INTO entry VALUES (?,?,?,?,?,?)", values)
            connection.execute(
                "UPDATE head SET last=8, seq=?, hash=?, standings=? WHERE recipient=?",
                (forged.seq, forged.hash, sqlite._encode_standings(standings), BOB),
            )
        found = verify(store)
        assert found.problems == ["the seal covers 7 entries, the store holds 8: some were removed or added"]
        with store.db.transaction() as connection:
            connection.execute("UPDATE seal SET size=?, peaks=?, mac=?", seal_of(store, b"a guessed key"))
        assert any("seal does not fit" in said for said in verify(store).problems)
        with store.db.transaction() as connection:
            connection.execute("UPDATE seal SET size=?, peaks=?, mac=?", seal_of(store, SEAL_KEY))
        assert verify(store).ok


def test_a_history_that_was_written_anew_is_reported(sound: Sound) -> None:
    """Last entry, hash and head replaced so that all of it fits together: the seal alone tells."""
    with sound.copy() as store:
        *before, last = store.chain(CAT)
        event = event_of(parse(last.body))
        forged = entry(
            ConsentEvent(CAT, event.purposes, Action.GIVEN, event.received_at, event.occurred_at),
            seq=last.seq,
            prev=before[-1].hash,
            now=START,
            salt=SALT,
        )
        standings = fold(event_of(parse(e.body)) for e in [*before, forged])
        with store.db.transaction() as connection:
            values = (forged.hash, forged.body, CAT, last.seq)
            connection.execute("UPDATE entry SET hash=?, body=? WHERE recipient=? AND seq=?", values)
            head = (forged.hash, sqlite._encode_standings(standings), CAT)
            connection.execute("UPDATE head SET hash=?, standings=? WHERE recipient=?", head)
        assert verify(store).problems == [
            "the seal is not over these entries: some were altered, or put in another order"
        ]


@pytest.mark.parametrize(
    "alter", [lambda n: ("body", str(n)), lambda _: ("body", None), lambda n: ("hash", n), lambda n: ("seq", b"%d" % n)]
)
def test_values_of_another_type_are_damage(sound: Sound, alter: Callable[[int], tuple[str, object]]) -> None:
    """Text, numbers or nothing where bytes belong: a store that says so, and no other error."""
    column, value = alter(3)
    loose = "CREATE TABLE entry(position INTEGER PRIMARY KEY, recipient, seq, before, hash, body)"
    found = sound.after(
        ("ALTER TABLE entry RENAME TO was", ()),
        (loose, ()),
        ("INSERT INTO entry SELECT * FROM was", ()),
        (f"UPDATE entry SET {column}=? WHERE position=3", (value,)),  # noqa: S608 - a column's name
    )
    assert any("a stored value is damaged" in said for said in found.problems)
    assert not found.ok


def test_an_entry_that_does_not_follow_is_reported(sound: Sound) -> None:
    """The middle of a history written anew, with a hash to match: what comes behind it names another entry."""
    with sound.copy() as store:
        first, second, _ = store.chain(ADA)
        event = event_of(parse(second.body))
        moved = ConsentEvent(ADA, event.purposes, event.action, event.received_at, event.occurred_at, "another form")
        forged = entry(moved, seq=2, prev=first.hash, now=START, salt=SALT)
        with store.db.transaction() as connection:
            values = (forged.hash, forged.body, second.hash)
            connection.execute("UPDATE entry SET hash=?, body=? WHERE hash=?", values)
        assert f"recipient {ADA.hex()}, entry 3: does not follow from the entry before" in verify(store).problems


@pytest.mark.parametrize("body", [b"{}", b"", b"null", b"[" * 100_000])
def test_what_is_no_entry_is_reported_in_its_chain(sound: Sound, body: bytes) -> None:
    """Although its hash fits."""
    found = sound.after(("UPDATE entry SET body=?, hash=? WHERE position=3", (body, leaf_hash(body))))
    expected = f"recipient {ADA.hex()}, entry 2: a ledger entry is not of the form that this version writes"
    assert expected in found.problems


def test_what_sqlite_finds_is_reported(sound: Sound) -> None:
    """A page that no entry lies on is damaged all the same: duplicates would be taken for new events."""
    with sound.copy() as store:
        (page,) = store.db.row("SELECT rootpage FROM sqlite_schema WHERE name='idempotency'")
    raw = bytearray(sound.raw)
    raw[(page - 1) * 4096] = 0xFF
    sound.path.write_bytes(raw)
    with closing(Database(sound.path, sqlite.SCHEMA)) as database:
        found = verify(SqliteStore(database, SEAL_KEY))
    assert found.problems
    assert all(problem.startswith("ledger.sqlite3: ") for problem in found.problems)


def test_a_ruined_ledger_is_reported_briefly(sound: Sound) -> None:
    """No more than a hundred problems are listed, and they name no person but by pseudonym."""
    with sound.copy() as store:
        for _ in range(MOST_PROBLEMS // len(ORDER) + 1):
            append(store)
        with store.db.transaction() as connection:
            connection.execute("UPDATE entry SET hash=zeroblob(32)")
        found = verify(store)
    assert len(found.problems) == MOST_PROBLEMS


def test_a_table_that_is_gone_is_reported(sound: Sound) -> None:
    """Dropped tables are made anew, empty, and their contents missed; a folder in the file's place is an error."""
    for table in ("entry", "head", "seal"):
        assert not sound.after((f"DROP TABLE {table}", ())).ok
    with pytest.raises(StoreError):
        Database(sound.path.parent, sqlite.SCHEMA)
