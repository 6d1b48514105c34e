"""Incidents on DynamoDB, in the state table: see ``core.incidents.Incidents``. The ledger's batches open them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from core.incidents import Incident
from core.stores.dynamodb.forms import INCIDENTS, counter_key, incident_of, incident_sort
from core.stores.dynamodb.persisting import new_token
from core.stores.dynamodb.table import (
    STATE,
    Client,
    Condition,
    ConditionFailed,
    Table,
    Update,
    number,
    table_name,
    transact,
)


class DynamoIncidents:
    """See ``core.incidents.Incidents``.

    Args:
        client: DynamoDB.
        prefix: That of the tables' names.
        sleep: How to wait, in seconds.
    """

    def __init__(self, client: Client, prefix: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.table = Table(client, table_name(prefix, STATE), sleep=sleep)
        self._sleep = sleep

    def listed(self, *, closed: bool = False) -> list[Incident]:
        """The open ones, or all of them, the oldest first."""
        found = map(incident_of, self.table.query(INCIDENTS))
        return [incident for incident in found if closed or incident.closed_at is None]

    def close(self, number: int, now: datetime) -> bool:
        """Close one: the next of its kind counts from the counter as it stands; False when none of them is open."""
        sort = incident_sort(number)
        item = self.table.get(INCIDENTS, sort)
        if item is None:
            return False
        # What is counted behind this reading counts for the next one, and nothing counts for none.
        changed = {"closed_at": int(now.timestamp()), "total": self._total(incident_of(item))}
        still = Condition.all_of(Condition.exists(), Condition.absent("closed_at"))
        change = Update(self.table.name, INCIDENTS, sort, set=changed, condition=still)
        try:
            # By its token a repetition of botocore's is the same request, and not a second one that finds it closed.
            transact(self.table.client, [change], new_token(), sleep=self._sleep)
        except ConditionFailed:
            return False
        return True

    def _total(self, incident: Incident) -> int:
        """What the counter that makes such incidents amounts to; without one, what it did when this was opened."""
        shards = self.table.query(counter_key(incident.scope), prefix=f"{incident.kind}#")
        found = [number(item, "n") for item in shards]
        return sum(found) if found else incident.total
