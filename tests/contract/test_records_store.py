"""What every store of working records must do: SQLite's, and DynamoDB's as three servers have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from core.errors import HeadConflict, StoreError
from core.model import TO_ASK, PurposeId, RecipientId
from core.records import Confirmed, Records, SyncState, TakenOut
from core.stores.dynamodb.records import TOGETHER, DynamoRecords
from tests.aws_ground import Faults, Ground, Servers
from tests.contract.ledger_bench import ADA, BOB, PERFORMANCE, START, Clock, at_once
from tests.contract.stores_bench import KINDS, Kept, stores

DELIVERING = PurposeId("deliverability")
HELD = Confirmed(frozenset({PERFORMANCE}), b"12345678")
MANY = [RecipientId(bytes([n * 37 % 256]) * 16) for n in range(2 * TOGETHER + 1)]
"""More than two transactions of DynamoDB's take, in every shard, in no order."""


@pytest.fixture(params=KINDS)
def kept(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kept]:
    """Nothing on record, in each kind of store in turn."""
    with stores(request.param, servers, tmp_path) as made:
        yield made


@pytest.fixture
def records(dynamodb: Ground) -> DynamoRecords:
    """Nothing on record, on each kind of server in turn."""
    return DynamoRecords(dynamodb.client, dynamodb.prefix, Clock(), sleep=lambda _: None)


def hold(records: Records, provider: str, rows: Mapping[RecipientId, Confirmed]) -> set[RecipientId]:
    """What an ESP was seen to hold, noted as a sync does it."""
    mark = records.doubt(provider, {recipient: row.purposes for recipient, row in rows.items()})
    return records.settle(provider, rows, mark)


def doubted(records: Records, provider: str = "ses") -> list[RecipientId]:
    """Who is in doubt."""
    return [recipient for recipient, _ in records.pending(provider)]


# What ESPs hold


def test_what_was_confirmed_is_kept_for_each_esp(kept: Kept) -> None:
    """The last word about a recipient counts, and one ESP's says nothing about another's."""
    held = Confirmed(frozenset({PERFORMANCE, DELIVERING}), b"12345678")
    refused = Confirmed(frozenset(), b"x", refused=True)
    assert hold(kept.records, "ses", {ADA: held, BOB: refused}) == set()
    assert kept.another().records.confirmed("ses", [ADA, BOB]) == {ADA: held, BOB: refused}
    assert kept.records.confirmed("sendgrid", [ADA, BOB]) == {}
    hold(kept.records, "ses", {ADA: Confirmed()})
    assert kept.records.confirmed("ses", [ADA]) == {ADA: Confirmed()}


def test_a_doubt_names_all_that_an_esp_may_hold(kept: Kept) -> None:
    """What it may have held before is not forgotten by a second call; nothing is certain until it is settled."""
    hold(kept.records, "ses", {ADA: HELD, BOB: HELD})
    kept.records.doubt("ses", {ADA: frozenset({DELIVERING})})
    found = kept.records.confirmed("ses", [ADA])[ADA]
    assert found.purposes == {PERFORMANCE, DELIVERING}
    assert (found.carried, bool(found.mark)) == (b"", True)
    assert dict(kept.records.pending("ses")) == {ADA: found}
    assert doubted(kept.records, "sendgrid") == []
    assert (kept.statistics.in_doubt("ses"), kept.statistics.in_doubt("sendgrid")) == (1, 0)


def test_doubts_that_crossed_are_settled_by_neither(kept: Kept) -> None:
    """Which call came last at the ESP is not known: both stay in doubt with all that may be held, until a third."""
    hold(kept.records, "ses", {BOB: HELD})
    first = kept.records.doubt("ses", {ADA: frozenset({PERFORMANCE}), BOB: frozenset()})
    second = kept.another().records.doubt("ses", {ADA: frozenset({DELIVERING})})
    assert kept.records.settle("ses", {ADA: HELD, BOB: Confirmed()}, first) == {ADA}
    assert kept.records.settle("ses", {ADA: Confirmed(frozenset({DELIVERING}), b"y")}, second) == {ADA}
    found = kept.records.confirmed("ses", [ADA, BOB])
    assert found[ADA].purposes == {PERFORMANCE, DELIVERING}
    assert found[BOB] == Confirmed()
    assert found[ADA].mark not in {0, first, second}
    assert doubted(kept.records) == [ADA]
    assert hold(kept.records, "ses", {ADA: HELD}) == set()
    assert doubted(kept.records) == []


def test_many_are_doubted_and_settled_in_order(kept: Kept) -> None:
    """All of them, in however many transactions; only those that were doubted again meanwhile are left."""
    mark = kept.records.doubt("ses", dict.fromkeys(MANY, frozenset({PERFORMANCE})))
    assert doubted(kept.records) == sorted(MANY)
    again = set(MANY[::10])
    kept.records.doubt("ses", dict.fromkeys(again, frozenset({DELIVERING})))
    assert kept.records.settle("ses", dict.fromkeys(MANY, HELD), mark) == again
    assert doubted(kept.records) == sorted(again)
    found = kept.records.confirmed("ses", MANY)
    assert [each for each in MANY if found[each] == HELD] == [each for each in MANY if each not in again]
    assert kept.records.settle("ses", {}, mark) == set()


def test_what_an_esp_holds_is_paged_and_forgotten(kept: Kept) -> None:
    """In the order of recipients; an erased person's row is gone at that ESP alone."""
    for provider in ("ses", "sendgrid"):
        hold(kept.records, provider, dict.fromkeys(MANY[:40], HELD))
    found: list[tuple[RecipientId, Confirmed]] = []
    while page := kept.records.held("ses", found[-1][0] if found else None, limit=7):
        assert len(page) <= 7
        found += page
    assert found == [(each, HELD) for each in sorted(MANY[:40])]
    kept.records.forget_held("ses", [*MANY[:4], ADA])
    assert [recipient for recipient, _ in kept.records.held("ses")] == sorted(MANY[4:40])
    assert len(kept.records.held("sendgrid")) == 40


def test_when_somebody_was_taken_out_is_on_record(kept: Kept) -> None:
    """Of what they may have been in; neither of a refused change, nor of being asked; also when they are erased."""
    at = [START]

    def then(rows: Mapping[RecipientId, Confirmed], provider: str = "ses") -> None:
        kept.clock.wait(seconds=1)
        at.append(kept.clock())
        hold(kept.records, provider, rows)

    hold(kept.records, "ses", {ADA: Confirmed(frozenset({PERFORMANCE, DELIVERING, TO_ASK})), BOB: HELD})
    then({ADA: Confirmed(frozenset({PERFORMANCE})), BOB: Confirmed(frozenset({PERFORMANCE}), refused=True)})
    then({ADA: HELD}, "sendgrid")
    then({ADA: Confirmed()}, "sendgrid")
    kept.clock.wait(seconds=1)
    kept.records.forget_held("ses", [ADA, BOB])
    gone = [
        TakenOut("ses", at[1], (DELIVERING,)),
        TakenOut("sendgrid", at[3], (PERFORMANCE,)),
        TakenOut("ses", kept.clock(), (PERFORMANCE,)),
    ]
    assert kept.records.taken_out(ADA) == gone
    assert kept.records.taken_out(BOB) == gone[2:]
    everybody = list(kept.statistics.taken_out())
    assert [recipient for recipient, _ in everybody] == [ADA] * 3 + [BOB]
    assert sorted(out.at for _, out in everybody[:3]) == [out.at for out in gone]


# How far syncs came, and what was shown


def test_how_far_a_sync_came_is_kept(kept: Kept) -> None:
    """For each ESP; to the second."""
    state = SyncState(7, 3, b"12345678", kept.clock().replace(microsecond=0))
    assert kept.records.sync_state("ses") is None
    kept.records.save_sync_state("ses", SyncState(7, 3, b"12345678", kept.clock()))
    assert kept.another().records.sync_state("ses") == state
    assert kept.records.sync_state("sendgrid") is None


def test_the_text_of_a_notice_is_kept_once(kept: Kept) -> None:
    """By its hash; a second text under the same hash changes nothing."""
    assert kept.records.notice("ab" * 32) is None
    kept.records.put_notice("ab" * 32, "Ce que l'on a lu: é")
    kept.records.put_notice("ab" * 32, "something else")
    assert kept.another().records.notice("ab" * 32) == "Ce que l'on a lu: é"
    assert set(kept.entries.texts()) == {"ab" * 32}


# Others at the same time


def test_threads_that_doubt_at_once_lose_nothing(kept: Kept) -> None:
    """Everything that any of them said may be held is in the doubt."""
    named = [PurposeId(f"purpose{n}") for n in range(4)]
    said = [{ADA: frozenset({each}), BOB: frozenset[PurposeId]()} for each in named]
    assert at_once(*[partial(kept.another().records.doubt, "ses", each) for each in said]) == [None] * 4
    assert kept.records.confirmed("ses", [ADA])[ADA].purposes == set(named)


def test_threads_that_settle_at_once_agree(kept: Kept) -> None:
    """Of two calls that crossed nobody's outcome is taken for certain, whoever is quicker."""
    crossed: list[set[RecipientId]] = []
    people = sorted(MANY[:30])

    def carried_out() -> None:
        mark = kept.records.doubt("ses", dict.fromkeys(people, frozenset({PERFORMANCE})))
        crossed.append(kept.records.settle("ses", dict.fromkeys(people, HELD), mark))

    assert at_once(*[carried_out] * 3) == [None] * 3
    found = kept.records.confirmed("ses", people)
    certain = {each for each in people if not found[each].mark}
    assert all(found[each] == HELD for each in certain)
    assert certain <= {each for each in people if any(each not in some for some in crossed)}
    assert doubted(kept.records) == [each for each in people if each not in certain]


def test_a_doubt_that_lands_in_between_is_kept(records: DynamoRecords) -> None:
    """Between what settling reads and what it writes: it is read anew, and stays in doubt."""
    mark = records.doubt("ses", {ADA: frozenset({PERFORMANCE})})
    other = DynamoRecords(records.table.client, records.table.name.removesuffix("-state"), Clock())
    faults = Faults(
        records.table.client, "TransactWriteItems", lambda: other.doubt("ses", {ADA: frozenset({DELIVERING})})
    )
    assert records.settle("ses", {ADA: Confirmed()}, mark) == {ADA}
    assert not faults.left
    assert records.confirmed("ses", [ADA])[ADA].purposes == {PERFORMANCE, DELIVERING}
    assert doubted(records) == [ADA]


def test_whoever_is_never_first_is_told(records: DynamoRecords) -> None:
    """It gives up after so many tries; what the others wrote stands."""
    other = DynamoRecords(records.table.client, records.table.name.removesuffix("-state"), Clock())
    inner: list[int] = []

    def first() -> None:
        if len(inner) % 2 == 0:  # the other's own request comes here too
            inner.append(0)
            other.doubt("ses", {ADA: frozenset({DELIVERING})})
        else:
            inner.append(1)

    Faults(records.table.client, "TransactWriteItems", *[first] * 100)
    with pytest.raises(HeadConflict, match="others kept changing"):
        records.doubt("ses", {ADA: frozenset({PERFORMANCE})})
    assert records.confirmed("ses", [ADA])[ADA].purposes == {DELIVERING}


# Faults


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_doubt_whose_answer_is_lost_can_be_had_again(records: DynamoRecords, fault: str) -> None:
    """Whether or not it was noted, what was held before is not forgotten."""
    hold(records, "ses", {ADA: HELD})
    Faults(records.table.client, "TransactWriteItems", fault)
    with pytest.raises(StoreError, match="ReadTimeoutError"):
        records.doubt("ses", {ADA: frozenset({DELIVERING})})
    assert doubted(records) == ([ADA] if fault == "after" else [])
    mark = records.doubt("ses", {ADA: frozenset({DELIVERING})})
    assert records.confirmed("ses", [ADA])[ADA].purposes == {PERFORMANCE, DELIVERING}
    assert records.settle("ses", {ADA: Confirmed(frozenset({DELIVERING}))}, mark) == set()
    assert [out.purposes for out in records.taken_out(ADA)] == [(PERFORMANCE,)]


@pytest.mark.parametrize("fault", ["before", "after"])
def test_an_outcome_whose_answer_is_lost_is_never_certain_by_a_guess(records: DynamoRecords, fault: str) -> None:
    """Said again, it is settled once: or in doubt, for the second call cannot tell whose doing the first was."""
    mark = records.doubt("ses", {ADA: frozenset({PERFORMANCE})})
    Faults(records.table.client, "TransactWriteItems", fault)
    with pytest.raises(StoreError, match="ReadTimeoutError"):
        records.settle("ses", {ADA: Confirmed()}, mark)
    assert records.settle("ses", {ADA: Confirmed()}, mark) == (set() if fault == "before" else {ADA})
    assert hold(records, "ses", {ADA: Confirmed()}) == set()
    assert len(records.taken_out(ADA)) == 1


@pytest.mark.parametrize("fault", ["before", "after"])
def test_forgetting_can_be_run_again(records: DynamoRecords, fault: str) -> None:
    """Each is taken out once."""
    hold(records, "ses", {ADA: HELD, BOB: HELD})
    Faults(records.table.client, "TransactWriteItems", fault)
    with pytest.raises(StoreError, match="ReadTimeoutError"):
        records.forget_held("ses", [ADA])
    records.forget_held("ses", [ADA])
    assert [recipient for recipient, _ in records.held("ses")] == [BOB]
    assert len(records.taken_out(ADA)) == 1


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("nth", [0, 1], ids=["text", "name"])
def test_a_notice_whose_answer_is_lost_is_kept_in_the_end(
    records: DynamoRecords, dynamodb: Ground, fault: str, nth: int
) -> None:
    """Its text stands before anything says that there is one."""
    Faults(dynamodb.client, "PutItem", *[None] * nth, fault)
    with pytest.raises(StoreError, match=r"PutItem on .* failed: ReadTimeoutError"):
        records.put_notice("ab" * 32, "What people read")
    named = [*records.table.query("notices")]
    assert not named or records.notice("ab" * 32)
    records.put_notice("ab" * 32, "What people read")
    assert records.notice("ab" * 32) == "What people read"
    assert len([*records.table.query("notices")]) == 1


@pytest.mark.parametrize("operation", ["GetItem", "BatchGetItem", "Query"])
def test_what_cannot_be_read_is_a_store_error(records: DynamoRecords, operation: str) -> None:
    """Nobody counts as not held because DynamoDB did not answer."""
    hold(records, "ses", {ADA: HELD})
    faults = Faults(records.table.client, operation, "before")
    reads: dict[str, Callable[[], object]] = {
        "GetItem": lambda: records.sync_state("ses"),
        "BatchGetItem": lambda: records.confirmed("ses", [ADA]),
        "Query": lambda: records.held("ses"),
    }
    with pytest.raises(StoreError, match=f"{operation} on .*-state failed: ReadTimeoutError") as caught:
        reads[operation]()
    assert ADA.hex() not in str(caught.value)
    assert not faults.left
