"""Import jobs of SES through faults, cut off, and beside other calls: against the simulator, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from connectors.ses import imports
from connectors.simulators.ses import BUCKET
from connectors.simulators.ses.imports import Job
from core.errors import ProviderError
from core.model import RecipientId
from tests.contract.ses_bench import (
    JOB,
    LISTING,
    MANY,
    OBJECT,
    PERFORMANCE,
    PROFILING,
    PURPOSES,
    Bench,
    address,
    benched,
    change,
    dropping,
    everybody,
    in_list,
    members,
    recipient,
    synced,
)

LASTING: tuple[object, ...] = ((403, {}), (500, {}), "cut")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A served simulator with an account."""
    with benched(tmp_path) as ready:
        yield ready


# Faults on the way


@pytest.mark.parametrize("fault", [(429, {"Retry-After": "3"}), (500, {}), (503, {}), "cut"])
@pytest.mark.parametrize(
    "line", [OBJECT, JOB, "GET /v2/email/import-jobs", "import-jobs/list", LISTING, f"DELETE /{BUCKET}/", "GET /v2"]
)
def test_a_fault_that_passes_changes_nothing(bench: Bench, line: str, fault: object) -> None:
    """Failed and not done, or failed but done: SES ends up with what is desired, and the bucket empty."""
    in_list(bench, 1, topics={"sports": "OPT_OUT"}, unsubscribed=True, attributes='{"name": "Jo"}')
    connector = bench.connector()
    bench.wire.faults[line] = [fault]
    report = synced(connector, [change(n, PERFORMANCE) for n in range(MANY)])
    assert (report.confirmed, report.rejected) == (everybody(), frozenset())
    assert report.api_calls == len(bench.wire.requests)
    assert members(connector) == {address(n): {PERFORMANCE} for n in range(MANY)}
    assert (bench.held(1).unsubscribed, json.loads(bench.held(1).attributes or "")["name"]) == (True, "Jo")
    assert bench.simulator.imports.objects == {}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (line, fault)
        for line in (OBJECT, JOB, "GET /v2/email/import-jobs", "import-jobs/list", LISTING)
        for fault in LASTING
        if (line, fault) != (OBJECT, "cut")  # S3's answer has no body that could be missed
    ],
)
def test_a_fault_that_stays_is_an_error_and_the_next_run_finishes(bench: Bench, line: str, fault: object) -> None:
    """Whatever was done before, nobody was confirmed, and a run over the same people comes to the desired state."""
    in_list(bench, 1, topics={}, unsubscribed=True, attributes='{"name": "Jo"}')
    bench.wire.faults[line] = [fault] * 5
    with pytest.raises(ProviderError) as error:
        synced(bench.connector(), [change(n, PERFORMANCE) for n in range(MANY)])
    assert "example.org" not in str(error.value)
    bench.wire.faults.clear()
    connector = bench.connector()
    report = synced(connector, [change(n, PERFORMANCE, doubtful=True) for n in range(MANY)])
    assert report.confirmed == everybody()
    assert members(connector) == {address(n): {PERFORMANCE} for n in range(MANY)}
    assert (bench.held(1).unsubscribed, json.loads(bench.held(1).attributes or "")["name"]) == (True, "Jo")


def test_an_object_that_cannot_be_deleted_is_an_error_after_all_is_reported(bench: Bench) -> None:
    """What SES took is confirmed first; then the addresses that were left in the bucket are spoken of."""
    bench.wire.faults[f"DELETE /{BUCKET}/"] = [(403, {})] * 9
    stream = bench.connector().sync([change(n, PERFORMANCE) for n in range(MANY)])
    told = frozenset[RecipientId]().union(*(report.confirmed for report in islice(stream, 1)))
    assert told == everybody()
    with pytest.raises(ProviderError, match=r"delete what is under pixelproof/.*import_bucket") as error:
        next(stream)
    assert "example.org" not in str(error.value)
    (name,) = bench.simulator.imports.objects
    assert name.startswith("pixelproof/")
    assert "example" not in name


def test_an_object_is_deleted_at_the_second_attempt(bench: Bench) -> None:
    """What could not be deleted after the job is deleted after the reading."""
    bench.wire.faults[f"DELETE /{BUCKET}/"] = [(403, {})]
    assert synced(bench.connector(), [change(n, PERFORMANCE) for n in range(MANY)]).confirmed == everybody()
    assert bench.simulator.imports.objects == {}


def test_a_job_that_failed_and_whose_object_stays_says_both(bench: Bench) -> None:
    """The first failure does not hide the second."""
    bench.simulator.imports.bucket = "elsewhere"
    bench.wire.faults[f"DELETE /{BUCKET}/"] = [(403, {})] * 9
    with pytest.raises(ProviderError, match=r"FAILED.*besides.*could not be deleted"):
        synced(bench.connector(), [change(n, PERFORMANCE) for n in range(MANY)])


# Cut off


class Killed(BaseException):
    """The process ends here."""


def killed(*_: object) -> None:
    """Sleeps its last."""
    raise Killed


def test_a_run_that_was_killed_before_the_reading_sends_nothing_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reading before the import tells who stands already: reported, and not imported once more."""
    with monkeypatch.context() as dying:
        dying.setattr(imports.Imports, "settle", killed)
        with pytest.raises(Killed):
            synced(bench.connector(), [change(n, *([PERFORMANCE] * (n % 2))) for n in range(MANY)])
    bench.wire.requests.clear()
    again = [change(n, *([PERFORMANCE] * (n % 2)), doubtful=True) for n in range(MANY)]
    report = synced(bench.connector(), again)
    assert (report.confirmed, report.rejected) == (everybody(), frozenset())
    assert bench.wire.lines("PUT ") == []
    assert JOB not in [line for line, _ in bench.wire.requests]
    assert report.api_calls < 10


def test_who_stands_with_older_fields_is_sent_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics alone do not tell that the fields are those of now: the moment of the change is looked for."""
    connector = bench.connector(foreign_attributes="replace")
    synced(connector, [change(n, PERFORMANCE) for n in range(MANY)])
    changes = [change(n, PERFORMANCE, doubtful=True) for n in range(MANY)]
    renewed = [replace(c, contact=replace(c.contact, pixel_path="o/new")) for c in changes]
    with monkeypatch.context() as dying:
        dying.setattr(imports.Imports, "settle", killed)
        dropping(bench, dying, *range(0, MANY, 3))
        with pytest.raises(Killed):
            synced(connector, renewed)
    assert sum("o/new" in (bench.held(n).attributes or "") for n in range(MANY)) == 20
    imported: list[int] = []
    run = bench.simulator.imports._run
    monkeypatch.setattr(bench.simulator.imports, "_run", _counting(bench, run, imported))
    assert synced(bench.connector(foreign_attributes="replace"), renewed).confirmed == everybody()
    assert all("o/new" in (bench.held(n).attributes or "") for n in range(MANY))
    assert imported == [10]


def _counting(bench: Bench, run: Callable[[Job], None], counts: list[int]) -> Callable[[Job], None]:
    def counted(job: Job) -> None:
        counts.extend(len(rows.splitlines()) for rows in bench.simulator.imports.objects.values())
        run(job)

    return counted


def test_a_job_that_outlives_its_run_does_not_undo_the_next_one(bench: Bench) -> None:
    """Its rows are older: all is sent again though it stands, and the list is read when no job is running any more."""
    connector = bench.connector()
    synced(connector, [change(n, *PURPOSES) for n in range(MANY)])
    with pytest.raises(Killed):
        synced(bench.connector(sleep=killed), [change(n, PERFORMANCE, confirmed=PURPOSES) for n in range(MANY)])
    (orphan,) = [job for job in bench.simulator.imports.jobs.values() if job.status == "PROCESSING"]
    content = b"\n".join(
        json.dumps(
            {
                "emailAddress": address(n),
                "topicPreferences": [{"topicName": "pixelproof-performance", "subscriptionStatus": "OPT_IN"}],
            }
        ).encode()
        for n in range(MANY)
    )
    bench.simulator.imports.objects[orphan.request["ImportDataSource"]["S3Url"].partition(f"{BUCKET}/")[2]] = content
    orphan.status = "CREATED"
    for number in range(MANY):
        bench.held(number).preferences = dict.fromkeys(bench.held(number).preferences, "OPT_OUT")
    withdrawn = [change(n, confirmed=PURPOSES, doubtful=True) for n in range(MANY)]
    report = synced(bench.connector(), withdrawn)
    assert orphan.status == "COMPLETED"
    held = members(connector)
    assert report.confirmed.isdisjoint(recipient(n) for n in range(MANY) if address(n) in held)
    assert len(report.confirmed) + len(report.rejected) == MANY
    assert synced(bench.connector(), withdrawn).rejected == frozenset()
    assert members(connector) == {}


# Beside a running job


def test_a_withdrawal_during_a_job_has_the_last_word(bench: Bench) -> None:
    """It is at SES at once, and again after the job, whose row is older; until then nobody takes it for done."""
    told: list[tuple[frozenset[RecipientId], frozenset[RecipientId]]] = []

    def sleep(_seconds: float) -> None:
        if not told and bench.simulator.imports.jobs:
            report = synced(connector, [change(5, confirmed=PURPOSES)])
            told.append((report.confirmed, report.rejected))

    connector = bench.connector(sleep=sleep)
    synced(connector, [change(5, PROFILING)])
    report = synced(connector, [change(n, *PURPOSES) for n in range(MANY)])
    assert told == [(frozenset(), everybody(5))]
    assert (report.confirmed, report.rejected) == (everybody() - everybody(5), everybody(5))
    assert address(5) not in members(connector)


def test_a_withdrawal_before_a_job_keeps_the_older_row_from_being_sent(bench: Bench) -> None:
    """What was decided on before is not sent after: neither what waits already, nor what arrives later."""
    connector = bench.connector()
    synced(connector, [change(n, PROFILING) for n in (5, 25)])

    def stream() -> Iterator[Any]:
        for n in range(MANY):
            if n == 20:
                report = synced(connector, [change(5, confirmed=PURPOSES), change(25, confirmed=PURPOSES)])
                assert report.confirmed == everybody(5, 25)
            yield change(n, *PURPOSES)

    report = synced(connector, stream())
    assert (report.confirmed, report.rejected) == (everybody() - everybody(5, 25), everybody(5, 25))
    assert members(connector).keys() == {address(n) for n in range(MANY) if n not in {5, 25}}


def test_an_erasure_during_a_job_is_not_taken_for_done(bench: Bench) -> None:
    """The job may bring the contact back, so it is to be erased once more."""
    pending: list[frozenset[RecipientId]] = []

    def sleep(_seconds: float) -> None:
        if not pending and bench.simulator.imports.jobs:
            pending.append(connector.erase([change(5).contact]).pending)

    connector = bench.connector(sleep=sleep)
    synced(connector, [change(n, *PURPOSES) for n in range(MANY)])
    assert pending == [everybody(5)]
    assert connector.erase([change(5).contact]).erased == everybody(5)
