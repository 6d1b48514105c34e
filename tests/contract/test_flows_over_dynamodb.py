"""Syncs, repairs, campaigns, releases and reconciliations of an installation whose stores are all on DynamoDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from core.errors import AmbiguousOutcome, ProviderError, ProviderRefused, StoreError
from core.ledger import Recording, campaign_chain, parse_campaign
from core.model import (
    TO_ASK,
    Action,
    Campaign,
    CampaignId,
    CampaignKind,
    ConsentEvent,
    Mechanism,
    PixelMode,
    PurposeId,
    RecipientId,
)
from core.segments import Sync
from core.settings import Secrets, Sender, Settings, StoreSettings
from core.stores import s3
from core.stores.dynamodb.stores import DynamoStores
from core.verify import verify
from tests.aws_ground import KEYS, REGION, Faults, Ground
from tests.contract.ledger_bench import Clock
from tests.esp_in_memory import NAME, EspInMemory
from tests.proofs_delivered import Ground as Partner
from tests.proofs_delivered import record
from webhooks.assembly import Services

MEASURING, DELIVERING = PurposeId("performance"), PurposeId("deliverability")
SECRETS = {
    "PIXELPROOF_LEDGER_KEY": "11" * 32,
    "PIXELPROOF_RECIPIENT_KEY": "22" * 32,
    "PIXELPROOF_TOKEN_KEYS": f"1:{'33' * 64}",
    **KEYS,
}
CAMPAIGN = Campaign(
    CampaignId("autumn"),
    NAME,
    CampaignKind.REQUESTED,
    (MEASURING,),
    Mechanism.PROVIDER,
    content={"subject": "Autumn"},
)
ASKING = Campaign(
    CampaignId("asking"), NAME, CampaignKind.REQUESTED, (), Mechanism.NONE, content={"subject": "?"}, asks=True
)
PEOPLE = ("ada", "bob", "cat", "dan", "eve", "fay")


class Team:
    """An installation, its people, and an ESP that sends two of them a request."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.esp = EspInMemory(part=2)
        self.people = {name: services.recipient(address(name)) for name in PEOPLE}
        services.book.put((recipient, address(name), None) for name, recipient in self.people.items())

    def decide(self, name: str, action: Action, *purposes: PurposeId) -> None:
        """Somebody decides, a second after the last decision."""
        clock = self.services.now
        assert isinstance(clock, Clock)
        clock.wait(seconds=1)
        event = ConsentEvent(self.people[name], purposes or (MEASURING,), action, clock(), clock(), "form")
        self.services.ledger.record([Recording(event)])

    def sync(self) -> Sync:
        """Synchronise the ESP."""
        return self.services.segments.sync(NAME, self.esp)

    def part_of(self, name: str) -> str:
        """The part that somebody is in."""
        kept = self.services.mailings.campaign("autumn")
        assert kept is not None
        return next(c.part for c in self.services.mailings.choices(kept.edition) if c.recipient == self.people[name])

    def got(self) -> dict[str, list[str]]:
        """The parts in which each person got a mail, by name."""
        found: dict[str, list[str]] = {}
        for part, to in self.esp.mails:
            found.setdefault(to.partition("@")[0], []).append(part)
        return found


def address(name: str) -> str:
    """Somebody's address."""
    return f"{name}@example.org"


@pytest.fixture
def tables(ground: Callable[[str], Ground]) -> Ground:
    """New tables."""
    return ground("moto")


@pytest.fixture
def services(tables: Ground, tmp_path: Path) -> Iterator[Services]:
    """An installation as its settings name it."""
    with closing(s3.connect(REGION, tables.url, KEYS)) as client:
        client.create_bucket(Bucket=tables.prefix, CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    settings = Settings(
        sender=Sender(name="Example"),
        base_url="https://choices.example.com",
        purposes=(MEASURING, DELIVERING),
        store=StoreSettings(
            kind="dynamodb", tables=tables.prefix, region=REGION, endpoint_url=tables.url, bucket=tables.prefix
        ),
    )
    with Services(settings, Secrets(SECRETS), tmp_path, Clock()) as made:
        assert isinstance(made.stores, DynamoStores)
        yield made


@pytest.fixture
def team(services: Services) -> Team:
    """Ada agreed to both purposes, Bob and Cat to one, Dan refused, nobody asked Eve and Fay."""
    made = Team(services)
    made.decide("ada", Action.GIVEN, MEASURING, DELIVERING)
    made.decide("bob", Action.GIVEN)
    made.decide("cat", Action.GIVEN)
    made.decide("dan", Action.REFUSED, MEASURING, DELIVERING)
    return made


def test_segments_follow_what_people_decide(team: Team) -> None:
    """Interrupted and run again, they are what the ledger says; a sync with nothing to do makes no call."""
    team.esp.batch, team.esp.failures = 2, {1: 1}
    with pytest.raises(ProviderError):
        team.sync()
    done = team.sync()
    assert done.confirmed + 2 >= len(PEOPLE)
    expected = {"ada": {MEASURING, DELIVERING}, "bob": {MEASURING}, "cat": {MEASURING}, "dan": set[PurposeId]()}
    assert team.esp.members == {address(n): expected.get(n, {TO_ASK}) for n in PEOPLE}
    assert team.sync().api_calls == 0
    team.decide("bob", Action.WITHDRAWN)
    done = team.sync()
    assert (done.removed, team.esp.members[address("bob")]) == (1, set())
    assert [out.purposes for out in team.services.records.taken_out(team.people["bob"])] == [(MEASURING,)]
    assert [*team.services.records.pending(NAME)] == []
    assert verify(team.services.store).ok


def test_two_syncs_that_crossed_are_looked_at_once_more(team: Team) -> None:
    """A withdrawal that is synchronised while another sync is under way is not undone."""

    def meanwhile() -> None:
        team.decide("ada", Action.WITHDRAWN, MEASURING, DELIVERING)
        team.sync()

    team.esp.meanwhile = [meanwhile]
    team.sync()
    team.sync()
    assert team.esp.members[address("ada")] == set()
    assert team.services.records.confirmed(NAME, [team.people["ada"]])[team.people["ada"]].purposes == frozenset()


def test_drift_is_repaired_both_ways(team: Team) -> None:
    """Somebody was put in by hand, somebody taken out, a stranger stands there."""
    team.services.segments.sync(NAME, team.esp)
    right = {to: set(held) for to, held in team.esp.members.items()}
    team.esp.members[address("dan")] = {MEASURING}
    team.esp.members["stranger@example.net"] = {MEASURING}
    del team.esp.members[address("bob")]
    _, drift = team.services.repair.run(NAME, team.esp)
    assert (drift.drifted, drift.strangers) == (2, 1)
    assert {to: held for to, held in team.esp.members.items() if held or to in right} == right
    _, drift = team.services.repair.run(NAME, team.esp)
    assert (drift.drifted, drift.strangers) == (0, 0)


def test_each_person_gets_one_mail(team: Team) -> None:
    """A part is refused, somebody withdraws, the run goes on: whoever withdrew gets the mail without a pixel."""
    services, esp = team.services, team.esp
    applied, _ = services.dispatch.apply(CAMPAIGN, esp)
    assert (applied.halves.tracked, applied.halves.untracked) == (3, 3)
    esp.failing_parts = {"tracked-000001": ProviderRefused}
    with pytest.raises(ProviderRefused):
        services.release.send(CAMPAIGN, esp)
    gone = next(name for name in PEOPLE if team.part_of(name) == "tracked-000001")
    team.decide(gone, Action.WITHDRAWN)
    report = services.release.send(CAMPAIGN, esp)
    assert (report.accepted_tracked, report.accepted_untracked) == (2, 4)
    assert team.got()[gone] == ["untracked-late-000001"]
    assert sorted(team.got()) == sorted(PEOPLE)
    assert len(esp.mails) == len(PEOPLE)
    assert services.mailings.modes("autumn", [team.people[gone]]) == {team.people[gone]: PixelMode.NONE}
    kept = services.mailings.campaign("autumn")
    assert kept is not None
    assert kept.sent
    assert services.release.send(CAMPAIGN, esp).accepted_untracked == 0
    chain = services.store.chain(campaign_chain("autumn"))
    assert [parse_campaign(entry.body).stage for entry in chain] == ["applied", "released"]
    assert verify(services.store).ok


def test_whoever_decided_since_is_not_asked(team: Team) -> None:
    """They are left out of a mail that asks; who got it is on record as asked."""
    services, esp = team.services, team.esp
    services.dispatch.apply(ASKING, esp)
    team.decide("eve", Action.REFUSED, MEASURING, DELIVERING)
    services.release.send(ASKING, esp)
    assert "eve" not in team.got()
    assert "fay" in team.got()
    actions = {name: Action.REQUESTED.value.encode() in services.store.chain(r)[-1].body for name, r in asked(team)}
    assert actions == {name: name in team.got() for name in actions}


def asked(team: Team) -> list[tuple[str, RecipientId]]:
    """Those of whom anything is on record."""
    return [(name, recipient) for name, recipient in team.people.items() if team.services.store.chain(recipient)]


@pytest.mark.parametrize("fault", ["before", "after"])
def test_no_mail_leaves_when_its_beginning_cannot_be_noted(team: Team, fault: str) -> None:
    """The journal is out of reach: nothing is sent, and if it may have been noted a person says what happened."""
    services, esp = team.services, team.esp
    services.dispatch.apply(CAMPAIGN, esp)
    assert isinstance(services.stores, DynamoStores)
    client = services.stores.client
    lost: list[Faults] = []
    esp.before_part = {"tracked-000001": lambda: lost.append(Faults(client, "TransactWriteItems", *[fault] * 9))}
    with pytest.raises(StoreError):
        services.release.send(CAMPAIGN, esp)
    assert esp.mails == []
    lost[0].left.clear()
    if fault == "after":
        with pytest.raises(AmbiguousOutcome):
            services.release.send(CAMPAIGN, esp)
        services.release.settle("autumn", "tracked-000001", sent=False)
    services.release.send(CAMPAIGN, esp)
    assert len(esp.mails) == len(PEOPLE)


def test_what_a_partner_claims_is_reconciled(services: Services, tmp_path: Path) -> None:
    """Whoever is proven may be tracked, whoever is missing may not; run again, nothing changes."""
    partner = Partner(services, tmp_path)
    partner.claim("ada", "bob")
    assert partner.run(record("ada")).findings == {"missing": 1, "proven": 1}
    assert [partner.state(name).value for name in ("ada", "bob")] == ["given", "unproven"]
    size = services.store.size()
    partner.run(record("ada"))
    assert services.store.size() == size
    assert verify(services.store).ok
