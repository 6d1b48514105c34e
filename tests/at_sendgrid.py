"""A served installation with SendGrid, and the simulator that calls it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cli.demo.files import add_secrets, write_settings
from connectors.simulators.base import Mail
from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import listen, served, url_of
from tests.installation import ADDRESS, Team
from webhooks.app import create_app
from webhooks.assembly import Services


@dataclass
class Door:
    """Stands before the simulator: what takes people away there may be refused, before it is done or after it was."""

    app: ASGIApp
    refuses: Literal["", "before", "after"] = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it pass, or not."""
        refused = self.refuses if scope.get("method") == "DELETE" else ""
        if refused != "before":
            await self.app(scope, receive, _nowhere if refused else send)
        if refused:
            await Response(status_code=400)(scope, receive, send)


async def _nowhere(_message: Message) -> None:
    """Swallows an answer."""


class AtSendGrid:
    """An installation with a webhook at the simulated SendGrid, which has delivered one mail to somebody."""

    def __init__(self, team: Team, sendgrid: SendGridSimulator, settings: Path, door: Door) -> None:
        self.team = team
        self.sendgrid = sendgrid
        self.settings = settings
        self.door = door
        self.mail = Mail(1, "spring", ADDRESS, "News", "<p>News</p>", tracked=True)
        sendgrid.mailroom.deliver([self.mail])
        sendgrid._sent_mails.add([(1, {"pixelproof_campaign": "spring"}, None)])

    def order(self, what: str) -> dict[str, int]:
        """Have SendGrid flush, replay or forge; answers its counts."""
        answer: dict[str, int] = httpx.post(f"{self.sendgrid.base_url}/_sim/{what}", timeout=30).json()
        return answer

    def signed(self, body: bytes) -> dict[str, str]:
        """SendGrid's headers of any body."""
        (hook,) = self.sendgrid.webhooks.hooks.values()
        return self.sendgrid.webhooks._headers(hook, body)

    def post(self, *items: object) -> int:
        """Post these as SendGrid's events, signed with its key; answers the status."""
        body = json.dumps(items).encode()
        return self.team.client.post("/webhooks/sendgrid", content=body, headers=self.signed(body)).status_code

    @property
    def entries(self) -> int:
        """How many entries the ledger has."""
        return self.team.services.store.sealed().size

    @property
    def effects(self) -> dict[str, int]:
        """What SendGrid's callbacks have had as effects so far."""
        counted = self.team.services.store.counters("callbacks:sendgrid")
        return {name: n for name, n in counted.items() if n}


@contextmanager
def installed(folder: Path, *more: str) -> Iterator[AtSendGrid]:
    """Serve one; ``more``: lines that come first in its settings."""
    sendgrid, listener = SendGridSimulator(), listen()
    door = Door(sendgrid.app)
    with served(door) as sendgrid.base_url:
        account = sendgrid.account(purposes=["performance"], subject="News", html="<p>News</p>")
        settings = write_settings(folder, url_of(listener), {"sendgrid": account.settings})
        settings.write_text("\n".join([*more, settings.read_text("utf-8")]), "utf-8")
        add_secrets(folder, account.secrets)
        with Services.from_file(settings) as services, served(create_app(services), listener=listener) as url:
            sendgrid.callback_url = f"{url}/webhooks/sendgrid"
            team = Team(services, url)
            yield AtSendGrid(team, sendgrid, settings, door)
            team.client.close()
