"""What is kept beside the ledger, over each kind of store, with a clock that stands still unless told to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from core.dead_letters import DeadLetters
from core.incidents import Incidents
from core.proofs.history import History
from core.records import AddressBook
from core.stores.bundle import Answers, WorkingLedger
from core.stores.dynamodb.address_book import DynamoAddressBook
from core.stores.dynamodb.api_keys import DynamoKeys
from core.stores.dynamodb.dead_letters import DynamoDeadLetters
from core.stores.dynamodb.incidents import DynamoIncidents
from core.stores.dynamodb.ledger import DynamoStore
from core.stores.dynamodb.proof_history import DynamoProofHistory
from core.stores.embedded import EmbeddedStores
from tests.aws_ground import Ground, Servers
from tests.contract.ledger_bench import KINDS, SEAL_KEY, Clock

__all__ = ["KINDS", "Kept", "on_dynamodb", "stores"]


@dataclass
class Kept:
    """The stores. ``within``: what they are in. ``another``: the same ones as another process has them."""

    clock: Clock
    ledger: WorkingLedger
    book: AddressBook
    dead_letters: DeadLetters
    incidents: Incidents
    keys: Answers
    history: History
    within: EmbeddedStores | Ground
    another: Callable[[], Kept] = field(repr=False)


@dataclass
class _Embedded:
    """Opens an installation's files as often as it is asked to."""

    folder: Path
    clock: Clock
    opened: list[EmbeddedStores] = field(default_factory=list)

    def __call__(self) -> Kept:
        made = EmbeddedStores(self.folder, lambda: SEAL_KEY, self.clock)
        self.opened.append(made)
        beside = made.book, made.dead_letters, made.incidents, made.keys, made.proof_history
        return Kept(self.clock, made.ledger, *beside, within=made, another=self)


def on_dynamodb(ground: Ground, clock: Clock | None = None) -> Kept:
    """The stores in these tables."""
    at, where = clock or Clock(), (ground.client, ground.prefix)
    return Kept(
        clock=at,
        ledger=DynamoStore(*where, SEAL_KEY, at),
        book=DynamoAddressBook(*where),
        dead_letters=DynamoDeadLetters(*where, at),
        incidents=DynamoIncidents(*where),
        keys=DynamoKeys(*where, at),
        history=DynamoProofHistory(*where),
        within=ground,
        another=lambda: on_dynamodb(ground, at),
    )


@contextmanager
def stores(kind: str, servers: Servers, folder: Path) -> Iterator[Kept]:
    """Empty stores of a kind; skips the test where there is no such server."""
    if kind != "sqlite":
        yield on_dynamodb(servers.ground(kind))
        return
    made = _Embedded(folder, Clock())
    try:
        yield made()
    finally:
        for each in made.opened:
            each.close()
