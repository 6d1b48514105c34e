"""Callbacks that wait for the writer at the same time, written as one: each statement then serves all of them.

ESPs post most events one or a few at a time, over several connections. What arrives while the writer is busy joins the
group that it takes next, and is judged and counted together with it. All of a group stands or falls together; where it
falls by what one callback holds, each is taken alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from core.errors import BatchTooLarge, DamagedState, StoreError

if TYPE_CHECKING:
    from core.intake import Taken
    from core.model import ProviderEvent
    from core.ports import Batch
    from core.stores.bundle import Writer

_OF_ONE = (BatchTooLarge, DamagedState)
"""Failures of the store that hang on what a callback holds, and that a smaller group may not meet."""
ENOUGH = 1_000
"""Events of which a group takes no more callbacks: opens of the hosted pixel wait behind it."""


class Post(NamedTuple):
    """What one callback holds: its provider, its events that can take effect, and how many have none."""

    provider: str
    events: Sequence[ProviderEvent]
    idle: int


Work = Callable[["Batch", Post], "Taken"]
Told = Callable[[Post, int, "Taken"], None]


@dataclass(slots=True, eq=False)
class _Group:
    """Callbacks of one event loop that are written together. A future says whether its callback was."""

    loop: asyncio.AbstractEventLoop
    posts: list[tuple[Post, asyncio.Future[bool]]] = field(default_factory=list)
    events: int = 0

    def merged(self) -> Iterator[tuple[Post, int]]:
        """One post for each provider, and of how many it is made."""
        found: dict[str, list[Post]] = defaultdict(list)
        for post, _ in self.posts:
            found[post.provider].append(post)
        for provider, posts in found.items():
            events = [event for post in posts for event in post.events]
            yield Post(provider, events, sum(post.idle for post in posts)), len(posts)


class Gathering:
    """Has callbacks written in groups.

    Args:
        writer: Makes them durable.
        work: Applies a post as part of a batch.
        told: Hears of what was written, of how many callbacks it was made and what became of it: in the event loop,
            before anybody is answered.
    """

    def __init__(self, writer: Writer, work: Work, told: Told) -> None:
        self._writer = writer
        self._work = work
        self._told = told
        self._lock = threading.Lock()
        self._open: _Group | None = None

    async def take(self, post: Post) -> bool:
        """Have a callback written with others; False when it must be taken alone, for nothing of it was done.

        Raises:
            StoreError: the store is out of reach.
        """
        loop = asyncio.get_running_loop()
        written: asyncio.Future[bool] = loop.create_future()
        with self._lock:
            group = self._open
            if group is None or group.events >= ENOUGH or group.loop is not loop:
                group = _Group(loop)
                self._submit(group)
                self._open = group
            group.posts.append((post, written))
            group.events += len(post.events)
        return await written

    def _submit(self, group: _Group) -> None:
        """Queue a group that is still empty: it fills until the writer comes to it. Under the lock."""

        def job(batch: Batch) -> Mapping[str, Taken]:
            with self._lock:
                if self._open is group:
                    self._open = None
            return {post.provider: self._work(batch, post) for post, _ in group.merged()}

        def ended(done: Future[Mapping[str, Taken]]) -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                group.loop.call_soon_threadsafe(self._tell, group, done)

        self._writer.submit(job).add_done_callback(ended)

    def _tell(self, group: _Group, done: Future[Mapping[str, Taken]]) -> None:
        error = done.exception()
        with self._lock:  # where the job did not even begin
            if self._open is group:
                self._open = None
        try:
            if error is None:
                for post, callbacks in group.merged():
                    self._told(post, callbacks, done.result()[post.provider])
        finally:
            for _, written in group.posts:
                if not written.done():  # else given up meanwhile
                    _settle(written, error)


def _settle(written: asyncio.Future[bool], error: BaseException | None) -> None:
    if isinstance(error, StoreError) and not isinstance(error, _OF_ONE):
        written.set_exception(error)
    else:
        written.set_result(error is None)
