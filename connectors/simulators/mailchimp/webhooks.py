"""The audience's webhooks: made after a look at the URL, with a secret that is told once, where the account signs."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
from starlette.requests import Request
from starlette.responses import Response

from connectors.simulators.mailchimp.wire import (
    Handler,
    Json,
    NewWebhook,
    Problem,
    WebhookChange,
    answer,
    invalid,
    not_found,
    read,
)

TIMEOUT = 10.0
"""Seconds that a webhook's URL may take to answer."""


@dataclass(slots=True)
class Hook:
    """One webhook. ``secret``: what its callbacks are signed with; None: they are not."""

    url: str = field(repr=False)
    events: dict[str, bool]
    sources: dict[str, bool]
    secret: str | None = field(repr=False)
    id: str = field(default_factory=lambda: secrets.token_hex(5))


class Webhooks:
    """The webhooks' state and the part of the API that is about them.

    Attributes:
        all: By ID.
        signs: Whether this account signs; new webhooks of one that does not get no secret.
    """

    def __init__(self, list_id: str) -> None:
        self.all: dict[str, Hook] = {}
        self.signs = True
        self._list_id = list_id

    def handlers(self) -> list[tuple[str, str, Handler]]:
        """Method, path and handler of each call."""
        at = f"/lists/{self._list_id}/webhooks"
        return [
            ("GET", at, self._list),
            ("POST", at, self._create),
            ("GET", f"{at}/{{hook}}", self._get),
            ("PATCH", f"{at}/{{hook}}", self._change),
            ("DELETE", f"{at}/{{hook}}", self._delete),
        ]

    def told(self, event: str, source: str) -> Iterator[Hook]:
        """Those that are told of such an event."""
        return (h for h in [*self.all.values()] if h.events.get(event) and h.sources.get(source))

    async def _list(self, request: Request) -> Response:
        shown = [self._shown(hook) for hook in self.all.values()]
        return answer(request, {"webhooks": shown, "list_id": self._list_id, "total_items": len(shown)})

    async def _create(self, request: Request) -> Response:
        new = await read(request, NewWebhook)
        if any(_same(hook.url, new.url) for hook in self.all.values()):
            raise invalid("url", "Sorry, you can't set up multiple WebHooks for one URL")
        await _asked(new.url)
        secret = secrets.token_urlsafe(32) if self.signs else None
        hook = Hook(new.url, dict(new.events), dict(new.sources), secret)
        self.all[hook.id] = hook
        return answer(request, self._shown(hook) | ({"signing_secret": secret} if secret else {}))

    async def _get(self, request: Request) -> Response:
        return answer(request, self._shown(self._of(request)))

    async def _change(self, request: Request) -> Response:
        hook, change = self._of(request), await read(request, WebhookChange)
        if change.url is not None:
            await _asked(change.url)
            hook.url = change.url
        hook.events |= change.events
        hook.sources |= change.sources
        return answer(request, self._shown(hook))

    async def _delete(self, request: Request) -> Response:
        del self.all[self._of(request).id]
        return Response(status_code=204)

    def _of(self, request: Request) -> Hook:
        hook = self.all.get(request.path_params["hook"])
        if hook is None:
            raise not_found()
        return hook

    def _shown(self, hook: Hook) -> Json:
        """As the API shows it: never with its secret."""
        return {
            "id": hook.id,
            "url": hook.url,
            "events": dict(hook.events),
            "sources": dict(hook.sources),
            "list_id": self._list_id,
        }


def _same(one: str, other: str) -> bool:
    """Whether two URLs differ in their query at most: Mailchimp takes them for one."""
    return urlsplit(one)._replace(query="") == urlsplit(other)._replace(query="")


async def _asked(url: str) -> None:
    """Ask a URL with a GET, as Mailchimp does before it uses it; raises Problem unless it answers 200."""
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT) as client:
            status = (await client.get(url)).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        status = 0
    if status != httpx.codes.OK:
        raise Problem(
            "Invalid Resource",
            "The resource submitted could not be validated.",
            errors=[("url", "We couldn't connect to the WebHook URL.")],
        )
