"""What a report reads beside the ledger, on DynamoDB: see ``core.reporting.Statistics``."""

from __future__ import annotations

from collections.abc import Iterator

from core.model import RecipientId
from core.records import TakenOut
from core.stores.dynamodb.forms import NIBBLES
from core.stores.dynamodb.records import DynamoRecords, taken_out_of


class DynamoStatistics:
    """See ``core.reporting.Statistics``.

    Args:
        records: The working records.
    """

    def __init__(self, records: DynamoRecords) -> None:
        self._records = records

    def taken_out(self) -> Iterator[tuple[RecipientId, TakenOut]]:
        """When ESPs were seen to hold people no longer, in the order of recipients, each from the oldest on."""
        for shard in NIBBLES:
            yield from map(taken_out_of, self._records.table.query(f"out#{shard}"))

    def in_doubt(self, provider: str) -> int:
        """Of how many people it is not known what an ESP holds."""
        return sum(1 for _ in self._records.pending(provider))
