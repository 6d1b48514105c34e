"""A campaign that was written in Mailchimp, sent in two halves by copies of it: read, refused, copied, checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from core.errors import PlanError, ProviderError
from core.model import Mechanism
from tests.contract.ground import Journal
from tests.contract.mailchimp_bench import HOSTED_HTML, HOSTED_PIXEL, HTML, Bench, contact, serving

ADA, BOB = contact("ada"), contact("bob")
TRACKED, UNTRACKED = "pixelproof news tracked", "pixelproof news untracked"


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


def test_a_saved_campaign_is_sent_in_two_halves(bench: Bench) -> None:
    """Content, subject and sender are the saved campaign's; it stays what it was, and is not sent itself."""
    source = bench.written(subject_line="Read this", from_name="Ann", reply_to="ann@team.example")
    mailing = bench.ready([ADA], [BOB], bench.copying(source))
    states = {c.settings.title: c for c in bench.simulator.campaigns.campaigns.values()}
    assert {title: (c.opens_tracked, c.status) for title, c in states.items()} == {
        "News": (True, "save"),
        TRACKED: (True, "save"),
        UNTRACKED: (False, "save"),
    }
    assert {(c.settings.subject_line, c.settings.from_name, c.settings.reply_to) for c in states.values()} == {
        ("Read this", "Ann", "ann@team.example")
    }
    mailing.release(Journal())
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0]}
    assert states["News"].status == "save"


def test_the_copy_inherits_neither_tracking_nor_segment(bench: Bench) -> None:
    """The saved campaign aims at a segment of its own: its copies reach the halves, as Mailchimp counts them."""
    strangers = [contact("stranger"), contact("passer-by")]
    bench.sync([ADA, BOB, *strangers])
    at = f"/lists/{bench.settings.list_id}/segments"
    segment = bench.api("POST", at, {"name": "theirs", "static_segment": [s.address for s in strangers]}).json()["id"]
    condition = {"condition_type": "StaticSegment", "field": "static_segment", "op": "static_is", "value": segment}
    source = bench.written()
    recipients = {"list_id": bench.settings.list_id, "segment_opts": {"match": "any", "conditions": [condition]}}
    bench.api("PATCH", f"/campaigns/{source}", {"recipients": recipients})
    bench.halved([ADA], [BOB], bench.copying(source)).apply().release(Journal())
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0]}


def test_the_plan_reads_the_saved_campaign_and_changes_nothing(bench: Bench) -> None:
    """Two reads; steps and limits speak of a copy; the campaigns are what they were."""
    source = bench.written()
    before, calls = dict(bench.simulator.campaigns.campaigns), bench.simulator.calls
    plan = bench.halved([ADA], [BOB], bench.copying(source)).plan()
    assert any("Copy the saved campaign" in step for step in plan.steps)
    assert any("do not send it" in limit for limit in plan.limits)
    assert not any("template" in limit for limit in plan.limits)
    assert bench.simulator.campaigns.campaigns == before
    assert bench.simulator.calls - calls == 2


def test_a_campaign_that_was_edited_since_is_copied_anew(bench: Bench) -> None:
    """Applied again, what is sent is what the saved campaign is now, and there are two copies still."""
    source = bench.written()
    mailing = bench.ready([ADA], [BOB], bench.copying(source))
    bench.api("PUT", f"/campaigns/{source}/content", {"html": '<p>Newer</p><a href="*|PPCHOICES|*">Your choices</a>'})
    mailing.apply()
    assert len(bench.simulator.campaigns.campaigns) == 3
    mailing.release(Journal())
    assert all("Newer" in html for (html,) in bench.mails().values())


def test_a_saved_campaign_may_show_the_hosted_pixel(bench: Bench) -> None:
    """With the hosted mechanism one copy goes to all, its own tracking off."""
    source = bench.written(HOSTED_HTML)
    ada = replace(ADA, pixel_path="o/ada")
    bench.ready([], [ada, BOB], bench.copying(source, Mechanism.HOSTED)).release(Journal())
    assert bench.pixels(HOSTED_PIXEL) == {ADA.address: [1], BOB.address: [0]}
    assert bench.pixels() == {ADA.address: [0], BOB.address: [0]}


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ({"type": "variate"}, "A/B.*switch off.*regular"),
        ({"type": "rss"}, "RSS.*by itself"),
        ({"type": "plaintext"}, "plain-text"),
        ({"subject_line": ""}, "no subject_line"),
        ({"reply_to": ""}, "no reply_to"),
    ],
)
def test_a_campaign_that_cannot_be_split_is_refused(bench: Bench, named: dict[str, Any], reason: str) -> None:
    """The reason is said, and what to do; nothing is changed."""
    source = bench.written(**named)
    with pytest.raises(PlanError, match=rf"content\.campaign_id: .*{reason}"):
        bench.halved([ADA], [BOB], bench.copying(source)).plan()
    assert len(bench.simulator.campaigns.campaigns) == 1


@pytest.mark.parametrize(
    ("status", "reason"),
    [("schedule", "unschedule"), ("paused", "paused"), ("sent", "left already"), ("sending", "left already")],
)
def test_a_campaign_that_is_no_draft_is_refused(bench: Bench, status: str, reason: str) -> None:
    """Only a saved campaign is copied, at apply no less than at plan."""
    source = bench.written()
    mailing = bench.halved([ADA], [BOB], bench.copying(source))
    plan = mailing.plan()
    bench.simulator.campaigns.campaigns[source].status = status
    with pytest.raises(PlanError, match=reason):
        mailing.plan()
    with pytest.raises(PlanError, match=reason):
        bench.connector.apply(plan, mailing.addressees)
    assert len(bench.simulator.campaigns.campaigns) == 1
    assert not bench.segments()


def test_a_campaign_of_another_audience_is_refused(bench: Bench) -> None:
    """Its merge fields are another audience's."""
    source = bench.written()
    bench.simulator.campaigns.campaigns[source].recipients.list_id = "other"
    with pytest.raises(PlanError, match="another audience"):
        bench.halved([ADA], [BOB], bench.copying(source)).plan()


def test_a_campaign_that_is_not_there_is_refused(bench: Bench) -> None:
    """An ID of nothing is the declaration's fault, not Mailchimp's."""
    with pytest.raises(PlanError, match="no such campaign"):
        bench.halved([ADA], [BOB], bench.copying("abc123")).plan()


@pytest.mark.parametrize(
    ("tracked", "untracked", "html"),
    [(1, 0, "<p>News</p>"), (0, 1, HTML + '<img src="https://p.example/?u=*|UNIQID|*" width="1" height="1">')],
)
def test_the_plan_checks_the_mail(bench: Bench, tracked: int, untracked: int, html: str) -> None:
    """A saved campaign without the choices link, or with a pixel, is refused before anything is set up."""
    source = bench.written(html)
    with pytest.raises(PlanError, match=r"content.*"):
        bench.halved([ADA] * tracked, [BOB] * untracked, bench.copying(source)).plan()


@pytest.mark.parametrize("surplus", ["template_id", "subject", "from_name", "reply_to"])
def test_a_mixture_of_sources_is_refused(bench: Bench, surplus: str) -> None:
    """The saved campaign brings everything along: whatever else is said is refused by its name, empty or not."""
    for value in ("1", ""):
        campaign = replace(bench.campaign(), content={"campaign_id": "abc123", surplus: value})
        with pytest.raises(PlanError, match=rf"content\.{surplus}.*leave out campaign_id"):
            bench.halved([ADA], [BOB], campaign).plan()


@pytest.mark.parametrize("odd", ["", "../lists", "abc/def", "x" * 65])
def test_an_id_of_another_form_goes_nowhere(bench: Bench, odd: str) -> None:
    """The SDK escapes nothing: an ID is checked before it is in a URL."""
    calls = bench.simulator.calls
    with pytest.raises(PlanError, match=r"content\.campaign_id"):
        bench.halved([ADA], [BOB], bench.copying(odd)).plan()
    assert bench.simulator.calls == calls


def test_a_copy_that_was_altered_is_not_taken(bench: Bench) -> None:
    """Subject and sender are those of apply, whatever becomes of the saved campaign."""
    source = bench.written()
    mailing = bench.ready([ADA], [BOB], bench.copying(source))
    bench.api("DELETE", f"/campaigns/{source}")
    change = {"settings": {"subject_line": "Other"}}
    bench.api("PATCH", f"/campaigns/{mailing.handles['untracked']}", change)
    with pytest.raises(ProviderError, match=r"settings\.subject_line"):
        mailing.release(Journal())
    assert bench.pixels() == {ADA.address: [1]}
