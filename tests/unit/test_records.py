"""The working records and the address book: what ESPs hold, campaigns and their journals, addresses that can go."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest

from core.errors import AmbiguousOutcome, StoreError
from core.model import (
    Action,
    AppliedPlan,
    Campaign,
    CampaignId,
    CampaignKind,
    Mechanism,
    PixelMode,
    PurposeId,
    RecipientId,
)
from core.ports import CampaignRecord, Confirmed
from core.stores.database import VARIABLES
from core.verify import verify
from webhooks.assembly import Services

ADA, BOB = RecipientId(b"a" * 16), RecipientId(b"b" * 16)
MANY = [RecipientId(n.to_bytes(16, "big")) for n in range(2 * VARIABLES + 1)]
MEASURING = PurposeId("performance")
CAMPAIGN = Campaign(
    CampaignId("autumn"),
    "ses",
    CampaignKind.REQUESTED,
    (MEASURING,),
    Mechanism.PROVIDER,
    aggregate=True,
    content={"subject": "Ünïcode"},
)
RECORD = CampaignRecord(CAMPAIGN, AppliedPlan(CAMPAIGN.id, "ses", {"template": "t1"}, 3), tracked=1, untracked=1)


# What ESPs hold


def test_what_was_confirmed_is_kept_for_each_esp(services: Services) -> None:
    """The last word about a recipient counts, and one ESP's says nothing about another's."""
    held = Confirmed(frozenset({MEASURING, PurposeId("deliverability")}), b"12345678")
    services.records.confirm("ses", {ADA: held, BOB: Confirmed(frozenset(), b"x")})
    assert services.records.confirmed("ses", [ADA, BOB]) == {ADA: held, BOB: Confirmed(frozenset(), b"x")}
    assert services.records.confirmed("sendgrid", [ADA, BOB]) == {}
    services.records.confirm("ses", {ADA: Confirmed()})
    assert services.records.confirmed("ses", [ADA]) == {ADA: Confirmed()}


def test_more_recipients_than_one_statement_takes(services: Services) -> None:
    """Confirmations, snapshots and addresses are looked up in chunks, none left out."""
    services.records.confirm("ses", dict.fromkeys(MANY, Confirmed(frozenset({MEASURING}), b"x")))
    services.records.save_campaign(RECORD, [(r, PixelMode.NONE) for r in MANY])
    services.book.put((r, f"{r.hex()}@example.org", None) for r in MANY)
    assert set(services.records.confirmed("ses", [*MANY, ADA])) == set(MANY)
    assert services.records.modes("autumn", [*MANY, ADA]) == dict.fromkeys(MANY, PixelMode.NONE)
    assert set(services.book.get([*MANY, ADA])) == set(MANY)


# Notices


def test_the_text_of_a_notice_is_kept_once(services: Services) -> None:
    """By its hash; a second text under the same hash changes nothing."""
    assert services.records.notice("ab" * 32) is None
    services.records.put_notice("ab" * 32, "What people read")
    services.records.put_notice("ab" * 32, "something else")
    assert services.records.notice("ab" * 32) == "What people read"


# Campaigns


def test_a_campaign_reads_back_as_it_was_applied(services: Services) -> None:
    """Equal in every field, so that a later declaration can be compared with it."""
    assert services.records.campaign("autumn") is None
    services.records.save_campaign(RECORD, [(ADA, PixelMode.INDIVIDUAL), (BOB, PixelMode.AGGREGATE)])
    assert services.records.campaign("autumn") == RECORD
    assert services.records.modes("autumn", [ADA, BOB]) == {ADA: PixelMode.INDIVIDUAL, BOB: PixelMode.AGGREGATE}
    assert services.records.modes("winter", [ADA, BOB]) == {}
    services.records.mark_sent("autumn")
    assert services.records.campaign("autumn") == replace(RECORD, sent=True)


def test_a_snapshot_is_replaced_whole(services: Services) -> None:
    """Whoever is not in the new one is in none."""
    services.records.save_campaign(RECORD, [(ADA, PixelMode.INDIVIDUAL), (BOB, PixelMode.NONE)])
    services.records.save_campaign(replace(RECORD, tracked=0), [(BOB, PixelMode.AGGREGATE)])
    assert services.records.modes("autumn", [ADA, BOB]) == {BOB: PixelMode.AGGREGATE}
    kept = services.records.campaign("autumn")
    assert kept is not None
    assert kept.tracked == 0


def test_a_snapshot_that_fails_half_way_leaves_the_old_one(services: Services) -> None:
    """Record and snapshot are replaced together or not at all."""
    services.records.save_campaign(RECORD, [(ADA, PixelMode.INDIVIDUAL)])
    with pytest.raises(StoreError):
        services.records.save_campaign(replace(RECORD, tracked=9), [(BOB, PixelMode.NONE), (BOB, PixelMode.NONE)])
    assert services.records.modes("autumn", [ADA, BOB]) == {ADA: PixelMode.INDIVIDUAL}
    assert services.records.campaign("autumn") == RECORD


@pytest.mark.parametrize(("outcome", "replaceable"), [("begin", False), ("done", False), ("failed", True)])
def test_what_left_can_no_longer_change(services: Services, outcome: str, replaceable: bool) -> None:
    """A snapshot is the evidence of what people got; only a part that certainly did not leave lets it be replaced."""
    services.records.save_campaign(RECORD, [(ADA, PixelMode.INDIVIDUAL)])
    journal = services.records.journal("autumn")
    journal.begin("tracked")
    if outcome != "begin":
        getattr(journal, outcome)("tracked")
    if replaceable:
        services.records.save_campaign(RECORD, [(BOB, PixelMode.NONE)])
    else:
        with pytest.raises(StoreError, match="left already"):
            services.records.save_campaign(RECORD, [(BOB, PixelMode.NONE)])
    assert set(services.records.modes("autumn", [ADA, BOB])) == ({BOB} if replaceable else {ADA})


# Send journals


def test_a_part_is_sent_once(services: Services) -> None:
    """Done is skipped, also by another run over the same file; refused may be tried again; each part is its own."""
    journal = services.records.journal("autumn")
    assert journal.begin("tracked")
    journal.done("tracked")
    assert not journal.begin("tracked")
    assert not services.records.journal("autumn").begin("tracked")
    assert journal.begin("untracked")
    journal.failed("untracked")
    assert journal.begin("untracked")
    assert services.records.journal("winter").begin("tracked")


def test_a_part_that_nobody_knows_about_is_ambiguous(services: Services) -> None:
    """It began and did not end: whether mail left is for a person to find out, never a guess."""
    assert services.records.journal("autumn").begin("tracked")
    with closing(sqlite3.connect(services.store.db.path)) as other:
        assert other.execute("SELECT state FROM send_part").fetchall() == [("begun",)]
    with pytest.raises(AmbiguousOutcome, match="look it up at the ESP"):
        services.records.journal("autumn").begin("tracked")


# Addresses


def test_addresses_stand_apart_from_the_ledger(services: Services, record: Callable[..., int]) -> None:
    """No file of the ledger holds an address; without one its proofs verify as before (§6)."""
    address = "ada.lovelace@example.org"
    recipient = services.recipient(address)
    services.book.put([(recipient, address, "fr")])
    record(Action.GIVEN, recipient=recipient)
    for file in services.data.glob("ledger.sqlite3*"):
        assert b"lovelace" not in file.read_bytes()
    assert services.book.erase(recipient)
    assert not services.book.erase(recipient)
    assert services.book.get([recipient]) == {}
    assert verify(services.store).ok
    assert len(services.store.chain(recipient)) == 1


def test_the_book_counts_what_is_new_and_keeps_a_locale(services: Services) -> None:
    """Known addresses are not counted again; a locale is replaced by another one and never by none."""
    assert services.book.put([(ADA, "ada@example.org", None), (BOB, "bob@example.org", "en")]) == 2
    assert services.book.put([(ADA, "ada@example.org", "fr"), (BOB, "bob@example.org", None)]) == 0
    assert services.book.get([ADA, BOB]) == {ADA: ("ada@example.org", "fr"), BOB: ("bob@example.org", "en")}
    services.book.put([(BOB, "bob@example.org", "de")])
    assert services.book.get([BOB]) == {BOB: ("bob@example.org", "de")}
    assert services.book.count() == 2


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_cover_the_book_once(services: Services, limit: int) -> None:
    """In the order of recipients, whatever the size of a page, none twice and none left out."""
    people = MANY[:7]
    services.book.put((r, f"{r.hex()}@example.org", None) for r in reversed(people))
    seen: list[RecipientId] = []
    while page := services.book.scan(seen[-1] if seen else None, limit):
        assert len(page) <= limit
        seen += [recipient for recipient, _, _ in page]
    assert seen == people
