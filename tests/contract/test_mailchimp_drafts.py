"""Campaigns at Mailchimp that are not as they were planned: altered, copied, of a wrong template, hard to find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from connectors.simulators.mailchimp.wire import CampaignSettings
from core.errors import PlanError, ProviderError, ProviderRefused
from core.model import Mechanism
from tests.contract.ground import Faults, Journal
from tests.contract.mailchimp_bench import (
    HOSTED_HTML,
    HTML,
    Bench,
    contact,
    faulty,
    serving,
)

ADA, BOB, EVE = contact("ada"), contact("bob"), contact("eve")


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


@pytest.mark.parametrize(
    ("half", "changed", "named"),
    [
        ("untracked", {"tracking": {"opens": True}}, "tracking.opens"),
        ("tracked", {"tracking": {"opens": False}}, "tracking.opens"),
        ("tracked", {"settings": {"subject_line": "Other"}}, "settings.subject_line"),
        ("tracked", {"settings": {"reply_to": "eve@example.com"}}, "settings.reply_to"),
    ],
)
def test_a_draft_that_was_altered_is_not_taken(bench: Bench, half: str, changed: dict[str, object], named: str) -> None:
    """Neither apply nor release accepts a draft that somebody changed; nothing leaves, and a later run may try."""
    mailing = bench.ready([ADA], [BOB])
    bench.api("PATCH", f"/campaigns/{mailing.handles[half]}", json=changed)
    with pytest.raises(ProviderError, match=named) as caught:
        mailing.apply()
    assert "@" not in str(caught.value)
    journal = Journal()
    with pytest.raises(ProviderError, match=named):
        mailing.release(journal)
    assert journal.states[half] == "failed"
    assert half == "untracked" or not bench.mails()


def test_a_draft_that_aims_at_everybody_is_never_released(bench: Bench) -> None:
    """Empty segment options are the whole audience: release refuses, apply makes the draft anew."""
    bench.sync([contact("stranger")])
    mailing = bench.ready([ADA], [BOB])
    everybody = {"recipients": {"list_id": bench.settings.list_id}}
    bench.api("PATCH", f"/campaigns/{mailing.handles['tracked']}", json=everybody)
    with pytest.raises(ProviderError, match="segment_opts"):
        mailing.release(Journal())
    mailing.apply().release(Journal())
    assert bench.mails().keys() == {ADA.address, BOB.address}


def test_a_count_that_was_not_refreshed_is_noticed(bench: Bench) -> None:
    """Mailchimp keeps an old number when segments are swapped: a number that is not the plan's is not accepted."""
    mailing = bench.ready([ADA], [BOB, EVE])
    draft = bench.simulator.campaigns.campaigns[mailing.handles["tracked"]]
    draft.stale_count = 2
    with pytest.raises(ProviderError, match="recipient_count"):
        mailing.release(Journal())
    draft.stale_count = 0
    with pytest.raises(ProviderError, match="recipient_count"):
        mailing.release(Journal())
    mailing.apply()


def test_a_stranger_in_a_frozen_segment_is_noticed(bench: Bench) -> None:
    """A segment that somebody added to is not used."""
    mailing = bench.ready([ADA], [BOB])
    bench.sync([EVE])
    path = f"/lists/{bench.settings.list_id}/segments/{mailing.handles['tracked_segment']}"
    bench.api("POST", path, json={"members_to_add": [EVE.address]})
    with pytest.raises(ProviderError, match="1 people of no concern"):
        mailing.apply()


def test_two_campaigns_of_one_title_are_not_guessed_between(bench: Bench) -> None:
    """When somebody copied a draft, nobody can tell which is meant."""
    mailing = bench.ready([ADA], [BOB])
    original = bench.simulator.campaigns.campaigns[mailing.handles["tracked"]]
    bench.simulator.campaigns.campaigns["copy"] = replace(original, id="copy")
    with pytest.raises(ProviderError, match="several campaigns"):
        mailing.apply()


PIXEL = '<img src="https://other.example/p?u=*|UNIQID|*" width="1" height="1">'


@pytest.mark.parametrize(
    ("mechanism", "html", "named"),
    [
        (Mechanism.PROVIDER, "<p>News</p>", "PPCHOICES"),
        (Mechanism.PROVIDER, HTML + PIXEL, "pixel"),
        (Mechanism.PROVIDER, HOSTED_HTML, "pixel"),
        (Mechanism.HOSTED, HOSTED_HTML.replace("[[choices_url]]", "#"), "PPCHOICES"),
        (Mechanism.HOSTED, HTML, "PPPIXEL"),
        (Mechanism.NONE, HTML + PIXEL, "pixel"),
    ],
)
def test_a_template_that_breaks_the_rules_is_refused(mechanism: Mechanism, html: str, named: str) -> None:
    """A pixel needs the choices link, a hosted one its path, and no mail has another; no draft stays."""
    with serving(html) as bench:
        ada = replace(ADA, pixel_path="o/ada") if mechanism is Mechanism.HOSTED else ADA
        bench.sync([ada])
        halves = ([ada], []) if mechanism is Mechanism.PROVIDER else ([], [ada])
        campaign = replace(bench.campaign(mechanism), content=bench.account.content)
        with pytest.raises(PlanError, match=named):
            bench.halved(*halves, campaign).apply()
        assert not bench.simulator.campaigns.campaigns


def test_a_pixel_in_the_untracked_half_alone_is_refused() -> None:
    """Without anybody to track, the mail is checked all the same."""
    with serving(HTML + PIXEL) as bench:
        bench.sync([ADA])
        with pytest.raises(PlanError, match="pixel"):
            bench.halved([], [ADA]).apply()


@pytest.mark.parametrize("half", ["tracked", "untracked"])
def test_a_pixel_that_was_put_in_after_apply_does_not_leave(bench: Bench, half: str) -> None:
    """The mail is read once more before it leaves; the half may be sent when it is put right."""
    mailing, journal = bench.ready([ADA], [BOB]), Journal()
    path = f"/campaigns/{mailing.handles[half]}/content"
    good = bench.api("GET", path).json()["html"]
    bench.api("PUT", path, {"html": good + PIXEL})
    with pytest.raises(PlanError, match="pixel"):
        mailing.release(journal)
    assert journal.states[half] == "failed"
    assert not any(PIXEL[:20] in html for mails in bench.mails().values() for html in mails)
    bench.api("PUT", path, {"html": good})
    mailing.release(journal)
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0]}


def test_a_mail_without_pixel_needs_no_link() -> None:
    """The rule is about tracked mail."""
    with serving("<p>News</p>") as bench:
        mailing = bench.ready([], [ADA])
        mailing.release(Journal())
        assert bench.pixels() == {ADA.address: [0]}


def test_a_template_that_is_not_there_is_refused(bench: Bench) -> None:
    """An unknown template is Mailchimp's refusal, not a mail without content."""
    bench.sync([ADA])
    unknown = replace(bench.campaign(), content=bench.account.content | {"template_id": "7"})
    with pytest.raises(ProviderRefused, match="Invalid Resource"):
        bench.halved([ADA], [], unknown).apply()


def test_an_open_point_on_the_checklist_is_reported(bench: Bench) -> None:
    """What Mailchimp itself finds wanting stops the campaign before release."""
    bench.sync([ADA])
    unready = '{"is_ready": false}'
    with (
        faulty(bench, Faults("GET", "/send-checklist", unready)) as broken,
        pytest.raises(ProviderError, match="checklist"),
    ):
        broken.halved([ADA], []).apply()


def test_a_campaign_is_found_beyond_the_first_page(bench: Bench) -> None:
    """An account with more than 1,000 campaigns gets no second draft of one title."""
    mailing = bench.ready([ADA], [])
    draft = bench.simulator.campaigns.campaigns[mailing.handles["tracked"]]
    others = {
        f"other{n}": replace(draft, id=f"other{n}", settings=CampaignSettings(title="other")) for n in range(1_001)
    }
    bench.simulator.campaigns.campaigns.update(others)
    first = mailing.handles
    assert mailing.apply().handles == first
