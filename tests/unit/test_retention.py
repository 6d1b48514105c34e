"""Retention: what is old goes, what proves a consent stays, and whatever was deleted is on record."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from core import snapshots
from core.dead_letters import DeadLetter, Reason
from core.errors import SettingsError, StoreError
from core.ledger import Recording
from core.model import (
    TO_ASK,
    Action,
    Campaign,
    CampaignId,
    CampaignKind,
    ConsentEvent,
    EventKind,
    Mechanism,
    PixelMode,
    ProviderEvent,
    PurposeId,
)
from core.ports import Answered, Open
from core.reconcile import FINDINGS
from core.records import NO_EDITION, Confirmed
from core.retention import DAYS_A_MONTH, PROMPT, Kind, Purge
from core.settings import load
from core.stores import retention as stores
from core.stores.embedded import SNAPSHOTS
from core.stores.retention import OldRows
from core.verify import verify
from tests.embedded import database_of
from tests.mailings_in_store import applied
from tests.unit.conftest import ADA, START
from webhooks.assembly import PROOFS, Services

Wait = Callable[..., datetime]
Record = Callable[..., int]
PERFORMANCE = PurposeId("performance")
ADDRESS = "ada@example.org"


def months(number: int) -> int:
    """So many months, in days."""
    return DAYS_A_MONTH * number


def deleted(services: Services) -> dict[Kind, int]:
    """Purge; answers what was deleted of what there was something of."""
    return {each.purge.kind: each.deleted for each in services.retention.apply() if each.deleted}


def due(services: Services) -> dict[Kind, int]:
    """What a purge would delete, of what there is something of."""
    return {each.purge.kind: each.deleted for each in services.retention.due() if each.deleted}


def noted(services: Services) -> dict[Kind, int]:
    """What is on record of all purges, of what there was something of."""
    found: dict[Kind, int] = {}
    for each in services.retention.log.listed():
        found[each.purge.kind] = found.get(each.purge.kind, 0) + each.deleted
    return {kind: n for kind, n in found.items() if n}


def sent(services: Services, name: str) -> Campaign:
    """A campaign that was released, with a snapshot in the store and in a file."""
    campaign = Campaign(CampaignId(name), "sendgrid", CampaignKind.REQUESTED, (PERFORMANCE,), Mechanism.PROVIDER)
    record = applied(services, campaign, {ADA: PixelMode.INDIVIDUAL})
    digest = snapshots.write(services.stores.files(SNAPSHOTS), name, services.mailings.choices(record.edition))
    services.ledger.record_campaign(record, "released", digest)
    services.mailings.mark_sent(name)
    return campaign


def open_of(services: Services, campaign: str, at: datetime) -> None:
    """Put an open on record."""
    with services.store.batch() as batch:
        batch.record_opens([Open(campaign, ADA, at, (PERFORMANCE,), "hosted")])


def unsubscribed(services: Services, record: Record) -> None:
    """Ada is in the book, and the ESP reports that she left its list."""
    services.book.put([(ADA, ADDRESS, None)])
    purposes = services.policy.consent_purposes
    record(Action.WITHDRAWN, purposes=purposes, source="sendgrid", evidence="sendgrid:unsubscribe")


@pytest.fixture
def at_an_esp(services: Services) -> Services:
    """The same installation with an ESP."""
    services.settings.providers["sendgrid"] = {}
    return services


# Every kind


def test_each_kind_goes_at_its_time_and_not_before(at_an_esp: Services, record: Record, wait: Wait) -> None:
    """Of everything there is one that is just old enough and one that is not: a dry run tells, a purge deletes."""
    services = at_an_esp
    findings = services.data / PROOFS / FINDINGS
    findings.mkdir(parents=True)
    unsubscribed(services, record)
    for name, later in (("old", 0), ("new", months(36))):
        at = wait(days=later)
        sent(services, name)
        open_of(services, name, at)
        with services.store.batch() as batch:
            batch.count(f"campaign:{name}", "opens_recorded")
            batch.keep_answer(Answered(name.encode(), b"", b"{}", at))
        services.dead_letters.put([DeadLetter("sendgrid", Reason.UNREADABLE, at, None, name.encode())])
        mark = services.records.doubt("sendgrid", {ADA: frozenset({PERFORMANCE})})
        services.records.settle("sendgrid", {ADA: Confirmed()}, mark)
        (findings / f"{name}.csv").write_text("x")
        os.utime(findings / f"{name}.csv", (at.timestamp(), at.timestamp()))
    wait(seconds=1)
    everything = dict.fromkeys(Kind, 1)
    assert due(services) == everything
    assert due(services) == everything
    assert not services.retention.log.listed()
    assert deleted(services) == everything
    assert deleted(services) == {}
    assert noted(services) == everything
    assert services.retention.log.last() == services.now().replace(microsecond=0)
    assert [file.name for file in findings.iterdir()] == ["new.csv"]
    assert [file.name[:4] for file in (services.data / SNAPSHOTS).iterdir()] == ["new-"]
    assert services.store.counters("campaign:new") == {"opens_recorded": 1}
    assert services.store.counters("campaign:old") == {}
    assert verify(services.store).ok


@pytest.mark.parametrize(("kind", "days"), [(Kind.OPENS, months(13)), (Kind.API_ANSWERS, 7)])
def test_what_is_deleted_by_itself_goes_to_the_second(services: Services, wait: Wait, kind: Kind, days: int) -> None:
    """Opens and the API's answers, by what `serve` and `sync` do; the rest stays, and nothing is noted in vain."""
    open_of(services, "autumn", START)
    with services.store.batch() as batch:
        batch.keep_answer(Answered(b"name", b"", b"{}", START))
    services.dead_letters.put([DeadLetter("sendgrid", Reason.MALFORMED, START, None, b"{}")])
    wait(days=days)
    assert [each.deleted for each in services.retention.apply([kind])] == [0]
    assert noted(services) == {}
    wait(seconds=1)
    assert [each.deleted for each in services.retention.apply([kind])] == [1]
    assert noted(services) == {kind: 1}
    assert [each.purge.kind for each in services.retention.apply(PROMPT)] == [*PROMPT]
    wait(days=months(60))
    services.retention.apply(PROMPT)
    assert services.dead_letters.counts()


def test_a_purge_that_found_nothing_is_on_record(services: Services) -> None:
    """An inspector sees that retention is applied also where nothing was old enough."""
    services.retention.apply()
    assert {(p.purge.kind, p.deleted) for p in services.retention.log.listed()} == {(kind, 0) for kind in Kind}


# Interrupted


class _Cut(Exception):
    """The process ends here."""


def test_a_purge_that_was_cut_off_is_run_again(services: Services, wait: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a large table: what is gone is on record, the rest goes next time, and the sum is right."""
    monkeypatch.setattr(stores, "CHUNK", 10)
    with services.store.batch() as batch:
        batch.record_opens([Open("autumn", ADA, START, (PERFORMANCE,), "hosted")] * 35)
    wait(days=months(14))
    whole, times = stores.noted, [0]

    def cut(*arguments: object) -> int:
        times[0] += 1
        if times[0] == 3:
            raise _Cut
        return whole(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(stores, "noted", cut)
        with pytest.raises(_Cut):
            services.retention.apply()
    assert (services.store.count_opens(), noted(services)) == (15, {Kind.OPENS: 20})
    assert services.retention.log.last() is None
    wait(hours=1)
    assert deleted(services) == {Kind.OPENS: 15}
    assert noted(services) == {Kind.OPENS: 35}


@pytest.mark.parametrize("done", [False, True])
def test_a_transaction_that_fails_notes_what_is_true(services: Services, wait: Wait, done: bool) -> None:
    """Deleting fails before or after its commit: the log says what is gone, and the next run does the rest."""
    open_of(services, "autumn", START)
    wait(days=months(14))
    old, purge = OldRows(database_of(services), "open", "opened_at"), Purge(services.now(), Kind.OPENS, services.now())
    if done:
        old.forget(purge)  # and the caller never heard of it
    else:
        database_of(services)._writer.execute(
            "CREATE TEMP TRIGGER fails BEFORE INSERT ON purge BEGIN SELECT raise(FAIL, 'disk'); END"
        )
        with pytest.raises(StoreError):
            old.forget(purge)
        database_of(services)._writer.execute("DROP TRIGGER fails")
    assert (services.store.count_opens(), noted(services)) == ((0, {Kind.OPENS: 1}) if done else (1, {}))
    services.retention.apply()
    assert (services.store.count_opens(), noted(services)) == (0, {Kind.OPENS: 1})


# Addresses


def test_who_left_is_forgotten_and_has_still_withdrawn(at_an_esp: Services, record: Record, wait: Wait) -> None:
    """The address goes, the withdrawal stays: coming back without a word is no consent."""
    services = at_an_esp
    record(Action.GIVEN, purposes=(PERFORMANCE,))
    unsubscribed(services, record)
    wait(days=months(3))
    assert deleted(services) == {}
    wait(seconds=1)
    assert deleted(services) == {Kind.ADDRESSES: 1}
    assert services.book.get([ADA]) == {}
    assert services.book.arrivals() == 0
    assert services.people.where(ADA)[0].state.value == "withdrawn"
    assert verify(services.store).ok


@pytest.mark.parametrize(
    "since",
    ["page", "refused", "given", "asked", "claim", "segment", "to-ask", "doubt", "other source", "one purpose"],
)
def test_who_may_not_have_left_keeps_the_address(
    at_an_esp: Services, record: Record, wait: Wait, event: Callable[..., ConsentEvent], since: str
) -> None:
    """Whoever said anything since, whom an ESP may still have in a segment, or whom no ESP reported to have left."""
    services = at_an_esp
    everything = services.policy.consent_purposes
    services.book.put([(ADA, ADDRESS, None)])
    if since == "one purpose":
        record(Action.WITHDRAWN, purposes=everything[:1], source="sendgrid")
    elif since == "other source":
        record(Action.WITHDRAWN, purposes=everything, source="choices-page")
    elif since == "refused":
        record(Action.REFUSED, purposes=everything, source="sendgrid")
    else:
        unsubscribed(services, record)
    wait(days=months(4))
    said = {
        "page": event(Action.REFUSED, source="choices-page"),
        "given": event(Action.GIVEN),
        "asked": event(Action.REQUESTED, source="campaign"),
        "claim": event(Action.GIVEN, partner="Leads"),
    }
    if since in said:
        services.ledger.record([Recording(said[since])])
    held = {"segment": PERFORMANCE, "to-ask": TO_ASK, "doubt": PERFORMANCE}
    if since in held:
        mark = services.records.doubt("sendgrid", {ADA: frozenset({held[since]})})
        if since != "doubt":
            services.records.settle("sendgrid", {ADA: Confirmed(frozenset({held[since]}))}, mark)
    wait(days=months(2))
    assert deleted(services) == {}
    assert ADA in services.book.get([ADA])


# Dead letters


@pytest.mark.parametrize("spelt", [ADDRESS, ADA.hex()], ids=["address", "tag"])
def test_an_old_dead_letter_counts_as_a_withdrawal(services: Services, record: Record, wait: Wait, spelt: str) -> None:
    """Nobody looked at it for six months, and it may have been one. What was said since stands."""
    record(Action.GIVEN, purposes=("performance", "deliverability"))
    wait(hours=1)
    letter = DeadLetter("sendgrid", Reason.UNREADABLE, services.now(), None, f'{{"who": "{spelt}"}}'.encode())
    services.dead_letters.put([letter])
    wait(hours=1)
    record(Action.GIVEN, purposes=("deliverability",))
    wait(days=months(6))
    assert deleted(services) == {Kind.DEAD_LETTERS: 1}
    states = {str(where.purpose): where.state.value for where in services.people.where(ADA)}
    assert (states["performance"], states["deliverability"]) == ("withdrawn", "given")
    assert not services.dead_letters.counts()


def test_a_letter_is_deleted_after_its_withdrawal(services: Services, record: Record, wait: Wait) -> None:
    """Cut off in between, the withdrawal is there, and is not recorded a second time."""
    record(Action.GIVEN)
    services.dead_letters.put([DeadLetter("ses", Reason.UNREADABLE, wait(hours=1), None, ADDRESS.encode())])
    wait(days=months(7))

    def cut(*_: object) -> int:
        raise _Cut

    letters = replace(services.retention.kinds[Kind.DEAD_LETTERS], remove=cut)  # type: ignore[type-var]
    with pytest.raises(_Cut):
        replace(services.retention, kinds={**services.retention.kinds, Kind.DEAD_LETTERS: letters}).apply()
    assert services.people.where(ADA)[0].state.value == "withdrawn"
    assert services.store.size() == 2
    assert deleted(services) == {Kind.DEAD_LETTERS: 1}
    assert services.store.size() == 2


# Campaigns


def test_a_campaign_without_snapshot_stays_sent_and_makes_no_incident(
    services: Services, record: Record, wait: Wait
) -> None:
    """Its opens are dropped and counted; nothing is kept of them, and they are nobody's fault."""
    record(Action.GIVEN)
    sent(services, "autumn")
    wait(days=months(37))
    assert deleted(services) == {Kind.SNAPSHOTS: 1}
    campaign = services.mailings.campaign("autumn")
    assert campaign is not None
    assert (campaign.sent, campaign.edition) == (True, NO_EDITION)
    event = ProviderEvent(
        provider="sendgrid",
        kind=EventKind.OPEN,
        native_type="open",
        occurred_at=services.now(),
        keys=("1",),
        recipient_tag=ADA.hex(),
        campaign="autumn",
    )
    intake = replace(services.intake, incident_threshold=1)
    with services.store.batch() as batch:
        taken = intake.apply(batch, [event], services.now())
    assert (taken.counts["opens_dropped"], taken.incidents) == (1, [])
    assert services.store.counters("campaign:autumn") == {"opens_dropped": 1}
    assert services.store.count_opens() == 0


def test_a_campaign_that_waits_keeps_everything(services: Services, wait: Wait) -> None:
    """One that was applied and not sent needs its snapshot; one with an open incident, its counters."""
    campaign = replace(sent(services, "autumn"), id=CampaignId("waiting"))
    record = applied(services, campaign, {ADA: PixelMode.NONE})
    services.ledger.record_campaign(record, "applied", "00" * 32)
    intake = replace(services.intake, incident_threshold=1)
    event = ProviderEvent("sendgrid", EventKind.OPEN, "open", START, ("1",), recipient_tag=ADA.hex(), campaign="autumn")
    with services.store.batch() as batch:
        assert intake.apply(batch, [event], START).incidents
    wait(days=months(37))
    assert deleted(services) == {Kind.SNAPSHOTS: 1}
    assert services.store.counters("campaign:autumn")
    assert len([*services.mailings.choices(record.edition)]) == 1
    assert services.incidents.close(1, services.now())
    assert deleted(services)[Kind.COUNTERS] >= 1


def test_a_campaign_of_a_longer_name_is_not_meant(services: Services, wait: Wait) -> None:
    """Files are deleted by their whole name."""
    sent(services, "a")
    wait(days=months(36))
    sent(services, "a-0123456789ab")
    wait(days=1)
    assert deleted(services) == {Kind.SNAPSHOTS: 1}
    assert [file.name[:15] for file in (services.data / SNAPSHOTS).iterdir()] == ["a-0123456789ab-"]


# Settings


def test_a_snapshot_is_kept_for_as_long_as_its_opens(services: Services, tmp_path: Path) -> None:
    """Without it no open could be shown to have been lawful."""
    file = tmp_path / "pixelproof.toml"
    text = (
        'base_url = "https://a.example"\npurposes = ["performance"]\nopen_retention_months = 25\n[sender]\nname = "S"\n'
    )
    file.write_text(text + "[retention]\nsnapshot_months = 24\n", "utf-8")
    with pytest.raises(SettingsError, match="snapshot_months"):
        load(file)
    file.write_text(text + "[retention]\nsnapshot_months = 25\n", "utf-8")
    assert load(file).retention.snapshot_months == 25
    assert services.settings.retention.left_months == 3
