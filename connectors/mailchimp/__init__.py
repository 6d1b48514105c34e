"""Mailchimp Marketing: consent as static segments, mailings as two campaigns, audience webhooks, polled opens.

Importing this imports no SDK: the connector's factory does, the codec works without.
"""

from __future__ import annotations

from datetime import timedelta

from connectors.mailchimp.codec import MailchimpCodec
from connectors.mailchimp.settings import NAME, WEBHOOK_SECRETS, MailchimpSettings, check, webhook_keys
from core.errors import KeyMissing
from core.ports import Capability, Connector, Provider, ProviderContext, WebhookCodec


def connector(settings: MailchimpSettings, context: ProviderContext) -> Connector:
    """Build the connector; raises SettingsError naming the setting or environment variable that is missing."""
    from connectors.mailchimp.connector import MailchimpConnector

    return MailchimpConnector(settings, context)


def codec(settings: MailchimpSettings, context: ProviderContext) -> WebhookCodec:
    """Build the codec; raises SettingsError naming the environment variable that is missing."""
    check(settings)
    keys = webhook_keys(context.secrets)
    if not keys.signing and not keys.paths:
        raise KeyMissing(
            f"{WEBHOOK_SECRETS}: set it to the webhooks' signing secrets; `pixelproof webhooks install` tells one"
        )
    return MailchimpCodec(keys.signing, paths=keys.paths, tolerance=timedelta(seconds=settings.tolerance_seconds))


PROVIDER = Provider(
    name=NAME,
    capabilities=frozenset({Capability.POLL_OPENS, Capability.INSTALL_WEBHOOKS}),
    settings=MailchimpSettings,
    connector=connector,
    codec=codec,
)
