"""What the tests of the Mailchimp connector share: the served simulator, contacts, faults, a journal, a receiver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import md5
from typing import Any

import httpx
import msgspec

from connectors.mailchimp import PROVIDER
from connectors.mailchimp.connector import MailchimpConnector
from connectors.mailchimp.settings import MailchimpSettings
from connectors.simulators.base import Account
from connectors.simulators.mailchimp import MailchimpSimulator
from connectors.simulators.mailchimp.audience import Subscriber, name_of
from connectors.simulators.serving import served, simulated
from core.model import (
    AppliedPlan,
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
from tests.contract.ground import Faults, receiving

PERFORMANCE, PROFILING = PurposeId("performance"), PurposeId("profiling")
HTML = (
    '<html><body><p>News</p><a href="[[choices_url]]">Your choices</a>'
    '[[if_pixel]]<img src="https://pixel.example/[[pixel_path]]/news.gif">[[end_if]]</body></html>'
)
ESP_PIXEL, HOSTED_PIXEL = "/open/", "https://pixel.example/"


def contact(name: str, pixel_path: str = "") -> Contact:
    """Somebody, with a link to the choices."""
    recipient = RecipientId(md5(name.encode(), usedforsecurity=False).digest())
    return Contact(recipient, f"{name}@example.com", None, f"https://choices.example/c/{name}?a=1&b=2", pixel_path)


def people(prefix: str, number: int, pixel_path: str = "") -> list[Contact]:
    """That many of them."""
    return [contact(f"{prefix}{n}", pixel_path) for n in range(number)]


def change(who: Contact, desired: Iterable[PurposeId] = (), confirmed: Iterable[PurposeId] = ()) -> ContactChange:
    """What the ledger wants for somebody against what was confirmed."""
    return ContactChange(who, frozenset(desired), frozenset(confirmed))


class Bench:
    """A simulator, a connector that talks to it, or to ``api_url``, over HTTP, and people who do (``http``)."""

    def __init__(
        self,
        simulator: MailchimpSimulator,
        account: Account,
        http: httpx.Client,
        *,
        api_url: str | None = None,
        **settings: str,
    ) -> None:
        self.simulator = simulator
        self.account = account
        self.http = http
        self.slept: list[float] = []
        given: dict[str, Any] = account.settings | settings | ({"api_url": f"{api_url}/3.0"} if api_url else {})
        self.settings = msgspec.convert(given, MailchimpSettings)
        self.context = ProviderContext(account.secrets, (PERFORMANCE, PROFILING), lambda: datetime.now(UTC))
        self.connector = MailchimpConnector(self.settings, self.context, sleep=self.slept.append)

    def behind(self, **changed: str) -> Bench:
        """Another connector to the same account, with other settings."""
        return Bench(self.simulator, self.account, self.http, **changed)

    def api(self, method: str, path: str, json: object = None) -> None:
        """A call of somebody else, such as a person at Mailchimp's interface."""
        auth = ("user", self.simulator.api_key)
        self.http.request(method, f"/3.0{path}", auth=auth, json=json).raise_for_status()

    def sync(self, contacts: Sequence[Contact], purposes: Iterable[PurposeId] = ()) -> None:
        """Put contacts into the audience."""
        report = self.connector.sync([change(who, purposes) for who in contacts])
        assert not report.rejected

    def member(self, who: Contact) -> Subscriber:
        """A contact as Mailchimp has it."""
        return self.simulator.audience.members[name_of(who.address)]

    def segments(self) -> dict[str, set[str]]:
        """The addresses in each segment, by its name."""
        audience = self.simulator.audience
        return {s.name: {audience.members[m].address for m in s.members} for s in audience.segments.values()}

    def campaign(self, mechanism: Mechanism = Mechanism.PROVIDER) -> Campaign:
        """A mailing."""
        purposes, content = (PERFORMANCE,), self.account.content
        return Campaign(CampaignId("news"), "mailchimp", CampaignKind.REQUESTED, purposes, mechanism, content=content)

    def plan(self, tracked: Sequence[Contact], untracked: Sequence[Contact], campaign: Campaign | None = None) -> Plan:
        """The plan of a mailing."""
        return self.connector.plan(campaign or self.campaign(), Split(tuple(tracked), tuple(untracked)))

    def ready(
        self, tracked: Sequence[Contact], untracked: Sequence[Contact], campaign: Campaign | None = None
    ) -> tuple[Plan, AppliedPlan]:
        """Everybody in the audience, and the mailing applied."""
        self.sync([*tracked, *untracked])
        plan = self.plan(tracked, untracked, campaign)
        return plan, self.connector.apply(plan)

    def mails(self) -> dict[str, list[str]]:
        """The HTML of the mails that everybody got, by address."""
        found: dict[str, list[str]] = {}
        for mail in self.http.get("/_sim/mails").json():
            found.setdefault(mail["to"], []).append(mail["html"])
        return found

    def reader(self, what: str, who: Contact) -> None:
        """A reader opens the first mail they got, or uses the ESP's ``unsubscribe`` or ``complain``."""
        mails = self.http.get("/_sim/mails").json()
        number = next(mail["id"] for mail in mails if mail["to"] == who.address)
        if what == "open":
            self.http.get(f"/open/{number}.gif").raise_for_status()
        else:
            self.http.post(f"/_sim/{what}", json={"mail": number}).raise_for_status()

    def pixels(self, sign: str = ESP_PIXEL) -> dict[str, list[int]]:
        """How many pixels of that kind each mail of each person has."""
        return {address: [html.count(sign) for html in mails] for address, mails in self.mails().items()}

    def order(self, what: str) -> dict[str, int]:
        """Have the simulator flush, replay or forge callbacks."""
        return dict(self.http.post(f"/_sim/{what}").raise_for_status().json())


@contextmanager
def serving(html: str = HTML, **settings: str) -> Iterator[Bench]:
    """A simulator without faults, and a connector that talks to it."""
    simulator = MailchimpSimulator()
    with simulated(simulator) as url, httpx.Client(base_url=url) as http:
        account = simulator.account(purposes=[PERFORMANCE, PROFILING], subject="News for *|EMAIL|*", html=html)
        yield Bench(simulator, account, http, **settings)


@contextmanager
def faulty(bench: Bench, *faults: Faults) -> Iterator[Bench]:
    """The same simulator behind faults."""
    app = bench.simulator.app
    for each in faults:
        app = each(app)
    with served(app) as url:
        yield bench.behind(api_url=url)


@contextmanager
def receiver(bench: Bench) -> Iterator[list[ProviderEvent]]:
    """Receives the simulator's callbacks over HTTP, verified and read by the codec; 403 for what is not genuine."""
    with receiving(bench.simulator, PROVIDER.codec(bench.settings, bench.context)) as events:
        yield events
