"""Amazon SES's callbacks through Amazon SNS over HTTPS: proven, then read.

No I/O but the fetch of a signing certificate, by the source that is handed in. Raw message delivery must be off: a raw
body carries no signature. A message that SNS put into SQS has the same body; whoever verifies it here sets the
header ``x-amz-sns-message-type`` to the message's type.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509 import Certificate

from connectors.ses.certificates import CertificateSource
from connectors.ses.events import instant, read
from connectors.ses.settings import SesSettings, certificate_origins
from connectors.ses.sns import RAW_HEADER, TYPE_HEADER, Envelope, open_envelope, signed_by
from core.errors import KeyMissing, PayloadError, VerificationError
from core.model import ProviderEvent, VerifiedBody, WebhookRequest

_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[0-9a-f]{1,64}\.pem")


class SesCodec:
    """Verifies and reads the callbacks of the SNS topics that the settings allow.

    Args:
        settings: ``[providers.ses]``.
        certificates: Where signing certificates come from.
        authority: The issuer of a local server's certificate; None for AWS, whose certificates come over TLS.

    Raises:
        SettingsError: no topic is allowed, or one is not a topic's ARN.
    """

    def __init__(
        self, settings: SesSettings, certificates: CertificateSource, authority: Certificate | None = None
    ) -> None:
        self._origins = certificate_origins(settings)
        if not self._origins:
            raise KeyMissing(
                "providers.ses.topic_arns (or SES_TOPIC_ARNS in the environment): name the SNS topics to which the SES"
                " configuration sets publish; `webhooks install` makes one"
            )
        self._certificates = certificates
        self._authority = authority
        self._oldest = float(settings.tolerance_seconds)
        self._newest = float(settings.future_tolerance_seconds)

    def verify(self, request: WebhookRequest, *, now: datetime) -> VerifiedBody:
        """Prove that SNS signed this for an allowed topic, within the tolerance.

        Raises:
            VerificationError: and nothing else, whatever the request holds; ``transient`` when only the certificate
                was out of reach.
        """
        envelope = _envelope(request)
        origin = self._origins.get(envelope.topic_arn)
        if origin is None:
            raise VerificationError("ses: from an SNS topic that is not in providers.ses.topic_arns")
        signed_at = self._signed_at(envelope, now)
        certificate = self._certificate(envelope.signing_cert_url, origin, now)
        if not signed_by(envelope, certificate):
            raise VerificationError("ses: the signature does not match; forged or altered on the way")
        return VerifiedBody(request.body, signed_at)

    def parse(self, body: VerifiedBody) -> Sequence[ProviderEvent]:
        """Read the events of one SNS message.

        What SES published inside it becomes a MALFORMED event when it cannot be read.

        Raises:
            PayloadError: and nothing else: the body is not an SNS message.
        """
        envelope = open_envelope(body.body)
        if envelope is None:
            raise PayloadError("ses: the callback's body is not an SNS message")
        return read(envelope, body.signed_at)

    def letter(self, body: VerifiedBody, _event: ProviderEvent) -> bytes:
        """The whole message: it holds one event of SES."""
        return body.body

    def _signed_at(self, envelope: Envelope, now: datetime) -> datetime:
        signed_at = instant(envelope.timestamp)
        if signed_at is None:
            raise VerificationError("ses: the SNS message has no readable timestamp")
        age = (now - signed_at).total_seconds()
        if age > self._oldest:
            raise VerificationError(
                "ses: the callback is older than providers.ses.tolerance_seconds allows; if it is genuine, check this"
                " machine's clock"
            )
        if -age > self._newest:
            raise VerificationError(
                "ses: the callback lies further in the future than providers.ses.future_tolerance_seconds allows; check"
                " this machine's clock"
            )
        return signed_at

    def _certificate(self, url: str, origin: str, now: datetime) -> Certificate:
        """The certificate of a message. Nothing is asked of an address that is not exactly SNS's own."""
        if not url.startswith(origin) or not _CERTIFICATE_PATH.fullmatch(url, len(origin)):
            raise VerificationError("ses: the signing certificate's address is not that of SNS in the topic's region")
        certificate = self._certificates.get(url)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise VerificationError("ses: the signing certificate has expired or is not valid yet")
        if self._authority is not None and not _issued_by(certificate, self._authority):
            raise VerificationError("ses: the signing certificate was not issued by providers.ses.sns_authority_file")
        return certificate


def _envelope(request: WebhookRequest) -> Envelope:
    if request.headers.get(RAW_HEADER, "").lower() == "true":
        raise VerificationError("ses: raw message delivery carries no signature; switch it off on the SNS subscription")
    envelope = open_envelope(request.body)
    if envelope is None:
        raise VerificationError("ses: not an SNS message; is raw message delivery on for the SNS subscription?")
    if request.headers.get(TYPE_HEADER) != envelope.type:
        raise VerificationError(f"ses: the header {TYPE_HEADER} is missing or contradicts the message")
    return envelope


def _issued_by(certificate: Certificate, authority: Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        return False
    return True
