"""Pages of long lists: a cursor says behind what the next page begins.

A cursor grants nothing and hides nothing: it holds a place in one list, and digits that show whether it was copied
whole and is used with the list that it came from. It stays valid while the list grows.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeVar

from webhooks.api import problems
from webhooks.api.endpoint import Call, Parameter, ProblemError

LIMIT = 100
MOST = 500
"""Items of a page: unless told, and at most."""
LONGEST_CURSOR = 200
CHECK_BYTES = 6

_NUMBER = re.compile(r"[0-9]{1,18}")
"""What SQLite takes for a number at all."""

T = TypeVar("T")

PARAMETERS = (
    Parameter(
        "limit",
        "query",
        {"type": "integer", "minimum": 1, "maximum": MOST, "default": LIMIT},
        "How many items a page may hold.",
    ),
    Parameter(
        "cursor",
        "query",
        {"type": "string", "minLength": 1, "maxLength": LONGEST_CURSOR},
        "`next` of the page before; leave it out for the first page.",
    ),
)


def seal(subject: str, place: str) -> str:
    """The cursor for a place (at most 64 characters) in the list that ``subject`` names."""
    raw = place.encode()
    return urlsafe_b64encode(_check(subject, raw) + raw).rstrip(b"=").decode()


def place(call: Call, subject: str) -> str | None:
    """The place that the call's cursor names; None without one.

    Raises:
        ProblemError: it is not a cursor of this list.
    """
    cursor = call.parameters.get("cursor")
    if cursor is None:
        return None
    try:
        found = _decoded(cursor)[CHECK_BYTES:].decode()
    except UnicodeDecodeError:
        raise _foreign() from None
    if seal(subject, found) != cursor:
        raise _foreign()
    return found


def number(call: Call, subject: str) -> int:
    """The place in a list whose places are numbers, counted from 1; 0 without a cursor. Raises ProblemError."""
    found = place(call, subject)
    if found is None:
        return 0
    if not _NUMBER.fullmatch(found):  # anybody can compute the digits that are checked
        raise _foreign()
    return int(found)


def page(items: Sequence[T], limit: int, subject: str, name: Callable[[T], str]) -> tuple[Sequence[T], str | None]:
    """The first ``limit`` of the items, and the cursor behind them when there are more."""
    shown = items[:limit]
    return shown, seal(subject, name(shown[-1])) if len(items) > limit else None


def limit(parameters: Mapping[str, Any]) -> int:
    """How many items were asked for."""
    found: int = parameters.get("limit", LIMIT)
    return found


def _check(subject: str, raw: bytes) -> bytes:
    return sha256(b"%s\0%s" % (subject.encode(), raw)).digest()[:CHECK_BYTES]


def _foreign() -> ProblemError:
    return ProblemError(problems.INVALID, "cursor: not one of this list; begin without a cursor")


def _decoded(cursor: str) -> bytes:
    try:
        return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        return b""
