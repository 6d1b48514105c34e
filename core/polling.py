"""Opens of ESPs that have no callback for them: fetched, judged and deduplicated like the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import cast

from core.errors import PlanError
from core.intake import Intake, Taken
from core.model import ProviderEvent
from core.ports import Clock, Connector, LedgerStore, PollsOpens

BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Polling:
    """Fetches opens."""

    intake: Intake
    store: LedgerStore
    now: Clock

    def poll(self, connector: Connector, campaign: str, since: datetime | None = None) -> Taken:
        """Fetch a campaign's opens since then and take them in; what was fetched before has no effect.

        Raises:
            PlanError: the campaign was not applied.
            ProviderError: the ESP is out of reach.
        """
        record = self.intake.records.campaign(campaign)
        if record is None:
            raise PlanError(f"campaign {campaign}: not applied here")
        total = Taken()
        for events in _batches(cast("PollsOpens", connector).poll_opens(record.applied, since)):
            with self.store.batch() as batch:
                taken = self.intake.apply(batch, events, self.now())
            total.counts.update(taken.counts)
        return total


def _batches(events: Iterator[ProviderEvent]) -> Iterator[list[ProviderEvent]]:
    while batch := list(islice(events, BATCH)):
        yield batch
