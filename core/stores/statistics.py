"""What a report reads beside the ledger, on SQLite: see ``core.reporting.Statistics``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from core.model import PurposeId, RecipientId
from core.records import TakenOut
from core.stores.database import Database
from core.stores.records import MILLISECONDS

_TAKEN_OUT = "SELECT recipient, provider, at, purposes FROM taken_out ORDER BY recipient, provider, at"
_IN_DOUBT = "SELECT count(*) FROM confirmed INDEXED BY in_doubt WHERE provider=? AND mark<>0"


class SqliteStatistics:
    """See ``core.reporting.Statistics``.

    Args:
        db: The database, made with the schema of the records.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    def taken_out(self) -> Iterator[tuple[RecipientId, TakenOut]]:
        """When ESPs were seen to hold people no longer, in the order of recipients."""
        for recipient, provider, at, purposes in self.db.rows(_TAKEN_OUT):
            moment = datetime.fromtimestamp(at / MILLISECONDS, UTC)
            yield RecipientId(recipient), TakenOut(provider, moment, tuple(map(PurposeId, purposes.split())))

    def in_doubt(self, provider: str) -> int:
        """Of how many people it is not known what an ESP holds."""
        return int(self.db.row(_IN_DOUBT, (provider,))[0])
