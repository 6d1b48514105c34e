"""SendGrid's Web API v3 through the official SDK: time-outs, retries, typed answers, and words for what failed.

The SDK has no time-out of its own, no retries, and prints the API key when its logger is at DEBUG.
"""

from __future__ import annotations

import http.client
import logging
import re
import socket
import time
from collections.abc import Callable, Mapping
from email.message import Message
from http import HTTPStatus
from itertools import chain, repeat
from typing import Any, NoReturn, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import msgspec

from connectors.retry import Caller, Failure
from connectors.sendgrid.settings import KEY_VARIABLE, NAME, SendGridSettings, confidential
from core.errors import AmbiguousOutcome, ProviderError
from core.ports import Clock

T = TypeVar("T")

PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between looks at what SendGrid does in the background; the last one repeats."""

_FIELD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,60}")
_DENIED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_NOT_SENT = (ConnectionRefusedError, socket.gaierror)


class Api:
    """Calls to one SendGrid account. ``calls`` counts the HTTP requests made so far, repeated ones included.

    Args:
        key: The API key.
        settings: Address, time-out and patience.
        now: The clock.
        sleep: How to wait, in seconds.
    """

    def __init__(
        self, key: str, settings: SendGridSettings, now: Clock, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        from sendgrid import SendGridAPIClient

        # Below DEBUG it says nothing, and at DEBUG it prints the Authorization header and every payload.
        logging.getLogger("python_http_client.client").disabled = True
        self._client = SendGridAPIClient(key, host=settings.api_url).client
        self._client.timeout = settings.timeout_seconds
        self._settings = settings
        self._caller = Caller(NAME, _failure, now=now, sleep=sleep)
        self.sleep = sleep

    @property
    def calls(self) -> int:
        """The HTTP requests made so far."""
        return self._caller.calls

    def ask(
        self, method: str, path: str, answer: type[T], *, body: object = None, query: Mapping[str, str] | None = None
    ) -> T:
        """Make a request that may be repeated, and read its answer.

        Raises:
            ProviderRefused: SendGrid refused it.
            ProviderError: out of reach, or the answer is not what SendGrid documents.
        """
        response = self._call(method, path, body, query, repeatable=True)
        try:
            return msgspec.json.decode(response.body, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ProviderError(
                NAME,
                f"{method.upper()} /v3/{path}: not the answer that SendGrid documents; check providers.{NAME}.api_url",
                status=response.status_code,
            ) from None

    def send(self, body: object) -> None:
        """Hand one Mail Send request in; returns once SendGrid has accepted it (202).

        Raises:
            ProviderRefused: SendGrid refused it; nothing was sent.
            AmbiguousOutcome: it may or may not have been accepted.
            ProviderError: out of reach; nothing was sent.
        """
        response = self._call("post", "mail/send", body, None, repeatable=False)
        if response.status_code != HTTPStatus.ACCEPTED:
            raise AmbiguousOutcome(
                NAME, "POST /v3/mail/send: not the answer 202 of an accepted mail", status=response.status_code
            )

    def until(self, done: Callable[[], T | None], what: str) -> T:
        """Look again until ``done`` answers something.

        Raises:
            ProviderError: it took longer than ``patience_seconds``.
        """
        waited = 0.0
        for pause in chain(PAUSES, repeat(PAUSES[-1])):
            result = done()
            if result is not None:
                return result
            if waited >= self._settings.patience_seconds:
                break
            self.sleep(pause)
            waited += pause
        advice = f"run this again later, or raise providers.{NAME}.patience_seconds"
        raise ProviderError(NAME, f"{what} is not finished after {waited:.0f} s; {advice}")

    def download(self, url: str) -> bytes:
        """Fetch a file of an export: it has a signed address of its own, and is never given the API key.

        Raises:
            ProviderError: out of reach, refused, or not under https.
        """
        if not confidential(url):
            raise ProviderError(NAME, "the file of an export does not stand under https")
        try:
            return self._caller(lambda: self._fetch(url))
        except ProviderError as error:
            _explain(error, "the file of an export")

    def _fetch(self, url: str) -> bytes:
        with urlopen(url, timeout=self._settings.timeout_seconds) as answer:  # noqa: S310 - the scheme is checked above
            return bytes(answer.read())

    def _call(self, method: str, path: str, body: object, query: Mapping[str, str] | None, *, repeatable: bool) -> Any:  # noqa: ANN401 - the SDK ships no types
        call = getattr(self._client._(path), method)
        try:
            return self._caller(lambda: call(request_body=body, query_params=query), repeatable=repeatable)
        except ProviderError as error:
            _explain(error, f"{method.upper()} /v3/{path}")


def _explain(error: ProviderError, request: str) -> NoReturn:
    """Raise it again with the request's name and, where a key lacks a permission, what to do."""
    words = str(error).removeprefix(f"{NAME}: ")
    advice = f"; give the key in {KEY_VARIABLE} this permission" if error.status in _DENIED else ""
    raise type(error)(NAME, f"{request}: {words}{advice}", status=error.status) from error


def _failure(error: Exception) -> Failure | None:
    """What an exception of the SDK, or of urllib below it, means."""
    from python_http_client.exceptions import HTTPError as SdkError

    if isinstance(error, SdkError):
        return Failure(error.status_code, _lowered(error.headers), detail=_detail(error.body))
    if isinstance(error, HTTPError):
        error.close()
        return Failure(error.code, _lowered(error.headers))
    if isinstance(error, OSError | http.client.HTTPException):
        reason = error.reason if isinstance(error, URLError) else error
        return Failure(sent=not isinstance(reason, _NOT_SENT), detail=type(reason).__name__)
    return None


def _lowered(headers: Message | None) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()} if headers else {}


class _Refusal(msgspec.Struct):
    """One entry of an error answer; ``message`` may repeat an address and is left unread."""

    field: str | None = None


class _Refusals(msgspec.Struct):
    errors: list[_Refusal] = []


def _detail(body: bytes) -> str:
    """The names of the fields that SendGrid objects to."""
    try:
        refusals = msgspec.json.decode(body, type=_Refusals).errors
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return ", ".join(r.field for r in refusals[:3] if r.field and _FIELD.fullmatch(r.field))
