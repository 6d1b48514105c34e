"""What ESPs report: each event takes effect once, withdrawals always do, and opens only while they are lawful."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from core.consent import state_of
from core.incidents import IncidentKind
from core.intake import DROPPED, ENDING, MACHINE, RECORDED, Intake, Taken
from core.ledger import parse
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
    State,
)
from core.verify import verify
from tests.embedded import database_of
from tests.mailings_in_store import applied
from webhooks.assembly import Services

Record = Callable[..., int]
Wait = Callable[..., datetime]

MEASURING, DELIVERING = PurposeId("performance"), PurposeId("deliverability")
ADDRESS = "ada@example.org"
NUMBERS = count()
CAMPAIGN = Campaign(CampaignId("autumn"), "ses", CampaignKind.REQUESTED, (MEASURING,), Mechanism.PROVIDER)


def take(services: Services, *events: ProviderEvent, intake: Intake | None = None) -> Taken:
    """Take the events of one callback, with these settings or others."""
    with services.store.batch() as batch:
        return (intake or services.intake).apply(batch, events, services.now())


def happened(services: Services, kind: EventKind, **fields: object) -> ProviderEvent:
    """An event of SES about Ada, now, with a key of its own."""
    usual: dict[str, object] = {"occurred_at": services.now(), "keys": (f"key-{next(NUMBERS)}",), "address": ADDRESS}
    return ProviderEvent("ses", kind, "native", **{**usual, **fields})  # type: ignore[arg-type]


def sent(services: Services, campaign: Campaign = CAMPAIGN) -> None:
    """A campaign was applied, in which Ada got an individual pixel."""
    applied(services, campaign, {services.recipient(ADDRESS): PixelMode.INDIVIDUAL})


def state(services: Services, purpose: PurposeId = MEASURING, address: str = ADDRESS) -> State:
    """Where somebody stands."""
    head = services.store.head(services.recipient(address))
    return state_of(head.standings if head else {}, purpose, services.now(), services.policy)


def opens(services: Services) -> list[tuple[object, ...]]:
    """All opens that were kept: campaign, recipient, what they may serve, source, by machine."""
    return list(database_of(services).rows("SELECT campaign, recipient, serves, source, machine FROM open ORDER BY id"))


# Every kind

EFFECTS = {
    EventKind.OPEN: (State.GIVEN, {RECORDED: 1}),
    EventKind.UNSUBSCRIBE: (State.WITHDRAWN, {"unsubscribe": 1}),
    EventKind.COMPLAINT: (State.WITHDRAWN, {"complaint": 1}),
    EventKind.ADDRESS_CHANGE: (State.EXPIRED, {"address_change": 1}),
    EventKind.TOPIC_UNSUBSCRIBE: (State.GIVEN, {"unmapped_topic:offers": 1}),
    EventKind.RESUBSCRIBE: (State.GIVEN, {"without_effect": 1}),
    EventKind.BOUNCE: (State.GIVEN, {"without_effect": 1}),
    EventKind.OTHER: (State.GIVEN, {"without_effect": 1}),
    EventKind.CONFIRMATION: (State.GIVEN, {}),
    EventKind.UNKNOWN: (State.GIVEN, {"unknown:native": 1}),
    EventKind.MALFORMED: (State.GIVEN, {"without_effect": 1}),
}


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_has_its_effect(
    services: Services,
    record: Record,
    wait: Wait,
    kind: EventKind,
) -> None:
    """On somebody who agreed to everything; what ends their consent makes them protected, and nothing else does."""
    sent(services)
    record(Action.GIVEN, purposes=services.policy.consent_purposes)
    wait(hours=1)
    event = happened(services, kind, campaign="autumn", topic="offers")
    taken = take(services, event)
    after, counts = EFFECTS[kind]
    assert {state(services, p) for p in services.policy.consent_purposes} == {after}
    assert +taken.counts == counts
    assert taken.protected == ({services.recipient(ADDRESS)} if after is not State.GIVEN else set())
    assert taken.confirmations == ([event] if kind is EventKind.CONFIRMATION else [])
    assert len(opens(services)) == int(kind is EventKind.OPEN)
    assert verify(services.store).ok


def test_a_withdrawal_is_recorded_for_strangers_too(services: Services) -> None:
    """Whoever is not known here may be known tomorrow, and must not be tracked then."""
    take(services, happened(services, EventKind.UNSUBSCRIBE, address="Stranger@EXAMPLE.org "))
    assert state(services, address="stranger@example.org") is State.WITHDRAWN


def test_a_resubscription_gives_no_consent_back(services: Services, record: Record, wait: Wait) -> None:
    """Consent to the mail is not consent to the pixel."""
    record(Action.GIVEN)
    take(services, happened(services, EventKind.UNSUBSCRIBE, occurred_at=wait(hours=1)))
    take(services, happened(services, EventKind.RESUBSCRIBE, occurred_at=wait(hours=1)))
    assert state(services) is State.WITHDRAWN


def test_a_new_address_starts_with_nothing(services: Services, record: Record, wait: Wait) -> None:
    """Consent belongs to one address; the old one's ends, and what the new one decided before stays."""
    record(Action.GIVEN)
    record(Action.GIVEN, recipient=services.recipient("other@example.org"))
    wait(hours=1)
    take(services, happened(services, EventKind.ADDRESS_CHANGE, new_address="new@example.org"))
    take(
        services,
        happened(services, EventKind.ADDRESS_CHANGE, address="nobody@example.org", new_address="other@example.org"),
    )
    assert state(services) is State.EXPIRED
    assert state(services, address="new@example.org") is State.UNKNOWN
    assert state(services, address="other@example.org") is State.GIVEN


def test_an_old_event_undoes_no_later_consent(services: Services, record: Record, wait: Wait) -> None:
    """An unsubscription that is delivered late counts from when it happened; one from the future, from its receipt."""
    before = services.now()
    wait(days=2)
    record(Action.GIVEN)
    take(services, happened(services, EventKind.UNSUBSCRIBE, occurred_at=before))
    assert state(services) is State.GIVEN
    take(services, happened(services, EventKind.UNSUBSCRIBE, occurred_at=before + timedelta(days=400)))
    assert state(services) is State.WITHDRAWN
    wait(days=1)
    record(Action.GIVEN)
    assert state(services) is State.GIVEN


# Settings


def test_an_unsubscription_may_leave_the_consent(services: Services, record: Record) -> None:
    """With ``on_unsubscribe = "keep"`` mail and pixel are two things, a complaint too; a changed address is not."""
    record(Action.GIVEN, occurred_at=datetime(2026, 1, 1, tzinfo=UTC))
    keep = replace(services.intake, on_unsubscribe="keep")
    taken = take(
        services, happened(services, EventKind.UNSUBSCRIBE), happened(services, EventKind.COMPLAINT), intake=keep
    )
    assert state(services) is State.GIVEN
    assert taken.protected == set()
    take(services, happened(services, EventKind.ADDRESS_CHANGE), intake=keep)
    assert state(services) is State.EXPIRED


@pytest.mark.parametrize(
    ("topic", "withdrawn"),
    [
        ("newsletter", {MEASURING, DELIVERING}),
        ("pixelproof-performance", {MEASURING}),
        ("pixelproof-opens", set()),
        ("pixelproof-authentication_security", set()),
        ("offers", set()),
        ("performance", set()),
        (None, {MEASURING, DELIVERING}),
        ("", {MEASURING, DELIVERING}),
    ],
)
def test_a_topic_withdraws_what_is_mapped_to_it(
    services: Services, record: Record, topic: str | None, withdrawn: set[str]
) -> None:
    """Our own topics name the purpose, the team's are mapped for one ESP; an opt-out from nothing named is from all."""
    record(Action.GIVEN, purposes=(MEASURING, DELIVERING), occurred_at=datetime(2026, 1, 1, tzinfo=UTC))
    topics = {"ses:newsletter": (MEASURING, DELIVERING), "sendgrid:offers": (MEASURING,)}
    taken = take(
        services,
        happened(services, EventKind.TOPIC_UNSUBSCRIBE, topic=topic),
        intake=replace(services.intake, topics=topics),
    )
    after = {p: State.WITHDRAWN if p in withdrawn else State.GIVEN for p in (MEASURING, DELIVERING)}
    assert {p: state(services, p) for p in after} == after
    assert taken.protected == ({services.recipient(ADDRESS)} if withdrawn else set())
    assert {n for n in taken.counts if n.startswith("unmapped")} == (
        set() if withdrawn else {f"unmapped_topic:{topic}"}
    )


# Once


def entries(services: Services, address: str = ADDRESS) -> int:
    """How many entries somebody has."""
    return len(services.store.chain(services.recipient(address)))


@pytest.mark.parametrize("again", [("a", "b"), ("a", "z"), ("z", "b"), ("b",), ("a",)])
def test_an_event_is_taken_once_by_any_of_its_keys(services: Services, again: tuple[str, ...]) -> None:
    """In one callback and in the next."""
    first, second = (
        happened(services, EventKind.UNSUBSCRIBE, keys=("a", "b")),
        happened(services, EventKind.UNSUBSCRIBE, keys=again),
    )
    assert take(services, first, second).counts["duplicates"] == 1
    assert take(services, second).counts["duplicates"] == 1
    assert entries(services) == 1


@pytest.mark.parametrize("kind", EventKind)
def test_a_repeated_withdrawal_is_told_to_the_esps_again(services: Services, record: Record, kind: EventKind) -> None:
    """An earlier attempt may have been written without anybody hearing of it; other repetitions concern nobody."""
    record(Action.GIVEN, occurred_at=datetime(2026, 1, 1, tzinfo=UTC))
    event = happened(services, kind, topic="pixelproof-performance")
    first, again = take(services, event), take(services, event)
    assert again.protected == first.protected
    assert bool(again.protected) == (kind in ENDING)
    assert entries(services) == 1 + (kind in ENDING)


def test_events_without_keys_are_told_apart_by_what_they_say(services: Services, wait: Wait) -> None:
    """Repeated word for word it is one event; about somebody else, or a second later, it is another."""
    event = happened(services, EventKind.UNSUBSCRIBE, keys=())
    other = replace(event, address="bob@example.org")
    later = replace(event, occurred_at=wait(seconds=1))
    assert take(services, event, event, other, later).counts["duplicates"] == 1
    assert take(services, event, other, later).counts["duplicates"] == 3
    assert (entries(services), entries(services, "bob@example.org")) == (2, 1)


def test_an_open_is_kept_once(services: Services, record: Record) -> None:
    """Delivered again it is neither kept nor counted."""
    sent(services)
    record(Action.GIVEN)
    event = happened(services, EventKind.OPEN, campaign="autumn")
    take(services, event, event)
    take(services, event)
    assert len(opens(services)) == 1
    assert services.store.counters("campaign:autumn") == {RECORDED: 1}


def test_a_callback_that_could_not_be_kept_may_come_again(services: Services) -> None:
    """Effects and keys are one: when the batch is undone the event is new."""
    event = happened(services, EventKind.UNSUBSCRIBE)

    def fail() -> None:
        with services.store.batch() as batch:
            services.intake.apply(batch, [event], services.now())
            raise RuntimeError("the process is gone")

    with pytest.raises(RuntimeError, match="gone"):
        fail()
    assert take(services, event).protected == {services.recipient(ADDRESS)}
    assert state(services) is State.WITHDRAWN


# Whom an event means


def test_a_withdrawal_counts_for_tag_and_address(services: Services) -> None:
    """Where they disagree both are protected: better one too many than a withdrawal lost."""
    ada, bob = services.recipient(ADDRESS), services.recipient("bob@example.org")
    taken = take(services, happened(services, EventKind.COMPLAINT, recipient_tag=bob.hex()))
    assert taken.protected == {ada, bob}
    assert taken.counts["complaint"] == 1
    assert state(services, address="bob@example.org") is State.WITHDRAWN
    tagged = happened(services, EventKind.COMPLAINT, address=None, recipient_tag=ada.hex())
    assert take(services, tagged).protected == {ada}


@pytest.mark.parametrize("kind", [EventKind.UNSUBSCRIBE, EventKind.OPEN])
@pytest.mark.parametrize("tag", [None, "", "zz", "00", "é" * 32, "ab" * 15, "ab" * 17])
def test_what_means_nobody_is_counted(services: Services, kind: EventKind, tag: str | None) -> None:
    """An event without a usable tag or address is counted as unattributable, and nothing is recorded."""
    taken = take(services, happened(services, kind, address="not an address", recipient_tag=tag, campaign="autumn"))
    assert +taken.counts == {"unattributable": 1}
    assert (opens(services), list(services.store.entries())) == ([], [])


# Nothing that identifies


def test_the_ledger_learns_a_providers_word_only_in_a_safe_form(services: Services) -> None:
    """Whatever stands in a callback's type: plain letters, digits and a few signs, and no more than 60 of them."""
    native, safe = "Group <unsub>/é\n\u2028_" + "x" * 200, "Group ?unsub?????_" + "x" * 42
    take(services, replace(happened(services, EventKind.UNSUBSCRIBE), native_type=native))
    taken = take(services, replace(happened(services, EventKind.UNKNOWN), native_type=native))
    body = parse(services.store.chain(services.recipient(ADDRESS))[0].body)
    assert body.evidence == f"ses:{safe}"
    assert (body.source, body.action, body.purposes) == ("ses", "withdrawn", services.policy.consent_purposes)
    assert +taken.counts == {f"unknown:{safe}": 1}


def test_opens_of_one_callback_are_counted_together(services: Services, record: Record) -> None:
    """Of several campaigns and people: each where it belongs."""
    sent(services)
    sent(services, replace(CAMPAIGN, id=CampaignId("winter")))
    record(Action.GIVEN)
    said: Sequence[tuple[str | None, str, bool]] = [
        ("autumn", ADDRESS, False),
        ("autumn", ADDRESS, True),
        ("winter", ADDRESS, False),
        ("autumn", "bob@example.org", False),
        ("spring", ADDRESS, False),
        (None, ADDRESS, False),
    ]
    taken = take(services, *(happened(services, EventKind.OPEN, campaign=c, address=a, machine=m) for c, a, m in said))
    untracked, unknown = IncidentKind.UNTRACKED.value, IncidentKind.UNKNOWN_CAMPAIGN.value
    assert +taken.counts == {RECORDED: 2, MACHINE: 1, DROPPED: 3, untracked: 1, unknown: 2}
    assert services.store.counters("campaign:autumn") == {RECORDED: 1, MACHINE: 1, DROPPED: 1, untracked: 1}
    assert services.store.counters("campaign:winter") == {RECORDED: 1}
    assert services.store.counters("provider:ses") == {DROPPED: 2, unknown: 2}
    ada = services.recipient(ADDRESS)
    assert sorted(opens(services)) == [
        ("autumn", ada, MEASURING, "ses", 0),
        ("autumn", ada, MEASURING, "ses", 1),
        ("winter", ada, MEASURING, "ses", 0),
    ]
