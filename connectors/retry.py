"""Calls to an ESP: counted, retried where that is safe, and their failures told apart.

Retried: 408, 425, 429 and 5xx answers, and network failures; never any other 4xx. The wait is exponential with
jitter, and at least what ``Retry-After`` (seconds or a date, RFC 9110 §10.2.3) or ``X-RateLimit-Reset`` (epoch
seconds) asks for. A call that must not be repeated blindly (sending mail) is retried only when the failure proves
that nothing was done; otherwise its outcome is ambiguous and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from core.errors import AmbiguousOutcome, ProviderError, ProviderRefused
from core.ports import Clock

T = TypeVar("T")

LONGEST_WAIT = 120.0
"""Seconds. An ESP that asks for more is out of reach for this run."""

_RETRIED_4XX = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_NOT_DONE = _RETRIED_4XX | {HTTPStatus.SERVICE_UNAVAILABLE}


@dataclass(frozen=True, slots=True)
class Failure:
    """What a connector makes of an SDK's exception.

    Attributes:
        status: The HTTP status, None when no answer came.
        headers: The answer's headers, names in lower case.
        sent: False when it is certain that the request never left (connection refused, name not found).
        detail: A short reason of the ESP's own (an error code), never a payload.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: bool = True
    detail: str = ""

    @property
    def transient(self) -> bool:
        """Whether asking again may help."""
        return self.status is None or self.status in _RETRIED_4XX or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR

    @property
    def certainly_not_done(self) -> bool:
        """Whether the ESP has certainly not carried the request out."""
        return not self.sent or self.status in _NOT_DONE


class Transient(Exception):
    """Carries a failure that may pass."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


def asked_wait(headers: Mapping[str, str], now: datetime) -> float:
    """The seconds that the ESP asks to wait; 0 when it does not say or says it unreadably."""
    after = headers.get("retry-after", "").strip()
    if after.isdecimal():
        return float(after)
    if after:
        try:
            at = parsedate_to_datetime(after)
        except (ValueError, OverflowError):
            return 0.0
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
    reset = headers.get("x-ratelimit-reset", "").strip()
    return max(0.0, float(reset) - now.timestamp()) if reset.isdecimal() else 0.0


class Caller:
    """Runs the SDK calls of one provider.

    Args:
        provider: The provider's name, for messages.
        translate: Makes a Failure of an SDK's exception; None for one that is not the ESP's doing (a bug).
        now: The clock.
        sleep: How to wait, in seconds.
        attempts: How often a call is tried in all.
    """

    def __init__(
        self,
        provider: str,
        translate: Callable[[Exception], Failure | None],
        *,
        now: Clock,
        sleep: Callable[[float], None] = time.sleep,
        attempts: int = 5,
    ) -> None:
        self.provider = provider
        self.calls = 0
        self._translate = translate
        self._now = now
        self._backoff = wait_exponential(multiplier=0.5, max=30) + wait_random(0, 0.5)
        self._retrying = Retrying(
            sleep=sleep,
            wait=self._wait,
            stop=stop_after_attempt(attempts),
            retry=retry_if_exception_type(Transient),
            reraise=True,
        )

    def __call__(self, call: Callable[[], T], *, repeatable: bool = True) -> T:
        """Run ``call``, again while that is safe and may help.

        Raises:
            ProviderRefused: a 4xx that asking again does not change.
            AmbiguousOutcome: only with ``repeatable=False``: it may or may not have been carried out.
            ProviderError: still failing after the last attempt.
        """
        try:
            return self._retrying(lambda: self._attempt(call, repeatable))
        except Transient as error:
            raise self._out_of_reach(error.failure) from error.__cause__

    def _attempt(self, call: Callable[[], T], repeatable: bool) -> T:
        self.calls += 1
        try:
            return call()
        except ProviderError:
            raise
        except Exception as error:
            failure = self._translate(error)
            if failure is None:
                raise
            raise self._judge(failure, repeatable) from error

    def _judge(self, failure: Failure, repeatable: bool) -> Exception:
        if not failure.transient:
            return ProviderRefused(self.provider, f"refused: {_words(failure)}", status=failure.status)
        if repeatable or failure.certainly_not_done:
            if asked_wait(failure.headers, self._now()) > LONGEST_WAIT:
                return self._out_of_reach(failure)
            return Transient(failure)
        return AmbiguousOutcome(self.provider, f"no clear answer: {_words(failure)}", status=failure.status)

    def _out_of_reach(self, failure: Failure) -> ProviderError:
        return ProviderError(self.provider, f"out of reach: {_words(failure)}", status=failure.status)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = asked_wait(error.failure.headers, self._now()) if isinstance(error, Transient) else 0.0
        return max(asked, self._backoff(state))


def _words(failure: Failure) -> str:
    what = f"HTTP {failure.status}" if failure.status else "no answer"
    return f"{what} ({failure.detail})" if failure.detail else what
