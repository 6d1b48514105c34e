"""Amazon SES's events: proven, then read. No I/O but the fetch of a signing certificate, by the source handed in.

| by | is proven by |
|---|---|
| SNS over HTTPS | SNS's signature |
| an API destination of EventBridge, over HTTPS | a key in a header |
| a queue, as an SNS message | SNS's signature |
| a queue, raw from SNS or from EventBridge | the queue, whose access policy lets nobody else write |

Which it is, over HTTPS, the header of the key decides and nothing else: with it the key must be right, without it the
signature. In a body an SNS message is one whatever else stands there, so nothing that is signed passes for something
that is not, nor the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509 import Certificate

from connectors.ses.certificates import CertificateSource
from connectors.ses.event_bridge import KEYS_VARIABLE, RETRIED, BridgeEvent, Origin, bridged, is_key, open_event
from connectors.ses.events import decoded, instant, published, read
from connectors.ses.settings import SesSettings, certificate_origins, queue_name
from connectors.ses.sns import RAW_HEADER, TYPE_HEADER, Envelope, open_envelope, signed_by
from core.errors import KeyMissing, PayloadError, SettingsError, VerificationError
from core.model import EPOCH, ProviderEvent, VerifiedBody, WebhookRequest

QUEUED_AT = "x-pixelproof-queued-at"
"""The header of a message from a queue that says when it was put there. Read from nothing that came over HTTP."""

_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[0-9a-f]{1,64}\.pem")


class SesCodec:
    """Verifies and reads what SES publishes, by the routes that the settings name.

    Args:
        settings: ``[providers.ses]``.
        certificates: Where signing certificates come from.
        authority: The issuer of a local server's certificate; None for AWS, whose certificates come over TLS.
        keys: Those of API destinations of EventBridge.

    Raises:
        SettingsError: a setting is wrong, or there is no route at all.
    """

    def __init__(
        self,
        settings: SesSettings,
        certificates: CertificateSource,
        authority: Certificate | None = None,
        keys: Sequence[bytes] = (),
    ) -> None:
        self._origins = certificate_origins(settings)
        if not self._origins and not keys and queue_name(settings) is None:
            raise KeyMissing(
                "providers.ses.topic_arns (or SES_TOPIC_ARNS in the environment): name the SNS topics to which the SES"
                " configuration sets publish; `webhooks install` makes one"
            )
        if keys and settings.tolerance_seconds < RETRIED:
            raise SettingsError(
                f"providers.ses.tolerance_seconds: at least {RETRIED} with {KEYS_VARIABLE}, for EventBridge repeats for"
                " 24 hours"
            )
        self._certificates = certificates
        self._authority = authority
        self._keys = keys
        self._key_header = settings.eventbridge_key_header.lower()
        self._origin = Origin.of(settings)
        self._oldest = "providers.ses.tolerance_seconds", float(settings.tolerance_seconds)
        self._oldest_queued = "providers.ses.queue_tolerance_seconds", float(settings.queue_tolerance_seconds)
        self._newest = float(settings.future_tolerance_seconds)

    def verify(self, request: WebhookRequest, *, now: datetime) -> VerifiedBody:
        """Prove that AWS sent this for SES, within the tolerance.

        Raises:
            VerificationError: and nothing else, whatever the request holds; ``transient`` when only the certificate
                was out of reach.
        """
        if request.queued:
            return self._queued(request, now)
        key = request.headers.get(self._key_header)
        if key is not None:
            return self._with_key(key, request.body, now)
        return self._signed(_envelope(request), request.body, now, self._oldest)

    def _queued(self, request: WebhookRequest, now: datetime) -> VerifiedBody:
        """What comes raw is not looked into: what cannot be read becomes a dead letter, and is not lost."""
        body, held = request.body, _opened(request.body)
        if isinstance(held, Envelope):
            return self._signed(held, body, now, self._oldest_queued)
        if isinstance(held, BridgeEvent):
            return VerifiedBody(body, self._dated(self._origin.check(held), now, self._oldest_queued))
        return VerifiedBody(body, instant(request.headers.get(QUEUED_AT, "")))

    def _with_key(self, key: str, body: bytes, now: datetime) -> VerifiedBody:
        if not is_key(key, self._keys):
            raise VerificationError(f"ses: the key in {self._key_header} is none of those in {KEYS_VARIABLE}")
        event = _opened(body)
        if not isinstance(event, BridgeEvent):
            raise VerificationError("ses: not an event of EventBridge; give the rule's target no input transformer")
        return VerifiedBody(body, self._dated(self._origin.check(event), now, self._oldest))

    def _signed(self, envelope: Envelope, body: bytes, now: datetime, oldest: tuple[str, float]) -> VerifiedBody:
        origin = self._origins.get(envelope.topic_arn)
        if origin is None:
            raise VerificationError("ses: from an SNS topic that is not in providers.ses.topic_arns")
        signed_at = instant(envelope.timestamp)
        if signed_at is None:
            raise VerificationError("ses: the SNS message has no readable timestamp")
        self._dated(signed_at, now, oldest)
        certificate = self._certificate(envelope.signing_cert_url, origin, now)
        if not signed_by(envelope, certificate):
            raise VerificationError("ses: the signature does not match; forged or altered on the way")
        return VerifiedBody(body, signed_at)

    def parse(self, body: VerifiedBody) -> Sequence[ProviderEvent]:
        """Read the events of one message, whichever way it came.

        What SES published becomes a MALFORMED event when it cannot be read.

        Raises:
            PayloadError: and nothing else: the body holds no text.
        """
        held = _opened(body.body)
        if isinstance(held, Envelope):
            return read(held, body.signed_at)
        if isinstance(held, BridgeEvent):
            return bridged(held, body.signed_at)
        try:
            text = body.body.decode()
        except UnicodeDecodeError:
            raise PayloadError("ses: the callback's body is no text") from None
        return published(decoded(text), text, body.signed_at or EPOCH, None)

    def letter(self, body: VerifiedBody, _event: ProviderEvent) -> bytes:
        """The whole message: it holds one event of SES."""
        return body.body

    def _dated(self, signed_at: datetime, now: datetime, oldest: tuple[str, float]) -> datetime:
        age, (setting, most) = (now - signed_at).total_seconds(), oldest
        if age > most:
            raise VerificationError(
                f"ses: the callback is older than {setting} allows; if it is genuine, check this machine's clock"
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


def _opened(body: bytes) -> Envelope | BridgeEvent | None:
    """What a body is. The same for proving and for reading, so that neither takes it for something else."""
    return open_envelope(body) or open_event(body)


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
