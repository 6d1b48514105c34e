"""The functions that terraform/ deploys, called with the events that call them, over DynamoDB, SQS and S3."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import simulated
from core.errors import InputError
from core.ledger import Recording
from core.model import TO_ASK, Action, ConsentEvent, PurposeId
from core.verify import verify
from tests.aws_ground import Ground
from tests.callback_desk import SECRETS, by_sendgrid
from tests.lambda_functions import ADDRESS, Deployed, at, deployed
from webhooks.pixel import GIF


@pytest.fixture
def sendgrid() -> Iterator[SendGridSimulator]:
    """A simulated SendGrid, whose API key the team holds."""
    simulator = SendGridSimulator()
    with simulated(simulator):
        yield simulator


@pytest.fixture
def cloud(
    ground: Callable[[str], Ground],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    sendgrid: SendGridSimulator,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Deployed]:
    """The functions, deployed; nothing that they write names an address."""
    providers, secrets = {"sendgrid": {"api_url": sendgrid.base_url}}, {"SENDGRID_API_KEY": sendgrid.api_key}
    with deployed(ground("moto"), monkeypatch, tmp_path, providers, secrets) as made:
        yield made
    written = capsys.readouterr()
    assert ADDRESS not in written.out + written.err
    assert not any(secret in written.out + written.err for secret in SECRETS.values())


def complaint(cloud: Deployed, address: str = ADDRESS, **more: object) -> int:
    """A signed callback of SendGrid about somebody; answers the status."""
    event = {"event": "spamreport", "email": address, "timestamp": at(cloud.services), "sg_event_id": address, **more}
    return cloud.post(by_sendgrid(json.dumps([event]).encode(), at(cloud.services)))


def test_a_callback_goes_by_way_of_the_queue(cloud: Deployed) -> None:
    """It is answered once it is in the queue; the worker applies it, and a second delivery changes nothing."""
    assert complaint(cloud) == 200
    assert cloud.services.store.size() == 0
    (message,) = cloud.waiting()
    assert ADDRESS not in message["body"]
    assert [cloud.work_on(message), cloud.work_on(message)] == [[], []]
    assert cloud.team.state("performance") == "withdrawn"
    assert cloud.services.store.size() == 1
    assert verify(cloud.services.store).ok


def test_a_large_callback_goes_by_way_of_the_inbox(cloud: Deployed) -> None:
    """What a queue does not take lies in the bucket until it was applied."""
    noise = base64.b64encode(Random(7).randbytes(400_000)).decode()  # noqa: S311 - hardly to be compressed
    assert complaint(cloud, noise=noise) == 200
    (message,) = cloud.waiting()
    assert len(message["body"]) < 1_000
    held = cloud.clients["s3"].list_objects_v2(Bucket=cloud.inbox)
    assert held["KeyCount"] == 1
    assert cloud.work_on(message) == []
    assert cloud.team.state("performance") == "withdrawn"
    assert cloud.clients["s3"].list_objects_v2(Bucket=cloud.inbox)["KeyCount"] == 0


def test_what_sendgrid_did_not_sign_is_refused(cloud: Deployed) -> None:
    """A forged callback is answered 403, and leaves nothing in the queue."""
    signed = by_sendgrid(b'[{"event":"spamreport","email":"x@example.com"}]', at(cloud.services))
    assert cloud.post(signed.but(x_twilio_email_event_webhook_signature="AAAA")) == 403
    assert cloud.waiting() == []


def test_without_the_queue_the_provider_is_asked_to_come_again(cloud: Deployed) -> None:
    """No 2xx without durability: the queue is gone, so the answer is 503."""
    cloud.clients["sqs"].delete_queue(QueueUrl=cloud.queue)
    assert complaint(cloud) == 503


def test_a_message_of_somebody_else_holds_up_nobody(cloud: Deployed) -> None:
    """What was put into the queue from outside, or altered there, is reported alone; the others are applied."""
    assert complaint(cloud) == 200
    (message,) = cloud.waiting()
    body = json.loads(message["body"])
    altered = {**message, "messageId": "m2", "body": json.dumps({**body, "provider": "mailchimp"})}
    foreign = {**message, "messageId": "m3", "body": '{"task":"sync"}'}
    odd = {**message, "messageId": "m4", "body": json.dumps({**body, "body": "AAAA"})}
    assert cloud.work_on(altered, foreign, message, odd) == ["m2", "m3", "m4"]
    assert cloud.services.store.size() == 1


def test_a_choice_on_the_page_is_durable_when_it_is_answered(cloud: Deployed) -> None:
    """The page is served, and what is answered on it stands in the ledger."""
    cloud.services.book.put([(cloud.services.recipient(ADDRESS), ADDRESS, "en")])
    path = cloud.team.choices_path()
    page = cloud.ask("GET", path)
    assert page["statusCode"] == 200
    assert "text/html" in page["headers"]["content-type"]
    said = cloud.ask(
        "POST", f"{path}/withdraw", b"List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded"
    )
    assert said["statusCode"] < 400
    assert cloud.team.state("performance") in {"withdrawn", "refused"}


def test_the_pixel_records_while_the_consent_stands(cloud: Deployed) -> None:
    """One open before the withdrawal, none after it; the image comes each time."""
    cloud.team.say(Action.GIVEN, "performance")
    cloud.team.campaign("may")
    path = cloud.team.pixel_path("may")
    images = [cloud.ask("GET", path)]
    assert cloud.services.store.count_opens() == 1
    cloud.team.say(Action.WITHDRAWN, "performance")
    images += [cloud.ask("GET", path), cloud.ask("GET", path[:-8] + "june.gif")]
    assert cloud.services.store.count_opens() == 1
    assert {base64.b64decode(image["body"]) for image in images} == {GIF}
    assert "immutable" in images[1]["headers"]["cache-control"]
    assert "immutable" not in images[0]["headers"]["cache-control"]


def test_a_withdrawal_reaches_the_esp_by_the_stream(cloud: Deployed, sendgrid: SendGridSimulator) -> None:
    """A sync puts the person into the segment; the stream takes them out, and where it cannot it is called again."""
    services = cloud.services
    services.book.put([(services.recipient(ADDRESS), ADDRESS, "en")])
    cloud.team.say(Action.GIVEN, "performance")
    assert cloud.do("sync")["continues"] is False
    assert _segments(cloud) == {"performance"}
    before = services.store.size()
    cloud.team.say(Action.WITHDRAWN, "performance")
    assert cloud.stream(before) == {"batchItemFailures": []}
    assert _segments(cloud) == set()
    assert [taken.purposes for taken in services.records.taken_out(services.recipient(ADDRESS))] == [("performance",)]
    assert cloud.stream(services.store.size()) == {"batchItemFailures": []}
    assert sendgrid.base_url


def _segments(cloud: Deployed) -> set[PurposeId]:
    members = cloud.services.connector("sendgrid").read_back()
    return {purpose for member in members for purpose in member.purposes} - {TO_ASK}


def test_work_that_takes_too_long_goes_on_by_a_message(cloud: Deployed) -> None:
    """It stops before the invocation ends, and what it could not do is asked for once more."""
    services = cloud.services
    for n in range(3):
        address = f"person{n}@example.org"
        services.book.put([(services.recipient(address), address, "en")])
        event = ConsentEvent(
            recipient=services.recipient(address),
            purposes=(PurposeId("performance"),),
            action=Action.GIVEN,
            received_at=services.now(),
        )
        services.ledger.record([Recording(event)])
    assert cloud.do("sync", lambda: 10) == {"task": "sync", "continues": True}
    (message,) = cloud.clients["sqs"].receive_message(QueueUrl=cloud.work)["Messages"]
    assert json.loads(message["Body"]) == {"task": "sync"}
    assert cloud.do("sync")["continues"] is False
    assert _segments(cloud) == {"performance"}


@pytest.mark.parametrize("task", ["notarise", "poll", "expire", "purge", "repair"])
def test_each_task_can_be_done(cloud: Deployed, task: str) -> None:
    """Over an installation that holds something of everything."""
    cloud.team.say(Action.GIVEN, "performance")
    cloud.team.campaign("may")
    assert cloud.do(task)["task"] == task


def test_an_unknown_task_is_an_error(cloud: Deployed) -> None:
    """It is said which there are."""
    with pytest.raises(InputError, match="notarise"):
        cloud.do("everything")


def test_the_log_is_signed_and_verifies_from_the_bucket(cloud: Deployed) -> None:
    """The notary's task puts every entry under a checkpoint in S3, and `ledger verify` follows it there."""
    cloud.team.say(Action.GIVEN, "performance")
    cloud.do("notarise")
    found = verify(cloud.services.store, cloud.services.notary)
    assert found.problems == []
    assert found.covered == 1
    listed = cloud.clients["s3"].list_objects_v2(Bucket=cloud.bucket, Prefix="log/")
    assert "log/checkpoint" in {each["Key"] for each in listed["Contents"]}


def test_a_partners_file_is_reconciled(cloud: Deployed) -> None:
    """A claim of a partner is proven by the record in its file; a file in nobody's folder is set aside."""
    services = cloud.services
    event = ConsentEvent(
        recipient=services.recipient(ADDRESS),
        purposes=(PurposeId("performance"),),
        action=Action.GIVEN,
        received_at=services.now(),
        partner="Leads Ltd",
    )
    services.ledger.record([Recording(event)])
    rows = f"address,collected_at,purposes\n{ADDRESS},2026-01-02T03:04:05Z,performance\n"
    assert cloud.deliver("proofs/leads-ltd/may.csv", rows) == []
    assert cloud.team.state("performance") == "given"
    assert cloud.deliver("proofs/somebody/may.csv", rows) == ["file-1"]
