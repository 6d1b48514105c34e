"""From the mail to the callback: what SES publishes through SNS, received, verified and read, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.ses import PROVIDER
from connectors.ses.connector import SesConnector
from connectors.ses.settings import SesSettings
from connectors.simulators.base import utcnow
from connectors.simulators.serving import served
from core.errors import ProviderError, ProviderRefused, VerificationError
from core.model import ContactChange, EventKind, ProviderEvent, WebhookRequest
from core.ports import ProviderContext, WebhookCodec
from tests.contract.ground import Journal
from tests.contract.ses_bench import PERFORMANCE, PURPOSES, Bench, address, benched, contact, people, ready


@dataclass
class Hook:
    """A team's endpoint: verifies, reads, confirms subscriptions, remembers events."""

    codec: WebhookCodec
    connector: SesConnector
    events: list[ProviderEvent] = field(default_factory=list)
    refusals: list[VerificationError] = field(default_factory=list)
    ahead: timedelta = timedelta()

    async def __call__(self, request: Request) -> Response:
        """Answer a callback."""
        body = WebhookRequest(request.method, request.url.path, dict(request.headers), await request.body())
        return await run_in_threadpool(self.take, body)

    def take(self, request: WebhookRequest) -> Response:
        """Verify and read one request."""
        try:
            proven = self.codec.verify(request, now=self.now())
        except VerificationError as refusal:
            self.refusals.append(refusal)
            return Response(status_code=503 if refusal.transient else 403)
        for event in self.codec.parse(proven):
            if event.kind is EventKind.CONFIRMATION:
                self.connector.confirm_subscription(event)
            self.events.append(event)
        return Response(status_code=204)

    def now(self) -> datetime:
        """The time, or a later one."""
        return utcnow() + self.ahead

    def kinds(self) -> list[EventKind]:
        """What came, in order."""
        return [event.kind for event in self.events]

    def count(self, kind: EventKind) -> int:
        """How many came of a kind."""
        return self.kinds().count(kind)


@contextmanager
def hooked(bench: Bench, **changes: object) -> Iterator[Hook]:
    """An endpoint that is installed at the simulator's topic."""
    settings = msgspec.convert(bench.account.settings | changes, SesSettings)
    codec = PROVIDER.codec(settings, ProviderContext({}, PURPOSES, utcnow))
    hook = Hook(codec, bench.connector())
    with served(Starlette(routes=[Route("/callbacks/ses", hook.__call__, methods=["POST"])])) as url:
        bench.simulator.callback_url = f"{url}/callbacks/ses"
        bench.simulator.subscribe()
        yield hook


@pytest.fixture(params=["1", "2"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A served simulator with an account, in either version of SNS's signatures."""
    with benched(tmp_path, signature_version=request.param) as served_bench:
        yield served_bench


def ask(bench: Bench, what: str, **body: int) -> dict[str, int]:
    """Something on the reader's side, or the simulator's."""
    answer = httpx.post(f"{bench.url}/_sim/{what}", json=body, timeout=30)
    answer.raise_for_status()
    found: dict[str, int] = answer.json()
    return found


def read_mail(bench: Bench, mail: int) -> None:
    """The reader's mail client asks for SES's pixel."""
    httpx.get(f"{bench.url}/open/{mail}.gif").raise_for_status()


def send_two(bench: Bench) -> None:
    """One tracked mail (1) and one untracked (2), to people who are in the list."""
    mailing = ready(bench, people(0, 1), people(1, 2))
    changes = [ContactChange(contact(0), frozenset({PERFORMANCE}), frozenset())]
    changes.append(ContactChange(contact(1), frozenset(), frozenset()))
    assert sum(len(report.confirmed) for report in mailing.connector.sync(changes)) == 2
    mailing.release(mailing.apply(), Journal())


def test_events_come_back_with_person_and_campaign(bench: Bench) -> None:
    """An open, an unsubscription and a complaint are verified and name the person by pseudonym and address."""
    with hooked(bench) as hook:
        assert ask(bench, "flush") == {"sent": 1, "failed": 0}
        send_two(bench)
        read_mail(bench, 1)
        ask(bench, "unsubscribe", mail=2)
        ask(bench, "complain", mail=1)
        assert ask(bench, "flush") == {"sent": 3, "failed": 0}
    found = {event.kind: event for event in hook.events}
    assert found.keys() == {EventKind.CONFIRMATION, EventKind.OPEN, EventKind.UNSUBSCRIBE, EventKind.COMPLAINT}
    for kind, person in ((EventKind.OPEN, 0), (EventKind.UNSUBSCRIBE, 1), (EventKind.COMPLAINT, 0)):
        event = found[kind]
        assert (event.address, event.recipient_tag) == (address(person), f"{person:032x}")
        assert event.campaign == "spring-2026"
        assert abs(event.occurred_at - utcnow()) < timedelta(minutes=1)
    assert hook.refusals == []


def test_untracked_mail_reports_no_opens(bench: Bench) -> None:
    """Without a pixel there is nothing to ask for, and asking anyway is no event."""
    with hooked(bench) as hook:
        ask(bench, "flush")
        send_two(bench)
        read_mail(bench, 2)
        assert ask(bench, "flush")["sent"] == 0
    assert hook.kinds() == [EventKind.CONFIRMATION]


def test_nothing_comes_before_the_subscription_is_confirmed(bench: Bench) -> None:
    """SNS delivers to nobody who has not confirmed."""
    with hooked(bench) as hook:
        send_two(bench)
        read_mail(bench, 1)
        assert ask(bench, "flush")["sent"] == 1
        read_mail(bench, 1)
        assert ask(bench, "flush")["sent"] == 1
    assert hook.kinds() == [EventKind.CONFIRMATION, EventKind.OPEN]


def test_repetitions_are_recognised_and_forgeries_refused(bench: Bench) -> None:
    """A replay brings the same keys again; altered and stripped copies are refused for good."""
    with hooked(bench) as hook:
        ask(bench, "flush")
        send_two(bench)
        read_mail(bench, 1)
        ask(bench, "complain", mail=2)
        ask(bench, "flush")
        keys = sorted(key for event in hook.events for key in event.keys)
        assert ask(bench, "replay") == {"sent": 3, "accepted": 3}
        assert sorted(key for event in hook.events[3:] for key in event.keys) == keys
        forged = ask(bench, "forge")
        assert forged == {"sent": 6, "accepted": 0}
    assert len(hook.events) == 6
    assert not any(refusal.transient for refusal in hook.refusals)


def test_a_late_repetition_of_a_withdrawal_is_taken(bench: Bench) -> None:
    """What SNS repeats for weeks is not refused as stale."""
    with hooked(bench) as hook:
        ask(bench, "flush")
        send_two(bench)
        hook.ahead = timedelta(days=37)
        ask(bench, "unsubscribe", mail=2)
        assert ask(bench, "flush") == {"sent": 1, "failed": 0}
        assert hook.count(EventKind.UNSUBSCRIBE) == 1
        hook.ahead = timedelta(days=39)
        assert ask(bench, "replay")["accepted"] == 0


def test_a_certificate_out_of_reach_is_asked_for_again(bench: Bench) -> None:
    """While the certificate cannot be fetched the answer is 503, so that SNS repeats; then nothing is lost."""
    bench.wire.faults["SimpleNotificationService"] = [(503, {}), "cut"]
    with hooked(bench) as hook:
        for _ in range(2):
            assert ask(bench, "flush") == {"sent": 0, "failed": 1}
        assert [refusal.transient for refusal in hook.refusals] == [True, True]
        assert ask(bench, "flush") == {"sent": 1, "failed": 0}
    assert hook.kinds() == [EventKind.CONFIRMATION]


def test_the_certificate_is_fetched_once(bench: Bench) -> None:
    """Many callbacks, one fetch."""
    with hooked(bench):
        ask(bench, "flush")
        send_two(bench)
        for _ in range(20):
            read_mail(bench, 1)
        assert ask(bench, "flush") == {"sent": 20, "failed": 0}
    assert len(bench.wire.lines("SimpleNotificationService")) == 1


def test_a_topic_that_is_not_named_is_neither_taken_nor_confirmed(bench: Bench) -> None:
    """Somebody else's topic gets no confirmation, though its messages are signed as well."""
    other = bench.simulator.topic.arn.replace("ses-events", "other")
    with hooked(bench, topic_arns=[other]) as hook:
        assert ask(bench, "flush") == {"sent": 0, "failed": 1}
        assert "topic_arns" in str(hook.refusals[0])
    assert bench.simulator.topic.endpoint is None


def test_only_confirmations_of_named_topics_are_confirmed(bench: Bench) -> None:
    """The connector checks for itself, and requests nothing for what it does not confirm."""
    with hooked(bench) as hook:
        ask(bench, "flush")
    (event,) = hook.events
    connector = bench.connector()
    bench.wire.requests.clear()
    for wrong in (
        replace(event, kind=EventKind.OTHER),
        replace(event, raw=dict(event.raw) | {"TopicArn": "arn:aws:sns:eu-west-3:123456789012:other"}),
        replace(event, raw=dict(event.raw) | {"Token": None}),
        replace(event, raw={}),
    ):
        with pytest.raises(ProviderError, match="topic_arns"):
            connector.confirm_subscription(wrong)
    assert bench.wire.requests == []
    with pytest.raises(ProviderRefused, match="InvalidParameter"):
        connector.confirm_subscription(replace(event, raw=dict(event.raw) | {"Token": "stale"}))


def test_confirming_twice_does_no_harm(bench: Bench) -> None:
    """A repeated confirmation is confirmed again; the subscription stays."""
    with hooked(bench) as hook:
        ask(bench, "flush")
        assert ask(bench, "replay") == {"sent": 1, "accepted": 1}
    assert hook.count(EventKind.CONFIRMATION) == 2
    assert bench.simulator.topic.endpoint is not None
