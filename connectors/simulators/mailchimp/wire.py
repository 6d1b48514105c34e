"""What Mailchimp's API takes and answers: request bodies, pages, partial answers, problem documents."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import uuid
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]
Json = dict[str, Any]

BATCH = 500
LONGEST_PAGE = 1_000
LONGEST_TEXT = 255
"""Bytes of a text merge field (unconfirmed: Mailchimp's help pages say so, the API's document does not)."""
ADDRESS = re.compile(r"[^@\s\"<>]+@[^@\s\"<>.]+(\.[^@\s\"<>.]+)+")
ERRORS = "https://mailchimp.com/developer/marketing/docs/errors/"


class Problem(Exception):
    """An error answer (RFC 7807), as all of Mailchimp's are."""

    def __init__(self, title: str, detail: str, status: int = 400, errors: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(title)
        self.title = title
        self.detail = detail
        self.status = status
        self.errors = [{"field": field, "message": message} for field, message in errors]

    def answer(self) -> Response:
        """As JSON of the type that makes the SDK hand it on as a string."""
        body: Json = {"type": ERRORS, "title": self.title, "status": self.status, "detail": self.detail}
        body |= {"instance": str(uuid.uuid4())} | ({"errors": self.errors} if self.errors else {})
        return Response(json.dumps(body), self.status, media_type="application/problem+json; charset=utf-8")


def invalid(field: str, message: str) -> Problem:
    """A body whose schema is right and whose content is not."""
    detail = "The resource submitted could not be validated. For field-specific details, see the 'errors' array."
    return Problem("Invalid Resource", detail, errors=[(field, message)])


def not_found() -> Problem:
    """No such thing."""
    return Problem("Resource Not Found", "The requested resource could not be found.", 404)


async def read(request: Request, body: type[T]) -> T:
    """The request's body; raises Problem when it is not what the API documents."""
    try:
        return msgspec.json.decode(await request.body(), type=body)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise invalid(path.rstrip("`").lstrip("."), message) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Problem("JSON Parse Error", "We encountered an unspecified JSON parsing error.") from None


def guarded(handler: Handler, key: str) -> Handler:
    """A handler behind the API key, whose problems become error answers."""

    async def guard(request: Request) -> Response:
        if not _authorized(request.headers.get("authorization", ""), key):
            detail = "Your API key may be invalid, or you've attempted to access the wrong datacenter."
            return Problem("API Key Invalid", detail, 401).answer()
        try:
            return await handler(request)
        except Problem as problem:
            return problem.answer()

    return guard


def _authorized(header: str, key: str) -> bool:
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() == "bearer":
        return secrets.compare_digest(credentials.encode(), key.encode())
    try:
        _, _, password = base64.b64decode(credentials, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and secrets.compare_digest(password, key.encode())


def answer(request: Request, body: Json) -> Response:
    """A JSON answer, cut down to the ``fields`` that the request names."""
    fields = request.query_params.get("fields")
    return JSONResponse(_picked(body, [name.split(".") for name in fields.split(",")]) if fields else body)


def paged(request: Request, key: str, items: Iterable[T], total: int, show: Callable[[T], Json]) -> Response:
    """One page of a collection: 10 items unless asked otherwise."""
    count, offset = _number(request, "count", 10), _number(request, "offset", 0)
    if count > LONGEST_PAGE:
        raise invalid("count", f"Number must be less than or equal to {LONGEST_PAGE}")
    page = [show(item) for item in islice(items, offset, offset + count)]
    return answer(request, {key: page, "total_items": total})


def stamp(at: datetime) -> str:
    """A time as Mailchimp writes it: ISO 8601, whole seconds, with its offset."""
    return at.isoformat(timespec="seconds")


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise invalid(name, "Schema describes integer")
    return int(text)


def _picked(value: Any, wanted: list[list[str]]) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, list):
        return [_picked(item, wanted) for item in value]
    if not isinstance(value, dict):
        return value
    picked: Json = {}
    for name in {path[0] for path in wanted} & value.keys():
        below = [path[1:] for path in wanted if path[0] == name]
        picked[name] = _picked(value[name], below) if all(below) else value[name]
    return picked


Status = Literal["subscribed", "unsubscribed", "cleaned", "pending", "transactional"]
Name = Annotated[str, Meta(min_length=1, max_length=100)]


class BatchMember(msgspec.Struct):
    """One member of a batch."""

    email_address: str = ""
    status: Status | UnsetType = UNSET
    merge_fields: dict[str, str | int | float] = {}


class MemberBatch(msgspec.Struct):
    """``POST /lists/{list_id}``."""

    members: Annotated[list[BatchMember], Meta(max_length=BATCH)]
    update_existing: bool = False


class NewMergeField(msgspec.Struct):
    """``POST /lists/{list_id}/merge-fields``."""

    name: Name
    type: Literal["text", "number", "url", "imageurl", "date", "phone", "zip"]
    tag: Annotated[str, Meta(pattern="^[A-Z0-9_]{1,10}$")]
    required: bool = False
    public: bool = False
    default_value: str = ""


class NewSegment(msgspec.Struct):
    """``POST /lists/{list_id}/segments``; only static ones are kept here."""

    name: Name
    static_segment: Annotated[list[str], Meta(max_length=BATCH)]


class SegmentChange(msgspec.Struct):
    """``POST /lists/{list_id}/segments/{segment_id}``."""

    members_to_add: Annotated[list[str], Meta(max_length=BATCH)] = []
    members_to_remove: Annotated[list[str], Meta(max_length=BATCH)] = []


class Condition(msgspec.Struct):
    """A condition on a static segment; others are not kept here."""

    field: Literal["static_segment"]
    op: Literal["static_is", "static_not"]
    value: int
    condition_type: Literal["StaticSegment"] = "StaticSegment"


class SegmentOptions(msgspec.Struct):
    """Whom of the audience a campaign goes to. Empty: to all of it."""

    match: Literal["any", "all"] = "all"
    conditions: list[Condition] = []


class Recipients(msgspec.Struct):
    """A campaign's audience."""

    list_id: str
    segment_opts: SegmentOptions = msgspec.field(default_factory=SegmentOptions)


class CampaignSettings(msgspec.Struct):
    """A campaign's subject and sender."""

    title: str = ""
    subject_line: Annotated[str, Meta(max_length=150)] = ""
    preview_text: str = ""
    from_name: str = ""
    reply_to: str = ""


class Tracking(msgspec.Struct):
    """A campaign's tracking; without ``opens`` the account decides."""

    opens: bool | UnsetType = UNSET


class NewCampaign(msgspec.Struct):
    """``POST /campaigns``. What only A/B campaigns and RSS campaigns have is not kept here."""

    type: Literal["regular", "plaintext", "rss", "variate"]
    recipients: Recipients | None = None
    settings: CampaignSettings = msgspec.field(default_factory=CampaignSettings)
    tracking: Tracking = msgspec.field(default_factory=Tracking)


class CampaignChange(msgspec.Struct):
    """``PATCH /campaigns/{campaign_id}``."""

    recipients: Recipients | UnsetType = UNSET
    settings: Json | UnsetType = UNSET
    tracking: Tracking = msgspec.field(default_factory=Tracking)


class TemplateRef(msgspec.Struct):
    """The template that fills a campaign."""

    id: int


class NewContent(msgspec.Struct):
    """``PUT /campaigns/{campaign_id}/content``."""

    template: TemplateRef | UnsetType = UNSET
    html: str | UnsetType = UNSET


EventName = Annotated[str, Meta(pattern="^(subscribe|unsubscribe|profile|cleaned|upemail|campaign)$")]
SourceName = Annotated[str, Meta(pattern="^(user|admin|api)$")]


class NewWebhook(msgspec.Struct):
    """``POST /lists/{list_id}/webhooks``."""

    url: Annotated[str, Meta(min_length=1)]
    events: dict[EventName, bool] = {}
    sources: dict[SourceName, bool] = {}


class WebhookChange(msgspec.Struct):
    """``PATCH /lists/{list_id}/webhooks/{webhook_id}``."""

    url: str | None = None
    events: dict[EventName, bool] = {}
    sources: dict[SourceName, bool] = {}
