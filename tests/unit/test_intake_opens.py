"""Opens: kept while they are lawful, counted otherwise; and callbacks of any form, in any order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.incidents import IncidentKind
from core.intake import DROPPED, MACHINE, RECORDED, Taken
from core.model import (
    Action,
    Campaign,
    CampaignId,
    CampaignKind,
    EventKind,
    Mechanism,
    PixelMode,
    ProviderEvent,
    PurposeId,
)
from core.verify import verify
from tests.embedded import database_of
from tests.mailings_in_store import applied
from webhooks.assembly import Services

Record = Callable[..., int]
Wait = Callable[..., datetime]

START = datetime(2026, 11, 2, 9, tzinfo=UTC)
MEASURING, DELIVERING = PurposeId("performance"), PurposeId("deliverability")
SECURITY = PurposeId("authentication_security")
AUTUMN = CampaignId("autumn")
ADDRESS = "ada@example.org"
CAMPAIGN = Campaign(AUTUMN, "ses", CampaignKind.REQUESTED, (MEASURING,), Mechanism.PROVIDER)
BOTH = replace(CAMPAIGN, purposes=(MEASURING, DELIVERING))
LOGIN = replace(CAMPAIGN, kind=CampaignKind.AUTHENTICATION, purposes=(SECURITY,))
HOSTED = replace(BOTH, mechanism=Mechanism.HOSTED, aggregate=True)


def sent(services: Services, campaign: Campaign = CAMPAIGN, mode: PixelMode = PixelMode.INDIVIDUAL) -> None:
    """A campaign was applied, in which Ada got a pixel."""
    applied(services, campaign, {services.recipient(ADDRESS): mode})


def take(services: Services, *events: ProviderEvent) -> Taken:
    """Take the events of one callback."""
    with services.store.batch() as batch:
        return services.intake.apply(batch, events, services.now())


def opened(services: Services, **fields: object) -> ProviderEvent:
    """SES saw Ada open the campaign just now."""
    usual: dict[str, object] = {"occurred_at": services.now(), "keys": ("k",), "address": ADDRESS, "campaign": "autumn"}
    return ProviderEvent("ses", EventKind.OPEN, "Open", **{**usual, **fields})  # type: ignore[arg-type]


def kept(services: Services) -> list[tuple[object, ...]]:
    """All opens that were kept: when, what they may serve, by whom, by machine."""
    return list(database_of(services).rows("SELECT opened_at, serves, source, machine FROM open ORDER BY id"))


# The ESP's own pixel


def test_a_lawful_open_is_kept_with_what_it_may_serve(services: Services, record: Record) -> None:
    """When it happened, for the campaign's purposes; a time from the future counts as now."""
    sent(services, BOTH)
    record(Action.GIVEN, purposes=(MEASURING, DELIVERING))
    now = services.now()
    take(services, opened(services, occurred_at=now - timedelta(minutes=5)))
    take(services, opened(services, occurred_at=now + timedelta(days=5), keys=("l",), machine=True))
    second = int(now.timestamp())
    serves = f"{MEASURING} {DELIVERING}"
    assert kept(services) == [(second - 300, serves, "ses", 0), (second, serves, "ses", 1)]
    assert services.store.counters("campaign:autumn") == {RECORDED: 1, MACHINE: 1}


Unlawful = tuple[list[Action], Campaign, PixelMode, dict[str, object], IncidentKind]
PIXEL = PixelMode.INDIVIDUAL
ENDED, UNTRACKED, UNKNOWN = IncidentKind.WITHDRAWN, IncidentKind.UNTRACKED, IncidentKind.UNKNOWN_CAMPAIGN

UNLAWFUL: dict[str, Unlawful] = {
    "nobody agreed": ([], CAMPAIGN, PIXEL, {}, ENDED),
    "withdrawn": ([Action.GIVEN, Action.WITHDRAWN], CAMPAIGN, PIXEL, {}, ENDED),
    "objected": ([Action.GIVEN, Action.OBJECTED], CAMPAIGN, PIXEL, {}, ENDED),
    "invalidated": ([Action.GIVEN, Action.INVALIDATED], CAMPAIGN, PIXEL, {}, ENDED),
    "only one of two purposes": ([Action.GIVEN], BOTH, PIXEL, {}, ENDED),
    "got no pixel": ([Action.GIVEN], CAMPAIGN, PixelMode.NONE, {}, UNTRACKED),
    "was to be counted only": ([Action.GIVEN], CAMPAIGN, PixelMode.AGGREGATE, {}, UNTRACKED),
    "hosted: the ESP's pixel was off": ([Action.GIVEN], HOSTED, PIXEL, {}, UNTRACKED),
    "another ESP's campaign": ([Action.GIVEN], replace(CAMPAIGN, provider="sendgrid"), PIXEL, {}, UNKNOWN),
    "an unknown campaign": ([Action.GIVEN], CAMPAIGN, PIXEL, {"campaign": "spring"}, UNKNOWN),
    "no campaign": ([Action.GIVEN], CAMPAIGN, PIXEL, {"campaign": None}, UNKNOWN),
    "somebody else": ([Action.GIVEN], CAMPAIGN, PIXEL, {"address": "bob@example.org"}, UNTRACKED),
}


@pytest.mark.parametrize("why", UNLAWFUL)
@pytest.mark.parametrize("machine", [False, True])
def test_an_unlawful_open_leaves_only_a_count(
    services: Services, record: Record, wait: Wait, why: str, machine: bool
) -> None:
    """One more for the campaign, or for the ESP when it is not known, and why; nothing about a person."""
    actions, campaign, mode, fields, kind = UNLAWFUL[why]
    sent(services, campaign, mode)
    for action in actions:
        record(action)
        wait(minutes=1)
    entries = len(list(services.store.entries()))
    taken = take(services, opened(services, machine=machine, **fields))
    assert kept(services) == []
    assert +taken.counts == {DROPPED: 1, kind: 1}
    scope = "campaign:autumn" if "campaign" not in fields else "provider:ses"
    assert services.store.counters(scope) == {DROPPED: 1, kind: 1}
    assert len(list(services.store.entries())) == entries


def test_an_open_of_nobody_in_particular_is_dropped(services: Services, record: Record) -> None:
    """Tag and address disagree: it is nobody's, although both agreed; where they agree it is kept."""
    sent(services)
    ada, bob = services.recipient(ADDRESS), services.recipient("bob@example.org")
    for recipient in (ada, bob):
        record(Action.GIVEN, recipient=recipient)
    taken = take(services, opened(services, recipient_tag=bob.hex()))
    assert +taken.counts == {"unattributable": 1}
    assert kept(services) == []
    take(services, opened(services, recipient_tag=ada.hex(), keys=("l",)))
    take(services, opened(services, recipient_tag=ada.hex(), address=None, keys=("m",)))
    assert len(kept(services)) == 2


def test_securing_an_authentication_needs_no_consent(services: Services) -> None:
    """Its opens serve that purpose and no other (§3.2)."""
    sent(services, LOGIN)
    take(services, opened(services))
    assert [row[1] for row in kept(services)] == [SECURITY]


@pytest.mark.parametrize("unsubscribe_first", [True, False])
def test_a_withdrawal_in_the_same_callback_comes_first(
    services: Services, record: Record, wait: Wait, unsubscribe_first: bool
) -> None:
    """However the ESP orders its events: once we know of the withdrawal, no open is read."""
    sent(services)
    record(Action.GIVEN)
    wait(minutes=1)
    unsubscribe = replace(opened(services), kind=EventKind.UNSUBSCRIBE, keys=("u",))
    events = [unsubscribe, opened(services)]
    take(services, *(events if unsubscribe_first else reversed(events)))
    assert kept(services) == []
    assert services.store.counters("campaign:autumn") == {DROPPED: 1, IncidentKind.WITHDRAWN: 1}


# Any order, any form

happenings = st.lists(
    st.tuples(
        st.sampled_from([EventKind.UNSUBSCRIBE, EventKind.ADDRESS_CHANGE, EventKind.TOPIC_UNSUBSCRIBE, EventKind.OPEN]),
        st.integers(-3, 3),
        st.sampled_from(["pixelproof-performance", "pixelproof-deliverability"]),
    ),
    max_size=8,
)


def reports(address: str, happenings: list[tuple[EventKind, int, str]]) -> list[ProviderEvent]:
    """What an ESP says of these happenings."""
    return [
        ProviderEvent("ses", kind, "x", START + timedelta(hours=hour), (f"{address}{said}",), address, topic=topic)
        for said in happenings
        for kind, hour, topic in [said]
    ]


@given(happenings=happenings, random=st.randoms(use_true_random=False), parts=st.integers(1, 4))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_callbacks_does_not_matter(
    services: Services, happenings: list[tuple[EventKind, int, str]], random: Random, parts: int
) -> None:
    """Delivered in any order and any number of callbacks, some twice: people stand where they would have stood."""
    shuffled = happenings + happenings[:2]
    random.shuffle(shuffled)
    run = len(list(services.store.entries()))
    straight, mixed = f"straight-{run}@example.org", f"mixed-{run}@example.org"
    take(services, *reports(straight, happenings))
    for part in range(parts):
        take(services, *reports(mixed, shuffled)[part::parts])
    heads = [services.store.head(services.recipient(address)) for address in (straight, mixed)]
    assert len({head is None for head in heads}) == 1
    assert len({tuple(sorted(head.standings.items())) for head in heads if head}) <= 1


@given(
    events=st.lists(
        st.builds(
            ProviderEvent,
            provider=st.just("ses"),
            kind=st.sampled_from(EventKind),
            native_type=st.text(),
            occurred_at=st.datetimes(timezones=st.just(UTC)),
            keys=st.lists(st.text(), max_size=2).map(tuple),
            address=st.none() | st.text() | st.emails(),
            recipient_tag=st.none() | st.text() | st.binary(min_size=15, max_size=17).map(bytes.hex),
            campaign=st.none() | st.sampled_from(["autumn", "", "'"]) | st.text(),
            topic=st.none() | st.text(),
            new_address=st.none() | st.text(),
            machine=st.booleans(),
        ),
        max_size=6,
    )
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_form_of_event_raises(services: Services, events: list[ProviderEvent]) -> None:
    """Tags, addresses, topics and times of any form: each event is counted, and the ledger stays sound."""
    sent(services)
    taken = take(services, *events)
    assert sum(taken.counts.values()) + len(taken.confirmations) >= len(events)
    assert verify(services.store).ok
