"""A system of the team's that calls the API: a key, and what to send."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import httpx

from core.api_keys import Scope
from tests.installation import ADDRESS, Team

SHOWN = {"version": "2026-11", "language": "en"}


class Caller:
    """Calls the API of a served installation with a key of its own."""

    def __init__(self, team: Team, scopes: Collection[Scope] = tuple(Scope)) -> None:
        self.team = team
        self.key, self.secret = team.services.api_keys.create("a test", scopes)

    def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        """Post JSON; header names may be written with underscores."""
        sent = {"Authorization": f"Bearer {self.secret}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.team.client.post(path, json=body, headers=sent)

    def consents(self, *items: dict[str, Any], **headers: str) -> httpx.Response:
        """Record choices."""
        return self.post("/v1/consents", {"consents": items}, **headers)

    def decide(self, campaign: object, *addresses: str) -> httpx.Response:
        """Ask which pixel these may get."""
        return self.post("/v1/decisions", {"campaign": campaign, "addresses": addresses})

    @property
    def size(self) -> int:
        """How many entries the ledger has."""
        return self.team.services.store.sealed().size


def said(action: str, *purposes: str, address: str = ADDRESS, **fields: object) -> dict[str, Any]:
    """One item of ``POST /v1/consents``; a consent quotes the notice unless told otherwise."""
    notice = {"notice": SHOWN} if action == "given" else {}
    return {"address": address, "action": action, "purposes": purposes, **notice, **fields}
