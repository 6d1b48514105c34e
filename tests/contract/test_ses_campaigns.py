"""Campaigns through the SES connector against the simulator, over HTTP: plan, apply, release."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import AmbiguousOutcome, PlanError, ProviderError, ProviderRefused
from core.model import Mechanism, Split
from tests.contract.ses_bench import (
    BULK,
    TRACKED,
    UNTRACKED,
    Bench,
    Journal,
    address,
    benched,
    campaign,
    contact,
    mails,
    people,
    ready,
    sent,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A served simulator with an account."""
    with benched(tmp_path) as served:
        yield served


@pytest.mark.parametrize("account_tracks", [False, True])
def test_sess_pixel_is_exactly_in_tracked_mail(bench: Bench, account_tracks: bool) -> None:
    """120 mails: the consenting half carries SES's pixel, the other none, whatever the account's own switch says."""
    bench.simulator.tracking = account_tracks
    connector, plan = ready(bench, Split(people(0, 60), people(60, 120)))
    applied = connector.apply(plan)
    assert applied.api_calls == bench.simulator.calls
    assert mails(bench) == {}
    report = connector.release(plan, applied, Journal())
    assert (report.accepted_tracked, report.accepted_untracked, report.api_calls) == (60, 60, 4)
    found = mails(bench)
    assert {to for to, html in found.items() if "/open/" in html} == {address(n) for n in range(60)}
    assert len(found) == 120
    assert 'href="https://choices.example/7"' in found[address(7)]
    assert not any("pixel.example" in html for html in found.values())


def test_each_request_says_whether_to_track_and_whom_it_is_for(bench: Bench) -> None:
    """Override and configuration set in every call, one recipient a message with tags, and no list management."""
    connector, plan = ready(bench, Split(people(0, 2), people(2, 3)))
    connector.release(plan, connector.apply(plan), Journal())
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
    connector, plan = ready(bench, Split((), people(0, 2) + nobody), Mechanism.HOSTED)
    report = connector.release(plan, connector.apply(plan), Journal())
    assert report.accepted_untracked == 4
    found = mails(bench)
    assert 'src="https://pixel.example/o/1/spring.gif"' in found[address(1)]
    assert {to for to, html in found.items() if "<img" in html} == {address(0), address(1)}


def test_no_pixel_means_none_at_all(bench: Bench) -> None:
    """With mechanism none, not even somebody's pixel path brings an image into the mail."""
    connector, plan = ready(bench, Split((), people(0, 3)), Mechanism.NONE)
    connector.release(plan, connector.apply(plan), Journal())
    assert len(mails(bench)) == 3
    assert not any("<img" in html for html in mails(bench).values())


def test_releasing_twice_sends_once(bench: Bench) -> None:
    """What the journal has as done is not sent again."""
    connector, plan = ready(bench, Split(people(0, 60), people(60, 70)))
    applied, journal = connector.apply(plan), Journal()
    connector.release(plan, applied, journal)
    again = bench.connector().release(plan, applied, journal)
    assert (again.accepted_tracked, again.accepted_untracked, again.api_calls) == (0, 0, 0)
    assert len(mails(bench)) == 70


def test_other_recipients_than_applied_are_refused(bench: Bench) -> None:
    """Parts are named by their place: with other people they would mean something else."""
    connector, plan = ready(bench, Split(people(0, 3), people(3, 5)))
    applied = connector.apply(plan)
    for split in (Split(people(0, 2), people(3, 5)), Split(people(0, 2), people(2, 5)), Split(people(0, 5), ())):
        with pytest.raises(PlanError, match="apply"):
            connector.release(replace(plan, split=split), applied, Journal())
    assert sent(bench) == []


def test_what_ses_does_not_accept_is_not_counted(bench: Bench) -> None:
    """Entries with another status than SUCCESS are not accepted; the call is done and not repeated."""
    bench.simulator.sending.refused = {address(1)}
    broken = (replace(contact(4), address="no address"),)
    connector, plan = ready(bench, Split(people(0, 3), people(3, 4) + broken))
    applied, journal = connector.apply(plan), Journal()
    report = connector.release(plan, applied, journal)
    assert (report.accepted_tracked, report.accepted_untracked) == (2, 1)
    assert journal.sent == {"tracked-000001", "untracked-000001"}
    assert mails(bench).keys() == {address(0), address(2), address(3)}


def test_sending_keeps_to_the_accounts_rate(bench: Bench) -> None:
    """No more messages a second than SES allows the account."""
    bench.simulator.sending.rate = 10.0
    connector, plan = ready(bench, Split((), people(0, 150)), Mechanism.NONE)
    applied = connector.apply(plan)
    bench.slept.clear()
    connector.release(plan, applied, Journal())
    assert [round(seconds) for seconds in bench.slept] == [5, 10]


# Faults in the middle


@pytest.mark.parametrize("fault", [(429, {"Retry-After": "3"}), (503, {})])
def test_a_call_that_was_certainly_not_done_is_repeated(bench: Bench, fault: tuple[int, dict[str, str]]) -> None:
    """Throttled or unavailable: asked again, sent once."""
    connector, plan = ready(bench, Split(people(0, 60), ()))
    applied = connector.apply(plan)
    bench.wire.faults[BULK] = [fault]
    report = connector.release(plan, applied, Journal())
    assert (report.accepted_tracked, report.api_calls) == (60, 3)
    assert len(mails(bench)) == 60
    assert not fault[1] or max(bench.slept) >= 3


@pytest.mark.parametrize("fault", ["cut", (500, {}), {}, "<html>", {"BulkEmailEntryResults": []}])
def test_a_call_without_a_clear_answer_is_ambiguous(bench: Bench, fault: Any) -> None:  # noqa: ANN401 - see Wire
    """It may have been done: it is not repeated, not by the next run either, until somebody looks."""
    connector, plan = ready(bench, Split(people(0, 60), ()))
    applied, journal = connector.apply(plan), Journal()
    bench.wire.faults[BULK] = [fault]
    for _ in range(2):
        with pytest.raises(AmbiguousOutcome):
            connector.release(plan, applied, journal)
    assert len(sent(bench)) == 1
    assert journal.begun == {"tracked-000001"}
    assert len(mails(bench)) == (50 if fault == "cut" else 0)


def test_a_refused_call_may_be_tried_again(bench: Bench) -> None:
    """Sending is paused in between: certainly nothing left, and the next run sends what is missing."""
    connector, plan = ready(bench, Split(people(0, 60), people(60, 70)))
    applied, journal = connector.apply(plan), Journal()
    bench.simulator.sending.enabled = False
    with pytest.raises(ProviderRefused, match="SendingPaused"):
        connector.release(plan, applied, journal)
    assert (journal.begun, journal.sent) == (set(), set())
    bench.simulator.sending.enabled = True
    connector.release(plan, applied, journal)
    assert len(mails(bench)) == 70


def test_out_of_reach_leaves_nothing_begun(bench: Bench) -> None:
    """Unavailable to the last attempt: certainly nothing left."""
    connector, plan = ready(bench, Split(people(0, 5), ()))
    applied, journal = connector.apply(plan), Journal()
    bench.wire.faults[BULK] = [(503, {})] * 5
    with pytest.raises(ProviderError, match="out of reach"):
        connector.release(plan, applied, journal)
    assert journal.begun == set()


def test_a_call_of_which_nothing_was_accepted_stops_the_run(bench: Bench) -> None:
    """When no entry failed for its own reason, going on is no use, and the part may be sent later."""
    connector, plan = ready(bench, Split(people(0, 3), people(3, 6)))
    applied, journal = connector.apply(plan), Journal()
    results = [
        {"Status": "ACCOUNT_DAILY_QUOTA_EXCEEDED"},
        {"Status": "ACCOUNT_THROTTLED"},
        {"Status": "TRANSIENT_FAILURE"},
    ]
    bench.wire.faults[BULK] = [{"BulkEmailEntryResults": results}]
    with pytest.raises(ProviderError, match="ACCOUNT_DAILY_QUOTA_EXCEEDED"):
        connector.release(plan, applied, journal)
    assert len(sent(bench)) == 1
    connector.release(plan, applied, journal)
    assert len(mails(bench)) == 6


# Plans


def test_a_plan_says_what_is_done_and_what_cannot_be(bench: Bench) -> None:
    """Steps and limits in words, with the numbers of both halves, without asking SES anything."""
    _, plan = ready(bench, Split(people(0, 60), people(60, 70)))
    assert any("60 messages in 2 calls" in step and TRACKED in step for step in plan.steps)
    assert any("10 messages in 1 calls" in step and UNTRACKED in step for step in plan.steps)
    assert any("60 days" in limit for limit in plan.limits)
    assert bench.wire.requests == []
    words = json.dumps([plan.steps, plan.limits])
    assert "@" not in words


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"template_name": ""}, "content.template_name: missing"),
        ({"from_email": " "}, "content.from_email: missing"),
        ({"topic": "x"}, "topic"),
    ],
)
def test_wrong_content_is_named(bench: Bench, content: dict[str, str], named: str) -> None:
    """A missing or unknown key of the content is refused by its name."""
    with pytest.raises(PlanError, match=named):
        bench.connector().plan(campaign(bench, content=content), Split((), people(0, 1)))


@pytest.mark.parametrize("mechanism", [Mechanism.HOSTED, Mechanism.NONE])
def test_sess_pixel_goes_with_its_mechanism_alone(bench: Bench, mechanism: Mechanism) -> None:
    """Nobody is in the tracked half unless the campaign uses SES's own pixel."""
    with pytest.raises(PlanError, match="mechanism"):
        bench.connector().plan(campaign(bench, mechanism), Split(people(0, 1), ()))
