"""What the API tells of campaigns, over HTTP: opens for a purpose alone, and numbers about nobody."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from core.hosted import AGGREGATE
from core.incidents import Incident, IncidentKind
from core.intake import DROPPED, MACHINE, RECORDED
from core.model import Action, Campaign, CampaignId, CampaignKind, Halves, Mechanism, PixelMode, PurposeId, RecipientId
from core.ports import Open
from tests.api_caller import Caller
from tests.api_reader import pages, problem, read
from tests.installation import ADDRESS, Team
from tests.mailings_in_store import applied

BOB, EVE = "bob@example.com", "eve@example.com"
STRANGER = "0" * 32


@pytest.fixture
def api(team: Team) -> Caller:
    """A caller with every scope."""
    return Caller(team)


def opened(team: Team, address: str, *serves: str, machine: bool = False, campaign: str = "spring") -> None:
    """Put an open on record."""
    purposes = tuple(map(PurposeId, serves))
    with team.services.store.batch() as batch:
        each = Open(campaign, team.services.recipient(address), team.services.now(), purposes, "hosted", machine)
        batch.record_opens([each])


def counted(team: Team, **counters: int) -> None:
    """Set counters of the campaign ``spring``."""
    with team.services.store.batch() as batch:
        for name, number in counters.items():
            batch.count("campaign:spring", name, number)


# Campaigns


def test_campaigns_are_paged_by_id(api: Caller) -> None:
    """Each once; without any, the list is empty."""
    assert [*pages(api, "/v1/campaigns", "campaigns")] == [[]]
    for name in ("c", "a", "b"):
        api.team.campaign(name)
    found = [[each["id"] for each in page] for page in pages(api, "/v1/campaigns", "campaigns", limit=2)]
    assert found == [["a", "b"], ["c"]]


def test_one_campaign(api: Caller) -> None:
    """Its declaration, halves, counters and open incidents; nothing of another campaign's."""
    team = api.team
    team.campaign("spring", aggregate=True)
    counted(team, **{RECORDED: 30, DROPPED: 12, IncidentKind.WITHDRAWN: 12, AGGREGATE: 10, MACHINE: 3})
    with team.services.store.batch() as batch:
        for scope in ("campaign:spring", "campaign:spring-2"):
            batch.open_incident(Incident(0, scope, IncidentKind.WITHDRAWN, team.services.now(), 11))
    told = read(api, "/v1/campaigns/spring").raise_for_status().json()
    assert (told["id"], told["kind"], told["mechanism"]) == ("spring", "requested", "hosted")
    assert (told["provider"], told["aggregate"], told["sent"]) == ("sendgrid", True, False)
    assert told["halves"] == {"tracked": 0, "untracked": 1, "individual": 0, "aggregate": 0}
    assert told["opens"] == {
        "recorded": 30,
        "by_machine": None,
        "in_aggregate": 10,
        "dropped": 12,
        "dropped_without_tracked_mail": None,
        "dropped_after_withdrawal": 12,
    }
    assert [(each["kind"], each["total"]) for each in told["incidents"]] == [("opens_after_withdrawal", 11)]
    team.services.incidents.close(1, team.services.now())
    assert read(api, "/v1/campaigns/spring").json()["incidents"] == []


def test_the_snapshots_digest_is_told(api: Caller) -> None:
    """What stands in the ledger can be compared with it."""
    api.team.campaign("spring")
    record = api.team.services.mailings.campaign("spring")
    assert record is not None
    assert read(api, "/v1/campaigns/spring").json()["snapshot_sha256"] == record.snapshot


@pytest.mark.parametrize("path", ["", "/summary", "/opens?purpose=performance"])
def test_a_campaign_that_was_not_applied_is_not_found(api: Caller, path: str) -> None:
    """Whatever of it is asked for."""
    assert problem(read(api, f"/v1/campaigns/spring{path}")) == (404, "not-found")


# Opens


def test_opens_are_read_for_a_purpose(api: Caller) -> None:
    """Only those that serve it, with nothing else of the person."""
    team = api.team
    team.campaign("spring")
    for address in (ADDRESS, BOB):
        team.say(Action.GIVEN, "performance", "personalisation", address=address)
    opened(team, ADDRESS, "performance", "personalisation")
    opened(team, BOB, "personalisation", machine=True)
    opened(team, BOB, "performance", campaign="winter")
    measured = read(api, "/v1/campaigns/spring/opens", purpose="performance").raise_for_status().json()
    assert [each["recipient"] for each in measured["opens"]] == [team.recipient().hex()]
    assert measured["opens"][0].keys() == {"recipient", "opened_at", "machine"}
    personal = read(api, "/v1/campaigns/spring/opens", purpose="personalisation").json()["opens"]
    assert [each["machine"] for each in personal] == [False, True]


def test_an_open_is_not_read_once_the_consent_has_ended(api: Caller) -> None:
    """A withdrawal of that purpose takes it away at once, of another purpose it does not."""
    team = api.team
    team.campaign("spring")
    team.say(Action.GIVEN, "performance", "personalisation")
    opened(team, ADDRESS, "performance", "personalisation")
    team.say(Action.WITHDRAWN, "performance")
    assert read(api, "/v1/campaigns/spring/opens", purpose="performance").json()["opens"] == []
    assert len(read(api, "/v1/campaigns/spring/opens", purpose="personalisation").json()["opens"]) == 1


def test_an_open_of_somebody_who_never_agreed_is_not_read(api: Caller) -> None:
    """Even if one stood in the store, it would be told to nobody."""
    api.team.campaign("spring")
    opened(api.team, ADDRESS, "performance")
    assert read(api, "/v1/campaigns/spring/opens", purpose="performance").json()["opens"] == []


def test_opens_of_an_exempt_purpose_need_no_consent(api: Caller) -> None:
    """Those of an authentication mail secure the authentication (§3.2)."""
    purpose = PurposeId("authentication_security")
    campaign = Campaign(CampaignId("login"), "ses", CampaignKind.AUTHENTICATION, (purpose,), Mechanism.HOSTED)
    applied(api.team.services, campaign, {api.team.recipient(): PixelMode.INDIVIDUAL})
    opened(api.team, ADDRESS, purpose, campaign="login")
    assert len(read(api, "/v1/campaigns/login/opens", purpose=purpose).json()["opens"]) == 1


def test_pages_of_opens_go_on_past_those_that_may_not_be_read(api: Caller) -> None:
    """A page may be empty and another follow; every lawful open comes once, in the order in which they came in."""
    team = api.team
    team.campaign("spring")
    for address in (ADDRESS, EVE):
        team.say(Action.GIVEN, "performance", address=address)
    for address in (BOB, BOB, ADDRESS, BOB, EVE, ADDRESS):
        opened(team, address, "performance")
    found = [*pages(api, "/v1/campaigns/spring/opens", "opens", purpose="performance", limit=2)]
    names = [[each["recipient"] for each in page] for page in found]
    ada, eve = team.recipient().hex(), team.recipient(EVE).hex()
    assert names == [[], [ada], [eve, ada]]


def test_every_reader_of_opens_names_a_purpose_of_the_campaign(api: Caller) -> None:
    """None, an unknown one, an aggregate one, and one that the campaign does not declare are refused."""
    api.team.campaign("spring")
    path = "/v1/campaigns/spring/opens"
    assert problem(read(api, path)) == (400, "bad-request")
    for purpose in ("curiosity", "aggregate_audience", ""):
        assert problem(read(api, path, purpose=purpose)) == (400, "bad-request")
    assert problem(read(api, path, purpose="profiling")) == (422, "invalid-request")


def test_a_cursor_for_one_purpose_serves_no_other(api: Caller) -> None:
    """The list of one purpose's opens is not that of another's."""
    api.team.campaign("spring")
    api.team.say(Action.GIVEN, "performance", "personalisation")
    for _ in range(2):
        opened(api.team, ADDRESS, "performance", "personalisation")
    path = "/v1/campaigns/spring/opens"
    cursor = read(api, path, purpose="performance", limit=1).json()["next"]
    assert problem(read(api, path, purpose="personalisation", cursor=cursor)) == (422, "invalid-request")


# Numbers


def crowd(team: Team, size: int) -> list[RecipientId]:
    """So many recipients of the campaign ``spring``, all with an individual pixel."""
    recipients = [team.services.recipient(f"r{n}@example.org") for n in range(size)]
    campaign = Campaign(
        CampaignId("spring"), "sendgrid", CampaignKind.REQUESTED, (PurposeId("performance"),), Mechanism.PROVIDER
    )
    record = applied(team.services, campaign, dict.fromkeys(recipients, PixelMode.INDIVIDUAL))
    team.services.mailings.save_campaign(replace(record, halves=Halves(tracked=size)))
    return recipients


@pytest.mark.parametrize(
    ("recorded", "told"), [(9, None), (10, 10), (11, 11), (0, None)], ids=["below", "at", "above", "zero"]
)
def test_numbers_below_the_smallest_group_are_not_told(api: Caller, recorded: int, told: int | None) -> None:
    """Neither in the summary nor with the campaign; zero is below, too."""
    api.team.campaign("spring")
    counted(api.team, **{RECORDED: recorded})
    assert read(api, "/v1/campaigns/spring/summary").json()["recorded"] == told
    assert read(api, "/v1/campaigns/spring").json()["opens"]["recorded"] == told
    assert read(api, "/v1/campaigns/spring/summary").json()["recipients"] is None
    assert read(api, "/v1/campaigns/spring/summary").json()["smallest_group"] == 10


@pytest.mark.parametrize(("opening", "told"), [(9, None), (10, 10), (15, 15), (16, None), (25, None)], ids=str)
def test_openers_are_told_only_where_neither_side_is_small(api: Caller, opening: int, told: int | None) -> None:
    """That all or almost all have opened would tell of each of them."""
    recipients = crowd(api.team, 25)
    at = api.team.services.now() - timedelta(hours=1)
    with api.team.services.store.batch() as batch:
        batch.record_opens([Open("spring", r, at, (PurposeId("performance"),), "hosted") for r in recipients[:opening]])
    summary = read(api, "/v1/campaigns/spring/summary").json()
    assert (summary["tracked"], summary["openers"]) == (25, told)
