"""Campaigns: drafts, their content, whom they go to, sending, and the report of their opens."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from connectors.simulators.mailchimp.audience import Audience, Subscriber
from connectors.simulators.mailchimp.wire import (
    ADDRESS,
    CampaignChange,
    CampaignSettings,
    Condition,
    Handler,
    Json,
    NewCampaign,
    NewContent,
    Problem,
    Recipients,
    SegmentOptions,
    answer,
    invalid,
    not_found,
    paged,
    read,
    stamp,
)

_ERROR_ITEMS = {
    "Recipients": "Nobody is in the audience that was chosen.",
    "Subject": "There is no subject.",
    "From": "There is no sender, or no address to reply to.",
    "Content": "There is no content.",
}


@dataclass(slots=True)
class Template:
    """A template that somebody made in Mailchimp's editor, merge tags in it."""

    name: str
    html: str = field(repr=False)


@dataclass(slots=True)
class Open:
    """One request for a campaign's pixel. ``proxy``: made by a mail proxy."""

    at: datetime
    proxy: bool


@dataclass(slots=True)
class CampaignState:
    """A campaign.

    Attributes:
        stale_count: The number of recipients that Mailchimp goes on showing after one populated ``segment_opts`` was
            swapped for another; None where it is counted afresh.
        opens: By the member's hash.
    """

    created: datetime
    type: str
    recipients: Recipients
    settings: CampaignSettings
    opens_tracked: bool
    id: str = field(default_factory=lambda: secrets.token_hex(5))
    status: str = "save"
    template: int = 0
    html: str = field(default="", repr=False)
    stale_count: int | None = None
    emails_sent: int = 0
    opens: dict[str, list[Open]] = field(default_factory=dict)


Deliver = Callable[[CampaignState, Sequence[Subscriber]], None]


class Campaigns:
    """All campaigns and the part of the API that is about them.

    Args:
        audience: The account's one audience.
        tracks_opens: The account's default, for campaigns that do not say.
        deliver: Puts a campaign's mails into the inboxes.
        now: The clock.

    Attributes:
        templates: By ID.
        campaigns: By ID.
    """

    def __init__(
        self, audience: Audience, tracks_opens: Callable[[], bool], deliver: Deliver, now: Callable[[], datetime]
    ) -> None:
        self.templates: dict[int, Template] = {}
        self.campaigns: dict[str, CampaignState] = {}
        self._audience = audience
        self._tracks_opens = tracks_opens
        self._deliver = deliver
        self._now = now

    def handlers(self) -> list[tuple[str, str, Handler]]:
        """Method, path and handler of each call."""
        one = "/campaigns/{campaign}"
        return [
            ("GET", "/campaigns", self._list),
            ("POST", "/campaigns", self._create),
            ("GET", one, self._get),
            ("PATCH", one, self._change),
            ("DELETE", one, self._delete),
            ("GET", f"{one}/content", self._content),
            ("PUT", f"{one}/content", self._set_content),
            ("GET", f"{one}/send-checklist", self._checklist),
            ("POST", f"{one}/actions/send", self._send),
            ("POST", f"{one}/actions/replicate", self._replicate),
            ("GET", "/reports/{campaign}/open-details", self._open_details),
        ]

    def add_template(self, name: str, html: str) -> int:
        """Keep a template; answers its ID."""
        number = 10_000_001 + len(self.templates)
        self.templates[number] = Template(name, html)
        return number

    # Drafts

    async def _list(self, request: Request) -> Response:
        found = [c for c in self.campaigns.values() if self._matches(c, request)]
        if request.query_params.get("sort_dir", "DESC").upper() == "DESC":
            found.reverse()
        return paged(request, "campaigns", found, len(found), self._shown)

    def _matches(self, campaign: CampaignState, request: Request) -> bool:
        list_id, status = request.query_params.get("list_id"), request.query_params.get("status")
        return list_id in {None, campaign.recipients.list_id} and status in {None, campaign.status}

    async def _create(self, request: Request) -> Response:
        new = await read(request, NewCampaign)
        tracking = new.tracking.opens
        _check_tracking(new.type, tracking)
        campaign = CampaignState(
            created=self._now(),
            type=new.type,
            recipients=self._valid(new.recipients) if new.recipients else Recipients(""),
            settings=_valid_settings(new.settings),
            opens_tracked=self._tracks_opens() if tracking is UNSET else tracking,
        )
        self.campaigns[campaign.id] = campaign
        return answer(request, self._shown(campaign))

    async def _get(self, request: Request) -> Response:
        return answer(request, self._shown(self._of(request)))

    async def _change(self, request: Request) -> Response:
        campaign, change = self._draft(request), await read(request, CampaignChange)
        if change.recipients is not UNSET:
            after = self._valid(change.recipients)
            swapped = campaign.recipients.segment_opts.conditions and after.segment_opts.conditions
            campaign.stale_count = self._count(campaign) if swapped else None
            campaign.recipients = after
        if change.settings is not UNSET:
            merged = msgspec.to_builtins(campaign.settings) | change.settings
            campaign.settings = _valid_settings(_settings(merged))
        if change.tracking.opens is not UNSET:
            _check_tracking(campaign.type, change.tracking.opens)
            campaign.opens_tracked = change.tracking.opens
        return answer(request, self._shown(campaign))

    async def _replicate(self, request: Request) -> Response:
        """A copy under another title. It inherits segment and tracking: the more harmful of what is undocumented."""
        original = self._of(request)
        if original.status not in {"save", "sent"}:
            raise Problem("Bad Request", "Only campaigns that are saved or sent can be replicated.")
        settings = msgspec.structs.replace(original.settings, title=f"{original.settings.title} (copy 01)")
        copy = CampaignState(
            created=self._now(),
            type=original.type,
            recipients=original.recipients,
            settings=settings,
            opens_tracked=original.opens_tracked,
            template=original.template,
            html=original.html,
        )
        self.campaigns[copy.id] = copy
        return answer(request, self._shown(copy))

    async def _delete(self, request: Request) -> Response:
        del self.campaigns[self._of(request).id]
        return Response(status_code=204)

    async def _content(self, request: Request) -> Response:
        return answer(request, _shown_content(self._of(request)))

    async def _set_content(self, request: Request) -> Response:
        campaign, content = self._draft(request), await read(request, NewContent)
        if content.template is not UNSET:
            if content.template.id not in self.templates:
                raise invalid("template.id", "The template does not exist.")
            campaign.template = content.template.id
            campaign.html = self.templates[content.template.id].html
        elif content.html is not UNSET:
            campaign.html = content.html
        return answer(request, _shown_content(campaign))

    # Sending

    async def _checklist(self, request: Request) -> Response:
        missing = self._missing(self._of(request))
        items = [
            {"type": "error" if name in missing else "success", "id": 500 + place, "heading": name, "details": text}
            for place, (name, text) in enumerate(_ERROR_ITEMS.items())
        ]
        return answer(request, {"is_ready": not missing, "items": items})

    async def _send(self, request: Request) -> Response:
        campaign = self._of(request)
        if campaign.status != "save":
            raise Problem("Bad Request", "This campaign has already been sent.")
        if self._missing(campaign):
            detail = "Your Campaign is not ready to send. Please review the send-checklist resource."
            raise Problem("Bad Request", detail)
        members = [self._audience.members[name] for name in self._aimed_at(campaign)]
        campaign.status, campaign.emails_sent, campaign.stale_count = "sent", len(members), None
        self._deliver(campaign, members)
        return Response(status_code=204)

    def _missing(self, campaign: CampaignState) -> set[str]:
        settings = campaign.settings
        ready = {
            "Recipients": bool(campaign.recipients.list_id) and any(True for _ in self._aimed_at(campaign)),
            "Subject": bool(settings.subject_line),
            "From": bool(settings.from_name and settings.reply_to),
            "Content": bool(campaign.html),
        }
        return {name for name, fine in ready.items() if not fine}

    def _aimed_at(self, campaign: CampaignState) -> Iterable[str]:
        """The hashes of whom a campaign goes to."""
        options = campaign.recipients.segment_opts
        every = all if options.match == "all" else any
        tests = [self._test(condition) for condition in options.conditions]
        subscribed = self._audience.subscribed()
        return (name for name in subscribed if every(test(name) for test in tests)) if tests else subscribed

    def _test(self, condition: Condition) -> Callable[[str], bool]:
        segment = self._audience.segments.get(condition.value)
        inside = segment.members if segment else {}
        wanted = condition.op == "static_is"
        return lambda name: (name in inside) is wanted

    def _count(self, campaign: CampaignState) -> int:
        if campaign.status == "sent":
            return campaign.emails_sent
        return sum(1 for _ in self._aimed_at(campaign)) if campaign.stale_count is None else campaign.stale_count

    # Reports

    async def _open_details(self, request: Request) -> Response:
        campaign = self._of(request)
        if campaign.status != "sent":
            raise not_found()
        since = _since(request.query_params.get("since"))
        found = [(name, opens) for name, opens in campaign.opens.items() if opens[-1].at >= since]

        def shown(opener: tuple[str, list[Open]]) -> Json:
            return self._shown_opener(campaign, *opener)

        return paged(request, "members", found, len(found), shown)

    def _shown_opener(self, campaign: CampaignState, name: str, opens: Sequence[Open]) -> Json:
        # Whoever was erased stays in the report, without an address (unconfirmed).
        member = self._audience.members.get(name) or Subscriber("", "deleted", campaign.created)
        return {
            "campaign_id": campaign.id,
            "list_id": campaign.recipients.list_id,
            "list_is_active": True,
            "contact_status": member.status,
            "email_id": member.id,
            "email_address": member.address,
            "merge_fields": self._audience.values(member),
            "vip": False,
            "opens_count": len(opens),
            "opens": [{"timestamp": stamp(each.at), "is_proxy_open": each.proxy} for each in opens],
        }

    # Checks and answers

    def _of(self, request: Request) -> CampaignState:
        campaign = self.campaigns.get(request.path_params["campaign"])
        if campaign is None:
            raise not_found()
        return campaign

    def _draft(self, request: Request) -> CampaignState:
        campaign = self._of(request)
        if campaign.status != "save":
            raise Problem("Bad Request", "Cannot edit a campaign that was sent.")
        return campaign

    def _valid(self, recipients: Recipients) -> Recipients:
        if recipients.list_id != self._audience.list_id:
            raise invalid("recipients.list_id", "The list does not exist.")
        for condition in recipients.segment_opts.conditions:
            if condition.value not in self._audience.segments:
                raise invalid("recipients.segment_opts.conditions", "The segment does not exist.")
        return recipients

    def _shown(self, campaign: CampaignState) -> Json:
        return {
            "id": campaign.id,
            "type": campaign.type,
            "create_time": stamp(campaign.created),
            "status": campaign.status,
            "emails_sent": campaign.emails_sent,
            "content_type": "template",
            "recipients": {
                "list_id": campaign.recipients.list_id,
                "list_is_active": True,
                "recipient_count": self._count(campaign),
                "segment_opts": _shown_options(campaign.recipients.segment_opts),
            },
            "settings": {**msgspec.to_builtins(campaign.settings), "template_id": campaign.template},
            "tracking": {"opens": campaign.opens_tracked, "html_clicks": True, "text_clicks": False},
        }


def _check_tracking(kind: str, opens: bool | UnsetType) -> None:
    if kind == "variate" and opens is False:
        raise invalid("tracking.opens", "Open tracking cannot be disabled for A/B campaigns.")


def _shown_options(options: SegmentOptions) -> Json:
    return {"match": options.match, "conditions": [msgspec.to_builtins(c) for c in options.conditions]}


def _shown_content(campaign: CampaignState) -> Json:
    return {"plain_text": "", "html": campaign.html, "archive_html": campaign.html}


def _settings(values: Json) -> CampaignSettings:
    try:
        return msgspec.convert(values, CampaignSettings)
    except msgspec.ValidationError as error:
        raise invalid("settings", str(error)) from None


def _valid_settings(settings: CampaignSettings) -> CampaignSettings:
    if settings.reply_to and not ADDRESS.fullmatch(settings.reply_to):
        raise invalid("settings.reply_to", "Please enter a valid email address.")
    return settings


def _since(text: str | None) -> datetime:
    if text is None:
        return datetime.min.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise invalid("since", "Please enter a valid date.") from None
