"""One writer thread for a store: whatever waits is committed together, so that one disk flush serves many callers."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from core.errors import DamagedState, StoreError
from core.ports import Batch
from core.stores.sqlite import SqliteBatch, SqliteStore

T = TypeVar("T")
MOST_JOBS = 256

_Waiting = Future[Any] | asyncio.Future[Any]
"""Who waits for a job: a thread, or a coroutine."""
_Job = tuple[Callable[[Batch], Any], _Waiting]
_Outcome = tuple[_Waiting, Any, Exception | None]


class GroupCommit:
    """Runs jobs on the store, each in a savepoint of a shared transaction; one that comes alone needs none.

    A job's future is resolved only after the commit: a result means durable. A job that raises is undone alone; when
    the commit fails, every job of the group fails with StoreError and nothing of it was done (or, where SQLite cannot
    tell, repeating it is safe: jobs carry idempotency keys).
    """

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[Batch], T]) -> Future[T]:
        """Have ``job`` run; the future gives what it returned once that is durable."""
        future: Future[T] = Future()
        self._put((job, future))
        return future

    async def perform(self, job: Callable[[Batch], T]) -> T:
        """Have ``job`` run; answers what it returned once that is durable.

        For coroutines: their event loop is woken once for all jobs that were committed together.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._put((job, future))
        return await future

    def close(self) -> None:
        """Finish what waits, then stop."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _put(self, job: _Job) -> None:
        with self._closing:
            if self._closed:
                raise StoreError("the store is being closed")
            self._jobs.put(job)

    def _work(self) -> None:
        more = True
        while more:
            group: list[_Job] = []
            more = self._gather(group)
            if group:
                self._commit(group)

    def _gather(self, group: list[_Job]) -> bool:
        """Take the next job and all that wait behind it; False when there is nothing more to come."""
        job = self._jobs.get()
        while job is not None:
            if isinstance(job[1], asyncio.Future) or job[1].set_running_or_notify_cancel():
                group.append(job)
            if len(group) >= MOST_JOBS or self._jobs.empty():
                return True
            job = self._jobs.get()
        return False

    def _commit(self, group: list[_Job]) -> None:
        outcomes: list[_Outcome] = []
        try:
            with self._store.batch() as batch:
                if len(group) == 1:
                    outcomes = [_run_alone(batch, *group[0])]
                else:
                    outcomes = [(future, *_run(batch, job)) for job, future in group]
        except _OwnFailure as own:
            outcomes = [(group[0][1], None, own.failure)]
        except BaseException as error:  # noqa: BLE001 - whatever it is, the callers must hear of it and the thread live on
            reason = error if isinstance(error, StoreError) else StoreError(f"the store failed: {type(error).__name__}")
            outcomes = [(future, None, reason) for _, future in group]
        _tell([outcome for outcome in outcomes if not isinstance(outcome[0], asyncio.Future)])
        waiting: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
        for outcome in outcomes:
            if isinstance(outcome[0], asyncio.Future):
                waiting.setdefault(outcome[0].get_loop(), []).append(outcome)
        for loop, theirs in waiting.items():
            with suppress(RuntimeError):  # closed: nobody waits any more
                loop.call_soon_threadsafe(_tell, theirs)


def _tell(outcomes: Sequence[_Outcome]) -> None:
    for future, result, failure in outcomes:
        if future.done():  # given up meanwhile
            continue
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)


class _OwnFailure(Exception):
    """Carries a job's own failure out of a batch, which that undoes."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self.failure = failure


def _run_alone(batch: SqliteBatch, job: Callable[[Batch], Any], future: _Waiting) -> _Outcome:
    """Without a savepoint: what a failure undoes is the whole transaction, which holds nothing else."""
    try:
        return future, job(batch), None
    except (sqlite3.Error, StoreError):
        raise
    except Exception as error:  # noqa: BLE001 - it is handed to the caller
        raise _OwnFailure(error) from None


def _run(batch: SqliteBatch, job: Callable[[Batch], Any]) -> tuple[Any, Exception | None]:
    try:
        with batch.savepoint() as part:
            return job(part), None
    except DamagedState as error:
        return None, error  # of one recipient: the others' can still be written
    except (sqlite3.Error, StoreError):
        raise  # SQLite may have ended the transaction by itself: none of the group can stand
    except Exception as error:  # noqa: BLE001 - it is handed to the caller
        return None, error
