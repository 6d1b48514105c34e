"""Amazon SES: contact lists, campaigns by SendBulkEmail, and events through SNS, EventBridge and SQS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.ses.settings import NAME, SesSettings, with_topics
from core.errors import SettingsError
from core.merge_fields import HANDLEBARS
from core.ports import Capability, Connector, Provider, ProviderContext, WebhookCodec

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def connector(settings: SesSettings, context: ProviderContext) -> Connector:
    """The connector; raises SettingsError when a topic or the queue is wrong or there are no AWS credentials."""
    from connectors.ses.client import Aws
    from connectors.ses.connector import SesConnector
    from connectors.ses.event_bridge import api_keys

    settings = with_topics(settings, context.secrets)
    bridged = bool(api_keys(context.secrets))
    return SesConnector(Aws(settings, context.secrets, now=context.now), settings, context.purposes, bridged=bridged)


def codec(settings: SesSettings, context: ProviderContext) -> WebhookCodec:
    """The codec, which needs no SDK; raises SettingsError when no event could be proven, or a setting is wrong."""
    from connectors.ses.certificates import HttpCertificates
    from connectors.ses.codec import SesCodec
    from connectors.ses.event_bridge import api_keys

    authority = settings.sns_authority_file
    return SesCodec(
        with_topics(settings, context.secrets),
        HttpCertificates(),
        _authority(authority) if authority else None,
        api_keys(context.secrets),
    )


def _authority(path: str) -> Certificate:
    from pathlib import Path

    from cryptography.x509 import load_pem_x509_certificate

    try:
        return load_pem_x509_certificate(Path(path).read_bytes())
    except (OSError, ValueError):
        raise SettingsError("providers.ses.sns_authority_file: not a readable PEM certificate") from None


PROVIDER = Provider(
    name=NAME,
    capabilities=frozenset(
        {
            Capability.OPEN_CALLBACKS,
            Capability.INSTALL_WEBHOOKS,
            Capability.CONFIRM_SUBSCRIPTION,
            Capability.FETCHES_CERTIFICATES,
            Capability.READS_QUEUE,
        }
    ),
    settings=SesSettings,
    connector=connector,
    codec=codec,
    templates={"template": HANDLEBARS},
)
