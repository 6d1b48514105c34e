"""Mail Send and the templates: what leaves, with which pixel, and what is known of it afterwards."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from connectors.simulators.base import Mail
from connectors.simulators.sendgrid.handlebars import Render, compiled
from connectors.simulators.sendgrid.wire import ADDRESS, MailSend, Personalization, Refused

CUSTOM_ARGS_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class Letter:
    """One recipient's mail before it leaves. ``facts``: what each event of it repeats."""

    address: str = field(repr=False)
    subject: str
    html: str = field(repr=False)
    facts: dict[str, object]


@dataclass(frozen=True)
class Template:
    """A dynamic template with one active version."""

    id: str
    subject: str
    html: str
    render_subject: Render = field(repr=False)
    render_html: Render = field(repr=False)

    @classmethod
    def of(cls, template_id: str, subject: str, html: str) -> Template:
        """A template of Handlebars sources."""
        return cls(template_id, subject, html, compiled(subject), compiled(html))

    def shown(self) -> dict[str, object]:
        """As ``GET /v3/templates/{id}`` shows it."""
        at = "2025-01-01 00:00:00"
        version = {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, self.html)),
            "template_id": self.id,
            "active": 1,
            "name": "version",
            "subject": self.subject,
            "html_content": self.html,
            "plain_content": "",
            "generate_plain_content": True,
            "editor": "code",
            "updated_at": at,
        }
        return {"id": self.id, "name": "pixelproof", "generation": "dynamic", "updated_at": at, "versions": [version]}


def check(mail: MailSend, senders: set[str], groups: Mapping[int, str]) -> None:
    """Refuse what Mail Send refuses."""
    if mail.sender.email not in senders:
        raise Refused("The from address does not match a verified Sender Identity.", "from", 403)
    if not mail.template_id and not (mail.content and mail.subject):
        raise Refused("Unless a valid template_id is provided, the content parameter is required.", "content")
    if mail.asm and mail.asm.group_id not in groups:
        raise Refused("The group_id is not one of your unsubscribe groups.", "asm.group_id")
    for place, envelope in enumerate(mail.personalizations):
        _check_envelope(envelope, f"personalizations.{place}")
    if sum(len(e.to) + len(e.cc) + len(e.bcc) for e in mail.personalizations) > 1_000:  # noqa: PLR2004 - documented
        raise Refused("There is a limit of 1000 total recipients (to + cc + bcc) per request.", "personalizations")


def _check_envelope(envelope: Personalization, where: str) -> None:
    addresses = [address.email for address in (*envelope.to, *envelope.cc, *envelope.bcc)]
    if not all(ADDRESS.fullmatch(address) for address in addresses):
        raise Refused("Does not contain a valid address.", f"{where}.to")
    if len(set(addresses)) != len(addresses):
        raise Refused("Each email address in the personalization block should be unique.", where)
    if len(json.dumps(envelope.custom_args)) > CUSTOM_ARGS_BYTES:
        raise Refused("The custom_args are larger than 10000 bytes.", f"{where}.custom_args")


def rendered(mail: MailSend, template: Template | None) -> Iterator[tuple[str, Personalization, str, str]]:
    """Each recipient's address, envelope, subject and html."""
    for envelope in mail.personalizations:
        if template is None:
            subject = envelope.subject or mail.subject
            html = next((part.value for part in mail.content if part.type == "text/html"), "")
        else:
            subject = template.render_subject(envelope.dynamic_template_data)
            html = template.render_html(envelope.dynamic_template_data)
        for address in (*envelope.to, *envelope.cc, *envelope.bcc):
            yield address.email, envelope, str(subject), html


class Sent:
    """What SendGrid remembers of each mail for its events, in a temporary file: memory does not grow with it."""

    def __init__(self) -> None:
        # The empty name is SQLite's word for a private database that spills to a temporary file.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute("CREATE TABLE sent(mail INTEGER PRIMARY KEY, facts TEXT NOT NULL, unsubscribe_group INTEGER)")

    def add(self, rows: list[tuple[int, dict[str, object], int | None]]) -> None:
        """Remember what the events of these mails repeat, and the unsubscribe group."""
        self._db.execute("BEGIN")
        encoded = ((mail, json.dumps(facts), group) for mail, facts, group in rows)
        self._db.executemany("INSERT INTO sent VALUES (?,?,?)", encoded)
        self._db.execute("COMMIT")

    def get(self, mail: Mail) -> tuple[dict[str, object], int | None]:
        """What the events of a mail repeat, and its unsubscribe group."""
        query = "SELECT facts, unsubscribe_group FROM sent WHERE mail=?"
        facts, group = self._db.execute(query, (mail.id,)).fetchone()
        return json.loads(facts), group
