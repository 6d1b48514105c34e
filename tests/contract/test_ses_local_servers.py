"""The webhook calls of SES against local servers that others wrote: moto for SNS, ministack for SES, SNS and SQS.

Each test is skipped where its server is not installed. moto has no event destinations, and asks nobody to confirm;
ministack pins an older botocore, so it is a program on the path and never in this project's environment.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.ses.certificates import HttpCertificates
from connectors.ses.client import Aws
from connectors.ses.codec import SesCodec
from connectors.ses.connector import SesConnector
from connectors.ses.settings import SesSettings
from connectors.ses.topics import Topics
from connectors.ses.webhooks import Webhooks
from connectors.simulators.base import utcnow
from connectors.simulators.serving import listen
from core.account import Severity
from core.errors import VerificationError
from core.model import EventKind
from tests.aws_ground import running
from tests.contract.ses_bench import PURPOSES

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
URL = "https://consent.example/webhooks/ses"
DEADLINE = 60.0


def account(endpoint: str, *topics: str, queue: str | None = None) -> tuple[Aws, SesSettings]:
    """The clients and settings for a local server."""
    settings = SesSettings(
        region="eu-west-3",
        endpoint_url=endpoint,
        topic_arns=topics,
        queue_url=queue,
        management_calls_per_second=10_000.0,
    )
    return Aws(settings, KEYS, now=utcnow), settings


@pytest.fixture
def moto() -> Iterator[str]:
    """A moto server."""
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        running.stop()


@pytest.fixture
def ministack(tmp_path: Path) -> Iterator[str]:
    """A ministack server."""
    program = shutil.which("ministack")
    if program is None:
        pytest.skip("ministack is not installed")
    with listen() as free:
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
    }
    with running([program], environment, port) as url:
        yield url


def test_moto_takes_the_topic_its_policy_and_the_subscription(moto: str) -> None:
    """Made once, opened to SES, subscribed, listed, and removed. moto does not keep the signature's version."""
    aws, settings = account(moto)
    topics = Topics(aws, settings)
    topic = topics.chosen()
    assert topics.chosen() == topic
    for _ in range(2):
        topics.open_to_ses(topic)
        assert topics.is_open_to_ses(topic, topics.attributes(topic))
    for _ in range(2):
        topics.subscribe(topic, URL)
    (only,) = topics.subscriptions(topic)
    assert (only.protocol, only.endpoint) == ("https", URL)
    delivery = topics.delivery(only)
    assert (delivery.raw, delivery.filtered) == (False, False)
    webhooks = Webhooks(*account(moto, topic))
    assert [(hook.url, hook.enabled, hook.signed) for hook in webhooks.all()] == [(URL, True, True)]
    assert webhooks.remove(URL)
    assert not webhooks.remove(URL)


def test_ministack_takes_a_whole_webhook(ministack: str) -> None:
    """Configuration set, event destination, topic and subscription; and the inspection finds them in place."""
    aws, settings = account(ministack)
    done = SesConnector(aws, settings, PURPOSES).install_webhook(URL)
    (topic,) = done.keep.values()
    again = SesConnector(*account(ministack, topic), PURPOSES)
    assert dict(again.install_webhook(URL).keep) == dict(done.keep)
    assert [hook.url for hook in again.webhooks()] == [URL]
    found = [finding for finding in again.inspect(URL, ()) if finding.severity is Severity.ERROR]
    assert not [finding for finding in found if "event destinations" in finding.setting]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "wrapped"])
def test_ministack_brings_what_a_topic_publishes_through_a_queue(ministack: str, *, raw: bool) -> None:
    """SNS to SQS: raw it is read as SES's event; wrapped it is refused, for the signature is a placeholder."""
    aws, settings = account(ministack)
    topic = Topics(aws, settings).chosen()
    sqs = aws._session.client("sqs", endpoint_url=ministack)
    queue = sqs.create_queue(QueueName="events")["QueueUrl"].replace("localhost", "127.0.0.1")
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    delivery = {"RawMessageDelivery": str(raw).lower()}
    aws.sns("eu-west-3").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=delivery)
    event = {"eventType": "Complaint", "complaint": {"timestamp": "2026-11-20T12:00:00Z"}, "mail": {"messageId": "m"}}
    aws.sns("eu-west-3").publish(TopicArn=topic, Message=json.dumps(event))
    connector = SesConnector(*account(ministack, topic, queue=queue), PURPOSES)
    codec = SesCodec(settings, HttpCertificates(), keys=[b"unused"])
    (message,) = connector.receive(10.0)
    if raw:
        (read,) = codec.parse(codec.verify(message.request, now=utcnow()))
        assert (read.kind, read.occurred_at.isoformat()) == (EventKind.COMPLAINT, "2026-11-20T12:00:00+00:00")
    else:
        with pytest.raises(VerificationError):
            codec.verify(message.request, now=utcnow())
    connector.remove([message])
    held = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert (held["ApproximateNumberOfMessages"], held["ApproximateNumberOfMessagesNotVisible"]) == ("0", "0")
