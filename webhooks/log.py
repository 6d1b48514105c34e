"""The log, for everybody to read: its checkpoint and its tiles, as c2sp.org/tlog-tiles has them, and nothing else.

    GET /log/checkpoint              the newest checkpoint
    GET /log/tile/<L>/<N>[.p/<W>]    a tile of the tree under it

Hashes and signatures alone: no entry is served (there is no ``tile/entries``), for pseudonyms are personal data. Only
what the newest checkpoint covers is shown, for a tile that may still change must never be cached as one that cannot.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from core.errors import StoreError
from core.notary import Notary
from core.tiles import HEIGHT, WIDTH, Tile

PREFIX = "/log"
IMMUTABLE = "public, max-age=31536000, immutable"
BRIEF = "public, max-age=5"
"""The checkpoint changes every few seconds."""
TOP_LEVEL = 63
"""The highest level that a path may name (c2sp.org/tlog-tiles)."""

_TILE = re.compile(r"(\d|[1-5]\d|6[0-3])/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)

log = structlog.get_logger("pixelproof.log")


def routes(notary: Notary | None) -> Sequence[BaseRoute]:
    """The routes; none without a notary, for then there is no log."""
    if notary is None:
        return ()
    served = _Log(notary)
    return (
        Route(f"{PREFIX}/checkpoint", _aside(served.checkpoint)),
        Route(f"{PREFIX}/tile/{{path:path}}", _aside(served.tile)),
    )


@dataclass(frozen=True, slots=True)
class _Log:
    notary: Notary

    def checkpoint(self, _request: Request) -> Response:
        head = self.notary.newest()
        if head is None:
            return _absent()
        return Response(head.raw, media_type="text/plain; charset=utf-8", headers={"cache-control": BRIEF})

    def tile(self, request: Request) -> Response:
        tile, head = tile_of(request.path_params["path"]), self.notary.newest()
        if tile is None or head is None or not covered(tile, head.checkpoint.size):
            return _absent()
        try:
            content = b"".join(self.notary.tiles.hashes(tile))
        except StoreError:
            if tile.width < WIDTH:  # one of a size that was never signed, or that the full one stands for by now
                return _absent()
            raise
        return Response(content, media_type="application/octet-stream", headers={"cache-control": IMMUTABLE})


def tile_of(path: str) -> Tile | None:
    """The tile that a path behind ``tile/`` names; None when it names none, or not in the one way to write it."""
    found = _TILE.fullmatch(path)
    if not found:
        return None
    level, number, width = found.groups()
    tile = Tile(int(level), int(re.sub(r"[x/]", "", number)), int(width) if width else WIDTH)
    return tile if tile.width <= WIDTH and tile.path == f"tile/{path}" else None


def covered(tile: Tile, size: int) -> bool:
    """Whether all hashes of a tile are in the tree of that size."""
    return tile.number * WIDTH + tile.width <= size >> HEIGHT * tile.level


def _aside(answer: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Answer in a thread: files are read."""

    async def answered(request: Request) -> Response:
        if request.scope["path"].endswith("\n"):  # a route's pattern overlooks it
            return _absent()
        try:
            return await asyncio.to_thread(answer, request)
        except StoreError as error:
            log.error("the log cannot be served", reason=str(error))
            return _told("the log is out of reach or damaged", 503)

    return answered


def _absent() -> Response:
    return _told("the log has no such file", 404)


def _told(text: str, status: int) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers={"cache-control": "no-store"})
