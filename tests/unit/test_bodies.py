"""Request bodies: read up to a limit, and who goes away is no error of ours."""

from __future__ import annotations

import asyncio

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from webhooks.bodies import bounded


def read(*messages: Message, patience: float | None = None) -> bytes:
    """The body of a request that comes in these pieces, of at most ten bytes; nothing comes behind them."""
    waiting = [*messages]

    async def receive() -> Message:
        return waiting.pop(0) if waiting else await asyncio.Future()

    return asyncio.run(bounded(Request({"type": "http", "method": "POST", "headers": []}, receive), 10, patience))


def piece(body: bytes, *, more: bool = True) -> Message:
    """A part of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_is_read_to_its_end() -> None:
    """In pieces, up to the limit."""
    assert read(piece(b"01234"), piece(b""), piece(b"56789", more=False)) == b"0123456789"
    assert read(piece(b"", more=False)) == b""


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([piece(b"0123456789"), piece(b"0")], 413),
        ([piece(b"01234567890", more=False)], 413),
        ([piece(b"01234"), {"type": "http.disconnect"}], 400),
        ([{"type": "http.disconnect"}], 400),
    ],
    ids=["too long in pieces", "too long", "gone in the middle", "gone at once"],
)
def test_other_bodies_end_in_a_plain_refusal(messages: list[Message], status: int) -> None:
    """As soon as it is known: what follows is not even waited for."""
    with pytest.raises(HTTPException) as refused:
        read(*messages)
    assert refused.value.status_code == status
    assert refused.value.__cause__ is None


def test_a_body_that_is_not_complete_in_time_is_given_up() -> None:
    """The whole of it counts and not its pieces; the connection is to be closed, for the rest may come yet."""
    with pytest.raises(HTTPException) as refused:
        read(piece(b"01234"), patience=0.01)
    assert refused.value.status_code == 408
    assert refused.value.headers == {"Connection": "close"}
    assert refused.value.__cause__ is None
