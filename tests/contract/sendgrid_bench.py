"""What the tests of the SendGrid connector share: a served simulator, faults before it, a receiver of callbacks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
from starlette.types import ASGIApp

from connectors.sendgrid import PROVIDER
from connectors.sendgrid.connector import SendGridConnector
from connectors.sendgrid.settings import SendGridSettings
from connectors.simulators.base import Account
from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import served
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
)
from core.ports import ProviderContext
from tests.contract.ground import receiving

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


def planned(bench: Bench) -> Plan:
    """A plan for one tracked and one untracked recipient."""
    split = Split((contact("ada"),), (contact("bob"),))
    return bench.connector.plan(bench.campaign(Mechanism.PROVIDER), split)


@contextmanager
def receiver(bench: Bench) -> Iterator[list[ProviderEvent]]:
    """Receives the simulator's callbacks over HTTP, verified and read by the codec; 403 for what is not genuine."""
    with receiving(bench.simulator, PROVIDER.codec(bench.settings, bench.context)) as events:
        yield events
