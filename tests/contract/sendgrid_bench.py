"""What the tests of the SendGrid connector share: a served simulator, faults before it, a receiver of callbacks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.sendgrid import PROVIDER
from connectors.sendgrid.connector import SendGridConnector
from connectors.sendgrid.settings import SendGridSettings
from connectors.simulators.base import Account
from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import served
from core.errors import AmbiguousOutcome, PixelproofError
from core.model import (
    Campaign,
    CampaignId,
    CampaignKind,
    Contact,
    ContactChange,
    Mechanism,
    Plan,
    ProviderEvent,
    PurposeId,
    RecipientId,
    Split,
    WebhookRequest,
)
from core.ports import ProviderContext

PERFORMANCE, PROFILING = PurposeId("performance"), PurposeId("profiling")
HTML = (
    '<p>News &amp; more</p><a href="[[choices_url]]">Your choices</a>'
    '[[if_pixel]]<img src="https://pixel.example/[[pixel_path]]/news-1.gif">[[end_if]]'
)
Wrap = Callable[[ASGIApp], ASGIApp]


class Bench:
    """A served simulator, the account in it, and a connector to it whose waiting takes no time."""

    def __init__(self, simulator: SendGridSimulator, account: Account, **settings: object) -> None:
        self.simulator = simulator
        self.account = account
        self.slept: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None
        self.settings = msgspec.convert({**account.settings, **settings}, SendGridSettings)
        self.context = ProviderContext(account.secrets, (PERFORMANCE, PROFILING), lambda: datetime.now(UTC))
        self.connector = SendGridConnector(simulator.api_key, self.settings, self.context, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.on_sleep()

    def lists(self) -> dict[str, set[str]]:
        """The addresses in each list, by the list's name, as SendGrid has them."""
        names = dict(self.simulator.contacts._lists)
        return {
            name: {p.email for p in self.simulator.contacts.people.values() if i in p.lists}
            for i, name in names.items()
        }

    def mails(self, campaign: str = "news-1") -> list[dict[str, Any]]:
        """The delivered mails, read over HTTP as their recipients have them."""
        mails: list[dict[str, Any]] = []
        while True:
            after = mails[-1]["id"] if mails else 0
            page = httpx.get(
                f"{self.simulator.base_url}/_sim/mails", params={"campaign": campaign, "after": after}
            ).json()
            if not page:
                return mails
            mails += page

    def act(self, what: str, **body: object) -> dict[str, int]:
        """What a recipient or the test does at the simulator."""
        answer: dict[str, int] = httpx.post(f"{self.simulator.base_url}/_sim/{what}", json=body).json()
        return answer

    def campaign(self, mechanism: Mechanism, **content: str) -> Campaign:
        """A campaign over the account's template."""
        return Campaign(
            CampaignId("news-1"),
            "sendgrid",
            CampaignKind.REQUESTED,
            (PERFORMANCE,),
            mechanism,
            content={**self.account.content, **content},
        )


@contextmanager
def serving(wrap: Wrap = lambda app: app, **settings: object) -> Iterator[Bench]:
    """A bench; ``wrap`` stands between the connector and the simulator."""
    simulator = SendGridSimulator()
    with served(wrap(simulator.app)) as url:
        simulator.base_url = url
        account = simulator.account(purposes=[PERFORMANCE, PROFILING], subject="News", html=HTML)
        yield Bench(simulator, account, **settings)


class Journal:
    """A journal in memory that keeps what it was told."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}

    def begin(self, part: str) -> bool:
        """See ``SendJournal``."""
        if self.parts.get(part) == "begun":
            raise AmbiguousOutcome("sendgrid", part)
        if self.parts.get(part) == "done":
            return False
        self.parts[part] = "begun"
        return True

    def done(self, part: str) -> None:
        """See ``SendJournal``."""
        self.parts[part] = "done"

    def failed(self, part: str) -> None:
        """See ``SendJournal``."""
        self.parts[part] = "failed"


def contact(name: str, pixel: str = "") -> Contact:
    """A contact with the fields that the product carries."""
    recipient = RecipientId(hashlib.sha256(name.encode()).digest()[:16])
    return Contact(recipient, f"{name}@example.com", "en", f"https://choices.example/c/{name}?a=1&b=2", pixel)


def change(who: Contact, desired: Sequence[PurposeId] = (), confirmed: Sequence[PurposeId] = ()) -> ContactChange:
    """A change of one contact's purposes."""
    return ContactChange(who, frozenset(desired), frozenset(confirmed))


def people(prefix: str, count: int, pixel: str = "") -> tuple[Contact, ...]:
    """Several contacts."""
    return tuple(contact(f"{prefix}{number}", pixel) for number in range(count))


Fault = tuple[int, dict[str, str]] | str | None


class Faults:
    """Stands before the simulator: requests to ``path`` meet, in turn, what was put into ``faults``.

    ``(status, headers)`` answers that instead; ``"cut"`` closes the connection after the work was done; ``None`` lets
    one through; text answers 200 with it.
    """

    def __init__(self, path: str, *faults: Fault) -> None:
        self.path = path
        self.faults = list(faults)

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """Wrap an application."""

        async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
            fault = self.faults.pop(0) if scope.get("path", "").startswith(self.path) and self.faults else None
            if fault is None:
                await app(scope, receive, send)
            elif fault == "cut":
                await app(scope, receive, _nowhere)
                send.__self__.transport.abort()  # type: ignore[attr-defined]  # the server's own bound method
            elif isinstance(fault, str):
                await Response(fault)(scope, receive, send)
            else:
                await Response(status_code=fault[0], headers=fault[1])(scope, receive, send)

        return faulty


async def _nowhere(_message: Message) -> None:
    """Swallows an answer."""


def planned(bench: Bench) -> Plan:
    """A plan for one tracked and one untracked recipient."""
    split = Split((contact("ada"),), (contact("bob"),))
    return bench.connector.plan(bench.campaign(Mechanism.PROVIDER), split)


@contextmanager
def receiver(bench: Bench) -> Iterator[list[ProviderEvent]]:
    """Receives the simulator's callbacks over HTTP, verified and read by the codec; 403 for what is not genuine."""
    codec = PROVIDER.codec(bench.settings, bench.context)
    events: list[ProviderEvent] = []

    async def take(request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen = WebhookRequest(request.method, request.url.path, headers, await request.body())
        try:
            events.extend(codec.parse(codec.verify(seen, now=datetime.now(UTC))))
        except PixelproofError:
            return Response(status_code=403)
        return Response()

    with served(Starlette(routes=[Route("/hook", take, methods=["POST"])])) as url:
        bench.simulator.callback_url = f"{url}/hook"
        yield events
