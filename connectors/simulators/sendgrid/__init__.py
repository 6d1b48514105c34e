"""A stateful SendGrid: the parts of its Web API v3 that the product uses, deliveries, and signed Event Webhooks.

Source: SendGrid's OpenAPI documents and API reference. What those leave open is done in the stricter way.
"""

from __future__ import annotations

import base64
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from connectors.simulators.base import Account, Mail, Simulator, utcnow
from connectors.simulators.sendgrid.account import AccountApi
from connectors.simulators.sendgrid.contacts import ContactsApi
from connectors.simulators.sendgrid.handlebars import compiled, from_placeholders
from connectors.simulators.sendgrid.mail import Letter, Sent, Template, check, rendered
from connectors.simulators.sendgrid.single_sends import SingleSend, SingleSendsApi
from connectors.simulators.sendgrid.webhooks import Hook, WebhooksApi
from connectors.simulators.sendgrid.wire import (
    NOT_FOUND,
    Handler,
    MailSend,
    Personalization,
    Refused,
    guarded,
    read,
)

UNSUBSCRIBES = frozenset({"unsubscribe", "group_unsubscribe", "group_resubscribe"})
SENDER = "news@team.example"
READER = {"ip": "192.0.2.7", "useragent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101"}


class SendGridSimulator(Simulator):
    """One SendGrid account.

    Attributes:
        api_key: What the API takes as Bearer token.
        contacts: The state of Marketing Campaigns.
        settings: What is tracked by default, the unsubscribe groups and the branded links.
        webhooks: The Event Webhooks.
        single_sends: The Single Sends.
        senders: Verified senders.
        events: The event types that the webhook of ``callback_url`` posts; ``processed`` and ``delivered`` are left
            out, as they tell nothing about consent.
    """

    name = "sendgrid"

    def __init__(self, *, mails: Path | None = None, now: Callable[[], datetime] = utcnow) -> None:
        self.api_key = f"SG.{secrets.token_urlsafe(16)}.{secrets.token_urlsafe(32)}"
        self.contacts = ContactsApi(lambda: self.base_url, now)
        self.settings = AccountApi()
        self.webhooks = WebhooksApi(now)
        self.single_sends = SingleSendsApi(
            now, self.contacts.list_ids, lambda: set(self.settings.groups), self._deliver_single_send
        )
        self.senders: set[str] = set()
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
        self._by_hand: Hook | None = None
        self._key = ec.generate_private_key(ec.SECP256R1())
        super().__init__(mails=mails, now=now)

    def account(self, *, purposes: Sequence[str], subject: str, html: str) -> Account:  # noqa: ARG002 - lists come by sync
        """Set up a dynamic template, a verified sender, an API key and a signed webhook."""
        template_id = self.add_template(from_placeholders(subject), from_placeholders(html))
        self.senders.add(SENDER)
        key = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return Account(
            settings={"api_url": self.base_url, "webhook_public_keys": [base64.b64encode(key).decode()]},
            secrets={"SENDGRID_API_KEY": self.api_key},
            content={"template_id": template_id, "from_email": SENDER, "from_name": "The team"},
        )

    def add_template(self, subject: str, html: str) -> str:
        """Make a dynamic template (in Handlebars), as somebody would in the template editor; answers its id."""
        template_id = f"d-{uuid.uuid4().hex}"
        self._templates[template_id] = Template.of(template_id, subject, html)
        return template_id

    def edit_template(self, template_id: str, html: str) -> None:
        """Change a template's html (in Handlebars), as somebody would in the template editor."""
        self._templates[template_id] = Template.of(template_id, self._templates[template_id].subject, html)

    def routes(self) -> list[BaseRoute]:
        """The API, behind the API key."""
        return [
            *self.contacts.routes(self._guard),
            Route("/v3/mail/send", self._guard(self._send), methods=["POST"]),
            Route("/v3/templates/{id}", self._guard(self._template), methods=["GET"]),
            *self.settings.routes(self._guard),
            *self.webhooks.routes(self._guard),
            *self.single_sends.routes(self._guard),
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

    @property
    def callback_url(self) -> str | None:
        """The address of the webhook that a person set up by hand, signed with the key that ``account`` answers."""
        return self._by_hand.url if self._by_hand else None

    @callback_url.setter
    def callback_url(self, url: str | None) -> None:
        if self._by_hand is not None:
            self.webhooks.hooks.pop(self._by_hand.id, None)
        self._by_hand = self.webhooks.add(url, self.events, self._key) if url else None

    def prepare_flush(self) -> None:
        """Make the callbacks of what has happened."""
        events, self._happened = list(self._happened), deque()
        for callback in self.webhooks.callbacks(events):
            self.queue(callback)

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
        """Whether somebody hears of it. Unsubscribes are made by Subscription Tracking, so not without it."""
        made = self.settings.tracking["subscription"] or event not in UNSUBSCRIBES
        return made and self.webhooks.posted(event)

    def _guard(self, handler: Handler) -> Handler:
        return guarded(handler, self._authorized)

    def _authorized(self, request: Request) -> bool:
        if self.settings.denies(request.url.path):
            raise Refused("access forbidden", status=403)
        return request.headers.get("authorization") == f"Bearer {self.api_key}"

    # Handlers

    async def _template(self, request: Request) -> Response:
        template = self._templates.get(request.path_params["id"])
        if template is None:
            raise Refused("template not found", status=NOT_FOUND)
        return JSONResponse(template.shown())

    async def _send(self, request: Request) -> Response:
        mail = await read(request, MailSend)
        check(mail, self.senders, self.settings.groups)
        message_id = secrets.token_urlsafe(16)
        template = self._templates.get(mail.template_id)
        # SendGrid accepts an unknown template, and drops the mail without a word.
        if template is not None or not mail.template_id:
            self._deliver(mail, template, message_id)
        return Response(status_code=202, headers={"x-message-id": message_id})

    def _deliver(self, mail: MailSend, template: Template | None, message_id: str) -> None:
        enable = mail.tracking_settings.open_tracking.enable
        tracked = self.settings.tracking["open"] if enable is UNSET else enable
        group = mail.asm.group_id if mail.asm else None
        campaign = mail.categories[0] if mail.categories else mail.template_id
        letters = (
            Letter(address, subject, html, self._facts(mail, envelope, message_id))
            for address, envelope, subject, html in rendered(mail, template)
        )
        clicks = mail.tracking_settings.click_tracking.get("enable", self.settings.tracking["click"])
        self._post(self._rewritten(letters, clicks=clicks), campaign, group, tracked=tracked)

    def _deliver_single_send(self, send: SingleSend) -> None:
        """To everybody in its lists. It has no tracking setting, so the account's decides, if it is honoured."""
        config, message_id = send.email_config, secrets.token_urlsafe(16)
        subject, html = compiled(config["subject"]), compiled(config["html_content"])
        campaign = send.categories[0] if send.categories else send.name
        facts = {"sg_message_id": message_id, "singlesend_id": send.id, "singlesend_name": send.name}
        facts |= {"category": campaign, "phase_id": "send"}
        written = (
            Letter(person.email, subject(person.fields), html(person.fields), dict(facts))
            for person in self.contacts.people.values()
            if send.send_to["all"] or person.lists & set(send.send_to["list_ids"])
        )
        tracked = self.settings.tracking["open"] or not self.single_sends.honours_tracking
        letters = self._rewritten(written, clicks=self.settings.tracking["click"])
        self._post(letters, campaign, config.get("suppression_group_id"), tracked=tracked)

    def _rewritten(self, letters: Iterable[Letter], *, clicks: bool) -> Iterator[Letter]:
        """Where clicks are tracked, every link leads to SendGrid first."""
        for letter in letters:
            html = letter.html.replace('href="', f'href="{self.base_url}/ls/click?to=') if clicks else letter.html
            yield replace(letter, html=html)

    def _post(self, letters: Iterable[Letter], campaign: str, group: int | None, *, tracked: bool) -> None:
        """Into the inboxes, but for those who are not to get any more mail."""
        mails: list[Mail] = []
        sent: list[tuple[int, dict[str, object], int | None]] = []
        for letter in letters:
            number = self.mailroom.next_id() if not mails else mails[-1].id + 1
            facts = {**letter.facts, "sg_message_id": f"{letter.facts['sg_message_id']}.recvd-{number}.0"}
            stopped = self._suppressed.get(letter.address)
            if stopped or (group, letter.address) in self._left_groups:
                self._note("dropped", letter.address, {**facts, "reason": stopped or "Unsubscribed Address"})
                continue
            pixel = self.pixel(number) if tracked else ""
            mails.append(Mail(number, campaign, letter.address, letter.subject, letter.html + pixel, tracked))
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
