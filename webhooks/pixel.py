"""The hosted pixel and the aggregate one.

``GET /o/{token}/{campaign}.gif`` records an open while the consent stands, and ``GET /a/{campaign}.gif`` adds one to
a counter. Whatever else is asked for under these paths gets the same image, leaves no trace, and is not asked for
again for a year: a withdrawal reaches mail that was delivered long ago (§5).

An open that is lost because the store was out of reach stays lost: the image is answered all the same. The other
way round never happens: nothing is recorded without a consent that stands at that moment.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from core.errors import SettingsError, StoreError, TokenError
from core.intake import Intake
from core.ports import Batch, Clock
from core.settings import campaign_id
from core.stores.group_commit import GroupCommit
from core.tokens import Tokens, Use

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
ASK_AGAIN = {"cache-control": "no-store"}
NEVER_AGAIN = {"cache-control": "public, max-age=31536000, immutable"}

log = structlog.get_logger("pixelproof.pixel")


@dataclass(frozen=True, slots=True)
class Pixel:
    """Answers the pixels' requests."""

    intake: Intake
    writer: GroupCommit
    tokens: Tokens
    now: Clock

    def routes(self) -> list[BaseRoute]:
        """The two pixels' routes."""
        return [
            Route("/o/{token}/{campaign}.gif", self.individual, methods=["GET"]),
            Route("/a/{campaign}.gif", self.aggregate, methods=["GET"]),
        ]

    async def individual(self, request: Request) -> Response:
        """The individual pixel."""
        try:
            recipient = self.tokens.open(request.path_params["token"], Use.PIXEL)
            campaign = campaign_id(request.path_params["campaign"])
        except (TokenError, SettingsError):
            return _image(NEVER_AGAIN)
        return await self._answer(
            request, lambda batch: self.intake.hosted_open(batch, campaign, recipient, self.now())
        )

    async def aggregate(self, request: Request) -> Response:
        """The aggregate pixel: nothing of the request is looked at but the campaign."""
        try:
            campaign = campaign_id(request.path_params["campaign"])
        except SettingsError:
            return _image(NEVER_AGAIN)
        return await self._answer(request, lambda batch: self.intake.aggregate_open(batch, campaign))

    async def _answer(self, request: Request, job: Callable[[Batch], bool]) -> Response:
        if request.method == "HEAD":
            return _image(ASK_AGAIN)
        try:
            recorded = await asyncio.wrap_future(self.writer.submit(job))
        except StoreError as error:
            log.error("open lost", reason=str(error))
            return _image(ASK_AGAIN)
        return _image(ASK_AGAIN if recorded else NEVER_AGAIN)


def _image(headers: dict[str, str]) -> Response:
    return Response(GIF, media_type="image/gif", headers=headers)
