"""What the Mailchimp connector makes of faults while it sets campaigns up and sends them, each failed and done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.errors import AmbiguousOutcome, ProviderError, ProviderRefused
from tests.contract.ground import Fault, Faults, Journal
from tests.contract.mailchimp_bench import Bench, Mailing, contact, faulty, serving

ADA, BOB, EVE = contact("ada"), contact("bob"), contact("eve")
TRACKED, UNTRACKED = "pixelproof news tracked", "pixelproof news untracked"
RIGHT = {ADA.address: [1], BOB.address: [0]}

PASSING: list[Fault] = [(500, {}), (403, {}), (429, {"retry-after": "7"}), "cut"]
"""Faults after which the same request, asked again, does what it should."""


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


def releasing(bench: Bench) -> tuple[Mailing, Journal]:
    """An applied campaign, ready to be released."""
    return bench.ready([ADA], [BOB]), Journal()


def through(mailing: Mailing, broken: Bench) -> Mailing:
    """The same mailing by a connector that meets faults."""
    return Mailing(broken, mailing.campaign, mailing.tracked, mailing.untracked, mailing.applied)


@pytest.mark.parametrize("fault", [(429, {"retry-after": "3"}), (403, {})])
def test_a_send_that_was_certainly_not_done_is_repeated(bench: Bench, fault: tuple[int, dict[str, str]]) -> None:
    """Throttled, with 403 too: asked again, sent once."""
    mailing, journal = releasing(bench)
    with faulty(bench, Faults("POST", "/actions/send", fault)) as broken:
        through(mailing, broken).release(journal)
        assert len(broken.slept) == 1
        assert broken.slept[0] >= (3 if fault[0] == 429 else 0)
    assert bench.pixels() == RIGHT
    assert journal.states == {"tracked": "done", "untracked": "done"}


@pytest.mark.parametrize("half", [0, 1])
def test_a_send_whose_answer_was_lost_is_looked_up(bench: Bench, half: int) -> None:
    """The campaign says that it left: done, and never sent again."""
    mailing, journal = releasing(bench)
    with faulty(bench, Faults("POST", "/actions/send", *[None] * half, "cut")) as broken:
        report = through(mailing, broken).release(journal)
    assert (report.accepted_tracked, report.accepted_untracked) == (1, 1)
    assert journal.states == {"tracked": "done", "untracked": "done"}
    assert bench.pixels() == RIGHT


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("fault", [(500, {}), (502, {}), (503, {})])
def test_an_unclear_send_that_did_not_leave_stays_unclear(
    bench: Bench, fault: tuple[int, dict[str, str]], half: int
) -> None:
    """The draft still stands a moment later: this run does not repeat it, the next one may."""
    mailing, journal = releasing(bench)
    with faulty(bench, Faults("POST", "/actions/send", *[None] * half, fault)) as broken:
        with pytest.raises(AmbiguousOutcome):
            through(mailing, broken).release(journal)
        assert journal.states[("tracked", "untracked")[half]] == "begun"
        assert not broken.slept
        through(mailing, broken).release(journal)
    assert bench.pixels() == RIGHT


def test_a_crash_after_the_send_is_looked_up_by_the_next_run(bench: Bench) -> None:
    """Begun and not noted as done: the campaign says that it left, so it is skipped."""
    mailing, journal = releasing(bench)
    journal.begin("tracked")
    bench.api("POST", f"/campaigns/{mailing.handles['tracked']}/actions/send")
    report = mailing.release(journal)
    assert (report.accepted_tracked, report.accepted_untracked) == (0, 1)
    assert bench.pixels() == RIGHT


@pytest.mark.parametrize("status", ["paused", "schedule", "canceled", "canceling"])
def test_a_begun_part_in_any_other_state_stays_unclear(bench: Bench, status: str) -> None:
    """What is neither a draft nor on its way is for a person to look at."""
    mailing, journal = releasing(bench)
    journal.begin("tracked")
    bench.simulator.campaigns.campaigns[mailing.handles["tracked"]].status = status
    with pytest.raises(AmbiguousOutcome):
        mailing.release(journal)
    assert journal.states == {"tracked": "begun"}
    assert not bench.mails()


def test_an_unclear_send_that_cannot_be_looked_up_stays_unclear(bench: Bench) -> None:
    """Unreachable or unreadable is not certain: the journal keeps it open."""
    mailing, journal = releasing(bench)
    unreadable = Faults("GET", f"/campaigns/{mailing.handles['tracked']}", None, None, "{}")
    with faulty(bench, Faults("POST", "/actions/send", "cut"), unreadable) as broken, pytest.raises(AmbiguousOutcome):
        through(mailing, broken).release(journal)
    assert journal.states == {"tracked": "begun"}


def test_a_refused_send_may_be_tried_again(bench: Bench) -> None:
    """A refusal is certain: the journal says failed, and a later run sends."""
    mailing, journal = releasing(bench)
    with faulty(bench, Faults("POST", "/actions/send", (400, {}))) as broken:
        with pytest.raises(ProviderRefused):
            through(mailing, broken).release(journal)
        assert journal.states == {"tracked": "failed"}
        through(mailing, broken).release(journal)
    assert bench.pixels() == RIGHT


@pytest.mark.parametrize("fault", PASSING, ids=str)
@pytest.mark.parametrize(
    ("method", "place"),
    [*(("POST", place) for place in range(4)), ("PUT", 0), ("GET", 4), ("DELETE", 0), ("DELETE", 2)],
)
def test_a_fault_in_the_middle_of_apply_leaves_nothing_twice(
    bench: Bench, method: str, place: int, fault: Fault
) -> None:
    """Cut off after the work was done or refused for a moment: applied in the end, with one of everything.

    What is posted is, in turn: a segment, its members, and two drafts. Old drafts and segments are deleted.
    """
    bench.ready([ADA, EVE], [BOB])
    faults = Faults(method, "/3.0/", *[None] * place, fault)
    with faulty(bench, faults) as broken:
        mailing = broken.halved([ADA], [BOB, EVE])
        try:
            mailing.apply()
        except ProviderError:
            assert fault == (500, {})
            assert method == "POST"
            mailing.apply()
    assert not faults.faults
    assert sorted(c.settings.title for c in bench.simulator.campaigns.campaigns.values()) == [TRACKED, UNTRACKED]
    frozen = [name for name in bench.segments() if name.startswith("pixelproof news ")]
    assert len(frozen) == 2
    through(mailing, bench).release(Journal())
    assert bench.pixels() == {ADA.address: [1], BOB.address: [0], EVE.address: [0]}


@pytest.mark.parametrize("fault", PASSING, ids=str)
@pytest.mark.parametrize(("method", "place"), [("POST", 4), ("POST", 5), ("PATCH", 0), ("PATCH", 1), ("PATCH", 3)])
def test_a_fault_while_a_campaign_is_copied_leaves_nothing_twice(
    bench: Bench, method: str, place: int, fault: Fault
) -> None:
    """A copy whose answer was lost is found by what is there more than before; applied again, there are still two.

    What is posted is, in turn: a segment and its members, twice, and two copies. Each copy is changed twice.
    """
    bench.sync([ADA, BOB])
    source = bench.written()
    faults = Faults(method, "/3.0/", *[None] * place, fault)
    with faulty(bench, faults) as broken:
        mailing = broken.halved([ADA], [BOB], bench.copying(source))
        try:
            mailing.apply()
        except ProviderError:
            assert fault == (500, {})
            assert method == "POST"
            mailing.apply()
    assert not faults.faults
    titles = sorted(c.settings.title for c in bench.simulator.campaigns.campaigns.values())
    assert titles == ["News", TRACKED, UNTRACKED]
    through(mailing, bench).release(Journal())
    assert bench.pixels() == RIGHT


@pytest.mark.parametrize("answer", ["{}", "[]", "", '{"id":"abc","type":"regular","status":"save","tracking":{}}'])
def test_an_unreadable_campaign_is_never_right(bench: Bench, answer: str) -> None:
    """A campaign that does not say whether opens are tracked is not taken for untracked."""
    mailing, journal = releasing(bench)
    with (
        faulty(bench, Faults("GET", f"/campaigns/{mailing.handles['tracked']}", None, answer)) as broken,
        pytest.raises(ProviderError, match="documented form"),
    ):
        through(mailing, broken).release(journal)
    assert journal.states == {"tracked": "failed"}
    assert not bench.mails()
