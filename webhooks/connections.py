"""Connections that cost no more than their requests are worth: what uvicorn's own protocol leaves without a limit.

uvicorn waits for ever for the head of a request, for the rest of a body that nobody reads any more, and for a client
that does not take its answer; and with httptools the head of a request may have any size. Whoever opens connections
and sends a byte now and then would keep them until no more can be opened. Here each connection is looked at every
``PATIENCE`` seconds: one on which the same request is still not complete at the next look is closed. So a request has
that long at least, and twice as long at most.

The same holds for the callbacks' and the forms' bodies, which ``webhooks.bodies`` refuses by an answer: this is for
whatever is answered before its body was read.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from webhooks.bodies import PATIENCE

HEAD_LIMIT = 64 * 1024
"""Bytes of a request's line and headers. What stands before this server takes less: nginx 32 KB, AWS's balancers 64."""

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_NOTHING = object()
"""What is unfinished on a connection on which nothing has come."""
_CLOSING = object()
"""The same of one that is closed as soon as the client has taken what was written."""


class TooLargeError(Exception):
    """A request's head is. The parser turns it into an error of its own."""


class GuardedProtocol(HttpToolsProtocol):
    """A connection; see the module. ``patience``: seconds between two looks."""

    patience: ClassVar[float] = PATIENCE
    cycle: Any  # uvicorn's, or what stands in for it; None before the first request
    scope: Any  # uvicorn's; None before the first request has begun

    _headed: object = None
    """The scope of the last request whose head was complete: uvicorn makes a new one for each request."""
    _arrived = 0
    """Bytes that came last."""
    _held = 0
    """Bytes of a head that is not complete, or of what else stands around a body: chunks' sizes, trailers."""
    _split = False
    """Whether a head has begun in what came earlier."""
    _unfinished: object = _NOTHING
    """What was unfinished at the last look; None when nothing was."""
    _watch: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Called once."""
        super().connection_made(transport)
        self._watch = self.loop.call_later(self.patience, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called once."""
        self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called with whatever comes."""
        self._arrived = len(data)
        before = self.scope
        super().data_received(data)
        if self.scope is before:
            self._held += len(data)
        elif self.scope is not self._headed:
            self._held = 0  # a head has begun in what came just now, of which at most 256 KB are read at once
            self._split = True
        if self._held > HEAD_LIMIT and not self.transport.is_closing():
            self._too_much()

    def on_headers_complete(self) -> None:
        """Called by the parser once it has a request's head."""
        if self._split or self._arrived > HEAD_LIMIT:
            self._held = self._size_of_head()
            if self._held > HEAD_LIMIT:
                raise TooLargeError
        self._headed = self.scope
        self._held = 0
        self._split = False
        self.on_request()

    def on_request(self) -> None:
        """Have the request answered."""
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Called by the parser with a piece of a body: each byte of it pays for one more around it."""
        self._held -= 2 * len(body)
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or one with too large a head."""
        if self._held > HEAD_LIMIT:
            self._too_much()
        else:
            super().send_400_response(msg)

    def _too_much(self) -> None:
        if self.scope is not self._headed:  # else an answer is due, or was given
            self.transport.write(_TOO_LARGE)
        self.transport.close()

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _look(self) -> None:
        unfinished = self._standing()
        if unfinished is not None and unfinished is self._unfinished:
            if unfinished is _CLOSING:
                self.transport.abort()
            else:
                self.transport.close()
                unfinished = _CLOSING
        self._unfinished = unfinished
        self._watch = self.loop.call_later(self.patience, self._look)

    def _standing(self) -> object:
        """What the client leaves unfinished; None when the turn is ours, or the connection waits for a request."""
        if self.transport.is_closing():
            return _CLOSING
        if self.timeout_keep_alive_task is not None and not self.cycle.more_body:  # idle: uvicorn closes it
            return None
        if self.scope is None:
            return _NOTHING
        answered = self.cycle is None or self.cycle.response_complete
        received = self.scope is self._headed and not answered and not self.cycle.more_body
        return None if received and not self.flow.write_paused else self.scope
