"""``POST /v3/recipients/erasejob``: erases what was recorded about recipients; contacts are not touched."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from connectors.simulators.sendgrid.wire import ADDRESS, Refused, read

BYTES = 256_000
A_MINUTE = 100


class EraseJob(msgspec.Struct, forbid_unknown_fields=True):
    """The request's body."""

    email_addresses: Annotated[list[str], Meta(min_length=1, max_length=5_000)]


class Erasures:
    """The endpoint.

    Attributes:
        erased: The addresses whose records were erased.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.erased: set[str] = set()
        self._now = now
        self._taken: deque[datetime] = deque(maxlen=A_MINUTE)

    async def __call__(self, request: Request) -> Response:
        """Take a request. It has no status: nobody is told when it is done."""
        if wait := self._wait():
            # Here, unlike elsewhere, the documented Reset is a number of seconds.
            return Response(status_code=429, headers={"x-ratelimit-reset": str(wait), "x-ratelimit-remaining": "0"})
        if len(await request.body()) > BYTES:
            raise Refused("the request is larger than 256 KB", "email_addresses")
        job = await read(request, EraseJob)
        if not all(ADDRESS.fullmatch(address) for address in job.email_addresses):
            raise Refused("an address is not valid", "email_addresses")
        self._taken.append(self._now())
        self.erased.update(address.lower() for address in job.email_addresses)
        return JSONResponse({"job_id": str(uuid.uuid4())}, 202)

    def _wait(self) -> int:
        """The whole seconds until another request is taken."""
        if len(self._taken) < A_MINUTE:
            return 0
        left = self._taken[0] + timedelta(minutes=1) - self._now()
        return max(0, int(left.total_seconds()) + 1) if left > timedelta(0) else 0
