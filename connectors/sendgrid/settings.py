"""``[providers.sendgrid]`` and the names under which this product's data stands at SendGrid."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

NAME = "sendgrid"
KEY_VARIABLE = "SENDGRID_API_KEY"

RECIPIENT_ARG = "pixelproof_recipient"
"""The custom argument with the pseudonymous recipient (hex); SendGrid repeats it in each event."""

CAMPAIGN_ARG = "pixelproof_campaign"
"""The custom argument with the campaign's name."""

DAY = 86_400
"""Seconds."""

_LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})


def confidential(url: str) -> bool:
    """Whether what is asked and answered there stays unread on the way: https, or this machine itself."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL))


class SendGridSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[providers.sendgrid]`` of the settings file; the API key comes from ``SENDGRID_API_KEY`` alone.

    Attributes:
        api_url: The API's address; ``https://api.eu.sendgrid.com`` for accounts in the EU. Plain http is taken for
            this machine alone, since the key travels with each request.
        webhook_public_keys: The verification keys of the signed Event Webhooks (base64 SPKI, as SendGrid shows
            them). Several are tried: SendGrid rotates no key, so a new webhook is installed beside the old one.
        tolerance_seconds: How old a signed callback may be. SendGrid repeats a refused one for 24 hours, and
            repetitions after 29 hours have been seen; whether it signs those anew is unconfirmed. Two days cover
            both: a repeated withdrawal must not be refused as stale, and repetitions are recognised by their keys.
        future_tolerance_seconds: How far a callback's timestamp may lie ahead of this machine's clock.
        list_prefix: Consent lists are named ``<prefix>-<purpose>``.
        unsubscribe_group_id: SendGrid's unsubscribe group for the mails sent from here; without one the account's
            own unsubscribe link (Subscription Tracking) holds.
        timeout_seconds: After how long a single request is given up.
        patience_seconds: How long to wait for SendGrid to finish an import or an export.
    """

    api_url: str = "https://api.sendgrid.com"
    webhook_public_keys: list[str] = msgspec.field(default_factory=list)
    tolerance_seconds: Annotated[int, Meta(ge=DAY, le=30 * DAY)] = 2 * DAY
    future_tolerance_seconds: Annotated[int, Meta(ge=0, le=DAY)] = 300
    list_prefix: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,30}\Z")] = "pixelproof"
    unsubscribe_group_id: Annotated[int, Meta(ge=1)] | None = None
    timeout_seconds: Annotated[float, Meta(gt=0, le=300)] = 30.0
    patience_seconds: Annotated[float, Meta(gt=0, le=DAY)] = 1_800.0
