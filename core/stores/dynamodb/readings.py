"""What is read about one person or one campaign, on DynamoDB: see ``core.records.Readings``."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from itertools import islice

from core.model import PurposeId, RecipientId
from core.ports import Clock, Entry, Open
from core.records import Choice
from core.stores.dynamodb import forms
from core.stores.dynamodb.mailings import choice_key, choice_of
from core.stores.dynamodb.table import LEDGER, STATE, Client, Table, table_name, text

SETTLING = timedelta(minutes=1)
"""How old an open must be before it is listed: one that was numbered earlier may be committed a little later, and
whoever reads on from a number must not miss it."""


class DynamoReadings:
    """See ``core.records.Readings``.

    Args:
        client: DynamoDB.
        prefix: That of the tables' names.
        now: The clock.
        sleep: How to wait, in seconds.
    """

    def __init__(self, client: Client, prefix: str, now: Clock, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._state = Table(client, table_name(prefix, STATE), sleep=sleep)
        self._ledger = Table(client, table_name(prefix, LEDGER), sleep=sleep)
        self._now = now

    def opens_of(self, recipient: RecipientId) -> list[Open]:
        """All opens on record of one person, the oldest first. By an index: one of just now may be missing."""
        found = self._state.query(forms.opens_of_person(recipient), index=forms.SEGMENT)
        items = self._state.get_many((text(item, "pk"), text(item, "sk")) for item in found)
        numbered = sorted(map(forms.open_of, items.values()), key=lambda each: (each[1].opened_at, each[0]))
        return [open_ for _, open_ in numbered]

    def opens(self, campaign: str, purpose: PurposeId, after: int, limit: int) -> list[tuple[int, Open]]:
        """A page of a campaign's opens that may serve a purpose, in the order of their numbers, but for the newest."""
        until = forms.open_sort(forms.open_number(self._now() - SETTLING))
        shards = (self._shard(forms.opens_key(campaign, shard), after, until, limit) for shard in forms.NIBBLES)
        serving = (each for each in heapq.merge(*shards, key=lambda each: each[0]) if purpose in each[1].serves)
        return list(islice(serving, limit))

    def openers(self, campaign: str) -> int:
        """How many different recipients have an open on record that no machine made."""
        total = 0
        for shard in forms.NIBBLES:
            found = self._state.query(forms.opens_key(campaign, shard), only=("recipient", "machine"))
            total += len({text(item, "recipient") for item in found if item.get("machine") is not True})
        return total

    def entries(self, recipient: RecipientId, after: int, limit: int) -> list[Entry]:
        """A page of a chain, the oldest first."""
        found = self._ledger.query(forms.chain_key(recipient), after=forms.entry_sort(after), limit=limit)
        return [forms.entry_of(item) for item in found]

    def choices_of(self, recipient: RecipientId, editions: Collection[int]) -> dict[int, Choice]:
        """What those snapshots say of one person, by edition."""
        keys = {choice_key(edition, recipient): edition for edition in editions}
        return {keys[key]: choice_of(item) for key, item in self._state.get_many(keys).items()}

    def _shard(self, place: str, after: int, until: str, limit: int) -> Iterator[tuple[int, Open]]:
        """A shard's opens, so many read at a time: a page of the campaign's needs no more of any shard, or seldom."""
        begun = forms.open_sort(after) if after else ""
        while page := list(self._state.query(place, after=begun, until=until, limit=limit)):
            yield from map(forms.open_of, page)
            if len(page) < limit:
                return
            begun = text(page[-1], "sk")
