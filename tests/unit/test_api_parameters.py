"""Parameters and bodies of the API are held to their schemas, and the rate limit counts by time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from webhooks.api.bodies import decoded
from webhooks.api.endpoint import Parameter, ProblemError
from webhooks.api.limiter import Limiter
from webhooks.api.parameters import checked

AT = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


def value(schema: dict[str, Any], text: str) -> object:
    """The value of a query parameter of that schema."""
    return checked([Parameter("p", "query", schema, "")], {}, [("p", text)])["p"]


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        ({"type": "string", "pattern": "[a-z]+"}, "abc", "abc"),
        ({"type": "integer", "minimum": 1, "maximum": 100}, "100", 100),
        ({"type": "integer"}, "-3", -3),
        ({"type": "boolean"}, "false", False),
        ({"type": "string", "enum": ["a", "b"]}, "b", "b"),
        ({"type": "string", "format": "date-time"}, "2026-11-02T10:00:00+01:00", AT),
        ({"type": "string", "format": "date-time"}, "2026-11-02T09:00:00Z", AT),
    ],
    ids=range(7),
)
def test_good_values(schema: dict[str, Any], text: str, expected: object) -> None:
    """They come in the type that the schema says."""
    assert value(schema, text) == expected


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "string", "pattern": "[a-z]+"}, "abc\n"),
        ({"type": "string", "pattern": "[a-z]+"}, "abcD"),
        ({"type": "string", "minLength": 1}, ""),
        ({"type": "string", "maxLength": 2}, "abc"),
        ({"type": "string", "enum": ["a", "b"]}, "c"),
        ({"type": "integer", "maximum": 100}, "101"),
        ({"type": "integer", "minimum": 1}, "0"),
        ({"type": "integer"}, "1.0"),
        ({"type": "integer"}, "٣"),
        ({"type": "integer"}, " 1"),
        ({"type": "integer"}, "9" * 5_000),
        ({"type": "boolean"}, "1"),
        ({"type": "string", "format": "date-time"}, "2026-11-02T09:00:00"),
        ({"type": "string", "format": "date-time"}, "2026-11-32T09:00:00Z"),
        ({"type": "string", "format": "date-time"}, "0001-01-01T00:00:00+14:00"),
    ],
    ids=range(15),
)
def test_bad_values(schema: dict[str, Any], text: str) -> None:
    """The problem names the parameter and does not repeat the value."""
    with pytest.raises(ProblemError) as refused:
        value(schema, text)
    assert refused.value.problem.status == 400
    assert str(refused.value) == "p: not of the documented form"


def test_what_is_missing_unknown_or_repeated() -> None:
    """A default takes the place of what is missing; a required parameter must be there; nothing else may."""
    declared = [
        Parameter("limit", "query", {"type": "integer", "default": 50}, ""),
        Parameter("purpose", "query", {"type": "string"}, "", required=True),
        Parameter("cursor", "query", {"type": "string"}, ""),
        Parameter("id", "path", {"type": "string"}, "", required=True),
    ]
    assert checked(declared, {"id": "x"}, [("purpose", "a")]) == {"limit": 50, "purpose": "a", "id": "x"}
    for query in (
        [],
        [("purpose", "a"), ("purpose", "a")],
        [("purpose", "a"), ("secret", "b")],
        [("purpose", "a"), ("id", "y")],
    ):
        with pytest.raises(ProblemError) as refused:
            checked(declared, {"id": "x"}, query)
        assert "secret" not in str(refused.value)


class Anything(msgspec.Struct):
    """A body of which anything may be a part."""

    x: Any


@pytest.mark.parametrize(
    "body", [b'{"x": ' + b"[" * 100_000, b'{"x": ' + b'{"y": ' * 100_000, b'{"x": "\xff"}'], ids=range(3)
)
def test_deep_json_is_no_json(body: bytes) -> None:
    """A body that nests deeper than can be read is refused like any other that is none."""
    with pytest.raises(ProblemError) as refused:
        decoded(body, Anything)
    assert refused.value.problem.status == 400


def test_the_bucket_fills_with_time() -> None:
    """Three a minute: three at once, then one every 20 seconds, and never more than three in stock."""
    limiter = Limiter(3)
    assert [limiter.take("k", AT).allowed for _ in range(4)] == [True, True, True, False]
    assert limiter.take("other", AT).allowed
    refused = limiter.take("k", AT + timedelta(seconds=5))
    assert (refused.allowed, refused.wait) == (False, 15)
    assert refused.headers == {"RateLimit-Policy": '"key";q=3;w=60', "RateLimit": '"key";r=0;t=55'}
    assert limiter.take("k", AT + timedelta(seconds=20)).allowed
    assert [limiter.take("k", AT + timedelta(hours=1)).allowed for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_is_set_back_gives_nothing() -> None:
    """Neither a full bucket nor a debt."""
    limiter = Limiter(2)
    limiter.take("k", AT)
    assert limiter.take("k", AT - timedelta(hours=1)).allowed
    assert not limiter.take("k", AT - timedelta(hours=1)).allowed
    assert limiter.take("k", AT - timedelta(hours=1) + timedelta(seconds=30)).allowed
