"""The SQS queue in which SES's events wait: read, and emptied of what was taken.

Source: the Amazon SQS API Reference (``ReceiveMessage``, ``DeleteMessageBatch``, ``GetQueueAttributes``). A message
that was read is hidden from others for a while, and is there again afterwards unless it was deleted; a standard queue
may deliver one twice and in any order. ``DeleteMessageBatch`` answers 200 though entries of it failed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from connectors.ses.client import LONG_POLL, Aws
from connectors.ses.codec import QUEUED_AT
from connectors.ses.settings import NAME, QueueName, SesSettings
from core.batches import batched
from core.errors import ProviderError
from core.model import EPOCH, WebhookRequest
from core.queue_ports import QueuedMessage

BATCH = 10
"""Messages that SQS gives out, and deletes, in one request at most."""
ATTEMPTS = 2
"""How often a message is tried to be deleted, before it is left to come again."""

_CODE = re.compile(r"[\w.]{1,64}")


class Queue:
    """One queue.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
        name: The parts of ``queue_url``.
    """

    def __init__(self, aws: Aws, settings: SesSettings, name: QueueName) -> None:
        self._aws = aws
        self._url = settings.queue_url or ""
        self._hidden = settings.queue_visibility_seconds
        self._region = name.region

    def receive(self, wait: float) -> Sequence[QueuedMessage]:
        """The next messages, ten at most; waits up to so many seconds for the first.

        Raises:
            ProviderError: SQS is out of reach or refuses.
        """
        seconds = min(LONG_POLL, math.ceil(wait))
        sqs = self._aws.sqs(self._region)
        answer = self._aws.call_queue(
            lambda: sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=seconds,
                VisibilityTimeout=self._hidden,
                MessageSystemAttributeNames=["SentTimestamp"],
            )
        )
        return [queued_message(each) for each in answer.get("Messages", [])]

    def remove(self, messages: Sequence[QueuedMessage]) -> None:
        """Delete what was taken. Deleting again what is gone is no error.

        Raises:
            ProviderError: SQS is out of reach, or left some of them: they come again.
        """
        left = [message.handle for message in messages]
        codes: set[str] = set()
        for _ in range(ATTEMPTS):
            failed = [one for some in batched(left, BATCH) for one in self._deleted(some, codes)]
            left = failed
            if not left:
                return
        reasons = ", ".join(sorted(codes)) or "without a reason"
        raise ProviderError(NAME, f"SQS did not delete {len(left)} messages ({reasons}); they come again")

    def attributes(self, url: str | None = None) -> Mapping[str, str]:
        """The attributes of this queue, or of another one; raises ProviderError."""
        sqs = self._aws.sqs(self._region)
        answer = self._aws.call_queue(
            lambda: sqs.get_queue_attributes(QueueUrl=url or self._url, AttributeNames=["All"])
        )
        held: Mapping[str, str] = answer.get("Attributes", {})
        return held

    def url_of(self, arn: str) -> str:
        """The URL of a queue; raises ProviderError."""
        account, name = arn.split(":")[-2:]
        sqs = self._aws.sqs(self._region)
        answer = self._aws.call_queue(lambda: sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account))
        return str(answer.get("QueueUrl", ""))

    def _deleted(self, handles: Sequence[str], codes: set[str]) -> Iterable[str]:
        """Delete ten at most; answers those that SQS does not say to be gone, and adds why."""
        sqs = self._aws.sqs(self._region)
        entries = [{"Id": str(place), "ReceiptHandle": handle} for place, handle in enumerate(handles)]
        answer = self._aws.call_queue(lambda: sqs.delete_message_batch(QueueUrl=self._url, Entries=entries))
        gone = {each.get("Id") for each in answer.get("Successful", [])}
        reasons = [str(each.get("Code", "")) for each in answer.get("Failed", [])]
        codes.update(reason for reason in reasons if _CODE.fullmatch(reason))
        return [handle for place, handle in enumerate(handles) if str(place) not in gone]


def queued_message(held: Mapping[str, Any]) -> QueuedMessage:
    """A message as ``ReceiveMessage`` gives it."""
    sent = str(held.get("Attributes", {}).get("SentTimestamp", ""))
    headers = {QUEUED_AT: (EPOCH + timedelta(milliseconds=int(sent))).isoformat()} if sent.isdecimal() else {}
    body = str(held.get("Body", "")).encode("utf-8", "replace")
    return QueuedMessage(str(held.get("ReceiptHandle", "")), WebhookRequest("POST", "", headers, body, queued=True))
