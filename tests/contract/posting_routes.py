"""Every way in which an ESP's events come in, each with a codec, genuine payloads, and how the ESP seals one."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha1
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote_to_bytes, urlencode

import msgspec
from cryptography.x509 import Certificate, load_pem_x509_certificate

from connectors import provider
from connectors.ses.codec import SesCodec
from core.errors import VerificationError
from core.model import WebhookRequest
from core.ports import ProviderContext, WebhookCodec
from tests.vectors import make_mailchimp, make_sendgrid, make_ses

VECTORS = Path(__file__).parents[1] / "vectors"
CALLBACKS = "https://choices.example.com/webhooks/mailchimp"
MANDRILL_KEY, BRIDGE_KEY = "fixed-test-key-of-mandrill", "fixed-test-key-of-an-api-destination"


@dataclass(frozen=True)
class Route:
    """One way in.

    Attributes:
        seal: Makes the request that the ESP would make of a payload.
        payloads: Genuine ones.
        certain: Whether whatever is sealed is genuine; otherwise it must have a form of its own besides.
    """

    provider: str
    now: datetime
    codec: WebhookCodec = field(repr=False)
    seal: Callable[[bytes], WebhookRequest] = field(repr=False)
    payloads: tuple[bytes, ...] = field(repr=False)
    certain: bool = True


class Held:
    """The certificate of the vectors, at its address."""

    def get(self, url: str) -> Certificate:
        """The certificate there."""
        if url != make_ses.URL:
            raise VerificationError("ses: no such certificate")
        return load_pem_x509_certificate(make_ses.CERTIFICATE.encode())


def routes() -> dict[str, Route]:
    """All of them, by name; the first word is the provider's."""
    return {"sendgrid": sendgrid(), **mailchimp(), **ses()}


def sendgrid() -> Route:
    """SendGrid's signed Event Webhook."""
    codec = codec_of("sendgrid", {"webhook_public_keys": [make_sendgrid.spki(make_sendgrid.KEY)]}, {})
    bodies = tuple(base64.b64decode(case["body"]) for case in vectors("sendgrid") if case.get("events"))

    def seal(body: bytes) -> WebhookRequest:
        return WebhookRequest("POST", "/webhooks/sendgrid", make_sendgrid.signed(body), body)

    return Route("sendgrid", datetime.fromisoformat(make_sendgrid.NOW), codec, seal, bodies)


def mailchimp() -> dict[str, Route]:
    """Mailchimp's audience webhooks, signed and by a secret path, and those of Mailchimp Transactional."""
    secrets = {
        "MAILCHIMP_WEBHOOK_SECRETS": make_mailchimp.SECRET,
        "MAILCHIMP_WEBHOOK_PATH_SECRET": make_mailchimp.PATH_SECRET,
        "MANDRILL_WEBHOOK_KEYS": MANDRILL_KEY,
    }
    codec = codec_of("mailchimp", {"list_id": make_mailchimp.LIST}, secrets)
    now = datetime.fromtimestamp(make_mailchimp.SIGNED_AT + 1, UTC)
    bodies = [base64.b64decode(case["body"]) for case in vectors("mailchimp") if case.get("events")]
    forms = tuple(body for body in bodies if b"mandrill_events" not in body)

    dated = tuple(form for form in forms if b"yesterday" not in form)

    def signed(body: bytes) -> WebhookRequest:
        headers = {"x-mailchimp-signature": make_mailchimp.signature(body)}
        return WebhookRequest("POST", make_mailchimp.PATH, headers, body)

    def by_path(body: bytes) -> WebhookRequest:
        return WebhookRequest("POST", make_mailchimp.SECRET_PATH, {}, body)

    message = {"email": make_mailchimp.ADA, "_id": "8a25", "metadata": {"pixelproof_campaign": "spring"}}
    items = [
        {"event": name, "ts": make_mailchimp.FIRED_AT, "_id": "8a25", "msg": message} for name in ("open", "unsub")
    ]
    batch = urlencode({"mandrill_events": json.dumps(items)}).encode()
    return {
        "mailchimp signed": Route("mailchimp", now, codec, signed, forms),
        "mailchimp by path": Route("mailchimp", now, codec, by_path, dated),
        "mailchimp transactional": Route("mailchimp", now, codec, by_mandrill, (batch,), certain=False),
    }


def by_mandrill(body: bytes) -> WebhookRequest:
    """As Mandrill signs: the address, then each field's name and value."""
    pairs = [field.partition(b"=") for field in body.split(b"&") if field]
    fields = {plain(name): plain(value) for name, _, value in pairs}
    text = f"{CALLBACKS}/transactional".encode() + b"".join(name + fields[name] for name in sorted(fields))
    signature = base64.b64encode(hmac.new(MANDRILL_KEY.encode(), text, sha1).digest()).decode()
    return WebhookRequest("POST", "/webhooks/mailchimp/transactional", {"x-mandrill-signature": signature}, body)


def plain(text: bytes) -> bytes:
    """A form's text, decoded."""
    return unquote_to_bytes(text.replace(b"+", b" "))


def ses() -> dict[str, Route]:
    """SES's events through SNS, through an API destination of EventBridge, and from a queue."""
    settings = {"region": "eu-west-3", "topic_arns": [make_ses.TOPIC]}
    codec = cast("SesCodec", codec_of("ses", settings, {"SES_EVENTBRIDGE_KEYS": BRIDGE_KEY}))
    codec._certificates = Held()
    cases = [case for case in vectors("ses") if case.get("expected") and "body" in case]
    messages = tuple(json.loads(case["body"]).get("Message", "").encode() for case in cases)
    header = msgspec.convert(settings, provider("ses").settings).eventbridge_key_header.lower()
    detail = json.loads(messages[0])
    event = {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "source": "aws.ses",
        "account": make_ses.TOPIC.split(":")[4],
        "region": "eu-west-3",
        "time": make_ses.SIGNED,
        "detail-type": "Email Opened",
        "detail": detail,
    }

    def by_key(body: bytes) -> WebhookRequest:
        return WebhookRequest("POST", "/webhooks/ses", {header: BRIDGE_KEY}, body)

    def queued(body: bytes) -> WebhookRequest:
        return WebhookRequest("POST", "", {}, body, queued=True)

    bridged = (json.dumps(event).encode(),)
    return {
        "ses by SNS": Route("ses", make_ses.NOW, codec, by_sns, messages),
        "ses by EventBridge": Route("ses", make_ses.NOW, codec, by_key, bridged, certain=False),
        "ses from a queue": Route("ses", make_ses.NOW, codec, queued, (*messages, *bridged), certain=False),
    }


def by_sns(payload: bytes) -> WebhookRequest:
    """As SNS wraps and signs what SES published."""
    text = payload.decode("utf-8", "replace")
    body = json.dumps(make_ses.signed(make_ses.envelope(text))).encode()
    return WebhookRequest("POST", "/webhooks/ses", {"x-amz-sns-message-type": "Notification"}, body)


def codec_of(name: str, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> WebhookCodec:
    """The codec as the assembly builds it."""
    found = provider(name)
    context = ProviderContext(secrets, (), lambda: make_ses.NOW, f"https://choices.example.com/webhooks/{name}")
    return found.codec(msgspec.convert(settings, found.settings), context)


def vectors(name: str) -> list[dict[str, Any]]:
    """A provider's vectors."""
    cases: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    return cases
