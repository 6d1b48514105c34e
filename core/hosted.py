"""Opens by the hosted pixels: judged when the image is asked for, and once more when they are written.

An individual open is kept only where the snapshot in force gave this recipient an individual pixel in this campaign
*and* the consent stands, both at the moment of the request and inside the transaction that writes it: a withdrawal
that was committed before is always seen (§5). Of the aggregate pixel nothing is kept but a counter (§3.2): not even
whether a machine asked, since that would take a look at a header.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from core.campaign import lawful_purposes
from core.consent import Standings
from core.errors import DamagedState, SettingsError
from core.intake import MACHINE, RECORDED
from core.machines import Client
from core.model import Campaign, CampaignId, CampaignKind, Mechanism, PixelMode, PurposeId, RecipientId
from core.policy import Policy
from core.ports import Batch, Open
from core.records import CampaignRecord, Mailings

SOURCE = "hosted"
AGGREGATE = "opens_in_aggregate"


class Fact(NamedTuple):
    """What is on record about one request.

    Attributes:
        campaign: None where there is none of that name.
        edition: Its snapshot in force.
        mode: The recipient's pixel in it.
        standings: Where the recipient stands.
        position: The newest entry of the ledger when all this was read, or an older one.
    """

    campaign: Campaign | None
    edition: int
    mode: PixelMode | None
    standings: Standings
    position: int


class PixelFacts(Protocol):
    """Looks up what a request for a pixel is judged by, as last committed. Everything may raise StoreError."""

    @property
    def lasting(self) -> bool:
        """Whether ``moment`` and ``touched`` tell what has changed, so that judgements may be held until then."""
        ...

    def moment(self, names: Collection[CampaignId]) -> tuple[int, Mapping[CampaignId, int]]:
        """The ledger's position, and the snapshots in force of those campaigns that exist."""
        ...

    def touched(self, after: int) -> set[RecipientId]:
        """Whose chains grew behind a position."""
        ...

    def snapshot(self, campaign: CampaignId, most: int) -> Iterator[tuple[RecipientId, Fact]]:
        """The facts on the first so many recipients of a campaign; for a thread of its own."""
        ...

    def look_up(self, asked: Sequence[tuple[CampaignId, RecipientId]]) -> list[Fact]:
        """The facts on each, in this order."""
        ...


class Waiting(NamedTuple):
    """An open that was lawful when it was asked for, until it is written; ``edition`` and ``position``: see Fact."""

    campaign: CampaignId
    recipient: RecipientId
    at: datetime
    client: Client
    serves: tuple[PurposeId, ...]
    edition: int
    position: int


@dataclass(frozen=True, slots=True)
class Hosted:
    """Judges requests for the hosted pixels and records those that may be."""

    mailings: Mailings
    policy: Policy

    def serves(self, fact: Fact, now: datetime) -> tuple[PurposeId, ...]:
        """What an individual open may serve; empty: nothing may be kept.

        The same work is done whatever the facts are, so that the time that it takes says nothing of them.
        """
        campaign = fact.campaign or _NO_CAMPAIGN
        try:
            lawful = lawful_purposes(campaign, fact.standings, now, self.policy)
        except SettingsError:  # declared under another policy, which knew other purposes
            lawful = ()
        individual = fact.mode is PixelMode.INDIVIDUAL and campaign.mechanism is Mechanism.HOSTED
        return lawful if individual else ()

    def record(self, batch: Batch, waiting: Sequence[Waiting], now: datetime) -> None:
        """Write those opens that are still lawful, inside a transaction.

        A judgement stands unless the chain has grown since, or the campaign was applied anew: then it is made once
        more, by what the batch sees. The pixel that a recipient got does not change once the mail has left.
        """
        if not waiting:
            return
        grown = batch.touched(min(each.position for each in waiting))
        records = {name: self.mailings.campaign(name) for name in sorted({each.campaign for each in waiting})}
        editions = {name: record.edition for name, record in records.items() if record}
        opens, doubtful = [], []
        for each in waiting:
            if each.recipient not in grown and editions.get(each.campaign) == each.edition:
                opens.append(_open(each, each.serves))
            else:
                doubtful.append(each)
        again = ((each, self._again(batch, records[each.campaign], each, now)) for each in doubtful)
        opens += [_open(each, serves) for each, serves in again if serves]
        batch.record_opens(opens)
        kinds = Counter((open_.campaign, MACHINE if open_.machine else RECORDED) for open_ in opens)
        for (campaign, name), n in sorted(kinds.items()):
            batch.count(f"campaign:{campaign}", name, n)

    def count(self, batch: Batch, asked: Mapping[CampaignId, int]) -> None:
        """Add so many requests for the aggregate pixel to the counters of those campaigns that carry it."""
        for name, n in sorted(asked.items()):
            record = self.mailings.campaign(name)
            if record is not None and record.campaign.aggregate:
                batch.count(f"campaign:{name}", AGGREGATE, n)

    def _again(
        self, batch: Batch, record: CampaignRecord | None, each: Waiting, now: datetime
    ) -> tuple[PurposeId, ...]:
        """What an open may serve by what the batch sees now."""
        if record is None:
            return ()
        try:
            head = batch.heads([each.recipient]).get(each.recipient)
        except DamagedState:
            return ()
        mode = self.mailings.modes(each.campaign, [each.recipient]).get(each.recipient)
        return self.serves(Fact(record.campaign, record.edition, mode, head.standings if head else {}, 0), now)


def _open(each: Waiting, serves: tuple[PurposeId, ...]) -> Open:
    return Open(each.campaign, each.recipient, each.at, serves, SOURCE, each.client.machine, each.client.family)


_NO_CAMPAIGN = Campaign(CampaignId("none"), "none", CampaignKind.REQUESTED, (PurposeId("performance"),), Mechanism.NONE)
"""Stands in for one that does not exist; no pixel of it is ever recorded."""
