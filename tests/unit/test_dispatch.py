"""Campaigns until they stand ready: who gets which pixel, kept as evidence before any mail leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import duckdb
import pytest

from core import dispatch as module
from core.errors import AmbiguousOutcome, PlanError, ProviderRefused
from core.ledger import campaign_chain, parse_campaign
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
from core.verify import verify
from tests.esp_in_memory import NAME, EspInMemory
from webhooks.assembly import Services

Record = Callable[..., int]
Wait = Callable[..., object]

MEASURING, DELIVERING = PurposeId("performance"), PurposeId("deliverability")
CAMPAIGN = Campaign(
    CampaignId("autumn"),
    NAME,
    CampaignKind.REQUESTED,
    (MEASURING,),
    Mechanism.PROVIDER,
    content={"subject": "Autumn"},
)
INDIVIDUAL, AGGREGATE, NONE = PixelMode.INDIVIDUAL, PixelMode.AGGREGATE, PixelMode.NONE


@pytest.fixture
def esp() -> EspInMemory:
    """An ESP that has sent nothing."""
    return EspInMemory()


@pytest.fixture
def people(services: Services, record: Record, wait: Wait) -> dict[str, RecipientId]:
    """Ada agreed to both purposes, Bob to one, Cat refused, nobody asked Dan."""
    named = {name: services.recipient(f"{name}@example.org") for name in ("ada", "bob", "cat", "dan")}
    services.book.put((recipient, f"{name}@example.org", None) for name, recipient in named.items())
    record(Action.GIVEN, recipient=named["ada"], purposes=(MEASURING, DELIVERING))
    record(Action.GIVEN, recipient=named["bob"], purposes=(MEASURING,))
    record(Action.REFUSED, recipient=named["cat"], purposes=(MEASURING, DELIVERING))
    wait(seconds=1)
    return named


def modes_of(services: Services, people: dict[str, RecipientId]) -> dict[str, PixelMode]:
    """The snapshot, by name."""
    kept = services.mailings.modes("autumn", people.values())
    return {name: kept[recipient] for name, recipient in people.items() if recipient in kept}


def tracked_by(esp: EspInMemory) -> set[str]:
    """Whom the ESP was told to track, by name."""
    return {address.partition("@")[0] for address in esp.applied[-1][1]}


# Plans


@pytest.mark.parametrize(
    "expected",
    [
        ({}, {"ada", "bob"}, [INDIVIDUAL, INDIVIDUAL, NONE, NONE]),
        ({"purposes": (MEASURING, DELIVERING)}, {"ada"}, [INDIVIDUAL, NONE, NONE, NONE]),
        ({"aggregate": True}, {"ada", "bob"}, [INDIVIDUAL, INDIVIDUAL, AGGREGATE, AGGREGATE]),
        ({"purposes": (), "aggregate": True}, set(), [AGGREGATE] * 4),
        ({"mechanism": Mechanism.HOSTED}, set(), [INDIVIDUAL, INDIVIDUAL, NONE, NONE]),
        (
            {"mechanism": Mechanism.HOSTED, "purposes": (MEASURING, DELIVERING), "aggregate": True},
            set(),
            [INDIVIDUAL, INDIVIDUAL, AGGREGATE, AGGREGATE],
        ),
        ({"mechanism": Mechanism.NONE, "purposes": ()}, set(), [NONE] * 4),
        (
            {"kind": CampaignKind.AUTHENTICATION, "purposes": (PurposeId("authentication_security"),)},
            {"ada", "bob", "cat", "dan"},
            [INDIVIDUAL] * 4,
        ),
    ],
)
def test_a_campaign_splits_by_mechanism_and_consent(
    services: Services,
    esp: EspInMemory,
    people: dict[str, RecipientId],
    expected: tuple[dict[str, object], set[str], list[PixelMode]],
) -> None:
    """The ESP's pixel for those of the tracked half alone; with the hosted one everybody is in the untracked half."""
    changes, tracked, modes = expected
    campaign = replace(CAMPAIGN, **changes)  # type: ignore[arg-type]
    prepared = services.dispatch.plan(campaign, esp)
    halves = prepared.plan.halves
    assert (halves.tracked, halves.untracked) == (len(tracked), len(people) - len(tracked))
    assert (halves.individual, halves.aggregate) == (modes.count(INDIVIDUAL), modes.count(AGGREGATE))
    assert {mode: prepared.outlook.count(mode) for mode in PixelMode} == {m: modes.count(m) for m in PixelMode}
    _, applied = services.dispatch.apply(campaign, esp)
    assert applied == prepared
    assert tracked_by(esp) == tracked
    assert modes_of(services, people) == dict(zip(people, modes, strict=True))


def test_an_audience_limits_the_campaign(services: Services, esp: EspInMemory, people: dict[str, RecipientId]) -> None:
    """Whoever is not in it gets nothing, whoever is named twice is there once, strangers are left out."""
    audience = [people["ada"], people["dan"], people["ada"], RecipientId(b"x" * 16)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE", 1)
        services.dispatch.apply(CAMPAIGN, esp, audience)
    assert modes_of(services, people) == {"ada": INDIVIDUAL, "dan": NONE}
    with pytest.raises(PlanError, match="nobody to send it to"):
        services.dispatch.plan(CAMPAIGN, esp, [])


def test_pages_cover_everybody(services: Services, esp: EspInMemory, people: dict[str, RecipientId]) -> None:
    """A plan over many pages is the same plan."""
    whole = services.dispatch.plan(CAMPAIGN, esp)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE", 1)
        assert services.dispatch.plan(CAMPAIGN, esp) == whole
    assert whole.plan.halves.recipients == len(people)


def test_an_unlawful_or_impossible_campaign_is_not_planned(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """The policy refuses, or the ESP does; nothing was applied."""
    assert people
    for act in (services.dispatch.plan, services.dispatch.apply):
        with pytest.raises(PlanError, match="say what its opens are for"):
            act(replace(CAMPAIGN, purposes=()), esp)
        with pytest.raises(PlanError, match="subject"):
            act(replace(CAMPAIGN, content={}), esp)
        with pytest.raises(PlanError, match="asks for consent carries no pixel"):
            act(replace(CAMPAIGN, asks=True), esp)
    assert esp.applied == []
    assert services.mailings.campaign("autumn") is None


def test_a_plan_changes_nothing(services: Services, esp: EspInMemory, people: dict[str, RecipientId]) -> None:
    """Neither here nor at the ESP."""
    before = services.store.size()
    services.dispatch.plan(CAMPAIGN, esp)
    assert services.mailings.campaign("autumn") is None
    assert modes_of(services, people) == {}
    assert (esp.applied, esp.mails, esp.syncs) == ([], [], [])
    assert services.store.size() == before


def test_a_mail_that_asks_goes_to_those_who_may_be_asked(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """Whoever decided, or was asked a while ago, is left alone (§4.2)."""
    asking = replace(CAMPAIGN, purposes=(), mechanism=Mechanism.NONE, asks=True)
    services.dispatch.apply(asking, esp)
    assert modes_of(services, people) == {"dan": NONE}
    with pytest.raises(PlanError, match="nobody may be asked now"):
        services.dispatch.plan(asking, esp, [people["ada"]])


# Apply


def test_applying_keeps_the_snapshot_and_sends_nothing(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """Who gets which pixel is kept before any mail leaves."""
    record, _ = services.dispatch.apply(CAMPAIGN, esp)
    assert services.mailings.campaign("autumn") == record
    assert (record.halves.tracked, record.halves.untracked, record.sent) == (2, 2, False)
    assert modes_of(services, people) == {"ada": INDIVIDUAL, "bob": INDIVIDUAL, "cat": NONE, "dan": NONE}
    assert esp.mails == []


def test_the_snapshot_is_a_file_whose_digest_stands_in_the_ledger(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """Any tool can show who got which pixel and why, and that this is the file of that day; it holds no address."""
    record, _ = services.dispatch.apply(CAMPAIGN, esp)
    (file,) = (services.data / "snapshots").iterdir()
    assert hashlib.sha256(file.read_bytes()).hexdigest() == record.snapshot
    assert file.stat().st_mode & 0o777 == 0o600
    with duckdb.connect() as db:
        rows = db.execute("SELECT recipient, pixel, part, basis, reason FROM read_parquet(?)", [str(file)]).fetchall()
    assert {row[0]: row[1:] for row in rows} == {
        people["ada"].hex(): ("individual", "tracked", "consent", "consent for performance"),
        people["bob"].hex(): ("individual", "tracked", "consent", "consent for performance"),
        people["cat"].hex(): ("none", "untracked", "none", "performance: refused"),
        people["dan"].hex(): ("none", "untracked", "none", "performance: unknown"),
    }
    (entry,) = services.store.chain(campaign_chain("autumn"))
    body = parse_campaign(entry.body)
    assert (body.stage, body.snapshot_sha256, body.tracked, body.untracked) == ("applied", record.snapshot, 2, 2)
    assert verify(services.store).ok


def test_applying_again_follows_the_choices(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId], record: Record
) -> None:
    """As long as nothing left, a new snapshot takes the old one's place, and its file too."""
    first, _ = services.dispatch.apply(CAMPAIGN, esp)
    record(Action.WITHDRAWN, recipient=people["bob"])
    again, _ = services.dispatch.apply(CAMPAIGN, esp)
    assert (again.halves.tracked, again.halves.untracked) == (1, 3)
    assert modes_of(services, people)["bob"] is NONE
    assert [file.name for file in (services.data / "snapshots").iterdir()] == [f"autumn-{again.snapshot[:12]}.parquet"]
    assert first.snapshot != again.snapshot
    assert len(services.store.chain(campaign_chain("autumn"))) == 2


def test_what_the_esp_refuses_leaves_what_was_applied(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId], record: Record
) -> None:
    """An apply that fails at the ESP changes nothing here: the earlier snapshot is still in force."""
    before, _ = services.dispatch.apply(CAMPAIGN, esp)
    record(Action.WITHDRAWN, recipient=people["bob"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(esp, "apply", failing)
        with pytest.raises(ProviderRefused):
            services.dispatch.apply(CAMPAIGN, esp)
    assert services.mailings.campaign("autumn") == before
    assert modes_of(services, people)["bob"] is INDIVIDUAL
    assert len(services.store.chain(campaign_chain("autumn"))) == 1


def failing(*_: object) -> AppliedPlan:
    """An ESP that does not take a plan."""
    raise ProviderRefused(NAME, "no")


def test_a_sent_campaign_cannot_be_applied_again(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """Its snapshot is evidence: a new mailing takes a new id, and the ESP is not touched."""
    services.dispatch.apply(CAMPAIGN, esp)
    services.release.send(CAMPAIGN, esp)
    with pytest.raises(PlanError, match="was sent already"):
        services.dispatch.apply(CAMPAIGN, esp)
    assert len(esp.applied) == 1
    assert modes_of(services, people)["ada"] is INDIVIDUAL


@pytest.mark.parametrize("failure", [AmbiguousOutcome, ProviderRefused])
def test_a_campaign_of_which_a_part_left_cannot_be_applied_again(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId], failure: type[AmbiguousOutcome]
) -> None:
    """Setting the ESP up anew between the halves could send twice, or not at all: it is refused before the ESP."""
    assert people
    services.dispatch.apply(CAMPAIGN, esp)
    esp.failing_parts = {"untracked": failure}
    with pytest.raises(failure):
        services.release.send(CAMPAIGN, esp)
    with pytest.raises(PlanError, match="a part of it left already"):
        services.dispatch.apply(CAMPAIGN, esp)
    assert len(esp.applied) == 1


def test_a_campaign_of_which_nothing_left_may_be_applied_again(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """The ESP refused the first half: after a correction it is set up anew and sent."""
    services.dispatch.apply(CAMPAIGN, esp)
    esp.failing_parts = {"tracked": ProviderRefused}
    with pytest.raises(ProviderRefused):
        services.release.send(CAMPAIGN, esp)
    services.dispatch.apply(CAMPAIGN, esp)
    services.release.send(CAMPAIGN, esp)
    assert len(esp.mails) == len(people)
