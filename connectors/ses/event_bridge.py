"""SES's events as Amazon EventBridge delivers them: their form, where they must come from, what is in them. No I/O.

Nothing of this is signed: over HTTPS a key proves where it comes from, in a queue the queue's own access policy.

Source: "Amazon Simple Email Service events" in the Amazon EventBridge Events Reference and "Monitoring SES events using
Amazon EventBridge" in the Amazon SES Developer Guide: ``detail`` has the form of what SES publishes to SNS. That it is
the same to the letter is *unconfirmed*. SES delivers to EventBridge by its best effort: an event may be missing.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from connectors.payloads import mended
from connectors.ses.events import id_keys, instant, published
from connectors.ses.settings import NAME, SesSettings, accounts
from core.errors import SettingsError, VerificationError
from core.model import EPOCH, EventKind, ProviderEvent

KEYS_VARIABLE = "SES_EVENTBRIDGE_KEYS"
"""The environment variable with the keys of API destinations, separated by commas; all of them are valid."""

SHORTEST_KEY = 32
"""Characters of a key."""

SOURCE = "aws.ses"

RETRIED = 90_000
"""Seconds: EventBridge repeats for 24 hours; an hour more for SES and for clocks."""

NOT_MAIL = frozenset(
    {
        "Advisor Recommendation Status Open",
        "Advisor Recommendation Status Resolved",
        "Sending Status Enabled",
        "Sending Status Disabled",
        "AWS API Call via CloudTrail",
        "AWS Service Event via CloudTrail",
    }
)
"""``detail-type`` of what comes from ``aws.ses`` and is not about a mail. What is comes as ``Email …``."""

_ABOUT_MAIL = "Email "


class BridgeEvent(msgspec.Struct, frozen=True):
    """An event of EventBridge, as far as it is needed."""

    id: str
    source: str
    region: str
    time: str
    detail: dict[str, object]
    detail_type: str = msgspec.field(name="detail-type")
    account: str = ""


_DECODER = msgspec.json.Decoder(BridgeEvent)


def open_event(body: bytes) -> BridgeEvent | None:
    """The event in a body; None when it holds none."""
    try:
        return _DECODER.decode(body)
    except RecursionError:
        return None
    except ValueError:
        return _lenient(body)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where SES's events must come from.

    Attributes:
        region: That of SES.
        accounts: Those of the allowed topics, which are SES's; empty where no topic is named.
    """

    region: str
    accounts: Collection[str]

    @classmethod
    def of(cls, settings: SesSettings) -> Origin:
        """As the settings have it; raises SettingsError when a topic is wrong."""
        return cls(settings.region, accounts(settings))

    def check(self, event: BridgeEvent) -> datetime:
        """The time of an event of SES's; raises VerificationError for one that comes from elsewhere."""
        if event.source != SOURCE:
            raise VerificationError(
                f"ses: EventBridge's event does not come from {SOURCE}; let the rule match only that"
            )
        if event.region != self.region:
            raise VerificationError("ses: EventBridge's event comes from another region than providers.ses.region")
        if self.accounts and event.account not in self.accounts:
            raise VerificationError("ses: EventBridge's event comes from another account than providers.ses.topic_arns")
        time = instant(event.time)
        if time is None:
            raise VerificationError("ses: EventBridge's event has no readable time")
        return time


def api_keys(secrets: Mapping[str, str]) -> tuple[bytes, ...]:
    """The keys of API destinations, from the environment.

    Raises:
        SettingsError: one is too short, or has characters that no header carries.
    """
    keys = [key.strip() for key in secrets.get(KEYS_VARIABLE, "").split(",") if key.strip()]
    for place, key in enumerate(keys, 1):
        if len(key) < SHORTEST_KEY or not (key.isascii() and key.isprintable()) or " " in key:
            raise SettingsError(
                f"{KEYS_VARIABLE}: entry {place} is no key: at least {SHORTEST_KEY} printable ASCII characters, such as"
                " `openssl rand -hex 32` gives"
            )
    return tuple(key.encode() for key in keys)


def is_key(given: str, keys: Sequence[bytes]) -> bool:
    """Whether a header holds one of the keys; all are compared, in constant time."""
    value = given.encode("utf-8", "replace")
    matches = [hmac.compare_digest(value, key) for key in keys]
    return any(matches)


def bridged(event: BridgeEvent, signed_at: datetime | None) -> Sequence[ProviderEvent]:
    """What happened to a mail; anything else of SES's becomes one event without effect."""
    undated = signed_at or instant(event.time) or EPOCH
    if event.detail_type.startswith(_ABOUT_MAIL):
        return published(event.detail, _text(event), undated, event.id)
    known = event.detail_type in NOT_MAIL
    return [
        ProviderEvent(
            provider=NAME,
            kind=EventKind.OTHER if known else EventKind.UNKNOWN,
            native_type=event.detail_type,
            occurred_at=undated,
            keys=id_keys(event.id),
            raw=event.detail,
        )
    ]


def _text(event: BridgeEvent) -> str:
    """What stands for the content where it is no event of SES's, or nested too deeply."""
    try:
        return json.dumps(event.detail, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        return event.id


def _lenient(body: bytes) -> BridgeEvent | None:
    """The same with what strict JSON refuses: half a surrogate pair in one user agent must not cost a withdrawal."""
    try:
        return msgspec.convert(mended(json.loads(body)), BridgeEvent)
    except (ValueError, RecursionError):
        return None
