"""Calls to ESPs: repeated where that is safe and may help, never blindly, and every outcome has its name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.limits import LONGEST_WAIT, Breaker, Limiter
from connectors.retry import Caller, Failure
from core.errors import AmbiguousOutcome, ProviderError, ProviderRefused

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
RETRIED = [408, 425, 429, 500, 502, 503, 504, 599]
NOT_RETRIED = [400, 401, 403, 404, 405, 409, 410, 413, 422, 431, 302]
PATIENCE = 30.0
"""Seconds after which a test that hangs gives up."""


class SdkError(Exception):
    """What an SDK raises; its text is a payload that must not be repeated."""

    def __init__(self, failure: Failure) -> None:
        super().__init__("ada@example.org")
        self.failure = failure


class Esp:
    """Fails as told, one failure a call, and then answers."""

    def __init__(self, *failures: Failure) -> None:
        self.failures = list(failures)
        self.asked = 0
        self.waits: list[float] = []
        self.now = 0.0

    def __call__(self) -> str:
        """One request."""
        self.asked += 1
        if self.failures:
            raise SdkError(self.failures.pop(0))
        return "answer"

    def caller(self, attempts: int = 5, breaker: Breaker | None = None) -> Caller:
        """A caller that notes its waits; only they move its clock."""

        def sleep(seconds: float) -> None:
            self.waits.append(seconds)
            self.now += seconds

        limiter = Limiter(sleep=sleep, monotonic=lambda: self.now)
        return Caller("ses", translate, now=lambda: NOW, attempts=attempts, limiter=limiter, breaker=breaker)


def translate(error: Exception) -> Failure | None:
    """As a connector does."""
    return error.failure if isinstance(error, SdkError) else None


def fail(failure: Failure) -> None:
    """One request that fails."""
    raise SdkError(failure)


def test_an_answer_is_answered() -> None:
    """One request, no wait."""
    esp = Esp()
    caller = esp.caller()
    assert caller(esp) == "answer"
    assert (caller.calls, esp.waits) == (1, [])


@pytest.mark.parametrize("status", [*RETRIED, None])
def test_what_may_pass_is_tried_again(status: int | None) -> None:
    """Overload, time-outs, failures of the ESP and of the network; every request is counted."""
    esp = Esp(*[Failure(status)] * 4)
    caller = esp.caller()
    assert caller(esp) == "answer"
    assert caller.calls == esp.asked == 5
    assert len(esp.waits) == 4
    assert all(wait > 0 for wait in esp.waits)


@pytest.mark.parametrize("status", [*RETRIED, None])
@pytest.mark.parametrize("attempts", [1, 3])
def test_attempts_come_to_an_end(status: int | None, attempts: int) -> None:
    """Then it is a ProviderError that is no refusal, with the status."""
    esp = Esp(*[Failure(status, detail="throttled")] * 10)
    with pytest.raises(ProviderError, match=r"^ses: out of reach: .*\(throttled\)$") as failed:
        esp.caller(attempts)(esp)
    assert type(failed.value) is ProviderError
    assert (failed.value.provider, failed.value.status, esp.asked) == ("ses", status, attempts)


@pytest.mark.parametrize(("status", "words"), [(503, "HTTP 503"), (None, "no answer")])
def test_messages_say_what_came_back(status: int | None, words: str) -> None:
    """The status or that there was none, and no empty brackets; five attempts unless told otherwise."""
    esp = Esp(*[Failure(status)] * 10)
    caller = Caller("ses", lambda error: vars(error).get("failure"), now=lambda: NOW, sleep=esp.waits.append)
    with pytest.raises(ProviderError, match=f"^ses: out of reach: {words}$"):
        caller(esp)
    assert (caller.calls, len(esp.waits)) == (5, 4)


@pytest.mark.parametrize("status", [400, 500, None])
@pytest.mark.parametrize("repeatable", [True, False])
def test_no_payload_stands_in_the_error_or_behind_it(status: int | None, repeatable: bool) -> None:
    """The SDK's exception, whose text is a payload, is neither cause nor context of what is raised."""
    with pytest.raises(ProviderError) as failed:
        Esp().caller(2)(lambda: fail(Failure(status)), repeatable=repeatable)
    links: list[BaseException | None] = [failed.value]
    while (link := links.pop()) is not None:
        assert "ada" not in f"{link} {link!r}"
        links.append(link.__cause__ or link.__context__)


@pytest.mark.parametrize("status", NOT_RETRIED)
@pytest.mark.parametrize("repeatable", [True, False])
def test_a_refusal_is_final(status: int, repeatable: bool) -> None:
    """Asking again does not change it: one request, whatever it asks to wait, and no payload in the message."""
    esp = Esp(Failure(status, {"retry-after": "1"}, detail="bad_request"))
    with pytest.raises(ProviderRefused, match=rf"^ses: refused: HTTP {status} \(bad_request\)$") as refused:
        esp.caller()(esp, repeatable=repeatable)
    assert (refused.value.status, esp.asked, esp.waits) == (status, 1, [])


@pytest.mark.parametrize("status", [status for status in [*RETRIED, None] if status != 429])
@pytest.mark.parametrize("headers", [{}, {"retry-after": "1"}, {"retry-after": "86400"}])
def test_what_must_not_be_repeated_is_ambiguous(status: int | None, headers: dict[str, str]) -> None:
    """It may have been carried out, even if an ESP or its gateway says when to ask again: one request, no more."""
    esp = Esp(Failure(status, headers))
    with pytest.raises(AmbiguousOutcome, match=r"^ses: no clear answer: ") as failed:
        esp.caller()(esp, repeatable=False)
    assert (failed.value.status, esp.asked, esp.waits) == (status, 1, [])


@pytest.mark.parametrize("failure", [Failure(429), Failure(429, {"retry-after": "3"}), Failure(sent=False)])
def test_what_was_certainly_not_done_is_tried_again(failure: Failure) -> None:
    """Although it must not be repeated blindly: nothing left, or it was turned away for the rate."""
    esp = Esp(failure, failure)
    assert esp.caller()(esp, repeatable=False) == "answer"
    assert esp.asked == 3


@given(st.lists(st.sampled_from([None, 429, 400, 404, *RETRIED]), max_size=8), st.booleans(), st.integers(1, 5))
def test_nothing_is_done_twice(statuses: list[int | None], sent: bool, attempts: int) -> None:
    """Every failure was done all the same, unless it proves otherwise: a blind repetition would show."""
    done: list[int | None] = []
    failures = chain((Failure(status, sent=sent or status is not None) for status in statuses), repeat(None))

    def request() -> None:
        failure = next(failures)
        if failure is None or not (failure.certainly_not_done or not failure.transient):
            done.append(failure.status if failure else 200)
        if failure:
            fail(failure)

    try:
        Esp().caller(attempts)(request, repeatable=False)
    except AmbiguousOutcome:
        assert len(done) == 1
    except ProviderError:
        assert done == []
    else:
        assert done == [200]


def test_an_ambiguous_outcome_after_a_retry_stays_ambiguous() -> None:
    """The first was refused for the rate, the second was cut off."""
    esp = Esp(Failure(429), Failure(None))
    with pytest.raises(AmbiguousOutcome):
        esp.caller()(esp, repeatable=False)
    assert esp.asked == 2


def test_an_asked_wait_is_kept() -> None:
    """At least what the ESP asks for, and no shorter than the usual wait."""
    esp = Esp(Failure(429, {"retry-after": "60"}), Failure(503, {"retry-after": "0"}), Failure(429))
    assert esp.caller()(esp) == "answer"
    assert len(esp.waits) == 3
    assert esp.waits[0] == 60
    assert all(0 < wait < 60 for wait in esp.waits[1:])


def test_waits_grow() -> None:
    """Exponentially with some jitter, up to half a minute: two callers do not knock in step."""
    first, second = Esp(*[Failure(503)] * 11), Esp(*[Failure(503)] * 11)
    for esp in (first, second):
        esp.caller(attempts=12)(esp)
        assert esp.waits[4] > esp.waits[1] > 0
        assert max(esp.waits) <= 31
    assert first.waits != second.waits


@pytest.mark.parametrize("repeatable", [True, False])
def test_an_esp_that_asks_for_too_long_is_out_of_reach(repeatable: bool) -> None:
    """No run sleeps for longer than the limit; at the limit it still does."""
    esp = Esp(Failure(429, {"retry-after": f"{LONGEST_WAIT + 1:.0f}"}))
    with pytest.raises(ProviderError, match="out of reach") as failed:
        esp.caller()(esp, repeatable=repeatable)
    assert (type(failed.value), esp.asked, esp.waits) == (ProviderError, 1, [])
    patient = Esp(Failure(429, {"retry-after": f"{LONGEST_WAIT:.0f}"}))
    assert patient.caller()(patient, repeatable=repeatable) == "answer"
    assert patient.waits == [LONGEST_WAIT]


@pytest.mark.parametrize("make", [lambda: ZeroDivisionError("a bug"), lambda: ProviderRefused("ses", "own finding")])
def test_other_errors_pass_unchanged(make: Callable[[], Exception]) -> None:
    """A bug stays a bug, and what a connector found out itself keeps its name."""
    error = make()
    esp = Esp()

    def broken() -> str:
        esp.asked += 1
        raise error

    with pytest.raises(type(error)) as raised:
        esp.caller()(broken)
    assert raised.value is error
    assert esp.asked == 1


# The limiter


def test_a_caller_keeps_its_limits() -> None:
    """Every attempt takes a turn: evenly spaced, those that repeat a call included."""
    now = [0.0]
    begun: list[float] = []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    esp = Esp(Failure(500), Failure(500))

    def request() -> str:
        begun.append(now[0])
        return esp()

    caller = Caller("ses", translate, now=lambda: NOW, limiter=Limiter(1, 0.1, sleep, lambda: now[0]))
    for _ in range(2):
        caller(request)
    assert begun == [0, 10, 20, 30]


@pytest.mark.parametrize(
    ("headers", "held"),
    [
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(SECONDS + 25)}, [25]),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(SECONDS + 3_600)}, [LONGEST_WAIT]),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(SECONDS - 25)}, []),
        ({"x-ratelimit-remaining": "499", "x-ratelimit-reset": str(SECONDS + 25)}, []),
        ({"retry-after": "25"}, []),
        ({}, []),
    ],
)
def test_a_used_up_limit_holds_the_next_call_back(headers: dict[str, str], held: list[float]) -> None:
    """A success says so too; the call to the same endpoint waits, and no other."""
    esp = Esp()
    caller = esp.caller()
    caller(lambda: caller.note(headers, "lists"), endpoint="lists")
    caller(esp, endpoint="imports")
    assert esp.waits == []
    caller(esp, endpoint="lists")
    assert esp.waits == held


@pytest.mark.parametrize(
    ("failure", "held"),
    [
        (Failure(429, {"retry-after": "25"}), [25]),
        (Failure(503, {"retry-after": "25"}), [25]),
        (Failure(429, {"x-ratelimit-reset": str(SECONDS + 25)}), [25]),
        (Failure(404, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(SECONDS + 25)}), [25]),
        (Failure(404, {"retry-after": "25"}), []),
        (Failure(500, {"x-ratelimit-remaining": "9", "x-ratelimit-reset": str(SECONDS + 25)}), []),
        (Failure(429, {"retry-after": "3600"}), []),
    ],
)
def test_what_a_failure_asks_for_holds_the_others_back(failure: Failure, held: list[float]) -> None:
    """The next call waits as long as the one that failed would have; too long is out of reach, and holds nobody."""
    esp = Esp(failure)
    caller = esp.caller(attempts=1)
    with pytest.raises(ProviderError):
        caller(esp)
    assert caller(esp) == "answer"
    assert esp.waits == held


# The breaker


def test_an_esp_out_of_reach_is_left_alone() -> None:
    """After five calls that failed to their last attempt: no request, and the error says when the next one goes."""
    now = [0.0]
    esp = Esp(*[Failure(500)] * 10)
    caller = esp.caller(2, Breaker(monotonic=lambda: now[0]))
    for _ in range(5):
        with pytest.raises(ProviderError, match="HTTP 500"):
            caller(esp)
    now[0] = 9.5
    with pytest.raises(ProviderError, match=r"^ses: out of reach: the last 5 .*; it is asked again in 21 s$") as failed:
        caller(esp)
    assert (type(failed.value), failed.value.status, esp.asked, caller.calls) == (ProviderError, None, 10, 10)
    now[0] = 30
    assert caller(esp) == caller(esp) == "answer"


@pytest.mark.parametrize(
    ("failure", "repeatable", "opens"),
    [
        (Failure(503), True, True),
        (Failure(None), False, True),
        (Failure(sent=False), False, True),
        (Failure(429, {"retry-after": "3600"}), True, True),
        (Failure(404), True, False),
        (Failure(401), False, False),
    ],
)
def test_what_opens_the_breaker(failure: Failure, repeatable: bool, opens: bool) -> None:
    """Failures that may pass and ambiguous outcomes; a refusal is an answer, and ends a row of failures."""
    caller = Esp().caller(1, Breaker(2))
    for each in (Failure(500), failure):
        with pytest.raises(ProviderError):
            caller(lambda each=each: fail(each), repeatable=repeatable)  # type: ignore[misc]
    esp = Esp(Failure(500))
    with pytest.raises(ProviderError, match="asked again" if opens else "HTTP 500"):
        caller(esp)
    assert esp.asked == (0 if opens else 1)


def test_a_bug_says_nothing_about_the_esp() -> None:
    """Neither does what a connector finds out itself: in the trial, the next call decides in its place."""
    now = [0.0]
    caller = Esp().caller(1, Breaker(1, monotonic=lambda: now[0]))
    with pytest.raises(ProviderError):
        caller(lambda: fail(Failure(500)))
    now[0] = 30
    for error in (ZeroDivisionError("a bug"), ProviderError("ses", "own finding"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            caller(lambda error=error: raising(error))  # type: ignore[misc]
    assert caller(Esp()) == "answer"


def raising(error: BaseException) -> None:
    """A request that ends so."""
    raise error


# Threads


def test_threads_share_a_caller() -> None:
    """Each gets its own answer, no more run at once than may, and every request is counted once."""
    lock, meeting = threading.Lock(), threading.Barrier(4)
    failed: set[int] = set()
    running: list[int] = []
    most: list[int] = []

    def request(number: int) -> int:
        with lock:
            running.append(number)
            most.append(len(running))
        meeting.wait(PATIENCE)
        with lock:
            running.remove(number)
            first = number not in failed
            failed.add(number)
        if first:
            raise SdkError(Failure(500))
        return number

    limiter = Limiter(4, sleep=lambda _: None)
    caller = Caller("ses", translate, now=lambda: NOW, limiter=limiter, breaker=Breaker(1_000))
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda number: caller(lambda: request(number)), range(64))
        assert list(answers) == list(range(64))
    assert (caller.calls, max(most)) == (128, 4)
