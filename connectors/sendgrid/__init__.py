"""SendGrid (Twilio): consent lists in Marketing Campaigns, campaigns through Mail Send, signed Event Webhooks.

Importing this imports no SDK: the connector's factory does, the codec works without.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from connectors.sendgrid.codec import SendGridCodec
from connectors.sendgrid.settings import (
    KEY_VARIABLE,
    NAME,
    SUBUSER_KEY_VARIABLES,
    SendGridSettings,
    confidential,
)
from core.errors import SettingsError
from core.merge_fields import HANDLEBARS, SENDGRID_FIELDS
from core.ports import Capability, Connector, Provider, ProviderContext, WebhookCodec


def connector(settings: SendGridSettings, context: ProviderContext) -> Connector:
    """Build the connector.

    Raises:
        SettingsError: no API key in the environment, or an API address that the key must not be sent to.
    """
    from connectors.sendgrid.connector import SendGridConnector

    _check_url(settings.api_url)
    key = _key(context, KEY_VARIABLE)
    return SendGridConnector(key, settings, context, subuser_keys=_subuser_keys(settings, context, key))


def codec(settings: SendGridSettings, context: ProviderContext) -> WebhookCodec:
    """Build the codec.

    Raises:
        SettingsError: no verification key, or an unreadable one.
    """
    return SendGridCodec(settings, context.secrets)


def _check_url(url: str) -> None:
    if not confidential(url) or urlsplit(url).path or urlsplit(url).query:
        raise SettingsError(
            f"providers.{NAME}.api_url: give an https address without a path, such as https://api.sendgrid.com"
        )


def _subuser_keys(settings: SendGridSettings, context: ProviderContext, key: str) -> dict[str, str]:
    """The keys of the two subusers by half. Two halves under one key would have one open tracking."""
    if settings.subusers is None:
        return {}
    if settings.subusers.tracked == settings.subusers.untracked:
        raise SettingsError(f"providers.{NAME}.subusers: name two subusers, one with open tracking on and one with off")
    keys = {half: _key(context, variable) for half, variable in SUBUSER_KEY_VARIABLES.items()}
    if len({key, *keys.values()}) != len(keys) + 1:
        names = ", ".join((KEY_VARIABLE, *SUBUSER_KEY_VARIABLES.values()))
        raise SettingsError(f"{names}: give each account its own API key")
    return keys


def _key(context: ProviderContext, variable: str) -> str:
    key = context.secrets.get(variable, "").strip()
    # Anything else would be refused by the HTTP client with a message that shows the key.
    if not re.fullmatch(r"[!-~]+", key):
        raise SettingsError(f"{variable}: give SendGrid's API key in the environment (Settings, API Keys)")
    return key


PROVIDER = Provider(
    name=NAME,
    capabilities=frozenset({Capability.OPEN_CALLBACKS, Capability.INSTALL_WEBHOOKS}),
    settings=SendGridSettings,
    connector=connector,
    codec=codec,
    templates={"mail-send": HANDLEBARS, "single-send": SENDGRID_FIELDS},
)
