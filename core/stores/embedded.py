"""The default stores: two SQLite files on one machine. No copy of the ledger's file holds an address."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from core.checkpoint_lock import FolderLock
from core.files import FolderFiles
from core.model import RecipientId
from core.ports import Clock
from core.retention import Age
from core.stores import (
    address_book,
    api_keys,
    dead_letters,
    incidents,
    mailings,
    opens,
    proof_history,
    records,
    retention,
    sqlite,
)
from core.stores.database import Database
from core.stores.group_commit import GroupCommit
from core.stores.pixels import SqlitePixelFacts
from core.stores.proofs import SqlitePartnerEntries
from core.stores.statistics import SqliteStatistics

if TYPE_CHECKING:
    from core.stores.bundle import Expiry

LEDGER_FILE = "ledger.sqlite3"
ADDRESSES_FILE = "addresses.sqlite3"
SNAPSHOTS = "snapshots"
"""The folder of the files that say who got which pixel."""
FINDINGS = "proofs/findings"
"""The folder of what was found about partners' claims."""
LOG = "log"
"""The log's folder: it may be served as it stands."""


class EmbeddedStores:
    """See ``core.stores.bundle.Stores``.

    Args:
        folder: Where the files lie; it must exist.
        seal_key: Gives the key that authenticates the ledger's seal; asked for once the ledger is.
        now: The clock.
    """

    def __init__(self, folder: Path, seal_key: Callable[[], bytes], now: Clock) -> None:
        self._folder = folder
        self._seal_key = seal_key
        self._now = now
        self._opened: list[Database] = []

    @cached_property
    def database(self) -> Database:
        """The ledger's file, which holds everything that names nobody."""
        parts = (sqlite, incidents, records, mailings, opens, api_keys, proof_history, retention)
        return self._open(LEDGER_FILE, "".join(part.SCHEMA for part in parts))

    @cached_property
    def addresses(self) -> Database:
        """What holds addresses."""
        parts = (address_book, dead_letters, retention)
        return self._open(ADDRESSES_FILE, "".join(part.SCHEMA for part in parts))

    @cached_property
    def ledger(self) -> sqlite.SqliteStore:
        """The consent ledger."""
        return sqlite.SqliteStore(self.database, self._seal_key())

    @cached_property
    def records(self) -> records.SqliteRecords:
        """What the ESPs hold, how far each sync came, the texts of notices."""
        return records.SqliteRecords(self.database, self._now)

    @cached_property
    def mailings(self) -> mailings.SqliteMailings:
        """Campaigns, their snapshots and their releases."""
        return mailings.SqliteMailings(self.database)

    @cached_property
    def readings(self) -> opens.SqliteReadings:
        """Reads about one person or one campaign."""
        return opens.SqliteReadings(self.database)

    @cached_property
    def statistics(self) -> SqliteStatistics:
        """What a report reads beside the ledger."""
        return SqliteStatistics(self.database)

    @cached_property
    def book(self) -> address_book.SqliteAddressBook:
        """Addresses, apart from everything else."""
        return address_book.SqliteAddressBook(self.addresses)

    @cached_property
    def dead_letters(self) -> dead_letters.SqliteDeadLetters:
        """Callbacks' events that took no effect yet."""
        return dead_letters.SqliteDeadLetters(self.addresses)

    @cached_property
    def incidents(self) -> incidents.SqliteIncidents:
        """What should not have happened."""
        return incidents.SqliteIncidents(self.database)

    @cached_property
    def keys(self) -> api_keys.SqliteKeys:
        """The API's keys and answers."""
        return api_keys.SqliteKeys(self.database)

    @cached_property
    def proof_history(self) -> proof_history.SqliteProofHistory:
        """What reconciliations and audits found."""
        return proof_history.SqliteProofHistory(self.database)

    @cached_property
    def partner_entries(self) -> SqlitePartnerEntries:
        """What reconciliations read of the ledger."""
        return SqlitePartnerEntries(self.database)

    def files(self, place: str) -> FolderFiles:
        """What is shown to others, in a folder of its own."""
        return FolderFiles(self._folder / place)

    def lock(self, origin: str) -> FolderLock:  # noqa: ARG002 - one installation has one log
        """What the notary signed last."""
        return FolderLock(self._folder / LOG)

    def expiry(self, age: Age) -> Expiry:
        """What deletes old data here."""
        from core.stores.bundle import Expiry

        database, addresses = self.database, self.addresses
        return Expiry(
            opens=retention.OldRows(database, "open", "opened_at"),
            answers=retention.OldRows(database, "answered", "at", whole=True),
            effects=retention.OldRows(database, "taken_out", "at", scale=1_000, whole=True),
            findings=retention.OldFiles(database, self._folder / FINDINGS, (".parquet", ".csv")),
            snapshots=retention.OldSnapshots(database, self.mailings, age, self._folder / SNAPSHOTS),
            counters=retention.OldCounters(database, age),
            letters=retention.remove_letters(addresses),
            addresses=retention.remove_addresses(addresses),
            log=retention.SqlitePurgeLog(database, addresses),
        )

    def forget_opens(self, recipient: RecipientId) -> int:
        """Delete what is on record of a person's opens; answers how many there were."""
        return retention.remove_opens(self.database)(recipient)

    def writer(self) -> GroupCommit:
        """A new writer: one thread, which commits whatever waits together."""
        return GroupCommit(self.ledger)

    def pixel_facts(self) -> SqlitePixelFacts:
        """A new reader, on connections of its own."""
        return SqlitePixelFacts(self.database)

    def close(self) -> None:
        """Close the files."""
        while self._opened:
            self._opened.pop().close()

    def _open(self, name: str, schema: str) -> Database:
        opened = Database(self._folder / name, schema)
        self._opened.append(opened)
        return opened
