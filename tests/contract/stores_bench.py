"""What is kept beside the ledger, over each kind of store, with a clock that stands still unless told to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from core.dead_letters import DeadLetters
from core.incidents import Incidents
from core.proofs.history import History
from core.records import AddressBook, Mailings, Readings, Records
from core.reporting import Statistics
from core.stores.bundle import Answers, ShownTexts, WorkingLedger
from core.stores.dynamodb.address_book import DynamoAddressBook
from core.stores.dynamodb.api_keys import DynamoKeys
from core.stores.dynamodb.dead_letters import DynamoDeadLetters
from core.stores.dynamodb.incidents import DynamoIncidents
from core.stores.dynamodb.ledger import DynamoStore
from core.stores.dynamodb.mailings import DynamoMailings
from core.stores.dynamodb.partner_entries import DynamoPartnerEntries
from core.stores.dynamodb.proof_history import DynamoProofHistory
from core.stores.dynamodb.readings import DynamoReadings
from core.stores.dynamodb.records import DynamoRecords
from core.stores.dynamodb.statistics import DynamoStatistics
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
    records: Records
    mailings: Mailings
    readings: Readings
    statistics: Statistics
    entries: ShownTexts
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
        return Kept(
            clock=self.clock,
            ledger=made.ledger,
            book=made.book,
            dead_letters=made.dead_letters,
            incidents=made.incidents,
            keys=made.keys,
            history=made.proof_history,
            records=made.records,
            mailings=made.mailings,
            readings=made.readings,
            statistics=made.statistics,
            entries=made.partner_entries,
            within=made,
            another=self,
        )


def on_dynamodb(ground: Ground, clock: Clock | None = None) -> Kept:
    """The stores in these tables."""
    at, where = clock or Clock(), (ground.client, ground.prefix)
    ledger = DynamoStore(*where, SEAL_KEY, at)
    records, mailings = DynamoRecords(*where, at), DynamoMailings(*where)
    return Kept(
        clock=at,
        ledger=ledger,
        book=DynamoAddressBook(*where),
        dead_letters=DynamoDeadLetters(*where, at),
        incidents=DynamoIncidents(*where),
        keys=DynamoKeys(*where, at),
        history=DynamoProofHistory(*where),
        records=records,
        mailings=mailings,
        readings=DynamoReadings(*where, at),
        statistics=DynamoStatistics(records),
        entries=DynamoPartnerEntries(ledger, mailings),
        within=ground,
        another=lambda: on_dynamodb(ground, at),
    )


@contextmanager
def stores(kind: str, servers: Servers, folder: Path) -> Iterator[Kept]:
    """Empty stores of a kind; skips the test where there is no such server."""
    if kind != "sqlite":
        ground = servers.ground(kind)
        try:
            yield on_dynamodb(ground)
        finally:
            servers.clear(ground)
        return
    made = _Embedded(folder, Clock())
    try:
        yield made()
    finally:
        for each in made.opened:
            each.close()
