"""The pixels' shortest way through uvicorn: answered in the HTTP protocol itself, without a task for each request.

Most of the time that uvicorn spends on an image goes into the ASGI machinery around the application. This subclass of
its httptools protocol takes what it knows to be a plain GET for a pixel (HTTP/1.1, kept alive, no body, nothing
percent-encoded) and leaves everything else to uvicorn and ``webhooks.pixel.Pixel``, which answers the same bytes.
What arrives in one turn of the event loop is judged together, after it has arrived, by what is committed then.

Only ``pixelproof serve`` installs it; any ASGI server serves the application without.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import structlog

from webhooks.connections import GuardedProtocol
from webhooks.pixel import ASK_AGAIN, GIF, NEVER_AGAIN, PATHS, UNKNOWN, Judged, Pixel, PixelRequest

_BELOW = tuple(path.encode() for path in PATHS)
_LEFT_TO_UVICORN = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade"})
_AGENT = b"user-agent"
_Headers = list[tuple[bytes, bytes]]

log = structlog.get_logger("pixelproof.pixel")


def protocol(pixel: Pixel) -> type[asyncio.Protocol]:
    """The class of connections, for ``uvicorn.run(http=…)``."""
    return type("PixelProtocol", (_PixelProtocol,), {"counter": _Counter(pixel)})


class _NoEvent:
    """In the place of the event by which uvicorn wakes an application."""

    def set(self) -> None:
        """Nobody waits for it."""


class _Answering:
    """In the place of uvicorn's cycle while a pixel's answer is due: what comes behind it on the connection waits."""

    message_event = _NoEvent()
    disconnected = False
    keep_alive = True
    more_body = True
    response_complete = False


class _PixelProtocol(GuardedProtocol):
    """A connection; see the module."""

    counter: ClassVar[_Counter]

    def on_request(self) -> None:
        """Called once a request's head is there."""
        if self.url.startswith(_BELOW) and self._plain():
            agent = self._agent()
            if agent is not None:
                path = str(self.url, "latin-1").partition("?")[0]
                self.cycle = due = _Answering()
                self.counter.ask(self, due, PixelRequest(path, agent))
                return
        super().on_request()

    def _agent(self) -> str | None:
        """The user agent; None where a header wants more than the head of the request."""
        agent = b""
        for name, value in self.headers:
            if name in _LEFT_TO_UVICORN:
                return None
            if name == _AGENT:
                agent = value
        return str(agent, "latin-1")

    def answer(self, due: _Answering, response: bytes) -> None:
        """Send the answer that is due, and let the connection's next request have its turn."""
        if due.disconnected or self.transport.is_closing():
            return
        self.transport.write(response)
        due.response_complete = True
        if not due.keep_alive:  # the server has begun to shut down meanwhile
            self.transport.close()
        self.on_response_complete()

    @property
    def date(self) -> _Headers:
        """The headers that uvicorn adds to each answer, in a list of its own for each second."""
        return self.server_state.default_headers

    def _plain(self) -> bool:
        """Whether nothing about the request needs more than the head of it."""
        parser = self.parser
        return (
            parser.get_method() == b"GET"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and b"%" not in self.url
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
        )


class _Counter:
    """Answers the requests of all connections that arrived in one turn of the event loop."""

    def __init__(self, pixel: Pixel) -> None:
        self._pixel = pixel
        self._waiting: list[tuple[_PixelProtocol, _Answering, PixelRequest]] = []
        self._responses: tuple[_Headers | None, bytes, bytes] = (None, b"", b"")

    def ask(self, connection: _PixelProtocol, due: _Answering, request: PixelRequest) -> None:
        """Have a request answered."""
        if not self._waiting:
            connection.loop.call_soon(self._answer)
        self._waiting.append((connection, due, request))

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        judged = self._judged([request for _, _, request in waiting])
        again, never = self._texts(waiting[0][0].date)
        for (connection, due, _), each in zip(waiting, judged, strict=True):
            connection.answer(due, again if each.again else never)
        self._pixel.take(judged)

    def _judged(self, requests: list[PixelRequest]) -> list[Judged]:
        try:
            return self._pixel.judge(requests)
        except Exception as error:  # noqa: BLE001 - whatever it is, every one of these connections waits for an answer
            log.error("opens lost", reason=type(error).__name__)
            return [UNKNOWN] * len(requests)

    def _texts(self, date: _Headers) -> tuple[bytes, bytes]:
        """Both answers as they go over the wire, made anew when the date has changed."""
        if self._responses[0] is not date:
            self._responses = (date, _text([*date, *ASK_AGAIN]), _text([*date, *NEVER_AGAIN]))
        return self._responses[1:]


def _text(headers: _Headers) -> bytes:
    lines = [b"HTTP/1.1 200 OK", *(b"%s: %s" % header for header in headers)]
    return b"\r\n".join([*lines, b"", GIF])
