"""A client that posts ready-made requests over connections that are kept alive, as fast as they are answered.

It parses no more than it must: on a small machine the client takes its time from the server that it measures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

import uvloop

from benchmarks.frame import BenchmarkError

CONNECTIONS = 8
PATIENCE = 60.0
"""Seconds for all of it."""


class _Connection(asyncio.Protocol):
    """One connection: takes the next request from all that wait as soon as the last is answered."""

    def __init__(self, waiting: Iterator[bytes], latencies: list[float], ended: asyncio.Future[None]) -> None:
        self._waiting, self._latencies, self._ended = waiting, latencies, ended
        self._answer = b""
        self._begun = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own, which derives from nothing
        self._next()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if b"\r\n\r\n" not in self._answer or (
            b"transfer-encoding: chunked" in self._answer.lower() and not self._answer.endswith(b"0\r\n\r\n")
        ):
            return
        self._latencies.append(time.perf_counter() - self._begun)
        if not self._answer.startswith(b"HTTP/1.1 200"):
            self._end(BenchmarkError(f"answered {self._answer[:40]!r}"))
            return
        self._answer = b""
        self._next()

    def connection_lost(self, _error: Exception | None) -> None:
        self._end(BenchmarkError("the server closed a connection"))

    def _next(self) -> None:
        request = next(self._waiting, None)
        assert self._transport is not None
        if request is None:
            self._end(None)
            self._transport.close()
            return
        self._begun = time.perf_counter()
        self._transport.write(request)

    def _end(self, error: BenchmarkError | None) -> None:
        if self._ended.done():
            return
        if error:
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)


def post_all(port: int, requests: Sequence[bytes]) -> tuple[float, list[float]]:
    """Post them to 127.0.0.1; answers the seconds for all, and for each.

    Raises:
        BenchmarkError: one was not answered with status 200.
    """
    return uvloop.run(_post_all(port, requests))


async def _post_all(port: int, requests: Sequence[bytes]) -> tuple[float, list[float]]:
    loop, waiting = asyncio.get_running_loop(), iter(requests)
    latencies: list[float] = []
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(CONNECTIONS)]
    begun = time.perf_counter()
    for end in ends:
        await loop.create_connection(partial(_Connection, waiting, latencies, end), "127.0.0.1", port)
    await asyncio.wait_for(asyncio.gather(*ends), PATIENCE)
    return time.perf_counter() - begun, latencies
