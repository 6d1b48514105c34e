"""What the Mailchimp connector makes of faults: refused, throttled, cut off, unreadable, unreachable."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.errors import AmbiguousOutcome, ProviderError, ProviderRefused
from core.model import AppliedPlan, Plan
from tests.contract.ground import Fault, Faults, Journal
from tests.contract.mailchimp_bench import (
    PERFORMANCE,
    PROFILING,
    Bench,
    change,
    contact,
    faulty,
    serving,
)

ADA, BOB, EVE = contact("ada"), contact("bob"), contact("eve")
TRACKED, UNTRACKED = "pixelproof news tracked", "pixelproof news untracked"


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


# The audience


PASSING: list[Fault] = [(500, {}), (403, {}), (429, {"retry-after": "7"}), "cut"]
"""Faults after which the same request, asked again, does what it should."""


@pytest.mark.parametrize("fault", PASSING, ids=str)
@pytest.mark.parametrize("place", range(7))
def test_a_fault_in_the_middle_of_a_sync_does_no_harm(bench: Bench, fault: Fault, place: int) -> None:
    """Refused for a moment, throttled (with 403 too) or cut off after the work was done: the result is the same.

    The requests are, in turn: a removal, a merge field, new members, known ones, a segment, two additions.
    """
    ada, bob = contact("ada", "o/1"), contact("bob")
    bench.sync([bob], [PROFILING])
    bench.simulator.audience._fields.pop("PPPIXEL")
    changes = [change(ada, [PERFORMANCE, PROFILING]), change(bob, [], [PROFILING])]
    faults = Faults("POST", "/lists/", *[None] * place, fault)
    with faulty(bench, faults) as broken:
        try:
            report = broken.connector.sync(changes)
        except ProviderError:
            assert fault == (500, {})  # it may have been done, and creating is not repeated blindly
            report = broken.connector.sync(changes)
    assert not faults.faults
    assert report.confirmed == {ada.recipient, bob.recipient}
    assert bench.segments() == {
        "pixelproof:performance": {"ada@example.com"},
        "pixelproof:profiling": {"ada@example.com"},
    }
    assert fault != PASSING[2] or broken.slept == [7.0]


def test_what_cannot_be_read_is_never_right(bench: Bench) -> None:
    """An answer of 200 with something else in it raises, whether empty, no JSON or of another form."""
    for odd in ("", "{}", "[]", "<html>", '{"new_members": null}', '{"segments": 1, "total_items": 1}'):
        for path in ("/segments", f"/lists/{bench.settings.list_id}"):
            method = "GET" if path == "/segments" else "POST"
            with (
                faulty(bench, Faults(method, path, odd)) as broken,
                pytest.raises(ProviderError, match="documented form"),
            ):
                broken.connector.sync([change(contact("ada"), [PERFORMANCE])])


def test_an_error_that_the_sdk_swallows_is_raised(bench: Bench) -> None:
    """The SDK returns error answers without a body as if all were well: here they raise, and are not repeated."""
    with (
        faulty(bench, Faults("POST", "/segments", (400, {}), (400, {}))) as broken,
        pytest.raises(ProviderRefused) as caught,
    ):
        broken.connector.sync([change(contact("ada"), [PERFORMANCE])])
    assert caught.value.status == 400
    assert not broken.slept


def test_a_redirect_is_not_followed_into_a_success(bench: Bench) -> None:
    """A redirected POST would become a GET that succeeds: it is an error."""
    target = {"location": f"{bench.simulator.base_url}/3.0/lists/{bench.settings.list_id}/segments"}
    ada = contact("ada")
    bench.sync([ada], [PERFORMANCE])
    with (
        faulty(bench, Faults("POST", "/segments/", (302, target))) as broken,
        pytest.raises(ProviderRefused, match="302"),
    ):
        broken.connector.sync([change(ada, [], [PERFORMANCE])])


def test_an_esp_that_asks_for_too_long_a_wait_is_out_of_reach(bench: Bench) -> None:
    """A wait beyond two minutes ends the run instead of blocking it."""
    with (
        faulty(bench, Faults("GET", "/segments", (429, {"retry-after": "3600"}))) as broken,
        pytest.raises(ProviderError),
    ):
        broken.connector.sync([change(contact("ada"))])
    assert not broken.slept


def test_nobody_there_is_an_error_that_names_the_provider(bench: Bench) -> None:
    """An address where nobody listens is tried again, then reported; the request certainly never left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lonely = bench.behind(api_url=f"http://127.0.0.1:{port}")
    with pytest.raises(ProviderError, match="mailchimp: out of reach"):
        lonely.connector.sync([change(contact("ada"))])
    assert len(lonely.slept) == 4
    with pytest.raises(ProviderError) as caught:
        lonely.connector._api.send("abc")
    assert not isinstance(caught.value, AmbiguousOutcome)


def test_a_wrong_key_says_which_variable(bench: Bench) -> None:
    """A refused key is reported with the variable's name and without the key."""
    bench.account.secrets["MAILCHIMP_API_KEY"] = "wrong-us6"
    with pytest.raises(ProviderRefused, match=r"401.*API Key Invalid.*MAILCHIMP_API_KEY") as caught:
        bench.behind().connector.sync([change(contact("ada"))])
    assert "wrong" not in str(caught.value)


def test_nothing_secret_reaches_a_log_or_an_error(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG neither key nor address is logged; a refusal that quotes an address is not passed on."""
    caplog.set_level(logging.DEBUG)
    bench.sync([contact("ada")], [PERFORMANCE])
    assert "ada" not in caplog.text.replace("adapter", "")
    assert bench.simulator.api_key not in caplog.text
    problem = '{"title": "ada@example.com is <odd>", "detail": "ada@example.com"}'
    faults = Faults("GET", "/merge-fields", (400, {}, problem))
    with faulty(bench, faults) as broken, pytest.raises(ProviderRefused, match="odd") as caught:
        broken.connector.sync([change(contact("ada"))])
    assert "@" not in str(caught.value)


# Campaigns


def releasing(bench: Bench) -> tuple[Plan, AppliedPlan, Journal]:
    """An applied campaign, ready to be released."""
    return *bench.ready([ADA], [BOB]), Journal()


@pytest.mark.parametrize("fault", [(429, {"retry-after": "3"}), (503, {}), (403, {})])
def test_a_send_that_was_certainly_not_done_is_repeated(bench: Bench, fault: tuple[int, dict[str, str]]) -> None:
    """Throttled or unavailable: asked again, sent once."""
    plan, applied, journal = releasing(bench)
    with faulty(bench, Faults("POST", "/actions/send", fault)) as broken:
        broken.connector.release(plan, applied, journal)
        assert len(broken.slept) == 1
        assert broken.slept[0] >= (3 if fault[0] == 429 else 0)
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0]}
    assert journal.states == {"tracked": "done", "untracked": "done"}


def test_a_send_whose_answer_was_lost_is_looked_up(bench: Bench) -> None:
    """The campaign says that it left: done, and never sent again."""
    plan, applied, journal = releasing(bench)
    with faulty(bench, Faults("POST", "/actions/send", "cut")) as broken:
        report = broken.connector.release(plan, applied, journal)
    assert (report.accepted_tracked, report.accepted_untracked) == (1, 1)
    assert journal.states == {"tracked": "done", "untracked": "done"}
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0]}


@pytest.mark.parametrize("fault", [(500, {}), (502, {})])
def test_an_unclear_send_that_did_not_leave_stays_unclear(bench: Bench, fault: tuple[int, dict[str, str]]) -> None:
    """The draft still stands a moment later: this run does not repeat it, the next one may."""
    plan, applied, journal = releasing(bench)
    with faulty(bench, Faults("POST", "/actions/send", fault)) as broken:
        with pytest.raises(AmbiguousOutcome):
            broken.connector.release(plan, applied, journal)
        assert journal.states == {"tracked": "begun"}
        assert not broken.slept
        broken.connector.release(plan, applied, journal)
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0]}


def test_a_crash_after_the_send_is_looked_up_by_the_next_run(bench: Bench) -> None:
    """Begun and not noted as done: the campaign says that it left, so it is skipped."""
    plan, applied, journal = releasing(bench)
    journal.begin("tracked")
    bench.api("POST", f"/campaigns/{applied.handles['tracked']}/actions/send")
    report = bench.connector.release(plan, applied, journal)
    assert (report.accepted_tracked, report.accepted_untracked) == (0, 1)
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0]}


@pytest.mark.parametrize("status", ["paused", "canceled", "canceling"])
def test_a_begun_part_in_any_other_state_stays_unclear(bench: Bench, status: str) -> None:
    """What is neither a draft nor on its way is for a person to look at."""
    plan, applied, journal = releasing(bench)
    journal.begin("tracked")
    bench.simulator.campaigns.campaigns[applied.handles["tracked"]].status = status
    with pytest.raises(AmbiguousOutcome):
        bench.connector.release(plan, applied, journal)
    assert journal.states == {"tracked": "begun"}
    assert not bench.mails()


def test_an_unclear_send_that_cannot_be_looked_up_stays_unclear(bench: Bench) -> None:
    """Unreachable or unreadable is not certain: the journal keeps it open."""
    plan, applied, journal = releasing(bench)
    unreadable = Faults("GET", f"/campaigns/{applied.handles['tracked']}", None, "{}")
    with faulty(bench, Faults("POST", "/actions/send", "cut"), unreadable) as broken, pytest.raises(AmbiguousOutcome):
        broken.connector.release(plan, applied, journal)
    assert journal.states == {"tracked": "begun"}


def test_a_refused_send_may_be_tried_again(bench: Bench) -> None:
    """A refusal is certain: the journal says failed, and a later run sends."""
    plan, applied, journal = releasing(bench)
    with faulty(bench, Faults("POST", "/actions/send", (400, {}))) as broken:
        with pytest.raises(ProviderRefused):
            broken.connector.release(plan, applied, journal)
        assert journal.states == {"tracked": "failed"}
        broken.connector.release(plan, applied, journal)
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0]}


@pytest.mark.parametrize("fault", PASSING, ids=str)
@pytest.mark.parametrize(
    ("method", "place"),
    [*(("POST", place) for place in range(6)), ("PUT", 0), ("GET", 4), ("DELETE", 0), ("DELETE", 2)],
)
def test_a_fault_in_the_middle_of_apply_leaves_nothing_twice(
    bench: Bench, method: str, place: int, fault: Fault
) -> None:
    """Cut off after the work was done or refused for a moment: applied in the end, with one of everything.

    What is posted is, in turn: a segment and its members, twice, and two drafts. Old drafts and segments are deleted.
    """
    bench.ready([ADA, EVE], [BOB])
    plan = bench.plan([ADA], [BOB, EVE])
    faults = Faults(method, "/3.0/", *[None] * place, fault)
    with faulty(bench, faults) as broken:
        try:
            applied = broken.connector.apply(plan)
        except ProviderError:
            assert fault == (500, {})
            assert method == "POST"
            applied = broken.connector.apply(plan)
    assert not faults.faults
    assert sorted(c.settings.title for c in bench.simulator.campaigns.campaigns.values()) == [TRACKED, UNTRACKED]
    assert len(bench.segments()) == 2
    bench.connector.release(plan, applied, Journal())
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0], EVE.address: [0]}


@pytest.mark.parametrize("answer", ["{}", "[]", "", '{"id":"abc","type":"regular","status":"save","tracking":{}}'])
def test_an_unreadable_campaign_is_never_right(bench: Bench, answer: str) -> None:
    """A campaign that does not say whether opens are tracked is not taken for untracked."""
    plan, applied, journal = releasing(bench)
    with (
        faulty(bench, Faults("GET", "/campaigns/", answer)) as broken,
        pytest.raises(ProviderError, match="documented form"),
    ):
        broken.connector.release(plan, applied, journal)
    assert journal.states == {"tracked": "failed"}
    assert not bench.mails()


def test_an_id_that_is_none_is_not_put_into_a_url(bench: Bench) -> None:
    """The SDK does not escape slashes: an ID of another form goes nowhere."""
    _, applied, _ = releasing(bench)
    before = bench.simulator.calls
    odd = replace(applied, handles={**applied.handles, "tracked": "../lists"})
    with pytest.raises(ProviderError, match="ID"):
        list(bench.connector.poll_opens(odd, None))
    assert bench.simulator.calls == before
