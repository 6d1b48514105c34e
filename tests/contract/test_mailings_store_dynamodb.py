"""What campaigns on DynamoDB do besides: nothing is left of a snapshot that is gone, and nothing is guessed at."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from core.errors import AmbiguousOutcome, StoreError
from core.model import Basis, Campaign, CampaignId, CampaignKind, Mechanism, PixelMode, RecipientId
from core.records import CampaignRecord, Choice, PartState
from core.release import LEFT_OUT
from core.stores.dynamodb.mailings import DynamoMailings
from tests.aws_ground import Faults, Ground, Servers
from tests.contract.ledger_bench import ADA, PERFORMANCE
from tests.contract.stores_bench import Kept, on_dynamodb
from tests.mailings_in_store import applied

MANY = [RecipientId(bytes([n * 37 % 256]) * 16) for n in range(40)]
"""In every shard, and more than a request of BatchWriteItem takes."""
CAMPAIGN = Campaign(CampaignId("autumn"), "ses", CampaignKind.REQUESTED, (PERFORMANCE,), Mechanism.PROVIDER)


def choice(recipient: RecipientId, part: str) -> Choice:
    """A row of a snapshot."""
    return Choice(recipient, PixelMode.NONE, part, Basis.NONE, "")


LATE = choice(ADA, "untracked-late-000001")
FAULTS = pytest.mark.parametrize("fault", ["before", "after"])


@pytest.fixture
def kept(dynamodb: Ground) -> Kept:
    """No campaigns, on each kind of server in turn."""
    return on_dynamodb(dynamodb)


@pytest.fixture
def others(servers: Servers, dynamodb: Ground) -> DynamoMailings:
    """The campaigns, as another process has them."""
    return DynamoMailings(servers.client(dynamodb.url), dynamodb.prefix)


@pytest.fixture
def record(kept: Kept) -> CampaignRecord:
    """A campaign that goes to Ada and some others, tracked, in one part."""
    return applied(kept, CAMPAIGN, dict.fromkeys([ADA, *MANY[:9]], PixelMode.INDIVIDUAL))


def left_over(dynamodb: Ground, edition: int) -> set[str]:
    """The hash keys, in the state table, of what stands there about a snapshot."""
    state = DynamoMailings(dynamodb.client, dynamodb.prefix).table
    begins = tuple(f"{kind}#{edition}" for kind in ("edition", "part", "parts"))
    listed = {"editions#autumn"} if any(state.query("editions#autumn", prefix=f"{edition:010}")) else set[str]()
    return listed | {str(item["pk"]) for item in state.scan() if str(item["pk"]).startswith(begins)}


def test_who_is_left_out_is_in_a_part_that_never_comes(kept: Kept, record: CampaignRecord) -> None:
    """It has no name, which no key may be: it is neither listed nor begun, and who is in it is still told."""
    out = choice(ADA, LEFT_OUT)
    for _ in range(2):
        kept.mailings.change_choices("autumn", record.edition, [out])
    assert kept.mailings.next_part(record.edition, "") == ("untracked", 9)
    assert kept.mailings.part_state("autumn", LEFT_OUT) is PartState.WAITING
    assert [*kept.mailings.choices(record.edition, LEFT_OUT)] == [out]
    assert kept.mailings.modes("autumn", [ADA]) == {ADA: PixelMode.NONE}


# Others in between


def test_somebody_who_is_moved_while_being_moved(
    kept: Kept, others: DynamoMailings, dynamodb: Ground, record: CampaignRecord
) -> None:
    """They are in one part in the end, and in no other."""
    elsewhere = choice(ADA, "untracked-late-000002")
    moved = partial(others.change_choices, "autumn", record.edition, [elsewhere])
    met = Faults(dynamodb.client, "TransactWriteItems", moved)
    kept.mailings.change_choices("autumn", record.edition, [LATE])
    assert not met.left
    assert [*kept.mailings.choices(record.edition, LATE.part)] == [LATE]
    assert [*kept.mailings.choices(record.edition, elsewhere.part)] == []
    assert kept.mailings.next_part(record.edition, "") == ("untracked", 9)
    assert kept.mailings.next_part(record.edition, "untracked") == (LATE.part, 1)


def test_of_two_who_saw_that_a_part_waits_one_begins(kept: Kept, others: DynamoMailings, dynamodb: Ground) -> None:
    """The second looks again, and sends nothing."""
    met = Faults(dynamodb.client, "TransactWriteItems", lambda: others.journal("autumn").begin("tracked"))
    with pytest.raises(AmbiguousOutcome):
        kept.mailings.journal("autumn").begin("tracked")
    assert not met.left
    others.journal("autumn").failed("tracked")
    assert not kept.mailings.started("autumn")


# Faults


@FAULTS
@pytest.mark.parametrize("nth", range(4))
def test_a_snapshot_that_was_cut_off_leaves_nothing(kept: Kept, dynamodb: Ground, nth: int, fault: str) -> None:
    """Wherever that was: another one is begun, and of the first one no row stays."""
    begun = kept.mailings.new_edition("autumn")
    faults = Faults(dynamodb.client, "BatchWriteItem", *[None] * nth, fault)
    with pytest.raises(StoreError):
        kept.mailings.add_choices(begun, [choice(r, "tracked") for r in MANY])
    assert not faults.left
    assert kept.mailings.new_edition("autumn") > begun
    assert left_over(dynamodb, begun) == set()


@FAULTS
@pytest.mark.parametrize("nth", range(4))
def test_what_was_cut_off_while_being_dropped_is_dropped(kept: Kept, dynamodb: Ground, nth: int, fault: str) -> None:
    """A member is never left without the choice that leads to it."""
    begun = kept.mailings.new_edition("autumn")
    kept.mailings.add_choices(begun, [choice(r, "tracked") for r in MANY])
    assert left_over(dynamodb, begun)
    faults = Faults(dynamodb.client, "BatchWriteItem", *[None] * nth, fault)
    with pytest.raises(StoreError):
        kept.mailings.new_edition("autumn")
    assert not faults.left
    kept.mailings.new_edition("autumn")
    assert left_over(dynamodb, begun) == set()


@pytest.mark.parametrize("operation", ["GetItem", "BatchGetItem", "Query"])
def test_nothing_is_taken_for_absent_because_it_cannot_be_read(
    kept: Kept, dynamodb: Ground, record: CampaignRecord, operation: str
) -> None:
    """A store that does not answer is no untracked recipient, and no part that waits."""
    reads: dict[str, Callable[[], object]] = {
        "GetItem": lambda: kept.mailings.started("autumn"),
        "BatchGetItem": lambda: kept.mailings.modes("autumn", [ADA], record.edition),
        "Query": lambda: kept.mailings.next_part(record.edition, ""),
    }
    faults = Faults(dynamodb.client, operation, "before")
    with pytest.raises(StoreError, match=operation):
        reads[operation]()
    assert not faults.left


@pytest.mark.parametrize("damage", [{"mode": "all"}, {"basis": "whim"}, {"part": 7}, {"reason": None}], ids=str)
def test_a_damaged_choice_is_reported(
    kept: Kept, dynamodb: Ground, record: CampaignRecord, damage: dict[str, Any]
) -> None:
    """Rather than guessed at."""
    table = DynamoMailings(dynamodb.client, dynamodb.prefix).table
    item = table.get(f"edition#{record.edition}#{ADA.hex()[0]}", ADA.hex())
    assert item is not None
    table.put({**item, **damage})
    with pytest.raises(StoreError, match="damaged"):
        list(kept.mailings.choices(record.edition))


def test_a_damaged_campaign_is_reported(kept: Kept, dynamodb: Ground, record: CampaignRecord) -> None:
    """And is none that was never applied."""
    table = DynamoMailings(dynamodb.client, dynamodb.prefix).table
    table.update("campaigns", record.campaign.id, set={"record": b"{}"})
    with pytest.raises(StoreError, match="damaged"):
        kept.mailings.campaign("autumn")
