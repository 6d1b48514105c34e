"""What the tests of the SendGrid connector share: a served simulator, faults before it, a receiver of callbacks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
from starlette.types import ASGIApp

from connectors.sendgrid import PROVIDER
from connectors.sendgrid.connector import SendGridConnector
from connectors.sendgrid.settings import SUBUSER_KEY_VARIABLES, SendGridSettings
from connectors.simulators.base import Account
from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import served
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
    ProviderEvent,
    PurposeId,
    RecipientId,
    ReleaseReport,
    SyncReport,
)
from core.ports import ProviderContext
from tests.contract.ground import Journal, receiving

PERFORMANCE, PROFILING = PurposeId("performance"), PurposeId("profiling")
HTML = '<p>News &amp; more</p><a href="[[choices_url]]">Your choices</a>'
HOSTED_HTML = (
    '<p>News</p><a href="{{choices_url}}">Your choices</a>'
    '{{#if pixel_path}}<img src="https://pixel.example/{{pixel_path}}/news-1.gif" width="1" height="1">{{/if}}'
)
Wrap = Callable[[ASGIApp], ASGIApp]


@dataclass(frozen=True)
class Mailing:
    """A campaign and its two halves, handed over as ``core.dispatch`` does."""

    campaign: Campaign
    tracked: tuple[Contact, ...] = ()
    untracked: tuple[Contact, ...] = ()

    @property
    def halves(self) -> Halves:
        """How many recipients there are."""
        paths = [contact.pixel_path for contact in self.untracked]
        counted = sum(path == "a" for path in paths)
        return Halves(len(self.tracked), len(self.untracked), sum(map(bool, paths)) - counted, counted)

    def addressees(self) -> Iterator[Addressee]:
        """The recipients of both halves."""
        yield from (Addressee(contact, tracked=True) for contact in self.tracked)
        yield from (Addressee(contact, tracked=False) for contact in self.untracked)

    def parts(self, size: int | None) -> Iterator[Part]:
        """Both halves in parts of that size, or whole."""
        for name, contacts in (("tracked", self.tracked), ("untracked", self.untracked)):
            step = size or max(len(contacts), 1)
            for number, start in enumerate(range(0, len(contacts), step), start=1):
                some = contacts[start : start + step]
                part = f"{name}-{number}" if size else name
                yield Part(part, name == "tracked", len(some), lambda some=some: iter(some))  # type: ignore[misc]


class Bench:
    """A served simulator, the account in it, and a connector to it whose waiting takes no time."""

    def __init__(self, simulator: SendGridSimulator, account: Account, **settings: object) -> None:
        self.simulator = simulator
        self.account = account
        self.slept: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None
        self.settings = msgspec.convert({**account.settings, **settings}, SendGridSettings)
        self.context = ProviderContext(account.secrets, (PERFORMANCE, PROFILING), lambda: datetime.now(UTC))
        secrets = account.secrets
        keys = {half: secrets[name] for half, name in SUBUSER_KEY_VARIABLES.items() if name in secrets}
        self.connector = SendGridConnector(
            simulator.api_key, self.settings, self.context, sleep=self._sleep, subuser_keys=keys
        )

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.on_sleep()

    def mailing(
        self,
        tracked: Sequence[Contact] = (),
        untracked: Sequence[Contact] = (),
        mechanism: Mechanism = Mechanism.PROVIDER,
        **content: str,
    ) -> Mailing:
        """A campaign to these recipients."""
        return Mailing(self.campaign(mechanism, **content), tuple(tracked), tuple(untracked))

    def apply(self, mailing: Mailing) -> AppliedPlan:
        """Plan it and apply it."""
        plan = self.connector.plan(mailing.campaign, mailing.halves)
        return self.connector.apply(plan, mailing.addressees)

    def release(self, mailing: Mailing, applied: AppliedPlan, journal: Journal) -> ReleaseReport:
        """Release it in the parts that the connector wants."""
        parts = mailing.parts(self.connector.part_size(mailing.campaign))
        return self.connector.release(mailing.campaign, applied, parts, journal)

    def lists(self) -> dict[str, set[str]]:
        """The addresses in each list, by the list's name, as SendGrid has them."""
        names = dict(self.simulator.contacts._lists)
        return {
            name: {p.email for p in self.simulator.contacts.people.values() if i in p.lists}
            for i, name in names.items()
        }

    def sync(self, *changes: ContactChange) -> SyncReport:
        """All reports of a sync as one; no recipient stands in two."""
        return together(self.connector.sync(changes))

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
        """A campaign over the account's template, or with the hosted mechanism over one that shows its image."""
        if mechanism is Mechanism.HOSTED:
            content = {"template_id": self.simulator.add_template("News", HOSTED_HTML), **content}
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


def change(
    who: Contact, desired: Sequence[PurposeId] = (), confirmed: Sequence[PurposeId] = (), *, doubtful: bool = False
) -> ContactChange:
    """A change of one contact's purposes."""
    return ContactChange(who, frozenset(desired), frozenset(confirmed), doubtful)


def together(reports: Iterable[SyncReport]) -> SyncReport:
    """Several reports as one; fails when a recipient stands in two of them."""
    confirmed: set[RecipientId] = set()
    rejected: set[RecipientId] = set()
    calls = 0
    for report in reports:
        assert not report.confirmed & report.rejected
        assert not (report.confirmed | report.rejected) & (confirmed | rejected)
        confirmed |= report.confirmed
        rejected |= report.rejected
        calls += report.api_calls
    return SyncReport(frozenset(confirmed), frozenset(rejected), calls)


def people(prefix: str, count: int, pixel: str = "") -> tuple[Contact, ...]:
    """Several contacts."""
    return tuple(contact(f"{prefix}{number}", pixel) for number in range(count))


def news(bench: Bench) -> Mailing:
    """A campaign to one tracked and one untracked recipient."""
    return bench.mailing([contact("ada")], [contact("bob")])


@contextmanager
def receiver(bench: Bench) -> Iterator[list[ProviderEvent]]:
    """Receives the simulator's callbacks over HTTP, verified and read by the codec; 403 for what is not genuine."""
    with receiving(bench.simulator, PROVIDER.codec(bench.settings, bench.context)) as events:
        yield events
