"""One SNS topic: confirms its subscription and signs what it delivers, with a certificate of its own authority."""

from __future__ import annotations

import base64
import json
import secrets
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from connectors.simulators.base import Callback
from connectors.simulators.ses.wire import ApiError, iso

AUTHORITY = "Local authority"

_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_NOTIFIED = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMED = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_VALID = timedelta(days=365)


class Topic:
    """The topic, its keys, and whoever subscribes to it over HTTP.

    Args:
        arn: Its name.
        version: The signature's version: 1 (SHA-1), which is SNS's default, or 2 (SHA-256).
        now: The clock.
    """

    def __init__(self, arn: str, version: str, now: Callable[[], datetime]) -> None:
        self.arn = arn
        self.endpoint: str | None = None
        self._version = version
        self._now = now
        self._pending: dict[str, str] = {}
        self._key = rsa.generate_private_key(65_537, 2_048)
        authority = ec.generate_private_key(ec.SECP256R1())
        self.authority = self._certificate(AUTHORITY, authority, authority)
        self._leaf = self._certificate("sns.amazonaws.com", self._key, authority)
        self.path = f"/SimpleNotificationService-{secrets.token_hex(16)}.pem"

    @property
    def certificate(self) -> bytes:
        """The signing certificate (PEM)."""
        return self._leaf.public_bytes(Encoding.PEM)

    def confirmation(self, endpoint: str, base_url: str) -> Callback:
        """What SNS sends to an endpoint that was subscribed and has not confirmed it."""
        token = secrets.token_hex(112)
        self._pending[token] = endpoint
        said = (
            f"You have chosen to subscribe to the topic {self.arn}.\n"
            "To confirm the subscription, visit the SubscribeURL included in this message."
        )
        url = f"{base_url}/?Action=ConfirmSubscription&TopicArn={quote(self.arn, safe='')}&Token={token}"
        fields = {"Token": token, "Message": said, "SubscribeURL": url}
        return self._message("SubscriptionConfirmation", fields, endpoint, base_url)

    def notification(self, message: str, endpoint: str, base_url: str) -> Callback:
        """One published message, as it is delivered."""
        fields = {"Subject": "Amazon SES Email Event Notification", "Message": message}
        return self._message("Notification", fields, endpoint, base_url)

    def act(self, form: dict[str, str]) -> str:
        """The operations of SNS: ConfirmSubscription."""
        if form.get("Action") != "ConfirmSubscription":
            raise ApiError("InvalidAction", "The action is not valid for this web service")
        if form.get("TopicArn") != self.arn:
            raise ApiError("NotFound", "Topic does not exist", 404)
        endpoint = self._pending.get(form.get("Token", ""))
        if endpoint is None:
            raise ApiError("InvalidParameter", "Invalid parameter: Token")
        self.endpoint = endpoint
        arn = f"<SubscriptionArn>{self.arn}:{uuid.uuid4()}</SubscriptionArn>"
        result = f"<ConfirmSubscriptionResult>{arn}</ConfirmSubscriptionResult>"
        metadata = f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
        return f"<ConfirmSubscriptionResponse>{result}{metadata}</ConfirmSubscriptionResponse>"

    def _message(self, kind: str, fields: dict[str, str], endpoint: str, base_url: str) -> Callback:
        envelope = {"Type": kind, "MessageId": str(uuid.uuid4()), "TopicArn": self.arn, **fields}
        envelope["Timestamp"] = iso(self._now())
        names = _NOTIFIED if kind == "Notification" else _CONFIRMED
        text = "".join(f"{name}\n{envelope[name]}\n" for name in names)
        digest = SHA256() if self._version == "2" else SHA1()  # noqa: S303 - what SNS does
        envelope |= {
            "SignatureVersion": self._version,
            "Signature": base64.b64encode(self._key.sign(text.encode(), padding.PKCS1v15(), digest)).decode(),
            "SigningCertURL": base_url + self.path,
        }
        headers = {
            "x-amz-sns-message-type": kind,
            "x-amz-sns-message-id": envelope["MessageId"],
            "x-amz-sns-topic-arn": self.arn,
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
