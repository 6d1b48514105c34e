"""The recipients' pages as the tests read and use them: taken apart, and called over ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from html.parser import HTMLParser
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.responses import Response

from core.model import PurposeId, State
from tests.choices_in_memory import NOBODY, SETTINGS, TOKEN, ChoicesInMemory
from webhooks.choices import routes
from webhooks.pages import Pages
from webhooks.visits import Visit

LANGUAGES = ("en", "fr")
ADDRESS = "l••••n@e••••e.org"
PAGES = Pages(SETTINGS)
PAGE = f"/c/{TOKEN}"
GIVEN = {PurposeId("profiling"): State.GIVEN, PurposeId("performance"): State.REFUSED}
VOID = {"meta", "link", "input", "img", "br"}


class Tree(HTMLParser):
    """Every element with its attributes, and the text that can be seen."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """The innermost element ends."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text counts as seen outside the head."""
        if "head" not in self._open:
            self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a kind that have these values."""
        return [have for name, have in self.elements if name == tag and attributes.items() <= have.items()]


def body(response: Response) -> str:
    """The page."""
    return bytes(response.body).decode()


def visit(states: dict[PurposeId, State] | None = None, address: str | None = ADDRESS) -> Visit:
    """Somebody who comes by the link TOKEN."""
    return Visit(NOBODY, TOKEN, address, None, states or {}, entries=3)


def links(response: Response) -> list[str | None]:
    """Where a page leads, but for the other language."""
    return [a["href"] for a in Tree(body(response)).all("a") if "hreflang" not in a]


def call(
    choices: ChoicesInMemory,
    method: str,
    path: str,
    *,
    body: bytes | AsyncIterator[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    **options: Any,  # noqa: ANN401 - whatever httpx takes
) -> httpx.Response:
    """One request to the application."""

    async def request() -> httpx.Response:
        app = Starlette(routes=routes(choices, PAGES))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://pages.test") as client:
            return await client.request(method, path, content=body, headers=headers, **options)

    return asyncio.run(request())


def press(choices: ChoicesInMemory, action: str, language: str = "en", **fields: object) -> httpx.Response:
    """Press a button of the page as it now is."""
    shown = {"lang": language, "notice": PAGES.notice(language).sha256, "build": PAGES.build.digest, "seen": "0"}
    return call(choices, "POST", PAGE, data={**shown, "action": action, **fields})


def untouched(choices: ChoicesInMemory) -> bool:
    """Whether nothing at all was noted."""
    return choices.recorded == [] and choices.withdrawn == []
