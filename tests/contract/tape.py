"""Calls of a connector on tape: recorded once between it and a simulator, then played to it in the simulator's place.

A tape is JSON: settings, secrets and content of the account, what the story came to, and each exchange with request and
answer. ``{base}`` stands for the address at which the provider is served.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors import provider
from core.model import (
    Addressee,
    Campaign,
    CampaignId,
    CampaignKind,
    Contact,
    ContactChange,
    Halves,
    Mechanism,
    Part,
    PurposeId,
    RecipientId,
)
from core.ports import Connector, ProviderContext
from tests.contract.ground import Journal

PERFORMANCE, PROFILING = PurposeId("performance"), PurposeId("profiling")
KEPT_HEADERS = frozenset({"content-type", "x-message-id"})

Exchange = dict[str, Any]


@dataclass
class Tape:
    """Records what goes through, or plays what was recorded.

    Attributes:
        app: The simulator when recording, None when playing.
        base: Where the tape is served.
        exchanges: What was recorded; when playing, what has not been asked for yet.
        strange: Requests that are not on the tape.
    """

    app: ASGIApp | None
    base: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            return
        asked = _request(scope, await _body(receive))
        if self.app is not None:
            await self._record(self.app, asked, scope, send)
            return
        found = next((each for each in self.exchanges if _same(each["request"], asked)), None)
        if found is None:
            self.strange.append(f"{asked['method']} {asked['path']}")
            await Response(status_code=418)(scope, receive, send)  # which nobody repeats
            return
        self.exchanges.remove(found)
        answer = found["answer"]
        text = answer["body"].replace("{base}", self.base)
        await Response(text, answer["status"], answer["headers"])(scope, receive, send)

    async def _record(self, app: ASGIApp, asked: Exchange, scope: Scope, send: Send) -> None:
        sent: list[Message] = []

        async def again() -> Message:
            return {"type": "http.request", "body": asked.pop("raw"), "more_body": False}

        async def noted(message: Message) -> None:
            sent.append(message)

        await app(scope, again, noted)
        for message in sent:
            await send(message)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        text = b"".join(message.get("body", b"") for message in sent[1:]).decode()
        answer = {
            "status": sent[0]["status"],
            "headers": {name: value for name, value in headers.items() if name in KEPT_HEADERS},
            "body": text.replace(self.base, "{base}"),
        }
        asked.pop("raw", None)
        self.exchanges.append({"request": asked, "answer": answer})


def _request(scope: Scope, body: bytes) -> Exchange:
    try:
        shown = json.loads(body) if body else None
    except ValueError:
        shown = body.decode("utf-8", "replace")
    query = sorted(parse_qsl(scope["query_string"].decode()))
    return {"method": scope["method"], "path": scope["path"], "query": [*map(list, query)], "body": shown, "raw": body}


def _same(recorded: Exchange, asked: Exchange) -> bool:
    """Whether they ask for the same; in which order people stand in a list does not matter."""
    return all(_sorted(recorded[name]) == _sorted(asked[name]) for name in ("method", "path", "query", "body"))


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return {name: _sorted(each) for name, each in value.items()}
    if isinstance(value, list):
        return sorted(map(_sorted, value), key=lambda each: json.dumps(each, sort_keys=True))
    return value


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def connector(name: str, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> Connector:
    """A connector to the account on tape."""
    of = provider(name)
    context = ProviderContext(secrets, (PERFORMANCE, PROFILING), lambda: datetime.now(UTC))
    return of.connector(msgspec.convert(settings, of.settings), context)


def story(name: str, made: Connector, content: Mapping[str, str]) -> dict[str, Any]:
    """What is on every tape: three people are synchronised, one withdraws, and a campaign goes to the other two."""
    ada, bob, cat = map(_contact, ("ada", "bob", "cat"))
    first = _counted(made, [_change(ada, {PERFORMANCE, PROFILING}), _change(bob, set()), _change(cat, {PERFORMANCE})])
    left = _counted(made, [ContactChange(ada, frozenset(), frozenset({PERFORMANCE, PROFILING}))])
    campaign = Campaign(
        CampaignId("news"), name, CampaignKind.REQUESTED, (PERFORMANCE,), Mechanism.PROVIDER, content=dict(content)
    )
    halves = {"tracked": cat, "untracked": bob}
    addressees = [Addressee(who, half == "tracked") for half, who in halves.items()]
    plan = made.plan(campaign, Halves(tracked=1, untracked=1, individual=1))
    applied = made.apply(plan, lambda: iter(addressees))
    parts = [Part(half, half == "tracked", 1, lambda who=who: iter([who])) for half, who in halves.items()]  # type: ignore[misc]
    sent = made.release(campaign, applied, parts, Journal())
    return {"first_sync": first, "withdrawal": left, "sent": [sent.accepted_tracked, sent.accepted_untracked]}


def _contact(name: str) -> Contact:
    recipient = RecipientId(md5(name.encode(), usedforsecurity=False).digest())
    return Contact(recipient, f"{name}@example.com", None, f"https://choices.example/c/{name}", "")


def _change(who: Contact, desired: set[PurposeId]) -> ContactChange:
    return ContactChange(who, frozenset(desired), frozenset())


def _counted(made: Connector, changes: Iterable[ContactChange]) -> list[int]:
    """How many were confirmed and how many rejected."""
    reports = list(made.sync(changes))
    return [sum(len(report.confirmed) for report in reports), sum(len(report.rejected) for report in reports)]
