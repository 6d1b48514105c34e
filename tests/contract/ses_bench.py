"""What the tests of the SES connector share: a served simulator, a wire that can be spoiled, and people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.ses.client import Aws
from connectors.ses.connector import SesConnector
from connectors.ses.settings import SesSettings
from connectors.simulators.base import Account
from connectors.simulators.serving import simulated
from connectors.simulators.ses import BUCKET, TEMPLATE, SesSimulator
from connectors.simulators.ses.contacts import Contact as Held
from core.model import (
    AppliedPlan,
    Campaign,
    CampaignId,
    CampaignKind,
    Contact,
    ContactChange,
    Halves,
    Mechanism,
    Part,
    Plan,
    PurposeId,
    RecipientId,
    ReleaseReport,
    SyncReport,
)
from tests.contract.ground import Journal

LIST = "pixelproof"
CONTACTS = f"/v2/email/contact-lists/{LIST}/contacts"
JOB = "POST /v2/email/import-jobs"
LISTING = f"POST {CONTACTS}/list"
OBJECT = f"PUT /{BUCKET}/"
MANY = 30
"""So many contacts go through an import job."""
BULK = "POST /v2/email/outbound-bulk-emails"
TRACKED, UNTRACKED = "pixelproof-tracked", "pixelproof-untracked"
NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
PERFORMANCE, PROFILING = PurposeId("performance"), PurposeId("profiling")
PURPOSES = (PERFORMANCE, PROFILING)
HTML = '<p><a href="[[choices_url]]">Your choices</a></p>'
HOSTED_HTML = (
    '<p><a href="{{choices_url}}">Your choices</a></p>'
    '{{#if pixel_path}}<img src="https://pixel.example/{{pixel_path}}/spring-2026.gif" alt="">{{/if}}'
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

    def connector(
        self,
        *,
        sleep: Callable[[float], None] | None = None,
        purposes: tuple[PurposeId, ...] = PURPOSES,
        **changes: object,
    ) -> SesConnector:
        """A connector with changed settings; it sleeps on paper only."""
        settings = msgspec.convert(self.account.settings | changes, SesSettings)
        aws = Aws(settings, self.account.secrets, now=lambda: NOW, sleep=sleep or self.slept.append)
        return SesConnector(aws, settings, purposes)

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


@dataclass
class Mailing:
    """A campaign that was planned, with the people of both halves."""

    connector: SesConnector
    plan: Plan
    parts: list[Part]

    def apply(self) -> AppliedPlan:
        """Apply it."""
        return self.connector.apply(self.plan, lambda: iter(()))

    def release(self, applied: AppliedPlan, journal: Journal, parts: Iterable[Part] | None = None) -> ReleaseReport:
        """Release it."""
        return self.connector.release(self.plan.campaign, applied, self.parts if parts is None else parts, journal)


def parts_of(tracked: Sequence[Contact], untracked: Sequence[Contact] = (), *, late: str = "") -> list[Part]:
    """Parts of 50, tracked ones first, as they are cut before a release."""
    halves = (("tracked", tracked), (f"untracked{late}", untracked))
    return [
        Part(f"{half}-{number:06d}", half == "tracked", len(some), partial(iter, some))
        for half, group in halves
        for number, start in enumerate(range(0, len(group), 50), 1)
        if (some := group[start : start + 50])
    ]


def ready(
    bench: Bench,
    tracked: Sequence[Contact],
    untracked: Sequence[Contact] = (),
    mechanism: Mechanism = Mechanism.PROVIDER,
) -> Mailing:
    """A connector and a plan for these people; with the hosted mechanism the template has its place."""
    if mechanism is Mechanism.HOSTED:
        bench.simulator.sending.templates[TEMPLATE]["Html"] = HOSTED_HTML
    individual = sum(each.pixel_path.startswith("o/") for each in untracked) if mechanism is Mechanism.HOSTED else 0
    halves = Halves(len(tracked), len(untracked), individual)
    connector = bench.connector()
    return Mailing(connector, connector.plan(campaign(bench, mechanism), halves), parts_of(tracked, untracked))


def change(
    number: int, *desired: PurposeId, confirmed: tuple[PurposeId, ...] = (), at: str = "", doubtful: bool = False
) -> ContactChange:
    """A change of one person."""
    person = replace(contact(number), address=at or address(number))
    return ContactChange(person, frozenset(desired), frozenset(confirmed), doubtful)


def synced(connector: SesConnector, changes: Iterable[ContactChange]) -> SyncReport:
    """All reports of one sync together; nobody stands in two of them."""
    reports = list(connector.sync(changes))
    told = [recipient for report in reports for recipient in (*report.confirmed, *report.rejected)]
    assert len(set(told)) == len(told)
    return SyncReport(
        frozenset[RecipientId]().union(*(report.confirmed for report in reports)),
        frozenset[RecipientId]().union(*(report.rejected for report in reports)),
        sum(report.api_calls for report in reports),
    )


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


def everybody(*numbers: int) -> frozenset[RecipientId]:
    """These people, or all of those who are many."""
    return frozenset(map(recipient, numbers or range(MANY)))


def dropping(bench: Bench, monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """From now on jobs lose these people's rows without a word; without numbers, everybody's."""
    write, dropped = bench.simulator.contacts.row, {address(number) for number in numbers}

    def row(name: str, action: str, found: dict[str, Any]) -> None:
        if dropped and found["emailAddress"] not in dropped:
            write(name, action, found)

    monkeypatch.setattr(bench.simulator.contacts, "row", row)
