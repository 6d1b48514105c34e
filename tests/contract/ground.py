"""What the contract tests of several connectors share: faults before a simulator, a journal, a receiver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.simulators.base import Simulator
from connectors.simulators.serving import served
from core.errors import AmbiguousOutcome, PixelproofError
from core.model import ProviderEvent, WebhookRequest
from core.ports import WebhookCodec

Fault = tuple[int, dict[str, str]] | tuple[int, dict[str, str], str] | str | None


@dataclass
class Journal:
    """A send journal in memory, as strict as the real one."""

    states: dict[str, str] = field(default_factory=dict)

    def begin(self, part: str) -> bool:
        """See ``core.ports.SendJournal``."""
        if self.states.get(part) == "begun":
            raise AmbiguousOutcome("journal", f"{part} began and did not end")
        if self.states.get(part) == "done":
            return False
        self.states[part] = "begun"
        return True

    def done(self, part: str) -> None:
        """See ``core.ports.SendJournal``."""
        self.states[part] = "done"

    def failed(self, part: str) -> None:
        """See ``core.ports.SendJournal``."""
        self.states[part] = "failed"


class Faults:
    """Stands before a simulator: requests of that method and path meet, in turn, what was put into ``faults``.

    ``(status, headers)`` answers that instead, with an empty body or the one that follows; ``"cut"`` closes the
    connection after the work was done; other text is answered with 200; ``None`` lets one through. The method ``*``
    means any.
    """

    def __init__(self, method: str, path: str, *faults: Fault) -> None:
        self.method = method
        self.path = path
        self.faults = [*faults]

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """Wrap an application."""

        async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
            fault = self.faults.pop(0) if self.faults and self._meant(scope) else None
            if fault is None:
                await app(scope, receive, send)
            elif fault == "cut":
                await app(scope, receive, _nowhere)
                send.__self__.transport.abort()  # type: ignore[attr-defined]  # the server's own bound method
            elif isinstance(fault, str):
                await Response(fault, media_type="application/json")(scope, receive, send)
            else:
                await Response("".join(fault[2:]), fault[0], fault[1])(scope, receive, send)

        return faulty

    def _meant(self, scope: Scope) -> bool:
        return self.method in {"*", scope.get("method")} and self.path in scope.get("path", "")


async def _nowhere(_message: Message) -> None:
    """Swallows an answer."""


def taking(codec: Callable[[], WebhookCodec], events: list[ProviderEvent]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that adds the events of genuine callbacks, and answers 403 to what is not genuine."""

    async def take(request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen = WebhookRequest(request.method, request.url.path, headers, await request.body())
        reader = codec()
        try:
            events.extend(reader.parse(reader.verify(seen, now=datetime.now(UTC))))
        except PixelproofError:
            return Response(status_code=403)
        return Response()

    return take


@contextmanager
def receiving(simulator: Simulator, codec: WebhookCodec) -> Iterator[list[ProviderEvent]]:
    """Receives a simulator's callbacks over HTTP, verified and read by the codec; 403 for what is not genuine."""
    events: list[ProviderEvent] = []
    with served(Starlette(routes=[Route("/hook", taking(lambda: codec, events), methods=["POST"])])) as url:
        simulator.callback_url = f"{url}/hook"
        yield events
