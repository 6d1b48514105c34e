"""What the user configures for Mailchimp: ``[providers.mailchimp]`` and the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from core.errors import SettingsError

NAME = "mailchimp"

API_KEY = "MAILCHIMP_API_KEY"
"""Environment: the API key with its data centre, ``<key>-us6``."""
WEBHOOK_SECRETS = "MAILCHIMP_WEBHOOK_SECRETS"
"""Environment: the webhooks' signing secrets, comma separated; Mailchimp shows each once, when it is created."""
PATH_SECRET = "MAILCHIMP_WEBHOOK_PATH_SECRET"  # noqa: S105 - the name of a variable
"""Environment: the last part of the URL of webhooks that are too old to be signed."""

_KEY = re.compile(r"[A-Za-z0-9]+-([a-z]{2,3}[0-9]{1,3})")
_SECRET = re.compile(r"[!-~]+")
_PATH_SECRET = re.compile(r"[A-Za-z0-9_-]{16,128}")
_LIST_ID = re.compile(r"[A-Za-z0-9]{1,64}")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,16}")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class MailchimpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[providers.mailchimp]``.

    Attributes:
        list_id: The audience's ID, as under Audience > Settings in Mailchimp.
        segment_prefix: What the names of this product's segments and campaigns begin with (1 to 16 letters, digits,
            ``_`` and ``-``). Two installations on one audience need two.
        api_url: The API's address with its version, ``https://us6.api.mailchimp.com/3.0``; made of the key's data
            centre when left out. Only https, but for this very machine.
        timeout_seconds: How long one request may take. Mailchimp itself gives up after 120.
        tolerance_seconds: How old a signed callback may be. Mailchimp repeats one for 75 minutes (it is unconfirmed
            whether it signs again), and a repeated withdrawal must be taken: what stops replays is deduplication.
    """

    list_id: str
    segment_prefix: str = "pixelproof"
    api_url: str | None = None
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=600)] = 120.0
    tolerance_seconds: Annotated[int, msgspec.Meta(ge=300)] = 7_200


def check(settings: MailchimpSettings) -> None:
    """Refuse what would end up in URLs and names; raises SettingsError naming the setting."""
    if not _LIST_ID.fullmatch(settings.list_id):
        raise SettingsError(f"providers.{NAME}.list_id: give the audience's ID, letters and digits only")
    if not _PREFIX.fullmatch(settings.segment_prefix):
        raise SettingsError(f"providers.{NAME}.segment_prefix: 1 to 16 letters, digits, '_' or '-'")


def api_access(settings: MailchimpSettings, secrets: Mapping[str, str]) -> tuple[str, str]:
    """The API's address and key; raises SettingsError naming what is missing or malformed."""
    key = secrets.get(API_KEY, "").strip()
    centre = _KEY.fullmatch(key)
    if centre is None:
        raise SettingsError(f"{API_KEY}: set it to an API key with its data centre, such as <key>-us6")
    address = settings.api_url or f"https://{centre[1]}.api.mailchimp.com/3.0"
    parts = urlsplit(address)
    if not parts.hostname or (parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
        raise SettingsError(f"providers.{NAME}.api_url: an https address is needed, the API key goes there")
    return address.rstrip("/"), key


def webhook_secrets(secrets: Mapping[str, str]) -> tuple[tuple[str, ...], str | None]:
    """The signing secrets and the path secret; raises SettingsError when there is neither, or a weak path secret."""
    signing = tuple(part for part in (s.strip() for s in secrets.get(WEBHOOK_SECRETS, "").split(",")) if part)
    path = secrets.get(PATH_SECRET, "").strip() or None
    if (not signing and path is None) or not all(map(_SECRET.fullmatch, signing)):
        raise SettingsError(f"{WEBHOOK_SECRETS}: set it to the webhooks' signing secrets, separated by commas")
    if path is not None and not _PATH_SECRET.fullmatch(path):
        raise SettingsError(f"{PATH_SECRET}: 16 to 128 letters, digits, '_' or '-'")
    return signing, path
