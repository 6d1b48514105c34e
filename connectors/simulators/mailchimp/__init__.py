"""A stateful Mailchimp: the parts of the Marketing API that the product uses, deliveries, signed audience webhooks.

Source: the Marketing API's public Swagger document, 3.0.55, whose answers these are. It has no templates: they are
made in the editor, here by ``account``.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from connectors.simulators.base import Account, Callback, Mail, Simulator, utcnow
from connectors.simulators.mailchimp.audience import Audience, Subscriber, name_of
from connectors.simulators.mailchimp.campaigns import Campaigns, CampaignState, Open
from connectors.simulators.mailchimp.facts import Facts
from connectors.simulators.mailchimp.merge import from_placeholders, merged
from connectors.simulators.mailchimp.webhooks import Webhooks
from connectors.simulators.mailchimp.wire import guarded, not_found

BASE = "/3.0"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
BATCH = 1_000
"""Mails that are put into the inboxes at once."""
SENDER = "news@team.example"


class MailchimpSimulator(Simulator):
    """One Mailchimp account with one audience.

    Where ``callback_url`` is set, a webhook made by hand posts to it what its contacts do, signed with
    ``signing_secret``; the API does not show it.

    Attributes:
        api_key: What the API takes, by basic authentication or as Bearer token.
        signing_secret: What the callbacks of the webhook made by hand are signed with.
        audience: The audience's state.
        campaigns: The campaigns' state.
        webhooks: The webhooks that were made by calls.
        facts: What else there is in the account.
        tracking: What a campaign that does not say does with opens; on, as at Mailchimp.
        proxied: Whether the pixel is now requested by a mail proxy instead of a person's mail program.
    """

    name = "mailchimp"

    def __init__(self, *, mails: Path | None = None, now: Callable[[], datetime] = utcnow) -> None:
        self.api_key = f"{secrets.token_hex(16)}-us6"
        self.signing_secret = secrets.token_urlsafe(32)
        self.tracking = True
        self.proxied = False
        self.audience = Audience(now)
        self.campaigns = Campaigns(self.audience, lambda: self.tracking, self._deliver, now)
        self.webhooks = Webhooks(self.audience.list_id)
        self.facts = Facts(self.audience.list_id)
        super().__init__(mails=mails, now=now)

    def account(self, *, purposes: Sequence[str], subject: str, html: str) -> Account:  # noqa: ARG002 - see below
        """Make a template; segments for the purposes need none to make them, the product does."""
        template = self.campaigns.add_template(subject, from_placeholders(html))
        content = {"template_id": str(template), "subject": subject, "from_name": "The team", "reply_to": SENDER}
        return Account(
            settings={"list_id": self.audience.list_id, "api_url": f"{self.base_url}{BASE}"},
            secrets={"MAILCHIMP_API_KEY": self.api_key, "MAILCHIMP_WEBHOOK_SECRETS": self.signing_secret},
            content=content,
        )

    def routes(self) -> list[BaseRoute]:
        """The Marketing API, version 3.0."""
        parts = (self.audience, self.campaigns, self.webhooks, self.facts)
        handlers = [handler for part in parts for handler in part.handlers()]
        routes = [Route(f"{BASE}{p}", guarded(h, self.api_key), methods=[m]) for m, p, h in handlers]
        unknown = Route(f"{BASE}/{{rest:path}}", guarded(_unknown, self.api_key), methods=METHODS)
        return [*routes, unknown, Route("/_sim/interests", self._choose, methods=["POST"])]

    async def _choose(self, request: Request) -> Response:
        """``POST /_sim/interests {"address": …, "interests": {category: [name]}}``: see ``chose``."""
        asked = await request.json()
        self.chose(asked["address"], asked["interests"])
        return Response(status_code=204)

    def opened(self, mail: Mail) -> None:
        """Note it for the report: Mailchimp has no callback for it."""
        campaign = self.campaigns.campaigns.get(mail.campaign)
        if campaign is not None:
            campaign.opens.setdefault(name_of(mail.address), []).append(Open(self.now(), self.proxied))

    def unsubscribed(self, mail: Mail) -> None:
        """The member leaves the audience of its own accord."""
        self._leave(mail, "manual")

    def complained(self, mail: Mail) -> None:
        """The same, with a complaint as the reason."""
        self._leave(mail, "abuse")

    def chose(self, address: str, interests: Mapping[str, Collection[str]]) -> None:
        """A contact uses Mailchimp's preferences form: from now on it is in these interests alone, by category."""
        member = self.audience.members[name_of(address)]
        member.interests = {category: {*names} for category, names in interests.items()}
        self._tell("profile", member, {})

    def _leave(self, mail: Mail, reason: str) -> None:
        member = self.audience.members[name_of(mail.address)]
        member.status = "unsubscribed"
        self._tell("unsubscribe", member, {"action": "unsub", "reason": reason, "campaign_id": mail.campaign})

    def _tell(self, kind: str, member: Subscriber, more: Mapping[str, str]) -> None:
        """Call back about a contact, with all that its form holds."""
        data = {"id": member.id[:10], "email": member.address, "email_type": "html", "list_id": self.audience.list_id}
        merges = self.audience.values(member) | self.facts.merges(member.interests)
        fields = {f"data[{key}]": value for key, value in (data | {**more}).items()}
        fields |= {f"data[merges][{tag}]": value for tag, value in merges.items()}
        self._call_back(kind, fields)

    def _call_back(self, kind: str, fields: dict[str, str]) -> None:
        now = self.now()
        body = urlencode({"type": kind, "fired_at": f"{now:%Y-%m-%d %H:%M:%S}", **fields}).encode()
        if self.callback_url is not None:
            self.queue(Callback(self.callback_url, _headers(body, self.signing_secret, now), body))
        for hook in self.webhooks.told(kind, "user"):
            self.queue(Callback(hook.url, _headers(body, hook.secret, now), body))

    def _deliver(self, campaign: CampaignState, members: Sequence[Subscriber]) -> None:
        number = self.mailroom.next_id()
        for start in range(0, len(members), BATCH):
            chunk = members[start : start + BATCH]
            self.mailroom.deliver([self._mail(campaign, m, number + start + i) for i, m in enumerate(chunk)])

    def _mail(self, campaign: CampaignState, member: Subscriber, number: int) -> Mail:
        values, tracked = self.audience.values(member), campaign.opens_tracked
        subject = merged(campaign.settings.subject_line, values, escape=str)
        html = merged(campaign.html, values)
        if tracked:
            head, end, tail = html.rpartition("</body>")
            html = f"{head}{self.pixel(number)}{end}{tail}" if end else html + self.pixel(number)
        return Mail(number, campaign.id, member.address, subject, html, tracked)


def _headers(body: bytes, secret: str | None, now: datetime) -> dict[str, str]:
    """A callback's headers, signed where the webhook has a secret."""
    headers = {"content-type": "application/x-www-form-urlencoded", "user-agent": "MailChimp"}
    if secret is None:
        return headers
    stamp = str(int(now.timestamp()))
    signature = hmac.new(secret.encode(), stamp.encode() + b"." + body, sha256).hexdigest()
    return headers | {"x-mailchimp-signature": f"t={stamp},v1={signature}"}


async def _unknown(_request: Request) -> Response:
    raise not_found()
