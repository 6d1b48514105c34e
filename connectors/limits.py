"""How fast an ESP may be asked, and when it is left alone: a rate limiter and a circuit breaker for each provider.

What the providers document:

- SendGrid: ``X-RateLimit-Limit/-Remaining/-Reset`` (epoch seconds) on *every* answer, 429 beyond the limit, each
  endpoint with a limit of its own; no numbers (Web API v3, «Rate limits»).
- Mailchimp: 10 connections at once for each user, and no headers (Marketing API, «Fundamentals»).
- SES: one management call a second; sending has its own rate (SES developer guide, «Service quotas»).
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_WAIT = 120.0
"""Seconds. An ESP that asks for more is out of reach for this run."""

_NEVER = -math.inf

CONCURRENCY = 8
"""Calls at once, unless told otherwise: below Mailchimp's 10, which other programs of the same user share."""


def asked_wait(headers: Mapping[str, str], now: datetime) -> float:
    """The seconds that a failure asks to wait; 0 when it does not say or says it unreadably.

    ``Retry-After`` (seconds or a date, RFC 9110 §10.2.3), else the reset of the rate limit, unless some of it remains.
    ``headers``: names in lower case.
    """
    after = headers.get("retry-after", "").strip()
    if after.isdecimal():
        return float(after)
    if after:
        try:
            at = parsedate_to_datetime(after)
        except (ValueError, OverflowError):
            return 0.0
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
    return 0.0 if _remaining(headers) else _reset_wait(headers, now)


def used_up_wait(headers: Mapping[str, str], now: datetime) -> float:
    """The seconds until the rate limit begins anew, for an answer after which nothing of it remains; else 0."""
    return _reset_wait(headers, now) if _remaining(headers) == 0 else 0.0


def _remaining(headers: Mapping[str, str]) -> float | None:
    remaining = headers.get("x-ratelimit-remaining", "").strip()
    return float(remaining) if remaining.isdecimal() else None


def _reset_wait(headers: Mapping[str, str], now: datetime) -> float:
    reset = headers.get("x-ratelimit-reset", "").strip()
    return max(0.0, float(reset) - now.timestamp()) if reset.isdecimal() else 0.0


class Limiter:
    """Lets so many calls run at once, begins so many a second, and holds back those that the ESP does not want yet.

    Calls that wait for a place get it in the order in which they asked; their beginnings are evenly spaced. One
    limiter may be shared by several threads, and by several callers.

    Args:
        concurrency: Calls at once, from 1.
        per_second: Calls that begin in a second, above 0; None for no limit.
        sleep: How to wait, in seconds.
        monotonic: A clock that never goes back, in seconds.

    Raises:
        ValueError: a limit that lets nothing through.
    """

    def __init__(
        self,
        concurrency: int = CONCURRENCY,
        per_second: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if concurrency < 1 or (per_second is not None and not per_second > 0):
            raise ValueError("a limiter takes a concurrency from 1 and a rate above 0")
        self._places = _Places(concurrency)
        self._distance = 1 / per_second if per_second else 0.0
        self._sleep = sleep
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._next = monotonic()
        self._held: dict[str, float] = {}

    @contextmanager
    def turn(self, endpoint: str = "", *, after: float = 0.0) -> Iterator[None]:
        """Wait until a call may begin, and count it as running until the context ends.

        Args:
            endpoint: What the ESP limits by itself; a fixed name, for each one is remembered.
            after: Seconds to wait at least, because an earlier attempt failed.
        """
        self._take_place(endpoint, after)
        try:
            self._keep_distance()
            yield
        finally:
            self._places.leave()

    def hold(self, seconds: float, endpoint: str = "") -> None:
        """Let no further call to this endpoint begin for so long, but never longer than ``LONGEST_WAIT``."""
        if seconds <= 0:
            return
        until = self._monotonic() + min(seconds, LONGEST_WAIT)
        with self._lock:
            self._held[endpoint] = max(until, self._held.get(endpoint, until))

    def _take_place(self, endpoint: str, after: float) -> None:
        # Whoever is held back sleeps without a place, so that no call to another endpoint waits behind it. The holds
        # of one turn end at LONGEST_WAIT together.
        slept = 0.0
        while True:
            until = self._held_until(endpoint)
            held = until - self._monotonic()
            delay = min(max(after, held), LONGEST_WAIT - slept)
            if delay > 0:
                self._sleep(delay)
                slept += delay
            if delay >= held:
                self._lift(endpoint, until)
            after = 0.0
            self._places.enter()
            if self._held_until(endpoint) <= self._monotonic() or slept >= LONGEST_WAIT:
                return
            self._places.leave()

    def _held_until(self, endpoint: str) -> float:
        with self._lock:
            return self._held.get(endpoint, _NEVER)

    def _lift(self, endpoint: str, until: float) -> None:
        """What was slept through is over, whatever the clock says; unless it was prolonged meanwhile."""
        with self._lock:
            if self._held.get(endpoint) == until:
                del self._held[endpoint]

    def _keep_distance(self) -> None:
        now = self._monotonic()
        with self._lock:
            delay = self._next - now
            self._next = max(self._next, now) + self._distance
        if delay > 0:
            self._sleep(delay)


class _Places:
    """A semaphore whose places are handed over in the order of asking; nobody slips in between."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Take a place, once there is one."""
        mine = threading.Event()
        try:
            with self._lock:
                if self._free:
                    self._free -= 1
                    mine.set()
                else:
                    self._queue.append(mine)
            mine.wait()
        except BaseException:  # whoever is interrupted must not take a place along
            self._give_up(mine)
            raise

    def leave(self) -> None:
        """Give the place to whoever has waited longest."""
        with self._lock:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._free += 1

    def _give_up(self, mine: threading.Event) -> None:
        with self._lock:
            if mine in self._queue:
                self._queue.remove(mine)
                return
        if mine.is_set():
            self.leave()


class Open(Exception):
    """The breaker lets no call through.

    Attributes:
        failures: How many calls in a row had failed.
        seconds: After how long it lets one through.
    """

    def __init__(self, failures: int, seconds: float) -> None:
        super().__init__(f"open for {seconds:.0f} s")
        self.failures = failures
        self.seconds = seconds


class Breaker:
    """Leaves an ESP alone for a while after so many calls in a row could not be carried out.

    Then one call, and no other beside it, is let through and decides: an answer closes the breaker, even a refusal; a
    failure opens it again. Calls that began before it opened decide nothing afterwards. May be shared by threads.

    No withdrawal starves behind it. A push that meets the open breaker fails at once and stays where it was:
    ``webhooks.propagation`` tries again after 30 seconds, by when an opening that it met is over, and what an ESP
    has not confirmed differs from the ledger, so the next ``sync`` sends it first. The breaker only makes the wait
    between two tries cheap; it never answers that something was done.

    Args:
        threshold: Failed calls in a row, from 1.
        open_seconds: For how long nothing is asked.
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(
        self, threshold: int = 5, open_seconds: float = 30.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._threshold = threshold
        self._open_seconds = open_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until: float | None = None
        self._trying = False
        self._era = 0

    def admit(self) -> int:
        """Let a call through; answers what to hand back with its outcome.

        Raises:
            Open: not now.
        """
        now = self._monotonic()
        with self._lock:
            if self._open_until is None:
                return self._era
            if self._trying:
                raise Open(self._failures, self._open_seconds)
            if now < self._open_until:
                raise Open(self._failures, self._open_until - now)
            self._trying = True
            return self._era

    def answered(self, era: int) -> None:
        """The ESP answered, be it with a refusal."""
        with self._lock:
            if era == self._era:
                self._failures, self._open_until, self._trying = 0, None, False

    def failed(self, era: int) -> None:
        """The call could not be carried out, or nobody knows whether it was."""
        now = self._monotonic()
        with self._lock:
            if era != self._era:
                return
            self._failures += 1
            if self._failures >= self._threshold:  # a trial's is one more
                self._open_until, self._trying = now + self._open_seconds, False
                self._era += 1

    def dismissed(self, era: int) -> None:
        """The call ended by something that says nothing about the ESP; the next one decides in its place."""
        with self._lock:
            if era == self._era:
                self._trying = False
