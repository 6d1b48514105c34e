"""Opens that were judged lawful and wait for the writer: handed over in groups, after the answer.

Whoever asked for an image has it before anything is written. What waits, less than a second's worth, is lost when the
process dies, and so is what exceeds ``MOST_WAITING`` while the store is slow; it is counted and said once. Nothing is
recorded that may not be: the writer judges each open again.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

import structlog

from core.errors import StoreError
from core.hosted import Hosted, Waiting
from core.model import CampaignId
from core.ports import Batch, Clock
from core.stores.bundle import Writer

WAIT = 0.1
"""Seconds after which the first open that waits is handed over."""
MOST_TOGETHER = 1_000
"""Opens in one job, so that callbacks do not wait long behind them."""
MOST_WAITING = 50_000
"""Opens that are held; a few megabytes."""
SCOPE = "hosted"
LOST = "opens_lost"

log = structlog.get_logger("pixelproof.pixel")


class TakesOpens(Protocol):
    """Takes what is to be written of requests for images that were answered."""

    def add(self, opens: list[Waiting], counts: list[CampaignId]) -> None:
        """Take individual opens, and the campaigns whose aggregate counters get one more; in the event loop."""
        ...

    def settle(self) -> None:
        """Have everything written that was answered so far, and wait for it; raises StoreError."""
        ...


class OpenQueue:
    """Holds what waits. One job is with the writer at a time, so that a slow store makes the groups larger.

    Args:
        hosted: Judges and writes.
        writer: The ledger's writer; it must be closed after this.
        now: The clock.
    """

    def __init__(self, hosted: Hosted, writer: Writer, now: Clock) -> None:
        self._hosted = hosted
        self._writer = writer
        self._now = now
        self._lock = threading.Lock()
        self._opens: list[Waiting] = []
        self._counts: Counter[CampaignId] = Counter()
        self._away = 0
        self._lost = 0
        self._failing = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """To be called in the event loop before the first request."""
        self._loop = asyncio.get_running_loop()

    def settle(self) -> None:
        """Have everything written that was answered so far, and wait for it; never in the event loop's thread.

        Raises:
            StoreError: the store is out of reach, or being closed.
        """
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result()  # a turn that has begun ends first
        with self._lock:
            while self._opens or self._counts:
                self._hand_over()
        self._writer.submit(lambda _batch: None).result()  # the writer works in the order of its jobs

    def add(self, opens: list[Waiting], counts: list[CampaignId]) -> None:
        """Take what was answered; to be called in the event loop."""
        with self._lock:
            room = max(0, MOST_WAITING - self._away - len(self._opens))
            self._opens += opens[:room]
            self._counts.update(counts)
            if len(opens) > room:
                self._lose(len(opens) - room, "more are waiting than can be held")
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(WAIT, self._due)

    def close(self) -> None:
        """Hand over everything that waits. The writer finishes it when it is closed."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            while self._opens or self._counts:
                self._hand_over()

    def _due(self) -> None:
        self._timer = None
        with self._lock:
            if not self._away:
                self._hand_over()
            elif (self._opens or self._counts) and self._loop is not None:
                self._timer = self._loop.call_later(WAIT, self._due)

    def _hand_over(self) -> None:
        """Give the writer the next group; under the lock."""
        opens, self._opens = self._opens[:MOST_TOGETHER], self._opens[MOST_TOGETHER:]
        counts, self._counts = self._counts, Counter()
        lost, self._lost = self._lost, 0
        if not opens and not counts and not lost:
            return
        try:
            future = self._writer.submit(self._job(opens, counts, lost))
        except StoreError as error:
            self._lose(len(opens) + counts.total() + lost, str(error))
            return
        self._away += 1 + len(opens)
        future.add_done_callback(lambda done: self._ended(done, len(opens), counts.total() + lost))

    def _job(self, opens: list[Waiting], counts: Counter[CampaignId], lost: int) -> Callable[[Batch], None]:
        def job(batch: Batch) -> None:
            self._hosted.record(batch, opens, self._now())
            self._hosted.count(batch, counts)
            if lost:
                batch.count(SCOPE, LOST, lost)

        return job

    def _ended(self, done: Future[None], opens: int, others: int) -> None:
        """In the writer's thread: a group is durable, or lost."""
        error = done.exception()
        with self._lock:
            self._away -= 1 + opens
            if error is None:
                self._failing = False
            else:
                self._lose(opens + others, str(error) if isinstance(error, StoreError) else type(error).__name__)
            if not self._away and len(self._opens) >= MOST_TOGETHER:
                self._hand_over()

    def _lose(self, opens: int, reason: str) -> None:
        self._lost += opens
        if not self._failing:
            self._failing = True
            log.error("opens lost", reason=reason, opens=opens)
