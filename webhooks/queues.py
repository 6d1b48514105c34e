"""Queues in which a provider's events wait: read beside ``serve``, or by ``pixelproof poll`` until nothing is left.

A message is removed once what it says is durable, and never before: whatever fails, or is cut off, comes again and is
recognised. One that cannot be shown to come from the provider stays where it is, so that the queue's own dead-letter
queue gets it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from hashlib import sha256
from typing import TypeVar

from core.errors import PixelproofError, VerificationError
from core.logs import get_logger
from core.queue_ports import QueuedMessage, ReadsQueue
from webhooks.callbacks import Callbacks

T = TypeVar("T")

WAIT = 20.0
"""Seconds for which an empty queue is waited for in one request."""
LAST_WAIT = 1.0
"""Seconds after which a queue counts as empty, where it is read until it is."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts at most, while the store or the queue is out of reach."""

log = get_logger("pixelproof.queues")


class _Outcome(Enum):
    TAKEN = auto()
    REFUSED = auto()
    """Not shown to come from the provider."""
    FAILED = auto()
    """For a while: the store, or the proof, is out of reach."""


@dataclass(slots=True)
class Drained:
    """What came of reading a queue until it was empty.

    Attributes:
        taken: Messages that are durable and gone from the queue.
        refused: Messages that stay there, for nobody can show where they come from.
        error: Why it ended before, in words; "" when it did not.
    """

    taken: int = 0
    refused: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class QueueReader:
    """Reads one provider's queue.

    Attributes:
        name: The provider's.
        queue: Its connector.
        callbacks: Takes the messages.
        pause: How to wait, in seconds.
    """

    name: str
    queue: ReadsQueue
    callbacks: Callbacks
    pause: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep)

    async def run(self) -> None:
        """Read for ever. Cancelled, it ends at once: what it was about to get, or to remove, comes again."""
        failures = 0
        while True:
            try:
                outcomes = await self._round(WAIT)
                failed = any(outcome is _Outcome.FAILED for _, outcome in outcomes)
                failures = failures + 1 if failed else 0
            except PixelproofError as error:
                log.error("queue not read; trying again", provider=self.name, reason=str(error))
                failures += 1
            except Exception as error:  # noqa: BLE001 - a bug must not end the reading of withdrawals
                log.error("queue not read; trying again", provider=self.name, reason=type(error).__name__)
                failures += 1
            if failures:
                await self.pause(min(LONGEST_PAUSE, 2.0 ** min(failures, 10)))

    async def drain(self) -> Drained:
        """Read until nothing is left but what was refused before."""
        done, refused = Drained(), set[bytes]()
        try:
            while outcomes := await self._round(LAST_WAIT):
                done.taken += sum(outcome is _Outcome.TAKEN for _, outcome in outcomes)
                new = {body for body, outcome in outcomes if outcome is not _Outcome.REFUSED or body not in refused}
                refused |= {body for body, outcome in outcomes if outcome is _Outcome.REFUSED}
                if any(outcome is _Outcome.FAILED for _, outcome in outcomes):
                    done.error = "a message could not be taken, and comes again; the log says why"
                if done.error or not new:
                    break
        except PixelproofError as error:
            done.error = str(error)
        done.refused = len(refused)
        return done

    async def _round(self, wait: float) -> list[tuple[bytes, _Outcome]]:
        """Read once, take what came, and remove what was taken: what became of each, by a digest of it."""
        messages = await apart(lambda: self.queue.receive(wait))
        outcomes = await asyncio.gather(*map(self._take, messages))
        taken = [each for each, outcome in zip(messages, outcomes, strict=True) if outcome is _Outcome.TAKEN]
        if taken:
            await apart(lambda: self.queue.remove(taken))
        digests = [sha256(each.request.body).digest() for each in messages]
        return list(zip(digests, outcomes, strict=True))

    async def _take(self, message: QueuedMessage) -> _Outcome:
        try:
            await self.callbacks.take(self.name, message.request)
        except PixelproofError as error:
            for_good = isinstance(error, VerificationError) and not error.transient
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - a bug met by one message must not hold up the others
            for_good, reason = False, type(error).__name__
        else:
            return _Outcome.TAKEN
        if for_good:
            log.warning("message refused; it stays in the queue", provider=self.name, reason=reason)
            return _Outcome.REFUSED
        log.error("message not taken; it stays in the queue", provider=self.name, reason=reason)
        return _Outcome.FAILED


@asynccontextmanager
async def reading(readers: Sequence[QueueReader]) -> AsyncIterator[None]:
    """Have queues read while this is entered."""
    tasks = [asyncio.create_task(reader.run()) for reader in readers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def apart(work: Callable[[], T]) -> T:
    """Run blocking work in a thread of its own, for which nobody waits once this was cancelled.

    The event loop's own threads are waited for when it is closed: a poll of 20 seconds would hold up every restart.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(settled: Callable[[], None]) -> None:
        if not outcome.done():
            settled()

    def run() -> None:
        try:
            settled = partial(outcome.set_result, work())
        except Exception as error:  # noqa: BLE001 - it is handed to whoever waits
            settled = partial(outcome.set_exception, error)
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
            loop.call_soon_threadsafe(settle, settled)

    threading.Thread(target=run, name="queue-call", daemon=True).start()
    return await outcome
