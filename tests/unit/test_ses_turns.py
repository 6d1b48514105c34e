"""Turns at an API that takes so many requests a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.ses.turns import Turns


@dataclass
class Clock:
    """A clock that only sleeping moves. ``meanwhile``: what happens during the next sleeps, before they end."""

    now: float = 100.0
    meanwhile: list[Callable[[], None]] = field(default_factory=list)

    def monotonic(self) -> float:
        """The time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        if self.meanwhile:
            self.meanwhile.pop(0)()
        self.now = max(self.now, end)


@given(pauses=st.lists(st.floats(0, 5), min_size=1, max_size=30), rate=st.sampled_from([0.5, 1.0, 4.0]))
def test_turns_are_evenly_spaced(pauses: list[float], rate: float) -> None:
    """Whatever passes between them, two turns are never closer than the rate allows."""
    clock = Clock()
    turns, taken = Turns(rate, clock.sleep, clock.monotonic), []
    for pause in pauses:
        clock.now += pause
        turns.take()
        taken.append(clock.now)
    assert all(later - earlier >= 1 / rate - 1e-9 for earlier, later in pairwise(taken))


def test_the_first_turn_is_at_once() -> None:
    """And so is any that comes late enough."""
    clock = Clock()
    turns = Turns(1.0, clock.sleep, clock.monotonic)
    turns.take()
    assert clock.now == 100.0
    clock.now = 101.5
    turns.take()
    assert clock.now == 101.5


def test_the_urgent_one_goes_before_who_sleeps_already() -> None:
    """Somebody sleeps towards the next turn; who is urgent takes that very turn."""
    clock, order = Clock(), []
    turns = Turns(1.0, clock.sleep, clock.monotonic)
    turns.take()

    def urgent() -> None:
        turns.take(urgent=True)
        order.append(("urgent", clock.now))

    other = threading.Thread(target=urgent, daemon=True)

    def meanwhile() -> None:
        other.start()
        other.join(10)  # it is through before the sleep ends, and never where it has to wait behind the sleeper

    clock.meanwhile.append(meanwhile)
    turns.take()
    order.append(("patient", clock.now))
    other.join(10)
    assert order == [("urgent", 101.0), ("patient", 102.0)]


def test_many_threads_get_a_turn_each_and_the_urgent_ones_first() -> None:
    """Twenty wait while one sleeps; the urgent ones among them come first, each kind in the order of its arrival."""
    clock, order, lock = Clock(), [], threading.Lock()
    asleep, go = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        asleep.set()
        assert go.wait(30)
        with lock:
            clock.now = max(clock.now, clock.now + seconds)

    turns = Turns(1.0, sleep, clock.monotonic)
    turns.take()

    def take(name: int) -> None:
        turns.take(urgent=name % 2 == 0)
        with lock:
            order.append(name)

    threads = []
    for name in range(1, 21):
        thread = threading.Thread(target=take, args=(name,))
        threads.append(thread)
        thread.start()
        while len(turns._waiting) < name:
            assert asleep.wait(30) or name == 1
    go.set()
    for thread in threads:
        thread.join(30)
    assert sorted(order) == list(range(1, 21))
    assert set(order[:10]) == set(range(2, 21, 2))


def test_who_is_interrupted_leaves_the_line() -> None:
    """The next one is not kept waiting for somebody who has gone."""

    def sleep(_seconds: float) -> None:
        raise KeyboardInterrupt

    clock = Clock()
    turns = Turns(1.0, sleep, clock.monotonic)
    turns.take()
    with pytest.raises(KeyboardInterrupt):
        turns.take()
    clock.now += 1
    turns.take()
