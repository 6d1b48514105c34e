"""Opens of ESPs that have no callback for them: fetched, judged and deduplicated like the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from core.batches import batched
from core.errors import PlanError
from core.intake import Intake, Taken
from core.model import ProviderEvent
from core.ports import Batch, Clock, Connector, LedgerStore, PollsOpens

BATCH = 1_000
OVERLAP = timedelta(hours=6)
"""An ESP may come to know of an open later than it happened: so much is fetched again, and recognised."""


@dataclass(frozen=True, slots=True)
class Polling:
    """Fetches opens."""

    intake: Intake
    store: LedgerStore
    now: Clock

    def poll(self, connector: Connector, campaign: str) -> Taken:
        """Fetch a campaign's opens since the last time and take them in; what was fetched before has no effect.

        Raises:
            PlanError: the campaign was not applied.
            ProviderError: the ESP is out of reach; what was fetched until then stays, and the next run fetches again.
        """
        mailings, begun = self.intake.mailings, self.now()
        record = mailings.campaign(campaign)
        if record is None:
            raise PlanError(f"campaign {campaign}: not applied here")
        last, total = mailings.poll_cursor(campaign), Taken()
        since = last - OVERLAP if last else None
        for events in batched(cast("PollsOpens", connector).poll_opens(record.applied, since), BATCH):
            for taken in self.intake.ledger.in_parts(self._take, events):
                total.counts.update(taken.counts)
        mailings.save_poll_cursor(campaign, begun)
        return total

    def _take(self, batch: Batch, events: Sequence[ProviderEvent]) -> Taken:
        return self.intake.apply(batch, events, self.now())
