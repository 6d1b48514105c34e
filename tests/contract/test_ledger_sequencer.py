"""How entries on DynamoDB come by their positions: by several at once, after a crash, behind an index that lags."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest

from core.errors import StoreError
from core.model import Action, RecipientId
from core.stores.dynamodb.ledger import DynamoStore
from core.stores.dynamodb.seal import Seal
from core.stores.dynamodb.sequencer import Sequencer
from core.stores.dynamodb.table import Index, Item, Table
from core.verify import verify
from tests.aws_ground import Faults, Ground, Servers
from tests.contract.ledger_bench import ADA, BOB, SEAL_KEY, DynamoBench, at_once, dynamo

TOGETHER = 20
"""Placed by one transaction here."""
PEOPLE = [RecipientId(bytes([n * 21 % 256]) * 16) for n in range(11)]


@pytest.fixture
def kept(dynamodb: Ground, monkeypatch: pytest.MonkeyPatch) -> DynamoBench:
    """An empty ledger on each kind of server in turn, in which little is placed at once."""
    monkeypatch.setattr("core.stores.dynamodb.sequencer.TOGETHER", TOGETHER)
    return dynamo(dynamodb)


def talk(kept: DynamoBench, many: int) -> None:
    """So many decisions of a few people, each in a batch of its own."""
    for n in range(many):
        kept.clock.wait(seconds=1)
        kept.say(Action.GIVEN, PEOPLE[n % len(PEOPLE)])


def order(kept: DynamoBench) -> list[tuple[RecipientId, int]]:
    """Whose entries stand at the positions, without giving any new ones."""
    return [(row.recipient, row.seq) for _, row in kept.store._rows(0, kept.store.sealed().size)]


def sound(kept: DynamoBench, many: int) -> None:
    """There are so many entries, each chain in order, and the seal is over them."""
    placed = order(kept)
    assert len(placed) == len(set(placed)) == many
    for person in {recipient for recipient, _ in placed}:
        numbers = [seq for recipient, seq in placed if recipient == person]
        assert numbers == [*range(1, len(numbers) + 1)]
    found = verify(kept.store)
    assert (found.problems, found.entries) == ([], many)


def test_positions_are_given_in_the_order_of_time(kept: DynamoBench) -> None:
    """More than one transaction places, in the order in which they were recorded."""
    talk(kept, TOGETHER + 13)
    assert kept.store.sealed().size == 0
    assert kept.store.size() == TOGETHER + 13
    assert kept.store.sequence() == 0
    assert order(kept) == [(PEOPLE[n % 11], n // 11 + 1) for n in range(TOGETHER + 13)]
    sound(kept, TOGETHER + 13)


def test_several_sequencers_at_once_do_no_harm(kept: DynamoBench, servers: Servers) -> None:
    """While others append: every entry has one position in the end."""
    others = [dynamo(kept.ground._replace(client=servers.client(kept.ground.url))) for _ in range(3)]

    def sequence(store: DynamoStore) -> None:
        for _ in range(4):
            store.sequence()

    talk(kept, 40)
    works: list[Callable[[], object]] = [lambda each=each: sequence(each.store) for each in others]  # type: ignore[misc]
    assert at_once(*works, lambda: talk(kept, 40)) == [None] * 4
    assert kept.store.size() == 80
    sound(kept, 80)


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_crash_leaves_nothing_half_done(kept: DynamoBench, fault: str) -> None:
    """Whether or not the transaction was carried out: the next run places what is left, and nothing twice."""
    talk(kept, 2 * TOGETHER)
    Faults(kept.ground.client, "TransactWriteItems", None, fault)
    with pytest.raises(StoreError, match="ReadTimeoutError"):
        kept.store.sequence()
    assert kept.store.sealed().size == (2 * TOGETHER if fault == "after" else TOGETHER)
    assert kept.store.sequence() == (0 if fault == "after" else TOGETHER)
    sound(kept, 2 * TOGETHER)


def test_somebody_else_may_place_in_between(kept: DynamoBench) -> None:
    """Just before the transaction leaves, another one has done the same: it is found out and looked at again."""
    talk(kept, 20)
    other = dynamo(kept.ground._replace(client=kept.ground.client))
    Faults(kept.ground.client, "TransactWriteItems", other.store.sequence)
    assert kept.store.sequence() == 0
    sound(kept, 20)


class Lagging(Table):
    """A table whose index shows what it is told to, whatever the table holds."""

    def __init__(self, table: Table, shown: Collection[tuple[str, str]] = (), stale: Collection[Item] = ()) -> None:
        super().__init__(table.client, table.name)
        self._shown, self._stale = shown, stale

    def query(self, pk: str, *, index: Index | None = None, **asked: Any) -> Iterator[Item]:  # noqa: ANN401 - as there
        """As the table does, but by the index only what it shows."""
        if index is None:
            return super().query(pk, **asked)
        stale = [item for item in self._stale if item["pending"] == pk]
        found = [item for item in super().query(pk, index=index) if (item["pk"], item["sk"]) in self._shown]
        return iter(sorted(found + stale, key=lambda item: str(item["at"])))


def lagging(kept: DynamoBench, **shown: Any) -> Sequencer:  # noqa: ANN401 - see Lagging
    """A sequencer behind an index that lags."""
    table = Lagging(kept.store.state, **shown)
    return Sequencer(kept.store.ledger, table, Seal(table, SEAL_KEY))


def marker(person: RecipientId, seq: int) -> tuple[str, str]:
    """The key of a marker."""
    return f"person#{person.hex()}", f"entry#{seq:010}"


def test_a_chain_is_placed_without_a_gap_whatever_the_index_shows(kept: DynamoBench) -> None:
    """It shows the third entry and not yet the two before: these come first all the same."""
    for person in (ADA, ADA, BOB, ADA, BOB):
        kept.clock.wait(seconds=1)
        kept.say(Action.GIVEN, person)
    assert lagging(kept, shown=[marker(ADA, 3)]).run() == 3
    assert order(kept) == [(ADA, 1), (ADA, 2), (ADA, 3)]
    assert lagging(kept, shown=[marker(BOB, 2), marker(BOB, 1)]).run() == 2
    sound(kept, 5)


def test_what_the_index_shows_too_long_is_not_placed_twice(kept: DynamoBench) -> None:
    """It may still show what has a position by now, or what is no longer there at all."""
    talk(kept, 5)
    gone: Item = {"pk": marker(ADA, 7)[0], "sk": marker(ADA, 7)[1], "pending": "pending#6", "at": "2026"}
    stale = [item for shard in "0123456789abcdef" for item in kept.store.state.query(f"pending#{shard}", index=INDEX)]
    assert len(stale) == 5
    assert kept.store.sequence() == 5
    talk(kept, 1)
    assert lagging(kept, stale=[*stale, gone]).run() == 0
    assert kept.store.sequence() == 1
    sound(kept, 6)


INDEX = Index("pending", "pending", "at")


def test_a_position_is_given_when_it_is_asked_for(kept: DynamoBench) -> None:
    """Even while the index does not show the entry: a receipt must not wait for it."""
    kept.say(Action.GIVEN, BOB)
    for _ in range(2):
        kept.say(Action.GIVEN, ADA)
    assert (kept.store.position(ADA, 2), kept.store.position(ADA, 1)) == (2, 1)
    assert (kept.store.position(ADA, 3), kept.store.position(BOB, 1)) == (None, 3)
    sound(kept, 3)


def test_no_position_is_given_under_a_seal_that_is_not_genuine(kept: DynamoBench) -> None:
    """Neither by another key nor after it was altered; what waits goes on waiting."""
    talk(kept, 3)
    kept.store.sequence()
    talk(kept, 3)
    with pytest.raises(StoreError, match="PIXELPROOF_LEDGER_KEY is not the key"):
        dynamo(kept.ground, seal_key=b"x" * 32).store.size()
    kept.store.state.update("seal", "seal", set={"size": 2})
    with pytest.raises(StoreError, match="seal is damaged"):
        kept.store.size()
    kept.store.state.update("seal", "seal", set={"size": 3})
    assert kept.store.size() == 6
    sound(kept, 6)


def test_a_long_log_is_read_across_its_parts(kept: DynamoBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any position to any other, whichever hash key its chunks have."""
    monkeypatch.setattr("core.stores.dynamodb.forms.CHUNKS", 15)
    several = deque([7, 1, 12, 5])
    while several:
        talk(kept, several.popleft())
        kept.store.sequence()
    every = [entry.hash for _, entry in kept.store.entries()]
    assert len(every) == 25
    for after in range(26):
        for until in (after, after + 1, 12, 25, 40):
            assert list(kept.store.hashes(after, until)) == every[after:until]
