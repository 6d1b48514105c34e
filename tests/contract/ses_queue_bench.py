"""What the tests of SES's queue share: SQS (moto) and the simulated SES behind one address, and an installation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import httpx
import msgspec
from moto.server import ThreadedMotoServer
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cli.demo.files import add_secrets, write_settings
from cli.setup import fresh_keys
from connectors.ses import PROVIDER
from connectors.ses.settings import SesSettings
from connectors.simulators.base import Account, utcnow
from connectors.simulators.serving import served
from connectors.simulators.ses import REGION, SesSimulator
from connectors.simulators.ses.wire import iso
from core.ledger import Recording
from core.model import Action, ConsentEvent, PurposeId, RecipientId
from core.ports import Connector, ProviderContext
from webhooks.assembly import Services

MOTO_ACCOUNT = "123456789012"
KEYS = ["key-of-an-api-destination-number-1", "key-of-an-api-destination-number-2"]
ROUTES = ("signed", "raw", "bridged")

_FORWARDED = ("content-type", "x-amz-target", "authorization", "x-amz-date", "x-amzn-query-mode")


@dataclass
class Split:
    """SQS at moto, everything else at the simulator; spoils some of it.

    ``faults``: by the name of an operation of SQS or a part of a path, what happens to the next such requests: a status
    that is answered instead, a JSON object that is answered instead, a pair of both (done, and answered otherwise), or
    ``"cut"``: the work is done, and the connection breaks before the answer.
    """

    simulator: ASGIApp
    moto: str
    faults: dict[str, list[Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    # Made once, for that takes time; without connections that stay open.
    client: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
    )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            return await self.simulator(scope, receive, send)
        target = dict(scope["headers"]).get(b"x-amz-target", b"").decode()
        operation = target.rpartition(".")[2] if target.startswith("AmazonSQS.") else ""
        self.calls.append(operation or scope["path"])
        name = next((name for name in self.faults if name == operation or name in scope["path"]), "")
        fault = self.faults[name].pop(0) if self.faults.get(name) else None
        if isinstance(fault, int):
            return await Response(status_code=fault)(scope, receive, send)
        if isinstance(fault, dict):
            return await _answer(fault)(scope, receive, send)
        if not operation:
            return await self.simulator(scope, receive, send)
        answer = await self._forwarded(Request(scope, receive))
        if isinstance(fault, tuple):
            answer = _answer(fault[1])
        if fault == "cut":
            send.__self__.transport.abort()  # type: ignore[attr-defined]  # the server's own bound method
            return None
        return await answer(scope, receive, send)

    async def _forwarded(self, request: Request) -> Response:
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        answer = await self.client.post(self.moto, content=await request.body(), headers=headers)
        return Response(answer.content, answer.status_code, media_type="application/x-amz-json-1.0")


def _answer(content: Mapping[str, Any]) -> Response:
    return Response(json.dumps(content), media_type="application/x-amz-json-1.0")


@dataclass
class QueueBench:
    """A queue with a dead-letter queue, SES, and how to get installations that read it."""

    simulator: SesSimulator
    account: Account
    split: Split
    url: str
    sqs: Any
    queue: str
    dead: str
    folder: Path

    # What is put into the queue

    def complaint(self, number: int, mail: int = 0) -> str:
        """What SES publishes when somebody complains about a mail, the same each time."""
        at = iso(utcnow())[:10] + f"T00:00:{mail:02d}.000Z"
        person = address(number)
        about = {"complainedRecipients": [{"emailAddress": person}], "timestamp": at, "complaintFeedbackType": "abuse"}
        about["feedbackId"] = f"feedback-{number}-{mail}"
        held = {"messageId": f"mail-{number}-{mail}", "destination": [person], "timestamp": at, "tags": {}}
        return json.dumps({"eventType": "Complaint", "complaint": about, "mail": held})

    def signed(self, message: str) -> tuple[Mapping[str, str], str]:
        """SNS's headers and body for what SES published."""
        fields = {"Subject": "Amazon SES Email Event Notification", "Message": message}
        made = self.simulator.sns.signer.message(
            "Notification", self.simulator.topic.arn, fields, version="2", endpoint="", base_url=self.url
        )
        return made.headers, made.body.decode()

    def bridged(self, message: str, id_: str) -> str:
        """The event of EventBridge for it."""
        event = {"version": "0", "id": id_, "detail-type": "Email Complaint Received", "source": "aws.ses"}
        event |= {"account": MOTO_ACCOUNT, "time": utcnow().strftime("%Y-%m-%dT%H:%M:%SZ"), "region": REGION}
        return json.dumps(event | {"resources": [], "detail": json.loads(message)})

    def body(self, route: str, message: str, id_: str = "bridge-1") -> str:
        """What lies in the queue when SES's event came by a route."""
        if route == "signed":
            return self.signed(message)[1]
        return message if route == "raw" else self.bridged(message, id_)

    def put(self, *bodies: str) -> None:
        """Put messages into the queue."""
        for start in range(0, len(bodies), 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + 10])]
            assert not self.sqs.send_message_batch(QueueUrl=self.queue, Entries=entries).get("Failed")

    def waiting(self, url: str = "") -> int:
        """How many messages are in the queue (or another), those that are being taken among them."""
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        held = self.sqs.get_queue_attributes(QueueUrl=url or self.queue, AttributeNames=["All"])["Attributes"]
        return sum(int(held[name]) for name in names)

    # Installations

    def settings(self, name: str = "team", **changes: object) -> Path:
        """Write an installation's settings and keys; answers the settings' path."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / ".env").write_text(KEY_FILE, "utf-8")
        add_secrets(folder, self.account.secrets | {"SES_EVENTBRIDGE_KEYS": ",".join(KEYS)})
        section = self.account.settings | {"queue_url": self.queue, "queue_visibility_seconds": 1} | changes
        held = {name: value for name, value in section.items() if value is not None}
        return write_settings(folder, "http://127.0.0.1:8080", {"ses": held})

    def connector(self, secrets: Mapping[str, str], **changes: object) -> Connector:
        """A connector alone, with changed settings."""
        settings = msgspec.convert(self.account.settings | {"queue_url": self.queue} | changes, SesSettings)
        return PROVIDER.connector(settings, ProviderContext(secrets, (), utcnow))

    @contextmanager
    def team(self, name: str = "team", **changes: object) -> Iterator[Services]:
        """An installation."""
        with Services.from_file(self.settings(name, **changes)) as services:
            yield services


KEY_FILE = fresh_keys()
"""The same for all installations, so that they can be compared."""


def address(number: int) -> str:
    """A person."""
    return f"reader-{number}@example.org"


def consented(services: Services, *numbers: int) -> None:
    """These people, whose addresses are in the book, agreed to everything, long ago."""
    at = datetime.fromisoformat("2026-01-05T09:00:00+00:00")
    purposes = services.settings.purposes
    services.book.put([(recipient(services, n), address(n), None) for n in numbers])
    people = [recipient(services, n) for n in numbers]
    said = [ConsentEvent(each, purposes, Action.GIVEN, received_at=at, occurred_at=at) for each in people]
    services.ledger.record([Recording(event) for event in said])


def actions(services: Services, number: int) -> list[str]:
    """What the ledger has of somebody, in order."""
    chain = services.store.chain(recipient(services, number))
    return [re.findall(r'"action":"(\w+)"', entry.body.decode())[0] for entry in chain]


def recipient(services: Services, number: int) -> RecipientId:
    """Somebody's pseudonym."""
    return services.recipient(address(number))


def state(services: Services, number: int) -> str:
    """Where somebody stands on performance."""
    head = services.store.heads([recipient(services, number)]).get(recipient(services, number))
    standing = head.standings.get(PurposeId("performance")) if head else None
    return standing.state(services.now(), services.policy).value if standing else "unknown"


@contextmanager
def moto_server() -> Iterator[str]:
    """A moto server."""
    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        running.stop()


def client(url: str, service: str) -> Any:  # noqa: ANN401 - boto3's own
    """A boto3 client of a local server."""
    session = boto3.Session("testing", "testing", region_name=REGION)
    named: Any = service  # the stubs know clients by their literal names
    return session.client(named, endpoint_url=url)


@contextmanager
def queue_benched(folder: Path, moto: str, name: str, *, reads: int = 1_000) -> Iterator[QueueBench]:
    """A queue of that name at moto, whose messages go to a dead-letter queue once they were read so often."""
    sqs = client(moto, "sqs")
    dead = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": reads})
    queue = sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    simulator = SesSimulator(folder=folder)
    split = Split(simulator.app, moto)
    simulator.app = split
    with served(simulator.app) as url:
        simulator.base_url = url
        account = simulator.account(purposes=["performance"], subject="Spring", html="<p>Spring</p>")
        yield QueueBench(simulator, account, split, url, sqs, queue, dead, folder)
