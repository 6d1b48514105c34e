"""Turns at an API that takes so many requests a second: evenly spaced, and the urgent ones first."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count

_Ticket = tuple[bool, int]


class Turns:
    """Gives out turns, one by one. Several threads share it.

    Whoever is urgent is next, however many others wait: a withdrawal waits for one turn at most while a list of a
    million contacts is read. Turns are not reserved ahead, so that this holds for those who sleep already.

    Args:
        per_second: Turns a second, above 0.
        sleep: How to wait, in seconds. When it returns, that time counts as over.
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(
        self,
        per_second: float,
        sleep: Callable[[float], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._distance = 1 / per_second
        self._sleep = sleep
        self._monotonic = monotonic
        self._next = 0.0
        self._tickets = count()
        self._waiting: list[_Ticket] = []
        self._changed = threading.Condition()

    def take(self, *, urgent: bool = False) -> None:
        """Wait for a turn, and take it."""
        ticket = (not urgent, next(self._tickets))
        with self._changed:
            heapq.heappush(self._waiting, ticket)
        slept_until = 0.0
        try:
            while (due := self._due(ticket, slept_until)) is not None:
                self._sleep(max(0.0, due - self._monotonic()))
                slept_until = due
        finally:
            self._leave(ticket)

    def _due(self, ticket: _Ticket, slept_until: float) -> float | None:
        """When the next turn is, once nobody is before this ticket; None: it is now, and is taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting[0] == ticket)
            now = max(self._monotonic(), slept_until)
            if self._next > now:
                return self._next
            self._next = max(self._next, self._monotonic()) + self._distance
            return None

    def _leave(self, ticket: _Ticket) -> None:
        with self._changed:
            self._waiting.remove(ticket)
            heapq.heapify(self._waiting)
            self._changed.notify_all()
