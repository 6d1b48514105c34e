"""An account's settings that bear on tracking, its unsubscribe groups and branded links; and subusers beside it.

Source: SendGrid's OpenAPI documents "Tracking Settings" and "Suppression Groups", and the API reference of link
branding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.simulators.sendgrid.wire import NOT_FOUND, Handler, Refused, Switch, read


class AccountApi:
    """The routes of the settings and their state.

    Attributes:
        tracking: Which kind of tracking is on: ``open``, ``click``, ``subscription``.
        groups: Unsubscribe groups by id.
        links: The branded links' subdomains; the first is the default.
        denied: Parts of paths that the API key may not read, as of one with restricted access.
    """

    def __init__(self) -> None:
        self.tracking = {"open": True, "click": True, "subscription": True}
        self.groups: dict[int, str] = {}
        self.links: list[str] = []
        self.denied: set[str] = set()

    def routes(self, guard: Callable[[Handler], Handler]) -> list[BaseRoute]:
        """The routes, each behind ``guard``."""
        return [
            Route("/v3/tracking_settings/{kind}", guard(self._tracking), methods=["GET", "PATCH"]),
            Route("/v3/asm/groups", guard(self._groups), methods=["GET"]),
            Route("/v3/asm/groups/{id:int}", guard(self._group), methods=["GET"]),
            Route("/v3/whitelabel/links", guard(self._links), methods=["GET"]),
        ]

    def denies(self, path: str) -> bool:
        """Whether the API key lacks the scope for this path."""
        return any(part in path for part in self.denied)

    async def _tracking(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in self.tracking:
            raise Refused("not found", status=NOT_FOUND)
        if request.method == "PATCH":
            self.tracking[kind] = (await read(request, Switch)).enabled
        more: dict[str, object] = {"enable_text": False} if kind == "click" else {}
        return JSONResponse({"enabled": self.tracking[kind], **more})

    async def _groups(self, _request: Request) -> Response:
        return JSONResponse([self._shown(group) for group in self.groups])

    async def _group(self, request: Request) -> Response:
        group = request.path_params["id"]
        if group not in self.groups:
            raise Refused("group not found", status=NOT_FOUND)
        return JSONResponse(self._shown(group))

    async def _links(self, _request: Request) -> Response:
        shown = [
            {"id": place, "domain": link.partition(".")[2], "subdomain": link.partition(".")[0], "username": "team"}
            | {"user_id": 1, "default": place == 1, "valid": True, "legacy": False, "dns": {}}
            for place, link in enumerate(self.links, start=1)
        ]
        return JSONResponse(shown)

    def _shown(self, group: int) -> dict[str, object]:
        return {"id": group, "name": self.groups[group], "description": "", "is_default": False, "unsubscribes": 0}


class ByKey:
    """Several accounts behind the one address of SendGrid's API: the API key decides whose account is meant.

    ``on-behalf-of`` is refused: a key of the subuser's own is what this product works with.
    """

    def __init__(self, accounts: Mapping[str, ASGIApp]) -> None:
        self._accounts = {f"Bearer {key}": app for key, app in accounts.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to the account that its key belongs to."""
        if scope["type"] != "http":
            await next(iter(self._accounts.values()))(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        app: ASGIApp = self._accounts.get(headers.get("authorization", ""), Refused("unknown key", status=401).answer())
        if "on-behalf-of" in headers:
            app = Refused("on-behalf-of is not for a subuser's own key", status=403).answer()
        await app(scope, receive, send)
