"""The official SDK, made safe to rely on.

Version 3.0.80 raises nothing when an error answer has an empty body, no content type or ``{}``: it hands the response
back as if all were well. So each response is checked before the SDK looks at it, and its headers are kept. It also
replaces the word "server" anywhere in a URL, and leaves "/" in IDs alone: the address is set whole, and whoever
passes an ID has checked it. It repeats nothing by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from connectors.mailchimp.settings import API_KEY
from connectors.retry import Failure

LONGEST_TITLE = 60


class _Problem(msgspec.Struct):
    title: str


class _ErrorAnswer(Exception):
    """An error answer with its headers, which the SDK would lose. ``title``: None without a problem document."""

    def __init__(self, status: int, headers: Mapping[str, str], title: str | None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.headers = headers
        self.title = title


def client(address: str, key: str, timeout: float) -> Any:  # noqa: ANN401 - the SDK has no types
    """The SDK's client, sent to ``address``, with each answer checked before the SDK judges it."""
    from mailchimp_marketing import Client

    made = Client({"api_key": key, "timeout": timeout})
    sdk = made.api_client
    sdk.host, sdk.server = address, ""
    request = sdk.request

    def checked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as in the SDK
        response = request(*args, **kwargs)
        _check(response)
        return response

    sdk.request = checked
    return made


def _check(response: Any) -> None:  # noqa: ANN401 - requests' Response
    """Raise for whatever is not plainly a success; a redirect is none, for it turns a POST into a GET."""
    first = [*response.history, response][0]
    if HTTPStatus.OK <= first.status_code < HTTPStatus.MULTIPLE_CHOICES:
        return
    headers = {name.lower(): value for name, value in first.headers.items()}
    raise _ErrorAnswer(first.status_code, headers, _title(first.content))


def _title(body: bytes) -> str | None:
    """The short name of a problem document's error; its ``detail`` may hold an address. None: no such document."""
    try:
        title = msgspec.json.decode(body, type=_Problem).title
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return "".join(c for c in title if c.isascii() and (c.isalnum() or c == " "))[:LONGEST_TITLE]


def failure(error: Exception) -> Failure | None:
    """What an exception of the SDK means; None for one that is not Mailchimp's doing."""
    cause = getattr(error, "text", None)
    if isinstance(cause, _ErrorAnswer):
        if cause.status == HTTPStatus.FORBIDDEN and cause.title is None:
            # Under load Mailchimp answers 403 as it does 429; a real refusal comes with a problem document.
            return Failure(HTTPStatus.TOO_MANY_REQUESTS, cause.headers, detail="throttled with 403")
        advice = f"; check {API_KEY}" if cause.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} else ""
        return Failure(cause.status, cause.headers, detail=f"{cause.title or 'no reason given'}{advice}")
    if isinstance(cause, OSError):  # every network failure of requests is one
        return Failure(sent=_may_have_left(cause), detail=type(cause).__name__)
    return None


def _may_have_left(cause: OSError) -> bool:
    """Whether a request may have reached Mailchimp although the network failed."""
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    reason = getattr(cause.args[0], "reason", None) if cause.args else None
    return not isinstance(reason, NewConnectionError | ConnectTimeoutError)
