"""Callbacks on their way from the function that answers the provider to the one that applies them.

What is handed over was verified; so that nobody with mere access to the queue can put a withdrawal into it, each
message carries an HMAC under a key that only the functions hold. A message may be delivered more than once.
"""

from __future__ import annotations

import gzip
import hmac
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from io import BytesIO
from typing import Any
from uuid import uuid4

import msgspec

from core.errors import StoreError, VerificationError
from core.model import VerifiedBody

LARGEST = 250_000
"""Bytes of a message, below the 256 KiB that a queue takes; what is larger goes by way of the bucket."""
MOST_UNPACKED = 8 * 1024 * 1024
PLACE = "callbacks/"
"""What the keys in the bucket begin with."""

_LABEL = b"pixelproof callback v1\n"


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A callback. ``body``: gzip, in base64; ``object``: the key under which it lies instead. ``mac``: of all else."""

    provider: str
    received_at: datetime
    signed_at: datetime | None = None
    body: str = ""
    object: str = ""
    sha256: str
    mac: str = ""


@dataclass(frozen=True, slots=True)
class Outbox:
    """Hands callbacks over, and takes them out again.

    Attributes:
        sqs: A client of SQS. ``s3``: of S3.
        queue: The queue's URL.
        bucket: Where bodies lie that are too large for it.
        key: Under which messages are authenticated.
    """

    sqs: Any
    s3: Any
    queue: str
    bucket: str
    key: bytes

    def send(self, provider: str, body: VerifiedBody, now: datetime) -> None:
        """Hand a callback over; durable on return. Raises StoreError: it may have been handed over all the same."""
        packed = gzip.compress(body.body, mtime=0)
        said = Message(
            provider=provider,
            received_at=now,
            signed_at=body.signed_at,
            body=b64encode(packed).decode(),
            sha256=sha256(body.body).hexdigest(),
        )
        if len(said.body) > LARGEST:
            said = msgspec.structs.replace(said, body="", object=f"{PLACE}{uuid4().hex}")
            _aws("the inbox", lambda: self.s3.put_object(Bucket=self.bucket, Key=said.object, Body=packed))
        text = msgspec.json.encode(msgspec.structs.replace(said, mac=self._mac(said))).decode()
        _aws("the queue of callbacks", lambda: self.sqs.send_message(QueueUrl=self.queue, MessageBody=text))

    def open(self, text: str) -> tuple[Message, VerifiedBody]:
        """A message, and the body that it stands for.

        Raises:
            VerificationError: it was not handed over by ``send``.
            StoreError: the bucket is out of reach.
        """
        try:
            said = msgspec.json.decode(text, type=Message)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise VerificationError("not a message of this queue") from None
        if not hmac.compare_digest(said.mac.encode(), self._mac(said).encode()):
            raise VerificationError("the message was not put into the queue by this product, or under another key")
        try:
            packed = self._fetched(said.object) if said.object else b64decode(said.body, validate=True)
        except ValueError:
            raise VerificationError("the body is not the one that was handed over") from None
        body = _unpacked(packed)
        if sha256(body).hexdigest() != said.sha256:
            raise VerificationError("the body is not the one that was handed over")
        return said, VerifiedBody(body, said.signed_at)

    def done(self, said: Message) -> None:
        """Remove what a message that was applied left in the bucket."""
        if said.object:
            _aws("the inbox", lambda: self.s3.delete_object(Bucket=self.bucket, Key=said.object))

    def _fetched(self, name: str) -> bytes:
        answer: Mapping[str, Any] = _aws("the inbox", lambda: self.s3.get_object(Bucket=self.bucket, Key=name))
        return bytes(answer["Body"].read(MOST_UNPACKED))

    def _mac(self, said: Message) -> str:
        plain = msgspec.json.encode(msgspec.structs.replace(said, mac=""))
        return hmac.new(self.key, _LABEL + plain, "sha256").hexdigest()


def _unpacked(packed: bytes) -> bytes:
    try:
        with gzip.open(BytesIO(packed)) as unpacked:
            body = unpacked.read(MOST_UNPACKED + 1)
    except (OSError, EOFError, ValueError, zlib.error):
        body = None
    if body is None or len(body) > MOST_UNPACKED:
        raise VerificationError("the body is not the one that was handed over")
    return body


def _aws(what: str, call: Any) -> Any:  # noqa: ANN401 - as boto3 has it
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call()
    except (BotoCoreError, ClientError) as error:
        code = error.response["Error"].get("Code", "") if isinstance(error, ClientError) else type(error).__name__
        raise StoreError(f"{what} is out of reach ({code})") from None
