"""Opens polled from Mailchimp's report of a campaign, over real HTTP against the simulator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.mailchimp.opens import PASSES
from connectors.simulators.mailchimp import MailchimpSimulator
from connectors.simulators.mailchimp.audience import name_of
from connectors.simulators.serving import served
from core.errors import ProviderError
from core.model import AppliedPlan, CampaignId, Contact, EventKind, ProviderEvent
from tests.contract.ground import Faults
from tests.contract.mailchimp_bench import Bench, contact, faulty, people, serving

ADA, BOB, EVE = contact("ada"), contact("bob"), contact("eve")
DETAILS = "/open-details"


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


def sent(bench: Bench, *contacts: Contact) -> AppliedPlan:
    """A tracked campaign that has left."""
    bench.sync(contacts)
    return AppliedPlan(CampaignId("news"), "mailchimp", {"tracked": bench.mailing(contacts)}, 0)


def opened(simulator: MailchimpSimulator, *contacts: Contact, first: bool = False) -> None:
    """Those readers open their mail; ``first``: the report shows them before everybody else."""
    wanted = {who.address for who in contacts}
    after = 0
    while page := simulator.mailroom.page(None, after):
        after = page[-1].id
        for mail in page:
            if mail.address in wanted:
                simulator.opened(mail)
    if first:
        for campaign in simulator.campaigns.campaigns.values():
            early = {name_of(who.address): campaign.opens[name_of(who.address)] for who in contacts}
            campaign.opens = early | campaign.opens


def polled(bench: Bench, applied: AppliedPlan, since: datetime | None = None) -> list[ProviderEvent]:
    """The opens of one poll."""
    return [*bench.connector.poll_opens(applied, since)]


class Meanwhile:
    """Stands before a simulator; before its requests for reports are answered, things happen, one before each."""

    def __init__(self, app: ASGIApp, *events: Callable[[], None]) -> None:
        self.app = app
        self.events = [*events]
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if DETAILS in scope.get("path", ""):
            self.asked.append(scope["query_string"].decode())
            if self.events:
                self.events.pop(0)()
        await self.app(scope, receive, send)


def test_opens_become_events(bench: Bench) -> None:
    """An open has our campaign, the address and a key that shows nobody; a proxy's is a machine's."""
    applied = sent(bench, ADA, EVE)
    opened(bench.simulator, ADA)
    bench.simulator.proxied = True
    opened(bench.simulator, EVE)
    events = {event.address: event for event in polled(bench, applied)}
    assert events.keys() == {ADA.address, EVE.address}
    assert all(event.kind is EventKind.OPEN and event.campaign == "news" for event in events.values())
    assert [events[who.address].machine for who in (ADA, EVE)] == [False, True]
    assert all(key.startswith("mailchimp:open:news:") and "@" not in key for e in events.values() for key in e.keys)
    assert {event.keys for event in polled(bench, applied)} == {event.keys for event in events.values()}


def test_a_server_that_knows_no_proxies_tells_of_no_machines(bench: Bench) -> None:
    """Older servers leave ``is_proxy_open`` out: the open counts as a person's."""
    member = {"email_address": ADA.address, "opens": [{"timestamp": "2026-03-05T12:00:00+00:00"}]}
    with faulty(bench, Faults("GET", DETAILS, json.dumps({"members": [member], "total_items": 1}))) as older:
        (event,) = polled(older, sent(bench, ADA))
    assert not event.machine
    assert event.occurred_at == datetime(2026, 3, 5, 12, tzinfo=UTC)


def test_a_second_poll_tells_what_is_new(bench: Bench) -> None:
    """Only opens since then, to the second, and the server is asked for no others."""
    start = datetime(2026, 3, 5, 12, tzinfo=UTC)
    applied = sent(bench, ADA, BOB)
    for hour, who in ((0, ADA), (1, ADA), (1, BOB), (2, BOB)):
        bench.simulator.now = lambda hour=hour: start + timedelta(hours=hour)  # type: ignore[misc]
        opened(bench.simulator, who)
    assert len(polled(bench, applied)) == 4
    app = Meanwhile(bench.simulator.app)
    with served(app) as url:
        since = start + timedelta(hours=1, microseconds=5)
        found = polled(bench.behind(url), applied, since)
    assert [(e.address, e.occurred_at.hour) for e in found] == [(ADA.address, 13), (BOB.address, 13), (BOB.address, 14)]
    # The second before: "after" a time, says the document, and the very second must be in it.
    assert "since=2026-03-05T12%3A59%3A59%2B00%3A00" in app.asked[0]
    assert not polled(bench, applied, start + timedelta(hours=3))


def test_more_than_a_page_of_opens_is_read(bench: Bench) -> None:
    """1,001 openers are all told, in two requests."""
    crowd = people("p", 1_001)
    applied = sent(bench, *crowd)
    opened(bench.simulator, *crowd)
    before = bench.simulator.calls
    assert len({event.address for event in polled(bench, applied)}) == 1_001
    assert bench.simulator.calls - before == 2


@pytest.mark.parametrize("first", [True, False])
def test_opens_that_come_between_pages_hide_nobody(bench: Bench, *, first: bool) -> None:
    """Newcomers at the front push others to the next page, or the other way round: everybody is told, once."""
    crowd = people("p", 2_500)
    applied = sent(bench, *crowd, ADA, BOB)
    opened(bench.simulator, *crowd)

    def nothing() -> None:
        """The first page is not disturbed."""

    def come(who: Contact) -> Callable[[], None]:
        return lambda: opened(bench.simulator, who, first=first)

    with served(Meanwhile(bench.simulator.app, nothing, come(ADA), come(BOB))) as url:
        found = [event.address for event in polled(bench.behind(url), applied)]
    assert sorted(map(str, found)) == sorted(who.address for who in (*crowd, ADA, BOB))


def test_a_report_in_another_order_each_time_hides_nobody(bench: Bench) -> None:
    """The order is not documented: who moves to a page that was read is found when it is read again."""
    crowd = people("p", 1_500)
    applied = sent(bench, *crowd)
    opened(bench.simulator, *crowd)

    def turn() -> None:
        for campaign in bench.simulator.campaigns.campaigns.values():
            campaign.opens = dict(reversed(campaign.opens.items()))

    app = Meanwhile(bench.simulator.app, *[turn] * 2)
    with served(app) as url:
        found = [event.address for event in polled(bench.behind(url), applied)]
    assert sorted(map(str, found)) == sorted(who.address for who in crowd)
    assert len(app.asked) > 2


def test_a_report_that_never_stands_still_is_not_taken_for_read(bench: Bench) -> None:
    """What was seen is told; that somebody was missed is not passed over in silence."""
    applied = sent(bench, ADA)
    member = {"email_address": ADA.address, "opens": [{"timestamp": "2026-03-05T12:00:00+00:00"}]}
    growing = [json.dumps({"members": [member], "total_items": 2 + n}) for n in range(PASSES)]
    with faulty(bench, Faults("GET", DETAILS, *growing)) as restless:
        events = restless.connector.poll_opens(applied, None)
        assert next(events).address == ADA.address
        with pytest.raises(ProviderError, match="poll again"):
            next(events)


def test_somebody_whom_mailchimp_counts_and_does_not_show_stops_nothing(bench: Bench) -> None:
    """Read twice over and nobody new: the report is taken as it is."""
    applied = sent(bench, ADA)
    member = {"email_address": ADA.address, "opens": [{"timestamp": "2026-03-05T12:00:00+00:00"}]}
    miscounted = [json.dumps({"members": [member], "total_items": 2})] * 2
    with faulty(bench, Faults("GET", DETAILS, *miscounted)) as broken:
        assert len(polled(broken, applied)) == 1


def test_an_opener_without_an_address_is_nobody(bench: Bench) -> None:
    """Who was erased stays in the report without an address: no event, and no second reading."""
    members = [{"email_address": "", "opens": [{"timestamp": "2026-03-05T12:00:00+00:00"}]}, {"opens": []}]
    applied = sent(bench, ADA)
    with faulty(bench, Faults("GET", DETAILS, json.dumps({"members": members, "total_items": 2}), "{}")) as broken:
        assert not polled(broken, applied)


def test_the_opens_of_somebody_who_was_erased_are_nobodys(bench: Bench) -> None:
    """The report goes on counting them; the others' opens are told."""
    applied = sent(bench, ADA, BOB)
    opened(bench.simulator, ADA, BOB)
    bench.connector.erase([ADA])
    assert [event.address for event in polled(bench, applied)] == [BOB.address]


def test_an_untracked_campaign_has_no_opens_and_asks_nothing(bench: Bench) -> None:
    """A hosted campaign's opens come from elsewhere: Mailchimp is not asked."""
    assert not polled(bench, AppliedPlan(CampaignId("news"), "mailchimp", {"untracked": "abc"}, 0))
    assert bench.simulator.calls == 0


@pytest.mark.parametrize("odd", ["never", "0001-01-01T00:00:00+14:00", ""])
def test_an_open_without_a_readable_time_raises(bench: Bench, odd: str) -> None:
    """A report of another form is not half read."""
    report = json.dumps({"members": [{"email_address": "a@b", "opens": [{"timestamp": odd}]}], "total_items": 1})
    applied = sent(bench, ADA)
    with faulty(bench, Faults("GET", DETAILS, report)) as broken, pytest.raises(ProviderError, match="time"):
        polled(broken, applied)


@pytest.mark.parametrize("fault", [(500, {}), (403, {}), (429, {"retry-after": "7"}), "cut"], ids=str)
def test_a_passing_fault_hides_nobody(bench: Bench, fault: tuple[int, dict[str, str]] | str) -> None:
    """The second page fails for a moment: it is asked for again."""
    crowd = people("p", 1_001)
    applied = sent(bench, *crowd)
    opened(bench.simulator, *crowd)
    with faulty(bench, Faults("GET", DETAILS, None, fault)) as broken:
        assert len(polled(broken, applied)) == 1_001


def test_an_id_that_is_none_is_not_put_into_a_url(bench: Bench) -> None:
    """The SDK does not escape slashes: an ID of another form goes nowhere."""
    with pytest.raises(ProviderError, match="ID"):
        polled(bench, AppliedPlan(CampaignId("news"), "mailchimp", {"tracked": "../lists"}, 0))
    assert bench.simulator.calls == 0
