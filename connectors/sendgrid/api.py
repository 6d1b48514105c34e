"""SendGrid's Web API v3 through the official SDK: time-outs, retries, typed answers, and words for what failed.

The SDK has no time-out of its own, no retries, and prints the API key when its logger is at DEBUG.
"""

from __future__ import annotations

import http.client
import logging
import math
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from email.message import Message
from http import HTTPStatus
from itertools import chain, repeat
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NoReturn, TypeVar
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

JSON = "application/json; charset=utf-8"
"""Anything but the bare type makes the SDK send a body as it is given, instead of writing spaces into it."""

_SPOOLED = 16_000_000
"""Bytes of a downloaded file that are held in memory; a longer one goes to the disk, nameless."""
_LONGEST_WINDOW = 3_600
"""Seconds: a smaller X-RateLimit-Reset is no point in time but a span."""
_FIELD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,60}")
_DENIED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_NOT_SENT = (ConnectionRefusedError, socket.gaierror)


class Api:
    """Calls to one SendGrid account, from any number of threads.

    Args:
        key: The API key.
        settings: Address, time-out and patience.
        now: The clock.
        sleep: How to wait, in seconds.
        variable: The environment variable of the key, for messages.
    """

    def __init__(
        self,
        key: str,
        settings: SendGridSettings,
        now: Clock,
        sleep: Callable[[float], None] = time.sleep,
        *,
        variable: str = KEY_VARIABLE,
    ) -> None:
        from sendgrid import SendGridAPIClient

        # Below DEBUG it says nothing, and at DEBUG it prints the Authorization header and every payload.
        logging.getLogger("python_http_client.client").disabled = True
        self._client = SendGridAPIClient(key, host=settings.api_url).client
        self._client.timeout = settings.timeout_seconds
        self._client.request_headers["Content-Type"] = JSON
        self._settings = settings
        self._caller = Caller(NAME, lambda error: _failure(error, now()), now=now, sleep=sleep)
        self._thread = threading.local()
        self._now = now
        self.sleep = sleep
        self.variable = variable

    @property
    def calls(self) -> int:
        """The HTTP requests that the calling thread has made so far, repeated ones included."""
        return int(getattr(self._thread, "calls", 0))

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

    def tell(self, method: str, path: str, *, body: object = None, query: Mapping[str, str] | None = None) -> None:
        """Make a request that may be repeated, and whose answer says nothing (204).

        Raises:
            ProviderRefused: SendGrid refused it.
            ProviderError: out of reach.
        """
        self._call(method, path, body, query, repeatable=True)

    def once(self, method: str, path: str, *, body: object = None) -> None:
        """Make a request that must not be repeated blindly, and whose answer is not needed.

        Raises:
            ProviderRefused: SendGrid refused it.
            AmbiguousOutcome: it may or may not have been carried out.
            ProviderError: out of reach; it was not carried out.
        """
        self._call(method, path, body, None, repeatable=False)

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

    def until(self, done: Callable[[], T | None], what: str, *, at_once: bool = True) -> T:
        """Look again until ``done`` answers something; for the first time after a pause unless ``at_once``.

        Raises:
            ProviderError: it took longer than ``patience_seconds``.
        """
        waited = 0.0
        for pause in chain(PAUSES, repeat(PAUSES[-1])):
            result = done() if at_once else None
            at_once = True
            if result is not None:
                return result
            if waited >= self._settings.patience_seconds:
                break
            self.sleep(pause)
            waited += pause
        advice = f"run this again later, or raise providers.{NAME}.patience_seconds"
        raise ProviderError(NAME, f"{what} is not finished after {waited:.0f} s; {advice}")

    def download(self, url: str) -> IO[bytes]:
        """Fetch a file of an export, to be closed: it has a signed address of its own, and is never given the key.

        Raises:
            ProviderError: out of reach, refused, or not under https.
        """
        if not confidential(url):
            raise ProviderError(NAME, "the file of an export does not stand under https")
        try:
            return self._caller(self._counted(lambda: self._fetch(url)))
        except ProviderError as error:
            _explain(error, "the file of an export", self.variable)

    def _fetch(self, url: str) -> IO[bytes]:
        with urlopen(url, timeout=self._settings.timeout_seconds) as answer, ExitStack() as opened:  # noqa: S310 - checked by download
            file = opened.enter_context(SpooledTemporaryFile(_SPOOLED))
            shutil.copyfileobj(answer, file)
            if answer.length:  # what is missing of the announced length: reading by pieces does not tell
                raise http.client.IncompleteRead(b"", answer.length)
            opened.pop_all()
        file.seek(0)
        return file

    def _call(self, method: str, path: str, body: object, query: Mapping[str, str] | None, *, repeatable: bool) -> Any:  # noqa: ANN401 - the SDK ships no types
        call = getattr(self._client._(path), method)
        text = None if body is None else packed(body).decode()
        try:
            ask = self._counted(lambda: call(request_body=text, query_params=query))
            answer = self._caller(ask, repeatable=repeatable, endpoint=_endpoint(method, path))
        except ProviderError as error:
            _explain(error, f"{method.upper()} /v3/{path}", self.variable)
        self._caller.note(_hints(answer.headers, self._now()), _endpoint(method, path))
        return answer

    def _counted(self, call: Callable[[], T]) -> Callable[[], T]:
        def counting() -> T:
            self._thread.calls = self.calls + 1
            return call()

        return counting


def _endpoint(method: str, path: str) -> str:
    """What a rate limit holds for, without ids. SendGrid does not say where one ends, so it is drawn wide."""
    return " ".join([method, *path.split("/")[:2]])


def packed(body: object) -> bytes:
    """A body as JSON, as it travels: without a needless byte, for 30,000 contacts are to fit into 6 MB.

    Raises:
        ProviderError: it cannot be written as UTF-8.
    """
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        raise ProviderError(NAME, "a text for SendGrid holds half a character (a lone surrogate)") from None


def _explain(error: ProviderError, request: str, variable: str) -> NoReturn:
    """Raise it again with the request's name and, where a key lacks a permission, what to do."""
    words = str(error).removeprefix(f"{NAME}: ")
    advice = f"; give the key in {variable} this permission" if error.status in _DENIED else ""
    raise type(error)(NAME, f"{request}: {words}{advice}", status=error.status) from error


def _failure(error: Exception, now: datetime) -> Failure | None:
    """What an exception of the SDK, or of urllib below it, means."""
    from python_http_client.exceptions import HTTPError as SdkError

    if isinstance(error, SdkError):
        return Failure(error.status_code, _hints(error.headers, now), detail=_detail(error.body))
    if isinstance(error, HTTPError):
        error.close()
        return Failure(error.code, _hints(error.headers, now))
    if isinstance(error, OSError | http.client.HTTPException):
        reason = error.reason if isinstance(error, URLError) else error
        return Failure(sent=not isinstance(reason, _NOT_SENT), detail=type(reason).__name__)
    return None


def _hints(headers: Message | None, now: datetime) -> dict[str, str]:
    """The headers by lower-case name. An ``X-RateLimit-Reset`` that is a span of seconds becomes a point in time.

    SendGrid documents both: a point in time for the API at large, a span for erasures.
    """
    lowered = {name.lower(): value for name, value in headers.items()} if headers else {}
    reset = lowered.get("x-ratelimit-reset", "").strip()
    if reset.isdecimal() and int(reset) <= _LONGEST_WINDOW:
        lowered["x-ratelimit-reset"] = str(math.ceil(now.timestamp()) + int(reset))
    return lowered


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
