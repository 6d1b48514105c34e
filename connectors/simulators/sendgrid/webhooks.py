"""Event Webhooks: their settings, their signing keys, and what each of them posts.

Source: SendGrid's OpenAPI document, "Webhooks". Where it is silent the stricter way is taken: a webhook is made
unsigned, and an account may have as many as its plan says, whether they are switched on or not.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from connectors.simulators.base import Callback
from connectors.simulators.sendgrid.wire import BAD_REQUEST, NOT_FOUND, Handler, HookIn, Refused, Switch, read

EVENTS_PER_CALLBACK = 1_000
MAX_ALLOWED = 2
"""Webhooks of an account, as in the cheaper plans."""

_POSTED_AS = {"spam_report": "spamreport"}
"""Where an event's own name is another than that of its setting."""
_SETTINGS = (
    "group_resubscribe",
    "delivered",
    "group_unsubscribe",
    "spam_report",
    "bounce",
    "deferred",
    "unsubscribe",
    "processed",
    "open",
    "click",
    "dropped",
)


@dataclass(slots=True)
class Hook:
    """A webhook. ``events``: as they are posted. ``key``: None while it is unsigned."""

    id: str
    url: str
    created: str
    events: set[str]
    enabled: bool = False
    key: ec.EllipticCurvePrivateKey | None = None
    oauth: dict[str, str] = field(default_factory=dict)

    @property
    def public_key(self) -> str:
        """As SendGrid shows it: SPKI in base64; empty while it is unsigned."""
        if self.key is None:
            return ""
        der = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(der).decode()

    def shown(self) -> dict[str, object]:
        """As the API shows it."""
        flags = {name: _POSTED_AS.get(name, name) in self.events for name in _SETTINGS}
        key = {"public_key": self.public_key} if self.key else {}
        dates = {"created_date": self.created, "updated_date": self.created}
        return {"id": self.id, "url": self.url, "enabled": self.enabled, "friendly_name": "", **flags, **dates, **key}

    def take(self, body: HookIn) -> None:
        """Change what the body names; what it leaves out stays."""
        self.url = body.url
        self.enabled = self.enabled if body.enabled is None else body.enabled
        for name in _SETTINGS:
            wanted = getattr(body, name)
            if wanted is not None:
                (self.events.add if wanted else self.events.discard)(_POSTED_AS.get(name, name))


class WebhooksApi:
    """The routes under ``/v3/user/webhooks/event`` and their state.

    Attributes:
        hooks: The webhooks, the oldest first.
        max_allowed: How many the plan allows.
        deaf: What is set is accepted and not kept, as an API that lies would do.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.hooks: dict[str, Hook] = {}
        self.max_allowed = MAX_ALLOWED
        self.deaf = False
        self._now = now

    def routes(self, guard: Callable[[Handler], Handler]) -> list[BaseRoute]:
        """The routes, each behind ``guard``."""
        table: list[tuple[str, str, Handler]] = [
            ("POST", "", self._create),
            ("GET", "/all", self._all),
            ("PATCH", "/signed/{id}", self._sign),
            ("GET", "/signed/{id}", self._key),
            ("GET", "/{id}", self._get),
            ("PATCH", "/{id}", self._update),
            ("DELETE", "/{id}", self._delete),
        ]
        prefix = "/v3/user/webhooks/event/settings"
        return [Route(f"{prefix}{path}", guard(handler), methods=[verb]) for verb, path, handler in table]

    def add(self, url: str, events: set[str], key: ec.EllipticCurvePrivateKey | None = None) -> Hook:
        """Make one as a person would in the interface, switched on."""
        hook = Hook(str(uuid.uuid4()), url, self._stamp(), events, enabled=True, key=key)
        self.hooks[hook.id] = hook
        return hook

    def posted(self, event: str) -> bool:
        """Whether any webhook wants this event."""
        return any(hook.enabled and event in hook.events for hook in self.hooks.values())

    def callbacks(self, events: Sequence[dict[str, object]]) -> Iterator[Callback]:
        """What each webhook posts of these events, signed where it signs."""
        for hook in self.hooks.values():
            wanted = [event for event in events if hook.enabled and event["event"] in hook.events]
            for start in range(0, len(wanted), EVENTS_PER_CALLBACK):
                some = wanted[start : start + EVENTS_PER_CALLBACK]
                body = json.dumps(some, separators=(",", ":")).encode() + b"\r\n"
                yield Callback(hook.url, self._headers(hook, body), body, len(some))

    def _headers(self, hook: Hook, body: bytes) -> dict[str, str]:
        headers = {"content-type": "application/json;charset=utf-8", "user-agent": "SendGrid Event API"}
        if hook.key is None:
            return headers
        timestamp = str(int(self._now().timestamp()))
        signature = hook.key.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
        return headers | {
            "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode(),
            "x-twilio-email-event-webhook-timestamp": timestamp,
        }

    # Handlers

    async def _create(self, request: Request) -> Response:
        body = await read(request, HookIn)
        if (taken := self._taken(body.url)) is not None:
            return _duplicate(taken)
        if len(self.hooks) >= self.max_allowed:
            raise Refused("you have reached the maximum number of event webhooks of your plan")
        hook = Hook(str(uuid.uuid4()), body.url, self._stamp(), set())
        hook.take(body)
        self.hooks[hook.id] = hook
        return JSONResponse(hook.shown(), 201)

    async def _all(self, _request: Request) -> Response:
        return JSONResponse({"max_allowed": self.max_allowed, "webhooks": [h.shown() for h in self.hooks.values()]})

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._hook(request).shown())

    async def _update(self, request: Request) -> Response:
        hook, body = self._hook(request), await read(request, HookIn)
        taken = self._taken(body.url)
        if taken not in (None, hook):
            return _duplicate(taken)
        if not self.deaf:
            hook.take(body)
        return JSONResponse(hook.shown())

    async def _sign(self, request: Request) -> Response:
        hook, enabled = self._hook(request), (await read(request, Switch)).enabled
        if not self.deaf:
            # Signing that is switched on again has another key: the stricter reading.
            hook.key = ec.generate_private_key(ec.SECP256R1()) if enabled else None
        return JSONResponse({"id": hook.id, "public_key": hook.public_key})

    async def _key(self, request: Request) -> Response:
        hook = self._hook(request)
        return JSONResponse({"id": hook.id, "public_key": hook.public_key})

    async def _delete(self, request: Request) -> Response:
        hook = self._hook(request)
        if not self.deaf:
            del self.hooks[hook.id]
        return Response(status_code=204)

    def _hook(self, request: Request) -> Hook:
        hook = self.hooks.get(request.path_params["id"])
        if hook is None:
            raise Refused("webhook not found", status=NOT_FOUND)
        return hook

    def _taken(self, url: str) -> Hook | None:
        return next((hook for hook in self.hooks.values() if hook.url == url), None)

    def _stamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _duplicate(hook: Hook | None) -> Response:
    """The documented refusal of an address that another webhook has."""
    assert hook is not None
    error = {"id": hook.id, "message": "a webhook with this url exists", "url": hook.url}
    return JSONResponse({"errors": [error]}, BAD_REQUEST)
