"""Incidents: one when as many opens came as the settings say, told once, and another only when it was closed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count

import pytest

from core.errors import StoreError
from core.incidents import REMEDIES, Incident, IncidentKind, due
from core.model import Action, Campaign, CampaignId, CampaignKind, EventKind, Mechanism, PixelMode, PurposeId
from core.model import ProviderEvent as Event
from tests.mailings_in_store import applied
from webhooks.assembly import Services

Record = Callable[..., int]
Wait = Callable[..., datetime]

ADDRESS, OTHER = "ada@example.org", "bob@example.org"
AUTUMN, WINTER = CampaignId("autumn"), CampaignId("winter")
NUMBERS = count()
THRESHOLD = 4


@pytest.fixture(autouse=True)
def campaigns(services: Services) -> None:
    """Two campaigns, in which Ada got a pixel and Bob none."""
    for name in (AUTUMN, WINTER):
        campaign = Campaign(name, "ses", CampaignKind.REQUESTED, (PurposeId("performance"),), Mechanism.PROVIDER)
        modes = {services.recipient(ADDRESS): PixelMode.INDIVIDUAL, services.recipient(OTHER): PixelMode.NONE}
        applied(services, campaign, modes)


def opens(services: Services, n: int, campaign: str | None = AUTUMN, address: str = ADDRESS) -> list[Event]:
    """So many opens of one kind: Ada never agreed, Bob got no pixel."""
    now = services.now()
    return [
        Event("ses", EventKind.OPEN, "Open", now, (f"open-{next(NUMBERS)}",), address, campaign=campaign)
        for _ in range(n)
    ]


def take(services: Services, *callbacks: Sequence[Event]) -> list[Incident]:
    """Take these callbacks; answers the incidents that they opened."""
    intake, opened = replace(services.intake, incident_threshold=THRESHOLD), []
    for events in callbacks:
        with services.store.batch() as batch:
            opened += intake.apply(batch, events, services.now()).incidents
    return opened


def ways(services: Services, n: int, *, together: bool) -> list[list[Event]]:
    """So many opens in one callback, or in as many callbacks."""
    return [opens(services, n)] if together else [opens(services, 1) for _ in range(n)]


@pytest.mark.parametrize("together", [True, False], ids=["one callback", "many callbacks"])
def test_an_incident_is_opened_at_the_threshold_and_once(services: Services, *, together: bool) -> None:
    """One open fewer makes none; as many more make no second one."""
    assert take(services, *ways(services, THRESHOLD - 1, together=together)) == []
    assert services.incidents.listed() == []
    (opened,) = take(services, *ways(services, THRESHOLD, together=together))
    assert (opened.scope, opened.kind, opened.opened_at) == (
        "campaign:autumn",
        IncidentKind.WITHDRAWN,
        services.now(),
    )
    assert take(services, *ways(services, THRESHOLD * 3, together=together)) == []
    (listed,) = services.incidents.listed()
    assert listed == replace(opened, id=listed.id, opened_at=services.now().replace(microsecond=0))
    assert listed.total == (THRESHOLD * 2 - 1 if together else THRESHOLD)


@pytest.mark.parametrize("together", [True, False], ids=["one callback", "many callbacks"])
def test_a_closed_incident_counts_anew_from_there(services: Services, wait: Wait, *, together: bool) -> None:
    """Opens that came while it was open are dealt with too; as many again make another one."""
    take(services, opens(services, THRESHOLD), opens(services, 5))
    (first,) = services.incidents.listed()
    closed_at = wait(hours=1)
    assert services.incidents.close(first.id, closed_at)
    assert take(services, *ways(services, THRESHOLD - 1, together=together)) == []
    assert len(take(services, *ways(services, 1, together=together))) == 1
    assert len(services.incidents.listed()) == 1
    old, new = services.incidents.listed(closed=True)
    assert (old.id, old.total, old.closed_at) == (first.id, THRESHOLD + 5, closed_at.replace(microsecond=0))
    assert (new.total, new.closed_at) == (THRESHOLD * 2 + 5, None)


def test_campaigns_and_kinds_are_counted_apart(services: Services) -> None:
    """Half of them here and half of them there are nowhere enough; each that has enough has an incident of its own."""
    half = THRESHOLD // 2
    some = [
        *opens(services, half),
        *opens(services, half, WINTER),
        *opens(services, half, AUTUMN, OTHER),
        *opens(services, half, "spring"),
    ]
    assert take(services, some) == []
    again = [replace(event, keys=(f"again-{n}",)) for n, event in enumerate(some)]
    opened = take(services, again)
    assert {(one.scope, one.kind) for one in opened} == {
        ("campaign:autumn", IncidentKind.WITHDRAWN),
        ("campaign:winter", IncidentKind.WITHDRAWN),
        ("campaign:autumn", IncidentKind.UNTRACKED),
        ("provider:ses", IncidentKind.UNKNOWN_CAMPAIGN),
    }
    assert len(services.incidents.listed()) == 4


def test_lawful_and_repeated_opens_make_none(services: Services, record: Record) -> None:
    """Nor do those that nobody can attribute."""
    record(Action.GIVEN)
    assert take(services, opens(services, THRESHOLD * 2), opens(services, THRESHOLD, address="nobody")) == []
    (event,) = opens(services, 1, address=OTHER)
    assert take(services, *([event] for _ in range(THRESHOLD * 2))) == []


def test_an_incident_is_undone_with_its_batch(services: Services) -> None:
    """What was not committed was not counted: the repetition opens it."""
    events = opens(services, THRESHOLD)

    def fail() -> None:
        with services.store.batch() as batch:
            replace(services.intake, incident_threshold=THRESHOLD).apply(batch, events, services.now())
            raise StoreError("out of reach")

    with pytest.raises(StoreError):
        fail()
    assert services.incidents.listed(closed=True) == []
    assert len(take(services, events)) == 1


def test_only_an_open_incident_can_be_closed(services: Services, wait: Wait) -> None:
    """And once: the second time changes nothing."""
    take(services, opens(services, THRESHOLD))
    (one,) = services.incidents.listed()
    assert not services.incidents.close(one.id + 1, services.now())
    assert services.incidents.close(one.id, services.now())
    before = services.incidents.listed(closed=True)
    take(services, opens(services, 1))
    assert not services.incidents.close(one.id, wait(days=1))
    assert services.incidents.listed(closed=True) == before


@pytest.mark.parametrize("kind", IncidentKind)
def test_every_kind_has_a_remedy(kind: IncidentKind) -> None:
    """Somebody must know what to do about it."""
    assert REMEDIES[kind]


def test_due_after_nothing_an_open_one_and_a_closed_one(services: Services) -> None:
    """From nothing on, never beside an open one, and from where it was closed."""
    one = Incident(1, "campaign:autumn", IncidentKind.UNTRACKED, services.now(), 10)
    closed = replace(one, closed_at=services.now())
    assert [due(None, total, 10) for total in (9, 10, 11)] == [False, True, True]
    assert [due(one, total, 10) for total in (10, 10_000)] == [False, False]
    assert [due(closed, total, 10) for total in (19, 20)] == [False, True]
