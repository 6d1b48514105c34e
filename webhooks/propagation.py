"""Carries withdrawals to the ESPs at once, beside the requests that bring them.

It holds no queue that could be lost: what an ESP has not confirmed yet differs from the ledger, so whatever this
misses (a crash, an ESP that is down for long) the next ``pixelproof sync`` sends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

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


class Propagation:
    """A thread that tells every ESP about recipients whose consent changed.

    Args:
        providers: The ESPs' names.
        push: Brings one ESP up to date about some recipients; raises PixelproofError when it cannot.
        retry: Seconds until an ESP that failed is tried again.
    """

    def __init__(self, providers: Sequence[str], push: Push, *, retry: float = RETRY) -> None:
        self._push = push
        self._retry = retry
        self._waiting: dict[str, set[RecipientId]] = {name: set() for name in providers}
        self._not_before: dict[str, float] = dict.fromkeys(providers, 0.0)
        self._change = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="propagation", daemon=True)
        self._thread.start()

    def notify(self, recipients: Collection[RecipientId]) -> None:
        """Have these recipients' segments brought up to date everywhere. Returns at once."""
        with self._change:
            for waiting in self._waiting.values():
                if len(waiting) < MOST_WAITING:
                    waiting.update(recipients)
            self._change.notify()

    def close(self) -> None:
        """Stop; what waits is left to the next sync."""
        with self._change:
            self._closing = True
            self._change.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closing or any(self._waiting.values()))
                if not self._closing:
                    self._change.wait_for(lambda: self._closing, GATHER)
                if self._closing:
                    return
                due = self._due()
            for name, recipients in due.items():
                self._deliver(name, recipients)
            if not due:
                self._pause()

    def _due(self) -> dict[str, set[RecipientId]]:
        """Take what waits for those ESPs that may be called now."""
        due = {}
        for name, waiting in self._waiting.items():
            if waiting and time.monotonic() >= self._not_before[name]:
                due[name], self._waiting[name] = waiting, set()
        return due

    def _deliver(self, name: str, recipients: set[RecipientId]) -> None:
        try:
            self._push(name, recipients)
        except PixelproofError as error:
            log.error(
                "the ESP was not told; trying again", provider=name, recipients=len(recipients), reason=str(error)
            )
            with self._change:
                self._not_before[name] = time.monotonic() + self._retry
                self._waiting[name] |= recipients
        else:
            log.info("the ESP was told", provider=name, recipients=len(recipients))

    def _pause(self) -> None:
        with self._change:
            self._change.wait_for(lambda: self._closing, min(1.0, self._retry))
