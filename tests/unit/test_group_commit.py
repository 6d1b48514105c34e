"""One writer for many callers: a result means durable, a failure harms nobody else, nothing that waits is dropped."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from functools import partial

import pytest

from core.errors import DamagedState, StoreError
from core.ledger import Recording, idempotency_key
from core.model import Action, ConsentEvent, RecipientId
from core.ports import Batch
from core.stores.group_commit import MOST_JOBS, GroupCommit
from core.verify import verify
from tests.embedded import database_of, ledger_of
from webhooks.assembly import Services

Make = Callable[..., ConsentEvent]
Job = Callable[[Batch], int]

PATIENCE = 20.0


class Commits:
    """The writing connection, which counts commits, can hold them back, and can fail one before or after the act."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.done = 0
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.failing: dict[int, str] = {}

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Pass it on; treat a COMMIT as told for its number."""
        if sql != "COMMIT":
            return self._connection.execute(sql, *values)  # type: ignore[arg-type]
        self.reached.set()
        assert self.gate.wait(PATIENCE)
        fault = self.failing.pop(self.done, "")
        if fault != "before":
            self._connection.execute(sql)
            self.done += 1
        if fault:
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.cursor()

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


@pytest.fixture
def commits(services: Services, monkeypatch: pytest.MonkeyPatch) -> Commits:
    """The store's commits, watched."""
    watched = Commits(database_of(services)._writer)
    monkeypatch.setattr(database_of(services), "_writer", watched)
    return watched


@pytest.fixture
def writer(services: Services) -> Iterator[GroupCommit]:
    """A writer over the store."""
    with closing(GroupCommit(ledger_of(services))) as running:
        yield running


@pytest.fixture
def job(services: Services, event: Make) -> Callable[..., Job]:
    """Makes a job that records a withdrawal of person number ``n``, once; it may fail afterwards."""

    def make(n: int, failure: BaseException | None = None) -> Job:
        recording = Recording(event(Action.WITHDRAWN, recipient=person(n)), (idempotency_key(str(n)),))

        def run(batch: Batch) -> int:
            recorded = services.ledger.record_in(batch, [recording])
            if failure:
                raise failure
            return recorded

        return run

    return make


def person(n: int) -> RecipientId:
    """Recipient number ``n``."""
    return RecipientId(n.to_bytes(16, "big"))


@contextmanager
def together(writer: GroupCommit) -> Iterator[None]:
    """Keep the writer busy meanwhile, so that whatever is submitted inside waits and makes one group."""
    begun, go_on = threading.Event(), threading.Event()

    def busy(_batch: Batch) -> bool:
        begun.set()
        return go_on.wait(PATIENCE)

    held = writer.submit(busy)
    assert begun.wait(PATIENCE)
    yield
    go_on.set()
    assert held.result(PATIENCE)


def entries(services: Services) -> int:
    """How many entries somebody else sees in the file."""
    with closing(sqlite3.connect(database_of(services).path)) as other:
        (count,) = other.execute("SELECT count(*) FROM entry").fetchone()
    return int(count)


def outcomes(futures: list[Future[int]]) -> list[object]:
    """Results, and the errors where there are none."""
    return [future.exception(PATIENCE) or future.result() for future in futures]


def test_a_result_means_durable(
    services: Services, commits: Commits, writer: GroupCommit, job: Callable[..., Job]
) -> None:
    """Before the commit there is no result and others see nothing; after it both are there."""
    commits.gate.clear()
    future = writer.submit(job(1))
    assert commits.reached.wait(PATIENCE)
    assert not future.done()
    assert entries(services) == 0
    commits.gate.set()
    assert future.result(PATIENCE) == 1
    assert entries(services) == 1


def test_what_waits_is_committed_together(
    services: Services, commits: Commits, writer: GroupCommit, job: Callable[..., Job]
) -> None:
    """Many callers, one flush to the disk."""
    with together(writer):
        futures = [writer.submit(job(n)) for n in range(40)]
    assert outcomes(futures) == [1] * 40
    assert commits.done == 2
    assert entries(services) == 40
    assert verify(services.store).ok


def test_a_group_has_a_limit(
    services: Services, commits: Commits, writer: GroupCommit, job: Callable[..., Job]
) -> None:
    """A flood is committed in several groups, so that the first of it need not wait for the last."""
    with together(writer):
        futures = [writer.submit(job(n)) for n in range(MOST_JOBS + 1)]
    assert outcomes(futures) == [1] * (MOST_JOBS + 1)
    assert commits.done == 3
    assert entries(services) == MOST_JOBS + 1


def test_a_failing_job_harms_no_other(services: Services, writer: GroupCommit, job: Callable[..., Job]) -> None:
    """It is undone alone, although it had written; its caller gets its own error, the others their results."""
    wrong = ValueError("the caller's own")
    with together(writer):
        futures = [writer.submit(job(n, wrong if n == 1 else None)) for n in range(3)]
    assert outcomes(futures) == [1, wrong, 1]
    assert services.store.head(person(1)) is None
    assert entries(services) == 2
    assert writer.submit(job(1)).result(PATIENCE) == 1
    assert verify(services.store).ok


def test_a_job_alone_that_fails_leaves_nothing(
    services: Services, writer: GroupCommit, job: Callable[..., Job]
) -> None:
    """Nothing else is in the transaction: its own failure reaches the caller, and all that it wrote is undone."""
    wrong = ValueError("the caller's own")
    assert outcomes([writer.submit(job(1, wrong))]) == [wrong]
    assert services.store.head(person(1)) is None
    assert entries(services) == 0
    assert writer.submit(job(1)).result(PATIENCE) == 1
    assert verify(services.store).ok


def test_a_damaged_recipient_harms_no_other(
    services: Services, writer: GroupCommit, job: Callable[..., Job], event: Make
) -> None:
    """What is stored of one person cannot be read: that job fails alone, and again until the file is mended."""
    assert outcomes([writer.submit(job(n)) for n in range(3)]) == [1] * 3
    with database_of(services).transaction() as connection:
        connection.execute("UPDATE head SET standings=x'c1' WHERE recipient=?", (person(1),))
    said = [Recording(event(Action.OBJECTED, recipient=person(n))) for n in range(3)]
    for _ in range(2):
        with together(writer):
            futures = [writer.submit(partial(services.ledger.record_in, recordings=[one])) for one in said]
        first, damaged, last = outcomes(futures)
        assert (first, last) == (1, 1)
        assert isinstance(damaged, DamagedState)
    assert [len(services.store.chain(person(n))) for n in range(3)] == [3, 1, 3]


class Leaving(BaseException):
    """Not an Exception: what ends threads and tasks."""


@pytest.mark.parametrize("failure", [Leaving(), SystemExit(1), KeyboardInterrupt(), CancelledError()], ids=range(4))
def test_nothing_that_a_job_raises_ends_the_writer(
    services: Services, writer: GroupCommit, job: Callable[..., Job], failure: BaseException
) -> None:
    """The group hears that nothing of it was done, and the next one is written."""
    with together(writer):
        futures = [writer.submit(job(n, failure if n == 1 else None)) for n in range(3)]
    assert all(isinstance(outcome, StoreError) for outcome in outcomes(futures))
    assert entries(services) == 0
    assert outcomes([writer.submit(job(n)) for n in range(3)]) == [1] * 3
    assert verify(services.store).ok


def test_a_job_that_the_store_fails_fails_the_group(
    services: Services, writer: GroupCommit, job: Callable[..., Job]
) -> None:
    """SQLite may have ended the transaction by itself: nobody may believe in a result, and nothing is there."""
    broken = sqlite3.OperationalError("disk I/O error")
    with together(writer):
        futures = [writer.submit(job(n, broken if n == 1 else None)) for n in range(3)]
    assert all(isinstance(outcome, StoreError) for outcome in outcomes(futures))
    assert entries(services) == 0
    assert outcomes([writer.submit(job(n)) for n in range(3)]) == [1, 1, 1]


@pytest.mark.parametrize("failing", ["before", "after"])
def test_a_failing_commit_fails_every_job(
    services: Services, commits: Commits, writer: GroupCommit, job: Callable[..., Job], failing: str
) -> None:
    """Every caller hears of it, whether it was done or not; repeating is safe, and the writer lives on."""
    with together(writer):
        futures = [writer.submit(job(n)) for n in range(3)]
        commits.failing[1] = failing
    reasons = outcomes(futures)
    assert all(isinstance(reason, StoreError) and "disk I/O error" in str(reason) for reason in reasons)
    there = entries(services)
    assert there == (3 if failing == "after" else 0)
    assert outcomes([writer.submit(job(n)) for n in range(3)]) == [int(not there)] * 3
    assert entries(services) == 3
    assert verify(services.store).ok


def test_cancelled_jobs_are_not_run(services: Services, writer: GroupCommit, job: Callable[..., Job]) -> None:
    """Whoever cancels in time gets nothing recorded; the rest of the group is."""
    with together(writer):
        futures = [writer.submit(job(n)) for n in range(3)]
        assert futures[1].cancel()
    assert [futures[0].result(PATIENCE), futures[2].result(PATIENCE)] == [1, 1]
    assert services.store.head(person(1)) is None


def test_closing_finishes_what_waits(services: Services, job: Callable[..., Job]) -> None:
    """Whatever was taken is done; whatever comes later is refused with StoreError, so that it is sent again."""
    writer = GroupCommit(ledger_of(services))
    with together(writer):
        futures = [writer.submit(job(n)) for n in range(5)]
        closing_ = threading.Thread(target=writer.close)
        closing_.start()
    closing_.join(PATIENCE)
    assert not closing_.is_alive()
    assert all(future.done() for future in futures)
    assert outcomes(futures) == [1] * 5
    with pytest.raises(StoreError, match="being closed"):
        writer.submit(job(9))
    writer.close()
    assert entries(services) == 5


def test_many_threads_lose_nothing(services: Services, writer: GroupCommit, job: Callable[..., Job]) -> None:
    """Callers from several threads, each event twice: one entry each."""
    futures: list[Future[int]] = []

    def call(first: int) -> None:
        futures.extend([writer.submit(job(n)) for n in range(first, first + 30)])

    threads = [threading.Thread(target=call, args=(start,)) for start in (0, 15, 30, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(future.result(PATIENCE) for future in futures) == 60
    assert entries(services) == 60
    assert verify(services.store).ok


# Coroutines


def test_coroutines_hear_of_their_group(
    services: Services, commits: Commits, writer: GroupCommit, job: Callable[..., Job]
) -> None:
    """Each gets its own result or error once the group is durable; one that gave up keeps nobody waiting."""
    wrong = ValueError("the caller's own")

    async def all_at_once() -> list[int | BaseException]:
        commits.gate.clear()
        held = asyncio.create_task(writer.perform(job(9)))
        await asyncio.to_thread(commits.reached.wait, PATIENCE)
        tasks = [asyncio.create_task(writer.perform(job(n, wrong if n == 1 else None))) for n in range(4)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        assert not any(task.done() for task in tasks[:2])
        commits.gate.set()
        return [await held, *await asyncio.gather(*tasks, return_exceptions=True)]

    first, own, failed, gone, last = asyncio.run(all_at_once())
    assert (first, own, failed, last) == (1, 1, wrong, 1)
    assert isinstance(gone, asyncio.CancelledError)
    assert commits.done == 2
    assert entries(services) == 4
    assert verify(services.store).ok


@pytest.mark.parametrize("fault", ["before", "after"])
def test_coroutines_hear_of_a_failed_commit(
    services: Services, commits: Commits, writer: GroupCommit, job: Callable[..., Job], fault: str
) -> None:
    """Whether or not it was written in truth, there is no result; doing it again leaves it there once."""
    commits.failing[commits.done] = fault
    with pytest.raises(StoreError):
        asyncio.run(writer.perform(job(1)))
    asyncio.run(writer.perform(job(1)))
    assert entries(services) == 1


def test_a_loop_that_has_ended_harms_no_other(
    services: Services, commits: Commits, writer: GroupCommit, job: Callable[..., Job]
) -> None:
    """What a coroutine asked for is done although its loop is gone, and the writer goes on."""
    commits.gate.clear()

    async def leave() -> None:
        asyncio.create_task(writer.perform(job(1)))  # noqa: RUF006 - given up with its loop
        await asyncio.sleep(0)

    asyncio.run(leave())
    commits.gate.set()
    assert writer.submit(job(2)).result(PATIENCE) == 1
    assert entries(services) == 2


def test_a_closed_writer_takes_no_coroutines_job(services: Services, job: Callable[..., Job]) -> None:
    """It says so at once."""
    writer = GroupCommit(ledger_of(services))
    writer.close()
    with pytest.raises(StoreError):
        asyncio.run(writer.perform(job(1)))
