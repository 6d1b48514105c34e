"""ESPs are asked no faster than they allow, and left alone while they are out of reach."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.limits import LONGEST_WAIT, Limiter, asked_wait, used_up_wait

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
PATIENCE = 30.0
"""Seconds after which a test that hangs gives up."""


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds

    def monotonic(self) -> float:
        """The time."""
        return self.now

    def limiter(self, concurrency: int = 1, per_second: float | None = None) -> Limiter:
        """A limiter that lives by this clock."""
        return Limiter(concurrency, per_second, self.sleep, self.monotonic)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until other threads have got so far."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the other threads do not get there"
        time.sleep(0.001)


# What answers say


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "17"}, 17),
        ({"retry-after": " 17 "}, 17),
        ({"retry-after": "0"}, 0),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=40), usegmt=True)}, 40),
        ({"retry-after": "Mon, 02 Nov 2026 09:00:40 -0000"}, 40),
        ({"retry-after": "Mon, 02 Nov 2026 10:00:40 +0100"}, 40),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=40), usegmt=True)}, 0),
        ({"x-ratelimit-reset": str(SECONDS + 25)}, 25),
        ({"x-ratelimit-reset": str(SECONDS - 25)}, 0),
        ({"x-ratelimit-reset": str(SECONDS + 25), "x-ratelimit-remaining": "0"}, 25),
        ({"x-ratelimit-reset": str(SECONDS + 25), "x-ratelimit-remaining": "many"}, 25),
        ({"x-ratelimit-reset": str(SECONDS + 25), "x-ratelimit-remaining": " 1 "}, 0),
        ({"retry-after": "5", "x-ratelimit-reset": str(SECONDS + 25)}, 5),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "1.5"}, 0),
        ({"retry-after": "²"}, 0),
        ({"x-ratelimit-reset": "²"}, 0),
        ({"x-ratelimit-reset": "later"}, 0),
        ({"retry-after": "Mon, 02 Nov 2026 09:00:40 +99999999999999"}, 0),
        ({}, 0),
    ],
)
def test_the_wait_that_a_failure_asks_for(headers: dict[str, str], seconds: float) -> None:
    """Seconds or a date (RFC 9110 §10.2.3), or the reset of a rate limit that is used up; unreadable is none."""
    assert asked_wait(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("remaining", "seconds"), [("0", 25), (" 0 ", 25), ("00", 25), ("1", 0), ("", 0), ("none", 0), ("-1", 0), ("²", 0)]
)
def test_a_success_holds_back_only_when_nothing_remains(remaining: str, seconds: float) -> None:
    """SendGrid sends the reset with every answer."""
    headers = {"x-ratelimit-remaining": remaining, "x-ratelimit-reset": str(SECONDS + 25)}
    assert used_up_wait(headers, NOW) == seconds
    assert used_up_wait({"x-ratelimit-reset": str(SECONDS + 25)}, NOW) == 0
    assert used_up_wait({"x-ratelimit-remaining": "0"}, NOW) == 0


@given(st.text(max_size=40), st.text(max_size=20), st.text(max_size=20))
@example("Mon, 99 Jan 2026 00:00:00 GMT", "9" * 400, "0")
@example("9" * 400, "", "9" * 400)
@example("1 Jan 0001 00:00:00 +9999", "", "")
@example(" ", "\x1c", "\u0660")
def test_no_header_breaks_a_call(after: str, reset: str, remaining: str) -> None:
    """Whatever an ESP or a proxy writes there: a number of seconds, never below 0."""
    limits = {"x-ratelimit-reset": reset, "x-ratelimit-remaining": remaining}
    assert asked_wait({"retry-after": after, **limits}, NOW) >= 0
    assert asked_wait(limits, NOW) >= 0
    assert used_up_wait(limits, NOW) >= 0


@given(
    st.builds(
        "{}{} {} {} {} {}".format,
        st.sampled_from(["Mon, ", ""]),
        st.integers(0, 10**12),
        st.sampled_from(["Jan", "nov", "xyz"]),
        st.integers(-(10**12), 10**12),
        st.text("0123456789:", max_size=12),
        st.text("+-0123456789GMT", max_size=12),
    )
)
def test_no_date_breaks_a_call(date: str) -> None:
    """Dates of any numbers included."""
    assert asked_wait({"retry-after": date}, NOW) >= 0


# The limiter: how many at once


def test_so_many_calls_run_at_once_and_no_more() -> None:
    """Three meet in the middle of their calls, four times over; a fourth never does."""
    limiter, meeting, lock = Limiter(3), threading.Barrier(3), threading.Lock()
    running: list[int] = []
    most: list[int] = []

    def call() -> None:
        with limiter.turn():
            with lock:
                running.append(1)
                most.append(len(running))
            meeting.wait(PATIENCE)
            with lock:
                running.pop()

    with ThreadPoolExecutor(12) as pool:
        for done in [pool.submit(call) for _ in range(12)]:
            done.result(PATIENCE)
    assert max(most) == 3


def test_places_are_given_in_the_order_of_asking() -> None:
    """Whoever waits longest is next, and nobody who comes later slips in."""
    limiter, order = Limiter(1), list[int]()

    def call(number: int) -> None:
        with limiter.turn():
            order.append(number)

    with ThreadPoolExecutor(20) as pool, limiter.turn():
        for number in range(20):
            pool.submit(call, number)
            eventually(lambda: len(limiter._places._queue) > number)  # noqa: B023 - asked before the next round
    assert order == list(range(20))


def test_a_call_that_fails_gives_its_place_back() -> None:
    """Else the limiter would stand still after a few errors."""
    limiter = Limiter(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), limiter.turn():
            raise ZeroDivisionError
    with limiter.turn():
        pass


@pytest.mark.parametrize("handed_over", [False, True])
def test_an_interrupted_wait_takes_no_place(handed_over: bool) -> None:
    """Whether it is interrupted in the line, or at the very moment when it was given a place."""
    limiter, main = Limiter(1), threading.get_ident()

    def interrupt(*_: object) -> None:
        if handed_over:
            limiter._places.leave()
        raise InterruptedError

    def interrupt_once_in_line() -> None:
        eventually(lambda: bool(limiter._places._queue))
        with limiter._places._lock:  # the main thread has let go of it: its handler can take it
            pass
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        limiter._places.enter()
        watcher = threading.Thread(target=interrupt_once_in_line)
        watcher.start()
        with pytest.raises(InterruptedError):
            limiter._places.enter()
        watcher.join(PATIENCE)
    finally:
        signal.signal(signal.SIGUSR1, before)
    if not handed_over:
        limiter._places.leave()
    assert (limiter._places._free, [*limiter._places._queue]) == (1, [])


@pytest.mark.parametrize(("concurrency", "rate"), [(0, None), (-1, 1.0), (1, 0.0), (1, -1.0), (1, float("nan"))])
def test_a_limiter_lets_something_through(concurrency: int, rate: float | None) -> None:
    """A limit of nothing is a mistake, and is said at once."""
    with pytest.raises(ValueError, match="from 1"):
        Limiter(concurrency, rate)


# The limiter: how many a second, and not yet


@given(
    st.floats(0.1, 50),
    st.lists(
        st.tuples(
            st.floats(0, 20).map(lambda seconds: round(seconds, 3)),
            st.none() | st.integers(0, 3 * int(LONGEST_WAIT)),
            st.floats(0, 40),
        ),
        max_size=12,
    ),
)
def test_a_call_begins_as_soon_as_it_may_and_no_sooner(
    rate: float, calls: list[tuple[float, int | None, float]]
) -> None:
    """Evenly spaced, behind every hold and behind its own wait; and waiting no longer than these ask for."""
    clock = Time()
    limiter, begun, held = clock.limiter(per_second=rate), clock.now - 1 / rate, 0.0
    for idle, hold, after in calls:
        clock.now += idle
        if hold is not None:
            limiter.hold(hold)
            held = max(held, clock.now + min(hold, LONGEST_WAIT))
        expected = max(clock.now + after, held, begun + 1 / rate)
        with limiter.turn(after=after):
            assert clock.now == pytest.approx(expected, abs=1e-6)
        begun = clock.now


def test_threads_begin_evenly_spaced() -> None:
    """Each has a slot of its own: with the clock stopped they sleep for 0, 1, 2 … distances."""
    slept: list[float] = []
    limiter = Limiter(16, 4, slept.append, lambda: 50.0)

    def call() -> None:
        with limiter.turn():
            pass

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(call) for _ in range(64)]:
            done.result(PATIENCE)
    assert sorted(slept) == [number / 4 for number in range(1, 64)]


def test_pauses_are_not_saved_up() -> None:
    """After an hour without a call the rate is what it was."""
    clock = Time()
    limiter, begun = clock.limiter(per_second=2), list[float]()
    clock.now += 3_600
    for _ in range(3):
        with limiter.turn():
            begun.append(clock.now)
    assert [later - sooner for sooner, later in pairwise(begun)] == [0.5, 0.5]


def test_a_hold_is_for_its_endpoint() -> None:
    """SendGrid limits each endpoint by itself: an export that must wait holds up no withdrawal."""
    clock = Time()
    limiter = clock.limiter()
    limiter.hold(30, "exports")
    with limiter.turn("lists"):
        assert clock.slept == []
    with limiter.turn("exports"):
        assert clock.slept == [30]


def test_who_is_held_back_takes_no_place() -> None:
    """One place: it stays free for others for as long as somebody sleeps."""
    asleep, go_on = threading.Event(), threading.Event()

    def sleep(_seconds: float) -> None:
        asleep.set()
        assert go_on.wait(PATIENCE)

    limiter = Limiter(1, None, sleep)
    limiter.hold(30, "exports")
    with ThreadPoolExecutor(1) as pool:

        def call() -> bool:
            with limiter.turn("exports"):
                return True

        held = pool.submit(call)
        assert asleep.wait(PATIENCE)
        with limiter.turn("lists"):
            go_on.set()
        assert held.result(PATIENCE)


def test_a_hold_reaches_those_in_line() -> None:
    """The limit was used up by the call before: who waits for its place begins no sooner than the ESP allows."""
    slept: list[float] = []
    limiter = Limiter(1, None, slept.append, lambda: 50.0)

    def call() -> list[float]:
        with limiter.turn():
            return [*slept]

    with ThreadPoolExecutor(1) as pool:
        with limiter.turn():
            waiting = pool.submit(call)
            eventually(lambda: bool(limiter._places._queue))
            limiter.hold(30)
        assert waiting.result(PATIENCE) == [30]


def test_holds_neither_shrink_nor_last_for_ever() -> None:
    """The longest counts; ever new ones end at the longest wait; what is over holds nobody."""
    clock = Time()
    limiter = clock.limiter()
    for seconds in (20, 5, 0, -1):
        limiter.hold(seconds)
    with limiter.turn():
        assert clock.slept == [20]
    with limiter.turn():
        assert clock.slept == [20]

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        stubborn.hold(50)

    stubborn = Limiter(1, None, sleep, clock.monotonic)
    stubborn.hold(50)
    began = clock.now
    with stubborn.turn(after=10):
        assert clock.now - began == LONGEST_WAIT
