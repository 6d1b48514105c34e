"""What is read about people and campaigns, in every kind of store: SQLite, and DynamoDB as three servers have it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from core.errors import DamagedState, StoreError
from core.ledger import Ledger, Recording
from core.model import (
    Action,
    Basis,
    Campaign,
    CampaignId,
    CampaignKind,
    ConsentEvent,
    Mechanism,
    PixelMode,
    PurposeId,
    RecipientId,
)
from core.ports import Open
from core.records import CampaignRecord, Choice
from core.stores.dynamodb.forms import opens_key
from core.stores.dynamodb.readings import SETTLING
from core.stores.dynamodb.table import STATE, Table, table_name
from tests.aws_ground import Faults, Ground, Servers
from tests.contract.ledger_bench import ADA, BOB, PERFORMANCE
from tests.contract.stores_bench import KINDS, Kept, on_dynamodb, stores
from tests.mailings_in_store import applied

PERSONAL = PurposeId("personalisation")
CAT, DAN = RecipientId(b"\xc7" * 16), RecipientId(b"d" * 16)


@pytest.fixture(params=KINDS)
def kept(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kept]:
    """Nothing on record, in each kind of store in turn."""
    with stores(request.param, servers, tmp_path) as made:
        yield made


def campaign(name: str) -> Campaign:
    """A campaign."""
    return Campaign(CampaignId(name), "ses", CampaignKind.REQUESTED, (PERFORMANCE,), Mechanism.HOSTED)


def opened(kept: Kept, recipient: RecipientId, *serves: PurposeId, name: str = "autumn", machine: bool = False) -> Open:
    """Put an open of now on record; a second passes."""
    made = Open(name, recipient, kept.clock().replace(microsecond=0), serves, "hosted", machine, "Thunderbird")
    with kept.ledger.batch() as batch:
        batch.record_opens([made])
    kept.clock.wait(seconds=1)
    return made


def said(kept: Kept, recipient: RecipientId, partner: str | None = None) -> None:
    """Somebody agreed, or a partner claims so; a second passes."""
    event = ConsentEvent(recipient, (PERFORMANCE,), Action.GIVEN, kept.clock(), kept.clock(), "form", partner=partner)
    Ledger(kept.ledger, kept.clock).record([Recording(event)])
    kept.clock.wait(seconds=1)


# Opens


def test_opens_are_paged_in_the_order_in_which_they_came(kept: Kept) -> None:
    """Of the campaign alone whose name may begin another's, and of the purpose alone; none twice, none left out."""
    expected = []
    for n in range(9):
        recipient = (ADA, BOB, CAT)[n % 3]
        expected.append(opened(kept, recipient, PERFORMANCE, PERSONAL))
        opened(kept, recipient, PERSONAL, PurposeId("performance_more"))
        opened(kept, recipient, PERFORMANCE, name="autumn-2")
    kept.clock.wait(minutes=2)
    for limit in (1, 2, 4, 100):
        found: list[tuple[int, Open]] = []
        while page := kept.readings.opens("autumn", PERFORMANCE, found[-1][0] if found else 0, limit):
            assert len(page) <= limit
            found += page
        assert [each for _, each in found] == expected
    assert kept.readings.opens("autumn", PurposeId("deliverability"), 0, 10) == []


def test_openers_are_people(kept: Kept) -> None:
    """Somebody who opened twice is one, and a machine is nobody."""
    for recipient in (ADA, ADA, CAT):
        opened(kept, recipient, PERFORMANCE)
    opened(kept, BOB, PERFORMANCE, machine=True)
    opened(kept, BOB, PERFORMANCE, name="winter")
    assert [kept.readings.openers(name) for name in ("autumn", "winter", "spring")] == [2, 1, 0]


def test_a_persons_opens_come_by_time(kept: Kept) -> None:
    """Whatever order they were recorded in, of all campaigns that are on record."""
    for name in ("autumn", "winter"):
        applied(kept, campaign(name), {})
    late = opened(kept, ADA, PERFORMANCE)
    kept.clock.wait(days=-1)
    early = opened(kept, ADA, PERFORMANCE, name="winter", machine=True)
    opened(kept, BOB, PERFORMANCE)
    assert kept.readings.opens_of(ADA) == [early, late]
    assert kept.readings.opens_of(CAT) == []


# Chains and choices


def test_a_chain_is_paged(kept: Kept) -> None:
    """Behind a given entry, so many at most."""
    for _ in range(4):
        said(kept, ADA)
    said(kept, BOB)
    assert kept.readings.entries(ADA, 0, 10) == kept.ledger.chain(ADA)
    assert [entry.seq for entry in kept.readings.entries(ADA, 1, 2)] == [2, 3]
    assert kept.readings.entries(ADA, 4, 2) == kept.readings.entries(CAT, 0, 2) == []


def test_what_many_snapshots_say_of_one_person(kept: Kept) -> None:
    """More snapshots than one request takes, and only the person's own rows."""
    editions = [applied(kept, campaign(f"c{n}"), {ADA: PixelMode.INDIVIDUAL}).edition for n in range(3)]
    other = applied(kept, campaign("other"), {BOB: PixelMode.NONE}).edition
    found = kept.readings.choices_of(ADA, [*range(10_000, 10_250), *editions, other])
    assert found.keys() == set(editions)
    assert {(each.recipient, each.mode) for each in found.values()} == {(ADA, PixelMode.INDIVIDUAL)}


# What reconciliations read


def test_entries_that_name_a_partner_are_read_in_order(kept: Kept) -> None:
    """With their positions, of the asked ones alone; however the others are paged, none is left uncounted."""
    assert (kept.entries.size(), kept.entries.hash_at(1), [*kept.entries.pages(0, 0)]) == (0, None, [])
    for recipient, partner in ((ADA, "Élan & Co"), (BOB, None), (CAT, "Other"), (ADA, "Other")):
        said(kept, recipient, partner)
    assert kept.entries.size() == 4
    hashes = list(kept.ledger.hashes(0, 4))
    assert [kept.entries.hash_at(position) for position in range(6)] == [None, *hashes, None]
    pages = list(kept.entries.pages(0, 4))
    rows = [json.loads(line) for _, text in pages for line in text.splitlines()]
    assert sum(number for number, _ in pages) == 4
    assert [(row["position"], row["partner"], row["recipient"]) for row in rows] == [
        (1, "Élan & Co", ADA.hex()),
        (3, "Other", CAT.hex()),
        (4, "Other", ADA.hex()),
    ]
    assert [json.loads(text)["position"] for _, text in kept.entries.pages(2, 3)] == [3]


def uses(kept: Kept) -> dict[str, datetime]:
    """When each was first used, by the first byte of the recipient in hex."""
    found: dict[str, datetime] = {}
    for recipient, micros in kept.entries.first_uses():
        at = datetime.fromtimestamp(micros / 1_000_000, UTC)
        found[recipient.lower()[:2]] = min(at, found.get(recipient.lower()[:2], at))
    return found


def recorded(kept: Kept, record: CampaignRecord, stage: Literal["applied", "released"]) -> datetime:
    """Say in the ledger how far a campaign is; answers when, and a second passes."""
    at = kept.clock()
    Ledger(kept.ledger, kept.clock).record_campaign(record, stage, "ab" * 32)
    kept.clock.wait(seconds=1)
    return at


def test_first_uses_are_when_mail_left_and_when_it_was_opened(kept: Kept) -> None:
    """Of individual pixels alone, and of nobody who got no mail; a campaign that only began counts from its plan."""
    modes = {ADA: PixelMode.INDIVIDUAL, BOB: PixelMode.AGGREGATE, DAN: PixelMode.INDIVIDUAL}
    record = applied(kept, campaign("autumn"), modes)
    left_out = Choice(DAN, PixelMode.INDIVIDUAL, "", Basis.CONSENT, "decided since; not asked")
    kept.mailings.change_choices("autumn", record.edition, [left_out])
    planned = recorded(kept, record, "applied")
    assert uses(kept) == {}
    kept.mailings.journal("autumn").begin("untracked")
    assert uses(kept) == {"61": planned}
    kept.mailings.journal("autumn").done("untracked")
    kept.mailings.mark_sent("autumn")
    left = recorded(kept, record, "released")
    assert uses(kept) == {"61": left}
    seen = opened(kept, CAT, PERFORMANCE)
    opened(kept, CAT, PERFORMANCE)
    assert uses(kept) == {"61": left, "c7": seen.opened_at}


# Of DynamoDB alone


def test_an_open_of_just_now_is_not_listed_yet(dynamodb: Ground) -> None:
    """One with a lower number may still be on its way, and whoever read past it would never see it."""
    kept = on_dynamodb(dynamodb)
    made = opened(kept, ADA, PERFORMANCE)
    assert kept.readings.opens("autumn", PERFORMANCE, 0, 10) == []
    assert kept.readings.openers("autumn") == 1
    kept.clock.wait(seconds=SETTLING / timedelta(seconds=1))
    assert [each for _, each in kept.readings.opens("autumn", PERFORMANCE, 0, 10)] == [made]


@pytest.mark.parametrize("name", ["opened_at", "recipient", "serves"])
def test_damage_is_told(dynamodb: Ground, name: str) -> None:
    """A stored value of another kind is never taken for an answer."""
    kept = on_dynamodb(dynamodb)
    opened(kept, ADA, PERFORMANCE)
    kept.clock.wait(minutes=2)
    state = Table(dynamodb.client, table_name(dynamodb.prefix, STATE))
    (item,) = state.query(opens_key("autumn", ADA.hex()[0]))
    state.put({**item, name: "no such value" if name == "recipient" else None})
    with pytest.raises(DamagedState):
        kept.readings.opens("autumn", PERFORMANCE, 0, 10)


@pytest.mark.parametrize("operation", ["Query", "BatchGetItem"])
def test_what_cannot_be_read_is_a_store_error(dynamodb: Ground, operation: str) -> None:
    """Nothing is left out of an answer because DynamoDB did not give it, on no page of it."""
    kept = on_dynamodb(dynamodb)
    opened(kept, ADA, PERFORMANCE)
    faults = Faults(dynamodb.client, operation, "before")
    with pytest.raises(StoreError, match=f"{operation} on .*-state failed: ReadTimeoutError"):
        kept.readings.opens_of(ADA)
    assert not faults.left
    assert len(kept.readings.opens_of(ADA)) == 1
