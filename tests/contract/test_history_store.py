"""What is noted of reconciliations, audits and incidents, in every kind of store: SQLite, and DynamoDB servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core.errors import StoreError
from core.incidents import Incident, IncidentKind
from core.model import PurposeId, RecipientId
from core.proofs.history import Audit, Outcome, Run
from core.stores.dynamodb.incidents import DynamoIncidents
from core.stores.dynamodb.proof_history import LARGEST_SAMPLE, DynamoProofHistory
from tests.aws_ground import Faults, Ground, Servers
from tests.contract.ledger_bench import START, at_once
from tests.contract.stores_bench import KINDS, Kept, on_dynamodb, stores

NOW = START.replace(microsecond=0)
SAMPLE = [
    (RecipientId(bytes([n]) * 16), PurposeId(purpose)) for n in (3, 1) for purpose in ("profiling", "deliverability")
]
AUDIT = Audit(0, "Leads & Cie", NOW, 4, 2**70, 20, SAMPLE)
AUTUMN, WINTER = "campaign:autumn", "campaign:winter"


@pytest.fixture(params=KINDS)
def kept(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kept]:
    """Nothing noted, in each kind of store in turn."""
    with stores(request.param, servers, tmp_path) as made:
        yield made


# Reconciliations and audits


def test_nothing_noted_yet(kept: Kept) -> None:
    """No reconciliation, no audit, no incident."""
    assert (kept.history.runs("A"), kept.history.audits(), kept.history.audits("A")) == ([], [], [])
    assert (kept.incidents.listed(), kept.incidents.listed(closed=True)) == ([], [])
    assert not kept.history.close_audit(1, NOW, Outcome(1, 0))
    assert not kept.incidents.close(1, NOW)


def test_reconciliations_are_listed_by_partner_the_oldest_first(kept: Kept) -> None:
    """In the order in which they were noted, with all that was found."""
    runs = [Run("A", NOW - timedelta(days=n), 10 * n, 9, 8, 7, {"proven": n, "no_record": 0}) for n in range(12)]
    for run in runs:
        kept.history.add_run(run)
        kept.history.add_run(replace(run, partner="A b", findings={}))
    assert kept.history.runs("A") == runs
    assert [run.findings for run in kept.another().history.runs("A b")] == [{}] * 12
    assert kept.history.runs("a") == []


def test_the_same_sample_is_one_audit(kept: Kept) -> None:
    """By partner, seed, size and sample, whenever it is drawn; anything else is another one."""
    first = kept.history.add_audit(replace(AUDIT, seed=7))
    assert first == replace(AUDIT, id=first.id, seed=7)
    assert kept.history.add_audit(replace(AUDIT, seed=7, at=NOW + timedelta(days=1), population=99)) == first
    changes: list[dict[str, object]] = [
        {"partner": "B"},
        {"seed": 8},
        {"size": 5},
        {"sample": SAMPLE[::-1]},
        {"sample": []},
    ]
    others = [kept.history.add_audit(replace(AUDIT, **{"seed": 7, **change})) for change in changes]  # type: ignore[arg-type]
    numbers = [each.id for each in (first, *others)]
    assert numbers == sorted(set(numbers))
    assert kept.history.audits() == [first, *others]
    assert kept.history.audits("B") == [others[0]]
    assert [[*each.sample] for each in kept.history.audits()][4:] == [SAMPLE[::-1], []]


def test_an_outcome_is_noted_once(kept: Kept) -> None:
    """Of the audit that it belongs to; the sample that is drawn again finds it."""
    audit = replace(AUDIT, seed=7)
    first, other = kept.history.add_audit(audit), kept.history.add_audit(replace(audit, seed=8))
    assert kept.history.close_audit(first.id, NOW, Outcome(3, 1, "letter"))
    assert not kept.history.close_audit(first.id, NOW + timedelta(days=1), Outcome(0, 4))
    assert not kept.history.close_audit(99, NOW, Outcome(0, 4))
    done = replace(first, closed_at=NOW, upheld=3, rejected=1, reference="letter")
    assert kept.history.audits() == [done, other]
    assert kept.history.add_audit(audit) == done


def test_a_sample_drawn_by_two_at_once_is_one_audit(kept: Kept) -> None:
    """And its outcome is noted by one of them."""
    found: list[Audit] = []
    closed: list[bool] = []
    work = lambda: found.append(kept.history.add_audit(replace(AUDIT, seed=7)))  # noqa: E731 - twice the same
    assert at_once(work, work, work) == [None] * 3
    assert found == [*kept.history.audits()] * 3
    close = lambda: closed.append(kept.history.close_audit(found[0].id, NOW, Outcome(4, 0)))  # noqa: E731 - likewise
    assert at_once(close, close) == [None] * 2
    assert sorted(closed) == [False, True]


# Incidents


def opened(kept: Kept, scope: str = AUTUMN, kind: IncidentKind = IncidentKind.WITHDRAWN, by: int = 3) -> None:
    """So many opens were counted, and make an incident."""
    with kept.ledger.batch() as batch:
        batch.open_incident(Incident(0, scope, kind, kept.clock(), batch.count(scope, kind, by)))


def test_incidents_are_listed_the_oldest_first(kept: Kept) -> None:
    """Those that are open, or all of them."""
    for scope, kind in (
        (WINTER, IncidentKind.UNTRACKED),
        (AUTUMN, IncidentKind.WITHDRAWN),
        (AUTUMN, IncidentKind.UNTRACKED),
    ):
        opened(kept, scope, kind)
    first, second, third = kept.incidents.listed()
    assert first == Incident(first.id, WINTER, IncidentKind.UNTRACKED, NOW, 3)
    assert first.id < second.id < third.id
    assert kept.incidents.close(second.id, kept.clock())
    assert kept.incidents.listed() == [first, third]
    assert kept.incidents.listed(closed=True) == [first, replace(second, closed_at=NOW), third]


def test_a_closed_incident_counts_anew_from_where_the_counter_stands(kept: Kept) -> None:
    """Not from where it was opened; only once; and counters of other scopes and kinds do not matter."""
    opened(kept)
    (one,) = kept.incidents.listed()
    for _ in range(5):
        with kept.ledger.batch() as batch:
            batch.count(AUTUMN, IncidentKind.WITHDRAWN, 2)
            batch.count(AUTUMN, IncidentKind.UNTRACKED, 100)
            batch.count(WINTER, IncidentKind.WITHDRAWN, 100)
    closed = [
        kept.incidents.close(one.id, kept.clock()),
        kept.incidents.close(one.id, kept.clock() + timedelta(days=1)),
    ]
    assert closed == [True, False]
    assert kept.incidents.listed(closed=True) == [replace(one, total=13, closed_at=NOW)]
    with kept.ledger.batch() as batch:
        last = batch.last_incident(AUTUMN, IncidentKind.WITHDRAWN)
        assert last == replace(one, total=13, closed_at=NOW)
        assert batch.count(AUTUMN, IncidentKind.WITHDRAWN) == 14


def test_an_incident_without_a_counter_keeps_its_total(kept: Kept) -> None:
    """Retention deletes counters of campaigns that are long past."""
    with kept.ledger.batch() as batch:
        batch.open_incident(Incident(0, AUTUMN, IncidentKind.WITHDRAWN, kept.clock(), 9))
    (one,) = kept.incidents.listed()
    assert kept.incidents.close(one.id, kept.clock())
    assert kept.incidents.listed(closed=True)[0].total == 9


def test_one_of_two_who_close_an_incident_at_once_has_closed_it(kept: Kept) -> None:
    """The other one is told that none is open."""
    opened(kept)
    (one,) = kept.incidents.listed()
    closed: list[bool] = []
    close = lambda: closed.append(kept.incidents.close(one.id, kept.clock()))  # noqa: E731 - twice the same
    assert at_once(close, close) == [None] * 2
    assert sorted(closed) == [False, True]


# On DynamoDB


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_sample_is_noted_or_not_when_the_answer_is_lost(dynamodb: Ground, fault: str) -> None:
    """Either way it can be noted again, and is one audit."""
    history = DynamoProofHistory(dynamodb.client, dynamodb.prefix)
    Faults(dynamodb.client, "TransactWriteItems", fault)
    with pytest.raises(StoreError):
        history.add_audit(AUDIT)
    assert len(history.audits()) == (fault == "after")
    assert history.audits() in ([], [history.add_audit(AUDIT)])
    assert history.audits() == [history.add_audit(AUDIT)]
    assert history.audits()[0].seed == AUDIT.seed


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("what", ["audit", "incident"])
def test_a_closing_is_done_or_not_when_the_answer_is_lost(dynamodb: Ground, what: str, fault: str) -> None:
    """What was done is not said to have failed for good: whoever looks sees it."""
    kept = on_dynamodb(dynamodb)
    opened(kept)
    number = kept.incidents.listed()[0].id if what == "incident" else kept.history.add_audit(AUDIT).id

    def close() -> bool:
        if what == "incident":
            return kept.incidents.close(number, NOW)
        return kept.history.close_audit(number, NOW, Outcome(4, 0))

    Faults(dynamodb.client, "TransactWriteItems", fault)
    with pytest.raises(StoreError):
        close()
    found = kept.incidents.listed(closed=True) if what == "incident" else kept.history.audits()
    assert [each.closed_at for each in found] == [NOW if fault == "after" else None]
    assert close() is (fault == "before")


def test_the_largest_sample_goes_into_an_item(dynamodb: Ground) -> None:
    """And a larger one is refused before anything is written."""
    history = DynamoProofHistory(dynamodb.client, dynamodb.prefix)
    purposes = [PurposeId(f"purpose-number-{n}") for n in range(11)]
    sample = [(RecipientId(n.to_bytes(16)), purposes[n % 11]) for n in range(LARGEST_SAMPLE)]
    assert history.add_audit(replace(AUDIT, sample=sample)).sample == sample
    with pytest.raises(StoreError, match="draw fewer"):
        history.add_audit(replace(AUDIT, sample=[*sample, *SAMPLE]))
    assert len(history.audits()) == 1


def test_a_counter_in_many_shards_is_summed_up(dynamodb: Ground) -> None:
    """Whichever shards a batch wrote."""
    kept = on_dynamodb(dynamodb)
    opened(kept, by=1)
    incidents = DynamoIncidents(dynamodb.client, dynamodb.prefix)
    for shard in range(16):
        incidents.table.update(f"counter#{AUTUMN}", f"{IncidentKind.WITHDRAWN}#{shard:02}", add={"n": 10})
    assert incidents.close(incidents.listed()[0].id, NOW)
    assert incidents.listed(closed=True)[0].total == 161
