"""The protocol between the domain and a queue in which a provider's events wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from core.model import WebhookRequest


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message of a queue. ``handle`` is what the queue removes it by."""

    handle: str = field(repr=False)
    request: WebhookRequest


class ReadsQueue(Protocol):
    """A connector of a provider whose events wait in a queue (SQS). A message stays there until it was taken.

    The provider's settings name the queue in ``queue_url``; without one there is nothing to read.
    """

    def receive(self, wait: float) -> Sequence[QueuedMessage]:
        """The next messages; waits for some up to so many seconds. Each comes again unless it is removed."""
        ...

    def remove(self, messages: Sequence[QueuedMessage]) -> None:
        """Remove what was taken durably."""
        ...
