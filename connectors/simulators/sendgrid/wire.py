"""What SendGrid's API takes and answers: request bodies that refuse unknown properties, and error answers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]

NOT_FOUND = 404
BAD_REQUEST = 400
ADDRESS = re.compile(r"[^@\s\"<>]+@[^@\s\"<>.]+(\.[^@\s\"<>.]+)+")


class Refused(Exception):
    """An error answer."""

    def __init__(self, message: str, field: str | None = None, status: int = BAD_REQUEST) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.status = status

    def answer(self) -> Response:
        """In the shape that all of SendGrid's error answers have."""
        error = {"message": self.message} | ({"field": self.field} if self.field else {})
        return JSONResponse({"errors": [error]}, self.status)


async def read(request: Request, body: type[T]) -> T:
    """The request's body; raises Refused when it is not what the API documents."""
    try:
        return msgspec.json.decode(await request.body(), type=body)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        field = re.sub(r"\[(.*?)\]", r".\1", path.rstrip("`")).lstrip(".")
        raise Refused(message, field or None) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused("Bad Request") from None


def guarded(handler: Handler, authorized: Callable[[Request], bool]) -> Handler:
    """A handler behind the API key, whose refusals become error answers."""

    async def guard(request: Request) -> Response:
        try:
            if authorized(request):
                return await handler(request)
        except Refused as refused:
            return refused.answer()
        return Refused("The provided authorization grant is invalid, expired, or revoked", status=401).answer()

    return guard


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Address(_Strict):
    """A recipient or a sender."""

    email: str
    name: str | UnsetType = UNSET


Addresses = Annotated[list[Address], Meta(min_length=1, max_length=1000)]


class Personalization(_Strict):
    """One envelope of a Mail Send request."""

    to: Addresses
    cc: list[Address] = []
    bcc: list[Address] = []
    sender: Address | UnsetType = msgspec.field(name="from", default=UNSET)
    subject: str | UnsetType = UNSET
    headers: dict[str, str] = {}
    substitutions: dict[str, str] = {}
    dynamic_template_data: dict[str, Any] = {}
    custom_args: dict[str, str] = {}
    send_at: int | UnsetType = UNSET


class Content(_Strict):
    """One body of a mail without template."""

    type: Annotated[str, Meta(min_length=1)]
    value: Annotated[str, Meta(min_length=1)]


class OpenTracking(_Strict):
    """The switch for open tracking; without ``enable`` the account decides."""

    enable: bool | UnsetType = UNSET
    substitution_tag: str | UnsetType = UNSET


class TrackingSettings(_Strict):
    """A request's tracking settings."""

    open_tracking: OpenTracking = msgspec.field(default_factory=OpenTracking)
    click_tracking: dict[str, bool] = {}
    subscription_tracking: dict[str, Any] = {}
    ganalytics: dict[str, Any] = {}


class Suppression(_Strict):
    """A request's unsubscribe group."""

    group_id: int
    groups_to_display: list[int] = []


class MailSend(_Strict):
    """The body of ``POST /v3/mail/send``."""

    personalizations: Annotated[list[Personalization], Meta(min_length=1, max_length=1000)]
    sender: Address = msgspec.field(name="from")
    reply_to: Address | UnsetType = UNSET
    reply_to_list: list[Address] = []
    subject: str = ""
    content: list[Content] = []
    attachments: list[dict[str, str]] = []
    template_id: str = ""
    headers: dict[str, str] = {}
    categories: Annotated[list[Annotated[str, Meta(max_length=255)]], Meta(max_length=10)] = []
    custom_args: dict[str, str] = {}
    send_at: int | UnsetType = UNSET
    batch_id: str | UnsetType = UNSET
    asm: Suppression | UnsetType = UNSET
    ip_pool_name: str | UnsetType = UNSET
    mail_settings: dict[str, Any] = {}
    tracking_settings: TrackingSettings = msgspec.field(default_factory=TrackingSettings)


Text50 = Annotated[str, Meta(max_length=50)]
Text254 = Annotated[str, Meta(max_length=254)]


class ContactIn(_Strict):
    """A contact to create or update."""

    email: Text254 = ""
    alternate_emails: Annotated[list[Text254], Meta(max_length=5)] = []
    phone_number_id: str = ""
    external_id: Text254 = ""
    anonymous_id: Text254 = ""
    first_name: Text50 = ""
    last_name: Text50 = ""
    address_line_1: Annotated[str, Meta(max_length=100)] = ""
    address_line_2: Annotated[str, Meta(max_length=100)] = ""
    city: Annotated[str, Meta(max_length=60)] = ""
    state_province_region: Text50 = ""
    country: Text50 = ""
    postal_code: str = ""
    custom_fields: dict[str, str | int | float] = {}


class Upsert(_Strict):
    """The body of ``PUT /v3/marketing/contacts``."""

    contacts: Annotated[list[ContactIn], Meta(min_length=1, max_length=30_000)]
    list_ids: list[str] = []


class Named(_Strict):
    """The body of ``POST /v3/marketing/lists``."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]


class NewField(_Strict):
    """The body of ``POST /v3/marketing/field_definitions``."""

    name: Annotated[str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,99}\Z")]
    field_type: Annotated[str, Meta(pattern=r"\A(Text|Number|Date)\Z")]


class Emails(_Strict):
    """The body of ``POST /v3/marketing/contacts/search/emails``."""

    emails: Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(min_length=1, max_length=100)]
    phone_number_id: str = ""
    external_id: str = ""
    anonymous_id: str = ""


class Export(_Strict):
    """The body of ``POST /v3/marketing/contacts/exports``."""

    list_ids: list[str] = []
    segment_ids: list[str] = []
    notifications: dict[str, bool] = {}
    file_type: Annotated[str, Meta(pattern=r"\A(csv|json)\Z")] = "csv"
    max_file_size: int = 5000


class Switch(_Strict):
    """The body of ``PATCH /v3/tracking_settings/…`` and of ``PATCH …/event/settings/signed/{id}``."""

    enabled: bool


class SendTo(_Strict):
    """Whom a Single Send goes to."""

    list_ids: Annotated[list[str], Meta(max_length=50)] | UnsetType = UNSET
    segment_ids: Annotated[list[str], Meta(max_length=10)] | UnsetType = UNSET
    all: bool | UnsetType = UNSET


class EmailConfig(_Strict):
    """A Single Send's mail. There is no tracking setting in it."""

    subject: str | UnsetType = UNSET
    html_content: str | UnsetType = UNSET
    plain_content: str | UnsetType = UNSET
    generate_plain_content: bool | UnsetType = UNSET
    design_id: str | UnsetType = UNSET
    editor: Annotated[str, Meta(pattern=r"\A(code|design)\Z")] | UnsetType = UNSET
    suppression_group_id: int | UnsetType | None = UNSET
    custom_unsubscribe_url: str | UnsetType | None = UNSET
    sender_id: int | UnsetType | None = UNSET
    ip_pool: str | UnsetType | None = UNSET


class SingleSendIn(_Strict):
    """The body with which a Single Send is made or changed."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    categories: Annotated[list[str], Meta(max_length=10)] = []
    send_at: str | None = None
    send_to: SendTo = msgspec.field(default_factory=SendTo)
    email_config: EmailConfig = msgspec.field(default_factory=EmailConfig)


class SingleSendSearch(_Strict):
    """The body of ``POST /v3/marketing/singlesends/search``."""

    name: Annotated[str, Meta(max_length=100)] = ""
    status: list[Annotated[str, Meta(pattern=r"\A(draft|scheduled|triggered)\Z")]] = []
    categories: list[str] = []


class Schedule(_Strict):
    """The body of ``PUT /v3/marketing/singlesends/{id}/schedule``."""

    send_at: str


class HookIn(_Strict):
    """The body with which an Event Webhook is made or changed; ``url`` must be given each time."""

    url: Annotated[str, Meta(pattern=r"\Ahttps?://\S+\Z")]
    enabled: bool | None = None
    group_resubscribe: bool | None = None
    delivered: bool | None = None
    group_unsubscribe: bool | None = None
    spam_report: bool | None = None
    bounce: bool | None = None
    deferred: bool | None = None
    unsubscribe: bool | None = None
    processed: bool | None = None
    open: bool | None = None
    click: bool | None = None
    dropped: bool | None = None
    friendly_name: str | None = None
    oauth_client_id: str | None = None
    oauth_client_secret: str | None = None
    oauth_token_url: str | None = None
