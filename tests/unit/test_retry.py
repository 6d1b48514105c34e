"""Calls to ESPs: repeated where that is safe and may help, never blindly, and every outcome has its name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.retry import LONGEST_WAIT, Caller, Failure, asked_wait
from core.errors import AmbiguousOutcome, ProviderError, ProviderRefused

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
RETRIED = [408, 425, 429, 500, 502, 503, 504, 599]
NOT_RETRIED = [400, 401, 403, 404, 405, 409, 410, 413, 422, 431, 302]
NOT_DONE = [408, 425, 429, 503]


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

    def __call__(self) -> str:
        """One request."""
        self.asked += 1
        if self.failures:
            raise SdkError(self.failures.pop(0))
        return "answer"

    def caller(self, attempts: int = 5) -> Caller:
        """A caller that notes its waits instead of waiting."""

        def translate(error: Exception) -> Failure | None:
            return error.failure if isinstance(error, SdkError) else None

        return Caller("ses", translate, now=lambda: NOW, sleep=self.waits.append, attempts=attempts)


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
    assert "ada" not in str(failed.value)
    assert isinstance(failed.value.__cause__, SdkError)


@pytest.mark.parametrize(("status", "words"), [(503, "HTTP 503"), (None, "no answer")])
def test_messages_say_what_came_back(status: int | None, words: str) -> None:
    """The status or that there was none, and no empty brackets; five attempts unless told otherwise."""
    esp = Esp(*[Failure(status)] * 10)
    caller = Caller("ses", lambda error: vars(error).get("failure"), now=lambda: NOW, sleep=esp.waits.append)
    with pytest.raises(ProviderError, match=f"^ses: out of reach: {words}$"):
        caller(esp)
    assert (caller.calls, len(esp.waits)) == (5, 4)


@pytest.mark.parametrize("status", NOT_RETRIED)
@pytest.mark.parametrize("repeatable", [True, False])
def test_a_refusal_is_final(status: int, repeatable: bool) -> None:
    """Asking again does not change it: one request, whatever it asks to wait, and no payload in the message."""
    esp = Esp(Failure(status, {"retry-after": "1"}, detail="bad_request"))
    with pytest.raises(ProviderRefused, match=rf"^ses: refused: HTTP {status} \(bad_request\)$") as refused:
        esp.caller()(esp, repeatable=repeatable)
    assert (refused.value.status, esp.asked, esp.waits) == (status, 1, [])


@pytest.mark.parametrize("status", [s for s in [*RETRIED, None] if s not in NOT_DONE])
def test_what_must_not_be_repeated_is_ambiguous(status: int | None) -> None:
    """It may have been carried out: one request, and a person decides."""
    esp = Esp(Failure(status))
    with pytest.raises(AmbiguousOutcome, match=r"^ses: no clear answer: ") as failed:
        esp.caller()(esp, repeatable=False)
    assert (failed.value.status, esp.asked) == (status, 1)


@pytest.mark.parametrize("failure", [*(Failure(status) for status in NOT_DONE), Failure(sent=False)])
def test_what_was_certainly_not_done_is_tried_again(failure: Failure) -> None:
    """Although it must not be repeated blindly: nothing left, or the ESP says that it did nothing."""
    esp = Esp(failure, failure)
    assert esp.caller()(esp, repeatable=False) == "answer"
    assert esp.asked == 3


def test_an_ambiguous_outcome_after_a_retry_stays_ambiguous() -> None:
    """The first was refused for the rate, the second was cut off."""
    esp = Esp(Failure(429), Failure(None))
    with pytest.raises(AmbiguousOutcome):
        esp.caller()(esp, repeatable=False)
    assert esp.asked == 2


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
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 25)}, 25),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) - 25)}, 0),
        ({"retry-after": "5", "x-ratelimit-reset": str(int(NOW.timestamp()) + 25)}, 5),
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
def test_the_wait_that_an_esp_asks_for(headers: dict[str, str], seconds: float) -> None:
    """Seconds or a date (RFC 9110 §10.2.3), or the reset of the rate limit in epoch seconds; unreadable is none."""
    assert asked_wait(headers, NOW) == seconds


@given(st.text(max_size=40), st.text(max_size=20))
@example("Mon, 99 Jan 2026 00:00:00 GMT", "9" * 400)
@example("9" * 400, "")
@example("1 Jan 0001 00:00:00 +9999", "")
@example(" ", "\x1c")
def test_no_header_breaks_a_call(after: str, reset: str) -> None:
    """Whatever an ESP or a proxy writes there: a number of seconds, never below 0."""
    assert asked_wait({"retry-after": after, "x-ratelimit-reset": reset}, NOW) >= 0
    assert asked_wait({"x-ratelimit-reset": reset}, NOW) >= 0


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


def test_an_asked_wait_is_kept() -> None:
    """At least what the ESP asks for, and no shorter than the usual wait."""
    esp = Esp(Failure(429, {"retry-after": "60"}), Failure(503, {"retry-after": "0"}), Failure(429))
    assert esp.caller()(esp) == "answer"
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
