"""SendGrid (Twilio): consent lists in Marketing Campaigns, campaigns through Mail Send, signed Event Webhooks.

Importing this imports no SDK: the connector's factory does, the codec works without.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from connectors.sendgrid.codec import SendGridCodec
from connectors.sendgrid.settings import KEY_VARIABLE, NAME, SendGridSettings, confidential
from core.errors import SettingsError
from core.ports import Capability, Connector, Provider, ProviderContext, WebhookCodec


def connector(settings: SendGridSettings, context: ProviderContext) -> Connector:
    """Build the connector.

    Raises:
        SettingsError: no API key in the environment, or an API address that the key must not be sent to.
    """
    from connectors.sendgrid.connector import SendGridConnector

    _check_url(settings.api_url)
    return SendGridConnector(_key(context), settings, context)


def codec(settings: SendGridSettings, context: ProviderContext) -> WebhookCodec:  # noqa: ARG001 - needs no secret
    """Build the codec.

    Raises:
        SettingsError: no verification key, or an unreadable one.
    """
    return SendGridCodec(settings)


def _check_url(url: str) -> None:
    if not confidential(url) or urlsplit(url).path or urlsplit(url).query:
        raise SettingsError(
            f"providers.{NAME}.api_url: give an https address without a path, such as https://api.sendgrid.com"
        )


def _key(context: ProviderContext) -> str:
    key = context.secrets.get(KEY_VARIABLE, "").strip()
    # Anything else would be refused by the HTTP client with a message that shows the key.
    if not re.fullmatch(r"[!-~]+", key):
        raise SettingsError(f"{KEY_VARIABLE}: give SendGrid's API key in the environment (Settings, API Keys)")
    return key


PROVIDER = Provider(
    name=NAME,
    capabilities=frozenset({Capability.OPEN_CALLBACKS}),
    settings=SendGridSettings,
    connector=connector,
    codec=codec,
)
