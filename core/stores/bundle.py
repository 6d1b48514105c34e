"""What an installation keeps its data in: one bundle of stores, on one machine (SQLite) or past it (DynamoDB)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

from core.api_keys import KeyStore
from core.checkpoint_lock import CheckpointLock
from core.dead_letters import DeadLetters
from core.files import Files
from core.hosted import PixelFacts
from core.incidents import Incidents
from core.model import RecipientId
from core.ports import Answered, Batch, Head
from core.proofs.claims import PartnerEntries
from core.proofs.history import History
from core.records import AddressBook, Mailings, Readings, Records
from core.reporting import Statistics
from core.retention import Age, Expiring, Purge, PurgeLog
from core.transfer import Movable

T = TypeVar("T")


class WorkingLedger(Movable, Protocol):
    """The ledger's store, with what is read of it from day to day."""

    def head(self, recipient: RecipientId) -> Head | None:
        """One recipient's head, as last committed."""
        ...

    def counters(self, scope: str) -> dict[str, int]:
        """The counters of one scope."""
        ...

    def count_opens(self) -> int:
        """How many opens are on record."""
        ...

    def erase_bodies(self, recipient: RecipientId) -> int:
        """Erase what a recipient's entries say, and keep their hashes; answers how many.

        Raises:
            StoreError: this store cannot, or is out of reach.
        """
        ...


class Writer(Protocol):
    """Makes jobs durable: each is one batch, or part of one that holds others' jobs too."""

    def submit(self, job: Callable[[Batch], T]) -> Future[T]:
        """Have ``job`` run; the future gives what it returned once that is durable."""
        ...

    async def perform(self, job: Callable[[Batch], T]) -> T:
        """Have ``job`` run; answers what it returned once that is durable."""
        ...

    def close(self) -> None:
        """Finish what waits, then stop."""
        ...


class Answers(KeyStore, Protocol):
    """The API's keys, and the answers that it may have to repeat."""

    def answered(self, name: bytes) -> Answered | None:
        """The answer kept under a name, as last committed; raises StoreError."""
        ...


class ShownTexts(PartnerEntries, Protocol):
    """Entries that name a partner, and the texts that people were shown."""

    def texts(self) -> Collection[str]:
        """The SHA-256 (hex) of every text that people were shown."""
        ...


class Facts(PixelFacts, Protocol):
    """What the hosted pixel is judged by, until it is closed."""

    def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class Expiry:
    """What deletes old data of one kind of store, and the log of it. See ``core.retention.Kind``.

    ``letters``, ``addresses``: delete dead letters by number, and addresses, and note how many.
    """

    opens: Expiring
    answers: Expiring
    effects: Expiring
    findings: Expiring
    snapshots: Expiring
    counters: Expiring
    letters: Callable[[Sequence[int], Purge], int]
    addresses: Callable[[Sequence[RecipientId], Purge], int]
    log: PurgeLog


class Stores(Protocol):
    """Everything that an installation keeps. Each is made when first asked for, and is the same one afterwards."""

    @property
    def ledger(self) -> WorkingLedger:
        """The consent ledger."""
        ...

    @property
    def records(self) -> Records:
        """What the ESPs hold, how far each sync came, the texts of notices."""
        ...

    @property
    def mailings(self) -> Mailings:
        """Campaigns, their snapshots and their releases."""
        ...

    @property
    def readings(self) -> Readings:
        """Reads about one person or one campaign."""
        ...

    @property
    def statistics(self) -> Statistics:
        """What a report reads beside the ledger."""
        ...

    @property
    def book(self) -> AddressBook:
        """Addresses, apart from everything else."""
        ...

    @property
    def dead_letters(self) -> DeadLetters:
        """Callbacks' events that took no effect yet."""
        ...

    @property
    def incidents(self) -> Incidents:
        """What should not have happened."""
        ...

    @property
    def keys(self) -> Answers:
        """The API's keys and answers."""
        ...

    @property
    def proof_history(self) -> History:
        """What reconciliations and audits found."""
        ...

    @property
    def partner_entries(self) -> ShownTexts:
        """What reconciliations read of the ledger."""
        ...

    def files(self, place: str) -> Files:
        """What is shown to others, below this place: ``log``, ``snapshots``, or what was found about claims."""
        ...

    def lock(self, origin: str) -> CheckpointLock:
        """What the notary of the log of that name signed last."""
        ...

    def expiry(self, age: Age) -> Expiry:
        """What deletes old data here."""
        ...

    def forget_opens(self, recipient: RecipientId) -> int:
        """Delete what is on record of a person's opens; answers how many there were."""
        ...

    def writer(self) -> Writer:
        """A new writer to the ledger; whoever asked for it closes it."""
        ...

    def pixel_facts(self) -> Facts:
        """A new reader of what the hosted pixel is judged by; whoever asked for it closes it."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
