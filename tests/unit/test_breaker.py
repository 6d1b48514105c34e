"""An ESP that is out of reach is left alone, and asked again by one call at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from connectors.limits import Breaker, Open

PATIENCE = 30.0
"""Seconds after which a test that hangs gives up."""


class Clock:
    """A clock that stands still until it is set."""

    now = 1_000.0

    def monotonic(self) -> float:
        """The time."""
        return self.now


def open_breaker(clock: Clock) -> Breaker:
    """One that has just opened, for 30 seconds."""
    breaker = Breaker(monotonic=clock.monotonic)
    for _ in range(5):
        breaker.failed(breaker.admit())
    return breaker


def test_five_failures_in_a_row_open_it() -> None:
    """Not four, and not five with an answer between."""
    breaker = Breaker(monotonic=Clock().monotonic)
    for outcome in [breaker.failed] * 4 + [breaker.answered] + [breaker.failed] * 5:
        outcome(breaker.admit())
    with pytest.raises(Open) as refused:
        breaker.admit()
    assert (refused.value.failures, refused.value.seconds) == (5, 30)


def test_it_is_open_for_its_time() -> None:
    """Until the last moment; and whoever is refused learns for how long."""
    clock = Clock()
    breaker = open_breaker(clock)
    clock.now += 29.5
    with pytest.raises(Open) as refused:
        breaker.admit()
    assert refused.value.seconds == 0.5
    clock.now += 0.5
    breaker.admit()


def test_one_thread_alone_tries() -> None:
    """Of twenty that ask at the same moment."""
    clock = Clock()
    breaker, start = open_breaker(clock), threading.Barrier(20)
    clock.now += 30

    def ask(_number: int) -> bool:
        start.wait(PATIENCE)
        try:
            breaker.admit()
        except Open:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(ask, range(20))) == 1


def test_the_trial_decides() -> None:
    """A failure opens it for another period at once; an answer closes it, and five more are needed."""
    clock = Clock()
    breaker = open_breaker(clock)
    clock.now += 30
    breaker.failed(breaker.admit())
    clock.now += 29
    with pytest.raises(Open):
        breaker.admit()
    clock.now += 1
    breaker.answered(breaker.admit())
    for _ in range(4):
        breaker.failed(breaker.admit())
    breaker.admit()


def test_a_trial_that_says_nothing_is_tried_again() -> None:
    """An interrupted program, or a bug, in the trial: the next call takes its place."""
    clock = Clock()
    breaker = open_breaker(clock)
    clock.now += 30
    breaker.dismissed(breaker.admit())
    breaker.failed(breaker.admit())
    with pytest.raises(Open):
        breaker.admit()


@pytest.mark.parametrize("outcome", ["answered", "failed", "dismissed"])
def test_calls_from_before_decide_nothing(outcome: str) -> None:
    """They left before it opened: they neither close it, nor prolong it, nor end the trial of another."""
    clock = Clock()
    breaker = Breaker(monotonic=clock.monotonic)
    late = [breaker.admit() for _ in range(3)]
    for _ in range(5):
        breaker.failed(breaker.admit())
    clock.now += 10
    getattr(breaker, outcome)(late[0])
    with pytest.raises(Open) as refused:
        breaker.admit()
    assert refused.value.seconds == 20
    clock.now += 20
    breaker.admit()
    getattr(breaker, outcome)(late[1])
    with pytest.raises(Open):
        breaker.admit()


class BreakerHistory(RuleBasedStateMachine):
    """Any order of calls, outcomes and pauses, against what the breaker promises."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(3, 30, self.clock.monotonic)
        self.running: list[tuple[int, int]] = []
        self.period = 0
        self.in_a_row = 0
        self.opened: float | None = None
        self.trial = False

    @rule()
    def call(self) -> None:
        """A call is let through exactly when it should be."""
        may = self.opened is None or (not self.trial and self.clock.now >= self.opened + 30)
        try:
            era, wait = self.breaker.admit(), 0.0
        except Open as refused:
            era, wait = -1, refused.seconds
        assert may == (wait == 0)
        assert 0 <= wait <= 30
        if may:
            self.trial = self.opened is not None
            self.running.append((self.period, era))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(["answered", "failed", "dismissed"]))
    def ends(self, data: st.DataObject, outcome: str) -> None:
        """Any of the running calls ends."""
        period, era = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        getattr(self.breaker, outcome)(era)
        if period != self.period:
            return
        if outcome == "answered":
            self.in_a_row, self.opened = 0, None
        elif outcome == "failed":
            self.in_a_row += 1
            if self.trial or self.in_a_row >= 3:
                self.opened = self.clock.now
                self.period += 1
        self.trial = False

    @rule(seconds=st.sampled_from([1, 15, 29, 30]))
    def pause(self, seconds: int) -> None:
        """Time passes."""
        self.clock.now += seconds


TestBreakerHistory = BreakerHistory.TestCase
