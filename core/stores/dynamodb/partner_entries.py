"""What reconciliations read of DynamoDB: entries that name a partner, texts that were shown, and first uses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from core.batches import batched
from core.ledger import campaign_chain, parse_campaign
from core.model import PixelMode
from core.proofs.terms import micros
from core.stores.dynamodb.forms import NIBBLES, open_of, opens_key
from core.stores.dynamodb.ledger import DynamoStore
from core.stores.dynamodb.mailings import DynamoMailings
from core.stores.dynamodb.table import text

PAGE = 5_000
_NAMES = b'"partner":'


class DynamoPartnerEntries:
    """See ``core.proofs.claims.PartnerEntries``.

    Args:
        store: The ledger's store.
        mailings: Campaigns and their snapshots.
    """

    def __init__(self, store: DynamoStore, mailings: DynamoMailings) -> None:
        self._store = store
        self._mailings = mailings

    def size(self) -> int:
        """The position of the newest entry."""
        return self._store.size()

    def hash_at(self, position: int) -> bytes | None:
        """The hash of the entry at a position."""
        return next(iter(self._store.hashes(position - 1, position)), None)

    def pages(self, after: int, until: int) -> Iterator[tuple[int, str]]:
        """The entries that name a partner, as NDJSON."""
        for page in batched(self._store.between(after, until), PAGE):
            lines = [
                f'{{"position":{position},{entry.body[1:].decode()}' for position, entry in page if _NAMES in entry.body
            ]
            yield len(page), "\n".join(lines)

    def texts(self) -> frozenset[str]:
        """The SHA-256 (hex) of every text that people were shown."""
        return frozenset(text(item, "sk") for item in self._store.state.query("notices"))

    def first_uses(self) -> Iterator[tuple[str, int]]:
        """(recipient in hex, microseconds): when mail with an individual pixel left, and when an open was recorded.

        A campaign that began to leave and has not been released whole counts from when it was applied. A recipient may
        come several times.
        """
        for record in self._mailings.campaigns():
            name = record.campaign.id
            at = self._released(name)
            if at is not None and (record.sent or self._mailings.started(name)):
                for choice in self._mailings.choices(record.edition):
                    if choice.mode is PixelMode.INDIVIDUAL and choice.part:
                        yield choice.recipient.hex(), micros(at)
            for shard in NIBBLES:
                for _, open_ in map(open_of, self._store.state.query(opens_key(name, shard))):
                    yield open_.recipient.hex(), micros(open_.opened_at)

    def _released(self, campaign: str) -> datetime | None:
        """When a campaign left, by the ledger."""
        times: dict[str, datetime] = {}
        for entry in self._store.chain(campaign_chain(campaign)):
            said = parse_campaign(entry.body)
            times[said.stage] = said.recorded_at
        return times.get("released") or times.get("applied")
