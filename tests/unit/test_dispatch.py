"""Campaigns from the plan to the mail: who gets which pixel, nothing sent twice, nothing sent against a withdrawal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from core import dispatch as module
from core.errors import AmbiguousOutcome, PlanError, ProviderRefused
from core.model import (
    Action,
    Campaign,
    CampaignId,
    CampaignKind,
    Contact,
    Mechanism,
    PixelMode,
    PurposeId,
    RecipientId,
)
from core.tokens import Use
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


def who(contacts: tuple[Contact, ...]) -> set[str]:
    """Their names."""
    return {contact.address.partition("@")[0] for contact in contacts}


def modes_of(services: Services, people: dict[str, RecipientId]) -> dict[str, PixelMode]:
    """The snapshot, by name."""
    kept = services.records.modes("autumn", people.values())
    return {name: kept[recipient] for name, recipient in people.items() if recipient in kept}


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
def test_a_plan_splits_by_mechanism_and_consent(
    services: Services,
    esp: EspInMemory,
    people: dict[str, RecipientId],
    expected: tuple[dict[str, object], set[str], list[PixelMode]],
) -> None:
    """The ESP's pixel for those of the tracked half alone; with the hosted one everybody is in the untracked half."""
    changes, tracked, modes = expected
    prepared = services.dispatch.plan(replace(CAMPAIGN, **changes), esp)  # type: ignore[arg-type]
    assert who(prepared.plan.split.tracked) == tracked
    assert who(prepared.plan.split.untracked) == set(people) - tracked
    assert dict(prepared.modes) == dict(zip(people.values(), modes, strict=True))
    assert {mode: prepared.count(mode) for mode in PixelMode} == {mode: modes.count(mode) for mode in PixelMode}


def test_pixel_paths_follow_the_decision(services: Services, esp: EspInMemory, people: dict[str, RecipientId]) -> None:
    """Hosted: a token of their own for the consenting, the common path for the counted; the ESP's pixel: no path."""
    hosted = replace(CAMPAIGN, mechanism=Mechanism.HOSTED, aggregate=True)
    paths = {c.recipient: c.pixel_path for c in services.dispatch.plan(hosted, esp).plan.split.untracked}
    tokens = services.links.tokens
    assert tokens.open(paths[people["ada"]].removeprefix("o/"), Use.PIXEL) == people["ada"]
    assert (paths[people["cat"]], paths[people["dan"]]) == ("a", "a")
    uncounted = services.dispatch.plan(replace(hosted, aggregate=False), esp).plan.split.untracked
    assert {c.recipient for c in uncounted if not c.pixel_path} == {people["cat"], people["dan"]}
    for campaign in (replace(CAMPAIGN, aggregate=True), replace(hosted, mechanism=Mechanism.NONE)):
        split = services.dispatch.plan(campaign, esp).plan.split
        assert {c.pixel_path for c in (*split.tracked, *split.untracked)} == {""}


def test_every_contact_carries_their_own_choices_link(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """In both halves (§5)."""
    split = services.dispatch.plan(CAMPAIGN, esp).plan.split
    for contact in (*split.tracked, *split.untracked):
        token = contact.choices_url.rpartition("/")[2]
        assert services.links.tokens.open(token, Use.CHOICES) == contact.recipient
    assert len(split.tracked) + len(split.untracked) == len(people)


def test_an_audience_limits_the_plan(services: Services, esp: EspInMemory, people: dict[str, RecipientId]) -> None:
    """Whoever is not in it is in no half, whoever is named twice is there once, strangers are left out."""
    audience = [people["ada"], people["dan"], people["ada"], RecipientId(b"x" * 16)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE", 1)
        prepared = services.dispatch.plan(CAMPAIGN, esp, audience)
    assert (who(prepared.plan.split.tracked), who(prepared.plan.split.untracked)) == ({"ada"}, {"dan"})
    with pytest.raises(PlanError, match="nobody to send it to"):
        services.dispatch.plan(CAMPAIGN, esp, [])


def test_pages_cover_everybody(services: Services, esp: EspInMemory, people: dict[str, RecipientId]) -> None:
    """A plan over many pages is the same plan."""
    whole = services.dispatch.plan(CAMPAIGN, esp)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE", 1)
        assert services.dispatch.plan(CAMPAIGN, esp) == whole
    assert len(whole.modes) == len(people)


def test_an_unlawful_or_impossible_campaign_is_not_planned(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """The policy refuses, or the ESP does; nothing was applied."""
    assert people
    with pytest.raises(PlanError, match="say what its opens are for"):
        services.dispatch.plan(replace(CAMPAIGN, purposes=()), esp)
    with pytest.raises(PlanError, match="subject"):
        services.dispatch.plan(replace(CAMPAIGN, content={}), esp)
    assert esp.applied == []


def test_a_plan_changes_nothing(services: Services, esp: EspInMemory, people: dict[str, RecipientId]) -> None:
    """Neither here nor at the ESP."""
    services.dispatch.plan(CAMPAIGN, esp)
    assert services.records.campaign("autumn") is None
    assert modes_of(services, people) == {}
    assert (esp.applied, esp.mails, esp.syncs) == ([], [], [])


# Apply


def test_applying_keeps_the_snapshot_and_sends_nothing(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """Who gets which pixel is kept before any mail leaves."""
    record = services.dispatch.apply(services.dispatch.plan(CAMPAIGN, esp), esp)
    assert services.records.campaign("autumn") == record
    assert (record.tracked, record.untracked, record.sent) == (2, 2, False)
    assert modes_of(services, people) == {"ada": INDIVIDUAL, "bob": INDIVIDUAL, "cat": NONE, "dan": NONE}
    assert esp.mails == []


def test_applying_again_follows_the_choices(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId], record: Record
) -> None:
    """As long as nothing left, a new snapshot takes the old one's place."""
    services.dispatch.apply(services.dispatch.plan(CAMPAIGN, esp), esp)
    record(Action.WITHDRAWN, recipient=people["bob"])
    again = services.dispatch.apply(services.dispatch.plan(CAMPAIGN, esp), esp)
    assert (again.tracked, again.untracked) == (1, 3)
    assert modes_of(services, people)["bob"] is NONE
    services.dispatch.send(CAMPAIGN, esp)
    assert {name for part, name in esp.mails if part == "tracked"} == {"ada@example.org"}


def test_a_sent_campaign_cannot_be_applied_again(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """Its snapshot is evidence: a new mailing takes a new id, and the ESP is not touched."""
    prepared = services.dispatch.plan(CAMPAIGN, esp)
    services.dispatch.apply(prepared, esp)
    services.dispatch.send(CAMPAIGN, esp)
    with pytest.raises(PlanError, match="was sent already"):
        services.dispatch.apply(prepared, esp)
    assert len(esp.applied) == 1
    assert modes_of(services, people)["ada"] is INDIVIDUAL


@pytest.mark.parametrize("failure", [AmbiguousOutcome, ProviderRefused])
def test_a_campaign_of_which_a_part_left_cannot_be_applied_again(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId], failure: type[AmbiguousOutcome]
) -> None:
    """Setting the ESP up anew between the halves could send twice, or not at all: it is refused before the ESP."""
    assert people
    prepared = services.dispatch.plan(CAMPAIGN, esp)
    services.dispatch.apply(prepared, esp)
    esp.failing_parts = {"untracked": failure}
    with pytest.raises(failure):
        services.dispatch.send(CAMPAIGN, esp)
    with pytest.raises(PlanError, match="a part of it left already"):
        services.dispatch.apply(prepared, esp)
    assert len(esp.applied) == 1


def test_a_campaign_of_which_nothing_left_may_be_applied_again(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """The ESP refused the first half: after a correction it is set up anew and sent."""
    prepared = services.dispatch.plan(CAMPAIGN, esp)
    services.dispatch.apply(prepared, esp)
    esp.failing_parts = {"tracked": ProviderRefused}
    with pytest.raises(ProviderRefused):
        services.dispatch.send(CAMPAIGN, esp)
    services.dispatch.apply(prepared, esp)
    services.dispatch.send(CAMPAIGN, esp)
    assert len(esp.mails) == len(people)


# Send


def test_each_half_is_sent_once(services: Services, esp: EspInMemory, people: dict[str, RecipientId]) -> None:
    """Everybody gets one mail, the consenting the tracked one; sending again sends nothing."""
    services.dispatch.apply(services.dispatch.plan(CAMPAIGN, esp), esp)
    report = services.dispatch.send(CAMPAIGN, esp)
    assert (report.accepted_tracked, report.accepted_untracked) == (2, 2)
    halves = {name.partition("@")[0]: part for part, name in esp.mails}
    assert halves == {"ada": "tracked", "bob": "tracked", "cat": "untracked", "dan": "untracked"}
    kept = services.records.campaign("autumn")
    assert kept is not None
    assert kept.sent
    again = services.dispatch.send(CAMPAIGN, esp)
    assert (again.accepted_tracked, again.accepted_untracked) == (0, 0)
    assert len(esp.mails) == len(people)


def test_a_run_that_was_refused_goes_on(services: Services, esp: EspInMemory, people: dict[str, RecipientId]) -> None:
    """The second half was refused: the next run sends it, and the first half not again."""
    services.dispatch.apply(services.dispatch.plan(CAMPAIGN, esp), esp)
    esp.failing_parts = {"untracked": ProviderRefused}
    with pytest.raises(ProviderRefused):
        services.dispatch.send(CAMPAIGN, esp)
    kept = services.records.campaign("autumn")
    assert kept is not None
    assert not kept.sent
    report = services.dispatch.send(CAMPAIGN, esp)
    assert (report.accepted_tracked, report.accepted_untracked) == (0, 2)
    assert len(esp.mails) == len({name for _, name in esp.mails}) == len(people)


def test_an_ambiguous_half_is_never_sent_by_itself(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """Nobody knows whether it left: every further run says so."""
    assert people
    services.dispatch.apply(services.dispatch.plan(CAMPAIGN, esp), esp)
    esp.failing_parts = {"tracked": AmbiguousOutcome}
    for _ in range(2):
        with pytest.raises(AmbiguousOutcome):
            services.dispatch.send(CAMPAIGN, esp)
    assert esp.mails == []


@pytest.mark.parametrize("action", [Action.WITHDRAWN, Action.OBJECTED, Action.INVALIDATED])
def test_nothing_is_sent_after_a_withdrawal(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId], record: Record, action: Action
) -> None:
    """Between apply and send somebody stopped agreeing: nothing leaves until it is applied anew."""
    services.dispatch.apply(services.dispatch.plan(CAMPAIGN, esp), esp)
    record(action, recipient=people["bob"])
    with pytest.raises(PlanError, match="changed since it was applied"):
        services.dispatch.send(CAMPAIGN, esp)
    assert esp.mails == []


def test_nothing_is_sent_to_another_audience(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """Somebody new, somebody erased, or another list than was applied: what stands at the ESP is not this."""
    services.dispatch.apply(services.dispatch.plan(CAMPAIGN, esp, [people["ada"], people["cat"]]), esp)
    for audience in (None, [people["ada"]], [people["ada"], people["dan"]], [*people.values()]):
        with pytest.raises(PlanError, match="changed since it was applied"):
            services.dispatch.send(CAMPAIGN, esp, audience)
    services.book.erase(people["cat"])
    with pytest.raises(PlanError, match="changed since it was applied"):
        services.dispatch.send(CAMPAIGN, esp, [people["ada"], people["cat"]])
    assert esp.mails == []


@pytest.mark.parametrize(
    "changes",
    [
        {"purposes": (MEASURING, DELIVERING)},
        {"mechanism": Mechanism.HOSTED},
        {"aggregate": True},
        {"kind": CampaignKind.PROSPECTING},
        {"provider": "other"},
        {"content": {"subject": "Winter"}},
        {"id": CampaignId("winter")},
    ],
)
def test_nothing_is_sent_that_is_declared_otherwise(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId], changes: dict[str, object]
) -> None:
    """Whatever changed in the declaration: it is applied first."""
    assert people
    services.dispatch.apply(services.dispatch.plan(CAMPAIGN, esp), esp)
    with pytest.raises(PlanError, match="not applied as it is declared now"):
        services.dispatch.send(replace(CAMPAIGN, **changes), esp)  # type: ignore[arg-type]
    assert esp.mails == []
