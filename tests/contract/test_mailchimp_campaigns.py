"""The Mailchimp connector's campaigns against the simulator, over real HTTP: planned, applied, released, read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.errors import PlanError, ProviderError
from core.model import Contact, Mechanism, Split
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
    plan = bench.plan([ADA, EVE], [BOB])
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
    assert any("aggregate" in limit for limit in bench.plan([ADA], [BOB], wanting).limits)
    assert not any("aggregate" in limit for limit in bench.plan([ADA], [BOB]).limits)


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
    ],
)
def test_a_wrong_content_is_named(bench: Bench, content: dict[str, str], named: str) -> None:
    """A missing, malformed or unknown key is refused by its name."""
    with pytest.raises(PlanError, match=rf"content\.{named}"):
        bench.plan([ADA], [BOB], replace(bench.campaign(), content=bench.account.content | content))


def test_a_missing_key_is_named(bench: Bench) -> None:
    """Nothing of the content has a default."""
    with pytest.raises(PlanError, match=r"content\.from_name"):
        bench.plan([ADA], [], replace(bench.campaign(), content={}))


@pytest.mark.parametrize("mechanism", [Mechanism.HOSTED, Mechanism.NONE])
def test_nobody_is_tracked_by_mailchimp_where_its_pixel_is_off(bench: Bench, mechanism: Mechanism) -> None:
    """A tracked recipient contradicts the mechanism."""
    with pytest.raises(PlanError, match="mechanism"):
        bench.plan([ADA], [BOB], bench.campaign(mechanism))


@pytest.mark.parametrize(
    ("tracked", "untracked", "provider"), [([], [], "mailchimp"), ([ADA], [ADA], "mailchimp"), ([ADA], [], "ses")]
)
def test_what_makes_no_campaign_is_refused(
    bench: Bench, tracked: list[Contact], untracked: list[Contact], provider: str
) -> None:
    """Nobody to send to, somebody in both halves, another provider's campaign."""
    with pytest.raises(PlanError):
        bench.plan(tracked, untracked, replace(bench.campaign(), provider=provider))


# Apply and release


def test_the_pixel_is_in_exactly_the_tracked_mails(bench: Bench) -> None:
    """By two campaigns, with each recipient in one of them; the choices link is everybody's own, escaped."""
    plan, applied = bench.ready([ADA, EVE], [BOB])
    assert not bench.mails()
    assert titles(bench) == {TRACKED: "save", UNTRACKED: "save"}
    report = bench.connector.release(plan, applied, Journal())
    assert (report.accepted_tracked, report.accepted_untracked) == (2, 1)
    assert bench.pixels() == {ADA.address: [1], EVE.address: [1], BOB.address: [0]}
    assert f'href="{ADA.choices_url.replace("&", "&amp;")}"' in bench.mails()[ADA.address][0]
    assert not any(HOSTED_PIXEL in html for mails in bench.mails().values() for html in mails)


def test_only_the_audience_of_the_plan_gets_mail(bench: Bench) -> None:
    """Members who are in no half get nothing, in whichever half they might seem to be."""
    bench.sync([contact("stranger")])
    plan, applied = bench.ready([ADA], [BOB])
    bench.connector.release(plan, applied, Journal())
    assert bench.mails().keys() == {ADA.address, BOB.address}


@pytest.mark.parametrize(("tracked", "untracked"), [([ADA], []), ([], [BOB])])
def test_one_empty_half_makes_one_campaign(bench: Bench, tracked: list[Contact], untracked: list[Contact]) -> None:
    """A campaign to nobody cannot be sent: only the other half is set up."""
    plan, applied = bench.ready(tracked, untracked)
    assert titles(bench) == ({TRACKED: "save"} if tracked else {UNTRACKED: "save"})
    bench.connector.release(plan, applied, Journal())
    assert bench.pixels() == {ADA.address: [1]} if tracked else {BOB.address: [0]}


@pytest.mark.parametrize("mechanism", [Mechanism.PROVIDER, Mechanism.HOSTED, Mechanism.NONE])
def test_the_mail_shows_the_hosted_pixel_of_this_plan_alone(bench: Bench, mechanism: Mechanism) -> None:
    """Whatever the audience carried before, a hosted mail shows the plan's paths, and any other shows none."""
    bench.sync([replace(ADA, pixel_path="o/old"), replace(BOB, pixel_path="o/old"), replace(EVE, pixel_path="")])
    split = Split((), (replace(ADA, pixel_path="o/new"), BOB, replace(EVE, pixel_path="a")))
    plan = bench.connector.plan(bench.campaign(mechanism), split)
    applied = bench.connector.apply(plan)
    bench.sync([replace(BOB, pixel_path="o/late")])  # something else writes between apply and release
    bench.connector.release(plan, applied, Journal())
    shown = {a: html.partition(HOSTED_PIXEL)[2].partition('"')[0] for a, (html,) in bench.mails().items()}
    hosted = mechanism is Mechanism.HOSTED
    assert shown == {
        ADA.address: "o/new/news.gif" if hosted else "",
        BOB.address: "",
        EVE.address: "a/news.gif" if hosted else "",
    }
    assert bench.pixels() == {ADA.address: [0], BOB.address: [0], EVE.address: [0]}
    assert titles(bench) == {UNTRACKED: "sent"}


def test_apply_writes_the_paths_of_the_plan_and_checks_them(bench: Bench) -> None:
    """The hosted pixel's paths stand at Mailchimp when apply ends; who does not take one stops it."""
    bench.sync([ADA, BOB])
    plan = bench.plan([], [replace(ADA, pixel_path="o/new"), BOB], bench.campaign(Mechanism.HOSTED))
    bench.connector.apply(plan)
    assert bench.member(ADA).fields["PPPIXEL"] == "o/new"
    bench.simulator.audience.values = lambda member: {"FNAME": "", "LNAME": "", **member.fields, "PPPIXEL": ""}  # type: ignore[method-assign]
    with pytest.raises(ProviderError, match="PPPIXEL: 1 recipients"):
        bench.connector.apply(plan)


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
    plan, applied = bench.ready([ADA], [BOB])
    before = (titles(bench), bench.segments())
    assert bench.connector.apply(plan).handles == applied.handles
    assert (titles(bench), bench.segments()) == before
    bench.api("POST", f"/campaigns/{applied.handles['tracked']}/actions/send")
    again = bench.connector.apply(plan)
    assert again.handles.items() >= {k: v for k, v in applied.handles.items() if k != "shows_pixel"}.items()


def test_release_twice_sends_once(bench: Bench) -> None:
    """The journal's word is enough; a second run sends nothing and says so."""
    plan, applied = bench.ready([ADA], [BOB])
    journal = Journal()
    bench.connector.release(plan, applied, journal)
    again = bench.connector.release(plan, applied, journal)
    assert (again.accepted_tracked, again.accepted_untracked, again.api_calls) == (0, 0, 0)
    assert journal.states == {"tracked": "done", "untracked": "done"}
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0]}


def test_large_audiences_are_frozen_in_batches(bench: Bench) -> None:
    """1,001 and 501 recipients are all reached, by requests of 500 at most."""
    crowd = people("p", 1_502)
    plan, applied = bench.ready(crowd[:501], crowd[501:])
    report = bench.connector.release(plan, applied, Journal())
    assert (report.accepted_tracked, report.accepted_untracked) == (501, 1_001)
    assert bench.simulator.mailroom.next_id() == 1_503


def test_the_segments_are_not_changed_once_they_stand(bench: Bench) -> None:
    """Sync leaves the frozen segments alone, so that nobody gets the mail twice or not at all."""
    plan, applied = bench.ready([ADA], [BOB])
    before = bench.segments()
    bench.api("POST", f"/campaigns/{applied.handles['tracked']}/actions/send")
    bench.sync([ADA])
    assert bench.segments() == before
    with pytest.raises(ProviderError, match="no draft"):
        bench.connector.release(plan, applied, Journal())


def test_a_changed_audience_makes_new_drafts_and_clears_the_old(bench: Bench) -> None:
    """Somebody withdrew before anything left: applied again, the drafts aim at the new halves, the old are gone."""
    _, first = bench.ready([ADA, EVE], [BOB])
    theirs = {"name": "pixelproof news tracked by hand", "static_segment": []}
    bench.api("POST", f"/lists/{bench.settings.list_id}/segments", json=theirs)
    plan = bench.plan([ADA], [BOB, EVE])
    applied = bench.connector.apply(plan)
    assert {applied.handles[h] for h in ("tracked", "untracked")}.isdisjoint(first.handles.values())
    assert titles(bench) == {TRACKED: "save", UNTRACKED: "save"}
    assert len(bench.segments()) == 3
    assert theirs["name"] in bench.segments()
    bench.connector.release(plan, applied, Journal())
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0], EVE.address: [0]}


def test_a_half_that_is_no_longer_wanted_is_cleared(bench: Bench) -> None:
    """Everybody withdrew: the tracked draft does not stay behind to be sent by hand."""
    bench.ready([ADA], [BOB])
    bench.connector.apply(bench.plan([], [ADA, BOB]))
    assert titles(bench) == {UNTRACKED: "save"}


def test_a_half_that_left_is_not_sent_to_others(bench: Bench) -> None:
    """Once a half left, another split of the same campaign is refused: somebody would get the mail twice."""
    _, applied = bench.ready([ADA, EVE], [BOB])
    bench.api("POST", f"/campaigns/{applied.handles['tracked']}/actions/send")
    with pytest.raises(ProviderError, match="segment_opts"):
        bench.connector.apply(bench.plan([ADA], [BOB, EVE]))
    with pytest.raises(ProviderError, match="left already"):
        bench.connector.apply(bench.plan([], [ADA, BOB, EVE]))
    assert len(bench.simulator.audience.segments) >= 2


def test_whoever_left_the_audience_gets_no_mail_and_stops_nobody(bench: Bench) -> None:
    """Unsubscribed recipients are counted out, before apply and between apply and release."""
    bench.sync([ADA, BOB, EVE])
    bench.member(EVE).status = "unsubscribed"
    plan = bench.plan([ADA, EVE], [BOB, contact("late")])
    bench.sync([contact("late")])
    applied = bench.connector.apply(plan)
    assert applied.handles["tracked_recipients"] == "1"
    bench.member(contact("late")).status = "cleaned"
    report = bench.connector.release(plan, applied, Journal())
    assert (report.accepted_tracked, report.accepted_untracked) == (1, 1)
    assert bench.mails().keys() == {ADA.address, BOB.address}


def test_applied_again_after_somebody_left_the_audience(bench: Bench) -> None:
    """The drafts still count the one who unsubscribed meanwhile or not: apply ends with the right number."""
    plan, _ = bench.ready([ADA, EVE], [BOB])
    bench.member(EVE).status = "unsubscribed"
    assert bench.connector.apply(plan).handles["tracked_recipients"] == "1"


def test_who_is_not_in_the_audience_is_not_silently_left_out(bench: Bench) -> None:
    """Mailchimp ignores unknown addresses without a word: apply does not."""
    bench.sync([ADA])
    with pytest.raises(ProviderError, match=r"list_id: 1 of 2 recipients.*sync") as caught:
        bench.connector.apply(bench.plan([ADA], [BOB]))
    assert "@" not in str(caught.value)
    assert not bench.simulator.campaigns.campaigns


def test_nobody_subscribed_is_said(bench: Bench) -> None:
    """A campaign that reaches nobody is not set up."""
    bench.sync([ADA])
    bench.member(ADA).status = "unsubscribed"
    with pytest.raises(ProviderError, match="none of the recipients is subscribed"):
        bench.connector.apply(bench.plan([ADA], []))
