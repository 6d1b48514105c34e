"""What the tests of the Mailchimp connector share: the served simulator, contacts, faults, a journal, a receiver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from connectors.simulators.mailchimp.merge import from_placeholders
from connectors.simulators.serving import served, simulated
from core.model import (
    Addressee,
    AppliedPlan,
    Campaign,
    CampaignId,
    CampaignKind,
    Contact,
    ContactChange,
    Halves,
    Mechanism,
    Part,
    Plan,
    ProviderEvent,
    PurposeId,
    RecipientId,
    ReleaseReport,
    SyncReport,
)
from core.ports import ProviderContext, SendJournal
from tests.contract.ground import Faults, receiving

PERFORMANCE, PROFILING = PurposeId("performance"), PurposeId("profiling")
HTML = '<html><body><p>News</p><a href="[[choices_url]]">Your choices</a></body></html>'
HOSTED_HTML = (
    '<html><body><p>News</p><a href="[[choices_url]]">Your choices</a>'
    '[[if_pixel]]<img src="https://pixel.example/[[pixel_path]]/news.gif">[[end_if]]</body></html>'
)
"""With the hosted pixel of the campaign ``news``."""
ESP_PIXEL, HOSTED_PIXEL = "/open/", "https://pixel.example/"


def contact(name: str, pixel_path: str = "") -> Contact:
    """Somebody, with a link to the choices."""
    recipient = RecipientId(md5(name.encode(), usedforsecurity=False).digest())
    return Contact(recipient, f"{name}@example.com", None, f"https://choices.example/c/{name}?a=1&b=2", pixel_path)


def people(prefix: str, number: int, pixel_path: str = "") -> list[Contact]:
    """That many of them."""
    return [contact(f"{prefix}{n}", pixel_path) for n in range(number)]


def change(
    who: Contact, desired: Iterable[PurposeId] = (), confirmed: Iterable[PurposeId] = (), *, doubtful: bool = False
) -> ContactChange:
    """What the ledger wants for somebody against what was confirmed."""
    return ContactChange(who, frozenset(desired), frozenset(confirmed), doubtful)


def whole(reports: Iterable[SyncReport]) -> SyncReport:
    """All reports of a run as one; nobody may stand in two of them, or twice in one."""
    confirmed: list[RecipientId] = []
    rejected: list[RecipientId] = []
    calls = 0
    for report in reports:
        assert report.confirmed or report.rejected
        confirmed.extend(report.confirmed)
        rejected.extend(report.rejected)
        calls += report.api_calls
    assert len({*confirmed, *rejected}) == len(confirmed) + len(rejected)
    return SyncReport(frozenset(confirmed), frozenset(rejected), calls)


@dataclass
class Mailing:
    """A campaign in two halves, as ``core`` would have it planned, applied and released by a bench's connector."""

    by: Bench
    campaign: Campaign
    tracked: Sequence[Contact]
    untracked: Sequence[Contact]
    applied: AppliedPlan | None = None

    @property
    def halves(self) -> Halves:
        """How many get what."""
        paths = [who.pixel_path for who in self.untracked]
        individual = len(self.tracked) + sum(path.startswith("o/") for path in paths)
        return Halves(len(self.tracked), len(self.untracked), individual, paths.count("a"))

    @property
    def handles(self) -> Mapping[str, str]:
        """What stands at Mailchimp."""
        assert self.applied
        return self.applied.handles

    def addressees(self) -> Iterator[Addressee]:
        """Everybody, as apply reads them."""
        yield from (Addressee(who, tracked=True) for who in self.tracked)
        yield from (Addressee(who, tracked=False) for who in self.untracked)

    def parts(self) -> Iterator[Part]:
        """The halves, as release reads them."""
        yield Part("tracked", tracked=True, size=len(self.tracked), contacts=lambda: iter(self.tracked))
        yield Part("untracked", tracked=False, size=len(self.untracked), contacts=lambda: iter(self.untracked))

    def plan(self) -> Plan:
        """Its plan."""
        return self.by.connector.plan(self.campaign, self.halves)

    def apply(self) -> Mailing:
        """Have it set up, once more where it was."""
        self.applied = self.by.connector.apply(self.plan(), self.addressees)
        return self

    def release(self, journal: SendJournal) -> ReleaseReport:
        """Have it sent."""
        assert self.applied
        return self.by.connector.release(self.campaign, self.applied, self.parts(), journal)


class Bench:
    """A simulator, a connector that talks to it, or to ``api_url``, over HTTP, and people who do (``http``)."""

    def __init__(
        self,
        simulator: MailchimpSimulator,
        account: Account,
        http: httpx.Client,
        *,
        api_url: str | None = None,
        topics: tuple[str, ...] = (),
        **settings: Any,  # noqa: ANN401 - as msgspec reads them
    ) -> None:
        self.simulator = simulator
        self.account = account
        self.http = http
        self.slept: list[float] = []
        given: dict[str, Any] = account.settings | settings | ({"api_url": f"{api_url}/3.0"} if api_url else {})
        self.settings = msgspec.convert(given, MailchimpSettings)
        self.context = ProviderContext(
            account.secrets, (PERFORMANCE, PROFILING), lambda: datetime.now(UTC), topics=topics
        )
        self.connector = MailchimpConnector(self.settings, self.context, sleep=self.slept.append)

    def behind(self, api_url: str | None = None, **changed: Any) -> Bench:  # noqa: ANN401 - the same
        """Another connector to the same account, with other settings."""
        return Bench(
            self.simulator, self.account, self.http, **{"api_url": api_url, "topics": self.context.topics} | changed
        )

    def api(self, method: str, path: str, json: object = None) -> httpx.Response:
        """A call of somebody else, such as a person at Mailchimp's interface."""
        auth = ("user", self.simulator.api_key)
        return self.http.request(method, f"/3.0{path}", auth=auth, json=json).raise_for_status()

    def sync(self, contacts: Sequence[Contact], purposes: Iterable[PurposeId] = ()) -> None:
        """Put contacts into the audience."""
        assert not self.push(*(change(who, purposes) for who in contacts)).rejected

    def push(self, *changes: ContactChange) -> SyncReport:
        """Synchronise changes; the reports as one."""
        return whole(self.connector.sync(changes))

    def mailing(self, contacts: Sequence[Contact]) -> str:
        """Somebody sends a tracked campaign to these members by hand; answers its ID."""
        at = f"/lists/{self.settings.list_id}/segments"
        segment = self.api("POST", at, {"name": f"by hand {contacts[0].address}", "static_segment": []}).json()["id"]
        for start in range(0, len(contacts), 500):
            addresses = [who.address for who in contacts[start : start + 500]]
            self.api("POST", f"{at}/{segment}", {"members_to_add": addresses})
        condition = {"condition_type": "StaticSegment", "field": "static_segment", "op": "static_is", "value": segment}
        recipients = {"list_id": self.settings.list_id, "segment_opts": {"match": "all", "conditions": [condition]}}
        names = {"title": "by hand", "subject_line": "News", "from_name": "Us", "reply_to": "us@team.example"}
        body = {"type": "regular", "recipients": recipients, "settings": names, "tracking": {"opens": True}}
        campaign = str(self.api("POST", "/campaigns", body).json()["id"])
        self.api("PUT", f"/campaigns/{campaign}/content", {"html": "<html><body>News</body></html>"})
        self.api("POST", f"/campaigns/{campaign}/actions/send")
        return campaign

    def member(self, who: Contact) -> Subscriber:
        """A contact as Mailchimp has it."""
        return self.simulator.audience.members[name_of(who.address)]

    def segments(self) -> dict[str, set[str]]:
        """The addresses in each segment, by its name."""
        audience = self.simulator.audience
        return {s.name: {audience.members[m].address for m in s.members} for s in audience.segments.values()}

    def campaign(self, mechanism: Mechanism = Mechanism.PROVIDER) -> Campaign:
        """A mailing."""
        purposes, content = (PERFORMANCE,), dict(self.account.content)
        if mechanism is Mechanism.HOSTED:
            content["template_id"] = str(
                self.simulator.campaigns.add_template("hosted", from_placeholders(HOSTED_HTML))
            )
        return Campaign(CampaignId("news"), "mailchimp", CampaignKind.REQUESTED, purposes, mechanism, content=content)

    def halved(
        self, tracked: Sequence[Contact], untracked: Sequence[Contact], campaign: Campaign | None = None
    ) -> Mailing:
        """A mailing to these halves."""
        return Mailing(self, campaign or self.campaign(), tracked, untracked)

    def ready(
        self, tracked: Sequence[Contact], untracked: Sequence[Contact], campaign: Campaign | None = None
    ) -> Mailing:
        """Everybody in the audience, and the mailing applied."""
        self.sync([*tracked, *untracked])
        return self.halved(tracked, untracked, campaign).apply()

    def written(self, html: str = HTML, **named: Any) -> str:  # noqa: ANN401 - as the API takes it
        """Somebody writes a campaign in Mailchimp, opens on as usual; answers its ID. ``named``: its settings."""
        kind, tracking = named.pop("type", "regular"), named.pop("tracking", {})
        settings = {"title": "News", "subject_line": "News", "from_name": "Us", "reply_to": "us@team.example"} | named
        body = {"type": kind, "recipients": {"list_id": self.settings.list_id}, "settings": settings}
        campaign = str(self.api("POST", "/campaigns", body | {"tracking": tracking}).json()["id"])
        self.api("PUT", f"/campaigns/{campaign}/content", {"html": from_placeholders(html)})
        return campaign

    def copying(self, source: str, mechanism: Mechanism = Mechanism.PROVIDER) -> Campaign:
        """A mailing whose content is that campaign's."""
        return replace(self.campaign(mechanism), content={"campaign_id": source})

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
def serving(html: str = HTML, **settings: Any) -> Iterator[Bench]:  # noqa: ANN401 - the same
    """A simulator without faults, and a connector that talks to it."""
    simulator = MailchimpSimulator()
    with simulated(simulator) as url, httpx.Client(base_url=url) as http:
        account = simulator.account(purposes=[PERFORMANCE, PROFILING], subject="News for *|EMAIL|*", html=html)
        yield Bench(simulator, account, http, **settings)


@contextmanager
def faulty(bench: Bench, *faults: Faults, **changed: Any) -> Iterator[Bench]:  # noqa: ANN401 - the same
    """The same simulator behind faults, and a connector with other settings."""
    app = bench.simulator.app
    for each in faults:
        app = each(app)
    with served(app) as url:
        yield bench.behind(api_url=url, **changed)


@contextmanager
def receiver(bench: Bench) -> Iterator[list[ProviderEvent]]:
    """Receives the simulator's callbacks over HTTP, verified and read by the codec; 403 for what is not genuine."""
    with receiving(bench.simulator, PROVIDER.codec(bench.settings, bench.context)) as events:
        yield events
