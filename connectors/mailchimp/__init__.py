"""Mailchimp Marketing: consent as static segments, mailings as two campaigns, audience webhooks, polled opens.

Of Mailchimp Transactional (Mandrill) the webhooks alone: what it reports about mail that others send through it.

Importing this imports no SDK: the connector's factory does, the codec works without.
"""

from __future__ import annotations

from datetime import timedelta

from connectors.mailchimp.settings import (
    NAME,
    TRANSACTIONAL_KEYS,
    WEBHOOK_SECRETS,
    MailchimpSettings,
    check,
    transactional_keys,
    transactional_urls,
    webhook_keys,
)
from core.errors import KeyMissing
from core.merge_fields import MAILCHIMP
from core.ports import Capability, Connector, Provider, ProviderContext, WebhookCodec


def connector(settings: MailchimpSettings, context: ProviderContext) -> Connector:
    """Build the connector; raises SettingsError naming the setting or environment variable that is missing."""
    from connectors.mailchimp.connector import MailchimpConnector

    return MailchimpConnector(settings, context)


def codec(settings: MailchimpSettings, context: ProviderContext) -> WebhookCodec:
    """Build the codec; raises SettingsError naming the environment variable that is missing."""
    from connectors.mailchimp.codec import MailchimpCodec
    from connectors.mailchimp.transactional import Transactional

    check(settings)
    keys, mandrill = webhook_keys(context.secrets), transactional_keys(context.secrets)
    if not keys.signing and not keys.paths and not mandrill:
        raise KeyMissing(
            f"{WEBHOOK_SECRETS}: set it to the webhooks' signing secrets; `pixelproof webhooks install` tells one. For"
            f" Mailchimp Transactional, {TRANSACTIONAL_KEYS}: set it to the webhooks' keys, which Mandrill shows"
        )
    return MailchimpCodec(
        keys,
        age=(timedelta(seconds=settings.tolerance_seconds), timedelta(seconds=settings.future_tolerance_seconds)),
        interests=context.topics,
        mandrill=Transactional(mandrill, transactional_urls(settings, context.callbacks)),
    )


PROVIDER = Provider(
    name=NAME,
    capabilities=frozenset({Capability.POLL_OPENS, Capability.INSTALL_WEBHOOKS}),
    settings=MailchimpSettings,
    connector=connector,
    codec=codec,
    templates={"campaign": MAILCHIMP},
)
