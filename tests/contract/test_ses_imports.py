"""Many contacts at once through SES's import jobs: against the simulator, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.ses import many
from connectors.simulators.ses.imports import SLICE, Job
from core.errors import ProviderError
from tests.contract.ses_bench import (
    CONTACTS,
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


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A served simulator with an account."""
    with benched(tmp_path) as ready:
        yield ready


def losing_unsubscriptions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on jobs write everybody as not unsubscribed."""
    write = bench.simulator.contacts.row

    def row(name: str, action: str, found: dict[str, Any]) -> None:
        write(name, action, found | {"unsubscribeAll": False})

    monkeypatch.setattr(bench.simulator.contacts, "row", row)


# How much it takes


def test_the_list_is_read_once_before_and_once_after_all_jobs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs, two readings, and for people who are new nothing else; every request is counted."""
    monkeypatch.setattr(many, "MOST", 20)
    connector = bench.connector()
    report = synced(connector, (change(n, PERFORMANCE) for n in range(MANY)))
    assert (report.confirmed, report.rejected) == (everybody(), frozenset())
    assert report.api_calls == connector.calls == len(bench.wire.requests)
    assert len(bench.wire.lines(LISTING)) == 2
    assert [line for line, _ in bench.wire.requests].count(JOB) == 2
    assert bench.wire.lines(f"GET {CONTACTS}") == []
    assert members(connector) == {address(n): {PERFORMANCE} for n in range(MANY)}
    assert json.loads(bench.held(7).attributes or "") == {
        "choices_url": "https://choices.example/7",
        "pixel_path": "o/7",
    }


def test_many_thousands_go_through_one_job(bench: Bench) -> None:
    """A large import runs beside other requests, and is waited for."""
    number = SLICE + 1_000
    report = synced(bench.connector(patience_seconds=86_400), (change(n, PERFORMANCE) for n in range(number)))
    assert len(report.confirmed) == number
    assert len(bench.wire.lines(OBJECT)) == 1


def test_few_withdrawals_come_first_and_singly_even_among_many(bench: Bench) -> None:
    """A withdrawal does not wait until a list is read and a job has run."""
    connector = bench.connector()
    synced(connector, [change(99, *PURPOSES)])
    bench.wire.requests.clear()
    joining = [change(n, PERFORMANCE) for n in range(MANY)]
    assert len(synced(connector, [*joining, change(99, confirmed=PURPOSES)]).confirmed) == MANY + 1
    assert [line for line, _ in bench.wire.requests[:2]] == [
        f"GET {CONTACTS}/{address(99)}",
        f"PUT {CONTACTS}/{address(99)}",
    ]
    assert address(99) not in members(connector)


def test_many_withdrawals_have_a_job_of_their_own_before_the_others(bench: Bench) -> None:
    """What stops tracking is imported before what begins it."""
    connector = bench.connector()
    synced(connector, [change(n, *PURPOSES) for n in range(MANY)])
    jobs: list[set[int]] = []
    write = bench.simulator.imports._run

    def run(job: Job) -> None:
        rows = next(iter(bench.simulator.imports.objects.values())).splitlines()
        jobs.append({int(json.loads(row)["emailAddress"].partition("@")[0].partition("/")[2]) for row in rows})
        write(job)

    bench.simulator.imports._run = run  # type: ignore[method-assign]
    leaving = [change(n, PROFILING, confirmed=PURPOSES) for n in range(MANY)]
    assert len(synced(connector, [change(50, PERFORMANCE), *leaving]).confirmed) == MANY + 1
    assert jobs == [set(range(MANY)), {50}]


def test_who_withdraws_and_is_not_in_the_list_is_not_put_there(bench: Bench) -> None:
    """Somebody whom the team erased at SES stays erased, and counts as withdrawn."""
    connector = bench.connector()
    synced(connector, [change(n, *PURPOSES) for n in range(MANY)])
    assert bench.simulator.contacts.list is not None
    del bench.simulator.contacts.list.contacts[address(3)]
    assert synced(connector, [change(n, confirmed=PURPOSES) for n in range(MANY)]).confirmed == everybody()
    assert address(3) not in bench.simulator.contacts.list.contacts


def test_without_a_bucket_all_go_singly(bench: Bench) -> None:
    """No bucket, no import job: slower, and just as complete."""
    report = synced(bench.connector(import_bucket=None), [change(n, PERFORMANCE) for n in range(MANY)])
    assert report.confirmed == everybody()
    assert bench.wire.lines("import-jobs") == []


# What must survive


def test_an_import_resets_no_unsubscription(bench: Bench) -> None:
    """The person's unsubscription and the team's topics survive an import job."""
    in_list(bench, 1, topics={"sports": "OPT_OUT"}, unsubscribed=True, attributes="{}")
    in_list(bench, 2, topics={"sports": "OPT_IN"}, unsubscribed=False, attributes="{}")
    report = synced(bench.connector(foreign_attributes="replace"), [change(n, PERFORMANCE) for n in range(MANY)])
    assert report.confirmed == everybody()
    assert bench.wire.lines(JOB)
    first, second = bench.held(1), bench.held(2)
    assert (first.unsubscribed, first.preferences["sports"]) == (True, "OPT_OUT")
    assert (second.unsubscribed, second.preferences["sports"]) == (False, "OPT_IN")


def test_the_other_spelling_of_an_address_keeps_its_unsubscription(bench: Bench) -> None:
    """Somebody who unsubscribed as Jo@ is not signed up again as jo@."""
    in_list(bench, 1, topics={"sports": "OPT_OUT"}, unsubscribed=True, attributes="{}")
    assert bench.simulator.contacts.list is not None
    held = bench.simulator.contacts.list.contacts
    held[address(1).upper()] = replace(held.pop(address(1)), address=address(1).upper())
    synced(bench.connector(), [change(n, PERFORMANCE) for n in range(MANY)])
    assert bench.held(1).unsubscribed
    assert bench.held(1).preferences["sports"] == "OPT_OUT"


@pytest.mark.parametrize("heeded", [True, False])
def test_an_unsubscription_since_the_list_was_read_survives(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, heeded: bool
) -> None:
    """Who is asked for before the import is imported as that answer says, and put back if the job does not heed it."""
    if not heeded:
        losing_unsubscriptions(bench, monkeypatch)
    in_list(bench, 1, topics={}, unsubscribed=False, attributes="{}")
    unread = {"EmailAddress": address(1), "TopicPreferences": [], "UnsubscribeAll": False}
    bench.held(1).unsubscribed = True
    bench.wire.faults[LISTING] = [{"Contacts": [unread]}]
    synced(bench.connector(), [change(n, PERFORMANCE) for n in range(MANY)])
    assert bench.held(1).unsubscribed


def test_a_listing_that_does_not_say_who_left_is_asked_further(bench: Bench) -> None:
    """When SES lists contacts without their unsubscription, each is asked for before an import writes over it."""
    in_list(bench, 1, topics={}, unsubscribed=True, attributes="{}")
    bench.wire.faults[LISTING] = [{"Contacts": [{"EmailAddress": address(1)}]}]
    synced(bench.connector(foreign_attributes="replace"), [change(n, PERFORMANCE) for n in range(MANY)])
    assert bench.held(1).unsubscribed


def test_an_unsubscription_that_a_job_undid_is_put_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are: SES may not heed that column of an import."""
    connector = bench.connector()
    synced(connector, [change(n) for n in range(MANY)])
    for number in range(MANY):
        bench.held(number).unsubscribed = True
    losing_unsubscriptions(bench, monkeypatch)
    assert synced(connector, [change(n, PERFORMANCE) for n in range(MANY)]).confirmed == everybody()
    assert all(bench.held(number).unsubscribed for number in range(MANY))


@pytest.mark.parametrize(
    ("held", "kept"),
    [
        (
            '{"name": "Jo", "pixel_path": "x"}',
            '{"name":"Jo","pixel_path":"o/1","choices_url":"https://choices.example/1"}',
        ),
        ("customer 17", "customer 17"),
        ("[1]", "[1]"),
    ],
)
def test_attributes_of_the_teams_own_are_kept(bench: Bench, held: str, kept: str) -> None:
    """Each contact that is there already is asked for before an import replaces it; nobody else is."""
    in_list(bench, 1, topics={}, unsubscribed=False, attributes=held)
    assert synced(bench.connector(), [change(n, PERFORMANCE) for n in range(MANY)]).confirmed == everybody()
    assert bench.held(1).attributes == kept
    assert bench.wire.lines(f"GET {CONTACTS}") == [f"GET {CONTACTS}/{address(1)}"]


def test_attributes_are_replaced_where_nobody_else_writes_them(bench: Bench) -> None:
    """On that word nobody is asked for."""
    in_list(bench, 1, topics={}, unsubscribed=False, attributes='{"name": "Jo"}')
    connector = bench.connector(foreign_attributes="replace")
    assert synced(connector, [change(n, PERFORMANCE) for n in range(MANY)]).confirmed == everybody()
    assert "name" not in json.loads(bench.held(1).attributes or "")
    assert bench.wire.lines(f"GET {CONTACTS}") == []


def test_a_job_does_not_wait_for_too_many_to_be_asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """At one a second the first must not wait for the last: so many, and then a job."""
    connector = bench.connector()
    synced(connector, [change(n) for n in range(MANY)])
    bench.wire.requests.clear()
    monkeypatch.setattr(many, "FETCHED", 12)
    assert synced(connector, [change(n, PERFORMANCE) for n in range(MANY)]).confirmed == everybody()
    assert [line for line, _ in bench.wire.requests].count(JOB) == 3
    assert len(bench.wire.lines(f"GET {CONTACTS}/")) == MANY


# What SES did not do


def test_what_a_job_refuses_is_reported(bench: Bench) -> None:
    """A row that failed is known by the reading after the job, and the address is tried once more."""
    changes = [change(n, PERFORMANCE) for n in range(1, MANY)]
    report = synced(bench.connector(), [change(0, PERFORMANCE, at="no address"), *changes])
    assert (report.confirmed, report.rejected) == (everybody() - everybody(0), everybody(0))
    assert [job.failed for job in bench.simulator.imports.jobs.values()] == [1]


def test_rows_that_were_dropped_silently_are_written_singly(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is completed and did not write some rows has written them all once the sync ends."""
    connector = bench.connector()
    synced(connector, [change(n) for n in range(MANY)])
    dropping(bench, monkeypatch, 3, 4)
    assert synced(connector, [change(n, PERFORMANCE) for n in range(MANY)]).confirmed == everybody()
    assert len(members(connector)) == MANY


def test_a_job_that_wrote_nothing_confirms_nobody_whom_it_should_have_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first few, withdrawals before all, are written singly, the others are rejected, and the next run goes on."""
    connector = bench.connector()
    synced(connector, [change(n, *PURPOSES) for n in range(MANY)])
    with monkeypatch.context() as broken:
        dropping(bench, broken)
        joining = [change(n, PERFORMANCE) for n in range(50, 60)]
        report = synced(connector, [*joining, *(change(n, confirmed=PURPOSES) for n in range(MANY))])
    assert report.confirmed == everybody(*range(20))
    assert report.rejected == everybody(*range(20, MANY), *range(50, 60))
    assert members(connector) == {address(n): set(PURPOSES) for n in range(20, MANY)}
    rest = [change(n, confirmed=PURPOSES) for n in range(20, MANY)]
    assert len(synced(connector, [*rest, *(change(n, PERFORMANCE) for n in range(50, 65))]).confirmed) == 25
    assert members(connector) == {address(n): {PERFORMANCE} for n in range(50, 65)}


@pytest.mark.parametrize("dropped", [(), tuple(range(5))])
def test_a_change_of_fields_alone_is_not_taken_on_trust(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, dropped: tuple[int, ...]
) -> None:
    """Topics are as they were: the time of the contact's last change tells, and a look at those where it does not."""
    connector = bench.connector(foreign_attributes="replace")
    synced(connector, [change(n, PERFORMANCE) for n in range(MANY)])
    dropping(bench, monkeypatch, *dropped)
    changes = [change(n, PERFORMANCE, confirmed=(PERFORMANCE,)) for n in range(MANY)]
    renewed = [replace(c, contact=replace(c.contact, pixel_path="o/new")) for c in changes]
    report = synced(connector, renewed)
    written = {n for n in range(MANY) if "o/new" in (bench.held(n).attributes or "")}
    assert report.confirmed == frozenset(map(recipient, written))
    assert len(written) == (20 if not dropped else MANY)


def test_writing_what_stands_already_is_confirmed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """SES may not count equal fields as a change: then some are looked at, and not all."""
    connector = bench.connector(foreign_attributes="replace")
    changes = [change(n, PERFORMANCE, confirmed=(PERFORMANCE,)) for n in range(MANY)]
    synced(connector, changes)
    bench.wire.requests.clear()
    dropping(bench, monkeypatch)
    assert synced(connector, changes).confirmed == everybody()
    assert len(bench.wire.lines(f"GET {CONTACTS}")) <= many.PROBED


def test_a_job_that_failed_is_an_error(bench: Bench) -> None:
    """Nobody is confirmed; the error names the setting, and the object is deleted all the same."""
    bench.simulator.imports.bucket = "elsewhere"
    with pytest.raises(ProviderError, match=r"FAILED.*providers\.ses\.import_bucket"):
        synced(bench.connector(), [change(n, PERFORMANCE) for n in range(MANY)])
    assert bench.simulator.imports.objects == {}


def test_a_job_that_does_not_end_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for an import has an end, and says which setting it is."""
    monkeypatch.setattr(bench.simulator.imports, "_run", lambda _job: None)
    with pytest.raises(ProviderError, match="patience_seconds"):
        synced(bench.connector(patience_seconds=60), [change(n, PERFORMANCE) for n in range(MANY)])
    assert 60 <= sum(bench.slept) < 80
