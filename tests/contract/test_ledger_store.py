"""What every ledger store must do, whatever it keeps the ledger in: SQLite, and DynamoDB as three servers have it."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core import transfer
from core.errors import HeadConflict, StoreError
from core.incidents import Incident, IncidentKind
from core.ledger import Recording, idempotency_key
from core.model import Action, PurposeId, RecipientId
from core.ports import Answered, Batch, Open
from core.stores.embedded import EmbeddedStores
from core.verify import verify
from tests.aws_ground import Ground
from tests.contract.ledger_bench import ADA, BOB, KEY, KINDS, PERFORMANCE, SEAL_KEY, Bench, at_once, bench, follow

DECISIONS = (Action.GIVEN, Action.REFUSED, Action.WITHDRAWN, Action.REQUESTED)
PEOPLE = [RecipientId(bytes([n * 16 + 3]) * 16) for n in range(12)]


@pytest.fixture(params=KINDS)
def kept(ground: Callable[[str], Ground], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """An empty ledger in each kind of store in turn."""
    with bench(request.param, ground, tmp_path) as made:
        yield made


# Chains


def test_an_empty_store_is_sound(kept: Bench) -> None:
    """It has no heads, no entries, and the seal of nothing."""
    store = kept.store
    assert (store.head(ADA), store.heads([]), store.chain(ADA), store.position(ADA, 1)) == (None, {}, [], None)
    assert (list(store.entries()), list(store.chains()), list(store.all_heads())) == ([], [], [])
    assert (store.size(), store.sealed().size, list(store.hashes(0, 10)), list(store.touched(0, 10))) == (0, 0, [], [])
    assert verify(store).ok


def test_every_way_of_reading_tells_the_same(kept: Bench) -> None:
    """By chain in the order of recipients, by position without a gap, and a chain's entries in their order."""
    for n in range(30):
        kept.clock.wait(seconds=1)
        kept.say(DECISIONS[n % 4], PEOPLE[n * 5 % len(PEOPLE)])
    store = kept.store
    assert store.size() == store.sealed().size == 30
    placed = list(store.entries())
    assert [position for position, _ in placed] == [*range(1, 31)]
    chains = [(each.recipient, each.seq) for each in store.chains()]
    assert chains == sorted(chains)
    assert sorted((e.recipient, e.seq) for _, e in placed) == chains
    for person in PEOPLE:
        assert [e.seq for _, e in placed if e.recipient == person] == [e.seq for e in store.chain(person)]
    assert all(store.position(each.recipient, each.seq) == position for position, each in placed)
    assert [recipient for recipient, _ in store.all_heads()] == sorted(PEOPLE)
    assert list(store.hashes(10, 25)) == [each.hash for _, each in placed[10:25]]
    assert list(store.touched(10, 25)) == sorted({each.recipient for _, each in placed[10:25]})
    assert dict(store.all_heads()) == store.heads(PEOPLE)
    assert verify(store).ok


def test_a_stale_head_is_a_conflict(kept: Bench) -> None:
    """Whoever appends to what is no longer the end of the chain is told so, and nothing is written."""
    store = kept.store
    kept.say(Action.GIVEN)
    stale = store.head(ADA)
    kept.say(Action.REFUSED)
    current = store.head(ADA)
    assert stale is not None
    assert current is not None
    for expected in (stale, None, replace(current, hash=b"x" * 32), replace(current, seq=1)):
        entries, head = follow(expected, kept.event(Action.WITHDRAWN))
        with pytest.raises(HeadConflict), store.batch() as batch:
            batch.append(ADA, entries, expected=expected, head=head)
    assert store.head(ADA) == current
    entries, head = follow(current, kept.event(Action.WITHDRAWN))
    with store.batch() as batch:
        batch.append(ADA, entries, expected=current, head=head)
    assert store.head(ADA) == head
    assert store.size() == 3
    assert verify(store).ok


def test_a_head_that_is_missing_is_a_conflict(kept: Bench) -> None:
    """An append that expects a chain where there is none writes nothing."""
    _, head = follow(None, kept.event(Action.GIVEN))
    entries, after = follow(head, kept.event(Action.GIVEN))
    with pytest.raises(HeadConflict), kept.store.batch() as batch:
        batch.append(ADA, entries, expected=head, head=after)
    assert (list(kept.store.entries()), kept.store.chain(ADA)) == ([], [])


def test_threads_that_append_at_once_lose_nothing(kept: Bench) -> None:
    """Each finds the other's entry and appends behind it: no entry is lost, none is there twice."""

    def talk(who: int) -> None:
        for n in range(10):
            kept.say(Action.GIVEN, ADA, keys=[idempotency_key(f"{who}:{n}", kept.clock())])

    assert at_once(lambda: talk(1), lambda: talk(2)) == [None, None]
    assert [each.seq for each in kept.store.chain(ADA)] == [*range(1, 21)]
    assert verify(kept.store).ok


def test_a_key_counts_once_for_threads_that_use_it_at_once(kept: Bench) -> None:
    """The same callback delivered twice at the same time."""
    counts: list[int] = []
    assert at_once(*[lambda: counts.append(kept.say(Action.GIVEN, keys=[KEY]))] * 4) == [None] * 4
    assert sorted(counts) == [0, 0, 0, 1]
    assert len(kept.store.chain(ADA)) == 1


# Batches


def test_an_exception_undoes_the_whole_batch(kept: Bench) -> None:
    """Entries, heads, keys, opens, counters, incidents and answers: all of it."""

    def fail(batch: Batch) -> None:
        kept.ledger.record_in(batch, [Recording(kept.event(Action.GIVEN), (KEY,))])
        batch.record_opens([Open("autumn", ADA, kept.clock(), (PERFORMANCE,), "hosted")])
        batch.count("campaign:autumn", "opens")
        batch.open_incident(Incident(0, "campaign:autumn", IncidentKind.WITHDRAWN, kept.clock(), 7))
        batch.keep_answer(Answered(b"name", b"request", b"answer", kept.clock()))
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="the caller's own"), kept.store.batch() as batch:
        fail(batch)
    store = kept.store
    assert (store.head(ADA), store.count_opens(), store.counters("campaign:autumn")) == (None, 0, {})
    with store.batch() as batch:
        assert batch.last_incident("campaign:autumn", IncidentKind.WITHDRAWN) is None
        assert batch.answered(b"name") is None
    assert kept.say(Action.GIVEN, keys=[KEY]) == 1
    assert verify(store).ok


def test_a_batch_sees_what_it_wrote(kept: Bench) -> None:
    """Heads, chains, keys, counters, incidents and answers, before it ends."""
    kept.say(Action.GIVEN)
    incident = Incident(0, "campaign:autumn", IncidentKind.WITHDRAWN, kept.clock().replace(microsecond=0), 7)
    answer = Answered(b"name", b"request", b"answer", kept.clock().replace(microsecond=0))
    with kept.store.batch() as batch:
        kept.ledger.record_in(batch, [Recording(kept.event(Action.WITHDRAWN), (KEY,))])
        kept.ledger.record_in(batch, [Recording(kept.event(Action.REFUSED, BOB))])
        assert {whose: head.seq for whose, head in batch.heads([ADA, BOB]).items()} == {ADA: 2, BOB: 1}
        assert [each.seq for each in batch.chain(ADA)] == [1, 2]
        assert batch.seen([KEY, b"other key, 16 by"]) == {KEY}
        assert {ADA, BOB} <= {each for each in (ADA, BOB) if each in batch.touched(1)}
        assert [batch.count("campaign:autumn", "opens", n) for n in (2, 3)] == [2, 5]
        batch.open_incident(incident)
        found = batch.last_incident("campaign:autumn", IncidentKind.WITHDRAWN)
        assert found is not None
        assert replace(found, id=0) == incident
        batch.keep_answer(answer)
        assert batch.answered(b"name") == answer
    with kept.store.batch() as batch:
        assert batch.last_incident("campaign:autumn", IncidentKind.WITHDRAWN) == found
        assert batch.last_incident("campaign:autumn", IncidentKind.UNTRACKED) is None
        assert batch.answered(b"name") == answer
        assert batch.count("campaign:autumn", "opens") == 6
    assert kept.store.counters("campaign:autumn") == {"opens": 6}
    assert [each.seq for each in kept.store.chain(ADA)] == [1, 2]
    assert verify(kept.store).ok


def test_a_chain_may_grow_several_times_in_one_batch(kept: Bench) -> None:
    """As jobs do that are committed together: each follows the one before."""
    with kept.store.batch() as batch:
        for action in (Action.GIVEN, Action.WITHDRAWN, Action.GIVEN):
            kept.clock.wait(seconds=1)
            kept.ledger.record_in(batch, [Recording(kept.event(action))])
    assert [each.seq for each in kept.store.chain(ADA)] == [1, 2, 3]
    assert verify(kept.store).ok


def test_keys_may_be_remembered_again(kept: Bench) -> None:
    """By the same batch, by a later one, and beside new ones."""
    other = idempotency_key("another")
    for keys in ([KEY], [KEY, other]):
        with kept.store.batch() as batch:
            batch.remember(keys)
            batch.remember(keys)
    with kept.store.batch() as batch:
        assert batch.seen([KEY, other, idempotency_key("neither")]) == {KEY, other}
    assert sorted(kept.store.known_keys()) == sorted([KEY, other])


def test_opens_are_kept_whoever_has_no_chain(kept: Bench) -> None:
    """An exempt open may be of somebody who never decided anything."""
    opens = [Open("autumn", each, kept.clock(), (PERFORMANCE,), "hosted") for each in (ADA, BOB, ADA)]
    kept.say(Action.GIVEN, ADA)
    with kept.store.batch() as batch:
        batch.record_opens(opens)
    assert kept.store.count_opens() == 3


# Histories


def test_any_order_gives_the_heads_that_sqlite_gives(
    kept: Bench, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A thousand decisions of twelve people, in another order in each store: the same standings, and sound ledgers."""
    many = 100 if "moto" in request.node.name else 1_000  # it takes the square of the time
    dice = random.Random(20261124)  # noqa: S311 - it decides nothing
    recordings = []
    for n in range(many):
        at = kept.clock() + timedelta(seconds=dice.randrange(5_000))
        purposes = tuple(PurposeId(p) for p in ("performance", "deliverability") if dice.random() < 0.7) or (
            PERFORMANCE,
        )
        event = kept.event(dice.choice(DECISIONS), dice.choice(PEOPLE))
        event = replace(event, purposes=purposes, occurred_at=at, received_at=at)
        recordings.append(Recording(event, (idempotency_key(str(n), at),)))
    (tmp_path / "other").mkdir()
    stores = EmbeddedStores(tmp_path / "other", lambda: SEAL_KEY, kept.clock)
    try:
        Bench(stores.ledger, kept.clock).ledger.record(recordings)
        dice.shuffle(recordings)
        for start in range(0, many, 100):
            assert kept.ledger.record(recordings[start : start + 100]) == 100
        assert kept.ledger.record(recordings) == 0
        other = dict(stores.ledger.all_heads())
        mine = dict(kept.store.all_heads())
    finally:
        stores.close()
    assert {whose: (head.seq, head.standings) for whose, head in mine.items()} == {
        whose: (head.seq, head.standings) for whose, head in other.items()
    }
    found = verify(kept.store)
    assert (found.problems, found.entries, found.recipients) == ([], many, len(PEOPLE))


class _Texts:
    """Tells of no texts that people were shown."""

    @staticmethod
    def texts() -> list[str]:
        return []


def test_a_ledger_moves_in_and_out_with_its_tree(kept: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From SQLite into the store and back, interrupted once: positions, root, heads and keys stay."""
    folders = [tmp_path / name for name in ("from", "to")]
    for folder in folders:
        folder.mkdir()
    first, last = (EmbeddedStores(folder, lambda: SEAL_KEY, kept.clock) for folder in folders)
    try:
        source = Bench(first.ledger, kept.clock)
        for n in range(60):
            source.say(DECISIONS[n % 4], PEOPLE[n * 7 % 12], keys=[idempotency_key(str(n), kept.clock())])
        out = _written(source, first)
        _cut_off(kept.store, monkeypatch)
        with pytest.raises(StoreError, match="cut off"):
            _read(out, kept.store, first)
        assert 0 < kept.store.size() < 60
        moved = _read(out, kept.store, first)
        assert moved.root == kept.store.sealed().root == first.ledger.sealed().root
        assert list(kept.store.entries()) == list(first.ledger.entries())
        assert list(kept.store.all_heads()) == list(first.ledger.all_heads())
        assert sorted(kept.store.known_keys()) == sorted(first.ledger.known_keys())
        assert verify(kept.store).ok
        _read(_written(kept, first), last.ledger, last)
        assert last.ledger.sealed() == first.ledger.sealed()
        kept.say(Action.WITHDRAWN, PEOPLE[0])
        assert verify(kept.store).ok
    finally:
        first.close()
        last.close()


def _cut_off(store: transfer.Movable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next restoration end after a few rows, as if the power had."""
    restore = store.restore

    def cut(rows: Iterable[transfer.Placed]) -> None:
        monkeypatch.undo()
        restore([*rows][:25])
        raise StoreError("cut off")

    monkeypatch.setattr(store, "restore", cut)


def _written(from_: Bench, stores: EmbeddedStores) -> list[str]:
    file = io.StringIO()
    transfer.write(file, from_.store, stores.records, _Texts)
    return file.getvalue().splitlines()


def _read(lines: list[str], into: transfer.Movable, stores: EmbeddedStores) -> transfer.Moved:
    def remember(keys: object) -> None:
        with into.batch() as batch:
            batch.remember(keys)  # type: ignore[arg-type]  # a collection of bytes

    return transfer.read(lines, into, stores.records, remember)
