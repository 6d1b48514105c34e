"""What the functions that meet callbacks share: the way into the queue, and that nobody here tells the ESPs."""

from __future__ import annotations

from collections.abc import Collection

from core.model import RecipientId
from webhooks.assembly import Services
from webhooks.aws.configuration import client, setting
from webhooks.aws.outbox import Outbox


class Streamed:
    """Tells no ESP of anything: the stream of the ledger's table does (``webhooks.aws.stream``)."""

    def notify(self, recipients: Collection[RecipientId]) -> None:
        """Nothing."""


def outbox_of(made: Services) -> Outbox:
    """What carries callbacks from the HTTP API to the worker; raises SettingsError."""
    return Outbox(
        sqs=client("sqs"),
        s3=client("s3"),
        queue=setting("PIXELPROOF_CALLBACKS_QUEUE"),
        bucket=setting("PIXELPROOF_INBOX_BUCKET"),
        key=made.secrets.key("PIXELPROOF_LEDGER_KEY"),
    )
