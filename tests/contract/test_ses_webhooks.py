"""Webhooks of SES, set up by calls against the simulator: topic, policy, event destinations, subscription."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.ses import PROVIDER
from connectors.ses.connector import SesConnector
from connectors.ses.settings import SesSettings
from connectors.simulators.base import utcnow
from connectors.simulators.serving import served
from connectors.simulators.ses import REDIRECT_DOMAIN
from connectors.simulators.ses.topic import Topic
from core.errors import InputError, PixelproofError, ProviderError, ProviderRefused, SettingsError
from core.model import EventKind, WebhookRequest
from core.ports import Capability, InstallsWebhooks, ProviderContext
from tests.contract.ground import Journal
from tests.contract.ses_bench import PURPOSES, TRACKED, UNTRACKED, Bench, benched, people, ready

URL = "https://consent.example/webhooks/ses"
MADE = "arn:aws:sns:eu-west-3:123456789012:pixelproof-events"
SET_ARN = "arn:aws:ses:eu-west-3:123456789012:configuration-set/"
LEAVING = {"BOUNCE", "COMPLAINT", "SUBSCRIPTION"}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A served simulator with an account whose configuration sets publish nowhere, and no topic that SES may use."""
    with benched(tmp_path) as served_bench:
        for each in served_bench.simulator.sets.sets.values():
            each.destinations.clear()
        del served_bench.simulator.topic.policy["Statement"][1:]
        yield served_bench


def install(bench: Bench, url: str = URL, **changes: Any) -> SesConnector:  # noqa: ANN401 - settings
    """A connector that has installed a webhook."""
    connector = bench.connector(**changes)
    assert connector.install_webhook(url).keep == {"SES_TOPIC_ARNS": bench.simulator.topic.arn}
    return connector


def subscription(bench: Bench) -> dict[str, str]:
    """The attributes of the topic's only subscription."""
    (only,) = bench.simulator.topic.subscriptions.values()
    return only.attributes


def confirm(bench: Bench) -> None:
    """Somebody confirms the topic's subscriptions."""
    for each in bench.simulator.topic.subscriptions.values():
        each.confirmed = True


def events_of(bench: Bench, name: str, topic: str) -> set[str]:
    """What a configuration set publishes to a topic."""
    held = bench.simulator.sets.sets[name].destinations
    return {
        event
        for each in held
        if each["Enabled"] and each["SnsDestination"]["TopicArn"] == topic
        for event in each["MatchingEventTypes"]
    }


def check_installed(bench: Bench, topic: Topic) -> None:
    """All that an installed webhook needs is there, once."""
    assert all(topic.lets_in(SET_ARN + name) for name in (TRACKED, UNTRACKED))
    assert topic.version == "2"
    assert events_of(bench, TRACKED, topic.arn) == {"OPEN", *LEAVING}
    assert events_of(bench, UNTRACKED, topic.arn) == LEAVING
    assert [len(each.destinations) for each in bench.simulator.sets.sets.values()] == [1, 1]
    (only,) = topic.subscriptions.values()
    assert (only.protocol, only.endpoint) == ("https", URL)
    assert only.attributes["RawMessageDelivery"] == "false"
    retries = json.loads(only.attributes["DeliveryPolicy"])["healthyRetryPolicy"]
    waits = retries["numRetries"] - retries["numNoDelayRetries"]
    assert 3_000 <= waits * retries["minDelayTarget"] <= waits * retries["maxDelayTarget"] <= 3_600


def test_it_can_be_installed() -> None:
    """The provider says so, and its connector keeps the protocol."""
    assert Capability.INSTALL_WEBHOOKS in PROVIDER.capabilities


def test_the_allowed_topic_is_used(bench: Bench) -> None:
    """Policy, signature version, both destinations and a signed subscription that repeats for an hour."""
    install(bench)
    check_installed(bench, bench.simulator.topic)


def test_a_topic_is_made_when_none_is_allowed(bench: Bench) -> None:
    """It is named after this product, and its ARN is what to keep."""
    done = bench.connector(topic_arns=[]).install_webhook(URL)
    assert dict(done.keep) == {"SES_TOPIC_ARNS": MADE}
    check_installed(bench, bench.simulator.sns.topics[MADE])
    assert any("SES_TOPIC_ARNS" in note and "serve" in note for note in done.notes)
    assert bench.simulator.topic.subscriptions == {}


def test_the_policy_lets_in_this_account_and_these_sets_alone(bench: Bench) -> None:
    """Somebody else's SES may not publish; the statements of others stay."""
    before = bench.simulator.topic.policy["Statement"][:]
    install(bench)
    *kept, added = bench.simulator.topic.policy["Statement"]
    assert kept == before
    assert added["Principal"] == {"Service": "ses.amazonaws.com"}
    assert added["Condition"]["StringEquals"] == {
        "aws:SourceAccount": "123456789012",
        "aws:SourceArn": [SET_ARN + TRACKED, SET_ARN + UNTRACKED],
    }
    assert not bench.simulator.topic.lets_in(f"{SET_ARN}another")


def test_installing_again_changes_nothing(bench: Bench) -> None:
    """Once all is there and confirmed, the calls only read."""
    install(bench)
    confirm(bench)
    policy = json.dumps(bench.simulator.topic.policy)
    bench.wire.requests.clear()
    install(bench)
    assert json.dumps(bench.simulator.topic.policy) == policy
    assert all(line.startswith("GET ") or line == "POST /" for line, _ in bench.wire.requests)
    check_installed(bench, bench.simulator.topic)


def test_what_is_there_and_wrong_is_put_right(bench: Bench) -> None:
    """Raw delivery, a filter, impatience, a disabled destination, opens of the untracked: all as they should be."""
    install(bench)
    confirm(bench)
    attributes = subscription(bench)
    attributes |= {"RawMessageDelivery": "true", "FilterPolicy": '{"a": ["b"]}'}
    del attributes["DeliveryPolicy"]
    bench.simulator.sets.sets[TRACKED].destinations[0]["Enabled"] = False
    bench.simulator.sets.sets[UNTRACKED].destinations[0]["MatchingEventTypes"].append("OPEN")
    bench.simulator.topic.version = "1"
    install(bench)
    check_installed(bench, bench.simulator.topic)
    assert "FilterPolicy" not in subscription(bench)


def test_a_destination_of_the_teams_own_is_enough(bench: Bench) -> None:
    """One that publishes all that is needed to the topic is not doubled."""
    held = bench.simulator.sets.sets[UNTRACKED].destinations
    own = {"Name": "own", "Enabled": True, "MatchingEventTypes": ["SEND", *LEAVING]}
    held.append(own | {"SnsDestination": {"TopicArn": bench.simulator.topic.arn}})
    install(bench)
    assert [each["Name"] for each in held] == ["own"]


def test_missing_sets_are_made_or_named(bench: Bench) -> None:
    """The untracked set is made; the tracked one only with a redirect domain, and its absence is said."""
    bench.simulator.sets.sets.clear()
    done = bench.connector().install_webhook(URL)
    assert bench.simulator.sets.sets.keys() == {UNTRACKED}
    assert any("configuration_set_tracked" in note for note in done.notes)
    install(bench, redirect_domain=REDIRECT_DOMAIN)
    check_installed(bench, bench.simulator.topic)


@pytest.mark.parametrize(
    "url",
    [
        "http://consent.example/webhooks/ses",
        "https://user:secret@consent.example/webhooks/ses",
        "https://consent.example/webhooks/ses?key=secret",
        "https://consent.example/webhooks/ses#part",
        "ftp://consent.example/",
        "webhooks",
    ],
)
def test_a_url_that_is_not_safe_is_refused(bench: Bench, url: str) -> None:
    """Before anything is asked, and without repeating it."""
    bench.wire.requests.clear()
    with pytest.raises(InputError) as caught:
        bench.connector().install_webhook(url)
    assert "secret" not in str(caught.value)
    assert bench.wire.requests == []


# Each call that is made, failing both ways


@pytest.mark.parametrize("place", range(15))
@pytest.mark.parametrize("fault", [(500, {}), (503, {}), "cut"])
def test_a_call_that_fails_once_is_repeated(bench: Bench, place: int, fault: Any) -> None:  # noqa: ANN401 - see Wire
    """Whichever it is, done or not done: everything is there in the end, once."""
    bench.wire.faults[" /"] = [None] * place + [fault]
    install(bench)
    check_installed(bench, bench.simulator.topic)
    assert not bench.wire.faults[" /"]


@pytest.mark.parametrize("place", range(16))
@pytest.mark.parametrize("fault", [(500, {}), "cut"])
def test_a_call_that_keeps_failing_can_be_run_again(bench: Bench, place: int, fault: Any) -> None:  # noqa: ANN401 - see Wire
    """The run ends with an error of ours; the next one finishes, whatever was done."""
    bench.wire.faults[" /"] = [None] * place + [fault] * 5
    with pytest.raises(ProviderError) as caught:
        bench.connector(topic_arns=[]).install_webhook(URL)
    assert "consent.example" not in str(caught.value)
    bench.wire.faults.clear()
    bench.connector(topic_arns=[]).install_webhook(URL)
    check_installed(bench, bench.simulator.sns.topics[MADE])


def test_a_refusal_is_passed_on(bench: Bench) -> None:
    """No permission: the error names AWS's code."""
    bench.simulator.gate.denied = {"Subscribe"}
    with pytest.raises(ProviderRefused, match=r"403.*AuthorizationError"):
        bench.connector().install_webhook(URL)
    assert bench.simulator.topic.subscriptions == {}


# Confirmation, and what arrives


@contextmanager
def endpoint(bench: Bench, connector: Callable[[], SesConnector], topic: str) -> Iterator[tuple[str, list[EventKind]]]:
    """A team's endpoint: takes callbacks of one topic, as named in the environment, and confirms subscriptions."""
    settings = SesSettings(**(bench.account.settings | {"topic_arns": ()}))
    codec = PROVIDER.codec(settings, ProviderContext({"SES_TOPIC_ARNS": topic}, PURPOSES, utcnow))
    kinds: list[EventKind] = []

    def take(request: WebhookRequest) -> None:
        for event in codec.parse(codec.verify(request, now=utcnow())):
            if event.kind is EventKind.CONFIRMATION:
                connector().confirm_subscription(event)
            kinds.append(event.kind)

    async def answer(request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        headers = dict(request.headers)
        seen = WebhookRequest(request.method, request.url.path, headers, await request.body())
        try:
            await run_in_threadpool(take, seen)
        except PixelproofError:
            return Response(status_code=403)
        return Response()

    with served(Starlette(routes=[Route("/webhooks/ses", answer, methods=["POST"])])) as url:
        yield f"{url}/webhooks/ses", kinds


def ask(bench: Bench, what: str, **body: int) -> dict[str, int]:
    """Something on the reader's side, or the simulator's."""
    answer = httpx.post(f"{bench.url}/_sim/{what}", json=body, timeout=30)
    answer.raise_for_status()
    found: dict[str, int] = answer.json()
    return found


def test_from_nothing_to_a_withdrawal(bench: Bench) -> None:
    """Installed, confirmed by the callback handler, and then an open and a complaint arrive, signed in version 2."""
    secrets = dict(bench.account.secrets) | {"SES_TOPIC_ARNS": MADE}
    settings = SesSettings(**(bench.account.settings | {"topic_arns": ()}))

    def connector() -> SesConnector:
        made = PROVIDER.connector(settings, ProviderContext(secrets, PURPOSES, utcnow))
        assert isinstance(made, SesConnector)
        return made

    with endpoint(bench, connector, MADE) as (url, kinds):
        installer: InstallsWebhooks = bench.connector(topic_arns=[])
        installer.install_webhook(url)
        (pending,) = connector().webhooks()
        assert (pending.url, pending.enabled, pending.signed) == (url, False, True)
        assert ask(bench, "flush") == {"sent": 1, "failed": 0}
        (confirmed,) = connector().webhooks()
        assert (confirmed.enabled, confirmed.signed) == (True, True)
        mailing = ready(bench, people(0, 1), people(1, 2))
        mailing.release(mailing.apply(), Journal())
        for mail in (1, 2):
            httpx.get(f"{bench.url}/open/{mail}.gif").raise_for_status()
        ask(bench, "complain", mail=2)
        assert ask(bench, "flush") == {"sent": 2, "failed": 0}
        assert sorted(kinds) == [EventKind.COMPLAINT, EventKind.CONFIRMATION, EventKind.OPEN]
        assert bench.simulator.sns.topics[MADE].version == "2"


def test_a_lost_confirmation_comes_again_when_installed_again(bench: Bench) -> None:
    """The service was not running, or did not know the topic: the second installation sends a new one."""
    with endpoint(bench, bench.connector, MADE) as (url, kinds):
        connector = bench.connector()
        connector.install_webhook(url)
        assert ask(bench, "flush") == {"sent": 0, "failed": 1}  # the endpoint knows another topic
    with endpoint(bench, bench.connector, bench.simulator.topic.arn) as (url, kinds):
        connector.install_webhook(url)
        connector.install_webhook(url)
        ask(bench, "flush")
        assert EventKind.CONFIRMATION in kinds
        assert [hook.enabled for hook in connector.webhooks() if hook.url == url] == [True]


# Listing, rotating, removing


def test_raw_delivery_shows_as_unsigned(bench: Bench) -> None:
    """Nothing proves where it comes from."""
    connector = install(bench)
    confirm(bench)
    subscription(bench)["RawMessageDelivery"] = "true"
    (hook,) = connector.webhooks()
    assert (hook.enabled, hook.signed) == (True, False)


def test_all_pages_and_only_urls_are_listed(bench: Bench) -> None:
    """A queue is no webhook; what stands on the second page is one."""
    bench.simulator.sns.page = 1
    bench.simulator.topic.subscribe("sqs", "arn:aws:sqs:eu-west-3:123456789012:queue", {}).confirmed = True
    connector = install(bench)
    confirm(bench)
    assert [hook.url for hook in connector.webhooks()] == [URL]


def test_without_topics_there_are_no_webhooks(bench: Bench) -> None:
    """And none is asked about."""
    assert list(bench.connector(topic_arns=[]).webhooks()) == []


def test_rotating_installs_nothing_and_says_so(bench: Bench) -> None:
    """AWS renews its keys by itself."""
    bench.wire.requests.clear()
    done = bench.connector().rotate_webhook(URL)
    assert (done.url, dict(done.keep), bench.wire.requests) == (URL, {}, [])
    assert "nothing to rotate" in done.notes[0]


@pytest.mark.parametrize("fault", [None, (500, {}), "cut"])
def test_a_webhook_is_removed(bench: Bench, fault: Any) -> None:  # noqa: ANN401 - see Wire
    """And nothing else of the topic; removing it again finds none."""
    bench.simulator.topic.subscribe("https", "https://other.example/", {}).confirmed = True
    connector = install(bench)
    confirm(bench)
    bench.wire.faults["POST /"] = [None, fault]
    assert connector.remove_webhook(URL)
    assert [each.endpoint for each in bench.simulator.topic.subscriptions.values()] == ["https://other.example/"]
    assert not connector.remove_webhook(URL)


def test_one_that_waits_cannot_be_removed(bench: Bench) -> None:
    """SNS does not let it, so nobody is told that it is gone."""
    connector = install(bench)
    with pytest.raises(ProviderError, match="confirmed"):
        connector.remove_webhook(URL)


# The environment variable


def test_topics_of_the_environment_join_those_of_the_settings(bench: Bench) -> None:
    """Separated by commas, with spaces, each once."""
    context = ProviderContext(bench.account.secrets | {"SES_TOPIC_ARNS": f" {MADE} ,,{MADE}"}, PURPOSES, utcnow)
    connector = PROVIDER.connector(SesSettings(**bench.account.settings), context)
    assert isinstance(connector, SesConnector)
    assert list(connector._regions) == [bench.simulator.topic.arn, MADE]


@pytest.mark.parametrize("make", [PROVIDER.codec, PROVIDER.connector])
def test_a_wrong_topic_in_the_environment_is_named(bench: Bench, make: Callable[..., object]) -> None:
    """By the variable and the place in it."""
    context = ProviderContext(bench.account.secrets | {"SES_TOPIC_ARNS": f"{MADE},topic"}, PURPOSES, utcnow)
    with pytest.raises(SettingsError, match="SES_TOPIC_ARNS: entry 2"):
        make(SesSettings(**bench.account.settings), context)
