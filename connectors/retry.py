"""Calls to an ESP: counted, paced, retried where that is safe, and their failures told apart.

Retried: 408, 425, 429 and 5xx answers, and network failures; never any other 4xx. The wait is exponential with
jitter, and at least what the ESP asks for (``connectors.limits``).

A call that must not be repeated blindly (sending mail) is retried only when the failure *proves* that nothing was
done; otherwise its outcome is ambiguous and says so. Only these prove it:

- The request never left: connection refused, name not found, no connection in time.
- 429: it is counted and turned away before it is worked on. SES documents ``TooManyRequestsException`` as 429 and
  that the message is dropped ("Errors related to the sending quotas"), SendGrid 429 beyond an endpoint's limit, and
  Mailchimp 429 beyond 10 connections. A provider's other ways of throttling (Mailchimp's 403 without a body, AWS's
  ``ThrottlingException`` with 400) are made a 429 by its connector.

These do not, with ``Retry-After`` or without, for that header says when to ask again and not what has happened:

- 503: a gateway answers it too when what stands behind it fell silent *after* the work. AWS documents
  ``ServiceUnavailable`` as "a temporary failure of the server", SendGrid as "not available", Mailchimp not at all.
- 408: by RFC 9110 §15.5.9 the request did not arrive whole; but SendGrid documents it for a search that took too long,
  that is, for time that ran out during the work.
- 425: means that a request in early data was not worked on (RFC 8470 §5.2); no SDK here sends early data, no provider
  documents it, so whatever answers it means something else.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from connectors.limits import LONGEST_WAIT, Breaker, Limiter, Open, asked_wait, used_up_wait
from core.errors import AmbiguousOutcome, ProviderError, ProviderRefused
from core.ports import Clock

T = TypeVar("T")

_RETRIED_4XX = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


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
        return not self.sent or self.status == HTTPStatus.TOO_MANY_REQUESTS


class Caller:
    """Runs the SDK calls of one provider. Several threads may share one.

    A call takes at most ``attempts`` times the SDK's time-out and ``LONGEST_WAIT``, beside the time for which it waits
    in line for a place among the calls that run at once.

    Args:
        provider: The provider's name, for messages.
        translate: Makes a Failure of an SDK's exception; None for one that is not the ESP's doing (a bug).
        now: The clock.
        sleep: How to wait, in seconds; a ``limiter`` that is given waits in its own way.
        attempts: How often a call is tried in all.
        limiter: How many calls at once and in a second; one for each caller unless it is shared.
        breaker: When the ESP is left alone; one for each caller unless it is shared.

    Attributes:
        calls: Requests that were really made, repeated ones included.
    """

    def __init__(  # noqa: PLR0913 - what is injected goes by name
        self,
        provider: str,
        translate: Callable[[Exception], Failure | None],
        *,
        now: Clock,
        sleep: Callable[[float], None] = time.sleep,
        attempts: int = 5,
        limiter: Limiter | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self.provider = provider
        self.calls = 0
        self._counting = threading.Lock()
        self._translate = translate
        self._now = now
        self._limiter = limiter or Limiter(sleep=sleep)
        self._breaker = breaker or Breaker()
        self._backoff = wait_exponential(multiplier=0.5, max=30) + wait_random(0, 0.5)
        self._retrying = Retrying(
            wait=self._wait,
            stop=stop_after_attempt(attempts),
            retry=retry_if_exception(lambda error: isinstance(error, _Failed) and error.again),
            reraise=True,
        )

    def __call__(self, call: Callable[[], T], *, repeatable: bool = True, endpoint: str = "") -> T:
        """Run ``call``, again while that is safe and may help.

        Args:
            call: Makes one request.
            repeatable: Whether it may be repeated when nobody knows whether it was carried out.
            endpoint: What the ESP's rate limit holds for, if not for all calls: a fixed name, without IDs.

        Raises:
            ProviderRefused: a 4xx that asking again does not change.
            AmbiguousOutcome: only with ``repeatable=False``: it may or may not have been carried out.
            ProviderError: still failing after the last attempt; or not asked, because the last calls all failed so.
        """
        era = self._admit()
        try:
            answer = self._repeated(call, repeatable, endpoint)
        except _Failed as error:
            failure = error.failure
        except BaseException:
            self._breaker.dismissed(era)
            raise
        else:
            self._breaker.answered(era)
            return answer
        (self._breaker.failed if failure.transient else self._breaker.answered)(era)
        # Outside the except clauses: the SDK's exception, whose text may be a payload, stands in no chain.
        raise self._error(failure, repeatable)

    def note(self, headers: Mapping[str, str], endpoint: str = "") -> None:
        """Heed the headers of a successful answer (names in lower case): when nothing remains, the next call waits.

        Headers of failures are heeded without this.
        """
        self._limiter.hold(used_up_wait(headers, self._now()), endpoint)

    def _admit(self) -> int:
        try:
            return self._breaker.admit()
        except Open as shut:
            reason = f"the last {shut.failures} calls failed; it is asked again in {math.ceil(shut.seconds)} s"
        raise ProviderError(self.provider, f"out of reach: {reason}")

    def _repeated(self, call: Callable[[], T], repeatable: bool, endpoint: str) -> T:
        # The limiter waits between attempts: what an ESP asks for also holds the others back, and nobody waits twice.
        waits = [0.0]
        retrying = self._retrying.copy(sleep=waits.append)
        return retrying(lambda: self._attempt(call, repeatable, endpoint, waits.pop()))

    def _attempt(self, call: Callable[[], T], repeatable: bool, endpoint: str, after: float) -> T:
        with self._limiter.turn(endpoint, after=after):
            with self._counting:
                self.calls += 1
            try:
                return call()
            except ProviderError:
                raise
            except Exception as error:
                failure = self._translate(error)
                if failure is None:
                    raise
            self._heed(failure, endpoint)
        raise _Failed(failure, again=self._may_repeat(failure, repeatable))

    def _heed(self, failure: Failure, endpoint: str) -> None:
        asked = (asked_wait if failure.transient else used_up_wait)(failure.headers, self._now())
        # One that asks for too long is out of reach at once; to have others wait and then fail serves nobody.
        if asked <= LONGEST_WAIT:
            self._limiter.hold(asked, endpoint)

    def _may_repeat(self, failure: Failure, repeatable: bool) -> bool:
        safe = failure.transient and (repeatable or failure.certainly_not_done)
        return safe and asked_wait(failure.headers, self._now()) <= LONGEST_WAIT

    def _error(self, failure: Failure, repeatable: bool) -> ProviderError:
        words = _words(failure)
        if not failure.transient:
            return ProviderRefused(self.provider, f"refused: {words}", status=failure.status)
        if repeatable or failure.certainly_not_done:
            return ProviderError(self.provider, f"out of reach: {words}", status=failure.status)
        return AmbiguousOutcome(self.provider, f"no clear answer: {words}", status=failure.status)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = asked_wait(error.failure.headers, self._now()) if isinstance(error, _Failed) else 0.0
        return max(asked, self._backoff(state))


class _Failed(Exception):
    """Carries an attempt's failure through tenacity."""

    def __init__(self, failure: Failure, *, again: bool) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.again = again


def _words(failure: Failure) -> str:
    what = f"HTTP {failure.status}" if failure.status else "no answer"
    return f"{what} ({failure.detail})" if failure.detail else what
