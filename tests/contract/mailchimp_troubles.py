"""Faults between the Mailchimp connector and its simulator, each in both ways: not done, and done all the same."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TIMEOUT = 0.3
"""Seconds that a request may take where answers come too late."""

BEFORE: dict[str, tuple[int, dict[str, str]]] = {
    "429": (429, {}),
    "429 with a wait": (429, {"retry-after": "7"}),
    "403 without a body": (403, {}),
    "500": (500, {}),
    "503": (503, {"retry-after": "3"}),
}
"""Answers, with an empty body, in place of the simulator's."""
KINDS = (
    *BEFORE,
    *(f"{kind}, but done" for kind in BEFORE),
    "reset",
    "cut, but done",
    "half an answer, but done",
    "too late, but done",
)
"""What can happen to a request."""


class Troubles:
    """Stands before a simulator: from the ``after``-th request on, so many meet a trouble; ``met`` counts all."""

    def __init__(self, kind: str, after: int, number: int = 1) -> None:
        self.kind = kind
        self.after = after
        self.number = number
        self.met = 0

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """Wrap an application."""

        async def troubled(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            place, self.met = self.met, self.met + 1
            if not self.after <= place < self.after + self.number:
                await app(scope, receive, send)
                return
            answer = await _done(app, scope, receive) if self.kind.endswith("but done") else []
            await self._answer(scope, receive, send, answer)

        return troubled

    async def _answer(self, scope: Scope, receive: Receive, send: Send, answer: list[Message]) -> None:
        plain = BEFORE.get(self.kind.removesuffix(", but done"))
        if plain is not None:
            await Response(b"", plain[0], plain[1])(scope, receive, send)
            return
        if self.kind.startswith("half"):
            start, body = answer[0], answer[1].get("body", b"")
            await send(start)
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        elif self.kind.startswith("too late"):
            await asyncio.sleep(2 * TIMEOUT)
        send.__self__.transport.abort()  # type: ignore[attr-defined]  # the server's own bound method


async def _done(app: ASGIApp, scope: Scope, receive: Receive) -> list[Message]:
    """Have the request carried out; the messages of its answer."""
    answer: list[Message] = []

    async def keep(message: Message) -> None:
        answer.append(message)

    await app(scope, receive, keep)
    return answer
