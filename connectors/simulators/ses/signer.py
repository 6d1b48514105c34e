"""How SNS signs what it delivers, with a certificate of an authority of its own."""

from __future__ import annotations

import base64
import json
import secrets
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from connectors.simulators.base import Callback
from connectors.simulators.ses.wire import iso

AUTHORITY = "Local authority"

_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_NOTIFIED = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMED = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_VALID = timedelta(days=365)


class Signer:
    """The keys of SNS in one region.

    Args:
        now: The clock.

    Attributes:
        authority: The authority's certificate.
        path: Where the signing certificate is served.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._key = rsa.generate_private_key(65_537, 2_048)
        authority = ec.generate_private_key(ec.SECP256R1())
        self.authority = self._certificate(AUTHORITY, authority, authority)
        self._leaf = self._certificate("sns.amazonaws.com", self._key, authority)
        self.path = f"/SimpleNotificationService-{secrets.token_hex(16)}.pem"

    @property
    def certificate(self) -> bytes:
        """The signing certificate (PEM)."""
        return self._leaf.public_bytes(Encoding.PEM)

    def message(  # noqa: PLR0913 - the parts of a message
        self, kind: str, topic: str, fields: Mapping[str, str], *, version: str, endpoint: str, base_url: str
    ) -> Callback:
        """One message to an endpoint, signed in version 1 (SHA-1) or 2 (SHA-256)."""
        envelope = {"Type": kind, "MessageId": str(uuid.uuid4()), "TopicArn": topic, **fields}
        envelope["Timestamp"] = iso(self._now())
        names = _NOTIFIED if kind == "Notification" else _CONFIRMED
        text = "".join(f"{name}\n{envelope[name]}\n" for name in names)
        digest = SHA256() if version == "2" else SHA1()  # noqa: S303 - what SNS does
        envelope |= {
            "SignatureVersion": version,
            "Signature": base64.b64encode(self._key.sign(text.encode(), padding.PKCS1v15(), digest)).decode(),
            "SigningCertURL": base_url + self.path,
        }
        headers = {
            "x-amz-sns-message-type": kind,
            "x-amz-sns-message-id": envelope["MessageId"],
            "x-amz-sns-topic-arn": topic,
            "content-type": "text/plain; charset=UTF-8",
            "user-agent": "Amazon Simple Notification Service Agent",
        }
        return Callback(endpoint, headers, json.dumps(envelope, indent=2).encode())

    def _certificate(self, name: str, key: _Key, issuer_key: _Key) -> x509.Certificate:
        at, is_authority = self._now(), key is issuer_key
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(AUTHORITY))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - _VALID)
            .not_valid_after(at + _VALID)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .sign(issuer_key, SHA256())
        )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
