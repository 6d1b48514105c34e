"""Judgements in memory: used while nothing has changed, and never a moment longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import msgspec
import pytest

from core import verdicts as module
from core.hosted import Fact, Hosted
from core.ledger import Recording
from core.model import (
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
from core.stores.pixels import SqlitePixelFacts
from core.verdicts import Verdicts
from tests.embedded import database_of
from tests.mailings_in_store import applied
from webhooks.assembly import Services

Record = Callable[..., int]
Wait = Callable[..., datetime]
Event = Callable[..., ConsentEvent]

MEASURING = PurposeId("performance")
AUTUMN = CampaignId("autumn")
HOSTED = Campaign(AUTUMN, "ses", CampaignKind.REQUESTED, (MEASURING,), Mechanism.HOSTED, aggregate=True)
PATIENCE = 30.0


class Counting(SqlitePixelFacts):
    """The facts, and how many recipients were looked up."""

    looked_up = 0

    def look_up(self, asked: Sequence[tuple[CampaignId, RecipientId]]) -> list[Fact]:
        """Count them."""
        self.looked_up += len(asked)
        return super().look_up(asked)


@pytest.fixture
def facts(services: Services) -> Iterator[Counting]:
    """The facts over the services' store."""
    facts = Counting(database_of(services))
    yield facts
    facts.close()


@pytest.fixture
def verdicts(services: Services, facts: Counting, people: list[RecipientId]) -> Iterator[Verdicts]:
    """The verdicts on a campaign that went to these people."""
    applied(services, HOSTED, dict.fromkeys(people, PixelMode.INDIVIDUAL))
    verdicts = Verdicts(facts, Hosted(services.mailings, services.policy))
    yield verdicts
    verdicts.close()


@pytest.fixture
def people(services: Services, record: Record) -> list[RecipientId]:
    """Some who agreed."""
    people = [services.recipient(f"p{n}@example.org") for n in range(5)]
    for recipient in people:
        record(Action.GIVEN, recipient=recipient)
    return people


def lawful(services: Services, verdicts: Verdicts, *recipients: RecipientId) -> list[bool]:
    """Whether an open by each may be recorded."""
    _, found = verdicts.of([(AUTUMN, recipient) for recipient in recipients], services.now())
    return [bool(verdict.serves) for verdict in found]


def read_ahead(services: Services, verdicts: Verdicts, one: RecipientId) -> None:
    """Ask for one, and wait until the whole snapshot has been read."""
    lawful(services, verdicts, one)
    until = time.monotonic() + PATIENCE
    while verdicts._ready.empty():
        assert time.monotonic() < until, "nothing was read ahead"
        time.sleep(0.001)


def test_a_snapshot_is_read_ahead(
    services: Services, facts: Counting, verdicts: Verdicts, people: list[RecipientId]
) -> None:
    """The first request is looked up, and all others of the campaign are held by then."""
    read_ahead(services, verdicts, people[0])
    assert facts.looked_up == 1
    assert lawful(services, verdicts, *people, services.recipient("stranger@example.org")) == [True] * 5 + [False]
    assert facts.looked_up == 1


def test_a_withdrawal_is_seen_at_once(
    services: Services, facts: Counting, verdicts: Verdicts, people: list[RecipientId], event: Event
) -> None:
    """Whoever committed it, here another connection: that one is looked up anew, and nobody else."""
    read_ahead(services, verdicts, people[0])
    lawful(services, verdicts, *people)
    withdrawal = event(Action.WITHDRAWN, recipient=people[1])
    with Services(services.settings, services.secrets, services.folder, services.now) as elsewhere:
        elsewhere.ledger.record([Recording(withdrawal)])
    assert lawful(services, verdicts, *people) == [True, False, True, True, True]
    assert facts.looked_up == 2


def test_a_withdrawal_while_the_snapshot_is_read_is_seen(
    services: Services, verdicts: Verdicts, people: list[RecipientId], record: Record
) -> None:
    """What was read ahead before it is not believed."""
    read_ahead(services, verdicts, people[0])
    record(Action.WITHDRAWN, recipient=people[1])
    assert lawful(services, verdicts, *people) == [True, False, True, True, True]


def test_another_snapshot_has_verdicts_of_its_own(
    services: Services, verdicts: Verdicts, people: list[RecipientId]
) -> None:
    """Applied anew without a pixel for one of them."""
    read_ahead(services, verdicts, people[0])
    assert lawful(services, verdicts, *people) == [True] * 5
    applied(services, HOSTED, {**dict.fromkeys(people, PixelMode.INDIVIDUAL), people[2]: PixelMode.NONE})
    assert lawful(services, verdicts, *people) == [True, True, False, True, True]


def test_nothing_is_held_where_consents_expire(
    services: Services, facts: Counting, people: list[RecipientId], wait: Wait
) -> None:
    """No entry says so when time alone ends one."""
    applied(services, HOSTED, dict.fromkeys(people, PixelMode.INDIVIDUAL))
    policy = msgspec.structs.replace(services.policy, consent_lasts_days=10)
    verdicts = Verdicts(facts, Hosted(services.mailings, policy))
    assert lawful(services, verdicts, people[0], people[0]) == [True, True]
    wait(days=10)
    assert lawful(services, verdicts, people[0]) == [False]
    assert facts.looked_up == 3
    verdicts.close()


def test_what_is_held_is_bounded(
    services: Services, verdicts: Verdicts, people: list[RecipientId], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond it the oldest go, and are looked up again."""
    monkeypatch.setattr(module, "MOST_HELD", 4)
    strangers = [RecipientId(bytes([n]) * 16) for n in range(50)]
    for _ in range(2):
        assert lawful(services, verdicts, *strangers, *people) == [False] * 50 + [True] * 5
    verdicts.close()
    assert sum(len(held.known) for held in verdicts._held.values()) <= 4


def test_campaigns_that_do_not_exist_take_no_look(
    services: Services, facts: Counting, verdicts: Verdicts, people: list[RecipientId]
) -> None:
    """And one that is applied later is seen at once."""
    winter = CampaignId("winter")
    _, (found,) = verdicts.of([(winter, people[0])], services.now())
    assert (found.serves, found.edition, found.aggregate) == ((), 0, False)
    assert facts.looked_up == 0
    applied(services, replace(HOSTED, id=winter), {people[0]: PixelMode.INDIVIDUAL})
    _, (found,) = verdicts.of([(winter, people[0])], services.now())
    assert found.serves == (MEASURING,)
