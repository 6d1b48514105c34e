"""The hosted pixel and the aggregate one.

``GET /o/{token}/{campaign}.gif`` records an open while the consent stands, and ``GET /a/{campaign}.gif`` adds one to
a counter. Whatever else is asked for under these paths gets the same image, leaves no trace, and is not asked for
again for a year: a withdrawal reaches mail that was delivered long ago (§5).

Each request is judged by what is committed at that moment and answered; only then is the open handed to the writer,
which judges it again. An open that is lost on the way (the store was out of reach, the process died) stays lost. The
other way round never happens: nothing is recorded without a consent that stands.

Every request costs the same work, whether it is recorded or not and whatever its path: one decryption, a look at what
has changed, a judgement that is held or made. What stands in for an unknown token, campaign or person is chosen so.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import structlog
from starlette.types import Receive, Scope, Send

from core.addresses import RECIPIENT_BYTES
from core.errors import StoreError
from core.hosted import Waiting
from core.machines import LONGEST, UNSAID, Client, client_of
from core.model import CampaignId, RecipientId
from core.ports import Clock
from core.tokens import Tokens, Use
from core.verdicts import Verdict, Verdicts
from webhooks.pixel_queue import TakesOpens

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
IMAGE = ((b"content-length", b"%d" % len(GIF)), (b"content-type", b"image/gif"))
ASK_AGAIN = (*IMAGE, (b"cache-control", b"no-store"))
NEVER_AGAIN = (*IMAGE, (b"cache-control", b"public, max-age=31536000, immutable"))

PATHS = ("/o/", "/a/")
"""What lies below these paths is the pixels'."""
_PATH = re.compile(r"/(?:o/([A-Za-z0-9_-]{44})|a)/([a-z0-9_-]{1,64})\.gif")
_AGGREGATE = "/a/"
_REFUSED = [(b"allow", b"GET, HEAD"), (b"content-length", b"0")]
_NOBODY = RecipientId(bytes(RECIPIENT_BYTES))
_MOST_CLIENTS = 1_024

log = structlog.get_logger("pixelproof.pixel")


class PixelRequest(NamedTuple):
    """A GET below ``PATHS``: its path without query, percent-decoded, and its user agent ("" when it has none)."""

    path: str
    agent: str


class Judged(NamedTuple):
    """What becomes of a request.

    Attributes:
        again: Whether the terminal shall ask again the next time: it was counted, or nobody could tell.
        open: The individual open to be recorded.
        counted: The campaign whose aggregate counter gets one more.
    """

    again: bool
    open: Waiting | None
    counted: CampaignId | None


UNKNOWN = Judged(again=True, open=None, counted=None)
"""Nobody could tell: nothing is recorded, and the terminal may ask again."""


class _Asked(NamedTuple):
    """What a request says. ``genuine``: its token is; without one it is nobody's."""

    campaign: CampaignId
    recipient: RecipientId
    genuine: bool
    aggregate: bool
    client: Client


class Pixel:
    """The ASGI application for everything below ``PATHS``; it stands before the router.

    Args:
        verdicts: Judges the requests.
        tokens: Opens the tokens in the paths.
        queue: Takes what is to be written.
        now: The clock.
    """

    def __init__(self, verdicts: Verdicts, tokens: Tokens, queue: TakesOpens, now: Clock) -> None:
        self._verdicts = verdicts
        self._tokens = tokens
        self._queue = queue
        self._now = now
        self._clients: dict[int, Client] = {}
        self._unreadable = False

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request. Nothing but its path and its user agent is looked at, and neither is kept."""
        method = scope["method"]
        if method == "GET":
            judged = self.judge([PixelRequest(scope["path"], _agent(scope))])
            await _image(send, judged[0].again, GIF)
            self.take(judged)
        elif method == "HEAD":  # not an open: a terminal that looks first may ask
            await _image(send, True, b"")  # noqa: FBT003
        else:
            await send({"type": "http.response.start", "status": 405, "headers": _REFUSED})
            await send({"type": "http.response.body", "body": b""})

    def judge(self, requests: Sequence[PixelRequest]) -> list[Judged]:
        """What becomes of these requests, by what is committed now. Raises nothing."""
        now = self._now()
        asked = [self._asked(path, agent) for path, agent in requests]
        try:
            position, verdicts = self._verdicts.of([(each.campaign, each.recipient) for each in asked], now)
        except StoreError as error:
            self._say_unreadable(str(error))
            return [UNKNOWN] * len(requests)
        self._unreadable = False
        return [_judged(each, verdict, now, position) for each, verdict in zip(asked, verdicts, strict=True)]

    def _asked(self, path: str, agent: str) -> _Asked:
        match = _PATH.fullmatch(path)
        token, name = match.groups("") if match else ("", "")
        aggregate = path.startswith(_AGGREGATE)
        recipient = self._tokens.recognise(token, Use.PIXEL)
        client = UNSAID if aggregate else self._client(agent)
        return _Asked(CampaignId(name), recipient or _NOBODY, recipient is not None, aggregate, client)

    def take(self, judged: Sequence[Judged]) -> None:
        """Hand over what is to be written, once it was answered."""
        opens = [each.open for each in judged if each.open is not None]
        self._queue.add(opens, [each.counted for each in judged if each.counted is not None])

    def _client(self, agent: str) -> Client:
        """The user agent's family. Remembered is a digest of it, under a key that this process alone has."""
        key = hash(agent[:LONGEST])
        known = self._clients.get(key)
        if known is None:
            if len(self._clients) >= _MOST_CLIENTS:
                self._clients.clear()
            known = self._clients[key] = client_of(agent)
        return known

    def _say_unreadable(self, reason: str) -> None:
        if not self._unreadable:
            self._unreadable = True
            log.error("opens lost", reason=reason)


def _judged(asked: _Asked, verdict: Verdict, now: datetime, position: int) -> Judged:
    individual = asked.genuine and bool(verdict.serves)
    counted = asked.aggregate and verdict.aggregate
    # Made in any case, so that it takes the same time.
    waiting = Waiting(asked.campaign, asked.recipient, now, asked.client, verdict.serves, verdict.edition, position)
    return Judged(individual or counted, waiting if individual else None, asked.campaign if counted else None)


def _agent(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"user-agent":
            return str(value, "latin-1")
    return ""


async def _image(send: Send, again: bool, body: bytes) -> None:
    headers = ASK_AGAIN if again else NEVER_AGAIN
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
