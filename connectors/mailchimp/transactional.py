"""The webhooks of Mailchimp Transactional (Mandrill), inbound: proven, then read. No I/O and no SDK.

Sources: Mailchimp Transactional's help pages "How to Authenticate Webhook Requests", "Webhook Format", "Message Event
Webhook Format", "Sync Event Webhook Format" and "Why can't my webhook or inbound route URL be verified?". None of it
could be tried on a live account: all is *unconfirmed*.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from binascii import a2b_qp
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha1, sha256
from urllib.parse import urlencode

import msgspec

from connectors.mailchimp.settings import (
    CAMPAIGN_METADATA,
    NAME,
    RECIPIENT_METADATA,
    TEST_KEY,
    TRANSACTIONAL,
    TRANSACTIONAL_KEYS,
)
from connectors.payloads import mended
from core.errors import PayloadError, VerificationError
from core.machines import UNSAID, client_of
from core.model import EPOCH, EventKind, ProviderEvent, VerifiedBody, WebhookRequest

SIGNATURE_HEADER = "x-mandrill-signature"
EVENTS = b"mandrill_events"
"""The form's field with the events: a JSON array of up to 1,000."""
MOST_FIELDS = 100
"""Fields of one form; Mandrill sends one."""

KINDS: Mapping[str, EventKind] = {
    "send": EventKind.OTHER,
    "delivered": EventKind.OTHER,
    "deferral": EventKind.OTHER,
    "click": EventKind.OTHER,
    "inbound": EventKind.OTHER,
    "hard_bounce": EventKind.BOUNCE,
    "soft_bounce": EventKind.BOUNCE,
    "reject": EventKind.BOUNCE,
    "open": EventKind.OPEN,
    "spam": EventKind.COMPLAINT,
    "unsub": EventKind.UNSUBSCRIBE,
}
"""What Mandrill's events about messages mean. It adds some without notice: any other is UNKNOWN."""

SAFELISTS = frozenset({"whitelist", "safelist"})
DENYLISTS = frozenset({"blacklist", "denylist"})
"""Both names of each list; which one Mandrill writes nowadays is unconfirmed."""

REASONS: Mapping[str, EventKind] = {
    "hard-bounce": EventKind.BOUNCE,
    "soft-bounce": EventKind.BOUNCE,
    "spam": EventKind.COMPLAINT,
    "unsub": EventKind.UNSUBSCRIBE,
    "custom": EventKind.OTHER,
}
"""Why an address came onto the denylist: whoever unsubscribed or complained did so, whatever it was told by.

``custom``: the team put it there by hand, which says nothing about the person.
"""

_DATED = frozenset({EventKind.OPEN, EventKind.COMPLAINT, EventKind.UNSUBSCRIBE})
"""What is put in order by its time: without one it is not understood."""
_EARLIEST = 1_230_768_000
"""2009, before Mandrill began. An earlier time is none: it would order a withdrawal before every consent."""

_NOT_KEPT = frozenset({"ip", "location", "user_agent_parsed"})
_NOT_KEPT_OF_MESSAGES = frozenset({"opens", "clicks"})
"""Where an event tells from where somebody read. No part of this product looks at it."""
_BARE = ""
"""Where ``raw`` keeps an item that is no JSON object; Mandrill names no field so."""

_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TO_QUOTED_PRINTABLE = bytes.maketrans(b"%+", b"= ")

_RECIPIENT = re.compile(r"[0-9a-f]{32}")
_CAMPAIGN = re.compile(r"[a-z0-9_-]{1,64}")


class Transactional:
    """Verifies and reads the webhooks of Mailchimp Transactional, for ``connectors.mailchimp.codec``.

    A request is proven by ``X-Mandrill-Signature``: base64 of HMAC-SHA1 over the webhook's address, exactly as it was
    entered at Mandrill, followed by every field's name and value, sorted by name. **It carries no time**, so nobody
    can tell an old request from a new one: what stops a replay is that each event takes effect once.

    Args:
        keys: The webhooks' keys; whichever fits proves the request.
        urls: Their addresses.
    """

    def __init__(self, keys: Sequence[str], urls: Sequence[str]) -> None:
        self._keys = tuple(key.encode() for key in keys)
        self._urls = tuple(url.encode() for url in urls)

    def verify(self, request: WebhookRequest) -> VerifiedBody:
        """Prove that Mandrill sent this. Raises VerificationError and nothing else.

        Without any key the error is transient: the webhook gets one only when it is made, and delivers at once. An
        empty batch may also be signed with the key that everybody knows: so Mandrill tries an address.
        """
        form = _form(request.body)
        # The signature runs names and values together: what is signed must not be cut up into other fields.
        if EVENTS not in form:
            raise VerificationError(f"{NAME}: the request is signed as Mandrill's and holds no events")
        given = request.headers.get(SIGNATURE_HEADER, "").strip().encode(errors="replace")
        signed = b"".join(name + form[name] for name in sorted(form))
        tried = form == {EVENTS: b"[]"} and self._fits(given, signed, (TEST_KEY.encode(),))
        if not self._fits(given, signed, self._keys) and not tried:
            raise VerificationError(
                f"{NAME}: Mandrill's signature fits none of the keys in {TRANSACTIONAL_KEYS} for any of the addresses"
                f" in providers.{NAME}.transactional_urls, which must stand there as they were entered at Mandrill",
                transient=not self._keys,
            )
        return VerifiedBody(request.body)

    def _fits(self, given: bytes, signed: bytes, keys: Sequence[bytes]) -> bool:
        expected = [base64.b64encode(hmac.new(key, url + signed, sha1).digest()) for key in keys for url in self._urls]
        return any([hmac.compare_digest(one, given) for one in expected])  # noqa: C419 - all, in constant time


def is_batch(body: bytes) -> bool:
    """Whether a proven body is one of Mandrill's; audience webhooks have no field of that name."""
    return any(_plain(field.partition(b"=")[0]) == EVENTS for field in body.split(b"&", MOST_FIELDS))


def parse(body: bytes) -> Sequence[ProviderEvent]:
    """Read the events, in the order of the array. Raises PayloadError and nothing else: it is no JSON array.

    An item that cannot be read becomes a MALFORMED event, so that the others are not lost. So does an open or a
    withdrawal without a time: nothing else says when it happened.
    """
    try:
        return [_event(item) for item in _items(_form(body).get(EVENTS, b""))]
    except VerificationError:
        raise PayloadError(f"{NAME}: Mandrill's callback is not a form") from None
    except RecursionError:
        raise PayloadError(f"{NAME}: Mandrill's events are nested too deeply") from None


def letter(body: VerifiedBody, event: ProviderEvent) -> bytes:
    """The event alone, as a form whose array has one item; the whole form where that cannot be written."""
    bare = event.raw.keys() == {_BARE} and not isinstance(event.raw[_BARE], dict)
    try:
        # Not in ASCII: an address must be found again in whatever is kept.
        text = json.dumps([event.raw[_BARE] if bare else event.raw], ensure_ascii=False)
    except RecursionError:
        return body.body
    return urlencode({EVENTS: text}).encode()


def _form(body: bytes) -> dict[bytes, bytes]:
    """The form's fields as the bytes that are signed; raises VerificationError for what Mandrill never sends."""
    fields = body.split(b"&", MOST_FIELDS)
    if len(fields) > MOST_FIELDS or _NO_ESCAPE.search(body):
        raise VerificationError(f"{NAME}: the request is not a form as Mandrill sends it")
    parts = [field.partition(b"=") for field in fields if field]
    return {_plain(name): _plain(value) for name, _, value in parts}


def _plain(text: bytes) -> bytes:
    """A name or value without its escapes.

    A form must be read before anybody knows who sent it, and the standard library's reader of forms takes half a second
    for 6 MB of escapes, in which nobody else is answered. That of quoted-printable is compiled and escapes alike.
    """
    return a2b_qp(text.replace(b"=", b"%3D").translate(_TO_QUOTED_PRINTABLE))


def _items(text: bytes) -> list[object]:
    try:
        items = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        items = _lenient(text)
    if not isinstance(items, list):
        raise PayloadError(f"{NAME}: Mandrill's events are not a JSON array")
    return items


def _lenient(text: bytes) -> object:
    """The same with what strict JSON refuses: half a surrogate pair in one user agent must not cost a withdrawal."""
    try:
        return mended(json.loads(text.decode("utf-8", "replace")))
    except ValueError:
        raise PayloadError(f"{NAME}: Mandrill's events are not JSON") from None


def _event(item: object) -> ProviderEvent:
    if not isinstance(item, dict):
        return _malformed({_BARE: item})
    native, kind = _meaning(item)
    at = _time(item.get("ts"))
    if kind is EventKind.MALFORMED or (at is None and kind in _DATED):
        return _malformed(item)
    message = _part(item, "msg")
    address = _text(message.get("email")) or _text(_part(item, "reject").get("email"))
    metadata = _part(message, "metadata")
    agent = item.get("user_agent")
    client = client_of(agent) if kind is EventKind.OPEN and isinstance(agent, str) else UNSAID
    said = [native, item.get("_id"), item.get("ts"), address, item.get("url"), agent]
    return ProviderEvent(
        provider=NAME,
        kind=kind,
        native_type=native,
        occurred_at=at or EPOCH,
        keys=(f"{NAME}:{TRANSACTIONAL}:{_digest(said)}",),
        address=address,
        recipient_tag=_matching(_RECIPIENT, metadata.get(RECIPIENT_METADATA)),
        campaign=_matching(_CAMPAIGN, metadata.get(CAMPAIGN_METADATA)),
        machine=client.machine,
        client=client.family,
        raw=_kept(item),
    )


def _malformed(item: Mapping[str, object]) -> ProviderEvent:
    raw = {name: value for name, value in _kept(item).items() if name != "user_agent"}
    return ProviderEvent(
        provider=NAME,
        kind=EventKind.MALFORMED,
        native_type="malformed",
        occurred_at=EPOCH,
        keys=(f"{NAME}:malformed:{_digest(raw)}",),
        raw=raw,
    )


def _meaning(item: Mapping[str, object]) -> tuple[str, EventKind]:
    """An event's name and what it means; ``MALFORMED`` when it has no name."""
    event, listed = _text(item.get("event")), _text(item.get("type"))
    if event is not None:
        return event, KINDS.get(event, EventKind.UNKNOWN)
    if listed is None:
        return "", EventKind.MALFORMED
    action, reason = _text(item.get("action")), _text(_part(item, "reject").get("reason"))
    return " ".join(filter(None, (listed, action, reason))), _of_list(listed, action, reason)


def _of_list(listed: str, action: str | None, reason: str | None) -> EventKind:
    """What a change of Mandrill's lists of addresses means."""
    if listed in SAFELISTS or (listed in DENYLISTS and action == "remove"):
        return EventKind.OTHER
    if listed in DENYLISTS and action in {"add", "change"}:
        return REASONS.get(reason or "", EventKind.UNKNOWN)
    return EventKind.UNKNOWN


def _time(value: object) -> datetime | None:
    """An event's time, in epoch seconds; None when it is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 11:  # noqa: PLR2004 - year 5138
        value = int(value)
    if not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC) if value >= _EARLIEST else None
    except (ValueError, OverflowError, OSError):
        return None


def _kept(item: Mapping[str, object]) -> dict[str, object]:
    """An event without what tells from where somebody read."""
    kept = {name: value for name, value in item.items() if name not in _NOT_KEPT}
    if isinstance(message := item.get("msg"), dict):
        kept["msg"] = {name: value for name, value in message.items() if name not in _NOT_KEPT_OF_MESSAGES}
    return kept


def _part(item: Mapping[str, object], name: str) -> Mapping[str, object]:
    """An object inside of another; empty where there is none (PHP writes an empty one as an array)."""
    part = item.get(name)
    return part if isinstance(part, dict) else {}


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _matching(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _digest(said: object) -> str:
    """What is said, hashed: it has addresses in it."""
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
