"""Releases through SES that fail half-way, each fault both ways: nobody gets two mails, and nobody gets none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import AmbiguousOutcome, PixelproofError, ProviderError, ProviderRefused
from core.model import Mechanism
from core.stores import mailings
from core.stores.database import Database
from tests.contract.ground import Journal
from tests.contract.ses_bench import (
    BULK,
    Bench,
    Mailing,
    address,
    benched,
    mails,
    parts_of,
    people,
    ready,
    recipient,
    sent,
)

ATTEMPTS = 5


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A served simulator with an account."""
    with benched(tmp_path) as served:
        yield served


def entries(bench: Bench) -> list[int]:
    """How many messages each call carried."""
    return [len(body["BulkEmailEntries"]) for body in sent(bench)]


def begun(journal: Journal) -> set[str]:
    """The parts in doubt."""
    return {name for name, state in journal.states.items() if state == "begun"}


def throttle(bench: Bench, numbers: range, times: int, status: str = "ACCOUNT_THROTTLED") -> None:
    """So many messages to these people are not accepted."""
    bench.simulator.sending.statuses = {address(number): [status] * times for number in numbers}


# A whole call


def test_a_throttled_call_is_repeated(bench: Bench) -> None:
    """429: certainly not done, asked again after the time that SES asks for, sent once."""
    mailing = ready(bench, people(0, 60))
    applied = mailing.apply()
    bench.wire.faults[BULK] = [(429, {"Retry-After": "3"})]
    report = mailing.release(applied, Journal())
    assert (report.accepted_tracked, report.api_calls) == (60, 4)
    assert len(mails(bench)) == 60
    assert max(bench.slept) >= 3


@pytest.mark.parametrize("fault", ["cut", (500, {}), (503, {}), {}, "<html>", {"BulkEmailEntryResults": []}])
def test_a_call_without_a_clear_answer_is_ambiguous(bench: Bench, fault: Any) -> None:  # noqa: ANN401 - see Wire
    """It may have been done: it is not repeated, not by the next run either, until somebody looks."""
    mailing = ready(bench, people(0, 60))
    applied, journal = mailing.apply(), Journal()
    bench.wire.faults[BULK] = [fault]
    for _ in range(2):
        with pytest.raises(AmbiguousOutcome):
            mailing.release(applied, journal)
    assert len(sent(bench)) == 1
    assert begun(journal) == {"tracked-000001"}
    assert len(mails(bench)) == (50 if fault == "cut" else 0)
    # The operator looked: both ways end well.
    (journal.done if fault == "cut" else journal.failed)("tracked-000001")
    mailing.release(applied, journal)
    assert len(mails(bench)) == 60


def test_a_refused_call_may_be_tried_again(bench: Bench) -> None:
    """Sending is paused in between: certainly nothing left, and the next run sends what is missing."""
    mailing = ready(bench, people(0, 60), people(60, 70))
    applied, journal = mailing.apply(), Journal()
    bench.simulator.sending.enabled = False
    with pytest.raises(ProviderRefused, match="SendingPaused"):
        mailing.release(applied, journal)
    assert set(journal.states.values()) == {"failed"}
    bench.simulator.sending.enabled = True
    mailing.release(applied, journal)
    assert len(mails(bench)) == 70


def test_out_of_reach_leaves_nothing_begun(bench: Bench) -> None:
    """Throttled to the last attempt: certainly nothing left."""
    mailing = ready(bench, people(0, 5))
    applied, journal = mailing.apply(), Journal()
    bench.wire.faults[BULK] = [(429, {})] * 5
    with pytest.raises(ProviderError, match="out of reach"):
        mailing.release(applied, journal)
    assert begun(journal) == set()


def test_people_who_cannot_be_read_leave_nothing_begun(bench: Bench) -> None:
    """The address book fails: no request was under way, and the part may be sent later."""

    def broken() -> Iterator[Any]:
        raise OSError

    mailing = ready(bench, people(0, 5))
    applied, journal = mailing.apply(), Journal()
    with pytest.raises(OSError):  # noqa: PT011 - raised above
        mailing.release(applied, journal, [replace(mailing.parts[0], contacts=broken)])
    assert begun(journal) == set()
    mailing.release(applied, journal)
    assert len(mails(bench)) == 5


# Some messages of a call


@pytest.mark.parametrize("status", ["ACCOUNT_THROTTLED", "TRANSIENT_FAILURE", "FAILED", "SOMETHING_NEW"])
def test_what_was_not_accepted_is_sent_again_and_nothing_else(bench: Bench, status: str) -> None:
    """Ten of fifty are throttled twice: two more calls with just those, in the same part and the same half."""
    mailing = ready(bench, people(0, 60))
    applied, journal = mailing.apply(), Journal()
    throttle(bench, range(5, 15), 2, status)
    bench.slept.clear()
    report = mailing.release(applied, journal)
    assert entries(bench) == [50, 10, 10, 10]
    assert {body["ConfigurationOverrides"]["Tracking"]["OpenTrackingEnabled"] for body in sent(bench)} == {"ENABLED"}
    assert (report.accepted_tracked, report.refused) == (60, frozenset())
    assert len(mails(bench)) == 60
    assert [seconds for seconds in bench.slept if seconds >= 1] == [1, 2]
    assert journal.states["tracked-000001"] == "done"


def test_a_throttle_that_lasts_leaves_the_rest_for_the_next_run(bench: Bench) -> None:
    """Given up after the last attempt: said how many, sent to just those by the next run, in another process."""
    mailing = ready(bench, people(0, 60), people(60, 70))
    applied, journal = mailing.apply(), Journal()
    throttle(bench, range(5, 15), ATTEMPTS)
    with pytest.raises(ProviderError, match=r"10 of 50 messages of tracked-000001 .*ACCOUNT_THROTTLED"):
        mailing.release(applied, journal)
    assert entries(bench) == [50, 10, 10, 10, 10]
    assert (len(mails(bench)), begun(journal)) == (40, set())
    again = replace(mailing, connector=bench.connector()).release(applied, journal)
    assert entries(bench)[5:] == [10, 10, 10]
    assert (again.accepted_tracked, again.accepted_untracked) == (20, 10)
    assert len(mails(bench)) == 70


def test_a_quota_that_is_used_up_stops_at_once(bench: Bench) -> None:
    """What does not pass in seconds is not tried again in this run; the next one, a day later, sends the rest."""
    mailing = ready(bench, people(0, 60))
    applied, journal = mailing.apply(), Journal()
    throttle(bench, range(48, 50), 1, "ACCOUNT_DAILY_QUOTA_EXCEEDED")
    with pytest.raises(ProviderError, match=r"2 of 50 .*ACCOUNT_DAILY_QUOTA_EXCEEDED"):
        mailing.release(applied, journal)
    assert entries(bench) == [50]
    mailing.release(applied, journal)
    assert entries(bench) == [50, 2, 10]
    assert len(mails(bench)) == 60


def test_a_call_of_which_nothing_was_accepted_stops_the_run(bench: Bench) -> None:
    """Nothing was accepted: the part is as if it had never been tried."""
    mailing = ready(bench, people(0, 3), people(3, 6))
    applied, journal = mailing.apply(), Journal()
    throttle(bench, range(3), 1, "ACCOUNT_SENDING_PAUSED")
    with pytest.raises(ProviderError, match=r"3 of 3 .*ACCOUNT_SENDING_PAUSED"):
        mailing.release(applied, journal)
    assert len(sent(bench)) == 1
    assert "done" not in journal.states.values()
    mailing.release(applied, journal)
    assert len(mails(bench)) == 6


@pytest.mark.parametrize("fault", ["cut", (500, {})])
def test_a_repetition_without_a_clear_answer_is_ambiguous_for_just_those(bench: Bench, fault: Any) -> None:  # noqa: ANN401 - see Wire
    """The call with the rest is lost: the part is in doubt, and those who had got the mail do not get it again."""
    mailing = ready(bench, people(0, 50))
    applied, journal = mailing.apply(), Journal()
    throttle(bench, range(5, 15), 1)
    bench.wire.faults[BULK] = [None, fault]
    with pytest.raises(AmbiguousOutcome):
        mailing.release(applied, journal)
    assert begun(journal) == {"tracked-000001"}
    (journal.done if fault == "cut" else journal.failed)("tracked-000001")
    mailing.release(applied, journal)
    assert entries(bench) == [50, 10] + ([] if fault == "cut" else [10])
    assert len(mails(bench)) == 50


def test_who_got_the_mail_and_then_withdraws_gets_no_second_one(bench: Bench) -> None:
    """Between two runs somebody moves from the part that was accepted by halves to a later, untracked one."""
    mailing = ready(bench, people(0, 50), people(50, 60))
    applied, journal = mailing.apply(), Journal()
    throttle(bench, range(40, 50), ATTEMPTS)
    with pytest.raises(ProviderError):
        mailing.release(applied, journal)
    moved = people(39, 41)  # 39 has got the mail, 40 has not
    rest = [each for each in people(0, 50) if each not in moved]
    later = [*parts_of(rest, people(50, 60)), *parts_of((), moved, late="-late")]
    report = mailing.release(applied, journal, later)
    assert (report.accepted_tracked, report.accepted_untracked) == (9, 11)
    found = mails(bench)
    assert len(found) == 60
    assert "/open/" not in found[address(40)]


def test_a_crash_while_looking_who_got_it_does_no_harm(bench: Bench) -> None:
    """A note that was begun when the process died means that nobody got the mail by it."""
    mailing = ready(bench, people(0, 50))
    applied, journal = mailing.apply(), Journal()
    throttle(bench, range(40, 50), ATTEMPTS)
    with pytest.raises(ProviderError):
        mailing.release(applied, journal)
    journal.states["+" + recipient(45).hex()] = "begun"
    mailing.release(applied, journal)
    assert len(mails(bench)) == 50
    assert begun(journal) == set()


def test_refused_and_throttled_in_one_call(bench: Bench) -> None:
    """The refused recipient is reported by the run that ends the part, and nobody waits for it."""
    mailing = ready(bench, people(0, 10))
    applied, journal = mailing.apply(), Journal()
    bench.simulator.sending.refused = {address(0)}
    throttle(bench, range(5, 7), ATTEMPTS)
    with pytest.raises(ProviderError, match="2 of 10"):
        mailing.release(applied, journal)
    report = mailing.release(applied, journal)
    assert report.refused == {recipient(0)}
    assert mails(bench).keys() == {address(n) for n in range(1, 10)}


def test_a_failure_that_lasts_is_the_recipients_own_unless_it_is_everybodys(bench: Bench) -> None:
    """FAILED says not whose fault it is: one among many is refused at last; a whole part of it stops the run."""
    mailing = ready(bench, people(0, 3), people(3, 5), Mechanism.PROVIDER)
    applied, journal = mailing.apply(), Journal()
    throttle(bench, range(2, 3), ATTEMPTS, "FAILED")
    report = mailing.release(applied, journal, mailing.parts[:1])
    assert (report.accepted_tracked, report.refused) == (2, frozenset({recipient(2)}))
    throttle(bench, range(3, 5), ATTEMPTS, "FAILED")
    with pytest.raises(ProviderError, match="2 of 2"):
        mailing.release(applied, journal)
    assert journal.states["untracked-000001"] == "failed"


def test_errors_say_nothing_about_people(bench: Bench) -> None:
    """No address, and no pseudonym, in what a release that failed says."""
    mailing = ready(bench, people(0, 50))
    applied, journal = mailing.apply(), Journal()
    throttle(bench, range(5, 15), ATTEMPTS)
    with pytest.raises(PixelproofError) as caught:
        mailing.release(applied, journal)
    assert "example.org" not in str(caught.value)
    assert recipient(5).hex() not in str(caught.value)


def test_the_real_journal_carries_it(bench: Bench, tmp_path: Path) -> None:
    """With the journal on disk: given up, run again by another process, and nobody got two mails."""
    mailing = ready(bench, people(0, 60))
    applied = mailing.apply()
    throttle(bench, range(5, 15), ATTEMPTS)
    for expected in (40, 60):
        database = Database(tmp_path / "journal.sqlite3", mailings.SCHEMA)
        store = mailings.SqliteMailings(database)
        _run(mailing, store, applied, fails=expected == 40)
        assert store.started("spring-2026")
        database.close()
        assert len(mails(bench)) == expected


def _run(mailing: Mailing, store: mailings.SqliteMailings, applied: Any, *, fails: bool) -> None:  # noqa: ANN401 - AppliedPlan
    journal = store.journal("spring-2026")
    connector, campaign = mailing.connector, mailing.plan.campaign
    if not fails:
        connector.release(campaign, applied, mailing.parts, journal)
        return
    with pytest.raises(ProviderError):
        connector.release(campaign, applied, mailing.parts, journal)
