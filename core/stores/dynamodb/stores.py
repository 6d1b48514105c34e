"""The stores past one machine: DynamoDB, with what is shown to others in S3. See ``core.stores.bundle.Stores``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from core.checkpoint_lock import CheckpointLock
from core.files import Files
from core.model import RecipientId
from core.ports import Clock
from core.retention import Age
from core.settings import StoreSettings
from core.stores import s3
from core.stores.bundle import Expiry
from core.stores.dynamodb import retention, table
from core.stores.dynamodb.address_book import DynamoAddressBook
from core.stores.dynamodb.api_keys import DynamoKeys
from core.stores.dynamodb.dead_letters import DynamoDeadLetters
from core.stores.dynamodb.facts import DynamoPixelFacts
from core.stores.dynamodb.forms import NIBBLES
from core.stores.dynamodb.incidents import DynamoIncidents
from core.stores.dynamodb.ledger import DynamoStore
from core.stores.dynamodb.lock import DynamoLock
from core.stores.dynamodb.mailings import DynamoMailings
from core.stores.dynamodb.partner_entries import DynamoPartnerEntries
from core.stores.dynamodb.proof_history import DynamoProofHistory
from core.stores.dynamodb.readings import DynamoReadings
from core.stores.dynamodb.records import DynamoRecords
from core.stores.dynamodb.statistics import DynamoStatistics
from core.stores.dynamodb.writer import DirectCommit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class DynamoStores:
    """See ``core.stores.bundle.Stores``. Several processes may use the same tables.

    Args:
        settings: Where the tables and the bucket are.
        seal_key: Gives the key that authenticates the ledger's seal; asked for once the ledger is.
        now: The clock.
        secrets: Environment variables: AWS's credentials, unless its ordinary chain has them.
        answers_last: For which an answer of the API may be asked for again.
    """

    def __init__(
        self,
        settings: StoreSettings,
        seal_key: Callable[[], bytes],
        now: Clock,
        secrets: Mapping[str, str],
        answers_last: timedelta,
    ) -> None:
        self._settings = settings
        self._seal_key = seal_key
        self._now = now
        self._secrets = secrets
        self._answers_last = answers_last

    @cached_property
    def client(self) -> table.Client:
        """DynamoDB; raises SettingsError without a region or credentials."""
        return table.connect(self._settings.region or None, self._settings.endpoint_url or None, self._secrets)

    @cached_property
    def ledger(self) -> DynamoStore:
        """The consent ledger."""
        key = self._seal_key()
        return DynamoStore(self.client, self._settings.tables, key, self._now, answers_last=self._answers_last)

    @cached_property
    def records(self) -> DynamoRecords:
        """What the ESPs hold, how far each sync came, the texts of notices."""
        return DynamoRecords(self.client, self._settings.tables, self._now)

    @cached_property
    def mailings(self) -> DynamoMailings:
        """Campaigns, their snapshots and their releases."""
        return DynamoMailings(self.client, self._settings.tables)

    @cached_property
    def readings(self) -> DynamoReadings:
        """Reads about one person or one campaign."""
        return DynamoReadings(self.client, self._settings.tables, self._now)

    @cached_property
    def statistics(self) -> DynamoStatistics:
        """What a report reads beside the ledger."""
        return DynamoStatistics(self.records)

    @cached_property
    def book(self) -> DynamoAddressBook:
        """Addresses, apart from everything else."""
        return DynamoAddressBook(self.client, self._settings.tables)

    @cached_property
    def dead_letters(self) -> DynamoDeadLetters:
        """Callbacks' events that took no effect yet."""
        return DynamoDeadLetters(self.client, self._settings.tables, self._now)

    @cached_property
    def incidents(self) -> DynamoIncidents:
        """What should not have happened."""
        return DynamoIncidents(self.client, self._settings.tables)

    @cached_property
    def keys(self) -> DynamoKeys:
        """The API's keys and answers."""
        return DynamoKeys(self.client, self._settings.tables, self._now)

    @cached_property
    def proof_history(self) -> DynamoProofHistory:
        """What reconciliations and audits found."""
        return DynamoProofHistory(self.client, self._settings.tables)

    @cached_property
    def partner_entries(self) -> DynamoPartnerEntries:
        """What reconciliations read of the ledger."""
        return DynamoPartnerEntries(self.ledger, self.mailings)

    @cached_property
    def _s3(self) -> S3Client:
        return s3.connect(self._settings.region or None, self._settings.endpoint_url or None, self._secrets)

    def files(self, place: str) -> Files:
        """What is shown to others: ``log``, ``snapshots``, or what was found about partners' claims."""
        return s3.S3Files(self._s3, self._settings.bucket, f"{place}/")

    def lock(self, origin: str) -> CheckpointLock:
        """What the notary of a log signed last."""
        return DynamoLock(self.records.table, origin)

    def expiry(self, age: Age) -> Expiry:
        """What deletes old data here; the API's answers expire by themselves."""
        state, mailings = self.records.table, self.mailings

        def names() -> list[str]:
            return [record.campaign.id for record in mailings.campaigns()]

        found, shown = self.files("findings"), self.files("snapshots")
        return Expiry(
            opens=retention.OldOpens(state, names, age),
            answers=retention.ExpiringByThemselves(),
            effects=retention.OldItems(state, [f"out#{shard}" for shard in NIBBLES], "seen_at", 1_000),
            findings=retention.OldFiles(state, found, "", (".parquet", ".csv")),
            snapshots=retention.OldSnapshots(state, mailings.campaigns, mailings.rows, mailings.close, age, shown, ""),
            counters=retention.OldCounters(state, names, self.incidents, age),
            letters=retention.remove_letters(self.dead_letters),
            addresses=retention.remove_addresses(self.book),
            log=retention.DynamoPurgeLog(state, self.book.table),
        )

    def forget_opens(self, recipient: RecipientId) -> int:
        """Delete what is on record of a person's opens; answers how many there were."""
        return retention.remove_opens(self.records.table)(recipient)

    def writer(self) -> DirectCommit:
        """A new writer: each job is a transaction of its own."""
        return DirectCommit(self.ledger)

    def pixel_facts(self) -> DynamoPixelFacts:
        """A new reader, that looks everything up anew."""
        return DynamoPixelFacts(self.ledger, self.mailings)

    def close(self) -> None:
        """Let go of the connections."""
        client = self.__dict__.pop("client", None)
        if client is not None:
            client.close()
