"""What the hosted pixel has answered and not yet written: handed over in groups, bounded, never written twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

import pytest
import structlog

from core.errors import StoreError
from core.hosted import AGGREGATE, Hosted, Waiting
from core.intake import RECORDED
from core.machines import client_of
from core.model import Action, Campaign, CampaignId, CampaignKind, Mechanism, PixelMode, PurposeId
from core.ports import Batch
from core.stores.group_commit import GroupCommit
from core.stores.sqlite import SqliteStore
from tests.embedded import ledger_of
from tests.mailings_in_store import applied
from webhooks import pixel_queue
from webhooks.assembly import Services
from webhooks.pixel_queue import OpenQueue

Record = Callable[..., int]

MEASURING = PurposeId("performance")
AUTUMN = CampaignId("autumn")
ADDRESS = "ada@example.org"
HOSTED = Campaign(AUTUMN, "ses", CampaignKind.REQUESTED, (MEASURING,), Mechanism.HOSTED, aggregate=True)
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0"


@pytest.fixture
def writer(services: Services) -> Iterator[GroupCommit]:
    """The ledger's writer."""
    writer = GroupCommit(ledger_of(services))
    yield writer
    writer.close()


@pytest.fixture
def hosted(services: Services, record: Record) -> Hosted:
    """The judgement, of a campaign in which Ada got a pixel and to which she agreed."""
    applied(services, HOSTED, {services.recipient(ADDRESS): PixelMode.INDIVIDUAL})
    record(Action.GIVEN)
    return Hosted(services.mailings, services.policy)


def kept(services: Services) -> int:
    """How many opens were kept."""
    return services.store.count_opens()


def opens(services: Services, n: int) -> list[Waiting]:
    """Ada's open, so many times."""
    ada, edition = services.recipient(ADDRESS), services.mailings.campaign(AUTUMN)
    assert edition
    client = client_of(AGENT)
    now, position = services.now(), services.store.size()
    return [Waiting(AUTUMN, ada, now, client, (MEASURING,), edition.edition, position)] * n


class Blocked:
    """Holds the writer up until it is let go."""

    def __init__(self, writer: GroupCommit) -> None:
        self._go = Event()
        self._begun = Event()
        writer.submit(self._job)
        self._begun.wait(30)

    def _job(self, _batch: Batch) -> None:
        self._begun.set()
        self._go.wait(30)

    def let_go(self) -> None:
        """Let the writer work."""
        self._go.set()


def test_what_waits_is_bounded(
    services: Services, hosted: Hosted, writer: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than can be held is dropped, said once, and counted as soon as something can be written."""
    monkeypatch.setattr(pixel_queue, "MOST_WAITING", 10)
    monkeypatch.setattr(pixel_queue, "MOST_TOGETHER", 4)
    queue = OpenQueue(hosted, writer, services.now)
    blocked = Blocked(writer)
    with structlog.testing.capture_logs() as said:
        for _ in range(5):
            queue.add(opens(services, 4), [])
    assert [(line["event"], line["opens"]) for line in said] == [("opens lost", 2)]
    blocked.let_go()
    queue.settle()
    assert kept(services) == 10
    assert services.store.counters("hosted") == {pixel_queue.LOST: 10}


def test_a_closed_queue_has_handed_everything_over(
    services: Services, hosted: Hosted, writer: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In groups as large as the writer may get; it is closed after, and then all is durable."""
    monkeypatch.setattr(pixel_queue, "MOST_TOGETHER", 4)
    queue = OpenQueue(hosted, writer, services.now)
    queue.add(opens(services, 9), [AUTUMN, AUTUMN])
    queue.close()
    writer.close()
    assert services.store.counters("campaign:autumn") == {RECORDED: 9, AGGREGATE: 2}


@pytest.mark.parametrize(
    ("done", "opens_kept", "lost"), [(False, 1, 6), (True, 7, 9)], ids=["failed and not done", "failed but done"]
)
def test_a_group_that_fails_is_lost_and_never_written_twice(  # noqa: PLR0913, PLR0917 - a fault in two forms
    services: Services, hosted: Hosted, writer: GroupCommit, done: bool, opens_kept: int, lost: int
) -> None:
    """The opens count as lost; where the store had written them all the same, they stand once."""
    queue = OpenQueue(hosted, writer, services.now)
    real = type(services.store).batch

    @contextmanager
    def failing(store: SqliteStore) -> Iterator[Batch]:
        if done:
            with real(store) as batch:
                yield batch
        raise StoreError("the disk is gone")

    with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs() as said:
        patch.setattr(type(services.store), "batch", failing)
        for _ in range(2):
            queue.add(opens(services, 3), [])
            with pytest.raises(StoreError):
                queue.settle()
    assert [(line["reason"], line["opens"]) for line in said] == [("the disk is gone", 3)]
    queue.add(opens(services, 1), [])
    queue.settle()
    assert kept(services) == opens_kept
    assert services.store.counters("hosted") == {pixel_queue.LOST: lost}


def test_opens_are_written_without_anybody_waiting(
    services: Services, hosted: Hosted, writer: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer of the event loop hands them over, again and again while the writer is busy."""
    monkeypatch.setattr(pixel_queue, "WAIT", 0.001)

    async def serve() -> None:
        queue = OpenQueue(hosted, writer, services.now)
        queue.start()
        blocked = Blocked(writer)
        for n in (1, 2):
            queue.add(opens(services, n), [])
            await asyncio.sleep(0.02)
        blocked.let_go()
        while kept(services) < 3:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(serve(), 30))
    assert services.store.counters("campaign:autumn") == {RECORDED: 3}
