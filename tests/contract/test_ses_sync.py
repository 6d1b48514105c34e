"""Few contacts, one by one, and withdrawals by the fastest path: the SES connector against the simulator, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.ses.client import Aws
from connectors.ses.connector import SesConnector
from connectors.ses.settings import SesSettings
from connectors.simulators.base import utcnow
from connectors.simulators.ses import BUCKET
from connectors.simulators.ses.imports import Job
from core.errors import ProviderError
from core.model import TO_ASK, ContactChange, PurposeId
from core.tally import Tally
from tests.contract.ses_bench import (
    LIST,
    PERFORMANCE,
    PROFILING,
    PURPOSES,
    Bench,
    address,
    benched,
    change,
    in_list,
    members,
    recipient,
    synced,
)

THE_LIST = f"/v2/email/contact-lists/{LIST}"
CONTACTS = f"{THE_LIST}/contacts"
PUT = f"PUT {CONTACTS}"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A served simulator with an account."""
    with benched(tmp_path) as ready:
        yield ready


def lines(bench: Bench) -> list[str]:
    """The requests since these were last asked for."""
    found = [line for line, _ in bench.wire.requests]
    bench.wire.requests.clear()
    return found


def withdrawal(number: int, *desired: PurposeId, doubtful: bool = False) -> ContactChange:
    """Somebody who had agreed to all withdraws what is not desired."""
    return change(number, *desired, confirmed=PURPOSES, doubtful=doubtful)


# The fastest path


def test_a_withdrawal_takes_three_calls_and_is_there_after_two(bench: Bench) -> None:
    """Even an instance that has seen nothing yet asks for the contact alone, which shows the list's topics."""
    synced(bench.connector(), [change(1, *PURPOSES)])
    for desired in ((PROFILING,), ()):
        lines(bench)
        report = synced(bench.connector(), [withdrawal(1, *desired)])
        one = f"{CONTACTS}/{address(1)}"
        assert lines(bench) == [f"GET {one}", f"PUT {one}", f"GET {one}"]
        assert report.confirmed == {recipient(1)}
        assert report.api_calls == 3
        assert members(bench.connector()).get(address(1), frozenset()) == set(desired)


def test_withdrawals_are_all_written_before_the_first_is_read_back(bench: Bench) -> None:
    """And before whoever joins: what matters is when SES has them."""
    connector = bench.connector()
    synced(connector, [change(n, *PURPOSES) for n in range(5)])
    lines(bench)
    report = synced(connector, [change(9, PERFORMANCE), *(withdrawal(n) for n in range(5))])
    assert len(report.confirmed) == 6
    made = [line.partition(" ")[0] for line in lines(bench)]
    assert made == ["GET", "PUT"] * 5 + ["GET", "POST"] + ["GET"] * 6


def test_the_list_is_looked_at_once_by_each_instance(bench: Bench) -> None:
    """Topics that were seen are remembered."""
    connector = bench.connector()
    synced(connector, [change(1, PERFORMANCE)])
    lines(bench)
    synced(connector, [change(1, *PURPOSES), change(2, PROFILING)])
    assert f"GET {THE_LIST}" not in lines(bench)


def test_nothing_is_asked_before_the_reports_are_read(bench: Bench) -> None:
    """Whoever does not read them has changed nothing, and taken nothing from the stream."""
    stream = iter([change(1, PERFORMANCE)])
    bench.connector().sync(stream)
    assert lines(bench) == []
    assert len(list(stream)) == 1


def test_whoever_stops_reading_leaves_the_rest_unsent(bench: Bench) -> None:
    """One by one without a bucket: what was not asked for yet is not written."""
    stream = iter([change(n, PERFORMANCE) for n in range(60)])
    reports = bench.connector(import_bucket=None).sync(stream)
    assert next(reports).confirmed == {recipient(0)}
    reports.close()  # type: ignore[attr-defined]  # it is a generator
    assert bench.simulator.contacts.list is not None
    assert len(bench.simulator.contacts.list.contacts) == 20
    assert len(list(stream)) == 39


def test_the_reports_calls_add_up(bench: Bench) -> None:
    """Each report counts what was made since the one before."""
    reports = list(bench.connector().sync([change(n, PERFORMANCE) for n in range(4)]))
    assert sum(report.api_calls for report in reports) == len(bench.wire.requests)
    assert all(report.api_calls == 1 for report in reports[1:])


# What may change in between


def test_a_list_that_was_deleted_since_is_made_again(bench: Bench) -> None:
    """What is remembered is forgotten once SES does not know it any more."""
    connector = bench.connector()
    synced(connector, [change(1, PERFORMANCE)])
    bench.simulator.contacts.list = None
    assert synced(connector, [change(1, PERFORMANCE)]).confirmed == {recipient(1)}
    assert members(connector) == {address(1): {PERFORMANCE}}


@pytest.mark.parametrize("known", [True, False])
def test_a_topic_that_was_deleted_since_is_made_again(bench: Bench, *, known: bool) -> None:
    """A topic that is not there is no fault of the address."""
    connector = bench.connector()
    synced(connector, [change(1)])
    held = bench.simulator.contacts.list
    assert held is not None
    held.topics = [topic for topic in held.topics if "profiling" not in topic["TopicName"]]
    bench.held(1).preferences = {"pixelproof-performance": "OPT_OUT"}
    person = 1 if known else 2
    assert synced(connector, [change(person, PROFILING)]).confirmed == {recipient(person)}
    assert members(connector) == {address(person): {PROFILING}}


def test_a_contact_that_somebody_else_changes_is_read_anew(bench: Bench) -> None:
    """SES says so with an error; to write again what was read before would undo the other change."""
    connector = bench.connector()
    synced(connector, [change(1, *PURPOSES)])
    bench.wire.faults[PUT] = [(500, {"x-amzn-errortype": "ConcurrentModificationException"})]
    lines(bench)
    assert synced(connector, [withdrawal(1)]).confirmed == {recipient(1)}
    made = [line.partition(" ")[0] for line in lines(bench) if CONTACTS in line]
    assert made == ["GET", "PUT", "GET", "PUT", "GET"]


def test_a_contact_that_never_rests_is_reported(bench: Bench) -> None:
    """After some readings it is left, and reported as not taken."""
    connector = bench.connector()
    synced(connector, [change(1, *PURPOSES)])
    bench.wire.faults[PUT] = [(500, {"x-amzn-errortype": "ConcurrentModificationException"})] * 9
    assert synced(connector, [withdrawal(1)]).rejected == {recipient(1)}


def test_a_default_that_counts_everybody_in_is_seen_by_a_withdrawal(bench: Bench) -> None:
    """A topic of ours opted in by default is put right before the contact is."""
    connector = bench.connector()
    synced(connector, [change(1, *PURPOSES)])
    held = bench.simulator.contacts.list
    assert held is not None
    for topic in held.topics:
        topic["DefaultSubscriptionStatus"] = "OPT_IN"
    bench.held(1).preferences = {}
    assert synced(connector, [withdrawal(1)]).confirmed == {recipient(1)}
    assert {topic["DefaultSubscriptionStatus"] for topic in held.topics} == {"OPT_OUT"}


def test_who_withdraws_and_is_not_in_the_list_is_not_put_there(bench: Bench) -> None:
    """Somebody whom the team erased at SES stays erased, and counts as withdrawn."""
    connector = bench.connector()
    for doubtful in (False, True):
        assert synced(connector, [withdrawal(1, doubtful=doubtful)]).confirmed == {recipient(1)}
    assert bench.wire.lines("POST " + CONTACTS, PUT) == []


# Segments


def test_those_to_ask_have_a_topic_of_their_own(bench: Bench) -> None:
    """One more topic, out by default; leaving it is no withdrawal."""
    connector = bench.connector(purposes=(*PURPOSES, TO_ASK))
    synced(connector, [change(1, TO_ASK), change(2, PERFORMANCE)])
    assert members(connector) == {address(1): {TO_ASK}, address(2): {PERFORMANCE}}
    held = bench.simulator.contacts.list
    assert held is not None
    assert {t["TopicName"]: t["DefaultSubscriptionStatus"] for t in held.topics} == {
        f"pixelproof-{name}": "OPT_OUT" for name in ("performance", "profiling", "to-ask")
    }
    synced(connector, [change(1, PERFORMANCE, confirmed=(TO_ASK,))])
    assert members(connector)[address(1)] == {PERFORMANCE}


@pytest.mark.parametrize(
    ("changes", "bucket", "least"),
    [
        ([], BUCKET, 0),
        ([change(n, PERFORMANCE) for n in range(20)], BUCKET, 20),
        ([change(n, PERFORMANCE) for n in range(30)], BUCKET, 3),
        ([change(n, PERFORMANCE) for n in range(30)], None, 30),
        ([change(n, PERFORMANCE, confirmed=(TO_ASK,)) for n in range(30)], BUCKET, 3),
    ],
)
def test_the_fewest_calls_are_those_that_write(
    bench: Bench, changes: Sequence[ContactChange], bucket: str | None, least: int
) -> None:
    """Counted beforehand, and never more than what was then written."""
    connector = bench.connector(import_bucket=bucket, purposes=(*PURPOSES, TO_ASK))
    tally = Tally()
    synced(connector, [change(99)])  # so that the topics are there
    for each in changes:
        tally.add(each)
    lines(bench)
    synced(connector, changes)
    made = [line for line in lines(bench) if not line.startswith("GET ") and not line.endswith("/list")]
    assert connector.minimum_calls(tally) == len(made) == least


def test_withdrawals_are_counted_apart() -> None:
    """They go in a call of their own."""
    settings = SesSettings(region="eu-west-3", import_bucket=BUCKET)
    keys = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "none"}
    connector, tally = SesConnector(Aws(settings, keys, now=utcnow), settings, PURPOSES), Tally()
    for number in range(2_000_005):
        tally.add(_JOINING if number >= 5 else _LEAVING)
    assert connector.minimum_calls(tally) == 5 + 2 * 3


_JOINING, _LEAVING = change(1, PERFORMANCE), withdrawal(1)


# Doubt


def test_what_stands_since_a_run_that_was_cut_off_is_not_written_again(bench: Bench) -> None:
    """Read, and reported; the jobs are looked at, for one of that run could still write."""
    synced(bench.connector(), [change(1, PERFORMANCE)])
    lines(bench)
    assert synced(bench.connector(), [change(1, PERFORMANCE, doubtful=True)]).confirmed == {recipient(1)}
    one = f"GET {CONTACTS}/{address(1)}"
    assert lines(bench) == [one, "POST /v2/email/import-jobs/list", one]


@pytest.mark.parametrize("status", ["CREATED", "PROCESSING", "COMPLETED"])
def test_a_withdrawal_is_not_confirmed_while_a_job_of_an_earlier_run_may_undo_it(bench: Bench, status: str) -> None:
    """It is written all the same, at once."""
    connector = bench.connector()
    synced(connector, [change(1, *PURPOSES)])
    job = {"ImportDestination": {"ContactListDestination": {"ContactListName": LIST}}, "ImportDataSource": {}}
    bench.simulator.imports.jobs["job"] = Job("job", job, 0.0, status)
    bench.simulator.imports._step = lambda _job: None  # type: ignore[method-assign,assignment]
    report = synced(connector, [withdrawal(1, doubtful=True)])
    assert (report.confirmed == {recipient(1)}) is (status == "COMPLETED")
    assert members(connector) == {}


def test_an_older_change_does_not_undo_a_withdrawal_that_came_after_it(bench: Bench) -> None:
    """One by one as well: what was decided on before is not written after."""
    connector = bench.connector(import_bucket=None)

    def stream() -> Iterator[ContactChange]:
        for number in range(45):
            if number == 40:
                assert synced(connector, [withdrawal(41)]).confirmed == {recipient(41)}
            yield change(number, *PURPOSES)

    assert synced(connector, stream()).rejected == {recipient(41)}
    assert address(41) not in members(connector)


# Attributes


@pytest.mark.parametrize(("held", "keeps"), [("customer 17", True), ("[1]", True), ("", False), ("{}", False)])
def test_attributes_that_are_no_fields_stay_as_they_are(bench: Bench, held: str, *, keeps: bool) -> None:
    """AttributesData may be any text of the team's; ours go into fields, or nowhere."""
    in_list(bench, 1, topics={}, unsubscribed=False, attributes=held)
    assert synced(bench.connector(), [change(1, PERFORMANCE)]).confirmed == {recipient(1)}
    assert (bench.held(1).attributes == held) is keeps
    replacing = bench.connector(foreign_attributes="replace")
    assert synced(replacing, [change(1, PERFORMANCE)]).confirmed == {recipient(1)}
    assert json.loads(bench.held(1).attributes or "")["pixel_path"] == "o/1"


def test_new_fields_are_written_though_the_topics_stand(bench: Bench) -> None:
    """A new link is a change."""
    connector = bench.connector()
    synced(connector, [change(1, PERFORMANCE)])
    renewed = replace(
        change(1, PERFORMANCE), contact=replace(change(1).contact, choices_url="https://choices.example/x")
    )
    assert synced(connector, [renewed]).confirmed == {recipient(1)}
    assert json.loads(bench.held(1).attributes or "")["choices_url"] == "https://choices.example/x"


# Faults


@pytest.mark.parametrize(
    "fault",
    [(429, {"x-amzn-errortype": "TooManyRequestsException"}), (500, {}), (503, {"Retry-After": "2"}), "cut", "{", "[]"],
)
@pytest.mark.parametrize("line", [f"GET {CONTACTS}", PUT, f"POST {CONTACTS}", f"GET {THE_LIST}"])
def test_a_fault_that_passes_changes_nothing(bench: Bench, line: str, fault: object) -> None:
    """Failed and not done, or failed but done: SES ends up with what is desired, and all requests are counted."""
    in_list(bench, 1, topics={"sports": "OPT_OUT"}, unsubscribed=True, attributes='{"name": "Jo"}')
    bench.wire.faults[line] = [fault]
    report = synced(bench.connector(), [change(1, PERFORMANCE), change(2, PROFILING)])
    assert report.confirmed == {recipient(1), recipient(2)}
    assert not report.rejected
    assert report.api_calls == len(bench.wire.requests)
    assert members(bench.connector()) == {address(1): {PERFORMANCE}, address(2): {PROFILING}}
    held = bench.held(1)
    assert (held.unsubscribed, held.preferences["sports"]) == (True, "OPT_OUT")
    assert json.loads(held.attributes or "")["name"] == "Jo"


@pytest.mark.parametrize("fault", [(500, {}), (403, {}), "cut"])
def test_a_withdrawal_that_failed_is_finished_by_the_next_run(bench: Bench, fault: object) -> None:
    """Not done, or done and not known: an error now, and confirmed later."""
    synced(bench.connector(), [change(n, *PURPOSES) for n in range(3)])
    bench.wire.faults[f"{PUT}/{address(1)}"] = [fault] * 5
    with pytest.raises(ProviderError):
        synced(bench.connector(), [withdrawal(n) for n in range(3)])
    bench.wire.faults.clear()
    report = synced(bench.connector(), [withdrawal(n, doubtful=True) for n in range(3)])
    assert len(report.confirmed) == 3
    assert members(bench.connector()) == {}


# A server that others wrote


def test_moto_takes_the_same_calls(tmp_path: Path) -> None:
    """Contacts one by one, and the list read back and erased, against moto, which has no import jobs."""
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        settings = SesSettings(
            region="eu-west-3",
            contact_list=f"list-{tmp_path.name[:40]}",
            endpoint_url=f"http://{host}:{port}",
            management_calls_per_second=10_000.0,
        )
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        connector = SesConnector(Aws(settings, keys, now=utcnow), settings, PURPOSES)
        people = [replace(each, contact=replace(each.contact, address=f"{n}@example.org")) for n, each in _people()]
        assert len(synced(connector, people).confirmed) == 3
        fewer = replace(people[0], desired=frozenset(), confirmed=frozenset(PURPOSES))
        assert len(synced(connector, [fewer]).confirmed) == 1
        assert _listed(connector) == {"1@example.org": {PROFILING}, "2@example.org": {PERFORMANCE}}
        assert len(connector.erase([people[1].contact]).erased) == 1
        assert _listed(connector) == {"2@example.org": {PERFORMANCE}}
    finally:
        running.stop()


def _people() -> list[tuple[int, ContactChange]]:
    return list(enumerate([change(0, *PURPOSES), change(1, PROFILING), change(2, PERFORMANCE)]))


def _listed(connector: SesConnector) -> dict[str, frozenset[PurposeId]]:
    return {member.address: member.purposes for member in connector.read_back()}
