"""Many contacts at once through SES's import jobs: against the simulator, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.simulators.ses import BUCKET
from connectors.simulators.ses.imports import Job
from core.errors import ProviderError
from tests.contract.ses_bench import PERFORMANCE, PURPOSES, Bench, address, benched, change, in_list, members


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A served simulator with an account."""
    with benched(tmp_path) as ready:
        yield ready


def test_removals_come_first_and_singly_even_among_many(bench: Bench) -> None:
    """A withdrawal does not wait for an import job."""
    connector = bench.connector()
    connector.sync([change(99, *PURPOSES)])
    bench.wire.requests.clear()
    many = [change(n, PERFORMANCE) for n in range(30)]
    report = connector.sync([*many, change(99, confirmed=PURPOSES)])
    assert len(report.confirmed) == 31
    first, *rest = bench.wire.lines("PUT /v2/email/contact-lists/pixelproof/contacts", "POST /v2/email/import-jobs")
    assert first == f"PUT /v2/email/contact-lists/pixelproof/contacts/{address(99)}"
    assert rest == ["POST /v2/email/import-jobs"]
    assert address(99) not in members(connector)


def test_an_import_resets_no_unsubscription(bench: Bench) -> None:
    """The person's unsubscription and the team's topics survive an import job."""
    in_list(bench, 1, topics={"sports": "OPT_OUT"}, unsubscribed=True, attributes="{}")
    in_list(bench, 2, topics={"sports": "OPT_IN"}, unsubscribed=False, attributes="{}")
    report = bench.connector().sync([change(n, PERFORMANCE) for n in range(1, 40)])
    assert len(report.confirmed) == 39
    assert bench.wire.lines("POST /v2/email/import-jobs")
    first, second = bench.held(1), bench.held(2)
    assert (first.unsubscribed, first.preferences["sports"]) == (True, "OPT_OUT")
    assert (second.unsubscribed, second.preferences["sports"]) == (False, "OPT_IN")


def test_the_other_spelling_of_an_address_keeps_its_unsubscription(bench: Bench) -> None:
    """Somebody who unsubscribed as Jo@ is not signed up again as jo@."""
    in_list(bench, 1, topics={}, unsubscribed=True, attributes="{}")
    assert bench.simulator.contacts.list is not None
    held = bench.simulator.contacts.list.contacts
    held[address(1).upper()] = replace(held.pop(address(1)), address=address(1).upper())
    bench.connector().sync([change(n, PERFORMANCE) for n in range(1, 40)])
    assert bench.held(1).unsubscribed


@pytest.mark.parametrize("reset", [False, True])
def test_an_import_that_did_something_else_confirms_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, reset: bool
) -> None:
    """A job that is completed and wrote nothing, or lost an unsubscription, is seen by reading back."""
    imports = bench.simulator.imports
    connector, run = bench.connector(), imports._run
    connector.sync([change(n) for n in range(30)])
    for number in range(30):
        bench.held(number).unsubscribed = reset

    def ran(job: Job) -> None:
        job.status = "COMPLETED"
        if reset:
            imports.objects = {key: rows.replace(b"true", b"false") for key, rows in imports.objects.items()}
            run(job)

    monkeypatch.setattr(imports, "_run", ran)
    report = connector.sync([change(n, PERFORMANCE) for n in range(30)])
    assert (len(report.confirmed), len(report.rejected)) == (0, 30)


def test_an_import_leaves_no_addresses_in_the_bucket(bench: Bench) -> None:
    """The object is deleted when the job has ended, however it ended, and its name tells no address."""
    connector = bench.connector()
    changes = [change(n, PERFORMANCE) for n in range(30)]
    connector.sync(changes)
    bench.simulator.imports.bucket = "elsewhere"
    with pytest.raises(ProviderError, match="import_bucket"):
        connector.sync(changes)
    assert bench.simulator.imports.objects == {}
    puts = bench.wire.lines(f"PUT /{BUCKET}/")
    assert len(puts) == 2
    assert "example" not in puts[0]


def test_a_job_that_does_not_end_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for an import has an end, and says which setting it is."""
    monkeypatch.setattr(bench.simulator.imports, "_run", lambda _job: None)
    with pytest.raises(ProviderError, match="patience_seconds"):
        bench.connector(patience_seconds=60).sync([change(n, PERFORMANCE) for n in range(30)])
    assert 60 <= sum(bench.slept) < 80


def test_without_a_bucket_all_go_singly(bench: Bench) -> None:
    """No bucket, no import job: slower, and just as complete."""
    report = bench.connector(import_bucket=None).sync([change(n, PERFORMANCE) for n in range(25)])
    assert len(report.confirmed) == 25
    assert bench.wire.lines("import-jobs") == []


def test_a_listing_that_does_not_say_who_left_is_asked_further(bench: Bench) -> None:
    """When SES lists contacts without their unsubscription, each is asked for before an import writes over it."""
    in_list(bench, 1, topics={}, unsubscribed=True, attributes="{}")
    bench.wire.faults["contacts/list"] = [{"Contacts": [{"EmailAddress": address(1)}]}]
    bench.connector().sync([change(n, PERFORMANCE) for n in range(1, 40)])
    assert bench.held(1).unsubscribed
