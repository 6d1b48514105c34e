"""SES's events from a queue: SQS (moto) over HTTP, real stores, and every fault both ways."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from cli.queues import drained
from connectors.simulators.serving import served
from core.errors import ProviderError, StoreError
from core.queue_ports import ReadsQueue
from core.stores.sqlite import SqliteStore
from core.verify import verify
from tests.contract.ses_queue_bench import (
    KEYS,
    ROUTES,
    QueueBench,
    actions,
    address,
    client,
    consented,
    moto_server,
    queue_benched,
    state,
)
from webhooks.app import create_app
from webhooks.assembly import Services

DEADLINE = 60.0
_NAMES = count()


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A moto server for all tests here."""
    with moto_server() as url:
        yield url


@pytest.fixture
def bench(tmp_path: Path, moto: str) -> Iterator[QueueBench]:
    """A queue of its own."""
    with queue_benched(tmp_path, moto, f"events-{next(_NAMES)}") as made:
        yield made


def until(true: Callable[[], bool]) -> None:
    """Wait until it is so."""
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end, "it never came to be so"
        time.sleep(0.05)


def drain(services: Services, bench: QueueBench) -> dict[str, Any]:
    """Poll until the queue is empty, what failed before among it."""
    total: dict[str, Any] = {}
    end = time.monotonic() + DEADLINE
    while True:
        total = drained(services, "ses")
        if not bench.waiting() or time.monotonic() > end:
            return total


def reader(services: Services) -> ReadsQueue:
    """The connector."""
    return cast("ReadsQueue", services.connector("ses"))


# What is taken


def test_serve_takes_what_waits_whichever_way_it_came(bench: QueueBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """SNS's message, a raw one and EventBridge's: each withdraws, and is gone from the queue; SES is told."""
    monkeypatch.setattr("webhooks.queues.WAIT", 1.0)  # or the last poll keeps the server before SQS busy for long
    with bench.team() as services:
        consented(services, 0, 1, 2)
        bench.put(*(bench.body(route, bench.complaint(n)) for n, route in enumerate(ROUTES)))
        with served(create_app(services)):
            until(lambda: not bench.waiting())
            until(lambda: len([c for c in bench.split.calls if "/contacts/" in c or c.endswith("/contacts")]) >= 3)
        assert [state(services, n) for n in range(3)] == ["withdrawn"] * 3


def test_one_event_by_all_routes_takes_effect_once(bench: QueueBench) -> None:
    """The queue's three forms and HTTPS agree on what an event is."""
    with bench.team(queue_url=None) as services:
        consented(services, 0)
        with served(create_app(services)) as url:
            message = bench.complaint(0)
            by_key = {"x-pixelproof-key": KEYS[1]}, bench.bridged(message, "b")
            assert post(url, bench.signed(message), by_key) == {200}
        before = actions(services, 0)
    bench.put(*(bench.body(route, message) for route in ROUTES), bench.bridged(message, "another"))
    with bench.team() as services:
        assert drain(services, bench)["messages"] == 4
        assert actions(services, 0) == before == ["given", "withdrawn"]


def post(url: str, *callbacks: tuple[Mapping[str, str], str]) -> set[int]:
    """Post callbacks, headers and bodies; answers the statuses."""
    with httpx.Client(base_url=url, timeout=30) as caller:
        answers = [caller.post("/webhooks/ses", headers=headers, content=body) for headers, body in callbacks]
    return {answer.status_code for answer in answers}


def test_what_nobody_can_read_becomes_a_dead_letter(bench: QueueBench) -> None:
    """It is kept here, since the queue let it in, and holds up nothing."""
    bench.put("hello", bench.complaint(0))
    with bench.team() as services:
        assert drain(services, bench) == {"messages": 2, "refused": 0}
        (letter,) = services.dead_letters.listed("ses")
        assert letter.body == b"hello"
        assert state(services, 0) == "withdrawn"


def test_500_messages_end_in_the_same_ledger_as_by_https(bench: QueueBench) -> None:
    """Duplicates and another order change nothing: neither what is recorded, nor how often."""
    events = [bench.complaint(n % 50, n % 4) for n in range(400)]
    https = [bench.signed(message) for message in events]
    with bench.team("https", queue_url=None) as services:
        with served(create_app(services)) as url:
            assert post(url, *https) == {200}
        expected = {n: sorted(actions(services, n)) for n in range(50)}
        assert verify(services.store).ok
    bodies = [bench.body(ROUTES[n % 3], message, f"bridge-{n}") for n, message in enumerate(events)]
    shuffled = [bodies[(n * 173) % 400] for n in range(400)] + [body for _, body in https[100:200]]
    bench.put(*shuffled)
    with bench.team("queue") as services:
        assert drain(services, bench)["messages"] == 500
        assert {n: sorted(actions(services, n)) for n in range(50)} == expected
        assert verify(services.store).ok


# What is not taken


def test_a_forged_message_ends_in_the_dead_letter_queue(tmp_path: Path, moto: str) -> None:
    """It stays until SQS has given it out as often as it may, and the others are taken meanwhile."""
    with queue_benched(tmp_path, moto, "poisoned", reads=2) as bench, bench.team() as services:
        bench.put(bench.signed(bench.complaint(0))[1].replace("reader-0", "reader-1"), bench.complaint(2))
        done = drained(services, "ses")
        assert (done["messages"], done["refused"]) == (1, 1)
        drain(services, bench)
        assert bench.waiting(bench.dead) == 1
        assert [state(services, n) for n in range(3)] == ["unknown", "unknown", "withdrawn"]
        assert not [*services.dead_letters.listed("ses")]


def test_an_unreachable_certificate_leaves_the_message_there(bench: QueueBench) -> None:
    """Nobody can tell yet whether it is genuine: it comes again, and is taken then."""
    bench.split.faults["SimpleNotificationService"] = [503]
    bench.put(bench.body("signed", bench.complaint(0)))
    with bench.team() as services:
        done = drained(services, "ses")
        assert done["messages"] == 0
        assert "comes again" in done["error"]
        assert bench.waiting() == 1
        assert drain(services, bench)["messages"] == 1
        assert state(services, 0) == "withdrawn"


@contextmanager
def failing(patch: pytest.MonkeyPatch, *, after_the_commit: bool) -> Iterator[None]:
    """The store fails: before anything is committed, or after it was although it says that it was not."""
    batch = SqliteStore.batch

    @contextmanager
    def broken(store: SqliteStore) -> Iterator[object]:
        if after_the_commit:
            with batch(store) as opened:
                yield opened
        raise StoreError("out of reach")

    with patch.context() as inner:
        inner.setattr(SqliteStore, "batch", broken)
        yield


@pytest.mark.parametrize("after_the_commit", [False, True])
def test_a_failing_store_leaves_the_messages_there(
    bench: QueueBench, monkeypatch: pytest.MonkeyPatch, *, after_the_commit: bool
) -> None:
    """Nothing is removed while the store fails, and the withdrawal is recorded once afterwards: both ways."""
    with bench.team() as services:
        consented(services, 0)
        bench.put(bench.body("signed", bench.complaint(0)))
        with failing(monkeypatch, after_the_commit=after_the_commit):
            assert "error" in drained(services, "ses")
        assert bench.waiting() == 1
        assert drain(services, bench)["messages"] == 1
        assert actions(services, 0) == ["given", "withdrawn"]


def failed(number: int) -> dict[str, Any]:
    """What SQS answers when it has not deleted so many messages."""
    entries = [{"Id": str(n), "SenderFault": False, "Code": "InternalError"} for n in range(number)]
    return {"Successful": [], "Failed": entries}


@pytest.mark.parametrize(
    ("faults", "gone"),
    [
        pytest.param([403], False, id="refused"),
        pytest.param([failed(2), failed(2)], False, id="entries-not-done"),
        pytest.param([(200, failed(2)), (200, failed(2))], True, id="entries-done-and-denied"),
    ],
)
def test_what_was_not_removed_is_recognised(bench: QueueBench, faults: list[Any], *, gone: bool) -> None:
    """A deletion that failed, done or not: the message takes effect once, and the failure is told."""
    bench.split.faults["DeleteMessageBatch"] = faults
    with bench.team() as services:
        consented(services, 0, 1)
        bench.put(*(bench.body("raw", bench.complaint(n)) for n in range(2)))
        assert "error" in drained(services, "ses")
        assert bench.waiting() == (0 if gone else 2)
        drain(services, bench)
        assert bench.waiting() == 0
        assert [actions(services, n) for n in range(2)] == [["given", "withdrawn"]] * 2


@pytest.mark.parametrize(
    "fault", ["cut", 503, failed(1), (200, failed(1))], ids=["answer-lost", "overloaded", "entry-left", "entry-denied"]
)
def test_a_passing_failure_of_a_deletion_is_tried_again(bench: QueueBench, fault: object) -> None:
    """Deleting again what is gone is no error, so the second attempt settles it."""
    bench.split.faults["DeleteMessageBatch"] = [fault]
    bench.put(bench.body("raw", bench.complaint(0)))
    with bench.team() as services:
        assert drained(services, "ses") == {"messages": 1, "refused": 0}
        assert bench.waiting() == 0
        assert bench.split.calls.count("DeleteMessageBatch") == 2


def test_what_was_read_and_never_heard_of_comes_again(bench: QueueBench) -> None:
    """The answer to a read is lost: the messages are hidden for a while, and then taken."""
    bench.split.faults["ReceiveMessage"] = ["cut"]
    bench.put(bench.body("raw", bench.complaint(0)))
    with bench.team() as services:
        drain(services, bench)
        assert state(services, 0) == "withdrawn"


def test_errors_tell_no_handle_and_no_payload(bench: QueueBench) -> None:
    """What is told of a failure is the provider's name for it, and how many."""
    bench.split.faults["DeleteMessageBatch"] = [failed(1), failed(1)]
    bench.put(bench.complaint(0))
    with bench.team() as services:
        (message,) = reader(services).receive(1.0)
        with pytest.raises(ProviderError, match=r"did not delete 1 messages \(InternalError\)") as told:
            reader(services).remove([message])
    for text in (str(told.value), repr(message)):
        assert message.handle not in text
        assert address(0) not in text


KILLED = """
import os, signal, sys
from connectors.ses.queue import Queue
Queue.remove = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from cli.main import run
run(["poll", "--json", "-c", sys.argv[1]])
"""


def test_killed_between_commit_and_deletion_it_is_taken_once(bench: QueueBench) -> None:
    """The process dies when the withdrawal is durable and the message still there."""
    settings = bench.settings()
    with Services.from_file(settings) as services:
        consented(services, 0)
    bench.put(bench.body("signed", bench.complaint(0)))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.run([sys.executable, "-c", KILLED, settings], env=environment, capture_output=True, check=False)  # noqa: S603
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    with Services.from_file(settings) as services:
        assert actions(services, 0) == ["given", "withdrawn"]
        assert bench.waiting() == 1
        drain(services, bench)
        assert bench.waiting() == 0
        assert actions(services, 0) == ["given", "withdrawn"]


@pytest.mark.parametrize(
    ("forged", "spoilt", "code"),
    [(False, {}, 0), (True, {}, 1), (False, {"ReceiveMessage": [403] * 9}, 3)],
    ids=["taken", "refused", "out-of-reach"],
)
def test_poll_says_what_became_of_the_queue(
    bench: QueueBench, spoilt: dict[str, list[Any]], code: int, *, forged: bool
) -> None:
    """One JSON object on stdout, the exit codes of all commands, no address anywhere, and SES is told at once."""
    settings = bench.settings(queue_visibility_seconds=60)
    with Services.from_file(settings) as services:
        consented(services, 0)
    body = bench.body("signed", bench.complaint(0))
    bench.put(body.replace("reader-0", "reader-1") if forged else body)
    bench.split.faults.update(spoilt)
    script = "import sys; from cli.main import run; run(sys.argv[1:])"
    command = [sys.executable, "-c", script, "poll", "--json", "-c", str(settings)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(command, env=environment, capture_output=True, check=False, text=True)  # noqa: S603
    assert ran.returncode == code, ran.stderr
    found = json.loads(ran.stdout)["ses"]
    assert (found["messages"], found["refused"]) == (int(code == 0), int(forged))
    assert ("error" in found) is (code == 3)
    assert "reader-" not in ran.stdout + ran.stderr
    assert any("/contacts" in call for call in bench.split.calls) is (code == 0)


# Other servers


def test_what_snss_own_subscription_brings(bench: QueueBench, moto: str) -> None:
    """SNS to SQS at moto: raw it is taken; wrapped, with the signature that moto makes up, it is not."""
    sns = client(moto, "sns")
    topic = sns.create_topic(Name=f"topic-{next(_NAMES)}")["TopicArn"]
    arn = bench.sqs.get_queue_attributes(QueueUrl=bench.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)["SubscriptionArn"]
    with bench.team(queue_visibility_seconds=60) as services:
        sns.publish(TopicArn=topic, Message=bench.complaint(0))
        assert drained(services, "ses") == {"messages": 0, "refused": 1}
        sns.set_subscription_attributes(
            SubscriptionArn=subscription, AttributeName="RawMessageDelivery", AttributeValue="true"
        )
        sns.publish(TopicArn=topic, Message=bench.complaint(0))
        assert drained(services, "ses") == {"messages": 1, "refused": 0}
        assert state(services, 0) == "withdrawn"


def test_what_a_rule_of_event_bridge_brings(bench: QueueBench, moto: str) -> None:
    """EventBridge to SQS at moto: the event as the service wraps it is taken."""
    events = client(moto, "events")
    arn = bench.sqs.get_queue_attributes(QueueUrl=bench.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rule = f"rule-{next(_NAMES)}"
    events.put_rule(Name=rule, EventPattern=json.dumps({"source": ["aws.ses"]}))
    events.put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": arn}])
    entry = {"Source": "aws.ses", "DetailType": "Email Complaint Received", "Detail": bench.complaint(0)}
    assert not events.put_events(Entries=[entry])["FailedEntryCount"]
    with bench.team("unnamed", topic_arns=[]) as services:  # moto leaves the account out, so none can be asked for
        assert drained(services, "ses") == {"messages": 1, "refused": 0}
        assert state(services, 0) == "withdrawn"
    assert not bench.waiting()


def test_a_message_is_dated_by_the_queue(bench: QueueBench) -> None:
    """What says no time of its own has that at which it came into the queue, the same each time that it is read."""
    bench.put("{}")
    with bench.team() as services:
        (first,) = reader(services).receive(1.0)
        read = iter(lambda: reader(services).receive(1.0), ())
        again = next(message for messages in read for message in messages)
    assert first.request.headers == again.request.headers
    assert first.request.queued
    assert first.request.headers["x-pixelproof-queued-at"].endswith("+00:00")
