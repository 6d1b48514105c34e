"""Reports: people counted once, small groups left out with all that would give them away, memory that does not grow."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import report_sections as sections
from cli.charts import bars, columns
from cli.paper import Paper, rendered, span
from core.errors import InputError, StoreError
from core.ledger import Recording
from core.model import (
    Action,
    Campaign,
    CampaignId,
    CampaignKind,
    ConsentEvent,
    Mechanism,
    PixelMode,
    PurposeId,
    RecipientId,
    State,
)
from core.records import Confirmed
from core.reporting import (
    LARGE,
    MOST_SOURCES,
    OTHER_SOURCES,
    Answers,
    Numbers,
    Period,
    Rate,
    count,
    folded,
    hidden,
    sum_of,
    week,
)
from core.stores.statistics import SqliteStatistics
from tests.embedded import database_of
from tests.mailings_in_store import applied
from tests.unit.conftest import ADA, START
from webhooks.assembly import Services

Wait = Callable[..., datetime]
Record = Callable[..., int]
Event = Callable[..., ConsentEvent]
PERFORMANCE, DELIVERABILITY = PurposeId("performance"), PurposeId("deliverability")
EVER = Period(START - timedelta(days=400), START + timedelta(days=400))


def person(number: int) -> RecipientId:
    """Somebody."""
    return RecipientId(sha256(str(number).encode()).digest()[:16])


def counted(services: Services, period: Period = EVER) -> Numbers:
    """What a report counts."""
    return count(services.store, SqliteStatistics(database_of(services)), services.policy, period, services.now())


# Periods


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026-10", (2026, 10, 1), (2026, 11, 1)),
        ("2026-10..2026-11", (2026, 10, 1), (2026, 12, 1)),
        ("2025-12", (2025, 12, 1), (2026, 1, 1)),
        ("2024-02-28..2024-02-29", (2024, 2, 28), (2024, 3, 1)),
        ("2026-12-31", (2026, 12, 31), (2027, 1, 1)),
        ("2026-10..2026-11-15", (2026, 10, 1), (2026, 11, 16)),
    ],
)
def test_a_period_has_both_its_ends(text: str, first: tuple[int, int, int], last: tuple[int, int, int]) -> None:
    """In UTC, to the instant."""
    period = Period.parse(text)
    assert (period.start, period.end) == (datetime(*first, tzinfo=UTC), datetime(*last, tzinfo=UTC))
    assert period.start in period
    assert period.end not in period
    assert period.end - timedelta(microseconds=1) in period


@pytest.mark.parametrize(
    "text", ["", "..", "2026", "2026-13", "2026-02-30", "2026-11..2026-10", "2026-10..", "9999-12", "20261001", "a..b"]
)
def test_what_is_no_period_is_refused(text: str) -> None:
    """With the notation that is understood."""
    with pytest.raises(InputError, match="--period"):
        Period.parse(text)


# Counting


def test_people_are_counted_once_a_week(services: Services, record: Record, wait: Wait) -> None:
    """By purpose, source and week; who answers otherwise counts there too."""
    record(Action.GIVEN, purposes=("performance", "deliverability"), source="form")
    record(Action.GIVEN, source="form")
    record(Action.REFUSED, source="form")
    record(Action.GIVEN, source="page", recipient=person(1))
    wait(weeks=1)
    record(Action.GIVEN, source="form")
    numbers = counted(services)
    assert numbers.by(PERFORMANCE, 1) == {"form": Answers(2, 1), "page": Answers(1, 0)}
    assert numbers.by(PERFORMANCE, 2) == {"2026-W45": Answers(2, 1), "2026-W46": Answers(1, 0)}
    assert numbers.of(DELIVERABILITY) == Answers(1, 0)
    assert (numbers.people, numbers.entries) == (2, 5)
    assert numbers.standing == {
        (PERFORMANCE, State.GIVEN): 2,
        (DELIVERABILITY, State.GIVEN): 1,
    }


def test_it_counts_when_it_happened(services: Services, event: Event) -> None:
    """And when it was received where nobody knows; what lies outside of the period does not count, standing does."""
    at = START - timedelta(weeks=10)
    for number, occurred_at in enumerate([at, None, START]):
        services.ledger.record([Recording(event(Action.GIVEN, recipient=person(number), occurred_at=occurred_at))])
    period = Period(at, at + timedelta(weeks=1))
    assert counted(services, period).by(PERFORMANCE, 2) == {week(at): Answers(1, 0)}
    assert counted(services, Period(START, START + timedelta(seconds=1))).of(PERFORMANCE) == Answers(2, 0)
    assert counted(services, period).standing[PERFORMANCE, State.GIVEN] == 3


def test_a_claim_is_no_answer(services: Services, record: Record) -> None:
    """A partner's word is counted as that; ends and requests are no answers either."""
    record(Action.GIVEN, partner="Leads")
    record(Action.REQUESTED, source="campaign")
    record(Action.WITHDRAWN, source="sendgrid", recipient=person(2))
    numbers = counted(services)
    assert numbers.claims == {PERFORMANCE: 1}
    assert numbers.of(PERFORMANCE) == Answers()
    assert numbers.ended == {("sendgrid", "2026-W45"): 1}


def test_a_rejected_claim_ends_nothing(services: Services, record: Record) -> None:
    """It is neither an answer nor a withdrawal, nor a claim once more."""
    record(Action.GIVEN, partner="Leads")
    record(Action.INVALIDATED, partner="Leads", source="reconcile", occurred_at=None)
    numbers = counted(services)
    assert (numbers.answers, numbers.ended) == ({}, {})
    assert numbers.claims == {PERFORMANCE: 1}


def test_what_was_erased_is_not_counted(services: Services, record: Record) -> None:
    """Neither as an answer nor as damage; the entry is one all the same."""
    record(Action.GIVEN)
    services.store.erase_bodies(ADA)
    record(Action.WITHDRAWN)
    numbers = counted(services)
    assert (numbers.entries, numbers.people, sum(numbers.ended.values())) == (2, 1, 1)
    assert numbers.answers == {}


def test_delays_are_those_of_each_person_and_esp(services: Services, record: Record, wait: Wait) -> None:
    """Of what was received in the period; who was never seen to be taken out is in no group."""
    for number in range(4):
        record(Action.GIVEN, recipient=person(number))
        record(Action.WITHDRAWN, recipient=person(number))
    for number, provider in ((0, "ses"), (1, "ses"), (1, "mailchimp"), (3, "ses")):
        wait(seconds=4 if number < 3 else 4_000)
        mark = services.records.doubt(provider, {person(number): frozenset({PERFORMANCE})})
        services.records.settle(provider, {person(number): Confirmed()}, mark)
    services.records.doubt("ses", {person(2): frozenset({PERFORMANCE})})
    delays = counted(services).delays
    assert {name: (d.total, d.longest) for name, d in delays.items()} == {"ses": (3, 4012.0), "mailchimp": (1, 12.0)}
    assert delays["ses"].counts == [0, 2, 0, 0, 0, 1, 0, 0]
    assert delays["mailchimp"].counts == [0, 0, 1, 0, 0, 0, 0, 0]
    assert counted(services, Period(START + timedelta(days=1), EVER.end)).delays == {}
    statistics = SqliteStatistics(database_of(services))
    assert (statistics.in_doubt("ses"), statistics.in_doubt("mailchimp")) == (1, 0)


def test_campaigns_are_those_released_in_the_period(services: Services, wait: Wait) -> None:
    """By the ledger; one that was merely applied is not among them, and none is a person."""
    for name, stage in (("late", "released"), ("early", "released"), ("waiting", "applied")):
        campaign = Campaign(CampaignId(name), "ses", CampaignKind.REQUESTED, (PERFORMANCE,), Mechanism.HOSTED)
        record = applied(services, campaign, {ADA: PixelMode.NONE})
        wait(days=-1 if name == "early" else 1)
        services.ledger.record_campaign(record, stage, "00" * 32)  # type: ignore[arg-type]
    numbers = counted(services)
    assert [body.campaign for body in numbers.campaigns] == ["early", "late"]
    assert (numbers.people, numbers.entries) == (0, 3)
    assert counted(services, Period(START + timedelta(hours=1), EVER.end)).campaigns[0].campaign == "late"


def test_a_damaged_ledger_gives_no_numbers(services: Services, record: Record) -> None:
    """Rather than wrong ones."""
    record(Action.GIVEN)
    with database_of(services).transaction() as connection:
        connection.execute("UPDATE entry SET body=CAST('{}' AS BLOB)")
    with pytest.raises(StoreError):
        counted(services)


def test_sources_without_number_are_counted_together(services: Services, event: Event) -> None:
    """So that memory does not grow with what imports name."""
    recordings = [
        Recording(event(Action.GIVEN, recipient=person(number), source=f"form {number:04}"))
        for number in range(MOST_SOURCES + 50)
    ]
    services.ledger.record(recordings)
    sources = counted(services).by(PERFORMANCE, 1)
    assert len(sources) == MOST_SOURCES + 1
    assert sources[OTHER_SOURCES] == Answers(50, 0)


def test_memory_does_not_grow_with_the_ledger(services: Services, event: Event) -> None:
    """Ten times as many people cost not even twice as much at the peak."""

    def peak() -> int:
        counted(services)  # what is made once is there
        tracemalloc.start()
        counted(services)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    def more(first: int, last: int) -> None:
        services.ledger.record([Recording(event(Action.GIVEN, recipient=person(n))) for n in range(first, last)])
        everybody = [person(n) for n in range(first, last)]
        mark = services.records.doubt("ses", dict.fromkeys(everybody, frozenset({PERFORMANCE})))
        services.records.settle("ses", dict.fromkeys(everybody, Confirmed()), mark)

    more(0, 1_000)
    few = peak()
    more(1_000, 10_000)
    assert peak() < 2 * few


# Small groups


@pytest.mark.parametrize(
    ("answers", "rate"),
    [
        (Answers(), Rate()),
        (Answers(5, 4), Rate()),
        (Answers(10, 0), Rate(10, 10, 0, 1.0)),
        (Answers(0, 10), Rate(10, 0, 10, 0.0)),
        (Answers(10, 10), Rate(20, 10, 10, 0.5)),
        (Answers(9, 10), Rate(19)),
        (Answers(11, 1), Rate(12)),
        (Answers(10 * LARGE - 2, 1), Rate(10 * LARGE - 1)),
        (Answers(10 * LARGE - 1, 1), Rate(10 * LARGE, rate=0.99)),
        (Answers(993, 7), Rate(1_000, rate=0.99)),
    ],
)
def test_what_may_be_told_of_a_group(answers: Answers, rate: Rate) -> None:
    """No number from 1 to 9, and none from which one follows."""
    assert Rate.of(answers, 10) == rate


GROUPS = st.dictionaries(
    st.text("abcdef", min_size=1), st.builds(Answers, st.integers(0, 30), st.integers(0, 30)), max_size=8
)


@given(GROUPS, st.integers(1, 20))
def test_no_sum_gives_a_small_group_away(groups: dict[str, Answers], smallest: int) -> None:
    """Whoever knows the sum and all that is told learns of no group that is too small, unless everybody is one."""
    total = sum_of(groups.values())
    told = folded(groups, smallest, "together")
    assert sum_of(told.values()) == total
    if total.people >= smallest:
        assert all(answers.people >= smallest for answers in told.values())
    unseen = hidden(groups, smallest)
    assert {name for name, answers in groups.items() if answers.people < smallest} <= unseen
    missing = sum_of(groups[name] for name in unseen)
    if unseen and len(unseen) < len(groups):
        assert missing.people >= smallest or all(name in unseen for name in groups)


def test_the_page_tells_no_small_number(services: Services, event: Event) -> None:
    """Neither of answers nor of withdrawals, states, delays."""
    recordings = [
        Recording(
            event(Action.GIVEN if n % 2 else Action.REFUSED, recipient=person(n), source="form" if n < 33 else "rare")
        )
        for n in range(36)
    ]
    recordings += [Recording(event(Action.WITHDRAWN, recipient=person(n), source="ses")) for n in range(7)]
    services.ledger.record(recordings)
    numbers = counted(services)
    told = [
        sections.consents(numbers, (PERFORMANCE, DELIVERABILITY), 10),
        sections.standing(numbers, (PERFORMANCE, DELIVERABILITY), 10),
        sections.withdrawals(numbers, {"ses": 3}, 10),
    ]
    cells = [cell for section in told for table in section.tables for row in table.rows for cell in row[1:]]
    assert {cell for cell in cells if re.fullmatch(r"[1-9]", cell)} == set()
    (by_source,) = [table for table in told[0].tables if table.caption == "performance, by source"]
    assert [(row[0], row[1]) for row in by_source.rows] == [(sections.TOGETHER, "36")]
    assert "under 10" in cells


def test_names_on_the_page_are_text(services: Services, event: Event) -> None:
    """Sources come from imports."""
    bad = '"><script>x</script>'
    services.ledger.record([Recording(event(Action.GIVEN, recipient=person(n), source=bad)) for n in range(12)])
    page = rendered(Paper("t", "l", [sections.consents(counted(services), (PERFORMANCE,), 10)]))
    assert "<script" not in page
    assert page.count("<svg") == 2


def test_charts_have_a_name_and_escape() -> None:
    """Read aloud, a chart says what it is of; labels are text."""
    for chart in (bars("<b>", [("<i>", 0.5, "<u>"), ("none", None, "not told")]), columns("<b>", [("<i>", None, "")])):
        assert 'role="img"' in chart
        assert "<title>&lt;b&gt;</title>" in chart
        assert not re.search(r"<[biu]>", chart)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "under a second"), (1, "1 s"), (75, "1 min 15 s"), (3_600, "1 h"), (93_784, "1 d 2 h")]
)
def test_spans_are_told_in_two_units(seconds: float, words: str) -> None:
    """The larger first."""
    assert span(seconds) == words
