"""What expires on DynamoDB, and the log of purges: see ``core.retention``.

    purge    pk ``purge#<kind>``, sk when it was begun (epoch seconds): ``before``, ``deleted``

Deleting and noting how much was deleted is one transaction of at most a hundred writes; a kind with many items takes
many of them. Each deletion is conditional on the item being there, so that nothing is noted twice, whoever else is at
it. The state table and that of addresses have a log of their own, for each is written on its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import groupby

from core.batches import batched
from core.files import Files
from core.incidents import Incidents
from core.model import RecipientId
from core.records import NO_EDITION, CampaignRecord
from core.retention import Age, Kind, Purge, Purged
from core.stores.dynamodb.address_book import DynamoAddressBook
from core.stores.dynamodb.dead_letters import DynamoDeadLetters
from core.stores.dynamodb.forms import (
    NIBBLES,
    SEGMENT,
    counter_key,
    counter_name,
    moment,
    open_number,
    open_sort,
    opens_key,
    opens_of_person,
)
from core.stores.dynamodb.persisting import new_token, persist
from core.stores.dynamodb.table import (
    Condition,
    ConditionFailed,
    Delete,
    Item,
    Key,
    Table,
    Update,
    Write,
    number,
    text,
    transact,
)

TOGETHER = 99
"""Items deleted in one transaction: the note of it makes it a hundred."""
LOOKS = 2
"""At the index for a person's opens: it may be a moment behind what was written last."""

_DIGEST = re.compile(r"[0-9a-f]{12}\.parquet")
"""What comes behind a campaign's name in that of its snapshot."""

Campaigns = Callable[[], Iterable[str]]
Sleep = Callable[[float], None]


def note(table: Table, purge: Purge, deleted: int) -> Update:
    """The write that notes that so much was deleted."""
    at, before = int(purge.at.timestamp()), int(purge.before.timestamp())
    return Update(table.name, f"purge#{purge.kind}", f"{at:012}", set={"before": before}, add={"deleted": deleted})


class DynamoPurgeLog:
    """See ``core.retention.PurgeLog``.

    Args:
        tables: Every table that has such a log; the first one takes what ``note`` notes.
    """

    def __init__(self, *tables: Table) -> None:
        self._tables = tables

    def note(self, purge: Purge) -> None:
        """Note that a purge came to its end; raises StoreError."""
        noted = note(self._tables[0], purge, 0)
        self._tables[0].update(noted.pk, noted.sk, set=noted.set, add=noted.add)

    def listed(self, *, since: datetime | None = None) -> list[Purged]:
        """The purges, the oldest first; raises StoreError."""
        after = f"{int(since.timestamp()) - 1:012}" if since else ""
        found: dict[tuple[int, Kind], tuple[int, int]] = {}
        for table in self._tables:
            for kind in Kind:
                for item in table.query(f"purge#{kind}", after=after):
                    place = int(text(item, "sk")), kind
                    _, so_far = found.get(place, (0, 0))
                    found[place] = number(item, "before"), so_far + number(item, "deleted")
        return [
            Purged(Purge(moment(at), kind, moment(before)), deleted)
            for (at, kind), (before, deleted) in sorted(found.items())
        ]

    def last(self) -> datetime | None:
        """When everything was purged last: when a purge of the kind that comes last ended; raises StoreError."""
        newest = self._tables[0].query(f"purge#{[*Kind][-1]}", limit=1, newest_first=True)
        return next((moment(int(text(item, "sk"))) for item in newest), None)


def delete_noted(table: Table, keys: Iterable[Key], purge: Purge, sleep: Sleep = time.sleep) -> int:
    """Delete items and note how many, in transactions of ``TOGETHER``; answers how many there were.

    Raises:
        StoreError: DynamoDB is out of reach or refused; what is gone is on record, and it can be run again.
    """
    return sum(
        persist(partial(_delete, table, part, partial(note, table, purge), sleep), sleep)
        for part in batched(keys, TOGETHER)
    )


def _delete(table: Table, keys: Sequence[Key], noting: Callable[[int], Write] | None, sleep: Sleep) -> int:
    """Delete items in one transaction, without those that somebody else deletes meanwhile; answers how many."""
    while keys:
        writes: list[Write] = [Delete(table.name, *each, Condition.exists()) for each in keys]
        try:
            transact(table.client, [*writes, *([noting(len(keys))] if noting else [])], new_token(), sleep=sleep)
        except ConditionFailed as error:
            keys = [each for n, each in enumerate(keys) if n not in error.which]
        else:
            break
    return len(keys)


@dataclass(frozen=True, slots=True)
class OldOpens:
    """Opens of all campaigns, by when they happened.

    They lie in the order in which they were recorded, which is not long after: of a campaign that is still young, only
    what was recorded before the limit is looked at. Each look asks 16 times a campaign, so it is not for every minute.

    Attributes:
        table: The state table.
        campaigns: Answers the names of all campaigns.
        age: When a campaign was last applied or released.
    """

    table: Table
    campaigns: Campaigns
    age: Age
    sleep: Sleep = field(default=time.sleep, repr=False)

    def due(self, before: datetime) -> int:
        """How many there are."""
        return sum(1 for _ in self._old(before))

    def forget(self, purge: Purge) -> int:
        """Delete them."""
        return delete_noted(self.table, self._old(purge.before), purge, self.sleep)

    def _old(self, before: datetime) -> Iterator[Key]:
        limit = int(before.timestamp())
        for campaign in self.campaigns():
            at = self.age(campaign)
            until = open_sort(open_number(before)) if at is not None and at >= before else ""
            for shard in NIBBLES:
                found = self.table.query(opens_key(campaign, shard), until=until, only=("pk", "opened_at"))
                yield from (_key(item) for item in found if number(item, "opened_at") < limit)


@dataclass(frozen=True, slots=True)
class OldItems:
    """Items of a few hash keys that have a time.

    Attributes:
        table: The state table.
        places: The hash keys.
        name: The attribute that is the time, in whole units of 1 / ``scale`` seconds.
        scale: How many of them a second has.
    """

    table: Table
    places: Sequence[str]
    name: str
    scale: int = 1
    sleep: Sleep = field(default=time.sleep, repr=False)

    def due(self, before: datetime) -> int:
        """How many there are."""
        return sum(1 for _ in self._old(before))

    def forget(self, purge: Purge) -> int:
        """Delete them."""
        return delete_noted(self.table, self._old(purge.before), purge, self.sleep)

    def _old(self, before: datetime) -> Iterator[Key]:
        limit = int(before.timestamp() * self.scale)
        for place in self.places:
            found = self.table.query(place, only=("pk", self.name))
            yield from (_key(item) for item in found if number(item, self.name) < limit)


@dataclass(frozen=True, slots=True)
class OldSnapshots:
    """Who got which pixel in campaigns that were released long ago: the rows, and the Parquet files.

    The campaign itself stays on record, so that it is not sent again; the digest of the file stays in the ledger.

    Attributes:
        table: The state table.
        campaigns: Answers all campaigns.
        rows: The keys of a snapshot's rows, by edition.
        close: Notes that a campaign's snapshot is kept no longer: its edition is ``NO_EDITION`` from then on.
        age: When a campaign was last applied or released.
        files: Where the Parquet files lie.
        prefix: What their names begin with, before the campaign's.
    """

    table: Table
    campaigns: Callable[[], Iterable[CampaignRecord]]
    rows: Callable[[int], Iterable[Key]]
    close: Callable[[CampaignRecord], object]
    age: Age
    files: Files
    prefix: str
    sleep: Sleep = field(default=time.sleep, repr=False)

    def due(self, before: datetime) -> int:
        """How many rows there are."""
        return sum(1 for record in self._old(before) for _ in self.rows(record.edition))

    def forget(self, purge: Purge) -> int:
        """Delete them, file first: as long as the campaign has an edition, this is not done."""
        deleted = 0
        for record in self._old(purge.before):
            beginning = f"{self.prefix}{record.campaign.id}-"
            for name in [*self.files.names(beginning)]:
                if _DIGEST.fullmatch(name.removeprefix(beginning)):
                    self.files.delete(name)
            deleted += delete_noted(self.table, self.rows(record.edition), purge, self.sleep)
            self.close(record)
        return deleted

    def _old(self, before: datetime) -> list[CampaignRecord]:
        sent = [record for record in self.campaigns() if record.sent and record.edition != NO_EDITION]
        return [record for record in sent if (at := self.age(record.campaign.id)) is not None and at < before]


@dataclass(frozen=True, slots=True)
class ExpiringByThemselves:
    """What has a time to live: readers take no notice of it from then on, and DynamoDB deletes it within a few days.

    It does so without telling how much that was, so nothing of it stands in the log of purges.
    """

    def due(self, before: datetime) -> int:  # noqa: ARG002 - as core.retention.Expiring has it
        """Nothing that a purge would have to delete."""
        return 0

    def forget(self, purge: Purge) -> int:  # noqa: ARG002 - as core.retention.Expiring has it
        """Nothing."""
        return 0


@dataclass(frozen=True, slots=True)
class OldFiles:
    """Files, by when they were written. One that somebody put there under another ending stays.

    Attributes:
        table: The state table, whose log tells of it.
        files: Where they lie.
        prefix: What the names begin with.
        endings: And with what they end.
    """

    table: Table
    files: Files
    prefix: str
    endings: tuple[str, ...]

    def due(self, before: datetime) -> int:
        """How many there are."""
        return sum(1 for _ in self._old(before))

    def forget(self, purge: Purge) -> int:
        """Delete them. A note may be lost where this is cut off just after a file went."""
        deleted = 0
        for name in [*self._old(purge.before)]:
            self.files.delete(name)
            noted = note(self.table, purge, 1)
            self.table.update(noted.pk, noted.sk, set=noted.set, add=noted.add)
            deleted += 1
        return deleted

    def _old(self, before: datetime) -> Iterator[str]:
        for name in self.files.names(self.prefix):
            if name.endswith(self.endings) and (at := self.files.age(name)) is not None and at < before:
                yield name


@dataclass(frozen=True, slots=True)
class OldCounters:
    """The counters of campaigns that were released long ago, unless an incident of theirs is open.

    Attributes:
        table: The state table.
        campaigns: Answers the names of all campaigns.
        incidents: Those that are open.
        age: When a campaign was last applied or released.
    """

    table: Table
    campaigns: Campaigns
    incidents: Incidents
    age: Age
    sleep: Sleep = field(default=time.sleep, repr=False)

    def due(self, before: datetime) -> int:
        """How many there are: one for each name, however many shards it has."""
        scopes = self._old(before)
        return sum(len({counter_name(item) for item in self.table.query(counter_key(scope))}) for scope in scopes)

    def forget(self, purge: Purge) -> int:
        """Delete them, each with all of its shards in one transaction."""
        deleted = 0
        for scope in self._old(purge.before):
            for _, shards in groupby(self.table.query(counter_key(scope)), counter_name):
                work = partial(
                    _delete, self.table, [*map(_key, shards)], lambda _: note(self.table, purge, 1), self.sleep
                )
                deleted += min(1, persist(work, self.sleep))
        return deleted

    def _old(self, before: datetime) -> list[str]:
        opened = {incident.scope for incident in self.incidents.listed()}
        ages = {f"campaign:{name}": self.age(name) for name in self.campaigns()}
        return [scope for scope, at in ages.items() if at is not None and at < before and scope not in opened]


def remove_addresses(book: DynamoAddressBook) -> Callable[[Sequence[RecipientId], Purge], int]:
    """Deletes addresses from the book; answers what ``core.leaving`` calls for that."""
    return lambda recipients, purge: book.erase_all(recipients, lambda n: [note(book.table, purge, n)])


def remove_letters(letters: DynamoDeadLetters) -> Callable[[Sequence[int], Purge], int]:
    """Deletes dead letters; answers what ``core.leaving`` calls for that."""
    return lambda numbers, purge: letters.remove(numbers, lambda n: [note(letters.table, purge, n)])


def remove_opens(table: Table, sleep: Sleep = time.sleep) -> Callable[[RecipientId], int]:
    """Deletes the opens of one person from the state table; answers what ``core.erasing`` calls for that."""

    def remove(recipient: RecipientId) -> int:
        deleted = 0
        for _ in range(LOOKS):
            found = table.query(opens_of_person(recipient), index=SEGMENT)
            deleted += sum(
                persist(partial(_delete, table, part, None, sleep), sleep)
                for part in batched(map(_key, found), TOGETHER)
            )
        return deleted

    return remove


def _key(item: Item) -> Key:
    return text(item, "pk"), text(item, "sk")
