"""What Amazon SES publishes, in the terms that are common to all providers. No I/O.

Source: "Contents of event data that Amazon SES publishes to Amazon SNS" and the examples beside it in the Amazon SES
Developer Guide. One message holds one SES event; a change of several topics yields an event for each. What SES gives to
EventBridge has the same form (see ``event_bridge``).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from connectors.payloads import mended
from connectors.ses.settings import CAMPAIGN_TAG, NAME, RECIPIENT_TAG
from connectors.ses.sns import NOTIFICATION, SUBSCRIPTION_CONFIRMATION, Envelope
from core.machines import UNSAID, Client, client_of
from core.model import EPOCH, EventKind, ProviderEvent

KINDS: Mapping[str, EventKind] = {
    "Open": EventKind.OPEN,
    "Complaint": EventKind.COMPLAINT,
    "Bounce": EventKind.BOUNCE,
    "Send": EventKind.OTHER,
    "Delivery": EventKind.OTHER,
    "Reject": EventKind.OTHER,
    "Click": EventKind.OTHER,
    "Rendering Failure": EventKind.OTHER,
    "DeliveryDelay": EventKind.OTHER,
    "AmazonSnsSubscriptionSucceeded": EventKind.OTHER,
}
"""SES's event types but ``Subscription``, which says in its content what happened. Any other is UNKNOWN."""

VALIDATION = "Successfully validated SNS topic"
"""How the plain text begins that SES publishes once when a topic is made a destination (unconfirmed)."""

STATUSES: Mapping[str, bool] = {"OptIn": True, "OPT_IN": True, "OptOut": False, "OPT_OUT": False}
"""Subscription states as events spell them, and as the API does (whether events ever do is unconfirmed)."""

EARLIEST = datetime(2011, 1, 1, tzinfo=UTC)
"""SES began in January 2011. An earlier time is no time: it would order a withdrawal before every consent."""

_RECIPIENT = re.compile(r"[0-9a-f]{32}")
_CAMPAIGN = re.compile(r"[a-z0-9_-]{1,64}")

_Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Happening:
    """What one ProviderEvent says beyond the SES event that it comes from."""

    kind: EventKind
    address: str | None = None
    topic: str | None = None
    client: Client = UNSAID


def read(envelope: Envelope, signed_at: datetime | None) -> Sequence[ProviderEvent]:
    """The events in one SNS message. ``signed_at`` dates what carries no readable time of its own."""
    signed_at = signed_at or instant(envelope.timestamp) or EPOCH
    if envelope.type != NOTIFICATION:
        return [_sns_event(envelope, signed_at)]
    return published(decoded(envelope.message), envelope.message, signed_at, envelope.message_id)


def published(event: Mapping[str, object], text: str, undated: datetime, id_: str | None) -> Sequence[ProviderEvent]:
    """The events in what SES published.

    Args:
        event: It, decoded.
        text: It, as it came.
        undated: Dates what carries no readable time of its own.
        id_: What the service that carried it calls it; None where that is not known, as in raw delivery.
    """
    native = _text(event.get("eventType")) or _text(event.get("notificationType"))
    if native is None:
        return [_unreadable(text, undated)]
    section = _section(event, native)
    mail = _mapping(event.get("mail"))
    tags = _mapping(mail.get("tags"))
    alone = len(_texts(mail.get("destination"))) <= 1
    occurred_at = _event_time(section.get("timestamp")) or undated
    content = _content(event, native, section, mail) or text
    return [
        ProviderEvent(
            provider=NAME,
            kind=happening.kind,
            native_type=native,
            occurred_at=occurred_at,
            keys=(*id_keys(id_, place), f"{NAME}:content:{_digest(content)}:{place}"),
            address=happening.address,
            recipient_tag=_tag(tags, RECIPIENT_TAG, _RECIPIENT) if alone else None,
            campaign=_tag(tags, CAMPAIGN_TAG, _CAMPAIGN),
            topic=happening.topic,
            machine=happening.client.machine,
            client=happening.client.family,
            raw=event,
        )
        for place, happening in enumerate(_happenings(native, section, mail))
    ]


def instant(text: str) -> datetime | None:
    """An ISO 8601 time in UTC; None when it cannot be read. A time without zone is taken as UTC."""
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _happenings(native: str, section: _Json, mail: _Json) -> Iterator[_Happening]:
    sent_to = _texts(mail.get("destination"))
    only = sent_to[0] if len(sent_to) == 1 else None
    match native:
        case "Subscription":
            yield from _preference_changes(section, only)
        case "Complaint" if section.get("complaintFeedbackType") == "not-spam":
            yield _Happening(EventKind.OTHER, only)
        case "Complaint" | "Bounce":
            named = _recipients(section, "complainedRecipients" if native == "Complaint" else "bouncedRecipients")
            for address in named or (only,):
                yield _Happening(KINDS[native], address)
        case "Open":
            yield _Happening(EventKind.OPEN, only, client=client_of(_text(section.get("userAgent")) or ""))
        case _:
            yield _Happening(KINDS.get(native, EventKind.UNKNOWN), only)


def _preference_changes(section: _Json, address: str | None) -> Iterator[_Happening]:
    """What a Subscription event changed: everything was left, or topics were left or joined one by one.

    An event without any change repeats the state that it names: a person who is unsubscribed from all and acted again
    must not be overlooked. What is not clear counts as left.
    """
    old, new = _mapping(section.get("oldTopicPreferences")), section.get("newTopicPreferences")
    if not isinstance(new, dict):
        yield _Happening(EventKind.UNKNOWN, address)
        return
    left_before, left = old.get("unsubscribeAll") is True, new.get("unsubscribeAll", False) is not False
    before = dict(_memberships(old))
    changes = [
        _Happening(EventKind.RESUBSCRIBE if joined else EventKind.TOPIC_UNSUBSCRIBE, address, topic)
        for topic, joined in _memberships(new)
        if before.get(topic) is not (joined is True)
    ]
    if left and not (left_before and changes):
        yield _Happening(EventKind.UNSUBSCRIBE, address)
        return
    if left_before and not left:
        yield _Happening(EventKind.RESUBSCRIBE, address)
    yield from changes
    if not changes and not left_before:
        yield _Happening(EventKind.OTHER, address)


def _memberships(preferences: _Json) -> Iterator[tuple[str, bool | None]]:
    """Each topic and whether the person is in it; None when that cannot be read."""
    states = preferences.get("topicSubscriptionStatus")
    for state in states if isinstance(states, list) else []:
        topic = _text(_mapping(state).get("topicName"))
        if topic:
            yield topic, STATUSES.get(_text(_mapping(state).get("subscriptionStatus")) or "")


def _sns_event(envelope: Envelope, signed_at: datetime) -> ProviderEvent:
    """A message of SNS itself. The token is kept for ConfirmSubscription; SubscribeURL is not, so nobody asks it."""
    confirmation = envelope.type == SUBSCRIPTION_CONFIRMATION
    return ProviderEvent(
        provider=NAME,
        kind=EventKind.CONFIRMATION if confirmation else EventKind.OTHER,
        native_type=envelope.type,
        occurred_at=signed_at,
        keys=id_keys(envelope.message_id),
        raw={"Type": envelope.type, "TopicArn": envelope.topic_arn, "Token": envelope.token},
    )


def _unreadable(text: str, undated: datetime) -> ProviderEvent:
    """Not an SES event: SES's word that the topic works, else something that nobody can read."""
    validation = text.startswith(VALIDATION)
    return ProviderEvent(
        provider=NAME,
        kind=EventKind.OTHER if validation else EventKind.MALFORMED,
        native_type="validation" if validation else "malformed",
        occurred_at=undated,
        keys=(f"{NAME}:malformed:{_digest(text)}",),
    )


def id_keys(id_: str | None, place: int = 0) -> tuple[str, ...]:
    """The key of what has an id, which is the same in all repetitions: of the event at a place in a message."""
    return () if id_ is None else (f"{NAME}:id:{_digest(id_)}:{place}",)


def _content(event: _Json, native: str, section: _Json, mail: _Json) -> str | None:
    """What makes an event this one, spelt alike on every route, should SES publish it by two of them.

    The type, the mail's id and the part of that type, as far as they are there: that every route carries the same
    ``mail`` to the letter is unconfirmed. None when it is nested too deeply to be spelt.
    """
    message = _text(mail.get("messageId"))
    telling = [native, message, section] if message and section else event
    try:
        return json.dumps(telling, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def decoded(message: str) -> Mapping[str, object]:
    """The JSON object in a message; empty when there is none."""
    try:
        return _mapping(msgspec.json.decode(message))
    except RecursionError:
        return {}
    except ValueError:
        return _lenient(message)


def _lenient(message: str) -> _Json:
    """The same with what strict JSON refuses: half a surrogate pair in one user agent must not cost a withdrawal."""
    try:
        return _mapping(mended(json.loads(message)))
    except (ValueError, RecursionError):
        return {}


def _section(event: _Json, native: str) -> _Json:
    """The part of the event that is named after its type: ``open`` for Open, ``deliveryDelay`` for DeliveryDelay."""
    return _mapping(event.get("failure" if native == "Rendering Failure" else native[:1].lower() + native[1:]))


def _recipients(section: _Json, name: str) -> list[str]:
    listed = section.get(name)
    found = [_text(_mapping(each).get("emailAddress")) for each in (listed if isinstance(listed, list) else [])]
    return [address for address in found if address]


def _event_time(value: object) -> datetime | None:
    time = instant(value) if isinstance(value, str) else None
    return time if time is not None and time >= EARLIEST else None


def _tag(tags: _Json, name: str, pattern: re.Pattern[str]) -> str | None:
    values = _texts(tags.get(name))
    return values[0] if len(values) == 1 and pattern.fullmatch(values[0]) else None


def _texts(value: object) -> list[str]:
    return [text for text in map(_text, value) if text] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _mapping(value: object) -> _Json:
    return value if isinstance(value, dict) else {}
