"""A ledger over each kind of store, with a clock that stands still unless it is told to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core.consent import absorb
from core.ledger import Ledger, Recording, entry, idempotency_key
from core.model import Action, ConsentEvent, PurposeId, RecipientId
from core.ports import Batch, Entry, Head
from core.stores.bundle import WorkingLedger
from core.stores.dynamodb.ledger import DynamoStore
from core.stores.embedded import EmbeddedStores
from tests.aws_ground import SERVERS, Ground

KINDS = ("sqlite", *SERVERS)
SEAL_KEY = b"k" * 32
START = datetime(2026, 11, 2, 9, 0, 0, 250_000, tzinfo=UTC)
PERFORMANCE = PurposeId("performance")
ADA, BOB = RecipientId(b"a" * 16), RecipientId(b"b" * 16)
KEY = idempotency_key("once", START)


@dataclass
class Clock:
    """Answers the same time until it is told to ``wait``."""

    at: datetime = START

    def __call__(self) -> datetime:
        """The time."""
        return self.at

    def wait(self, **span: float) -> None:
        """Go on."""
        self.at += timedelta(**span)


@dataclass
class Bench:
    """A store and the ledger over it."""

    store: WorkingLedger
    clock: Clock = field(default_factory=Clock)

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return Ledger(self.store, self.clock)

    def event(self, action: Action, recipient: RecipientId = ADA, *purposes: str) -> ConsentEvent:
        """A decision made now."""
        named = tuple(map(PurposeId, purposes)) or (PERFORMANCE,)
        return ConsentEvent(recipient, named, action, self.clock(), self.clock(), "form")

    def once(self, work: Callable[[Batch], object]) -> None:
        """Do it in one batch, and not again when that fails."""
        with self.store.batch() as batch:
            work(batch)

    def say(self, action: Action, recipient: RecipientId = ADA, *purposes: str, keys: Sequence[bytes] = ()) -> int:
        """Record a decision made now; answers how many entries that were."""
        return self.ledger.record([Recording(self.event(action, recipient, *purposes), tuple(keys))])


@dataclass
class DynamoBench(Bench):
    """The same on DynamoDB, whose tables can be reached."""

    store: DynamoStore
    ground: Ground = field(kw_only=True)


def dynamo(ground: Ground, seal_key: bytes = SEAL_KEY) -> DynamoBench:
    """A ledger in these tables."""
    clock = Clock()
    return DynamoBench(DynamoStore(ground.client, ground.prefix, seal_key, clock), clock, ground=ground)


@contextmanager
def bench(kind: str, ground: Callable[[str], Ground], folder: Path) -> Iterator[Bench]:
    """An empty ledger in a kind of store; skips the test where there is no such server."""
    if kind != "sqlite":
        yield dynamo(ground(kind))
        return
    clock = Clock()
    stores = EmbeddedStores(folder, lambda: SEAL_KEY, clock)
    try:
        yield Bench(stores.ledger, clock)
    finally:
        stores.close()


def follow(head: Head | None, event: ConsentEvent) -> tuple[list[Entry], Head]:
    """The entry and the head that come after ``head``."""
    seq, prev = (head.seq + 1, head.hash) if head else (1, b"")
    made = entry(event, seq=seq, prev=prev, now=event.received_at, salt=bytes(16))
    return [made], Head(made.seq, made.hash, absorb(head.standings if head else {}, event))


def at_once(*works: Callable[[], object]) -> list[BaseException | None]:
    """Do all of these in threads of their own; answers what each failed with."""
    with ThreadPoolExecutor(len(works)) as pool:
        return [done.exception() for done in [pool.submit(work) for work in works]]
