"""Request bodies, read up to a limit and until a deadline."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

PATIENCE = 30.0
"""Seconds in which a whole body must have arrived. The largest that an ESP documents (SendGrid, 768 KB) then comes at
26 KB a second; no ESP waits as long for an answer (Mailchimp 10 seconds, SNS 15), so nobody hears one given later."""


async def bounded(request: Request, limit: int, patience: float | None = None) -> bytes:
    """The body. Waits on the event loop: whoever sends slowly holds no thread.

    Raises:
        HTTPException: 413 once it is longer than ``limit`` bytes, 408 when it is not complete after ``patience``
            seconds (``PATIENCE`` unless told) however many bytes came meanwhile, 400 when the client goes away.
    """
    try:
        async with asyncio.timeout(PATIENCE if patience is None else patience):
            return await _read(request, limit)
    except TimeoutError:
        # Closed (RFC 9110 §15.5.9), or the rest of the body would be waited for after the answer.
        raise HTTPException(408, headers={"Connection": "close"}) from None
    except ClientDisconnect:  # nobody hears the answer; it is no error of ours, and no trace belongs into the log
        raise HTTPException(400) from None


async def _read(request: Request, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise HTTPException(413)
        chunks.append(chunk)
    return b"".join(chunks)
