"""What the user configures for Mailchimp: ``[providers.mailchimp]`` and the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from core.errors import SettingsError

NAME = "mailchimp"

API_KEY = "MAILCHIMP_API_KEY"
"""Environment: the API key with its data centre, ``<key>-us6``."""
WEBHOOK_SECRETS = "MAILCHIMP_WEBHOOK_SECRETS"
"""Environment: the webhooks' signing secrets, comma separated; Mailchimp shows each once, when it is created.

One that `pixelproof webhooks install` made is written ``<last part of the webhook's URL>:<secret>``, so that it is
known whose secret is held; one that was made by hand is written alone.
"""
PATH_SECRET = "MAILCHIMP_WEBHOOK_PATH_SECRET"  # noqa: S105 - the name of a variable
"""Environment: the last parts of the URLs of webhooks that are not signed, comma separated."""
TRANSACTIONAL_KEYS = "MANDRILL_WEBHOOK_KEYS"
"""Environment: the keys of the webhooks of Mailchimp Transactional (Mandrill), comma separated."""

TEST_KEY = "test-webhook"
"""What Mandrill signs its test of a URL with, where a look by HEAD was not answered. Everybody knows it.

Source: Mailchimp Transactional's help, "Why can't my webhook or inbound route URL be verified?".
"""
TRANSACTIONAL = "transactional"
"""The last part of the address at which Mandrill's webhooks are received, unless the settings say otherwise."""
RECIPIENT_METADATA = "pixelproof_recipient"
"""The metadata of a Mandrill message that holds the pseudonymous recipient (hex); each of its events repeats it."""
CAMPAIGN_METADATA = "pixelproof_campaign"
"""The metadata that holds the campaign's name."""

DAY = 86_400
"""Seconds."""

_KEY = re.compile(r"[A-Za-z0-9]+-([a-z]{2,3}[0-9]{1,3})")
_SECRET = re.compile(r"[!-~]+")
_PATH_SECRET = re.compile(r"[A-Za-z0-9_-]{16,128}")
_NAMED = re.compile(r"(hook-[0-9a-f]{32}):(.+)")
_LIST_ID = re.compile(r"[A-Za-z0-9]{1,64}")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,16}")
_SPACE = re.compile(r"\s")
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
        concurrency: Requests of one synchronisation at a time. Mailchimp takes 10 of one user, all programs together.
        tolerance_seconds: How old a signed callback may be. Mailchimp repeats one for 75 minutes (it is unconfirmed
            whether it signs again), and a repeated withdrawal must be taken: what stops replays is deduplication.
        future_tolerance_seconds: How far a callback's signature may lie ahead of this machine's clock.
        transactional_urls: The addresses of the webhooks of Mailchimp Transactional (Mandrill), each exactly as it was
            entered there, for it signs them along; ``<base_url>/webhooks/mailchimp/transactional`` when left out.
    """

    list_id: str
    segment_prefix: str = "pixelproof"
    api_url: str | None = None
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=600)] = 120.0
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=8)] = 4
    tolerance_seconds: Annotated[int, msgspec.Meta(ge=300, le=30 * DAY)] = 7_200
    future_tolerance_seconds: Annotated[int, msgspec.Meta(ge=0, le=DAY)] = 300
    transactional_urls: tuple[str, ...] = ()


def check(settings: MailchimpSettings) -> None:
    """Refuse what would end up in URLs and names; raises SettingsError naming the setting."""
    if not _LIST_ID.fullmatch(settings.list_id):
        raise SettingsError(f"providers.{NAME}.list_id: give the audience's ID, letters and digits only")
    if not _PREFIX.fullmatch(settings.segment_prefix):
        raise SettingsError(f"providers.{NAME}.segment_prefix: 1 to 16 letters, digits, '_' or '-'")
    if not all(map(_is_plain, settings.transactional_urls)):
        raise SettingsError(
            f"providers.{NAME}.transactional_urls: give https addresses as they were entered at Mandrill, without user"
            " and password: secrets do not belong in the settings"
        )


def api_access(settings: MailchimpSettings, secrets: Mapping[str, str]) -> tuple[str, str]:
    """The API's address and key; raises SettingsError naming what is missing or malformed."""
    key = secrets.get(API_KEY, "").strip()
    centre = _KEY.fullmatch(key)
    if centre is None:
        raise SettingsError(f"{API_KEY}: set it to an API key with its data centre, such as <key>-us6")
    address = settings.api_url or f"https://{centre[1]}.api.mailchimp.com/3.0"
    if not is_secure(address):
        raise SettingsError(f"providers.{NAME}.api_url: an https address is needed, the API key goes there")
    return address.rstrip("/"), key


@dataclass(frozen=True, slots=True)
class WebhookKeys:
    """What proves callbacks.

    Attributes:
        signing: Signing secrets.
        paths: The last parts of the URLs of webhooks that are not signed.
        named: The last parts of the URLs of the webhooks whose signing secret is held.
        unnamed: Whether a signing secret is held of which nobody knows whose it is: of a webhook made by hand.
    """

    signing: tuple[str, ...] = field(repr=False)
    paths: tuple[str, ...] = field(repr=False)
    named: frozenset[str] = field(repr=False)
    unnamed: bool


def webhook_keys(secrets: Mapping[str, str]) -> WebhookKeys:
    """The webhooks' secrets, none if there are none; raises SettingsError naming the variable that is malformed."""
    given = _listed(secrets, WEBHOOK_SECRETS)
    if not all(map(_SECRET.fullmatch, given)):
        raise SettingsError(f"{WEBHOOK_SECRETS}: set it to the webhooks' signing secrets, separated by commas")
    named = [_NAMED.fullmatch(one) for one in given]
    signing = tuple(found[2] if found else one for one, found in zip(given, named, strict=True))
    paths = _listed(secrets, PATH_SECRET)
    if not all(map(_PATH_SECRET.fullmatch, paths)):
        raise SettingsError(f"{PATH_SECRET}: 16 to 128 letters, digits, '_' or '-'; several separated by commas")
    return WebhookKeys(signing, paths, frozenset(found[1] for found in named if found), unnamed=None in named)


def transactional_keys(secrets: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of Mandrill's webhooks, none if there are none; raises SettingsError for what proves nothing."""
    keys = _listed(secrets, TRANSACTIONAL_KEYS)
    if not all(map(_SECRET.fullmatch, keys)):
        raise SettingsError(f"{TRANSACTIONAL_KEYS}: set it to the webhooks' keys, separated by commas")
    if TEST_KEY in keys:
        raise SettingsError(f"{TRANSACTIONAL_KEYS}: Mandrill's test key proves nothing; take the webhook's own key")
    return keys


def transactional_urls(settings: MailchimpSettings, callbacks: str) -> tuple[str, ...]:
    """The addresses that Mandrill signs along; ``callbacks``: where this provider's callbacks arrive, "" if nowhere."""
    usual = (f"{callbacks}/{TRANSACTIONAL}",) if callbacks else ()
    return settings.transactional_urls or usual


def named_secret(part: str, secret: str) -> str:
    """A signing secret as it is kept in the environment: with the last part of its webhook's URL."""
    return f"{part}:{secret}"


def is_secure(url: str) -> bool:
    """Whether what is sent there travels encrypted, or does not leave this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    )


def _is_plain(url: str) -> bool:
    """Whether a URL is fit to be signed along: secure, and without anybody's password."""
    return is_secure(url) and "@" not in urlsplit(url).netloc and not _SPACE.search(url)


def _listed(secrets: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part for part in (each.strip() for each in secrets.get(name, "").split(",")) if part)
