"""The choices page, in server time: the product's whole path against its template alone on a bare Starlette.

The product: the application as ``serve`` runs it, over a ledger and an address book of 2,000 people, each of whom looks
at the page in turn: link checked, address and standing read from disk, page made. The peer: a Starlette route that
renders the same template with one person's values at hand, in the same language. Both are called as ASGI applications
in their own process, one request after the other; the server and the network are left out, as they are the same.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.frame import Benchmark, BenchmarkError, Goal, Variant, main

PEOPLE = 2_000
REQUESTS = 4_000
WARM = 200
SMALLEST_PAGE = 10_000
"""Bytes: less is no choices page."""
SETTINGS = """base_url = "http://127.0.0.1:8080"
purposes = ["performance", "deliverability", "personalisation"]
personalisation_options = ["content"]
[sender]
name = "Marché des Lices"
contact = "privacy desk"
"""


def product() -> Mapping[str, Any]:
    """The application."""
    from cli.setup import fresh_keys
    from webhooks.app import create_app
    from webhooks.assembly import Services

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / ".env").write_text(fresh_keys(), "utf-8")
        (folder / "pixelproof.toml").write_text(SETTINGS, "utf-8")
        with Services.from_file(folder / "pixelproof.toml") as services:
            return asyncio.run(_measured(create_app(services), _links(services)))


def bare() -> Mapping[str, Any]:
    """The same template on a bare Starlette."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import Route

    from webhooks.pages import HERE

    context, shared, css = _values()
    environment = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, auto_reload=False)
    environment.globals.update(shared, css=Markup(css))  # noqa: S704 - our own file

    async def page(_request: Request) -> Response:
        return HTMLResponse(environment.get_template("choices.html").render(context))

    app = Starlette(routes=[Route("/c/{token}", page)])
    return asyncio.run(_measured(app, [f"/c/{number:044}" for number in range(PEOPLE)]))


def _values() -> tuple[dict[str, Any], dict[str, Any], str]:
    """What the template is filled with for somebody who has agreed to one purpose of three."""
    from core.model import Party, PurposeId, Role, State
    from webhooks.colours import theme
    from webhooks.pages import HERE, Pages, PageSettings
    from webhooks.words import load_words

    purposes = tuple(map(PurposeId, ("performance", "deliverability", "personalisation")))
    sender = Party("Marché des Lices", Role.CONTROLLER, "privacy desk")
    settings = PageSettings(sender, (), purposes, 13, ("content",))
    pages, words = Pages(settings), load_words()
    states = dict(zip(purposes, (State.GIVEN, State.REFUSED, State.REFUSED), strict=True))
    notice = pages.notice("en")
    context = {
        "_": words["en"],
        "language": "en",
        "notice": notice,
        "build": pages.build,
        "token": "A" * 44,
        "address": "a••••@e••••e.com",
        "seen": 2,
        "states": states,
        "decided": True,
        "given": [notice.purposes[0]],
        "given_otherwise": False,
        "message": "",
    }
    shared = {"settings": settings, "names": {language: words[language].own_name for language in pages.languages}}
    return context, shared, theme(settings.accent) + (HERE / "static" / "page.css").read_text("utf-8")


def _links(services: Any) -> Sequence[str]:  # noqa: ANN401 - imported where it is used
    """The paths of everybody's pages; each has agreed to one purpose and refused two."""
    from core.ledger import Recording
    from core.model import Action, ConsentEvent, PurposeId

    addresses = [f"person{number}@example.com" for number in range(PEOPLE)]
    people = [services.recipient(address) for address in addresses]
    services.book.put((who, address, "en") for who, address in zip(people, addresses, strict=True))
    now = services.now()
    acts = ((Action.GIVEN, ("performance",)), (Action.REFUSED, ("deliverability", "personalisation")))
    events = (
        ConsentEvent(who, tuple(map(PurposeId, purposes)), action, received_at=now, occurred_at=now)
        for who in people
        for action, purposes in acts
    )
    services.ledger.record([Recording(event) for event in events])
    return [services.links.choices_url(who).removeprefix(services.settings.base_url) for who in people]


async def _measured(app: Any, paths: Sequence[str]) -> Mapping[str, Any]:  # noqa: ANN401 - an ASGI application
    """Seconds a page takes, in the middle of all; fails when one is not what it should be."""
    for path in paths[:WARM]:
        await _get(app, path)
    times = []
    for number in range(REQUESTS):
        begun = time.perf_counter()
        size = await _get(app, paths[number % len(paths)])
        times.append(time.perf_counter() - begun)
        if size < SMALLEST_PAGE:
            raise BenchmarkError("an answer is no choices page")
    times.sort()
    return {"seconds": sum(times) / len(times), "p99": times[len(times) * 99 // 100], "bytes": size}


async def _get(app: Any, path: str) -> int:  # noqa: ANN401 - an ASGI application
    """One GET; answers the size of the page."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8080"), (b"accept-language", b"en-GB,en;q=0.9")],
        "server": ("127.0.0.1", 8080),
        "client": ("127.0.0.1", 50_000),
    }
    size = 0

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal size
        if message["type"] == "http.response.start" and message["status"] != 200:  # noqa: PLR2004 - the plain word for it
            raise BenchmarkError(f"an answer has status {message['status']}")
        size += len(message.get("body", b""))

    await app(scope, receive, send)
    return size


if __name__ == "__main__":
    main(
        Benchmark(
            name="choices_page",
            variants=[Variant("product", product), Variant("bare_starlette", bare)],
            goal=Goal(of="product", against="bare_starlette", at_least=0.7),
        )
    )
