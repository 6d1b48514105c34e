"""SendGrid's signed Event Webhook, read without I/O.

Source: "Event Webhook Reference" and "Getting Started with the Event Webhook Security Features" in SendGrid's
documentation. A body is a JSON array of up to 768 KB; its signature covers the timestamp header and the raw body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from connectors.payloads import mended
from connectors.sendgrid.settings import (
    CAMPAIGN_ARG,
    NAME,
    PUBLIC_KEYS_VARIABLE,
    RECIPIENT_ARG,
    SINGLE_SEND,
    SendGridSettings,
    public_keys,
)
from core.errors import KeyMissing, PayloadError, SettingsError, VerificationError
from core.machines import LONGEST, UNSAID, client_of
from core.model import EPOCH, EventKind, ProviderEvent, VerifiedBody, WebhookRequest

SIGNATURE_HEADER = "x-twilio-email-event-webhook-signature"
TIMESTAMP_HEADER = "x-twilio-email-event-webhook-timestamp"

KINDS: Mapping[str, EventKind] = {
    "processed": EventKind.OTHER,
    "delivered": EventKind.OTHER,
    "deferred": EventKind.OTHER,
    "click": EventKind.OTHER,
    "bounce": EventKind.BOUNCE,
    "dropped": EventKind.BOUNCE,
    "open": EventKind.OPEN,
    "unsubscribe": EventKind.UNSUBSCRIBE,
    "group_unsubscribe": EventKind.TOPIC_UNSUBSCRIBE,
    "group_resubscribe": EventKind.RESUBSCRIBE,
    "spamreport": EventKind.COMPLAINT,
}
"""SendGrid's event types. SendGrid adds types without notice: any other is UNKNOWN."""

_SAYING = ("email", "event", "timestamp", "sg_message_id", "asm_group_id")
"""The fields by which an event is recognised when its id was changed."""
_GROUP_EVENTS = frozenset({"group_unsubscribe", "group_resubscribe"})
_EARLIEST = 1_230_768_000.0
"""2009, when SendGrid began. An earlier timestamp is no time: it would order a withdrawal before every consent."""
_MILLISECONDS_FROM = 1e11
"""Some events carry milliseconds; as seconds this would be the year 5138."""

_BARE = "\ud800"
"""Where ``raw`` keeps an item that is no JSON object. Half a surrogate pair: no field that was read has such a name."""
_ECDSA = ec.ECDSA(Prehashed(SHA256()))
_PLAIN_ID = re.compile(r"[A-Za-z0-9_.=+/-]{1,128}")
_RECIPIENT = re.compile(r"[0-9a-f]{32}")
_CAMPAIGN = re.compile(r"[a-z0-9_-]{1,64}")
_SINGLE_SEND = re.compile(SINGLE_SEND.format(campaign=f"({_CAMPAIGN.pattern})", half="(?:tracked|untracked)"))
_client_of = lru_cache(maxsize=2_048)(client_of)
"""A few user agents open most of the mail."""


class _Typed(msgspec.Struct, gc=False):
    event: str


_TYPES = msgspec.json.Decoder(list[_Typed])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


class SendGridCodec:
    """Verifies and reads SendGrid's callbacks.

    Args:
        settings: For the verification keys and the tolerances.
        secrets: The environment, for further verification keys.

    Raises:
        SettingsError: no verification key, or one that is not a P-256 key in base64 SPKI.
    """

    def __init__(self, settings: SendGridSettings, secrets: Mapping[str, str] = MappingProxyType({})) -> None:
        keys = public_keys(settings, secrets)
        if not keys:
            raise KeyMissing(
                f"providers.sendgrid.webhook_public_keys, or {PUBLIC_KEYS_VARIABLE} in the environment: give the"
                " verification key that SendGrid shows under Settings, Mail Settings, Event Webhook, Signature"
                " Verification"
            )
        self._keys = [_public_key(text, place) for place, text in keys.items()]
        self._oldest = float(settings.tolerance_seconds)
        self._newest = float(settings.future_tolerance_seconds)

    def verify(self, request: WebhookRequest, *, now: datetime) -> VerifiedBody:
        """Prove that SendGrid signed this body, recently, with one of the keys.

        Raises:
            VerificationError: and nothing else, whatever the request holds.
        """
        timestamp = request.headers.get(TIMESTAMP_HEADER, "")
        signed_at = _signed_at(timestamp)
        self._check_age((now - signed_at).total_seconds())
        signature = _signature(request.headers.get(SIGNATURE_HEADER, ""))
        digest = hashlib.sha256(timestamp.encode("ascii"))
        digest.update(request.body)
        if not any(_signed(key, signature, digest.digest()) for key in self._keys):
            raise VerificationError(
                "sendgrid: signed with none of the keys in providers.sendgrid.webhook_public_keys and"
                f" {PUBLIC_KEYS_VARIABLE}; if the webhook was replaced, add its verification key"
            )
        return VerifiedBody(request.body, signed_at)

    def parse(self, body: VerifiedBody) -> Sequence[ProviderEvent]:
        """Read the events, in the order of the body.

        An item that cannot be read becomes a MALFORMED event, so that the others are not lost. A time
        that cannot be read is replaced by that of the signature: a withdrawal counts even without its date.

        Raises:
            PayloadError: and nothing else: the body as a whole is not a JSON array.
        """
        undated = body.signed_at or EPOCH
        try:
            return [_event(item, undated) for item in _items(body.body)]
        except RecursionError:
            raise PayloadError("sendgrid: the callback's body is nested too deeply") from None

    def sift(self, body: VerifiedBody, idle: Collection[EventKind]) -> tuple[Sequence[ProviderEvent], int]:
        """Read the events but those of ``idle`` kinds, and answer how many of these there were.

        The others are what ``parse`` gives. Three of four events say that mail was processed, delivered or clicked
        on: of those only the type is looked at.

        Raises:
            PayloadError: as ``parse``.
        """
        undated = body.signed_at or EPOCH
        try:
            kinds = [KINDS.get(each.event) for each in _TYPES.decode(body.body)]
            items = zip(kinds, _ITEMS.decode(body.body), strict=True)
            events = [_event(msgspec.json.decode(item), undated) for kind, item in items if kind not in idle]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # Something in it is not as documented, so that each item must be looked at by itself.
            everything = self.parse(body)
            events = [event for event in everything if event.kind not in idle]
            return events, len(everything) - len(events)
        return events, len(kinds) - len(events)

    def letter(self, body: VerifiedBody, event: ProviderEvent) -> bytes:
        """The event alone, as a body with one item; the whole body where that cannot be written."""
        bare = event.kind is EventKind.MALFORMED and event.raw.keys() == {_BARE}
        try:
            # Not by msgspec, which turns NaN into null.
            return json.dumps([event.raw[_BARE] if bare else event.raw], ensure_ascii=False).encode()
        except RecursionError:
            return body.body

    def _check_age(self, seconds: float) -> None:
        if seconds > self._oldest:
            raise VerificationError(
                "sendgrid: the callback is older than providers.sendgrid.tolerance_seconds allows; if it is genuine,"
                " check this machine's clock"
            )
        if -seconds > self._newest:
            raise VerificationError(
                "sendgrid: the callback lies further in the future than providers.sendgrid.future_tolerance_seconds"
                " allows; check this machine's clock"
            )


def verification_key(text: str) -> ec.EllipticCurvePublicKey | None:
    """A verification key as SendGrid shows it (base64 SPKI, P-256); None when it is no such key."""
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1) else None


def _public_key(text: str, place: str) -> ec.EllipticCurvePublicKey:
    key = verification_key(text)
    if key is None:
        raise SettingsError(
            f"{place}: not a P-256 public key in base64; copy the whole verification key from SendGrid's Event Webhook"
            " settings"
        )
    return key


def _signed_at(timestamp: str) -> datetime:
    if timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 11:  # noqa: PLR2004 - seconds until 5138
        return datetime.fromtimestamp(int(timestamp), UTC)
    raise VerificationError(
        "sendgrid: no readable timestamp header; switch Signature Verification on in SendGrid's Event Webhook settings"
    )


def _signature(text: str) -> bytes:
    try:
        signature = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    if not signature:
        raise VerificationError(
            "sendgrid: no readable signature header; switch Signature Verification on in SendGrid's Event Webhook"
            " settings"
        )
    return signature


def _signed(key: ec.EllipticCurvePublicKey, signature: bytes, digest: bytes) -> bool:
    try:
        key.verify(signature, digest, _ECDSA)
    except InvalidSignature:
        return False
    return True


def _items(body: bytes) -> list[object]:
    try:
        items = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        items = _lenient(body)
    if not isinstance(items, list):
        raise PayloadError("sendgrid: the callback's body is not a JSON array of events")
    return items


def _lenient(body: bytes) -> object:
    """The same with what strict JSON refuses: half a surrogate pair in one user agent must not cost a withdrawal."""
    try:
        return mended(json.loads(body.decode("utf-8", "replace")))
    except ValueError:
        raise PayloadError("sendgrid: the callback's body is not JSON") from None


def _event(item: object, undated: datetime) -> ProviderEvent:
    native = item.get("event") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(native, str) or not native:
        return _malformed(item, undated)
    client = _client_of((_text(item.get("useragent")) or "")[:LONGEST]) if native == "open" else UNSAID
    return ProviderEvent(
        provider=NAME,
        kind=KINDS.get(native, EventKind.UNKNOWN),
        native_type=native,
        occurred_at=_time(item.get("timestamp")) or undated,
        keys=_keys(item),
        address=_text(item.get("email")),
        recipient_tag=_matching(_RECIPIENT, item.get(RECIPIENT_ARG)),
        campaign=_matching(_CAMPAIGN, item.get(CAMPAIGN_ARG)) or _of_single_send(item.get("singlesend_name")),
        topic=_topic(item.get("asm_group_id")) if native in _GROUP_EVENTS else None,
        machine=native == "open" and (client.machine or item.get("sg_machine_open") in (True, "true")),
        client=client.family,
        raw=item,
    )


def _malformed(item: object, undated: datetime) -> ProviderEvent:
    digest = hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()
    return ProviderEvent(
        provider=NAME,
        kind=EventKind.MALFORMED,
        native_type="malformed",
        occurred_at=undated,
        keys=(f"{NAME}:malformed:{digest}",),
        raw=item if isinstance(item, dict) else {_BARE: item},
    )


def _keys(item: Mapping[str, object]) -> tuple[str, ...]:
    """SendGrid changes ``sg_event_id`` on some repetitions, so what the event says is a second key."""
    says = [item.get(name) for name in _SAYING]
    content = f"{NAME}:content:{hashlib.sha256(msgspec.json.encode(says)).hexdigest()}"
    given = item.get("sg_event_id")
    if not isinstance(given, str) or not given:
        return (content,)
    if not _PLAIN_ID.fullmatch(given):
        given = hashlib.sha256(given.encode()).hexdigest()
    return f"{NAME}:id:{given}", content


def _time(value: object) -> datetime | None:
    """An event's timestamp: epoch seconds, or milliseconds; None when it is neither."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:  # noqa: PLR2004 - 64 bits
        value = int(value)
    if not isinstance(value, int | float):
        return None
    try:
        seconds = value / 1000 if value >= _MILLISECONDS_FROM else float(value)
        return datetime.fromtimestamp(seconds, UTC) if seconds >= _EARLIEST else None
    except (ValueError, OverflowError, OSError):
        return None


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _matching(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _of_single_send(name: object) -> str | None:
    """The campaign of a Single Send that this product made: such mail carries no custom argument."""
    found = _SINGLE_SEND.match(name) if isinstance(name, str) else None
    return found.group(1) if found else None


def _topic(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value)
