"""Marketing Campaigns' Single Sends: drafts, the search for them, and what leaves once one is scheduled for now.

Source: SendGrid's OpenAPI document, "Single Sends". A Single Send has no tracking setting: the account's decides, if
it is honoured at all, which SendGrid does not say.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from connectors.simulators.sendgrid.wire import (
    NOT_FOUND,
    Handler,
    Refused,
    Schedule,
    SingleSendIn,
    SingleSendSearch,
    read,
)


@dataclass(slots=True)
class SingleSend:
    """A Single Send."""

    id: str
    at: str
    name: str = ""
    status: str = "draft"
    categories: list[str] = field(default_factory=list)
    send_to: dict[str, Any] = field(default_factory=lambda: {"list_ids": [], "segment_ids": [], "all": False})
    email_config: dict[str, Any] = field(default_factory=dict)

    def take(self, body: SingleSendIn) -> None:
        """Change what the body names."""
        self.name = body.name
        self.categories = body.categories or self.categories
        self.send_to |= _named(body.send_to)
        self.email_config |= _named(body.email_config)

    def shown(self) -> dict[str, object]:
        """As the API shows it."""
        dates = {"created_at": self.at, "updated_at": self.at, "send_at": None}
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "categories": self.categories,
            "send_to": self.send_to,
            "email_config": self.email_config,
            **dates,
        }

    def short(self) -> dict[str, object]:
        """As a search shows it."""
        row = self.shown()
        del row["send_to"], row["email_config"], row["send_at"]
        return {**row, "abtest": None, "is_abtest": False}


def _named(body: msgspec.Struct) -> dict[str, Any]:
    """What a body names: the others keep their value."""
    return {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}


class SingleSendsApi:
    """The routes under ``/v3/marketing/singlesends`` and their state.

    Args:
        now: The clock.
        lists: The ids of the lists that exist.
        groups: The unsubscribe groups.
        deliver: Sends one.

    Attributes:
        sends: The Single Sends by id.
        sender_ids: Verified senders.
        honours_tracking: Whether a Single Send honours the account's open tracking that is off.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        lists: Callable[[], set[str]],
        groups: Callable[[], set[int]],
        deliver: Callable[[SingleSend], None],
    ) -> None:
        self.sends: dict[str, SingleSend] = {}
        self.sender_ids: set[int] = set()
        self.honours_tracking = True
        self._now = now
        self._lists = lists
        self._groups = groups
        self._deliver = deliver

    def routes(self, guard: Callable[[Handler], Handler]) -> list[BaseRoute]:
        """The routes, each behind ``guard``."""
        table: list[tuple[str, str, Handler]] = [
            ("POST", "", self._create),
            ("POST", "/search", self._search),
            ("GET", "/{id}", self._get),
            ("PATCH", "/{id}", self._update),
            ("DELETE", "/{id}", self._delete),
            ("PUT", "/{id}/schedule", self._schedule),
        ]
        prefix = "/v3/marketing/singlesends"
        return [Route(f"{prefix}{path}", guard(handler), methods=[verb]) for verb, path, handler in table]

    async def _create(self, request: Request) -> Response:
        body = await self._body(request)
        made = SingleSend(str(uuid.uuid4()), self._now().strftime("%Y-%m-%dT%H:%M:%SZ"))
        made.take(body)
        self.sends[made.id] = made  # a name may be taken twice
        return JSONResponse(made.shown(), 201)

    async def _search(self, request: Request) -> Response:
        body = await read(request, SingleSendSearch)
        found = [
            send.short()
            for send in self.sends.values()
            if body.name.lower() in send.name.lower() and (not body.status or send.status in body.status)
        ]
        return JSONResponse({"result": found, "_metadata": {"count": len(found)}})

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._send(request).shown())

    async def _update(self, request: Request) -> Response:
        send, body = self._draft(request), await self._body(request)
        send.take(body)
        return JSONResponse(send.shown(), 202)

    async def _delete(self, request: Request) -> Response:
        del self.sends[self._draft(request).id]
        return Response(status_code=204)

    async def _schedule(self, request: Request) -> Response:
        send, body = self._draft(request), await read(request, Schedule)
        if body.send_at != "now":
            raise Refused("this simulator sends at once only", "send_at")
        self._check_complete(send)
        send.status = "triggered"
        self._deliver(send)
        return JSONResponse({"send_at": self._now().strftime("%Y-%m-%dT%H:%M:%SZ"), "status": "scheduled"}, 201)

    def _send(self, request: Request) -> SingleSend:
        send = self.sends.get(request.path_params["id"])
        if send is None:
            raise Refused("single send not found", "id", NOT_FOUND)
        return send

    def _draft(self, request: Request) -> SingleSend:
        send = self._send(request)
        if send.status != "draft":
            raise Refused("a single send that was scheduled cannot be changed", "status")
        return send

    async def _body(self, request: Request) -> SingleSendIn:
        body = await read(request, SingleSendIn)
        if unknown := set(_named(body.send_to).get("list_ids", [])) - self._lists():
            raise Refused(f"no list {min(unknown)}", "send_to.list_ids")
        if {"design_id", "html_content"} <= _named(body.email_config).keys():
            raise Refused("html_content must be left out with a design_id", "email_config.html_content")
        return body

    def _check_complete(self, send: SingleSend) -> None:
        """What SendGrid wants to know before anything leaves."""
        config = send.email_config
        if not (send.send_to["all"] or send.send_to["list_ids"] or send.send_to["segment_ids"]):
            raise Refused("at least one list or segment is required", "send_to")
        if not config.get("subject") or not config.get("html_content"):
            raise Refused("subject and html_content are required", "email_config")
        if config.get("sender_id") not in self.sender_ids:
            raise Refused("no verified sender with this id", "email_config.sender_id")
        if config.get("suppression_group_id") not in self._groups() and not config.get("custom_unsubscribe_url"):
            raise Refused("a suppression group or an unsubscribe url is required", "email_config.suppression_group_id")
