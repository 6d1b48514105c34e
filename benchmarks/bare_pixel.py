"""The least that a Starlette route for an image does under uvicorn: nothing is checked, looked up or kept."""

from __future__ import annotations

import base64

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")


async def pixel(_request: Request) -> Response:
    """The image."""
    return Response(GIF, media_type="image/gif", headers={"cache-control": "no-store"})


app = Starlette(routes=[Route("/o/{token}/{campaign}.gif", pixel)])
