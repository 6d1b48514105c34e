"""How many calls the Mailchimp connector's synchronisation makes, in which order, and how it streams."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.mailchimp import syncing
from connectors.simulators.mailchimp.audience import name_of
from connectors.simulators.serving import served
from core.errors import ProviderRefused
from core.model import ContactChange, PurposeId, RecipientId, SyncReport
from core.tally import Tally
from tests.contract.ground import Faults
from tests.contract.mailchimp_bench import PERFORMANCE, PROFILING, Bench, change, contact, faulty, people, serving

ADA, BOB = contact("ada", "o/1"), contact("bob")
BATCH_SLASHES = 3
"""In the path of a batch of contacts: ``/3.0/lists/<id>``."""


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


# Calls, and their order


def minimum(bench: Bench, changes: list[ContactChange]) -> int:
    """The fewest calls for these changes."""
    tally = Tally()
    for each in changes:
        tally.add(each)
    return bench.connector.minimum_calls(tally)


def test_a_first_sync_makes_the_fewest_calls(bench: Bench) -> None:
    """1,001 new contacts: three batches, and as many calls for each segment as it has five hundreds."""
    crowd = people("p", 1_001)
    changes = [change(who, [PERFORMANCE, PROFILING] if n < 501 else [PERFORMANCE]) for n, who in enumerate(crowd)]
    report = bench.push(*changes)
    assert len(report.confirmed) == 1_001
    assert len(bench.segments()["pixelproof:performance"]) == 1_001
    assert minimum(bench, changes) == 3 + 3 + 2
    # beside them: segments, fields, two new fields, archived, two new segments
    assert report.api_calls == minimum(bench, changes) + 1 + 1 + 2 + 1 + 2


@pytest.mark.parametrize("fields", [True, False])
def test_many_withdrawals_make_the_fewest_calls(bench: Bench, *, fields: bool) -> None:
    """Removals by five hundreds; contacts are written only when what they carry changes; nothing else is asked."""
    crowd = people("p", 1_001, "o/1")
    bench.sync(crowd, [PERFORMANCE])
    wanted = [replace(who, pixel_path="") if fields else who for who in crowd]
    changes = [change(who, (), [PERFORMANCE]) for who in wanted]
    report = bench.push(*changes)
    assert len(report.confirmed) == 1_001
    assert bench.segments()["pixelproof:performance"] == set()
    assert report.api_calls == (minimum(bench, changes) if fields else 3)


def test_known_contacts_are_updated_at_once(bench: Bench) -> None:
    """Who was confirmed before, or may have arrived, is not added first: one batch for each 500, and the list."""
    crowd = people("p", 1_000)
    bench.sync(crowd[:500], [PERFORMANCE])
    bench.sync(crowd[500:])
    changes = [change(replace(who, pixel_path="o/2"), [PERFORMANCE], [PERFORMANCE]) for who in crowd[:500]]
    changes += [change(replace(who, pixel_path="o/2"), doubtful=True) for who in crowd[500:]]
    report = bench.push(*changes)
    assert len(report.confirmed) == 1_000
    assert report.api_calls == 2 + 1


def test_a_sync_learns_whether_contacts_exist(bench: Bench) -> None:
    """After a batch of contacts that were all there, the next unknown ones are updated first; and the other way."""
    crowd = people("p", 2_000)
    bench.sync(crowd)
    one = bench.behind(concurrency=1)
    one.connector._audience._fields._there = True
    report = one.push(*(change(replace(who, pixel_path="o/2")) for who in crowd))
    assert len(report.confirmed) == 2_000
    assert report.api_calls == 1 + 2 + 4  # archived, in vain (two leave before the first is answered), updates
    mixed = [*(replace(who, pixel_path="o/3") for who in crowd[:1_000]), *people("q", 2_000)]
    report = one.push(*map(change, mixed))
    assert len(report.confirmed) == 3_000
    # archived; two in vain and two updates; two more in vain before it is seen that they are new; four adds
    assert report.api_calls <= 1 + 2 + 2 + 3 + 4


@pytest.mark.parametrize("whole", [True, False])
def test_an_update_of_somebody_who_is_gone_adds_them(bench: Bench, *, whole: bool) -> None:
    """Confirmed before and not there any more: refused alone, or with the whole batch, then added; others updated."""
    bench.simulator.audience.wants_status = whole
    crowd = people("p", 12)
    bench.sync(crowd[:11], [PERFORMANCE])
    changes = [change(replace(who, pixel_path="o/2"), [PERFORMANCE], [PERFORMANCE]) for who in crowd]
    report = bench.push(*changes)
    assert report.confirmed == {who.recipient for who in crowd}
    assert all(bench.member(who).fields["PPPIXEL"] == "o/2" for who in crowd)


def test_a_single_withdrawal_is_one_call_or_two(bench: Bench) -> None:
    """The service's connector remembers: the removal, whose answer proves it, and the field when it changes."""
    bench.sync([ADA, BOB], [PERFORMANCE])
    assert bench.push(change(ADA, (), [PERFORMANCE])).api_calls == 1
    assert bench.push(change(replace(BOB, pixel_path="a"), (), [PERFORMANCE])).api_calls == 2
    assert bench.segments()["pixelproof:performance"] == set()


def test_removals_go_before_everything_else(bench: Bench) -> None:
    """Withdrawals at the end of the changes reach Mailchimp although the upsert before them fails."""
    bench.sync([ADA], [PERFORMANCE])
    crowd = [change(who, [PERFORMANCE]) for who in people("p", 600)]
    with faulty(bench, Faults("GET", "/merge-fields", (400, {}))) as broken, pytest.raises(ProviderRefused):
        broken.push(*crowd, change(ADA, (), [PERFORMANCE]))
    assert bench.segments()["pixelproof:performance"] == set()


def test_one_removal_that_is_refused_does_not_stop_the_others(bench: Bench) -> None:
    """Each segment is left as far as Mailchimp lets it; then the refusal is raised."""
    crowd = people("p", 6)
    purposes = [PurposeId(f"purpose-{n}") for n in range(6)]
    bench.push(*(change(who, [purpose]) for who, purpose in zip(crowd, purposes, strict=True)))
    changes = [change(who, (), [purpose]) for who, purpose in zip(crowd, purposes, strict=True)]
    with (
        faulty(bench, Faults("POST", "/segments/", (400, {})), concurrency=1) as broken,
        pytest.raises(ProviderRefused),
    ):
        broken.push(*changes)
    assert sorted(map(len, bench.segments().values())) == [0, 0, 0, 0, 0, 1]


# Streaming


def test_changes_are_read_as_they_are_needed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops reading the reports leaves the rest unread and unsent."""
    monkeypatch.setattr(syncing, "STAGE", 500)
    read = 0

    def changes() -> Iterator[ContactChange]:
        nonlocal read
        for who in people("p", 20_000):
            read += 1
            yield change(who, [PERFORMANCE])

    reports = bench.connector.sync(changes())
    first = next(reports)
    assert len(first.confirmed) >= 500
    reports.close()  # type: ignore[attr-defined]
    assert read < 8_000
    assert len(bench.simulator.audience.members) < 8_000


def told_of(reports: Iterator[SyncReport]) -> set[RecipientId]:
    """Whom a run that is refused confirms before."""
    told: set[RecipientId] = set()

    def listen() -> None:
        for report in reports:
            told.update(report.confirmed)

    with pytest.raises(ProviderRefused):
        listen()
    return told


def test_what_was_confirmed_before_a_failure_is_reported(bench: Bench) -> None:
    """A run that fails on its way has told of every batch that was done, and the next run sends those no more."""
    crowd = people("p", 3_000)
    # Two fields, and three batches that are done; then nothing more is.
    with faulty(bench, Faults("POST", "/lists/", *[None] * 5, *[(400, {})] * 9)) as broken:
        told = told_of(broken.connector.sync(change(who) for who in crowd))
    assert len(told) == 1_500
    assert told == {who.recipient for who in crowd if name_of(who.address) in bench.simulator.audience.members}
    rest = [who for who in crowd if who.recipient not in told]
    report = bench.push(*(change(who, doubtful=True) for who in rest))
    assert report.confirmed == {who.recipient for who in rest}
    assert report.api_calls == 1 + 1 + 3 + 3  # fields, archived, in vain, for nobody of them had arrived, and adds


class Held:
    """Stands before a simulator and holds batches of contacts back until ``go``; ``full`` once so many are held."""

    def __init__(self, app: ASGIApp, number: int) -> None:
        self.app = app
        self.number = number
        self.full = threading.Event()
        self.go = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope.get("method") == "POST" and scope["path"].count("/") == BATCH_SLASHES:
            self.number -= 1
            if not self.number:
                self.full.set()
            await asyncio.to_thread(self.go.wait, 30)
        await self.app(scope, receive, send)


def test_a_withdrawal_goes_through_a_bulk_sync(bench: Bench) -> None:
    """It is done while as many batches are under way as a sync may have; each run counts its own calls alone."""
    bench.sync([ADA], [PERFORMANCE])
    before = bench.simulator.calls
    bulk: list[SyncReport] = []
    held = Held(bench.simulator.app, 3)
    with served(held) as url:
        connector = bench.behind(url, concurrency=3).connector
        crowd = people("p", 15_000)
        work = connector.sync(change(who, [PERFORMANCE]) for who in crowd)
        thread = threading.Thread(target=lambda: bulk.extend(work))
        thread.start()
        try:
            assert held.full.wait(30)
            (report,) = connector.sync([change(ADA, (), [PERFORMANCE])])
            assert bench.segments()["pixelproof:performance"] == set()
            assert not bulk
        finally:
            held.go.set()
            thread.join()
    assert report.confirmed == {ADA.recipient}
    assert report.api_calls == 2  # this connector has not read the segments yet
    assert sum(each.api_calls for each in bulk) + 2 == bench.simulator.calls - before == connector.calls
    assert len(bench.segments()["pixelproof:performance"]) == 15_000
