"""What the hosted pixel is judged by, on DynamoDB: see ``core.hosted.PixelFacts``. Everything is looked up anew."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from core.errors import DamagedState
from core.hosted import Fact
from core.model import CampaignId, RecipientId
from core.ports import Head
from core.records import CampaignRecord, Mailings
from core.stores.dynamodb.batch import Everybody
from core.stores.dynamodb.ledger import DynamoStore

_UNREAD = -1
"""Stands for a snapshot in force that was not looked up: no judgement is held on it."""


class DynamoPixelFacts:
    """Reads what was last committed. Nothing that it says lasts, so that nothing is remembered and nothing read ahead.

    Args:
        store: The ledger's store.
        mailings: Campaigns and their snapshots.
    """

    lasting = False

    def __init__(self, store: DynamoStore, mailings: Mailings) -> None:
        self._store = store
        self._mailings = mailings

    def close(self) -> None:
        """Nothing is held open."""

    def moment(self, names: Collection[CampaignId]) -> tuple[int, Mapping[CampaignId, int]]:
        """No position, and for each name a snapshot on which no judgement is held: all is looked up."""
        return 0, dict.fromkeys(names, _UNREAD)

    def touched(self, after: int) -> set[RecipientId]:  # noqa: ARG002 - whatever the position
        """Everybody."""
        return Everybody()

    def snapshot(self, campaign: CampaignId, most: int) -> Iterator[tuple[RecipientId, Fact]]:  # noqa: ARG002 - see there
        """Nobody: nothing is read ahead."""
        return iter(())

    def look_up(self, asked: Sequence[tuple[CampaignId, RecipientId]]) -> list[Fact]:
        """See ``core.hosted.PixelFacts``. Heads are read last: what is committed before that is seen."""
        records: dict[CampaignId, CampaignRecord | None] = {}
        modes = {}
        for name in sorted({name for name, _ in asked}):
            record = records[name] = self._mailings.campaign(name)
            people = {recipient for each, recipient in asked if each == name}
            # Without a campaign as well: the time that it takes says nothing.
            found = self._mailings.modes(name, people, record.edition if record else 0)
            modes.update({(name, recipient): mode for recipient, mode in found.items()})
        heads = self._heads({recipient for _, recipient in asked})
        facts = []
        for name, recipient in asked:
            record, head = records[name], heads.get(recipient)
            campaign, edition = (record.campaign, record.edition) if record else (None, 0)
            facts.append(Fact(campaign, edition, modes.get((name, recipient)), head.standings if head else {}, 0))
        return facts

    def _heads(self, recipients: Collection[RecipientId]) -> dict[RecipientId, Head]:
        """The heads; of whom it cannot be read, none: then nothing is recorded of them."""
        try:
            return self._store.heads(recipients)
        except DamagedState:
            if len(recipients) == 1:
                return {}
            return {r: head for each in recipients for r, head in self._heads([each]).items()}
