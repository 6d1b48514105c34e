"""What the three simulators share: a mailroom on disk, the ESP's own pixel, signed callbacks, the reader's side.

The provider's API is under the provider's own paths. What a *recipient* or the test does is under ``/_sim/``:

    GET  /_sim/mails?campaign=&after=&limit=   delivered mails, in order: id, campaign, recipient, subject, html
    GET  /_sim/calls                           {"calls": n}: requests that reached the provider's API so far
    POST /_sim/unsubscribe|complain {"mail": id}   the recipient uses the ESP's link, or the spam button
    POST /_sim/flush                           send the callbacks that wait: {"sent": events, "failed": events}
    POST /_sim/replay                          send the last callbacks again, byte for byte: {"sent", "accepted"}
    POST /_sim/forge                           send altered and unsigned copies of them: {"sent", "accepted"}
    GET  /open/{id}.gif                        the ESP's own pixel, as it stands in tracked mails
"""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
PAGE = 1_000
REPLAYED = 200
"""How many of the last callback requests are kept for a replay."""
FORGED = 10
"""Of how many of them forgeries are made."""
CONCURRENCY = 8
"""Callback requests under way at once."""


def utcnow() -> datetime:
    """The real time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Mail:
    """One delivered mail, as the recipient has it."""

    id: int
    campaign: str
    address: str = field(repr=False)
    subject: str
    html: str = field(repr=False)
    tracked: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """An ESP account that a person has set up for the demo or a test.

    Attributes:
        settings: What goes into ``[providers.<name>]`` of ``pixelproof.toml``.
        secrets: The environment variables that the connector and the codec need.
        content: A campaign's ``content``: the ESP's own names of the template, the sender …
    """

    settings: dict[str, Any]
    secrets: dict[str, str] = field(repr=False)
    content: dict[str, str]


@dataclass(frozen=True, slots=True)
class Callback:
    """One callback request, ready to send: signed, with ``events`` events inside."""

    url: str
    headers: dict[str, str]
    body: bytes = field(repr=False)
    events: int = 1


class Mailroom:
    """Delivered mails in SQLite: on disk when given a path, so that memory does not grow with what was sent."""

    def __init__(self, path: Path | None = None) -> None:
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA journal_mode=MEMORY")
        self._db.execute(
            "CREATE TABLE mail(id INTEGER PRIMARY KEY, campaign TEXT NOT NULL, address TEXT NOT NULL,"
            " subject TEXT NOT NULL, html TEXT NOT NULL, tracked INTEGER NOT NULL)"
        )

    def next_id(self) -> int:
        """The id that the next mail will have: its pixel is named by it."""
        (last,) = self._db.execute("SELECT coalesce(max(id), 0) FROM mail").fetchone()
        return int(last) + 1

    def deliver(self, mails: Sequence[Mail]) -> None:
        """Put mails into the recipients' inboxes."""
        rows = [(m.id, m.campaign, m.address, m.subject, m.html, m.tracked) for m in mails]
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO mail VALUES (?,?,?,?,?,?)", rows)
        self._db.execute("COMMIT")

    def get(self, mail: int) -> Mail | None:
        """One mail."""
        row = self._db.execute("SELECT * FROM mail WHERE id=?", (mail,)).fetchone()
        return _mail(row) if row else None

    def page(self, campaign: str | None, after: int, limit: int = PAGE) -> list[Mail]:
        """Mails behind ``after``, of one campaign or of all."""
        rows = self._db.execute(
            "SELECT * FROM mail WHERE id>? AND (? IS NULL OR campaign=?) ORDER BY id LIMIT ?",
            (after, campaign, campaign, limit),
        )
        return [_mail(row) for row in rows]


def _mail(row: tuple[int, str, str, str, str, int]) -> Mail:
    return Mail(*row[:5], tracked=bool(row[5]))


class Simulator(ABC):
    """The base of a simulator. A subclass adds the provider's routes and says how its callbacks are made.

    Args:
        mails: Where delivered mails are kept; in memory when None.
        now: The clock.

    Attributes:
        base_url: Where it is served, set by ``serve``; the pixel's address is made of it.
        callback_url: Where callbacks go; None drops them (no webhook installed).
    """

    name = ""

    def __init__(self, *, mails: Path | None = None, now: Callable[[], datetime] = utcnow) -> None:
        self.mailroom = Mailroom(mails)
        self.now = now
        self.base_url = "http://127.0.0.1"
        self.callback_url: str | None = None
        self.calls = 0
        self._waiting: deque[Callback] = deque()
        self._sent: deque[Callback] = deque(maxlen=REPLAYED)
        self.app: ASGIApp = self._counted(Starlette(routes=[*self.routes(), *self._readers_side()]))

    # For the subclasses

    @abstractmethod
    def account(self, *, purposes: Sequence[str], subject: str, html: str) -> Account:
        """Set the account up as a person would in the ESP's own interface, and answer what it takes to use it.

        ``html`` is the mail; ``[[choices_url]]`` and ``[[pixel_path]]`` in it stand where the ESP's own merge
        syntax for those two goes. Call it once the simulator is served.
        """

    @abstractmethod
    def routes(self) -> list[BaseRoute]:
        """The provider's API."""

    @abstractmethod
    def opened(self, mail: Mail) -> None:
        """The ESP's own pixel of a tracked mail was requested."""

    @abstractmethod
    def unsubscribed(self, mail: Mail) -> None:
        """The recipient used the ESP's unsubscribe link."""

    @abstractmethod
    def complained(self, mail: Mail) -> None:
        """The recipient reported the mail as spam."""

    def queue(self, callback: Callback) -> None:
        """Have a callback wait for the next flush."""
        self._waiting.append(callback)

    def prepare_flush(self) -> None:  # noqa: B027 - a provider that sends event by event needs none
        """Called before a flush: a provider that batches events makes its callbacks here."""

    def pixel(self, mail: int) -> str:
        """The ESP's own pixel for one mail."""
        return f'<img src="{self.base_url}/open/{mail}.gif" width="1" height="1" alt="">'

    # The reader's side

    def _counted(self, app: ASGIApp) -> ASGIApp:
        async def counting(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and not scope["path"].startswith(("/_sim/", "/open/")):
                self.calls += 1
            await app(scope, receive, send)

        return counting

    def _readers_side(self) -> list[BaseRoute]:
        return [
            Route("/_sim/mails", self._mails),
            Route("/_sim/calls", self._calls),
            Route("/_sim/unsubscribe", self._acting(self.unsubscribed), methods=["POST"]),
            Route("/_sim/complain", self._acting(self.complained), methods=["POST"]),
            Route("/_sim/flush", self._flush, methods=["POST"]),
            Route("/_sim/replay", self._replay, methods=["POST"]),
            Route("/_sim/forge", self._forge, methods=["POST"]),
            Route("/open/{mail:int}.gif", self._open),
        ]

    async def _mails(self, request: Request) -> Response:
        query = request.query_params
        page = self.mailroom.page(query.get("campaign"), int(query.get("after", 0)), int(query.get("limit", PAGE)))
        return JSONResponse(
            [{"id": m.id, "campaign": m.campaign, "to": m.address, "subject": m.subject, "html": m.html} for m in page]
        )

    async def _calls(self, _request: Request) -> Response:
        return JSONResponse({"calls": self.calls})

    def _acting(self, act: Callable[[Mail], None]) -> Callable[[Request], Awaitable[Response]]:
        async def handler(request: Request) -> Response:
            mail = self.mailroom.get(int((await request.json())["mail"]))
            if mail is None:
                return JSONResponse({"error": "no such mail"}, 404)
            act(mail)
            return JSONResponse({})

        return handler

    async def _open(self, request: Request) -> Response:
        mail = self.mailroom.get(request.path_params["mail"])
        if mail is not None and mail.tracked:
            self.opened(mail)
        return Response(GIF, media_type="image/gif", headers={"cache-control": "no-store"})

    async def _flush(self, _request: Request) -> Response:
        self.prepare_flush()
        waiting, self._waiting = list(self._waiting), deque()
        taken = await _post_all(waiting)
        for callback, ok in zip(waiting, taken, strict=True):
            (self._sent if ok else self._waiting).append(callback)  # what failed is kept and tried again, as they do
        sent = sum(callback.events for callback, ok in zip(waiting, taken, strict=True) if ok)
        return JSONResponse({"sent": sent, "failed": sum(c.events for c in waiting) - sent})

    async def _replay(self, _request: Request) -> Response:
        return await _report(list(self._sent))

    async def _forge(self, _request: Request) -> Response:
        return await _report([forged for callback in list(self._sent)[-FORGED:] for forged in _forgeries(callback)])


def _forgeries(callback: Callback) -> list[Callback]:
    """What somebody without the key can make of a genuine callback: one byte altered, or no signature at all."""
    middle = len(callback.body) // 2
    altered = callback.body[:middle] + bytes([callback.body[middle] ^ 1]) + callback.body[middle + 1 :]
    plain = {"content-type": callback.headers.get("content-type", "application/json")}
    return [
        replace(callback, body=altered),
        replace(callback, headers=plain),
    ]


async def _report(callbacks: Sequence[Callback]) -> Response:
    return JSONResponse({"sent": len(callbacks), "accepted": sum(await _post_all(callbacks))})


async def _post_all(callbacks: Sequence[Callback]) -> list[bool]:
    """Post them as a provider does, several at a time and so in no certain order; True for each that got a 2xx."""
    gate = asyncio.Semaphore(CONCURRENCY)
    async with httpx.AsyncClient(timeout=30) as client:

        async def post(callback: Callback) -> bool:
            async with gate:
                try:
                    answer = await client.post(callback.url, content=callback.body, headers=callback.headers)
                except httpx.HTTPError:
                    return False
                return answer.is_success

        return list(await asyncio.gather(*map(post, callbacks)))
