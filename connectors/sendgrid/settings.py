"""``[providers.sendgrid]`` and the names under which this product's data stands at SendGrid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

NAME = "sendgrid"
KEY_VARIABLE = "SENDGRID_API_KEY"

SUBUSER_KEY_VARIABLES = {"tracked": "SENDGRID_API_KEY_TRACKED", "untracked": "SENDGRID_API_KEY_UNTRACKED"}
"""The API keys of the two subusers, by half. Each subuser is spoken to with its own key alone."""

PUBLIC_KEYS_VARIABLE = "SENDGRID_WEBHOOK_PUBLIC_KEYS"
"""Verification keys of Event Webhooks, separated by commas, beside those of the settings file."""

RECIPIENT_ARG = "pixelproof_recipient"
"""The custom argument with the pseudonymous recipient (hex); SendGrid repeats it in each event."""

CAMPAIGN_ARG = "pixelproof_campaign"
"""The custom argument with the campaign's name."""

SINGLE_SEND = "pixelproof {campaign} {half} "
"""How the name of a campaign's Single Send begins; SendGrid repeats it in each event."""

DAY = 86_400
"""Seconds."""

SubuserName = Annotated[str, Meta(pattern=r"\A[^\s@,]{1,64}\Z")]
"""A subuser's user name. One that looks like an address is refused: it would stand in plans and messages."""

_LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})


def confidential(url: str) -> bool:
    """Whether what is asked and answered there stays unread on the way: https, or this machine itself."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL))


def public_keys(settings: SendGridSettings, secrets: Mapping[str, str]) -> dict[str, str]:
    """Every verification key that callbacks may be signed with, by the place where it stands (for messages)."""
    listed = {f"providers.{NAME}.webhook_public_keys[{n}]": key for n, key in enumerate(settings.webhook_public_keys)}
    given = filter(None, (key.strip() for key in secrets.get(PUBLIC_KEYS_VARIABLE, "").split(",")))
    return listed | {f"{PUBLIC_KEYS_VARIABLE}[{n}]": key for n, key in enumerate(given)}


class Subusers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[providers.sendgrid.subusers]``: two subusers, so that open tracking differs between two Single Sends.

    Attributes:
        tracked: The name of the subuser whose open tracking is on; its API key is in ``SENDGRID_API_KEY_TRACKED``.
        untracked: The name of the one whose open tracking is off; its key is in ``SENDGRID_API_KEY_UNTRACKED``.
    """

    tracked: SubuserName
    untracked: SubuserName


class SendGridSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[providers.sendgrid]`` of the settings file; the API key comes from ``SENDGRID_API_KEY`` alone.

    Attributes:
        api_url: The API's address; ``https://api.eu.sendgrid.com`` for accounts in the EU. Plain http is taken for
            this machine alone, since the key travels with each request.
        webhook_public_keys: The verification keys of the signed Event Webhooks (base64 SPKI, as SendGrid shows
            them), beside those in ``SENDGRID_WEBHOOK_PUBLIC_KEYS``. Several are tried: SendGrid rotates no key, so a
            new webhook is installed beside the old one.
        tolerance_seconds: How old a signed callback may be. SendGrid repeats a refused one for 24 hours, and
            repetitions after 29 hours have been seen; whether it signs those anew is unconfirmed. Two days cover
            both: a repeated withdrawal must not be refused as stale, and repetitions are recognised by their keys.
        future_tolerance_seconds: How far a callback's timestamp may lie ahead of this machine's clock.
        list_prefix: Consent lists are named ``<prefix>-<purpose>``.
        unsubscribe_group_id: SendGrid's unsubscribe group for the mails sent from here; without one the account's
            own unsubscribe link (Subscription Tracking) holds.
        subusers: Two subusers for campaigns with ``content.via = "subusers"``; None sends by Mail Send alone.
        timeout_seconds: After how long a single request is given up.
        patience_seconds: How long to wait for SendGrid to finish an import or an export.
    """

    api_url: str = "https://api.sendgrid.com"
    webhook_public_keys: list[str] = msgspec.field(default_factory=list)
    tolerance_seconds: Annotated[int, Meta(ge=DAY, le=30 * DAY)] = 2 * DAY
    future_tolerance_seconds: Annotated[int, Meta(ge=0, le=DAY)] = 300
    list_prefix: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,30}\Z")] = "pixelproof"
    unsubscribe_group_id: Annotated[int, Meta(ge=1)] | None = None
    subusers: Subusers | None = None
    timeout_seconds: Annotated[float, Meta(gt=0, le=300)] = 30.0
    patience_seconds: Annotated[float, Meta(gt=0, le=DAY)] = 1_800.0
