"""Campaigns through the SES connector against the simulator, over HTTP: plan, apply, release."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.simulators.ses import TEMPLATE
from core.errors import PlanError
from core.model import CampaignId, Halves, Mechanism, Part
from tests.contract.ground import Journal
from tests.contract.ses_bench import (
    TRACKED,
    UNTRACKED,
    Bench,
    address,
    benched,
    campaign,
    contact,
    mails,
    people,
    ready,
    recipient,
    sent,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A served simulator with an account."""
    with benched(tmp_path) as served:
        yield served


# Releases


@pytest.mark.parametrize("account_tracks", [False, True])
def test_sess_pixel_is_exactly_in_tracked_mail(bench: Bench, account_tracks: bool) -> None:
    """120 mails: the consenting half carries SES's pixel, the other none, whatever the account's own switch says."""
    bench.simulator.tracking = account_tracks
    mailing = ready(bench, people(0, 60), people(60, 120))
    before = bench.simulator.calls
    applied = mailing.apply()
    assert applied.api_calls == bench.simulator.calls - before
    assert mails(bench) == {}
    report = mailing.release(applied, Journal())
    assert (report.accepted_tracked, report.accepted_untracked, report.refused) == (60, 60, frozenset())
    assert report.api_calls == 5  # the template, and four parts
    found = mails(bench)
    assert {to for to, html in found.items() if "/open/" in html} == {address(n) for n in range(60)}
    assert len(found) == 120
    assert 'href="https://choices.example/7"' in found[address(7)]
    assert not any("pixel.example" in html for html in found.values())


def test_each_request_says_whether_to_track_and_whom_it_is_for(bench: Bench) -> None:
    """Override and configuration set in every call, one recipient a message with tags, and no list management."""
    mailing = ready(bench, people(0, 2), people(2, 3))
    mailing.release(mailing.apply(), Journal())
    tracked, untracked = sent(bench)
    assert tracked["ConfigurationOverrides"] == {"Tracking": {"OpenTrackingEnabled": "ENABLED"}}
    assert untracked["ConfigurationOverrides"] == {"Tracking": {"OpenTrackingEnabled": "DISABLED"}}
    assert (tracked["ConfigurationSetName"], untracked["ConfigurationSetName"]) == (TRACKED, UNTRACKED)
    assert "ListManagementOptions" not in tracked | untracked
    assert [entry["Destination"] for entry in tracked["BulkEmailEntries"]] == [
        {"ToAddresses": [address(0)]},
        {"ToAddresses": [address(1)]},
    ]
    assert tracked["BulkEmailEntries"][1]["ReplacementTags"] == [
        {"Name": "pixelproof_recipient", "Value": "00" * 15 + "01"},
        {"Name": "pixelproof_campaign", "Value": "spring-2026"},
    ]


def test_the_hosted_pixel_stands_where_a_path_is(bench: Bench) -> None:
    """The hosted pixel is in the mail of those who have a path; SES's own in none."""
    bench.simulator.tracking = True
    nobody = tuple(replace(each, pixel_path="") for each in people(2, 4))
    mailing = ready(bench, (), people(0, 2) + nobody, Mechanism.HOSTED)
    report = mailing.release(mailing.apply(), Journal())
    assert report.accepted_untracked == 4
    found = mails(bench)
    assert 'src="https://pixel.example/o/1/spring-2026.gif"' in found[address(1)]
    assert {to for to, html in found.items() if "<img" in html} == {address(0), address(1)}


def test_no_pixel_means_none_at_all(bench: Bench) -> None:
    """With mechanism none, not even somebody's pixel path brings an image into the mail."""
    mailing = ready(bench, (), people(0, 3), Mechanism.NONE)
    mailing.release(mailing.apply(), Journal())
    assert len(mails(bench)) == 3
    assert not any("<img" in html for html in mails(bench).values())


def test_releasing_twice_sends_once_and_asks_nothing(bench: Bench) -> None:
    """What the journal has as done is not sent again, and its people are not even looked up."""
    mailing = ready(bench, people(0, 60), people(60, 70))
    applied, journal = mailing.apply(), Journal()
    mailing.release(applied, journal)
    unread = [replace(part, contacts=lambda: pytest.fail("looked up")) for part in mailing.parts]
    again = replace(mailing, connector=bench.connector()).release(applied, journal, unread)
    assert (again.accepted_tracked, again.accepted_untracked, again.api_calls) == (0, 0, 0)
    assert len(mails(bench)) == 70


def test_empty_parts_are_skipped(bench: Bench) -> None:
    """A part that nobody is left in makes no call; neither does one whose people were erased meanwhile."""
    mailing = ready(bench, people(0, 1))
    gone = [replace(mailing.parts[0], name=f"tracked-00000{n}", size=n, contacts=lambda: iter(())) for n in (0, 1)]
    journal = Journal()
    report = mailing.release(mailing.apply(), journal, gone)
    assert (sent(bench), report.accepted_tracked) == ([], 0)
    assert journal.states.get("tracked-000000") is None
    assert journal.states["tracked-000001"] == "done"


def test_a_part_is_asked_for_only_when_its_turn_comes(bench: Bench) -> None:
    """Who is in it is judged at the last: no part is taken while the account's rate still makes it wait."""
    bench.simulator.sending.rate = 10.0
    mailing = ready(bench, (), people(0, 100), Mechanism.NONE)
    applied = mailing.apply()
    bench.slept.clear()
    waited: list[list[int]] = []

    def handed() -> Iterator[Part]:
        for part in mailing.parts:
            waited.append([round(seconds) for seconds in bench.slept])
            yield part

    mailing.release(applied, Journal(), handed())
    assert waited == [[], [5]]


def test_sending_keeps_to_the_accounts_rate(bench: Bench) -> None:
    """No more messages a second than SES allows the account."""
    bench.simulator.sending.rate = 10.0
    mailing = ready(bench, (), people(0, 150), Mechanism.NONE)
    applied = mailing.apply()
    bench.slept.clear()
    mailing.release(applied, Journal())
    assert [round(seconds) for seconds in bench.slept] == [5, 10, 15]


def test_the_part_size_is_what_a_call_takes(bench: Bench) -> None:
    """50 entries a call, which SES takes, and not one more."""
    size = bench.connector().part_size(campaign(bench))
    assert size == 50
    mailing = ready(bench, people(0, size))
    assert mailing.release(mailing.apply(), Journal()).api_calls == 2


# The template is what was checked


@pytest.mark.parametrize("part", ["Html", "Subject", "Text"])
def test_an_edited_template_is_not_sent(bench: Bench, part: str) -> None:
    """Whatever is edited after the check stops the release before the first mail, and nothing is in doubt."""
    mailing = ready(bench, people(0, 2), people(2, 3))
    applied, journal = mailing.apply(), Journal()
    template = bench.simulator.sending.templates[TEMPLATE]
    before = template.get(part)
    template[part] = '<img src="https://elsewhere.example/p.gif" width="1" height="1">'
    with pytest.raises(PlanError, match="edited"):
        mailing.release(applied, journal)
    assert sent(bench) == []
    assert "begun" not in journal.states.values()
    template.pop(part)
    if before is not None:
        template[part] = before
    mailing.release(applied, journal)
    assert len(mails(bench)) == 3


def test_a_template_that_is_gone_is_not_sent(bench: Bench) -> None:
    """The template was deleted in between."""
    mailing = ready(bench, people(0, 2))
    applied = mailing.apply()
    bench.simulator.sending.templates.clear()
    with pytest.raises(PlanError, match="no template"):
        mailing.release(applied, Journal())


def test_another_campaigns_handles_are_refused(bench: Bench) -> None:
    """What was applied for one campaign releases no other."""
    mailing = ready(bench, people(0, 2))
    applied = replace(mailing.apply(), campaign=CampaignId("autumn"))
    with pytest.raises(PlanError, match="apply"):
        mailing.release(applied, Journal())


# Refused recipients


def test_what_ses_refuses_of_a_recipient_is_reported(bench: Bench) -> None:
    """Entries that are refused for their recipient's sake are named, and the call is done and not repeated."""
    bench.simulator.sending.refused = {address(1)}
    broken = (replace(contact(4), address="no address"),)
    mailing = ready(bench, people(0, 3), people(3, 4) + broken)
    applied, journal = mailing.apply(), Journal()
    report = mailing.release(applied, journal)
    assert (report.accepted_tracked, report.accepted_untracked) == (2, 1)
    assert report.refused == {recipient(1), recipient(4)}
    assert {name for name, state in journal.states.items() if state == "done"} == {"tracked-000001", "untracked-000001"}
    assert mails(bench).keys() == {address(0), address(2), address(3)}


# Plans


def test_a_plan_says_what_is_done_and_what_cannot_be(bench: Bench) -> None:
    """Steps and limits in words, with the numbers of both halves; SES is asked for the template and nothing else."""
    plan = ready(bench, people(0, 60), people(60, 70)).plan
    assert any("60 messages in 2 calls" in step and TRACKED in step for step in plan.steps)
    assert any("10 messages in 1 calls" in step and UNTRACKED in step for step in plan.steps)
    assert any("60 days" in limit for limit in plan.limits)
    assert bench.wire.lines("") == [f"GET /v2/email/templates/{TEMPLATE}"]
    words = json.dumps([plan.steps, plan.limits])
    assert "@" not in words


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"template_name": ""}, "content.template_name: missing"),
        ({"from_email": " "}, "content.from_email: missing"),
        ({"topic": "x"}, "topic"),
        ({"template_name": "winter"}, "content.template_name: SES has no template winter"),
    ],
)
def test_wrong_content_is_named(bench: Bench, content: dict[str, str], named: str) -> None:
    """A missing or unknown key of the content, and a template that SES has not, are refused by name."""
    with pytest.raises(PlanError, match=named):
        bench.connector().plan(campaign(bench, content=content), Halves(untracked=1))


@pytest.mark.parametrize("mechanism", [Mechanism.HOSTED, Mechanism.NONE])
def test_sess_pixel_goes_with_its_mechanism_alone(bench: Bench, mechanism: Mechanism) -> None:
    """Nobody is in the tracked half unless the campaign uses SES's own pixel."""
    with pytest.raises(PlanError, match="mechanism"):
        bench.connector().plan(campaign(bench, mechanism), Halves(tracked=1))
