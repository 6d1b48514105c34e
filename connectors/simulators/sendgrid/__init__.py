"""A stateful SendGrid: the parts of its Web API v3 that the product uses, deliveries, and signed Event Webhooks.

Source: SendGrid's OpenAPI documents and API reference. What those leave open is done in the stricter way.
"""

from __future__ import annotations

import base64
import json
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from connectors.simulators.base import Account, Callback, Mail, Simulator, utcnow
from connectors.simulators.sendgrid.contacts import ContactsApi
from connectors.simulators.sendgrid.handlebars import from_placeholders
from connectors.simulators.sendgrid.mail import Sent, Template, check, rendered
from connectors.simulators.sendgrid.wire import (
    NOT_FOUND,
    Enabled,
    Handler,
    MailSend,
    Personalization,
    Refused,
    guarded,
    read,
)

EVENTS_PER_CALLBACK = 1_000
SENDER = "news@team.example"
READER = {"ip": "192.0.2.7", "useragent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101"}


class SendGridSimulator(Simulator):
    """One SendGrid account.

    Attributes:
        api_key: What the API takes as Bearer token.
        contacts: The state of Marketing Campaigns.
        groups: Unsubscribe groups by id.
        senders: Verified senders.
        events: The event types that the webhook was told to post; ``processed`` and ``delivered`` are left out, as
            they tell nothing about consent.
    """

    name = "sendgrid"

    def __init__(self, *, mails: Path | None = None, now: Callable[[], datetime] = utcnow) -> None:
        self.api_key = f"SG.{secrets.token_urlsafe(16)}.{secrets.token_urlsafe(32)}"
        self.contacts = ContactsApi(lambda: self.base_url, now)
        self.groups: dict[int, str] = {}
        self.senders: set[str] = set()
        self.tracking = True
        self.events = {
            "open",
            "unsubscribe",
            "group_unsubscribe",
            "group_resubscribe",
            "spamreport",
            "bounce",
            "dropped",
        }
        self._templates: dict[str, Template] = {}
        self._suppressed: dict[str, str] = {}
        self._left_groups: set[tuple[int, str]] = set()
        self._sent_mails = Sent()
        self._happened: deque[dict[str, object]] = deque()
        self._key = ec.generate_private_key(ec.SECP256R1())
        super().__init__(mails=mails, now=now)

    def account(self, *, purposes: Sequence[str], subject: str, html: str) -> Account:  # noqa: ARG002 - lists come by sync
        """Set up a dynamic template, a verified sender, an API key and a signed webhook."""
        template_id = f"d-{uuid.uuid4().hex}"
        self._templates[template_id] = Template.of(template_id, from_placeholders(subject), from_placeholders(html))
        self.senders.add(SENDER)
        key = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return Account(
            settings={"api_url": self.base_url, "webhook_public_keys": [base64.b64encode(key).decode()]},
            secrets={"SENDGRID_API_KEY": self.api_key},
            content={"template_id": template_id, "from_email": SENDER, "from_name": "The team"},
        )

    def edit_template(self, template_id: str, html: str) -> None:
        """Change a template's html (in Handlebars), as somebody would in the template editor."""
        self._templates[template_id] = Template.of(template_id, self._templates[template_id].subject, html)

    def routes(self) -> list[BaseRoute]:
        """The API, behind the API key."""
        return [
            *self.contacts.routes(self._guard),
            Route("/v3/mail/send", self._guard(self._send), methods=["POST"]),
            Route("/v3/templates/{id}", self._guard(self._template), methods=["GET"]),
            Route("/v3/tracking_settings/open", self._guard(self._open_tracking), methods=["GET", "PATCH"]),
            Route("/v3/asm/groups/{id:int}", self._guard(self._group), methods=["GET"]),
        ]

    def opened(self, mail: Mail) -> None:
        """An ``open`` event."""
        self._happen("open", mail, {**READER, "sg_machine_open": False, "sg_content_type": "html"})

    def unsubscribed(self, mail: Mail) -> None:
        """The mail's unsubscribe group is left, or all mail is stopped when it had none."""
        _facts, group = self._sent_mails.get(mail)
        if group is None:
            self._suppressed[mail.address] = "Unsubscribed Address"
            self._happen("unsubscribe", mail, {})
        else:
            self._left_groups.add((group, mail.address))
            self._happen("group_unsubscribe", mail, {**READER, "asm_group_id": group, "url": self.base_url})

    def resubscribed(self, mail: Mail) -> None:
        """The recipient joins the mail's unsubscribe group again."""
        _facts, group = self._sent_mails.get(mail)
        if group is not None:
            self._left_groups.discard((group, mail.address))
            self._happen("group_resubscribe", mail, {**READER, "asm_group_id": group, "url": self.base_url})

    def complained(self, mail: Mail) -> None:
        """A ``spamreport`` event; SendGrid stops all mail to the address."""
        self._suppressed[mail.address] = "Spam Reporting Address"
        self._happen("spamreport", mail, {})

    def bounced(self, mail: Mail) -> None:
        """A ``bounce`` event; SendGrid stops all mail to the address."""
        self._suppressed[mail.address] = "Bounced Address"
        self._happen("bounce", mail, {"reason": "550 5.1.1 no such user", "status": "5.1.1", "type": "bounce"})

    def prepare_flush(self) -> None:
        """Make signed callbacks of what has happened."""
        while self._happened:
            size = min(len(self._happened), EVENTS_PER_CALLBACK)
            events = [self._happened.popleft() for _ in range(size)]
            if self.callback_url is not None:
                body = json.dumps(events, separators=(",", ":")).encode() + b"\r\n"
                self.queue(Callback(self.callback_url, self._headers(body), body, size))

    def _headers(self, body: bytes) -> dict[str, str]:
        timestamp = str(int(self.now().timestamp()))
        signature = self._key.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
        return {
            "content-type": "application/json;charset=utf-8",
            "user-agent": "SendGrid Event API",
            "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode(),
            "x-twilio-email-event-webhook-timestamp": timestamp,
        }

    def _happen(self, event: str, mail: Mail, details: dict[str, object]) -> None:
        if self._posted(event):
            facts, _group = self._sent_mails.get(mail)
            self._note(event, mail.address, {**facts, **details})

    def _note(self, event: str, address: str, details: dict[str, object]) -> None:
        if self._posted(event):
            stamp = {"email": address, "timestamp": int(self.now().timestamp()), "event": event}
            unique = {"sg_event_id": base64.b64encode(secrets.token_bytes(16)).decode()}
            self._happened.append({**details, **stamp, **unique})

    def _posted(self, event: str) -> bool:
        return self.callback_url is not None and event in self.events

    def _guard(self, handler: Handler) -> Handler:
        return guarded(handler, lambda request: request.headers.get("authorization") == f"Bearer {self.api_key}")

    # Handlers

    async def _template(self, request: Request) -> Response:
        template = self._templates.get(request.path_params["id"])
        if template is None:
            raise Refused("template not found", status=NOT_FOUND)
        return JSONResponse(template.shown())

    async def _open_tracking(self, request: Request) -> Response:
        if request.method == "PATCH":
            self.tracking = (await read(request, Enabled)).enabled
        return JSONResponse({"enabled": self.tracking})

    async def _group(self, request: Request) -> Response:
        group = request.path_params["id"]
        if group not in self.groups:
            raise Refused("group not found", status=NOT_FOUND)
        shown = {"id": group, "name": self.groups[group], "description": "", "is_default": False, "unsubscribes": 0}
        return JSONResponse(shown)

    async def _send(self, request: Request) -> Response:
        mail = await read(request, MailSend)
        check(mail, self.senders, self.groups)
        message_id = secrets.token_urlsafe(16)
        template = self._templates.get(mail.template_id)
        # SendGrid accepts an unknown template, and drops the mail without a word.
        if template is not None or not mail.template_id:
            self._deliver(mail, template, message_id)
        return Response(status_code=202, headers={"x-message-id": message_id})

    def _deliver(self, mail: MailSend, template: Template | None, message_id: str) -> None:
        enable = mail.tracking_settings.open_tracking.enable
        tracked = self.tracking if enable is UNSET else enable
        group = mail.asm.group_id if mail.asm else None
        campaign = mail.categories[0] if mail.categories else mail.template_id
        mails: list[Mail] = []
        sent: list[tuple[int, dict[str, object], int | None]] = []
        for address, envelope, subject, html in rendered(mail, template):
            number = self.mailroom.next_id() if not mails else mails[-1].id + 1
            facts = self._facts(mail, envelope, f"{message_id}.recvd-{number}.0")
            stopped = self._suppressed.get(address)
            if stopped or (group, address) in self._left_groups:
                self._note("dropped", address, {**facts, "reason": stopped or "Unsubscribed Address"})
                continue
            pixel = self.pixel(number) if tracked else ""
            mails.append(Mail(number, campaign, address, subject, html + pixel, tracked))
            sent.append((number, facts, group))
        self.mailroom.deliver(mails)
        self._sent_mails.add(sent)
        for delivered in mails:
            self._happen("processed", delivered, {})
            self._happen("delivered", delivered, {"response": "250 OK"})

    def _facts(self, mail: MailSend, envelope: Personalization, message_id: str) -> dict[str, object]:
        """What each event of a mail repeats: custom arguments stand beside SendGrid's own fields."""
        category = mail.categories[0] if len(mail.categories) == 1 else mail.categories
        facts = {**mail.custom_args, **envelope.custom_args, "sg_message_id": message_id}
        return facts | ({"category": category} if category else {})
