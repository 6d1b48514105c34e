"""Serves ASGI applications over real HTTP on loopback, in threads of this process, for the demo and the tests."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from connectors.simulators.base import Simulator

START_TIMEOUT = 10.0
"""Seconds that a server may take to come up."""


class _PromptServer(uvicorn.Server):
    """Looks ten times as often whether it should stop: tests start and stop hundreds of servers."""

    async def main_loop(self) -> None:
        """Serve until told to stop."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            await asyncio.sleep(0.01)


def listen(port: int = 0) -> socket.socket:
    """A socket that listens on 127.0.0.1, on a free port unless told: connections wait until it is served."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def url_of(listener: socket.socket) -> str:
    """The base URL of what is served on that socket."""
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def served(
    app: ASGIApp, *, listener: socket.socket | None = None, http: type[asyncio.Protocol] | None = None
) -> Iterator[str]:
    """Serve ``app`` on 127.0.0.1 and yield its base URL; stop afterwards.

    Args:
        app: The application.
        listener: Where to listen; a free port unless given.
        http: uvicorn's class of connections, where it shall be another than its own.
    """
    with listener or listen() as bound:
        config = uvicorn.Config(
            app, http=http or "auto", log_level="error", access_log=False, lifespan="auto", server_header=False
        )
        server = _PromptServer(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        _await_start(server, thread)
        try:
            yield url_of(bound)
        finally:
            server.should_exit = True
            thread.join(timeout=START_TIMEOUT)


@contextmanager
def simulated(simulator: Simulator) -> Iterator[str]:
    """Serve a simulator and tell it its own address."""
    with served(simulator.app) as url:
        simulator.base_url = url
        yield url


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the local server did not start")
        time.sleep(0.005)
