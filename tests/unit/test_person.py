"""All that is held about one person, and nothing about another."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.dead_letters import DeadLetter, Reason
from core.errors import DamagedState
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
    State,
)
from core.policy import Policy
from core.ports import Open
from core.records import Confirmed
from core.stores.database import VARIABLES
from core.stores.embedded import LEDGER_FILE
from tests.mailings_in_store import applied
from tests.unit.conftest import ADA
from webhooks.assembly import Services

BOB = RecipientId(b"b" * 16)
ADDRESS = "ada@example.org"
MEASURING = PurposeId("performance")
Record = Callable[..., int]


def campaign(name: str) -> Campaign:
    """A campaign of that name."""
    return Campaign(CampaignId(name), "sendgrid", CampaignKind.REQUESTED, (MEASURING,), Mechanism.HOSTED)


def opened(services: Services, *opens: Open) -> None:
    """Put opens on record."""
    with services.store.batch() as batch:
        batch.record_opens(opens)


def an_open(
    name: str = "autumn", recipient: RecipientId = ADA, *, serves: str = "performance", **fields: object
) -> Open:
    """An open of that campaign."""
    at = datetime(2026, 11, 1, 8, tzinfo=UTC)
    return Open(name, recipient, at, tuple(map(PurposeId, serves.split())), "hosted", **fields)  # type: ignore[arg-type]


def test_of_somebody_unknown_nothing_is_held(services: Services) -> None:
    """The record of a stranger says so, and makes nobody known."""
    record = services.people.record(ADA)
    assert not record.known
    assert {where.state for where in record.purposes} == {State.UNKNOWN}
    assert (record.entries, record.opens, record.mailings, record.providers) == ((), (), (), ())
    assert services.people.known([ADA]) == set()


def test_the_record_holds_everything_of_one_person(services: Services, record: Record) -> None:
    """Address masked, states, entries, opens, mailings and what an ESP holds: Ada's, and nothing of Bob's."""
    people = services.people
    services.book.put([(ADA, ADDRESS, "fr"), (BOB, "bob@example.org", None)])
    record(Action.GIVEN)
    record(Action.GIVEN, recipient=BOB)
    record(Action.WITHDRAWN)
    applied(services, campaign("autumn"), {ADA: PixelMode.INDIVIDUAL, BOB: PixelMode.NONE})
    applied(services, campaign("winter"), {BOB: PixelMode.NONE})
    opened(services, an_open(machine=True, client="gmail"), an_open(recipient=BOB))
    told = people.record(ADA)
    assert (told.recipient, told.as_of, told.locale) == (ADA.hex(), services.now(), "fr")
    assert told.address == "a••••@e••••e.org"
    assert [(said.seq, said.action) for said in told.entries] == [(1, Action.GIVEN), (2, Action.WITHDRAWN)]
    assert [(seen.campaign, seen.machine, seen.client) for seen in told.opens] == [("autumn", True, "gmail")]
    assert [(got.campaign, got.mode, got.sent) for got in told.mailings] == [("autumn", PixelMode.INDIVIDUAL, False)]
    assert told.known


def test_states_come_with_basis_time_and_source(services: Services, record: Record, policy: Policy) -> None:
    """Every purpose of the policy stands there; what is exempt needs no consent, an undated consent has no time."""
    record(Action.GIVEN)
    record(Action.GIVEN, purposes=("deliverability",), occurred_at=None, source="import")
    where = {w.purpose: w for w in services.people.record(ADA).purposes}
    assert where.keys() == {p.id for p in policy.purposes}
    given = where[MEASURING]
    assert (given.state, given.basis, given.since, given.source) == (State.GIVEN, Basis.CONSENT, services.now(), "api")
    undated = where[PurposeId("deliverability")]
    assert (undated.state, undated.since, undated.source) == (State.GIVEN, None, "import")
    assert where[PurposeId("aggregate_audience")].basis is Basis.EXEMPT
    assert where[PurposeId("profiling")].basis is Basis.NONE


def test_what_each_configured_esp_holds(services: Services) -> None:
    """With the segments, and whether that is certain; an ESP that never held the person is left out."""
    people = services.people
    told = replace(people, providers=("ses", "sendgrid", "mailchimp"))
    mark = services.records.doubt("ses", {ADA: frozenset({MEASURING})})
    services.records.settle("ses", {ADA: Confirmed(frozenset({MEASURING}), refused=True)}, mark)
    services.records.doubt("sendgrid", {ADA: frozenset({MEASURING})})
    held = [(h.provider, h.segments, h.certain, h.refused) for h in told.record(ADA).providers]
    assert held == [("ses", (MEASURING,), True, True), ("sendgrid", (MEASURING,), False, False)]


def test_reports_that_name_the_address_are_counted(services: Services) -> None:
    """What an ESP reported and nobody could read holds the address too: it belongs into the record."""
    services.book.put([(ADA, ADDRESS, None)])
    bodies = [b'{"email": "ADA@example.org"}', b"data%5Bemail%5D=ada%40example.org", b'{"email": "bob@example.org"}']
    services.dead_letters.put([DeadLetter("ses", Reason.MALFORMED, services.now(), None, body) for body in bodies])
    assert services.people.record(ADA).unread == 2
    assert services.people.record(BOB).unread == 0


def test_once_the_address_is_erased_the_entries_stay(services: Services, record: Record) -> None:
    """The nameless proof is still told under the pseudonym."""
    services.book.put([(ADA, ADDRESS, None)])
    record(Action.REFUSED)
    services.book.erase(ADA)
    told = services.people.record(ADA)
    assert (told.address, len(told.entries), told.known) == (None, 1, True)
    assert services.people.known([ADA, BOB]) == {ADA}


def test_opens_are_paged_in_the_order_in_which_they_came(services: Services) -> None:
    """Only those of the campaign that serve the purpose, whose name may be the beginning of another's."""
    opened(
        services,
        an_open(serves="performance personalisation"),
        an_open("winter"),
        an_open(serves="personalisation"),
        an_open(recipient=BOB),
        an_open(serves="performance_more"),
    )
    first = services.readings.opens("autumn", MEASURING, 0, 1)
    rest = services.readings.opens("autumn", MEASURING, first[-1][0], 10)
    assert [each.recipient for _, each in [*first, *rest]] == [ADA, BOB]
    assert services.readings.opens("autumn", MEASURING, rest[-1][0], 10) == []


def test_openers_are_people(services: Services) -> None:
    """Somebody who opened twice is one, and a machine is nobody."""
    opened(services, an_open(), an_open(), an_open(recipient=BOB, machine=True), an_open("winter", BOB))
    assert services.readings.openers("autumn") == 1


def test_a_persons_opens_come_by_time(services: Services) -> None:
    """Whatever order they were recorded in, and of all campaigns that are on record."""
    for name in ("autumn", "winter"):
        applied(services, campaign(name), {})
    late = an_open("autumn")
    early = Open("winter", ADA, late.opened_at - timedelta(days=1), (MEASURING,), "sendgrid")
    opened(services, late, early)
    assert [each.campaign for each in services.readings.opens_of(ADA)] == ["winter", "autumn"]


def test_a_chain_is_paged(services: Services, record: Record) -> None:
    """Behind a given entry, so many at most."""
    for _ in range(4):
        record(Action.GIVEN)
    assert [entry.seq for entry in services.readings.entries(ADA, 1, 2)] == [2, 3]
    assert services.readings.entries(ADA, 4, 2) == []


def test_what_many_snapshots_say_of_one_person(services: Services) -> None:
    """More snapshots than one statement takes, and only the person's own rows."""
    editions = [applied(services, campaign(f"c{n}"), {ADA: PixelMode.INDIVIDUAL}).edition for n in range(3)]
    other = applied(services, campaign("other"), {BOB: PixelMode.NONE}).edition
    asked = [*range(10_000, 10_000 + VARIABLES), *editions, other]
    assert services.readings.choices_of(ADA, asked).keys() == set(editions)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE open SET opened_at=9223372036854775807",
        "UPDATE snapshot SET mode='everything'",
        "UPDATE snapshot SET basis='whim'",
    ],
    ids=["time", "mode", "basis"],
)
def test_damage_is_told(services: Services, sql: str) -> None:
    """A damaged row is an error that says what to do, not a guess."""
    applied(services, campaign("autumn"), {ADA: PixelMode.INDIVIDUAL})
    opened(services, an_open())
    with closing(sqlite3.connect(services.data / LEDGER_FILE)) as db:
        db.executescript(sql)
    with pytest.raises(DamagedState, match="ledger verify"):
        services.people.record(ADA)
