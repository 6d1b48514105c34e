"""Mailchimp Marketing: consent as static segments, mailings as two campaigns, audience webhooks, polled opens.

Importing this imports no SDK: the connector's factory does, the codec works without.
"""

from __future__ import annotations

from datetime import timedelta

from connectors.mailchimp.codec import MailchimpCodec
from connectors.mailchimp.connector import MailchimpConnector
from connectors.mailchimp.settings import NAME, MailchimpSettings, check, webhook_secrets
from core.ports import Capability, Connector, Provider, ProviderContext, WebhookCodec


def connector(settings: MailchimpSettings, context: ProviderContext) -> Connector:
    """Build the connector; raises SettingsError naming the setting or environment variable that is missing."""
    return MailchimpConnector(settings, context)


def codec(settings: MailchimpSettings, context: ProviderContext) -> WebhookCodec:
    """Build the codec; raises SettingsError naming the environment variable that is missing."""
    check(settings)
    signing, path = webhook_secrets(context.secrets)
    return MailchimpCodec(signing, path_secret=path, tolerance=timedelta(seconds=settings.tolerance_seconds))


PROVIDER = Provider(
    name=NAME,
    capabilities=frozenset({Capability.POLL_OPENS}),
    settings=MailchimpSettings,
    connector=connector,
    codec=codec,
)
