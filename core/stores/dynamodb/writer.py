"""Makes jobs durable on DynamoDB, each in a batch of its own: the counterpart of ``core.stores.group_commit``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from core.errors import HeadConflict, StoreError
from core.ports import Batch, LedgerStore

T = TypeVar("T")

THREADS = 16
"""Jobs that wait for DynamoDB at the same time."""
MOST_TRIES = 8
"""Of one job, while others change what it read."""


class DirectCommit:
    """Runs jobs on the store. No thread works but for a job that somebody waits for.

    A job may run several times: what it answered counts only when its batch was written. Where DynamoDB's answer was
    lost, the job fails with StoreError though it may have been done; jobs carry idempotency keys.
    """

    def __init__(self, store: LedgerStore, threads: int = THREADS) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(threads, "ledger-writer")
        self._closing = threading.Lock()
        self._closed = False

    def submit(self, job: Callable[[Batch], T]) -> Future[T]:
        """Have ``job`` run; the future gives what it returned once that is durable.

        Raises:
            StoreError: the writer was closed.
        """
        with self._closing:
            if self._closed:
                raise StoreError("the store is being closed")
            return self._pool.submit(self._run, job)

    async def perform(self, job: Callable[[Batch], T]) -> T:
        """Have ``job`` run; answers what it returned once that is durable."""
        return await asyncio.wrap_future(self.submit(job))

    def close(self) -> None:
        """Finish what waits, then stop."""
        with self._closing:
            self._closed = True
        self._pool.shutdown()

    def _run(self, job: Callable[[Batch], T]) -> T:
        for _ in range(MOST_TRIES):
            try:
                with self._store.batch() as batch:
                    return job(batch)
            except HeadConflict:
                continue
        raise StoreError("others kept changing the same chains; try again")
