"""The Mailchimp connector's synchronisation against the simulator, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from connectors.mailchimp import syncing, upserts
from connectors.simulators.mailchimp.audience import StaticSegment, Subscriber, name_of
from core.model import TO_ASK, Contact, PurposeId, RecipientId
from tests.contract.ground import Faults
from tests.contract.mailchimp_bench import PERFORMANCE, PROFILING, Bench, change, contact, faulty, people, serving

ADA, BOB, EVE = contact("ada", "o/1"), contact("bob"), contact("eve")


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


def archive(bench: Bench, who: Contact) -> None:
    """Somebody archives a contact by hand."""
    bench.api("DELETE", f"/lists/{bench.settings.list_id}/members/{name_of(who.address)}")


def tag(bench: Bench, name: str, *contacts: Contact) -> int:
    """Somebody makes a segment by hand."""
    body = {"name": name, "static_segment": [who.address for who in contacts]}
    return int(bench.api("POST", f"/lists/{bench.settings.list_id}/segments", json=body).json()["id"])


# The state that comes of it


def test_sync_fills_the_segments_and_carries_both_fields(bench: Bench) -> None:
    """Contacts arrive in exactly the segments of their purposes, those without any too, with both fields."""
    bob = contact("bob", "a")
    report = bench.push(change(ADA, [PERFORMANCE, PROFILING]), change(bob, [PROFILING, TO_ASK]), change(EVE))
    assert report.confirmed == {ADA.recipient, bob.recipient, EVE.recipient}
    assert not report.rejected
    assert bench.segments() == {
        "pixelproof:performance": {"ada@example.com"},
        "pixelproof:profiling": {"ada@example.com", "bob@example.com"},
        "pixelproof:to-ask": {"bob@example.com"},
    }
    assert bench.member(ADA).fields == {"PPCHOICES": ADA.choices_url, "PPPIXEL": "o/1"}
    assert bench.member(EVE).fields == {"PPCHOICES": EVE.choices_url, "PPPIXEL": ""}
    assert bench.member(EVE).status == "subscribed"


def test_sync_counts_its_real_requests(bench: Bench) -> None:
    """``api_calls`` is what reached the API, no more and no less, and so is ``calls``."""
    report = bench.push(change(ADA, [PERFORMANCE]))
    assert report.api_calls == bench.connector.calls == bench.simulator.calls > 5


def test_an_empty_sync_asks_nothing(bench: Bench) -> None:
    """Without changes Mailchimp is left alone, and there is nothing to report."""
    assert not [*bench.connector.sync([])]
    assert bench.simulator.calls == 0


def test_sync_takes_out_and_is_idempotent(bench: Bench) -> None:
    """A removed purpose is left, the other stays; the same again changes nothing; the contact itself remains."""
    bench.sync([ADA], [PERFORMANCE, PROFILING])
    for _ in range(2):
        report = bench.push(change(ADA, [PROFILING], [PERFORMANCE, PROFILING]))
        assert report.confirmed == {ADA.recipient}
        assert bench.segments() == {"pixelproof:performance": set(), "pixelproof:profiling": {"ada@example.com"}}


def test_a_membership_that_nobody_wants_is_ended(bench: Bench) -> None:
    """Somebody tagged by hand is taken out by the next sync, although never confirmed there."""
    bench.sync([ADA], [PERFORMANCE])
    assert bench.push(change(ADA)).confirmed == {ADA.recipient}
    assert bench.segments()["pixelproof:performance"] == set()


def test_a_purpose_no_longer_used_is_left_without_creating_its_segment(bench: Bench) -> None:
    """The segment of a retired purpose is emptied where it exists, and not created to be left."""
    retired = PurposeId("retired")
    bench.push(change(ADA, (), [retired]))
    assert "pixelproof:retired" not in bench.segments()
    bench.sync([ADA], [retired])
    bench.push(change(ADA, (), [retired]))
    assert bench.segments()["pixelproof:retired"] == set()


@pytest.mark.parametrize("status", ["unsubscribed", "cleaned", "pending"])
def test_nobody_who_left_is_subscribed_again(bench: Bench, status: str) -> None:
    """A known contact keeps its status, whatever it is; fields and segments follow the ledger all the same."""
    bench.sync([ADA], [PERFORMANCE])
    bench.member(ADA).status = status
    report = bench.push(change(replace(ADA, pixel_path=""), (), [PERFORMANCE]))
    assert report.confirmed == {ADA.recipient}
    assert bench.member(ADA).status == status
    assert bench.member(ADA).fields["PPPIXEL"] == ""
    assert bench.segments()["pixelproof:performance"] == set()


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_an_archived_contact_stays_archived_and_is_reported(bench: Bench, *, few: bool, known: bool) -> None:
    """Who was archived is not brought back, whether known or not, looked up alone or in the list; and is rejected."""
    others = [] if few else people("p", upserts.LOOK_UPS)
    bench.sync([ADA], [PERFORMANCE])
    archive(bench, ADA)
    changed = change(replace(ADA, pixel_path="o/2"), [PROFILING], [PERFORMANCE] if known else [], doubtful=known)
    report = bench.push(changed, change(BOB, [PERFORMANCE]), *(change(who) for who in others))
    assert report.rejected == {ADA.recipient}
    assert report.confirmed == {BOB.recipient, *(who.recipient for who in others)}
    assert bench.member(ADA).status == "archived"


def test_what_mailchimp_does_not_take_is_rejected(bench: Bench) -> None:
    """Invalid, forgotten and refused addresses and too long links are rejected; the others arrive."""
    odd = replace(contact("odd"), address="no address")
    long = replace(contact("long"), choices_url="https://choices.example/" + "x" * 255)
    fake, left = contact("fake"), contact("left")
    bench.sync([left], [PERFORMANCE])
    bench.simulator.audience.forgotten.add(name_of(BOB.address))
    bench.simulator.audience.refused = {
        name_of(fake.address): "looks fake or invalid, please enter a real email address.",
        name_of(left.address): "is in a compliance state due to unsubscribe, bounce, or compliance review.",
    }
    changed = [change(who, [PERFORMANCE]) for who in (odd, ADA, BOB, long, fake)]
    changed.append(change(replace(left, pixel_path="o/2"), (), [PERFORMANCE]))
    report = bench.push(*changed)
    assert report.confirmed == {ADA.recipient}
    assert report.rejected == {who.recipient for who in (odd, BOB, long, fake, left)}
    assert bench.segments()["pixelproof:performance"] == {ADA.address}  # the withdrawal was done all the same


def test_an_address_that_comes_twice_is_taken_once(bench: Bench) -> None:
    """Mailchimp refuses duplicates in a batch: the first stands, another recipient of that address is rejected."""
    twin = replace(ADA, recipient=RecipientId(b"twin" * 4), address=ADA.address.upper())
    report = bench.push(change(ADA, [PERFORMANCE]), change(twin), change(ADA, [PERFORMANCE]))
    assert report.confirmed == {ADA.recipient}
    assert report.rejected == {twin.recipient}


def test_a_field_that_is_not_taken_is_rejected(bench: Bench) -> None:
    """A pixel path that Mailchimp keeps although it was cleared is not taken for done."""
    bench.sync([ADA])

    def stubborn(member: Subscriber) -> dict[str, str]:
        return {"FNAME": "", "LNAME": "", **member.fields, "PPPIXEL": "o/1"}

    bench.simulator.audience.values = stubborn  # type: ignore[method-assign]
    assert bench.push(change(replace(ADA, pixel_path=""))).rejected == {ADA.recipient}


@pytest.mark.parametrize("few", [True, False])
def test_a_segment_that_ignores_somebody_is_noticed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, few: bool
) -> None:
    """Silence is no confirmation: who is in no answer is looked up, alone or in the list, and rejected if absent."""
    if not few:
        monkeypatch.setattr(syncing, "LOOK_UPS", 1)
    bench.sync([ADA, BOB, EVE])
    segments = bench.simulator.audience._segments
    put_in = segments.put_in

    def deaf(into: StaticSegment, addresses: list[str]) -> list[Subscriber]:
        """Ignores one, and says nothing of another."""
        return [m for m in put_in(into, [a for a in addresses if a != BOB.address]) if m.address != EVE.address]

    segments.put_in = deaf  # type: ignore[assignment, method-assign]
    report = bench.push(*(change(who, [PERFORMANCE]) for who in (ADA, BOB, EVE)))
    assert report.confirmed == {ADA.recipient, EVE.recipient}
    assert report.rejected == {BOB.recipient}


def test_a_removal_that_is_ignored_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A withdrawal that Mailchimp drops in silence is asked for again, and reported when it was not done."""
    bench.sync([ADA], [PERFORMANCE])
    monkeypatch.setattr(StaticSegment, "take_out", lambda _self, _member: False)
    report = bench.push(change(ADA, (), [PERFORMANCE]))
    assert report.rejected == {ADA.recipient}
    monkeypatch.undo()
    assert bench.push(change(ADA, (), [PERFORMANCE])).confirmed == {ADA.recipient}
    assert bench.segments()["pixelproof:performance"] == set()


def test_a_removal_that_is_only_claimed_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mailchimp names somebody as removed whom a later answer shows inside: reported, however often it says so."""
    bench.sync([ADA], [PERFORMANCE])
    monkeypatch.setattr(StaticSegment, "take_out", lambda _self, _member: True)
    report = bench.push(change(replace(ADA, pixel_path=""), (), [PERFORMANCE]))
    assert report.rejected == {ADA.recipient}


def test_a_membership_that_was_lost_is_restored(bench: Bench) -> None:
    """Who was taken out by hand is put back when the contact is synchronised, although confirmed before."""
    bench.sync([ADA], [PERFORMANCE])
    (segment,) = bench.simulator.audience.segments
    body = {"members_to_remove": [ADA.address]}
    bench.api("POST", f"/lists/{bench.settings.list_id}/segments/{segment}", json=body)
    assert bench.push(change(ADA, [PERFORMANCE], [PERFORMANCE])).confirmed == {ADA.recipient}
    assert bench.segments()["pixelproof:performance"] == {"ada@example.com"}


def test_a_member_with_more_tags_than_are_shown_is_looked_up(bench: Bench) -> None:
    """An answer shows 50 tags of a member: beyond, its own tags are read, and the right state is confirmed."""
    bench.sync([ADA])
    for number in range(60):
        tag(bench, f"tag {number}", ADA)
    assert bench.push(change(ADA, [PERFORMANCE])).confirmed == {ADA.recipient}
    assert bench.push(change(ADA)).confirmed == {ADA.recipient}
    assert bench.segments()["pixelproof:performance"] == set()


# What is remembered


def test_a_segment_that_appears_meanwhile_is_used(bench: Bench) -> None:
    """Somebody else made the segment between our look and our request: the one that exists is taken."""
    tag(bench, "pixelproof:performance")
    none = '{"segments": [], "total_items": 0}'
    with faulty(bench, Faults("GET", "/segments", none)) as blind:
        assert blind.push(change(ADA, [PERFORMANCE])).confirmed == {ADA.recipient}
    assert bench.segments() == {"pixelproof:performance": {"ada@example.com"}}


def test_a_withdrawal_looks_for_a_segment_that_it_does_not_remember(bench: Bench) -> None:
    """Another process made the segment since ours were read: the withdrawal is not taken for done without it."""
    bench.sync([BOB], [PROFILING])
    bench.behind().sync([ADA], [PERFORMANCE])
    assert bench.push(change(ADA, (), [PERFORMANCE])).confirmed == {ADA.recipient}
    assert bench.segments()["pixelproof:performance"] == set()


@pytest.mark.parametrize("made_anew", [True, False])
def test_a_segment_that_was_deleted_is_read_again(bench: Bench, *, made_anew: bool) -> None:
    """A 404 for a remembered segment is no failure: its successor is taken, or one is made; a removal is done."""
    bench.sync([ADA], [PERFORMANCE])
    (segment,) = bench.simulator.audience.segments
    bench.api("DELETE", f"/lists/{bench.settings.list_id}/segments/{segment}")
    if made_anew:
        tag(bench, "pixelproof:performance", ADA)
    report = bench.push(change(ADA, (), [PERFORMANCE]), change(BOB, [PERFORMANCE]))
    assert report.confirmed == {ADA.recipient, BOB.recipient}
    assert bench.segments() == {"pixelproof:performance": {BOB.address}}


def test_a_segment_that_was_renamed_is_not_taken_for_ours(bench: Bench) -> None:
    """Somebody renames a segment: who is put into it is rejected, and the next run makes a right one."""
    bench.sync([ADA], [PERFORMANCE])
    next(iter(bench.simulator.audience.segments.values())).name = "old"
    assert bench.push(change(ADA, [PERFORMANCE])).rejected == {ADA.recipient}
    assert bench.push(change(ADA, [PERFORMANCE])).confirmed == {ADA.recipient}
    assert bench.segments()["pixelproof:performance"] == {ADA.address}


def test_a_merge_field_that_was_deleted_is_made_again(bench: Bench) -> None:
    """The fields are remembered; an answer without one has it looked up, made, and the contacts sent again."""
    bench.sync([ADA, BOB])
    bench.simulator.audience._fields.pop("PPPIXEL")
    changed = [change(replace(who, pixel_path="o/2")) for who in (ADA, BOB)]
    assert bench.push(*changed).confirmed == {ADA.recipient, BOB.recipient}
    assert bench.member(BOB).fields["PPPIXEL"] == "o/2"


def test_segments_beyond_the_first_page_are_found(bench: Bench) -> None:
    """An audience with more than 1,000 tags gets no second segment for a purpose."""
    audience = bench.simulator.audience
    for number in range(1_001):
        audience.segments[number] = StaticSegment(number, f"tag {number}", datetime.now(UTC))
    bench.sync([ADA], [PERFORMANCE])
    bench.behind().sync([BOB], [PERFORMANCE])
    assert bench.segments()["pixelproof:performance"] == {"ada@example.com", "bob@example.com"}
