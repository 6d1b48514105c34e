"""Chains on SQLite: each entry names the one before it, and what names another is found out and harms no erasure."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.model import Action, RecipientId
from core.stores.sqlite import SqliteStore
from core.verify import verify
from tests.embedded import ledger_of
from webhooks.assembly import Services

Record = Callable[..., int]

ADA, BOB = RecipientId(b"a" * 16), RecipientId(b"b" * 16)


@pytest.fixture
def store(services: Services) -> SqliteStore:
    """An empty store."""
    return ledger_of(services)


def test_a_chain_is_found_backwards_among_others(store: SqliteStore, record: Record) -> None:
    """Entries name the one before them in their chain, whatever stands between; each has its position."""
    order = [ADA, BOB, ADA, ADA, BOB]
    for person in order:
        record(Action.GIVEN, recipient=person)
    for person in (ADA, BOB):
        assert [entry.seq for entry in store.chain(person)] == [*range(1, order.count(person) + 1)]
        places = [store.position(person, seq) for seq in range(1, order.count(person) + 2)]
        assert places == [*(n for n, whose in enumerate(order, 1) if whose == person), None]
    before = [before for (before,) in store.db.rows("SELECT before FROM entry ORDER BY position")]
    assert before == [0, 0, 1, 3, 2]
    assert [(e.recipient, e.seq) for e in store.chains()] == [(ADA, 1), (ADA, 2), (ADA, 3), (BOB, 1), (BOB, 2)]
    assert verify(store).ok


@pytest.mark.parametrize("wrong", ["before=0", "before=4", "before=99", "before=-1", "before=2"])
def test_an_erasure_misses_no_entry_of_a_broken_chain(store: SqliteStore, record: Record, wrong: str) -> None:
    """An entry that names another than the one before it: everything of the person goes, and nothing of others."""
    for person in (ADA, BOB, ADA, ADA):
        record(Action.GIVEN, recipient=person)
    with store.db.transaction() as connection:
        connection.execute(f"UPDATE entry SET {wrong} WHERE position=4")  # noqa: S608 - our own words
    assert any("position 4: does not name the entry before it" in problem for problem in verify(store).problems)
    assert len(store.chain(ADA)) < len([ADA, ADA, ADA])
    assert store.erase_bodies(ADA) == len([ADA, ADA, ADA])
    assert [bool(entry.body) for _, entry in store.entries()] == [False, True, False, False]


def test_an_erasure_reaches_nobody_else(store: SqliteStore, record: Record) -> None:
    """Of a whole chain exactly its own entries; of somebody without one, nothing."""
    for person in (ADA, BOB, ADA):
        record(Action.GIVEN, recipient=person)
    assert store.erase_bodies(RecipientId(b"c" * 16)) == 0
    assert store.erase_bodies(ADA) == len([ADA, ADA])
    assert [bool(entry.body) for _, entry in store.entries()] == [False, True, False]
    assert verify(store).ok
