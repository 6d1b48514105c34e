"""What the tests of the SES connector share: a served simulator, a wire that can be spoiled, and people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.ses.client import Aws
from connectors.ses.connector import SesConnector
from connectors.ses.settings import SesSettings
from connectors.simulators.base import Account
from connectors.simulators.serving import simulated
from connectors.simulators.ses import SesSimulator
from connectors.simulators.ses.contacts import Contact as Held
from core.errors import AmbiguousOutcome
from core.model import (
    Campaign,
    CampaignId,
    CampaignKind,
    Contact,
    ContactChange,
    Mechanism,
    Plan,
    PurposeId,
    RecipientId,
    Split,
)

LIST = "pixelproof"
BULK = "POST /v2/email/outbound-bulk-emails"
TRACKED, UNTRACKED = "pixelproof-tracked", "pixelproof-untracked"
NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
PERFORMANCE, PROFILING = PurposeId("performance"), PurposeId("profiling")
PURPOSES = (PERFORMANCE, PROFILING)
HTML = (
    '<p><a href="[[choices_url]]">Your choices</a></p>'
    '[[if_pixel]]<img src="https://pixel.example/[[pixel_path]]/spring.gif" alt="">[[end_if]]'
)


@dataclass
class Wire:
    """Between the connector and the simulator: notes every request, and spoils some.

    ``faults``: by a part of ``METHOD path``, what happens to the next requests like it: a status and its headers, a
    JSON body or a text that is answered instead, or ``"cut"``: the work is done and the connection breaks before the
    answer.
    """

    app: ASGIApp
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    faults: dict[str, list[Any]] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        message = await receive()
        body = message.get("body", b"")
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        line = f"{scope['method']} {scope['path']}"
        self.requests.append((line, json.loads(body) if body[:1] == b"{" and b"\n" not in body else {}))

        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        fault = next((self.faults[part].pop(0) for part in self.faults if part in line and self.faults[part]), None)
        match fault:
            case None:
                await self.app(scope, again, send)
            case "cut":
                await self.app(scope, again, _nowhere)
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
            case str(text):
                await Response(text)(scope, again, send)
            case (int(status), dict(headers)):
                await JSONResponse({"message": "no"}, status, headers)(scope, again, send)
            case _:
                await JSONResponse(fault)(scope, again, send)
        return None

    def lines(self, *parts: str) -> list[str]:
        """The requests so far that contain one of these."""
        return [line for line, _ in self.requests if any(part in line for part in parts)]


async def _nowhere(_message: Message) -> None:
    """An answer that nobody hears."""


@dataclass
class Bench:
    """The served simulator with an account, the wire before it, and how to get connectors."""

    simulator: SesSimulator
    wire: Wire
    account: Account
    url: str
    slept: list[float] = field(default_factory=list)

    def connector(self, **changes: object) -> SesConnector:
        """A connector with changed settings; it sleeps on paper only."""
        settings = msgspec.convert(self.account.settings | changes, SesSettings)
        aws = Aws(settings, self.account.secrets, now=lambda: NOW, sleep=self.slept.append)
        return SesConnector(aws, settings, PURPOSES)

    def held(self, number: int) -> Held:
        """A contact as the simulator has it."""
        assert self.simulator.contacts.list is not None
        return self.simulator.contacts.list.contacts[address(number)]


def address(number: int) -> str:
    """A person's address; the slash must survive the URLs of SES."""
    return f"reader/{number}@example.org"


def contact(number: int) -> Contact:
    """A person with link and pixel."""
    return Contact(
        recipient=recipient(number),
        address=address(number),
        choices_url=f"https://choices.example/{number}",
        pixel_path=f"o/{number}",
    )


def recipient(number: int) -> RecipientId:
    """A person's pseudonym."""
    return RecipientId(number.to_bytes(16, "big"))


@dataclass
class Journal:
    """A send journal in memory."""

    begun: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)

    def begin(self, part: str) -> bool:
        """False when it was sent; ambiguous when it began and did not end."""
        if part in self.begun:
            raise AmbiguousOutcome("ses", f"{part} began and did not end")
        if part in self.sent:
            return False
        self.begun.add(part)
        return True

    def done(self, part: str) -> None:
        """Sent."""
        self.begun.remove(part)
        self.sent.add(part)

    def failed(self, part: str) -> None:
        """Not sent."""
        self.begun.remove(part)


@contextmanager
def benched(folder: Path, *, html: str = HTML, signature_version: str = "1") -> Iterator[Bench]:
    """Serve a simulator with an account behind a wire."""
    simulator = SesSimulator(folder=folder, signature_version=signature_version)
    wire = Wire(simulator.app)
    simulator.app = wire
    with simulated(simulator) as url:
        yield Bench(simulator, wire, simulator.account(purposes=PURPOSES, subject="Spring", html=html), url)


def campaign(
    bench: Bench, mechanism: Mechanism = Mechanism.PROVIDER, content: Mapping[str, str] | None = None
) -> Campaign:
    """A campaign with the account's content."""
    return Campaign(
        CampaignId("spring-2026"),
        "ses",
        CampaignKind.REQUESTED,
        PURPOSES,
        mechanism,
        content=bench.account.content | dict(content or {}),
    )


def people(start: int, end: int) -> tuple[Contact, ...]:
    """Some people."""
    return tuple(contact(number) for number in range(start, end))


def mails(bench: Bench) -> dict[str, str]:
    """The HTML that each person got; nobody got two."""
    found = httpx.get(f"{bench.url}/_sim/mails?campaign=spring-2026").json()
    assert len({mail["to"] for mail in found}) == len(found)
    return {mail["to"]: mail["html"] for mail in found}


def sent(bench: Bench) -> list[dict[str, Any]]:
    """The bodies of the requests that send mail."""
    return [body for line, body in bench.wire.requests if line == BULK]


def ready(bench: Bench, split: Split, mechanism: Mechanism = Mechanism.PROVIDER) -> tuple[SesConnector, Plan]:
    """A connector and a plan for these people."""
    connector = bench.connector()
    return connector, connector.plan(campaign(bench, mechanism), split)


def change(number: int, *desired: PurposeId, confirmed: tuple[PurposeId, ...] = (), at: str = "") -> ContactChange:
    """A change of one person."""
    person = replace(contact(number), address=at or address(number))
    return ContactChange(person, frozenset(desired), frozenset(confirmed))


def members(connector: SesConnector) -> dict[str, frozenset[PurposeId]]:
    """What is read back."""
    found = list(connector.read_back())
    assert len({member.address for member in found}) == len(found)
    return {member.address: member.purposes for member in found}


def in_list(bench: Bench, number: int, *, topics: Mapping[str, str], unsubscribed: bool, attributes: str) -> None:
    """Have the team's own contact in the list, which has a topic of the team's own."""
    if bench.simulator.contacts.list is None:
        request: dict[str, Any] = {
            "ContactListName": LIST,
            "Description": "ours",
            "Topics": [{"TopicName": "sports", "DisplayName": "Sports", "DefaultSubscriptionStatus": "OPT_IN"}],
        }
        bench.simulator.contacts.create_list(None, request)  # type: ignore[arg-type]
    assert bench.simulator.contacts.list is not None
    bench.simulator.contacts.list.contacts[address(number)] = Held(
        address(number), 0, 0, dict(topics), unsubscribed, attributes
    )
