"""The working records and the address book: what ESPs hold, campaigns and their journals, addresses that can go."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace

import pytest

from core.errors import AmbiguousOutcome, StoreError
from core.model import (
    Action,
    Basis,
    Campaign,
    CampaignId,
    CampaignKind,
    Mechanism,
    PixelMode,
    PurposeId,
    RecipientId,
)
from core.records import Choice, Confirmed, SyncState
from core.stores.database import VARIABLES
from core.verify import verify
from tests.embedded import database_of
from tests.mailings_in_store import applied
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


# What ESPs hold


def hold(services: Services, provider: str, rows: Mapping[RecipientId, Confirmed]) -> set[RecipientId]:
    """What an ESP was seen to hold, noted as a sync does it."""
    mark = services.records.doubt(provider, {recipient: row.purposes for recipient, row in rows.items()})
    return services.records.settle(provider, rows, mark)


def test_what_was_confirmed_is_kept_for_each_esp(services: Services) -> None:
    """The last word about a recipient counts, and one ESP's says nothing about another's."""
    held = Confirmed(frozenset({MEASURING, PurposeId("deliverability")}), b"12345678")
    assert hold(services, "ses", {ADA: held, BOB: Confirmed(frozenset(), b"x")}) == set()
    assert services.records.confirmed("ses", [ADA, BOB]) == {ADA: held, BOB: Confirmed(frozenset(), b"x")}
    assert services.records.confirmed("sendgrid", [ADA, BOB]) == {}
    hold(services, "ses", {ADA: Confirmed()})
    assert services.records.confirmed("ses", [ADA]) == {ADA: Confirmed()}


def test_a_doubt_names_all_that_an_esp_may_hold(services: Services) -> None:
    """What it may have held before is not forgotten by a second call; nothing is certain until it is settled."""
    hold(services, "ses", {ADA: Confirmed(frozenset({MEASURING}), b"x")})
    services.records.doubt("ses", {ADA: frozenset({PurposeId("deliverability")})})
    kept = services.records.confirmed("ses", [ADA])[ADA]
    assert kept.purposes == {MEASURING, PurposeId("deliverability")}
    assert (kept.carried, bool(kept.mark)) == (b"", True)
    assert [recipient for recipient, _ in services.records.pending("ses")] == [ADA]


def test_what_an_esp_holds_is_paged_and_forgotten(services: Services) -> None:
    """In the order of recipients; an erased person's row is gone at that ESP alone."""
    for provider in ("ses", "sendgrid"):
        hold(services, provider, dict.fromkeys(MANY[:5], Confirmed(frozenset(), b"x")))
    first = services.records.held("ses", limit=3)
    rest = services.records.held("ses", first[-1][0], limit=3)
    assert [recipient for recipient, _ in [*first, *rest]] == MANY[:5]
    services.records.forget_held("ses", [MANY[0]])
    assert [recipient for recipient, _ in services.records.held("ses")] == MANY[1:5]
    assert len(services.records.held("sendgrid")) == 5


def test_how_far_a_sync_came_is_kept(services: Services) -> None:
    """For each ESP; to the second."""
    state = SyncState(7, 3, b"12345678", services.now().replace(microsecond=0))
    assert services.records.sync_state("ses") is None
    services.records.save_sync_state("ses", state)
    assert services.records.sync_state("ses") == state
    assert services.records.sync_state("sendgrid") is None


def test_more_recipients_than_one_statement_takes(services: Services) -> None:
    """Confirmations, snapshots and addresses are looked up in chunks, none left out."""
    hold(services, "ses", dict.fromkeys(MANY, Confirmed(frozenset({MEASURING}), b"x")))
    applied(services, CAMPAIGN, dict.fromkeys(MANY, PixelMode.NONE))
    services.book.put((r, f"{r.hex()}@example.org", None) for r in MANY)
    assert set(services.records.confirmed("ses", [*MANY, ADA])) == set(MANY)
    assert services.mailings.modes("autumn", [*MANY, ADA]) == dict.fromkeys(MANY, PixelMode.NONE)
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
    mailings = services.mailings
    assert mailings.campaign("autumn") is None
    record = applied(services, CAMPAIGN, {ADA: PixelMode.INDIVIDUAL, BOB: PixelMode.AGGREGATE})
    assert mailings.campaign("autumn") == record
    assert mailings.modes("autumn", [ADA, BOB]) == {ADA: PixelMode.INDIVIDUAL, BOB: PixelMode.AGGREGATE}
    assert mailings.modes("winter", [ADA, BOB]) == {}
    mailings.mark_sent("autumn")
    assert mailings.campaigns() == [replace(record, sent=True)]


def test_a_snapshot_is_replaced_whole(services: Services) -> None:
    """Whoever is not in the new one is in none, and nothing of the old one stays in the file."""
    first = applied(services, CAMPAIGN, {ADA: PixelMode.INDIVIDUAL, BOB: PixelMode.NONE})
    second = applied(services, CAMPAIGN, {BOB: PixelMode.AGGREGATE})
    assert services.mailings.modes("autumn", [ADA, BOB]) == {BOB: PixelMode.AGGREGATE}
    assert list(services.mailings.choices(first.edition)) == []
    assert [choice.recipient for choice in services.mailings.choices(second.edition)] == [BOB]


def test_a_snapshot_that_is_not_finished_changes_nothing(services: Services) -> None:
    """Until it is put in force the old one holds; what a crash left is dropped by the next one."""
    applied(services, CAMPAIGN, {ADA: PixelMode.INDIVIDUAL})
    begun = services.mailings.new_edition("autumn")
    services.mailings.add_choices(begun, [Choice(BOB, PixelMode.NONE, "untracked", Basis.NONE, "")])
    assert services.mailings.modes("autumn", [ADA, BOB]) == {ADA: PixelMode.INDIVIDUAL}
    services.mailings.new_edition("autumn")
    assert list(services.mailings.choices(begun)) == []
    assert services.mailings.modes("autumn", [ADA]) == {ADA: PixelMode.INDIVIDUAL}


@pytest.mark.parametrize(("outcome", "replaceable"), [("begin", False), ("done", False), ("failed", True)])
def test_what_left_can_no_longer_change(services: Services, outcome: str, replaceable: bool) -> None:
    """A snapshot is the evidence of what people got; only a part that certainly did not leave lets it be replaced."""
    applied(services, CAMPAIGN, {ADA: PixelMode.INDIVIDUAL})
    journal = services.mailings.journal("autumn")
    journal.begin("untracked")
    if outcome != "begin":
        getattr(journal, outcome)("untracked")
    if replaceable:
        applied(services, CAMPAIGN, {BOB: PixelMode.NONE})
    else:
        with pytest.raises(StoreError, match="left already"):
            applied(services, CAMPAIGN, {BOB: PixelMode.NONE})
    assert set(services.mailings.modes("autumn", [ADA, BOB])) == ({BOB} if replaceable else {ADA})


def test_nobody_is_moved_out_of_or_into_a_part_that_left(services: Services) -> None:
    """A pixel that is in the mail already is in the mail, whatever is decided later."""
    record = applied(services, CAMPAIGN, {ADA: PixelMode.INDIVIDUAL})
    late = Choice(ADA, PixelMode.NONE, "untracked-late-000001", Basis.NONE, "withdrawn")
    services.mailings.journal("autumn").begin("untracked")
    with pytest.raises(StoreError, match="left while"):
        services.mailings.change_choices("autumn", record.edition, [late])
    services.mailings.journal("autumn").failed("untracked")
    services.mailings.change_choices("autumn", record.edition, [late])
    services.mailings.journal("autumn").begin(late.part)
    with pytest.raises(StoreError, match="left while"):
        services.mailings.change_choices("autumn", record.edition, [replace(late, part="untracked")])
    assert list(services.mailings.choices(record.edition)) == [late]


def test_parts_come_in_the_order_of_their_names(services: Services) -> None:
    """Tracked ones first, then the others, then the late ones; each with its size."""
    edition = services.mailings.new_edition("autumn")
    names = ["untracked-000001", "tracked-000002", "untracked-late-000001", "tracked-000001", "tracked-000001"]
    rows = zip(MANY, names, strict=False)
    services.mailings.add_choices(edition, [Choice(r, PixelMode.NONE, name, Basis.NONE, "") for r, name in rows])
    found, name = [], ""
    while (part := services.mailings.next_part(edition, name)) is not None:
        found.append(part)
        name = part[0]
    assert found == [
        ("tracked-000001", 2),
        ("tracked-000002", 1),
        ("untracked-000001", 1),
        ("untracked-late-000001", 1),
    ]
    assert services.mailings.last_part(edition, "untracked-late") == ("untracked-late-000001", 1)
    assert services.mailings.last_part(edition, "other") is None


# Send journals


def test_a_part_is_sent_once(services: Services) -> None:
    """Done is skipped, also by another run over the same file; refused may be tried again; each part is its own."""
    journal = services.mailings.journal("autumn")
    assert journal.begin("tracked")
    journal.done("tracked")
    assert not journal.begin("tracked")
    assert not services.mailings.journal("autumn").begin("tracked")
    assert journal.begin("untracked")
    journal.failed("untracked")
    assert journal.begin("untracked")
    assert services.mailings.journal("winter").begin("tracked")


def test_a_part_that_nobody_knows_about_is_ambiguous(services: Services) -> None:
    """It began and did not end: whether mail left is for a person to find out, never a guess."""
    assert services.mailings.journal("autumn").begin("tracked")
    with closing(sqlite3.connect(database_of(services).path)) as other:
        assert other.execute("SELECT state FROM send_part").fetchall() == [("begun",)]
    with pytest.raises(AmbiguousOutcome, match="look it up at the ESP"):
        services.mailings.journal("autumn").begin("tracked")


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
