"""Carries withdrawals to the ESPs at once, beside the requests that bring them.

It holds no queue that could be lost: what an ESP has not confirmed yet differs from the ledger, so whatever this
misses (a crash, an ESP that is down for long) the next ``pixelproof sync`` sends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import structlog

from core.errors import PixelproofError
from core.model import RecipientId

MOST_WAITING = 100_000
"""Recipients held here at most; a full sync does better than more."""
GATHER = 0.2
"""Seconds to wait for more withdrawals before the ESPs are called."""
RETRY = 30.0
"""Seconds until an ESP that failed is tried again."""

log = structlog.get_logger("pixelproof.propagation")

Push = Callable[[str, Collection[RecipientId]], None]


class Carries(Protocol):
    """Sees to it that the ESPs hear of recipients whose consent changed."""

    def notify(self, recipients: Collection[RecipientId]) -> None:
        """Have these recipients' segments brought up to date everywhere. Returns at once."""
        ...


class Propagation:
    """Tells every ESP about recipients whose consent changed; a thread for each, so that none waits for another.

    Args:
        providers: The ESPs' names.
        push: Brings one ESP up to date about some recipients; raises PixelproofError when it cannot.
        retry: Seconds until an ESP that failed is tried again.
    """

    def __init__(self, providers: Sequence[str], push: Push, *, retry: float = RETRY) -> None:
        self._carriers = [_Carrier(name, push, retry) for name in providers]

    def notify(self, recipients: Collection[RecipientId]) -> None:
        """Have these recipients' segments brought up to date everywhere. Returns at once."""
        for carrier in self._carriers:
            carrier.notify(recipients)

    def close(self) -> None:
        """Stop; what waits is left to the next sync."""
        for carrier in self._carriers:
            carrier.stop()
        for carrier in self._carriers:
            carrier.join()


class _Carrier:
    """Tells one ESP, in a thread of its own."""

    def __init__(self, name: str, push: Push, retry: float) -> None:
        self._name = name
        self._push = push
        self._retry = retry
        self._waiting: set[RecipientId] = set()
        self._change = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=f"propagation-{name}", daemon=True)
        self._thread.start()

    def notify(self, recipients: Collection[RecipientId]) -> None:
        with self._change:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.update(recipients)
            self._change.notify()

    def stop(self) -> None:
        with self._change:
            self._closing = True
            self._change.notify()

    def join(self) -> None:
        self._thread.join()

    def _work(self) -> None:
        while (recipients := self._gathered()) is not None:
            if not self._deliver(recipients):
                self._pause(recipients)

    def _gathered(self) -> set[RecipientId] | None:
        """Whom to tell about, once some have gathered; None when it is time to stop."""
        with self._change:
            self._change.wait_for(lambda: self._closing or self._waiting)
            self._change.wait_for(lambda: self._closing, GATHER)
            gathered, self._waiting = self._waiting, set()
            return None if self._closing else gathered

    def _deliver(self, recipients: set[RecipientId]) -> bool:
        try:
            self._push(self._name, recipients)
        except PixelproofError as error:
            reason, many = str(error), len(recipients)
            log.error("the ESP was not told; trying again", provider=self._name, recipients=many, reason=reason)
            return False
        log.info("the ESP was told", provider=self._name, recipients=len(recipients))
        return True

    def _pause(self, recipients: set[RecipientId]) -> None:
        """Put them back, and leave the ESP alone for a while."""
        with self._change:
            self._waiting |= recipients
            self._change.wait_for(lambda: self._closing, self._retry)
