"""What `doctor` says of the queue and of events by EventBridge: SQS at moto, SES simulated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from connectors.simulators.ses.topic import Subscription
from core.account import Finding, Severity
from tests.contract.ses_queue_bench import MOTO_ACCOUNT, QueueBench, moto_server, queue_benched

URL = "https://consent.example/webhooks/ses"
_NAMES = count()


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A moto server for all tests here."""
    with moto_server() as url:
        yield url


@pytest.fixture
def bench(tmp_path: Path, moto: str) -> Iterator[QueueBench]:
    """A queue as it should be: SNS alone may write, kept for 14 days, with a dead-letter queue; and subscribed."""
    with queue_benched(tmp_path, moto, f"inspected-{next(_NAMES)}") as made:
        change(made, MessageRetentionPeriod=str(14 * 86_400))
        subscribe(made)
        yield made


def change(bench: QueueBench, **attributes: str) -> None:
    """Set attributes of the queue. moto forgets the policy where it is not among them, which SQS does not."""
    bench.sqs.set_queue_attributes(QueueUrl=bench.queue, Attributes={"Policy": policy(bench)} | attributes)


def arn(bench: QueueBench) -> str:
    """The queue's ARN."""
    held = bench.sqs.get_queue_attributes(QueueUrl=bench.queue, AttributeNames=["QueueArn"])
    return str(held["Attributes"]["QueueArn"])


def policy(bench: QueueBench, **changes: Any) -> str:  # noqa: ANN401 - JSON
    """SNS may write for our topic."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn(bench),
        "Condition": {"ArnEquals": {"aws:SourceArn": bench.simulator.topic.arn}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement | changes]})


def subscribe(bench: QueueBench, **attributes: str) -> Subscription:
    """The topic delivers to the queue."""
    made = Subscription(f"{bench.simulator.topic.arn}:queue", "sqs", arn(bench), attributes, confirmed=True)
    bench.simulator.topic.subscriptions[made.arn] = made
    return made


def findings(bench: QueueBench, **changes: object) -> list[Finding]:
    """What the connector finds of events, without what does not concern their way."""
    ways = ("queue_url", "access policy", "topic", "subscription", "event destinations", "sqs:", "Redrive")
    with bench.team(**changes) as services:  # type: ignore[arg-type]
        found = [*services.connector("ses").inspect(URL, ())]
    return [each for each in found if any(way in each.setting for way in ways)]


def only(found: list[Finding], severity: Severity, *words: str) -> None:
    """There is one finding of that severity above notes, with these words."""
    (one,) = [each for each in found if each.severity is not Severity.NOTE]
    assert one.severity is severity
    assert all(word in f"{one.setting} {one.message}" for word in words), one
    assert one.remedy


def test_a_queue_as_it_should_be(bench: QueueBench) -> None:
    """Signed or raw: nothing to be told of, though the topic delivers to no URL."""
    bench.simulator.topic.version = "2"
    assert [each for each in findings(bench) if each.severity is not Severity.NOTE] == []
    subscribe(bench, RawMessageDelivery="true")
    assert [each for each in findings(bench) if each.severity is not Severity.NOTE] == []


def test_a_subscription_is_needed_and_must_not_be_filtered(bench: QueueBench) -> None:
    """One to another queue does not count, and a filter keeps withdrawals back."""
    bench.simulator.topic.version = "2"
    held = subscribe(bench, FilterPolicy='{"a": ["b"]}')
    only(findings(bench), Severity.ERROR, "filter policy")
    held.attributes.clear()
    held.endpoint = held.endpoint + "-other"
    only(findings(bench), Severity.ERROR, "does not deliver to this service")


@pytest.mark.parametrize(
    ("attributes", "severity", "word"),
    [
        pytest.param({"MessageRetentionPeriod": "345599"}, Severity.WARNING, "MessageRetentionPeriod", id="short"),
        pytest.param({"RedrivePolicy": ""}, Severity.WARNING, "no dead-letter queue", id="no-dead-letters"),
        pytest.param({"KmsMasterKeyId": "alias/aws/sqs"}, Severity.ERROR, "AWS's own key", id="encrypted"),
    ],
)
def test_what_may_lose_a_withdrawal(
    bench: QueueBench, attributes: dict[str, str], severity: Severity, word: str
) -> None:
    """Too short a memory, nowhere for what cannot be taken, a key with which nobody can write."""
    bench.simulator.topic.version = "2"
    change(bench, **attributes)
    only(findings(bench), severity, "queue_url", word)


def test_a_message_that_is_given_up_too_soon(bench: QueueBench) -> None:
    """A short outage would put withdrawals aside."""
    bench.simulator.topic.version = "2"
    held = bench.sqs.get_queue_attributes(QueueUrl=bench.queue, AttributeNames=["RedrivePolicy"])["Attributes"]
    soon = json.loads(held["RedrivePolicy"]) | {"maxReceiveCount": "2"}
    change(bench, RedrivePolicy=json.dumps(soon))
    only(findings(bench), Severity.WARNING, "2 times")


def test_dead_letters_are_told(bench: QueueBench) -> None:
    """A withdrawal may be among them."""
    bench.simulator.topic.version = "2"
    bench.sqs.send_message(QueueUrl=bench.dead, MessageBody="x")
    only(findings(bench), Severity.ERROR, "dead-letter queue", "about 1 messages")


def test_others_who_may_write_are_told(bench: QueueBench) -> None:
    """They could invent a withdrawal, or an open: nothing raw is signed."""
    bench.simulator.topic.version = "2"
    two = json.loads(policy(bench, Principal="*", Condition={}))["Statement"]
    both = json.loads(policy(bench))
    change(bench, Policy=json.dumps(both | {"Statement": both["Statement"] + two}))
    only(findings(bench), Severity.ERROR, "access policy", "others")


def test_nobody_may_write(bench: QueueBench) -> None:
    """Only the owner may: nothing would arrive."""
    bench.simulator.topic.version = "2"
    change(bench, Policy=policy(bench, Principal={"AWS": MOTO_ACCOUNT}, Condition={}))
    only(findings(bench), Severity.ERROR, "access policy", "nothing there")


def test_a_queue_that_cannot_be_read_is_told(bench: QueueBench) -> None:
    """Nobody knows how it stands, and the inspection goes on."""
    bench.simulator.topic.version = "2"
    bench.split.faults["GetQueueAttributes"] = [403]
    only(findings(bench), Severity.ERROR, "sqs:GetQueueAttributes", "cannot be read")


def to_the_bus(bench: QueueBench) -> None:
    """Both configuration sets publish to EventBridge and nowhere else."""
    for held in bench.simulator.sets.sets.values():
        for each in held.destinations:
            del each["SnsDestination"]
            each["EventBridgeDestination"] = {
                "EventBusArn": f"arn:aws:events:eu-west-3:{MOTO_ACCOUNT}:event-bus/default"
            }


def test_event_bridge_alone_is_a_warning(bench: QueueBench) -> None:
    """Events come, but by SES's best effort; where nothing takes them they are lost."""
    to_the_bus(bench)
    found = [each for each in findings(bench, topic_arns=[]) if "event destinations" in each.setting]
    assert [each.severity for each in found] == [Severity.WARNING] * 2
    assert all("best effort" in each.message and "COMPLAINT" in each.message for each in found)
    by_key = [each for each in findings(bench, queue_url=None) if "event destinations" in each.setting]
    assert [each.severity for each in by_key] == [Severity.WARNING] * 2, "the keys of API destinations are set"


def test_without_any_way_events_are_lost(bench: QueueBench) -> None:
    """Without queue and key, what goes to EventBridge is not heard, and a topic is needed."""
    to_the_bus(bench)
    keyless = {name: value for name, value in bench.account.secrets.items() if name.startswith("AWS")}
    connector = bench.connector(keyless, topic_arns=(), queue_url=None)
    found = [each for each in connector.inspect(URL, ()) if each.severity is Severity.ERROR]
    assert sum("event destinations" in each.setting for each in found) == 2
    assert any("topic_arns" in each.setting and "every callback is refused" in each.message for each in found)
