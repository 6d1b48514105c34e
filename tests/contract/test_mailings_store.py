"""What every store of campaigns and snapshots must do: SQLite's, and DynamoDB's as three servers have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from core.errors import AmbiguousOutcome, StoreError
from core.model import Basis, Campaign, CampaignId, CampaignKind, Mechanism, PixelMode, RecipientId
from core.records import NO_EDITION, Choice, Mailings, PartState
from core.stores.dynamodb.mailings import CHANGED_TOGETHER, DynamoMailings
from tests.aws_ground import Faults, Ground, Servers
from tests.contract.ledger_bench import ADA, BOB, PERFORMANCE, START, at_once
from tests.contract.stores_bench import KINDS, Kept, stores
from tests.mailings_in_store import KeepsMailings, applied

MANY = [RecipientId(bytes([n * 37 % 256]) * 16) for n in range(2 * CHANGED_TOGETHER + 1)]
"""More than two transactions of DynamoDB's take, in every shard, in no order."""
CAMPAIGN = Campaign(
    CampaignId("autumn"),
    "ses",
    CampaignKind.REQUESTED,
    (PERFORMANCE,),
    Mechanism.PROVIDER,
    aggregate=True,
    content={"subject": "Ünïcode"},
)
INDIVIDUAL, NONE = PixelMode.INDIVIDUAL, PixelMode.NONE
LATE = Choice(ADA, NONE, "untracked-late-000001", Basis.NONE, "withdrawn")


@pytest.fixture(params=KINDS)
def kept(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kept]:
    """No campaign, in each kind of store in turn."""
    with stores(request.param, servers, tmp_path) as made:
        yield made


class Bench:
    """Campaigns on DynamoDB, and what others see of them there."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.mailings = DynamoMailings(ground.client, ground.prefix, sleep=lambda _: None)

    def fail(self, operation: str, *faults: str | Callable[[], object] | None) -> Faults:
        """Have requests fail."""
        return Faults(self.ground.client, operation, *faults)


@pytest.fixture
def bench(dynamodb: Ground) -> Bench:
    """No campaign, on each kind of server in turn."""
    return Bench(dynamodb)


def choice(recipient: RecipientId, part: str = "untracked", mode: PixelMode = NONE) -> Choice:
    """A choice."""
    return Choice(recipient, mode, part, Basis.NONE, "")


def parts_of(kept: KeepsMailings, edition: int) -> list[tuple[str, int]]:
    """The parts in the order in which they leave."""
    found: list[tuple[str, int]] = []
    while (part := kept.mailings.next_part(edition, found[-1][0] if found else "")) is not None:
        found.append(part)
    return found


# Campaigns and their snapshots


def test_a_campaign_reads_back_as_it_was_applied(kept: Kept) -> None:
    """Equal in every field, so that a later declaration can be compared with it."""
    assert (kept.mailings.campaign("autumn"), kept.mailings.campaigns()) == (None, [])
    record = applied(kept, CAMPAIGN, {ADA: INDIVIDUAL, BOB: PixelMode.AGGREGATE})
    mailings = kept.another().mailings
    assert mailings.campaign("autumn") == record
    assert mailings.modes("autumn", [ADA, BOB]) == {ADA: INDIVIDUAL, BOB: PixelMode.AGGREGATE}
    assert mailings.modes("autumn", [ADA], record.edition + 1) == mailings.modes("winter", [ADA, BOB]) == {}
    kept.mailings.mark_sent("autumn")
    kept.mailings.mark_sent("winter")
    assert mailings.campaigns() == [replace(record, sent=True)]


def test_a_snapshot_is_replaced_whole(kept: Kept) -> None:
    """Whoever is not in the new one is in none, and nothing of the old one stays; other campaigns keep theirs."""
    other = applied(kept, replace(CAMPAIGN, id=CampaignId("winter")), {ADA: NONE})
    first = applied(kept, CAMPAIGN, {ADA: INDIVIDUAL, BOB: NONE})
    second = applied(kept, CAMPAIGN, {BOB: PixelMode.AGGREGATE})
    assert kept.mailings.modes("autumn", [ADA, BOB]) == {BOB: PixelMode.AGGREGATE}
    assert [*kept.mailings.choices(first.edition), *kept.mailings.choices(first.edition, "untracked")] == []
    assert [each.recipient for each in kept.mailings.choices(second.edition)] == [BOB]
    assert [each.recipient for each in kept.mailings.choices(other.edition, "untracked")] == [ADA]
    assert len({first.edition, second.edition, other.edition, NO_EDITION}) == 4


def test_a_snapshot_that_is_not_finished_changes_nothing(kept: Kept) -> None:
    """Until it is put in force the old one holds; what a crash left is dropped by the next one."""
    applied(kept, CAMPAIGN, {ADA: INDIVIDUAL})
    begun = kept.mailings.new_edition("autumn")
    kept.mailings.add_choices(begun, [choice(BOB)])
    assert kept.mailings.modes("autumn", [ADA, BOB]) == {ADA: INDIVIDUAL}
    assert kept.mailings.new_edition("autumn") > begun
    assert (list(kept.mailings.choices(begun)), kept.mailings.next_part(begun, "")) == ([], None)
    assert kept.mailings.modes("autumn", [ADA]) == {ADA: INDIVIDUAL}


def test_choices_come_in_the_order_of_recipients(kept: Kept) -> None:
    """Of the whole snapshot and of a part of it, in however many pieces they were added."""
    edition = kept.mailings.new_edition("autumn")
    rows = [choice(each, f"untracked-{n % 2}") for n, each in enumerate(MANY)]
    for start in range(0, len(rows), 15):
        kept.mailings.add_choices(edition, rows[start : start + 15])
    in_order = sorted(rows, key=lambda each: each.recipient)
    assert list(kept.mailings.choices(edition)) == in_order
    for part in ("untracked-0", "untracked-1"):
        assert list(kept.mailings.choices(edition, part)) == [each for each in in_order if each.part == part]
    assert kept.mailings.modes("autumn", MANY, edition) == dict.fromkeys(MANY, NONE)


def test_parts_come_in_the_order_of_their_names(kept: Kept) -> None:
    """Tracked ones first, then the others, then the late ones; each with its size; that without a name never."""
    edition = kept.mailings.new_edition("autumn")
    names = ["untracked-000001", "tracked-000002", "untracked-late-000001", "tracked-000001", "tracked-000001", ""]
    kept.mailings.add_choices(edition, [choice(each, name) for each, name in zip(MANY, names, strict=False)])
    assert parts_of(kept, edition) == [
        ("tracked-000001", 2),
        ("tracked-000002", 1),
        ("untracked-000001", 1),
        ("untracked-late-000001", 1),
    ]
    assert kept.mailings.last_part(edition, "untracked-late") == ("untracked-late-000001", 1)
    assert kept.mailings.last_part(edition, "tracked") == ("tracked-000002", 1)
    assert kept.mailings.last_part(edition, "other") is None


def test_many_are_moved_between_parts(kept: Kept) -> None:
    """Each out of a part of their own and into another: they are in that alone, and empty parts are no longer told."""
    edition = kept.mailings.new_edition("autumn")
    kept.mailings.add_choices(edition, [choice(each, f"tracked-{n:03}") for n, each in enumerate(MANY)])
    moved = [choice(each, f"untracked-{n:03}") for n, each in enumerate(MANY)]
    kept.mailings.change_choices("autumn", edition, moved)
    assert list(kept.mailings.choices(edition)) == sorted(moved, key=lambda each: each.recipient)
    assert kept.mailings.last_part(edition, "tracked-039") is None
    assert kept.mailings.next_part(edition, "tracked-039") == ("untracked-000", 1)
    assert list(kept.mailings.choices(edition, "untracked-007")) == [moved[7]]
    left_out = [replace(each, part="") for each in moved]
    kept.mailings.change_choices("autumn", edition, left_out)
    assert kept.mailings.next_part(edition, "untracked-038") is None
    assert [each.part for each in kept.mailings.choices(edition)] == [""] * len(MANY)


def test_how_far_opens_were_fetched_is_kept(kept: Kept) -> None:
    """For each campaign; to the second."""
    assert kept.mailings.poll_cursor("autumn") is None
    for at in (START + timedelta(days=1), START):
        kept.mailings.save_poll_cursor("autumn", at)
    assert kept.another().mailings.poll_cursor("autumn") == START.replace(microsecond=0)
    assert kept.mailings.poll_cursor("winter") is None


# What left


@pytest.mark.parametrize(("outcome", "replaceable"), [("begin", False), ("done", False), ("failed", True)])
def test_what_left_can_no_longer_change(kept: Kept, outcome: str, replaceable: bool) -> None:
    """A snapshot is the evidence of what people got; only a part that certainly did not leave lets it be replaced."""
    applied(kept, CAMPAIGN, {ADA: INDIVIDUAL})
    journal = kept.mailings.journal("autumn")
    journal.begin("untracked")
    if outcome != "begin":
        getattr(journal, outcome)("untracked")
    assert kept.mailings.started("autumn") is not replaceable
    if replaceable:
        applied(kept, CAMPAIGN, {BOB: NONE})
    else:
        with pytest.raises(StoreError, match="left already"):
            applied(kept, CAMPAIGN, {BOB: NONE})
    assert set(kept.mailings.modes("autumn", [ADA, BOB])) == ({BOB} if replaceable else {ADA})


def test_nobody_is_moved_out_of_or_into_a_part_that_left(kept: Kept) -> None:
    """A pixel that is in the mail already is in the mail, whatever is decided later."""
    record = applied(kept, CAMPAIGN, {ADA: INDIVIDUAL})
    kept.mailings.journal("autumn").begin("untracked")
    with pytest.raises(StoreError, match="left while"):
        kept.mailings.change_choices("autumn", record.edition, [LATE])
    kept.mailings.journal("autumn").failed("untracked")
    kept.mailings.change_choices("autumn", record.edition, [LATE])
    kept.mailings.journal("autumn").begin(LATE.part)
    with pytest.raises(StoreError, match="left while"):
        kept.mailings.change_choices("autumn", record.edition, [replace(LATE, part="untracked")])
    assert (
        list(kept.mailings.choices(record.edition)) == list(kept.mailings.choices(record.edition, LATE.part)) == [LATE]
    )


def test_a_part_is_sent_once(kept: Kept) -> None:
    """Done is skipped, also by another run; refused may be tried again; each part and each campaign is its own."""
    journal = kept.mailings.journal("autumn")
    assert journal.begin("tracked")
    journal.done("tracked")
    assert not journal.begin("tracked")
    assert not kept.another().mailings.journal("autumn").begin("tracked")
    assert journal.begin("untracked")
    journal.failed("untracked")
    assert kept.mailings.part_states("autumn") == {"tracked": PartState.DONE, "untracked": PartState.FAILED}
    assert journal.begin("untracked")
    assert kept.mailings.journal("winter").begin("tracked")
    states = [kept.mailings.part_state("autumn", part) for part in ("tracked", "untracked", "other")]
    assert states == [PartState.DONE, PartState.BEGUN, PartState.WAITING]
    assert (kept.mailings.campaign("winter"), kept.mailings.campaigns()) == (None, [])


def test_a_part_that_nobody_knows_about_is_ambiguous(kept: Kept) -> None:
    """It began and did not end: whether mail left is for a person to find out, never a guess."""
    assert kept.mailings.journal("autumn").begin("tracked")
    with pytest.raises(AmbiguousOutcome, match="look it up at the ESP"):
        kept.another().mailings.journal("autumn").begin("tracked")


def test_a_campaign_has_started_until_nothing_of_it_left(kept: Kept) -> None:
    """However often an end is noted, in whatever order."""
    record = applied(kept, CAMPAIGN, {ADA: NONE})
    journal = kept.mailings.journal("autumn")
    steps: list[tuple[Callable[[str], object], str, bool]] = [
        (journal.failed, "a", False),
        (journal.begin, "a", True),
        (journal.done, "b", True),
        (journal.failed, "a", True),
        (journal.failed, "a", True),
        (journal.failed, "b", False),
        (journal.done, "a", True),
        (journal.done, "a", True),
        (journal.failed, "a", False),
    ]
    for step, part, started in steps:
        step(part)
        assert kept.mailings.started("autumn") is started
    kept.mailings.save_campaign(record)


# Others at the same time


def test_of_two_at_once_one_begins(kept: Kept) -> None:
    """The other is told that nobody knows: a mail is never sent twice."""
    begun: list[bool] = []

    def begin(mailings: Mailings) -> None:
        begun.append(mailings.journal("autumn").begin("tracked"))

    outcomes = at_once(*[partial(begin, kept.another().mailings) for _ in range(4)])
    assert begun == [True]
    assert [type(each) for each in outcomes if each] == [AmbiguousOutcome] * 3


def test_what_begins_while_it_is_changed(kept: Kept) -> None:
    """Either somebody was moved before the part left, or they were in it when it did: never both."""
    people = sorted(MANY[:8])
    record = applied(kept, CAMPAIGN, dict.fromkeys(people, INDIVIDUAL))
    left: list[RecipientId] = []

    def move(mailings: Mailings, some: Sequence[RecipientId]) -> None:
        for each in some:
            mailings.change_choices("autumn", record.edition, [replace(LATE, recipient=each)])

    def send(mailings: Mailings) -> None:
        assert mailings.journal("autumn").begin("untracked")
        left.extend(each.recipient for each in mailings.choices(record.edition, "untracked"))

    works = [partial(move, kept.another().mailings, people[n::2]) for n in range(2)]
    outcomes = at_once(*works, partial(send, kept.another().mailings))
    assert outcomes[-1] is None
    assert all(isinstance(each, StoreError) for each in outcomes if each)
    assert left == [each.recipient for each in kept.mailings.choices(record.edition, "untracked")]
    late = [each.recipient for each in kept.mailings.choices(record.edition, LATE.part)]
    assert sorted([*left, *late]) == people


@pytest.mark.parametrize("part", ["untracked", LATE.part])
def test_a_part_that_begins_in_between_is_not_changed(bench: Bench, part: str) -> None:
    """Between what changing reads and what it writes: nothing is written."""
    record = applied(bench, CAMPAIGN, {ADA: INDIVIDUAL})
    faults = bench.fail("TransactWriteItems", lambda: bench.mailings.journal("autumn").begin(part))
    with pytest.raises(StoreError, match="left while"):
        bench.mailings.change_choices("autumn", record.edition, [LATE])
    assert not faults.left
    assert [each.part for each in bench.mailings.choices(record.edition)] == ["untracked"]


# Faults


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_change_that_was_cut_off_can_be_run_again(bench: Bench, fault: str) -> None:
    """Nobody is in two parts, or in none, on the way or afterwards."""
    record = applied(bench, CAMPAIGN, dict.fromkeys(MANY, INDIVIDUAL))
    moved = sorted((replace(LATE, recipient=each) for each in MANY), key=lambda each: each.recipient)
    bench.fail("TransactWriteItems", None, fault)
    with pytest.raises(StoreError, match="ReadTimeoutError"):
        bench.mailings.change_choices("autumn", record.edition, moved)
    sizes = dict(parts_of(bench, record.edition))
    done = CHANGED_TOGETHER * (2 if fault == "after" else 1)
    assert sizes == {LATE.part: done, "untracked": len(MANY) - done}
    bench.mailings.change_choices("autumn", record.edition, moved)
    assert list(bench.mailings.choices(record.edition)) == moved
    assert parts_of(bench, record.edition) == [(LATE.part, len(MANY))]


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("operation", ["UpdateItem", "PutItem"])
def test_no_two_snapshots_have_one_number(bench: Bench, fault: str, operation: str) -> None:
    """A number whose answer was lost is never given again."""
    first = bench.mailings.new_edition("autumn")
    bench.fail(operation, fault)
    with pytest.raises(StoreError, match="ReadTimeoutError"):
        bench.mailings.new_edition("winter")
    assert bench.mailings.new_edition("winter") > first
