"""Callbacks that are written together: one job for all that waits, each answered for what became of it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import pytest

from core.errors import StoreError
from core.intake import Taken
from core.model import EventKind, ProviderEvent, RecipientId
from core.ports import Batch
from core.stores.group_commit import GroupCommit
from core.verify import verify
from tests.embedded import database_of, ledger_of
from tests.unit.conftest import START
from webhooks.assembly import Services
from webhooks.gathering import ENOUGH, Gathering, Post

PATIENCE = 20.0


def complaint(name: str, provider: str = "sendgrid") -> ProviderEvent:
    """Somebody's."""
    return ProviderEvent(
        provider, EventKind.COMPLAINT, "spamreport", START, (f"{provider}:{name}",), f"{name}@a.example"
    )


class Desk:
    """A gathering over the installation's own intake, a writer that can be held up, and what was told."""

    def __init__(self, services: Services, writer: GroupCommit) -> None:
        self.services = services
        self.writer = writer
        self.told: list[tuple[str, int, int]] = []
        self.jobs = 0
        self.failing: Callable[[Post], None] = lambda _: None
        self.gathering = Gathering(writer, self._work, self._told)

    def _work(self, batch: Batch, post: Post) -> Taken:
        self.jobs += 1
        taken = self.services.intake.apply(batch, post.events, START)
        self.failing(post)
        return taken

    def _told(self, post: Post, callbacks: int, taken: Taken) -> None:
        self.told.append((post.provider, callbacks, len(taken.protected)))

    def take(self, *events: ProviderEvent) -> Awaitable[bool]:
        """Have a callback with these events written."""
        return self.gathering.take(Post(events[0].provider, events, 0))

    @contextmanager
    def busy(self) -> Iterator[None]:
        """The writer is at something else meanwhile."""
        gate = threading.Event()
        self.writer.submit(lambda _: gate.wait(PATIENCE))
        try:
            yield
        finally:
            gate.set()

    def together(self, *callbacks: Sequence[ProviderEvent]) -> list[bool | BaseException]:
        """What becomes of callbacks that come while the writer is busy."""

        async def all_of_them() -> list[bool | BaseException]:
            with self.busy():
                tasks = [asyncio.create_task(self._awaited(events)) for events in callbacks]
                await asyncio.sleep(0)
            return await asyncio.gather(*tasks, return_exceptions=True)

        return asyncio.run(all_of_them())

    async def _awaited(self, events: Sequence[ProviderEvent]) -> bool:
        return await self.take(*events)

    def withdrawn(self, *names: str) -> list[bool]:
        """Whose chain has an entry."""
        return [self.services.store.head(self.recipient(name)) is not None for name in names]

    def recipient(self, name: str) -> RecipientId:
        """Who that is."""
        return self.services.identify(f"{name}@a.example")


@pytest.fixture
def desk(services: Services) -> Iterator[Desk]:
    """One of these."""
    with closing(GroupCommit(ledger_of(services))) as writer:
        yield Desk(services, writer)


def test_what_waits_is_written_as_one(desk: Desk) -> None:
    """Three callbacks of one ESP and one of another: one job, each ESP's counted and told together."""
    callbacks = [
        [complaint("ada")],
        [complaint("bob"), complaint("cat")],
        [complaint("eve", "ses")],
        [complaint("ada")],
    ]
    assert desk.together(*callbacks) == [True] * 4
    assert desk.told == [("sendgrid", 3, 3), ("ses", 1, 1)]
    assert desk.jobs == len(desk.told)
    assert desk.withdrawn("ada", "bob", "cat", "eve") == [True] * 4
    assert [len(desk.services.store.chain(desk.recipient(name))) for name in ("ada", "bob")] == [1, 1]
    assert verify(desk.services.store).ok


def test_a_full_group_takes_no_more(desk: Desk) -> None:
    """What comes behind a thousand events is the next group's."""
    many = [complaint(f"person{n}") for n in range(ENOUGH)]
    assert desk.together(many, [complaint("ada")]) == [True, True]
    assert [(callbacks, protected) for _, callbacks, protected in desk.told] == [(1, ENOUGH), (1, 1)]


@pytest.mark.parametrize("damaged", [True, False], ids=["damage", "bug"])
def test_what_one_callback_holds_is_told_from_the_rest(desk: Desk, damaged: bool) -> None:
    """The group is undone, nobody is told of it, and each is to be taken alone."""
    if damaged:
        assert desk.together([complaint("bob")]) == [True]
        with database_of(desk.services).transaction() as connection:
            connection.execute("UPDATE head SET standings=x'c1'")
        desk.told.clear()
    else:
        desk.failing = lambda post: [][len(post.events)]
    again = ProviderEvent("sendgrid", EventKind.COMPLAINT, "spamreport", START, ("another",), "bob@a.example")
    assert desk.together([complaint("ada")], [again], [complaint("cat")]) == [False] * 3
    assert desk.withdrawn("ada", "cat") == [False, False]
    assert desk.told == []


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
def test_a_store_that_fails_fails_all(desk: Desk, monkeypatch: pytest.MonkeyPatch, done: bool) -> None:
    """Committed or not: everybody hears of the failure, and what is sent again takes effect once."""
    store = ledger_of(desk.services)
    whole, failures = store.batch, Counter({"left": 1})

    @contextmanager
    def failing() -> Iterator[Batch]:
        with whole() as batch:
            yield batch
            if desk.jobs and failures["left"] and not done:
                failures["left"] -= 1
                raise sqlite3.OperationalError("disk I/O error")
        if desk.jobs and failures["left"]:
            failures["left"] -= 1
            raise StoreError("the answer was lost")

    monkeypatch.setattr(store, "batch", failing)
    callbacks = [[complaint("ada")], [complaint("bob")]]
    outcomes = desk.together(*callbacks)
    assert [type(outcome) for outcome in outcomes] == [StoreError, StoreError]
    assert desk.told == []
    assert desk.withdrawn("ada", "bob") == [done, done]
    assert desk.together(*callbacks) == [True, True]
    assert desk.told == [("sendgrid", 2, 2)]
    assert [len(store.chain(desk.recipient(name))) for name in ("ada", "bob")] == [1, 1]


def test_whoever_goes_away_leaves_the_others_theirs(desk: Desk) -> None:
    """The first of a group, which had it queued, is given up: all of it is written and told all the same."""

    async def given_up() -> bool:
        with desk.busy():
            first = asyncio.create_task(desk._awaited([complaint("ada")]))
            second = asyncio.create_task(desk._awaited([complaint("bob")]))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.sleep(0)
        return await second

    assert asyncio.run(given_up())
    assert desk.told == [("sendgrid", 2, 2)]
    assert desk.withdrawn("ada", "bob") == [True, True]


def test_a_closed_writer_says_so_each_time(desk: Desk) -> None:
    """No group is left behind that somebody could join in vain."""
    desk.writer.close()

    async def refused() -> None:
        for _ in range(2):
            with pytest.raises(StoreError, match="closed"):
                await desk.take(complaint("ada"))

    asyncio.run(refused())


def test_a_loop_that_ended_leaves_nothing_behind(desk: Desk) -> None:
    """Whoever waited is gone with the loop; the next one is written in a loop of its own."""

    async def leave() -> None:
        task = asyncio.create_task(desk._awaited([complaint("ada")]))
        await asyncio.sleep(0)
        task.cancel()

    with desk.busy():
        asyncio.run(leave())
    assert desk.together([complaint("bob")]) == [True]
    assert desk.withdrawn("ada", "bob") == [True, True]
