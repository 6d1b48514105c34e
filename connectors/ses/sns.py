"""Messages of Amazon SNS over HTTPS: their form, what their signature covers, and whether it holds. No I/O.

Source: "Verifying the signatures of Amazon SNS messages" and "HTTP/HTTPS notification JSON format" in the Amazon SNS
Developer Guide.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.x509 import Certificate

NOTIFICATION = "Notification"
SUBSCRIPTION_CONFIRMATION = "SubscriptionConfirmation"
UNSUBSCRIBE_CONFIRMATION = "UnsubscribeConfirmation"

TYPE_HEADER = "x-amz-sns-message-type"
RAW_HEADER = "x-amz-sns-rawdelivery"

_CONFIRMATION_FIELDS = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED_FIELDS: Mapping[str, tuple[str, ...]] = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    SUBSCRIPTION_CONFIRMATION: _CONFIRMATION_FIELDS,
    UNSUBSCRIBE_CONFIRMATION: _CONFIRMATION_FIELDS,
}
"""What the signature covers, in this order, by the message's type."""

HASHES: Mapping[str, type[SHA1 | SHA256]] = {"1": SHA1, "2": SHA256}
"""By ``SignatureVersion``. SNS signs with SHA-1 unless the topic's owner asks for version 2."""

SMALLEST_KEY = 2_048
"""Bits of an RSA key."""


class Envelope(msgspec.Struct, frozen=True, rename="pascal"):
    """The JSON document around every message. ``message`` holds what SES published, as a string.

    ``url``'s origin must be checked before anything is fetched from it; ``SubscribeURL`` is never requested at all.
    """

    type: str
    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    signature_version: str = ""
    signature: str = ""
    signing_cert_url: str = msgspec.field(default="", name="SigningCertURL")
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = msgspec.field(default=None, name="SubscribeURL")


_DECODER = msgspec.json.Decoder(Envelope)


def open_envelope(body: bytes) -> Envelope | None:
    """The envelope in a request's body; None when it holds none."""
    try:
        return _DECODER.decode(body)
    except (ValueError, RecursionError):
        return None


def signed_text(envelope: Envelope) -> bytes | None:
    """What the signature covers; None when the message is of no known type or lacks a field that must be signed."""
    values = {
        "Message": envelope.message,
        "MessageId": envelope.message_id,
        "Subject": envelope.subject,
        "SubscribeURL": envelope.subscribe_url,
        "Timestamp": envelope.timestamp,
        "Token": envelope.token,
        "TopicArn": envelope.topic_arn,
        "Type": envelope.type,
    }
    names = [n for n in SIGNED_FIELDS.get(envelope.type, ()) if n != "Subject" or values[n] is not None]
    if not names or any(values[name] is None for name in names):
        return None
    try:
        return "".join(f"{name}\n{values[name]}\n" for name in names).encode()
    except UnicodeEncodeError:
        return None


def signed_by(envelope: Envelope, certificate: Certificate) -> bool:
    """Whether the certificate's key made the envelope's signature (RSA PKCS #1 v1.5)."""
    text, digest = signed_text(envelope), HASHES.get(envelope.signature_version)
    if text is None or digest is None:
        return False
    try:
        key = certificate.public_key()
        signature = base64.b64decode(envelope.signature, validate=True)
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size < SMALLEST_KEY:
            return False
        key.verify(signature, text, padding.PKCS1v15(), digest())
    except (InvalidSignature, UnsupportedAlgorithm, binascii.Error, ValueError):
        return False
    return True
