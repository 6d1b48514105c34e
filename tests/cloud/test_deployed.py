"""What terraform/ deploys, from end to end, in a local AWS that enforces IAM: run by ``make test-cloud``.

The tests go on from one another, in this order: the last ones plan anew, and tear everything down.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from datetime import timedelta
from random import Random
from urllib.parse import urlencode

import pytest

from connectors.simulators.mailchimp import MailchimpSimulator
from connectors.simulators.sendgrid import SendGridSimulator
from core.ledger import Recording
from core.model import TO_ASK, Action, ConsentEvent, PurposeId
from tests.callback_desk import SECRETS, Signed, by_mailchimp, by_sendgrid
from tests.cloud.stack import FALSE_DIFFERENCES, ROOT, Stack, eventually, variables
from tests.installation import ADDRESS

PERFORMANCE = PurposeId("performance")
FORM = {"content-type": "application/x-www-form-urlencoded"}
READER, LARGE, PARTNERS = "reader@example.com", "large@example.com", "partners@example.com"


def complaint(stack: Stack, address: str, **more: object) -> Signed:
    """A callback of SendGrid about somebody, signed."""
    now = int(stack.team.services.now().timestamp())
    event = {"event": "spamreport", "email": address, "timestamp": now, "sg_event_id": address, **more}
    return by_sendgrid(json.dumps([event]).encode(), now)


def segments(stack: Stack, provider: str = "sendgrid") -> set[PurposeId]:
    """The purposes of whoever is in a segment at an ESP."""
    members = stack.team.services.connector(provider).read_back()
    return {purpose for member in members for purpose in member.purposes} - {TO_ASK}


def test_a_callback_of_sendgrid_ends_in_the_ledger(stack: Stack) -> None:
    """Signed by it, and delivered to the HTTP API: a complaint withdraws; twice changes nothing."""
    signed = complaint(stack, ADDRESS)
    assert [stack.post(signed), stack.post(signed)] == [200, 200]
    eventually(lambda: stack.team.state("performance") == "withdrawn")
    assert len(stack.team.services.store.chain(stack.team.services.recipient(ADDRESS))) == 1


def test_a_callback_of_mailchimp_ends_in_the_ledger(stack: Stack, mailchimp: MailchimpSimulator) -> None:
    """Signed by it: an unsubscription withdraws."""
    now, address = stack.team.services.now(), "mailchimps@example.com"
    said = {"action": "unsub", "reason": "manual", "id": "1", "list_id": mailchimp.audience.list_id, "email": address}
    fired = f"{now - timedelta(seconds=10):%Y-%m-%d %H:%M:%S}"
    form = {"type": "unsubscribe", "fired_at": fired, **{f"data[{name}]": value for name, value in said.items()}}
    body = urlencode(form).encode()
    assert stack.post(by_mailchimp(body, int(now.timestamp()), mailchimp.signing_secret)) == 200
    eventually(lambda: stack.team.state("performance", address) == "withdrawn")


def test_what_no_esp_signed_is_refused(stack: Stack) -> None:
    """A forged callback is answered 403, and leaves no trace."""
    size = stack.team.services.store.size()
    forged = complaint(stack, "forged@example.com").but(x_twilio_email_event_webhook_signature="AAAA")
    assert stack.post(forged) == 403
    assert stack.team.services.store.size() == size


def test_a_choice_on_the_page_is_kept_and_reaches_the_esp(stack: Stack) -> None:
    """What somebody ticks stands in the ledger when the page answers; the task of syncing tells the ESPs."""
    stack.team.recipient(READER)
    path = stack.team.choices_path(READER)
    page = stack.http.get(path)
    assert page.status_code == 200
    fields = dict(re.findall(r'name="(lang|notice|build|seen)" value="([^"]*)"', page.text))
    answer = stack.http.post(path, content=urlencode({**fields, "action": "accept_all"}).encode(), headers=FORM)
    assert answer.status_code == 303
    assert stack.team.state("performance", READER) == "given"
    assert stack.do("sync")["continues"] is False
    assert PERFORMANCE in segments(stack)


def test_a_withdrawal_reaches_the_esp_by_the_stream(stack: Stack, sendgrid: SendGridSimulator) -> None:
    """Nobody calls anything: the stream of the ledger's table has the person taken out."""
    path = stack.team.choices_path(READER)
    assert sendgrid.base_url
    answer = stack.http.post(f"{path}/withdraw", content=b"List-Unsubscribe=One-Click", headers=FORM)
    assert answer.status_code == 200
    eventually(lambda: PERFORMANCE not in segments(stack))
    taken_out = stack.team.services.records.taken_out
    eventually(lambda: taken_out(stack.team.services.recipient(READER)))


@pytest.mark.parametrize("task", ["sync", "repair", "poll", "expire", "purge", "notarise"])
def test_each_task_has_the_rights_that_it_needs(stack: Stack, task: str) -> None:
    """Over an installation that holds something of everything."""
    assert stack.do(task).get("task") == task


def test_the_schedule_calls_the_tasks(stack: Stack) -> None:
    """A new entry comes under a checkpoint in S3 without anybody's doing, the stream's function apart."""
    with stack.paused("stream"):
        stack.team.say(Action.WITHDRAWN, "performance", address="scheduled@example.com")
        size = stack.team.services.store.size()
        eventually(lambda: stack.covered() >= size)


def test_a_poison_message_is_set_aside_and_can_be_replayed(stack: Stack) -> None:
    """The body of a large callback is gone, so it cannot be applied; once it is back, it can."""
    noise = base64.b64encode(Random(7).randbytes(400_000)).decode()  # noqa: S311 - hardly to be compressed
    sqs, s3, inbox = stack.clients["sqs"], stack.clients["s3"], stack.said["buckets"]["inbox"]
    dead = stack.said["dead_letter_queues"]["callbacks"]
    with stack.hidden_for("callbacks", 1):
        with stack.paused("worker"):
            assert stack.post(complaint(stack, LARGE, noise=noise)) == 200
            (key,) = stack.listed("inbox", "callbacks/")
            body = s3.get_object(Bucket=inbox, Key=key)["Body"].read()
            s3.delete_object(Bucket=inbox, Key=key)
        found: list[dict[str, str]] = []

        def set_aside() -> bool:
            found.extend(sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=1).get("Messages", []))
            return bool(found)

        eventually(set_aside)
    assert stack.team.state("performance", LARGE) == "unknown"
    s3.put_object(Bucket=inbox, Key=key, Body=body)
    sqs.send_message(QueueUrl=stack.said["queues"]["callbacks"], MessageBody=found[0]["Body"])
    sqs.delete_message(QueueUrl=dead, ReceiptHandle=found[0]["ReceiptHandle"])
    eventually(lambda: stack.team.state("performance", LARGE) == "withdrawn")
    eventually(lambda: stack.listed("inbox", "callbacks/") == [])


def test_a_large_callback_that_nobody_understands_is_kept(stack: Stack) -> None:
    """It is larger than an item of DynamoDB can be, so that its rest is written, and announced, apart."""
    noise = base64.b64encode(Random(8).randbytes(400_000)).decode()  # noqa: S311 - hardly to be compressed
    now = int(stack.team.services.now().timestamp())
    assert stack.post(by_sendgrid(json.dumps({"not": "a list", "noise": noise}).encode(), now)) == 200
    eventually(lambda: sum(stack.team.services.dead_letters.counts().values()) == 1)


def test_the_log_is_shown_to_everybody(stack: Stack) -> None:
    """The HTTP API reads it from the bucket, and a receipt holds proofs from it."""
    assert stack.http.get("/log/checkpoint").status_code == 200
    receipt = stack.http.get(f"{stack.team.choices_path(READER)}/receipt")
    assert receipt.status_code == 200
    assert receipt.json()["receipts"]


def test_a_partners_file_is_reconciled(stack: Stack) -> None:
    """It is put into the inbox; what was found about its claims lies in the store afterwards."""
    services = stack.team.services
    claim = ConsentEvent(
        recipient=services.recipient(PARTNERS),
        purposes=(PERFORMANCE,),
        action=Action.GIVEN,
        received_at=services.now(),
        partner="Leads Ltd",
    )
    services.ledger.record([Recording(claim)])
    rows = f"address,collected_at,purposes\n{PARTNERS},2026-01-02T03:04:05Z,performance\n"
    inbox = stack.said["buckets"]["inbox"]
    stack.clients["s3"].put_object(Bucket=inbox, Key="proofs/leads-ltd/may.csv", Body=rows.encode())
    eventually(lambda: {each[-4:] for each in stack.listed("store", "findings/")} >= {".csv", "quet"})
    assert stack.team.state("performance", PARTNERS) == "given"


def test_an_operator_verifies_the_ledger_from_s3(stack: Stack) -> None:
    """``pixelproof ledger verify`` over the tables, against the log in the bucket."""
    assert stack.do("notarise")["task"] == "notarise"
    command = [sys.executable, "-c", "from cli.main import run; run()", "ledger", "verify", "--json"]
    command += ["--config", str(stack.folder / "pixelproof.toml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["covered"] == stack.team.services.store.size()


def test_nothing_personal_is_logged(stack: Stack) -> None:
    """Neither addresses nor secrets stand in what the functions and the local AWS wrote."""
    logged = stack.logged()
    assert '"task":"notarise"' in logged
    assert not [each for each in (ADDRESS, READER, LARGE, PARTNERS, *SECRETS.values()) if each in logged]


def test_a_second_plan_finds_nothing_to_change(stack: Stack) -> None:
    """What was applied stays as it is, apart from what the local AWS is known to answer wrongly."""
    assert stack.differences() <= FALSE_DIFFERENCES


def test_it_can_be_torn_down(stack: Stack) -> None:
    """Without protection, everything goes."""
    done = stack.run("destroy", "-auto-approve", "-no-color", "-input=false", "-parallelism=30", *variables())
    assert done.returncode == 0, done.stderr
    assert stack.run("state", "list").stdout == ""
