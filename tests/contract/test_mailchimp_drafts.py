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
    plan, applied = bench.ready([ADA], [BOB])
    bench.api("PATCH", f"/campaigns/{applied.handles[half]}", json=changed)
    with pytest.raises(ProviderError, match=named) as caught:
        bench.connector.apply(plan)
    assert "@" not in str(caught.value)
    journal = Journal()
    with pytest.raises(ProviderError, match=named):
        bench.connector.release(plan, applied, journal)
    assert journal.states[half] == "failed"
    assert half == "untracked" or not bench.mails()


def test_a_draft_that_aims_at_everybody_is_never_released(bench: Bench) -> None:
    """Empty segment options are the whole audience: release refuses, apply makes the draft anew."""
    bench.sync([contact("stranger")])
    plan, applied = bench.ready([ADA], [BOB])
    everybody = {"recipients": {"list_id": bench.settings.list_id}}
    bench.api("PATCH", f"/campaigns/{applied.handles['tracked']}", json=everybody)
    with pytest.raises(ProviderError, match="segment_opts"):
        bench.connector.release(plan, applied, Journal())
    bench.connector.release(plan, bench.connector.apply(plan), Journal())
    assert bench.mails().keys() == {ADA.address, BOB.address}


def test_a_count_that_was_not_refreshed_is_noticed(bench: Bench) -> None:
    """Mailchimp keeps an old number when segments are swapped: a number that is not the plan's is not accepted."""
    plan, applied = bench.ready([ADA], [BOB, EVE])
    draft = bench.simulator.campaigns.campaigns[applied.handles["tracked"]]
    draft.stale_count = 2
    with pytest.raises(ProviderError, match="recipient_count"):
        bench.connector.release(plan, applied, Journal())
    draft.stale_count = 0
    with pytest.raises(ProviderError, match="recipient_count"):
        bench.connector.release(plan, applied, Journal())
    bench.connector.apply(plan)


def test_a_stranger_in_a_frozen_segment_is_noticed(bench: Bench) -> None:
    """A segment that somebody added to is not used."""
    plan, applied = bench.ready([ADA], [BOB])
    bench.sync([EVE])
    path = f"/lists/{bench.settings.list_id}/segments/{applied.handles['tracked_segment']}"
    bench.api("POST", path, json={"members_to_add": [EVE.address]})
    with pytest.raises(ProviderError, match="1 people of no concern"):
        bench.connector.apply(plan)


def test_two_campaigns_of_one_title_are_not_guessed_between(bench: Bench) -> None:
    """When somebody copied a draft, nobody can tell which is meant."""
    plan, applied = bench.ready([ADA], [BOB])
    original = bench.simulator.campaigns.campaigns[applied.handles["tracked"]]
    bench.simulator.campaigns.campaigns["copy"] = replace(original, id="copy")
    with pytest.raises(ProviderError, match="several campaigns"):
        bench.connector.apply(plan)


@pytest.mark.parametrize(
    ("mechanism", "html", "named"),
    [
        (Mechanism.PROVIDER, "<p>News</p>", "PPCHOICES"),
        (Mechanism.HOSTED, HTML.replace("[[choices_url]]", "#"), "PPCHOICES"),
        (Mechanism.HOSTED, '<a href="[[choices_url]]">c</a>', "PPPIXEL"),
    ],
)
def test_a_template_that_breaks_the_rules_is_refused(mechanism: Mechanism, html: str, named: str) -> None:
    """A pixel needs the choices link in the same mail, a hosted one its path; the merge tag is named."""
    with serving(html) as bench:
        bench.sync([ADA])
        split = ([ADA], []) if mechanism is Mechanism.PROVIDER else ([], [ADA])
        with pytest.raises(PlanError, match=named):
            bench.connector.apply(bench.plan(*split, bench.campaign(mechanism)))


def test_a_mail_without_pixel_needs_no_link() -> None:
    """The rule is about tracked mail."""
    with serving("<p>News</p>") as bench:
        plan, applied = bench.ready([], [ADA])
        bench.connector.release(plan, applied, Journal())
        assert bench.pixels() == {ADA.address: [0]}


def test_a_template_that_is_not_there_is_refused(bench: Bench) -> None:
    """An unknown template is Mailchimp's refusal, not a mail without content."""
    bench.sync([ADA])
    with pytest.raises(ProviderRefused, match="Invalid Resource"):
        bench.connector.apply(
            bench.plan([ADA], [], replace(bench.campaign(), content=bench.account.content | {"template_id": "7"}))
        )


def test_an_open_point_on_the_checklist_is_reported(bench: Bench) -> None:
    """What Mailchimp itself finds wanting stops the campaign before release."""
    bench.sync([ADA])
    unready = '{"is_ready": false}'
    with (
        faulty(bench, Faults("GET", "/send-checklist", unready)) as broken,
        pytest.raises(ProviderError, match="checklist"),
    ):
        broken.connector.apply(broken.plan([ADA], []))


def test_a_campaign_is_found_beyond_the_first_page(bench: Bench) -> None:
    """An account with more than 1,000 campaigns gets no second draft of one title."""
    plan, applied = bench.ready([ADA], [])
    draft = bench.simulator.campaigns.campaigns[applied.handles["tracked"]]
    others = {
        f"other{n}": replace(draft, id=f"other{n}", settings=CampaignSettings(title="other")) for n in range(1_001)
    }
    bench.simulator.campaigns.campaigns.update(others)
    assert bench.connector.apply(plan).handles == applied.handles
