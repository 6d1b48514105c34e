"""The function that applies callbacks: from the queue of the HTTP API, and SES's events from a queue of their own.

A message that cannot be taken is reported alone, comes again, and ends in the dead-letter queue; the others of its
batch are done. What comes twice takes effect once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from core.errors import PixelproofError, VerificationError
from core.logs import get_logger
from webhooks.app import callback_parts
from webhooks.assembly import Services
from webhooks.aws.configuration import services
from webhooks.aws.ingress import Streamed, outbox_of
from webhooks.aws.outbox import Outbox
from webhooks.aws.telemetry import correlated, count
from webhooks.callbacks import Callbacks

Record = Mapping[str, Any]
SES_QUEUE = "PIXELPROOF_SES_QUEUE"

log = get_logger("pixelproof.worker")


class Worker:
    """Applies the messages of both queues.

    Args:
        made: The services.
        outbox: Opens what the HTTP API handed over.
        ses_queue: The ARN of SES's queue, where there is one.
    """

    def __init__(self, made: Services, outbox: Outbox, ses_queue: str = "") -> None:
        self._outbox = outbox
        self._ses_queue = ses_queue
        self._callbacks = Callbacks(**callback_parts(made, made.stores.writer(), Streamed()))

    async def take(self, records: Sequence[Record]) -> list[str]:
        """Apply messages, several at a time; answers the ids of those that must come again."""
        taken = await asyncio.gather(*map(self._taken, records))
        failed = [str(record["messageId"]) for record, done in zip(records, taken, strict=True) if not done]
        count(Callbacks=len(records) - len(failed), CallbacksFailed=len(failed))
        return failed

    async def _taken(self, record: Record) -> bool:
        with correlated(str(record["messageId"])):
            try:
                await self._apply(record)
            except VerificationError as error:
                log.error("message refused; it comes again, and is set aside in the end", reason=str(error))
            except PixelproofError as error:
                log.error("message not taken; it comes again", reason=str(error))
            except Exception as error:  # noqa: BLE001 - a bug met by one message must not hold up the others
                log.error("message not taken; it comes again", reason=type(error).__name__)
            else:
                return True
            return False

    async def _apply(self, record: Record) -> None:
        if self._ses_queue and record.get("eventSourceARN") == self._ses_queue:
            from connectors.ses.queue import queued_message

            message = queued_message({"Attributes": record.get("attributes", {}), "Body": record["body"]})
            await self._callbacks.take("ses", message.request)
            return
        said, body = await asyncio.to_thread(self._outbox.open, str(record["body"]))
        await self._callbacks.apply(said.provider, body)
        await asyncio.to_thread(self._outbox.done, said)


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Apply a batch of SQS messages, with ``ReportBatchItemFailures``."""
    failed = asyncio.run(_worker().take(event.get("Records", [])))
    return {"batchItemFailures": [{"itemIdentifier": each} for each in failed]}


@lru_cache(maxsize=1)
def _worker() -> Worker:
    made = services()
    return Worker(made, outbox_of(made), os.environ.get(SES_QUEUE, ""))
