"""``POST /v1/decisions``: what a plan would say, and never more than a snapshot says."""

from __future__ import annotations

from typing import Any

import pytest

from core.model import Action, Campaign, CampaignId, CampaignKind, Mechanism, PixelMode, PurposeId
from tests.api_caller import Caller
from tests.installation import ADDRESS, Team
from tests.mailings_in_store import applied

BOB, EVE = "bob@example.com", "eve@example.com"


@pytest.fixture
def api(team: Team) -> Caller:
    """A caller with every scope."""
    return Caller(team)


def declared(**fields: object) -> dict[str, Any]:
    """A campaign as its file declares it."""
    return {"id": "spring", "kind": "prospecting", "purposes": ["performance"], **fields}


def test_a_declared_campaign(api: Caller) -> None:
    """In the order of the request: by consent, without, unknown, and what is no address."""
    api.team.say(Action.GIVEN, "performance")
    api.team.say(Action.WITHDRAWN, "performance", address=BOB)
    answer = api.decide(declared(), EVE, " ADA@example.COM", "no address", BOB)
    assert answer.status_code == 200
    told = answer.json()["decisions"]
    assert [each["mode"] for each in told] == ["none", "individual", "none", "none"]
    assert [each["basis"] for each in told] == ["none", "consent", "none", "none"]
    assert told[1]["serves"] == ["performance"]
    assert told[1]["recipient"] == api.team.services.recipient(ADDRESS).hex()
    reasons = [each["reason"] for each in told]
    assert reasons == [
        "performance: unknown",
        "consent for performance",
        "not an e-mail address",
        "performance: withdrawn",
    ]
    assert told[2]["recipient"] is None


@pytest.mark.parametrize(
    ("mechanism", "mode", "serves"),
    [("provider", "none", []), ("hosted", "individual", ["performance"]), ("none", "none", [])],
)
def test_the_mechanism_counts(api: Caller, mechanism: str, mode: str, serves: list[str]) -> None:
    """The ESP's own pixel takes all purposes, the hosted one a part of them, and without a pixel there is none."""
    api.team.say(Action.GIVEN, "performance")
    campaign = declared(purposes=["performance", "personalisation"], mechanism=mechanism)
    (told,) = api.decide(campaign, ADDRESS).json()["decisions"]
    assert (told["mode"], told["serves"]) == (mode, serves)


def test_an_applied_campaign_gives_no_more_than_its_snapshot(api: Caller) -> None:
    """Consent that came after the snapshot changes nothing; one that went since does; strangers get nothing."""
    team = api.team
    campaign = Campaign(
        CampaignId("spring"),
        "sendgrid",
        CampaignKind.REQUESTED,
        (PurposeId("performance"),),
        Mechanism.HOSTED,
        aggregate=True,
    )
    modes = {
        team.recipient(ADDRESS): PixelMode.INDIVIDUAL,
        team.recipient(BOB): PixelMode.AGGREGATE,
        team.recipient("late@example.com"): PixelMode.NONE,
        team.recipient("gone@example.com"): PixelMode.INDIVIDUAL,
    }
    applied(team.services, campaign, modes)
    for address in (ADDRESS, BOB, "late@example.com", EVE):
        team.say(Action.GIVEN, "performance", address=address)
    team.say(Action.WITHDRAWN, "performance", address="gone@example.com")
    told = api.decide("spring", ADDRESS, BOB, "late@example.com", "gone@example.com", EVE, "x").json()["decisions"]
    assert [each["mode"] for each in told] == ["individual", "aggregate", "none", "aggregate", "none", "none"]
    assert [each["basis"] for each in told] == ["consent", "exempt", "none", "exempt", "none", "none"]
    assert [each["serves"] for each in told] == [["performance"], [], [], [], [], []]
    assert "not among the recipients" in told[4]["reason"]


@pytest.mark.parametrize(
    ("campaign", "pointer"),
    [
        ("autumn", "#/campaign"),
        (declared(kind="authentication"), "#/campaign"),
        (declared(aggregate=True), "#/campaign"),
        (declared(purposes=[]), "#/campaign"),
        (declared(purposes=["performance", "secret@example.com"]), "#/campaign/purposes/1"),
        (declared(kind="secret@example.com"), "#/campaign/kind"),
        (declared(id="A"), "#/campaign/id"),
        (declared(secret="x"), "#/campaign"),
        ("A", "#/campaign"),
        (7, "#/campaign"),
    ],
    ids=range(10),
)
def test_a_campaign_that_cannot_be(api: Caller, campaign: object, pointer: str) -> None:
    """One that nobody applied, and one that the policy allows to nobody: a problem that points to it."""
    answer = api.decide(campaign, ADDRESS)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert "secret" not in answer.text


def test_deciding_changes_nothing(api: Caller) -> None:
    """No entry, no address, no counter."""
    before = api.size, api.team.services.book.count()
    assert api.decide(declared(), *[f"p{n}@example.com" for n in range(1_000)]).status_code == 200
    assert (api.size, api.team.services.book.count()) == before == (0, 0)
    assert api.decide(declared()).status_code == 422
    assert api.decide(declared(), *["x"] * 1_001).status_code == 422


def test_a_stranger_looks_like_anybody(api: Caller) -> None:
    """An address that is not in the book and one that is, of whom nothing is known: the same answer but the id."""
    api.team.recipient(BOB)
    told = api.decide(declared(), BOB, EVE).json()["decisions"]
    assert [{**each, "recipient": ""} for each in told] == [{**told[0], "recipient": ""}] * 2
