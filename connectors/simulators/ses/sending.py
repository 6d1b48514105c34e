"""Templates and SendBulkEmail: what becomes of each entry, and which mail gets SES's own pixel."""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parseaddr
from pathlib import Path

import msgspec
from starlette.requests import Request

from connectors.simulators.base import Mail, Mailroom
from connectors.simulators.ses.configuration_sets import ConfigurationSets
from connectors.simulators.ses.wire import ApiError, Json, invalid, iso, required

ENTRIES = 50
CAMPAIGN_TAG = "pixelproof_campaign"
"""The message tag by which mails are told apart in the mailroom; without it, the template's name is used."""

_ADDRESS = re.compile(r"[^@\s]{1,64}@[^@\s]+\.[^@\s]+")
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_IF = re.compile(r"\{\{#if\s+(\w+)\}\}(.*?)(?:\{\{else\}\}(.*?))?\{\{/if\}\}", re.DOTALL)
_VALUE = re.compile(r"\{\{\{?\s*(\w+)\s*\}?\}\}")


class RenderingFailure(Exception):
    """The template names a value that is not there: SES accepts the message and never sends it."""


@dataclass(frozen=True, slots=True)
class Message:
    """What SES remembers of a message that it sent, for its events."""

    id: str
    at: str
    source: str
    destination: list[str]
    subject: str
    tags: dict[str, str]
    configuration_set: str | None


class Messages:
    """Sent messages by the mail that they became, on disk: memory must not grow with them."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("CREATE TABLE message(mail INTEGER PRIMARY KEY, body BLOB NOT NULL)")

    def add(self, messages: Sequence[tuple[int, Message]]) -> None:
        """Remember messages."""
        rows = [(mail, msgspec.json.encode(message)) for mail, message in messages]
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO message VALUES (?,?)", rows)
        self._db.execute("COMMIT")

    def get(self, mail: int) -> Message:
        """The message that became a mail."""
        (body,) = self._db.execute("SELECT body FROM message WHERE mail=?", (mail,)).fetchone()
        return msgspec.json.decode(body, type=Message)


class Sending:
    """The account's sending side.

    Args:
        sets: The configuration sets.
        mailroom: Answers where delivered mails go.
        messages: Where their messages are remembered.
        pixel: Makes SES's own pixel for a mail.
        now: The clock.

    Attributes:
        engagement_metrics: The account's VDM switch, which adds pixels where neither request nor set decides.
        enabled: Whether the account may send.
        rate: Messages a second that it may send.
        refused: Addresses whose messages are rejected.
        statuses: By address, what the next messages to it meet, in turn: a status for the entry.
        production: Whether the account is out of the sandbox.
        enforcement: What AWS thinks of the account.
        suppressed: For which reasons addresses come onto the suppression list.
    """

    def __init__(
        self,
        sets: ConfigurationSets,
        mailroom: Callable[[], Mailroom],
        messages: Messages,
        pixel: Callable[[int], str],
        now: Callable[[], datetime],
    ) -> None:
        self.engagement_metrics = False
        self.enabled = True
        self.rate = 100_000.0
        self.refused: set[str] = set()
        self.statuses: dict[str, list[str]] = {}
        self.production = True
        self.enforcement = "HEALTHY"
        self.suppressed = ["BOUNCE", "COMPLAINT"]
        self.templates: dict[str, Json] = {}
        self._sets = sets
        self._mailroom = mailroom
        self._messages = messages
        self._pixel = pixel
        self._now = now

    def account(self, _request: Request, _body: Json) -> Json:
        """GetAccount."""
        metrics = "ENABLED" if self.engagement_metrics else "DISABLED"
        return {
            "ProductionAccessEnabled": self.production,
            "SendingEnabled": self.enabled,
            "EnforcementStatus": self.enforcement,
            "SuppressionAttributes": {"SuppressedReasons": self.suppressed},
            "SendQuota": {"Max24HourSend": 5e6, "MaxSendRate": self.rate, "SentLast24Hours": 0.0},
            "VdmAttributes": {"VdmEnabled": "ENABLED", "DashboardAttributes": {"EngagementMetrics": metrics}},
        }

    def create_template(self, _request: Request, body: Json) -> Json:
        """CreateEmailTemplate."""
        name = required(body, "TemplateName")
        if name in self.templates:
            raise ApiError("AlreadyExistsException", f"Template {name} already exists")
        self.templates[name] = required(body, "TemplateContent", dict)
        return {}

    def get_template(self, request: Request, _body: Json) -> Json:
        """GetEmailTemplate."""
        name = request.path_params["name"]
        return {"TemplateName": name, "TemplateContent": self._template(name)}

    def render_template(self, request: Request, body: Json) -> Json:
        """TestRenderEmailTemplate."""
        template, data = self._template(request.path_params["name"]), _data(required(body, "TemplateData"))
        try:
            parts = [render(template.get(part) or "", data) for part in ("Subject", "Text", "Html")]
        except RenderingFailure as missing:
            raise ApiError(
                "BadRequestException", f"Attribute '{missing}' is not present in the rendering data."
            ) from None
        return {"RenderedTemplate": "\r\n".join(parts)}

    def send_bulk(self, _request: Request, body: Json) -> Json:
        """SendBulkEmail: at most 50 entries, each with a result of its own."""
        template = required(body, "DefaultContent", dict).get("Template") or {}
        entries = required(body, "BulkEmailEntries", list)
        source = required(body, "FromEmailAddress")
        configuration_set = body.get("ConfigurationSetName") or self._sets.default_for(source)
        self._check_call(entries, source, configuration_set)
        name = required(template, "TemplateName")
        call = _Call(
            self._template(name),
            name,
            _data(template.get("TemplateData")),
            _tags(body.get("DefaultEmailTags")),
            source,
            configuration_set,
            self._sets.tracks_opens(
                configuration_set, body.get("ConfigurationOverrides") or {}, account=self.engagement_metrics
            ),
            iso(self._now()),
        )
        return {"BulkEmailEntryResults": self._deliver(call, entries)}

    def _check_call(self, entries: list[Json], source: str, configuration_set: str | None) -> None:
        if not 1 <= len(entries) <= ENTRIES:
            raise invalid("bulkEmailEntries", f"Member must have length between 1 and {ENTRIES}")
        if not self.enabled:
            raise ApiError("SendingPausedException", "Account sending is disabled.")
        if parseaddr(source)[1].rpartition("@")[2] not in self._sets.domains:
            raise ApiError("MessageRejected", "Email address is not verified.")
        if configuration_set is not None:
            options = self._sets.named(configuration_set).options.get("SendingOptions") or {}
            if not options.get("SendingEnabled", True):
                raise ApiError("SendingPausedException", "Sending is paused for the configuration set.")

    def _deliver(self, call: _Call, entries: list[Json]) -> list[Json]:
        mails: list[Mail] = []
        messages: list[tuple[int, Message]] = []
        results: list[Json] = []
        mailroom = self._mailroom()
        number = mailroom.next_id()
        for entry in entries:
            refusal = self._refusal(entry)
            if refusal is not None:
                results.append(refusal)
                continue
            message, html = call.compose(entry)
            results.append({"Status": "SUCCESS", "MessageId": message.id})
            for address in message.destination if html is not None else ():
                content = f"{html}{self._pixel(number)}" if call.tracked else str(html)
                label = message.tags.get(CAMPAIGN_TAG, call.template_name)
                mails.append(Mail(number, label, address, message.subject, content, tracked=call.tracked))
                messages.append((number, message))
                number += 1
        self._messages.add(messages)
        mailroom.deliver(mails)
        return results

    def _refusal(self, entry: Json) -> Json | None:
        destination = _destination(entry)
        if not destination or not all(_ADDRESS.fullmatch(address) for address in destination):
            return {"Status": "INVALID_PARAMETER", "Error": "Invalid destination"}
        if self.refused.intersection(destination):
            return {"Status": "MESSAGE_REJECTED", "Error": "Message rejected"}
        waiting = next((self.statuses[each] for each in destination if self.statuses.get(each)), None)
        if waiting:
            return {"Status": waiting.pop(0), "Error": "Not now"}
        return None

    def _template(self, name: str) -> Json:
        if name not in self.templates:
            raise ApiError("NotFoundException", f"Template {name} does not exist", 404)
        return self.templates[name]


@dataclass(frozen=True, slots=True)
class _Call:
    """What the entries of one SendBulkEmail have in common."""

    template: Json
    template_name: str
    data: Json
    tags: dict[str, str]
    source: str
    configuration_set: str | None
    tracked: bool
    at: str

    def compose(self, entry: Json) -> tuple[Message, str | None]:
        """One message and its rendered HTML; None when it cannot be rendered."""
        replacement = ((entry.get("ReplacementEmailContent") or {}).get("ReplacementTemplate") or {}).get(
            "ReplacementTemplateData"
        )
        data = self.data | _data(replacement)
        tags = self.tags | _tags(entry.get("ReplacementTags"))
        try:
            subject, html = (render(self.template.get(part) or "", data) for part in ("Subject", "Html"))
        except RenderingFailure:
            subject, html = "", None
        message_id = f"{uuid.uuid4()}-000000"
        destination = _destination(entry)
        return Message(message_id, self.at, self.source, destination, subject, tags, self.configuration_set), html


def render(template: str, data: Json) -> str:
    """Handlebars as far as templates here use it: values, unescaped as SES leaves them, and ``#if`` with ``else``."""

    def chosen(match: re.Match[str]) -> str:
        return match[2] if data.get(match[1]) else match[3] or ""

    def value(match: re.Match[str]) -> str:
        if match[1] not in data:
            raise RenderingFailure(match[1])
        return str(data[match[1]])

    return _VALUE.sub(value, _IF.sub(chosen, template))


def _destination(entry: Json) -> list[str]:
    given = entry.get("Destination") or {}
    return [address for kind in ("To", "Cc", "Bcc") for address in given.get(f"{kind}Addresses") or []]


def _tags(given: list[Json] | None) -> dict[str, str]:
    tags = {str(tag.get("Name")): str(tag.get("Value")) for tag in given or []}
    if not all(_TAG.fullmatch(text) for pair in tags.items() for text in pair):
        raise ApiError("BadRequestException", "Tag names and values may have letters, digits, _ and - only.")
    return tags


def _data(text: str | None) -> Json:
    try:
        value = msgspec.json.decode(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ApiError("BadRequestException", "Invalid TemplateData JSON")
    return value
