"""The Mailchimp connector's audience and opens against the simulator, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from connectors.mailchimp import PROVIDER
from connectors.mailchimp.settings import MailchimpSettings
from connectors.simulators.mailchimp.audience import StaticSegment, Subscriber, name_of
from core.errors import ProviderError, ProviderRefused, SettingsError
from core.model import AppliedPlan, CampaignId, EventKind, Member, PurposeId
from core.ports import Capability, ProviderContext
from tests.contract.ground import Faults, Journal
from tests.contract.mailchimp_bench import (
    PERFORMANCE,
    PROFILING,
    Bench,
    change,
    contact,
    faulty,
    people,
    receiver,
    serving,
)

EMPTY_SEGMENT = {"name": "pixelproof:performance", "static_segment": []}


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


# Sync


def test_sync_fills_the_segments_and_carries_both_fields(bench: Bench) -> None:
    """Contacts arrive in exactly the segments of their purposes, those without any too, with both fields."""
    ada, bob, eve = contact("ada", "o/1"), contact("bob", "a"), contact("eve")
    report = bench.connector.sync([change(ada, [PERFORMANCE, PROFILING]), change(bob, [PROFILING]), change(eve)])
    assert report.confirmed == {ada.recipient, bob.recipient, eve.recipient}
    assert not report.rejected
    assert bench.segments() == {
        "pixelproof:performance": {"ada@example.com"},
        "pixelproof:profiling": {"ada@example.com", "bob@example.com"},
    }
    assert bench.member(ada).fields == {"PPCHOICES": ada.choices_url, "PPPIXEL": "o/1"}
    assert bench.member(eve).fields == {"PPCHOICES": eve.choices_url, "PPPIXEL": ""}
    assert bench.member(eve).status == "subscribed"


def test_sync_counts_its_real_requests(bench: Bench) -> None:
    """``api_calls`` is what reached the API, no more and no less."""
    report = bench.connector.sync([change(contact("ada"), [PERFORMANCE])])
    assert report.api_calls == bench.simulator.calls > 5


def test_an_empty_sync_asks_nothing(bench: Bench) -> None:
    """Without changes Mailchimp is left alone."""
    assert bench.connector.sync([]).api_calls == bench.simulator.calls == 0


def test_sync_takes_out_and_is_idempotent(bench: Bench) -> None:
    """A removed purpose is left, the other stays; the same again changes nothing; the contact itself remains."""
    ada = contact("ada")
    bench.sync([ada], [PERFORMANCE, PROFILING])
    for _ in range(2):
        report = bench.connector.sync([change(ada, [PROFILING], [PERFORMANCE, PROFILING])])
        assert report.confirmed == {ada.recipient}
        assert bench.segments() == {"pixelproof:performance": set(), "pixelproof:profiling": {"ada@example.com"}}


def test_removals_go_before_everything_else(bench: Bench) -> None:
    """A withdrawal reaches Mailchimp although the upsert behind it fails."""
    ada, bob = contact("ada"), contact("bob")
    bench.sync([ada], [PERFORMANCE])
    with faulty(bench, Faults("GET", "/merge-fields", (400, {}))) as broken, pytest.raises(ProviderRefused):
        broken.connector.sync([change(bob, [PERFORMANCE]), change(ada, (), [PERFORMANCE])])
    assert bench.segments()["pixelproof:performance"] == set()


def test_a_membership_that_nobody_wants_is_ended(bench: Bench) -> None:
    """Somebody tagged by hand is taken out by the next sync, although never confirmed there."""
    ada = contact("ada")
    bench.sync([ada], [PERFORMANCE])
    assert bench.connector.sync([change(ada)]).confirmed == {ada.recipient}
    assert bench.segments()["pixelproof:performance"] == set()


def test_a_purpose_no_longer_used_is_left_without_creating_its_segment(bench: Bench) -> None:
    """The segment of a retired purpose is emptied where it exists, and not created to be left."""
    ada, retired = contact("ada"), PurposeId("retired")
    bench.connector.sync([change(ada, (), [retired])])
    assert "pixelproof:retired" not in bench.segments()
    bench.sync([ada], [retired])
    bench.connector.sync([change(ada, (), [retired])])
    assert bench.segments()["pixelproof:retired"] == set()


@pytest.mark.parametrize("status", ["unsubscribed", "cleaned", "pending"])
def test_nobody_who_left_is_subscribed_again(bench: Bench, status: str) -> None:
    """A known contact keeps its status, whatever it is; fields and segments follow the ledger all the same."""
    ada = contact("ada", "o/1")
    bench.sync([ada], [PERFORMANCE])
    bench.member(ada).status = status
    report = bench.connector.sync([change(replace(ada, pixel_path=""), (), [PERFORMANCE])])
    assert report.confirmed == {ada.recipient}
    assert bench.member(ada).status == status
    assert bench.member(ada).fields["PPPIXEL"] == ""
    assert bench.segments()["pixelproof:performance"] == set()


def test_an_archived_contact_stays_archived_and_is_reported(bench: Bench) -> None:
    """Who was archived at Mailchimp is not brought back, and is rejected."""
    ada, bob = contact("ada"), contact("bob")
    bench.sync([ada])
    bench.api("DELETE", f"/lists/{bench.settings.list_id}/members/{name_of(ada.address)}")
    report = bench.connector.sync([change(ada, [PERFORMANCE]), change(bob, [PERFORMANCE])])
    assert report.confirmed == {bob.recipient}
    assert report.rejected == {ada.recipient}
    assert bench.member(ada).status == "archived"


def test_what_mailchimp_does_not_take_is_rejected(bench: Bench) -> None:
    """Invalid and forgotten addresses and too long links are rejected; the others arrive."""
    ada, bob = contact("ada"), contact("bob")
    odd = replace(contact("odd"), address="no address")
    long = replace(contact("long"), choices_url="https://choices.example/" + "x" * 255)
    bench.simulator.audience.forgotten.add(name_of(bob.address))
    report = bench.connector.sync([change(who, [PERFORMANCE]) for who in (odd, ada, bob, long)])
    assert report.confirmed == {ada.recipient}
    assert report.rejected == {odd.recipient, bob.recipient, long.recipient}


def test_a_field_that_is_not_taken_is_rejected(bench: Bench) -> None:
    """A pixel path that Mailchimp keeps although it was cleared is not taken for done."""
    ada = contact("ada", "o/1")
    bench.sync([ada])

    def stubborn(member: Subscriber) -> dict[str, str]:
        return {"FNAME": "", "LNAME": "", **member.fields, "PPPIXEL": "o/1"}

    bench.simulator.audience.values = stubborn  # type: ignore[method-assign]
    assert bench.connector.sync([change(replace(ada, pixel_path=""))]).rejected == {ada.recipient}


def test_a_segment_that_ignores_somebody_is_noticed(bench: Bench) -> None:
    """Silence is no confirmation: who is not in the answer is looked up, and rejected when missing."""
    ada, bob = contact("ada"), contact("bob")
    bench.sync([ada, bob])
    segment = bench.connector._audience.segment("pixelproof:performance")
    put_in = bench.simulator.audience._put_in

    def deaf(into: object, addresses: list[str]) -> object:
        return put_in(into, [a for a in addresses if a != bob.address])  # type: ignore[arg-type]

    bench.simulator.audience._put_in = deaf  # type: ignore[assignment, method-assign]
    report = bench.connector.sync([change(who, [PERFORMANCE]) for who in (ada, bob)])
    assert report.confirmed == {ada.recipient}
    assert report.rejected == {bob.recipient}
    assert [*bench.simulator.audience.segments[segment].members] == [name_of(ada.address)]


def test_a_membership_that_was_lost_is_restored(bench: Bench) -> None:
    """Who was taken out by hand is put back when the contact is synchronised, although confirmed before."""
    ada = contact("ada")
    bench.sync([ada], [PERFORMANCE])
    (segment,) = bench.simulator.audience.segments
    body = {"members_to_remove": [ada.address]}
    bench.api("POST", f"/lists/{bench.settings.list_id}/segments/{segment}", json=body)
    assert bench.connector.sync([change(ada, [PERFORMANCE], [PERFORMANCE])]).confirmed == {ada.recipient}
    assert bench.segments()["pixelproof:performance"] == {"ada@example.com"}


def test_a_segment_that_appears_meanwhile_is_used(bench: Bench) -> None:
    """Somebody else made the segment between our look and our request: the one that exists is taken."""
    ada = contact("ada")
    bench.api("POST", f"/lists/{bench.settings.list_id}/segments", json=EMPTY_SEGMENT)
    none = '{"segments": [], "total_items": 0}'
    with faulty(bench, Faults("GET", "/segments", none, none)) as blind:
        assert blind.connector.sync([change(ada, [PERFORMANCE])]).confirmed == {ada.recipient}
    assert bench.segments() == {"pixelproof:performance": {"ada@example.com"}}


def test_a_member_with_more_tags_than_are_shown_is_looked_up(bench: Bench) -> None:
    """A batch shows 50 tags of a member: beyond, its own tags are read, and the right state is confirmed."""
    ada = contact("ada")
    bench.sync([ada])
    for number in range(60):
        body = {"name": f"tag {number}", "static_segment": [ada.address]}
        bench.api("POST", f"/lists/{bench.settings.list_id}/segments", json=body)
    assert bench.connector.sync([change(ada, [PERFORMANCE])]).confirmed == {ada.recipient}
    assert bench.connector.sync([change(ada)]).confirmed == {ada.recipient}
    assert bench.segments()["pixelproof:performance"] == set()


def test_segments_beyond_the_first_page_are_found(bench: Bench) -> None:
    """An audience with more than 1,000 tags gets no second segment for a purpose."""
    audience = bench.simulator.audience
    for number in range(1_001):
        audience.segments[number] = StaticSegment(number, f"tag {number}", datetime.now(UTC))
    bench.sync([contact("ada")], [PERFORMANCE])
    bench.sync([contact("bob")], [PERFORMANCE])
    assert bench.segments()["pixelproof:performance"] == {"ada@example.com", "bob@example.com"}


def test_batches_are_as_large_as_mailchimp_takes(bench: Bench) -> None:
    """1,001 contacts take three batches, at each of the endpoints that take 500; all arrive."""
    crowd = people("p", 1_001)
    calls = bench.connector.sync([change(who, [PERFORMANCE]) for who in crowd]).api_calls
    assert len(bench.segments()["pixelproof:performance"]) == 1_001
    again = bench.connector.sync([change(who, [], [PERFORMANCE]) for who in crowd])
    assert len(again.confirmed) == 1_001
    assert bench.segments()["pixelproof:performance"] == set()
    # segments, fields, two new fields, archived, adds, segments, a new segment, members of it
    assert calls == 1 + 1 + 2 + 1 + 3 + 1 + 1 + 3
    # segments, removals, fields, archived, refused adds, updates
    assert again.api_calls == 1 + 3 + 1 + 1 + 3 + 3


def test_read_back_gives_everybody_with_all_purposes(bench: Bench) -> None:
    """Members of any status are read back, over several pages, and those of foreign segments are not."""
    crowd = people("p", 1_002)
    bench.sync(crowd, [PERFORMANCE])
    bench.sync(crowd[:1], [PERFORMANCE, PROFILING])
    bench.member(crowd[1]).status = "unsubscribed"
    body = {"name": "somebody else's", "static_segment": [crowd[0].address]}
    bench.api("POST", f"/lists/{bench.settings.list_id}/segments", json=body)
    found = {member.address: member for member in bench.connector.read_back()}
    assert len(found) == 1_002
    assert found[crowd[0].address] == Member(crowd[0].address, frozenset({PERFORMANCE, PROFILING}))
    assert found[crowd[1].address] == Member(crowd[1].address, frozenset({PERFORMANCE}))


def test_prefixes_keep_installations_apart() -> None:
    """Two installations on one audience do not touch each other's segments."""
    with serving() as one:
        two = one.behind(segment_prefix="second")
        ada = contact("ada")
        one.sync([ada], [PERFORMANCE])
        assert two.connector.sync([change(ada)]).confirmed == {ada.recipient}
        assert one.segments() == {"pixelproof:performance": {"ada@example.com"}}
        assert not [*two.connector.read_back()]


# Settings


@pytest.mark.parametrize("key", ["", "nodatacentre", "a-b-us6", "key-us6/evil", "key us6", "clé-us6", "key-US6"])
def test_a_malformed_key_is_named_and_not_shown(key: str) -> None:
    """The key must name a data centre; the error shows the variable alone."""
    context = ProviderContext({"MAILCHIMP_API_KEY": key}, (), lambda: datetime.now(UTC))
    with pytest.raises(SettingsError, match="MAILCHIMP_API_KEY") as caught:
        PROVIDER.connector(MailchimpSettings(list_id="a1"), context)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"list_id": "../x"}, "list_id"),
        ({"list_id": ""}, "list_id"),
        ({"list_id": "a1", "segment_prefix": "a:b"}, "segment_prefix"),
        ({"list_id": "a1", "segment_prefix": ""}, "segment_prefix"),
        ({"list_id": "a1", "api_url": "http://api.example/3.0"}, "api_url"),
        ({"list_id": "a1", "api_url": "api.example"}, "api_url"),
        ({"list_id": "a1", "api_url": "ftp://127.0.0.1"}, "api_url"),
    ],
)
def test_malformed_settings_are_named(settings: dict[str, str], named: str) -> None:
    """What would end in a URL or send the key in clear is refused by the setting's name."""
    context = ProviderContext({"MAILCHIMP_API_KEY": "key-us6"}, (), lambda: datetime.now(UTC))
    with pytest.raises(SettingsError, match=rf"providers\.mailchimp\.{named}"):
        PROVIDER.connector(MailchimpSettings(**settings), context)  # type: ignore[arg-type]


def test_the_address_follows_from_the_keys_data_centre() -> None:
    """Without ``api_url`` the SDK talks to the key's own data centre, and replaces nothing in URLs."""
    context = ProviderContext({"MAILCHIMP_API_KEY": "key-us21"}, (), lambda: datetime.now(UTC))
    connector = PROVIDER.connector(MailchimpSettings(list_id="a1"), context)
    sdk = connector._api._client.api_client  # type: ignore[attr-defined]
    assert (sdk.host, sdk.server, sdk.timeout) == ("https://us21.api.mailchimp.com/3.0", "", 120.0)


# Opens and callbacks


def test_opens_are_polled_from_the_tracked_half(bench: Bench) -> None:
    """An open becomes an event with our campaign, the address and a key that shows nobody; a proxy's is a machine's."""
    ada, bob, eve = contact("ada"), contact("bob"), contact("eve")
    plan, applied = bench.ready([ada, eve], [bob])
    bench.connector.release(plan, applied, Journal())
    for who in (ada, bob):
        bench.reader("open", who)
    bench.simulator.proxied = True
    bench.reader("open", eve)
    events = {event.address: event for event in bench.connector.poll_opens(applied, None)}
    assert events.keys() == {"ada@example.com", "eve@example.com"}
    assert all(event.kind is EventKind.OPEN and event.campaign == "news" for event in events.values())
    assert [events[who.address].machine for who in (ada, eve)] == [False, True]
    assert all(key.startswith("mailchimp:open:news:") and "@" not in key for e in events.values() for key in e.keys)
    again = {event.address: event for event in bench.connector.poll_opens(applied, None)}
    assert {a: e.keys for a, e in again.items()} == {a: e.keys for a, e in events.items()}


def test_opens_before_the_time_asked_for_are_left_out(bench: Bench) -> None:
    """Only what was opened since then is told, to the second."""
    start = datetime(2026, 3, 5, 12, tzinfo=UTC)
    clock = iter(start + timedelta(hours=hour) for hour in range(100))
    ada = contact("ada")
    plan, applied = bench.ready([ada], [])
    bench.connector.release(plan, applied, Journal())
    bench.simulator.now = lambda: next(clock)
    for _ in range(3):
        bench.reader("open", ada)
    since = start + timedelta(hours=1, microseconds=5)
    found = [event.occurred_at for event in bench.connector.poll_opens(applied, since)]
    assert found == [start + timedelta(hours=1), start + timedelta(hours=2)]


def test_more_than_a_page_of_opens_is_read(bench: Bench) -> None:
    """1,001 openers are all told."""
    crowd = people("p", 1_001)
    plan, applied = bench.ready(crowd, [])
    bench.connector.release(plan, applied, Journal())
    for number in range(1, 1_002):
        mail = bench.simulator.mailroom.get(number)
        assert mail is not None
        bench.simulator.opened(mail)
    assert len([*bench.connector.poll_opens(applied, None)]) == 1_001


def test_an_untracked_campaign_has_no_opens_and_asks_nothing(bench: Bench) -> None:
    """A hosted campaign's opens come from elsewhere: Mailchimp is not asked."""
    applied = AppliedPlan(CampaignId("news"), "mailchimp", {"untracked": "abc"}, 0)
    before = bench.simulator.calls
    assert not [*bench.connector.poll_opens(applied, None)]
    assert bench.simulator.calls == before


def test_an_open_without_a_readable_time_raises(bench: Bench) -> None:
    """A report of another form is not half read."""
    plan, applied = bench.ready([contact("ada")], [])
    bench.connector.release(plan, applied, Journal())
    for odd in ("never", "0001-01-01T00:00:00+14:00"):
        report = f'{{"members":[{{"email_address":"a","opens":[{{"timestamp":"{odd}"}}]}}],"total_items":1}}'
        with (
            faulty(bench, Faults("GET", "/open-details", report)) as broken,
            pytest.raises(ProviderError, match="time"),
        ):
            list(broken.connector.poll_opens(applied, None))


def test_callbacks_are_verified_and_read(bench: Bench) -> None:
    """Unsubscribes and complaints arrive signed; forgeries are refused; a replay has the same keys."""
    ada, bob = contact("ada"), contact("bob")
    plan, applied = bench.ready([ada], [bob])
    bench.connector.release(plan, applied, Journal())
    with receiver(bench) as events:
        bench.reader("unsubscribe", ada)
        bench.reader("complain", bob)
        assert bench.order("flush") == {"sent": 2, "failed": 0}
        assert {(e.kind, e.address) for e in events} == {
            (EventKind.UNSUBSCRIBE, "ada@example.com"),
            (EventKind.COMPLAINT, "bob@example.com"),
        }
        assert bench.order("forge") == {"sent": 4, "accepted": 0}
        assert bench.order("replay") == {"sent": 2, "accepted": 2}
    assert len(events) == 4
    assert len({key for event in events for key in event.keys}) == 2
    assert bench.member(ada).status == "unsubscribed"


def test_the_provider_says_what_it_can() -> None:
    """Opens are polled, for there is no callback for them."""
    assert PROVIDER.capabilities == {Capability.POLL_OPENS}
