"""The Mailchimp connector's campaigns against the simulator, over real HTTP: planned, applied, released, read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.errors import PlanError, ProviderError
from core.model import Contact, Mechanism, Part
from tests.contract.ground import Journal
from tests.contract.mailchimp_bench import (
    HOSTED_PIXEL,
    Bench,
    contact,
    people,
    serving,
)

ADA, BOB, EVE = contact("ada"), contact("bob"), contact("eve")
TRACKED, UNTRACKED = "pixelproof news tracked", "pixelproof news untracked"


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


def titles(bench: Bench) -> dict[str, str]:
    """The campaigns at Mailchimp: title to status."""
    return {c.settings.title: c.status for c in bench.simulator.campaigns.campaigns.values()}


# Plan


def test_the_plan_says_what_will_happen_and_what_cannot(bench: Bench) -> None:
    """Steps name both halves with their numbers; limits say what Mailchimp cannot do; nothing is asked."""
    plan = bench.halved([ADA, EVE], [BOB]).plan()
    words = " ".join(plan.steps)
    assert "2" in words
    assert "open tracking on" in words
    assert "open tracking off" in words
    assert any("A/B" in limit for limit in plan.limits)
    assert any("resend to non-openers" in limit for limit in plan.limits)
    assert bench.simulator.calls == 0


def test_the_plan_is_honest_about_the_aggregate_pixel(bench: Bench) -> None:
    """Mailchimp has none: a campaign that wants one is told so, another is not."""
    wanting = replace(bench.campaign(), aggregate=True)
    assert any("aggregate" in limit for limit in bench.halved([ADA], [BOB], wanting).plan().limits)
    assert not any("aggregate" in limit for limit in bench.halved([ADA], [BOB]).plan().limits)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"template_id": ""}, "template_id"),
        ({"template_id": "seven"}, "template_id"),
        ({"template_id": "0"}, "template_id"),
        ({"template_id": "²"}, "template_id"),
        ({"subject": "  "}, "subject"),
        ({"from_name": ""}, "from_name"),
        ({"reply_to": "nobody"}, "reply_to"),
        ({"colour": "red"}, "colour"),
        ({"campaign_id": "abc"}, "from_name"),
    ],
)
def test_a_wrong_content_is_named(bench: Bench, content: dict[str, str], named: str) -> None:
    """A missing, malformed or unknown key is refused by its name."""
    with pytest.raises(PlanError, match=rf"content\.{named}"):
        bench.halved([ADA], [BOB], replace(bench.campaign(), content=bench.account.content | content)).plan()


def test_a_missing_key_is_named(bench: Bench) -> None:
    """Nothing of the content has a default."""
    with pytest.raises(PlanError, match=r"content\.from_name"):
        bench.halved([ADA], [], replace(bench.campaign(), content={})).plan()


@pytest.mark.parametrize("mechanism", [Mechanism.HOSTED, Mechanism.NONE])
def test_nobody_is_tracked_by_mailchimp_where_its_pixel_is_off(bench: Bench, mechanism: Mechanism) -> None:
    """A tracked recipient contradicts the mechanism."""
    with pytest.raises(PlanError, match="mechanism"):
        bench.halved([ADA], [BOB], bench.campaign(mechanism)).plan()


@pytest.mark.parametrize(("tracked", "untracked", "provider"), [([], [], "mailchimp"), ([ADA], [], "ses")])
def test_what_makes_no_campaign_is_refused(
    bench: Bench, tracked: list[Contact], untracked: list[Contact], provider: str
) -> None:
    """Nobody to send to, another provider's campaign."""
    with pytest.raises(PlanError):
        bench.halved(tracked, untracked, replace(bench.campaign(), provider=provider)).plan()


# Apply and release


def test_the_pixel_is_in_exactly_the_tracked_mails(bench: Bench) -> None:
    """By two campaigns, with each recipient in one of them; the choices link is everybody's own, escaped."""
    mailing = bench.ready([ADA, EVE], [BOB])
    assert not bench.mails()
    assert titles(bench) == {TRACKED: "save", UNTRACKED: "save"}
    report = mailing.release(Journal())
    assert (report.accepted_tracked, report.accepted_untracked) == (2, 1)
    assert bench.pixels() == {ADA.address: [1], EVE.address: [1], BOB.address: [0]}
    assert f'href="{ADA.choices_url.replace("&", "&amp;")}"' in bench.mails()[ADA.address][0]
    assert not any(HOSTED_PIXEL in html for mails in bench.mails().values() for html in mails)


def test_only_the_audience_of_the_plan_gets_mail(bench: Bench) -> None:
    """Members who are in no half get nothing, in whichever half they might seem to be."""
    bench.sync([contact("stranger")])
    mailing = bench.ready([ADA], [BOB])
    mailing.release(Journal())
    assert bench.mails().keys() == {ADA.address, BOB.address}


@pytest.mark.parametrize(("tracked", "untracked"), [([ADA], []), ([], [BOB])])
def test_one_empty_half_makes_one_campaign(bench: Bench, tracked: list[Contact], untracked: list[Contact]) -> None:
    """A campaign to nobody cannot be sent: only the other half is set up."""
    mailing = bench.ready(tracked, untracked)
    assert titles(bench) == ({TRACKED: "save"} if tracked else {UNTRACKED: "save"})
    mailing.release(Journal())
    assert bench.pixels() == {ADA.address: [1]} if tracked else {BOB.address: [0]}


def test_a_hosted_mail_shows_the_pixel_of_this_plan_alone(bench: Bench) -> None:
    """Whatever the audience carried before, or was given since, the mail shows the paths of the release."""
    bench.sync([replace(ADA, pixel_path="o/old"), replace(BOB, pixel_path="o/old"), replace(EVE, pixel_path="")])
    untracked = [replace(ADA, pixel_path="o/new"), BOB, replace(EVE, pixel_path="a")]
    mailing = bench.halved([], untracked, bench.campaign(Mechanism.HOSTED)).apply()
    bench.sync([replace(BOB, pixel_path="o/late")])  # something else writes between apply and release
    mailing.release(Journal())
    shown = {a: html.partition(HOSTED_PIXEL)[2].partition('"')[0] for a, (html,) in bench.mails().items()}
    assert shown == {ADA.address: "o/new/news.gif", BOB.address: "", EVE.address: "a/news.gif"}
    assert bench.pixels() == {ADA.address: [0], BOB.address: [0], EVE.address: [0]}
    assert titles(bench) == {UNTRACKED: "sent"}


def test_whoever_withdrew_since_gets_no_hosted_pixel(bench: Bench) -> None:
    """The paths of a release are those of now, not those of apply."""
    untracked = [replace(ADA, pixel_path="o/ada"), replace(BOB, pixel_path="o/bob")]
    mailing = bench.ready([], untracked, bench.campaign(Mechanism.HOSTED))
    mailing.untracked = [ADA, untracked[1]]
    mailing.release(Journal())
    shown = {a: html.partition(HOSTED_PIXEL)[2].partition('"')[0] for a, (html,) in bench.mails().items()}
    assert shown == {ADA.address: "", BOB.address: "o/bob/news.gif"}


def test_contacts_are_read_for_the_hosted_pixel_alone(bench: Bench) -> None:
    """A half may have millions: without paths to write, nobody is asked who is in it."""
    mailing = bench.ready([ADA], [BOB])

    def unread() -> Iterator[Contact]:
        raise AssertionError

    assert mailing.applied
    parts = [replace(part, contacts=unread) for part in mailing.parts()]
    report = bench.connector.release(mailing.campaign, mailing.applied, parts, Journal())
    assert (report.accepted_tracked, report.accepted_untracked) == (1, 1)
    assert bench.connector.part_size(mailing.campaign) is None


@pytest.mark.parametrize(("name", "tracked"), [("tracked-000001", True), ("tracked", False), ("untracked", True)])
def test_a_part_that_is_no_half_is_refused(bench: Bench, name: str, *, tracked: bool) -> None:
    """Mailchimp sends halves whole, and nobody is tracked by a misnomer."""
    mailing = bench.ready([ADA], [BOB])
    assert mailing.applied
    part = Part(name, tracked=tracked, size=1, contacts=lambda: iter([ADA]))
    with pytest.raises(PlanError, match="no half"):
        bench.connector.release(mailing.campaign, mailing.applied, [part], Journal())
    assert not bench.mails()


@pytest.mark.parametrize(
    ("tracked", "untracked", "named"),
    [([ADA], [ADA], "both|tracked and in the untracked"), ([ADA, EVE], [BOB], "plan it again"), ([], [], "plan it")],
)
def test_addressees_that_are_not_the_plans_are_refused(
    bench: Bench, tracked: list[Contact], untracked: list[Contact], named: str
) -> None:
    """Somebody in both halves, one more, nobody at all: nothing is set up."""
    bench.sync([ADA, BOB, EVE])
    plan = bench.halved([ADA], [BOB]).plan()
    with pytest.raises(PlanError, match=named):
        bench.connector.apply(plan, bench.halved(tracked, untracked).addressees)
    assert not bench.simulator.campaigns.campaigns
    assert bench.segments() == {}


def test_apply_writes_the_paths_of_the_plan_and_checks_them(bench: Bench) -> None:
    """The hosted pixel's paths stand at Mailchimp when apply ends; who does not take one stops it."""
    bench.sync([ADA, BOB])
    mailing = bench.halved([], [replace(ADA, pixel_path="o/new"), BOB], bench.campaign(Mechanism.HOSTED)).apply()
    assert bench.member(ADA).fields["PPPIXEL"] == "o/new"
    bench.simulator.audience.values = lambda member: {"FNAME": "", "LNAME": "", **member.fields, "PPPIXEL": ""}  # type: ignore[method-assign]
    with pytest.raises(ProviderError, match="PPPIXEL: 1 recipients"):
        mailing.apply()


def test_the_accounts_default_does_not_decide(bench: Bench) -> None:
    """Open tracking is said for each half, whatever the account does when nothing is said."""
    for default in (True, False):
        bench.simulator.tracking = default
        bench.simulator.campaigns.campaigns.clear()
        bench.ready([ADA], [BOB])
        states = {c.settings.title: c.opens_tracked for c in bench.simulator.campaigns.campaigns.values()}
        assert states == {TRACKED: True, UNTRACKED: False}


def test_apply_is_idempotent(bench: Bench) -> None:
    """Applying again finds what is there: same handles, nothing made twice, also after one half left."""
    mailing = bench.ready([ADA], [BOB])
    before = (titles(bench), bench.segments())
    first = mailing.handles
    assert mailing.apply().handles == first
    assert (titles(bench), bench.segments()) == before
    bench.api("POST", f"/campaigns/{mailing.handles['tracked']}/actions/send")
    before_send = mailing.handles
    assert mailing.apply().handles == before_send


def test_release_twice_sends_once(bench: Bench) -> None:
    """The journal's word is enough; a second run sends nothing and says so."""
    mailing = bench.ready([ADA], [BOB])
    journal = Journal()
    mailing.release(journal)
    again = mailing.release(journal)
    assert (again.accepted_tracked, again.accepted_untracked, again.api_calls) == (0, 0, 0)
    assert journal.states == {"tracked": "done", "untracked": "done"}
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0]}


def test_large_audiences_are_frozen_in_batches(bench: Bench) -> None:
    """1,001 and 501 recipients are all reached, by requests of 500 at most."""
    crowd = people("p", 1_502)
    mailing = bench.ready(crowd[:501], crowd[501:])
    report = mailing.release(Journal())
    assert (report.accepted_tracked, report.accepted_untracked) == (501, 1_001)
    assert bench.simulator.mailroom.next_id() == 1_503


def test_the_segments_are_not_changed_once_they_stand(bench: Bench) -> None:
    """Sync leaves the frozen segments alone, so that nobody gets the mail twice or not at all."""
    mailing = bench.ready([ADA], [BOB])
    before = bench.segments()
    bench.api("POST", f"/campaigns/{mailing.handles['tracked']}/actions/send")
    bench.sync([ADA])
    assert bench.segments() == before
    with pytest.raises(ProviderError, match="no draft"):
        mailing.release(Journal())


def test_a_changed_audience_makes_new_drafts_and_clears_the_old(bench: Bench) -> None:
    """Somebody withdrew before anything left: applied again, the drafts aim at the new halves, the old are gone."""
    first = bench.ready([ADA, EVE], [BOB])
    theirs = {"name": "pixelproof news tracked by hand", "static_segment": []}
    bench.api("POST", f"/lists/{bench.settings.list_id}/segments", json=theirs)
    mailing = bench.halved([ADA], [BOB, EVE]).apply()
    assert {mailing.handles[h] for h in ("tracked", "untracked")}.isdisjoint(first.handles.values())
    assert titles(bench) == {TRACKED: "save", UNTRACKED: "save"}
    assert len(bench.segments()) == 3
    assert theirs["name"] in bench.segments()
    mailing.release(Journal())
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0], EVE.address: [0]}


def test_a_half_that_is_no_longer_wanted_is_cleared(bench: Bench) -> None:
    """Everybody withdrew: the tracked draft does not stay behind to be sent by hand."""
    bench.ready([ADA], [BOB])
    bench.halved([], [ADA, BOB]).apply()
    assert titles(bench) == {UNTRACKED: "save"}


def test_a_half_that_left_is_not_sent_to_others(bench: Bench) -> None:
    """Once a half left, another split of the same campaign is refused: somebody would get the mail twice."""
    mailing = bench.ready([ADA, EVE], [BOB])
    bench.api("POST", f"/campaigns/{mailing.handles['tracked']}/actions/send")
    with pytest.raises(ProviderError, match="segment_opts"):
        bench.halved([ADA], [BOB, EVE]).apply()
    with pytest.raises(ProviderError, match="left already"):
        bench.halved([], [ADA, BOB, EVE]).apply()
    assert len(bench.simulator.audience.segments) >= 2


def test_whoever_left_the_audience_gets_no_mail_and_stops_nobody(bench: Bench) -> None:
    """Unsubscribed recipients are counted out, before apply and between apply and release."""
    bench.sync([ADA, BOB, EVE])
    bench.member(EVE).status = "unsubscribed"
    bench.sync([contact("late")])
    mailing = bench.halved([ADA, EVE], [BOB, contact("late")]).apply()
    assert mailing.handles["tracked_recipients"] == "1"
    bench.member(contact("late")).status = "cleaned"
    report = mailing.release(Journal())
    assert (report.accepted_tracked, report.accepted_untracked) == (1, 1)
    assert bench.mails().keys() == {ADA.address, BOB.address}


def test_applied_again_after_somebody_left_the_audience(bench: Bench) -> None:
    """The drafts still count the one who unsubscribed meanwhile or not: apply ends with the right number."""
    mailing = bench.ready([ADA, EVE], [BOB])
    bench.member(EVE).status = "unsubscribed"
    assert mailing.apply().handles["tracked_recipients"] == "1"


def test_who_is_not_in_the_audience_is_not_silently_left_out(bench: Bench) -> None:
    """Mailchimp ignores unknown addresses without a word: apply does not."""
    bench.sync([ADA])
    with pytest.raises(ProviderError, match=r"list_id: 1 of 2 recipients.*sync") as caught:
        bench.halved([ADA], [BOB]).apply()
    assert "@" not in str(caught.value)
    assert not bench.simulator.campaigns.campaigns


def test_nobody_subscribed_is_said(bench: Bench) -> None:
    """A campaign that reaches nobody is not set up."""
    bench.sync([ADA])
    bench.member(ADA).status = "unsubscribed"
    with pytest.raises(ProviderError, match="none of the recipients is subscribed"):
        bench.halved([ADA], []).apply()
