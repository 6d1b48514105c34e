"""Amazon SES, with the parts of S3 and SNS that go with it, as one account of one region has them."""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from connectors.simulators.base import Account, Mail, Simulator, utcnow
from connectors.simulators.ses.configuration_sets import ConfigurationSet, ConfigurationSets
from connectors.simulators.ses.contacts import Contacts
from connectors.simulators.ses.identities import Identities
from connectors.simulators.ses.imports import Imports
from connectors.simulators.ses.sending import Message, Messages, Sending
from connectors.simulators.ses.sns import Sns
from connectors.simulators.ses.wire import Gate, Json, iso

__all__ = ["SesSimulator"]

ACCOUNT = "123456789012"
REGION = "eu-west-3"
BUCKET = "pixelproof-imports"
DOMAIN = "newsletter.example"
REDIRECT_DOMAIN = "open.newsletter.example"
SENDER = f"news@{DOMAIN}"
TEMPLATE = "newsletter"
READER_IP = "192.0.2.44"
READER_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0"

_PLACEHOLDERS = {
    "[[choices_url]]": "{{choices_url}}",
    "[[pixel_path]]": "{{pixel_path}}",
    "[[if_pixel]]": "{{#if pixel_path}}",
    "[[end_if]]": "{{/if}}",
}


class SesSimulator(Simulator):
    """SES, S3 and SNS behind one address.

    Args:
        folder: Where the authority's certificate and the sent messages are kept.
        mails: Where delivered mails are kept; in memory when None.
        now: The clock.
        signature_version: That of the topic's signatures: 1 (SHA-1), SNS's own default, or 2 (SHA-256).

    Attributes:
        gate: Authentication and, if set, the limit of one management request a second.
        contacts: The contact list.
        imports: The S3 bucket and import jobs.
        sets: Configuration sets.
        sending: Templates, sending and the account's switches.
        identities: Who may send, and through which configuration set by default.
        sns: SNS of the same account.
        topic: The SNS topic to which the configuration sets publish.
    """

    name = "ses"

    def __init__(
        self,
        *,
        folder: Path,
        mails: Path | None = None,
        now: Callable[[], datetime] = utcnow,
        signature_version: str = "1",
    ) -> None:
        self.gate = Gate(f"AKIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))
        self.contacts = Contacts(now)
        self.imports = Imports(BUCKET, self.contacts, now)
        self.sns = Sns(f"arn:aws:sns:{REGION}:{ACCOUNT}:", now, self.queue, lambda: self.base_url)
        self.topic = self.sns.make("ses-events", signature_version)
        self.sets = ConfigurationSets({DOMAIN, REDIRECT_DOMAIN}, self._may_publish)
        self.identities = Identities(self.sets)
        self._messages = Messages(folder / "ses-messages.sqlite3")
        self.sending = Sending(self.sets, lambda: self.mailroom, self._messages, self.pixel, now)
        self._folder = folder
        super().__init__(mails=mails, now=now)

    @property
    def tracking(self) -> bool:
        """The account's engagement metrics (VDM): adds pixels where neither request nor configuration set decides."""
        return self.sending.engagement_metrics

    @tracking.setter
    def tracking(self, value: bool) -> None:
        self.sending.engagement_metrics = value

    def subscribe(self) -> None:
        """Queue a SubscriptionConfirmation for ``callback_url``; nothing else is delivered before it is confirmed."""
        if self.callback_url is not None:
            self.sns.subscribe(self.topic, self.callback_url.partition(":")[0], self.callback_url, {})

    def account(self, *, purposes: Sequence[str], subject: str, html: str) -> Account:  # noqa: ARG002 - topics are made by the API
        """A verified domain, a template, both configuration sets publishing to the topic, a bucket and a key."""
        for placeholder, syntax in _PLACEHOLDERS.items():
            subject, html = subject.replace(placeholder, syntax), html.replace(placeholder, syntax)
        self.sending.templates[TEMPLATE] = {"Subject": subject, "Html": html}
        self.topic.let_ses_in(_set_arn("pixelproof-tracked"), _set_arn("pixelproof-untracked"))
        self._make_set(
            "pixelproof-tracked",
            ["OPEN", "BOUNCE", "COMPLAINT", "SUBSCRIPTION"],
            {"TrackingOptions": {"CustomRedirectDomain": REDIRECT_DOMAIN, "HttpsPolicy": "REQUIRE"}},
        )
        self._make_set(
            "pixelproof-untracked",
            ["BOUNCE", "COMPLAINT", "SUBSCRIPTION"],
            {"VdmOptions": {"DashboardOptions": {"EngagementMetrics": "DISABLED"}}},
        )
        authority = self._folder / "sns-authority.pem"
        authority.write_bytes(self.sns.signer.authority.public_bytes(Encoding.PEM))
        settings = {
            "region": REGION,
            "endpoint_url": self.base_url,
            "import_bucket": BUCKET,
            "topic_arns": [self.topic.arn],
            "sns_certificate_origin": self.base_url,
            "sns_authority_file": str(authority),
            "management_calls_per_second": 10_000.0,
        }
        keys = {"AWS_ACCESS_KEY_ID": self.gate.key_id, "AWS_SECRET_ACCESS_KEY": self.gate.secret}
        return Account(settings, keys, {"template_name": TEMPLATE, "from_email": SENDER})

    def routes(self) -> list[BaseRoute]:
        """The operations of SES (API version 2), S3 (by path) and SNS that are simulated."""
        contacts, imports, sets, sending = self.contacts, self.imports, self.sets, self.sending
        one_list = "/v2/email/contact-lists/{list}"
        one_contact = f"{one_list}/contacts/{{address:path}}"
        one_set = "/v2/email/configuration-sets/{name}"
        ses = [
            ("POST", "/v2/email/contact-lists", contacts.create_list),
            ("GET", one_list, contacts.get_list),
            ("PUT", one_list, contacts.update_list),
            ("POST", f"{one_list}/contacts", contacts.create),
            ("POST", f"{one_list}/contacts/list", contacts.listed),
            ("GET", one_contact, contacts.get),
            ("PUT", one_contact, contacts.update),
            ("DELETE", one_contact, contacts.delete),
            ("POST", "/v2/email/import-jobs", imports.create),
            ("POST", "/v2/email/import-jobs/list", imports.listed),
            ("GET", "/v2/email/import-jobs/{job}", imports.get),
            ("POST", "/v2/email/configuration-sets", sets.create),
            ("POST", "/v2/email/list-configuration-sets", sets.listed),
            ("GET", one_set, sets.get),
            ("PUT", f"{one_set}/tracking-options", sets.put_tracking),
            ("PUT", f"{one_set}/vdm-options", sets.put_vdm),
            ("GET", f"{one_set}/event-destinations", sets.destinations),
            ("POST", f"{one_set}/event-destinations", sets.create_destination),
            ("PUT", f"{one_set}/event-destinations/{{destination}}", sets.update_destination),
            ("POST", "/v2/email/list-identities", self.identities.listed),
            ("GET", "/v2/email/identities/{identity}", self.identities.get),
            ("POST", "/v2/email/templates", sending.create_template),
            ("GET", "/v2/email/templates/{name}", sending.get_template),
            ("POST", "/v2/email/templates/{name}/render", sending.render_template),
            ("GET", "/v2/email/account", sending.account),
            ("POST", "/v2/email/outbound-bulk-emails", sending.send_bulk),
        ]
        objects = f"/{BUCKET}/{{key:path}}"
        return [
            *(Route(path, self.gate.ses(act), methods=[method]) for method, path, act in ses),
            Route(objects, self.gate.s3(imports.put_object), methods=["PUT"]),
            Route(objects, self.gate.s3(imports.delete_object), methods=["DELETE"]),
            Route("/", self.gate.sns(self.sns.act), methods=["POST"]),
            Route(self.sns.signer.path, self._certificate),
        ]

    def opened(self, mail: Mail) -> None:
        """Publishes an Open event."""
        about = {"ipAddress": READER_IP, "timestamp": iso(self.now()), "userAgent": READER_AGENT}
        self._publish("Open", "OPEN", about, self._messages.get(mail.id))

    def unsubscribed(self, mail: Mail) -> None:
        """Unsubscribes the contact from all topics of the list, and publishes a Subscription event."""
        changed = self.contacts.leave(mail.address)
        if changed is None:
            return
        before, after, name = changed
        about = {
            "contactList": name,
            "timestamp": iso(self.now()),
            "source": "UnsubscribeHeader",
            "newTopicPreferences": after,
            "oldTopicPreferences": before,
        }
        self._publish("Subscription", "SUBSCRIPTION", about, self._messages.get(mail.id))

    def complained(self, mail: Mail) -> None:
        """Publishes a Complaint event."""
        about = {
            "complainedRecipients": [{"emailAddress": mail.address}],
            "timestamp": iso(self.now()),
            "feedbackId": f"{uuid.uuid4()}-000000",
            "complaintSubType": None,
            "complaintFeedbackType": "abuse",
        }
        self._publish("Complaint", "COMPLAINT", about, self._messages.get(mail.id))

    def _publish(self, native: str, event: str, about: Json, message: Message) -> None:
        """What the configuration set of a message says about an event: to the topics, if SES may."""
        body = {"eventType": native, native.lower(): about, "mail": _mail(message)}
        for arn in self.sets.topics(message.configuration_set, event):
            self.sns.publish(arn, json.dumps(body), _set_arn(message.configuration_set or ""))

    def _may_publish(self, topic: str, name: str) -> bool:
        found = self.sns.topics.get(topic)
        return found is not None and found.lets_in(_set_arn(name))

    def _make_set(self, name: str, events: list[str], options: Json) -> None:
        destination = {
            "Name": "events",
            "Enabled": True,
            "MatchingEventTypes": events,
            "SnsDestination": {"TopicArn": self.topic.arn},
        }
        self.sets.sets[name] = ConfigurationSet(name, options, [destination])

    async def _certificate(self, _request: Request) -> Response:
        return Response(self.sns.signer.certificate, media_type="application/x-pem-file")


def _set_arn(name: str) -> str:
    return f"arn:aws:ses:{REGION}:{ACCOUNT}:configuration-set/{name}"


def _mail(message: Message) -> Json:
    """The ``mail`` object of an event."""
    tags = {name: [value] for name, value in message.tags.items()}
    if message.configuration_set:
        tags["ses:configuration-set"] = [message.configuration_set]
    return {
        "timestamp": message.at,
        "source": message.source,
        "sourceArn": f"arn:aws:ses:{REGION}:{ACCOUNT}:identity/{DOMAIN}",
        "sendingAccountId": ACCOUNT,
        "messageId": message.id,
        "destination": message.destination,
        "headersTruncated": False,
        "headers": [
            {"name": "From", "value": message.source},
            {"name": "To", "value": ", ".join(message.destination)},
            {"name": "Subject", "value": message.subject},
        ],
        "commonHeaders": {"from": [message.source], "to": message.destination, "subject": message.subject},
        "tags": tags,
    }
