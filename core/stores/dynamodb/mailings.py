"""Campaigns, their snapshots and send journals on DynamoDB, in the state table: see ``core.records.Mailings``.

    campaign   pk ``campaigns``, sk id: ``record``, ``sent``, and ``left``: how many parts left, or may have
    cursor     pk ``polled``, sk campaign: ``until``
    edition    pk ``editions#<campaign>``, sk number: that there is such a snapshot; pk ``edition``: the last number
    choice     pk ``edition#<number>#<nibble>``, sk recipient: ``mode``, ``part``, ``basis``, ``reason``
    member     pk ``part#<number>#<part>#<nibble>``, sk recipient: the same, so that a part is read by itself
    part       pk ``parts#<number>``, sk name: that there is, or was, such a part
    journal    pk ``journal#<campaign>``, sk part: ``state``

A choice and its member change in one transaction, on condition that none of the parts concerned has begun to leave;
and a part begins to leave in one transaction with the count of such parts, on which a campaign's change depends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache, partial

import msgspec

from core.batches import batched
from core.errors import DamagedState, StoreError
from core.model import Basis, PixelMode, RecipientId
from core.records import NO_EDITION, CampaignRecord, Choice, PartState
from core.stores.dynamodb.forms import NIBBLES, moment, nibble, recipient_in
from core.stores.dynamodb.journal import DynamoSendJournal, journal_key, not_left
from core.stores.dynamodb.persisting import new_token, persist
from core.stores.dynamodb.table import (
    STATE,
    Check,
    Client,
    Condition,
    ConditionFailed,
    Delete,
    Item,
    Key,
    Put,
    Table,
    Write,
    number,
    raw,
    table_name,
    text,
    transact,
)
from core.stores.dynamodb.values import DAMAGED, Value

CHANGED_TOGETHER = 20
"""Choices that are changed in one transaction: each is up to three writes, and may concern two parts of its own."""
WRITTEN_TOGETHER = 500
"""Choices that one thread writes."""
AT_ONCE = 8
"""Threads that write."""
CAMPAIGNS = "campaigns"

_RECORD = msgspec.json.Decoder(CampaignRecord)
_MODES = {mode.value: mode for mode in PixelMode}


class DynamoMailings:
    """See ``core.records.Mailings``.

    Args:
        client: DynamoDB.
        prefix: That of the tables' names.
        sleep: How to wait, in seconds.
    """

    def __init__(self, client: Client, prefix: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.table = Table(client, table_name(prefix, STATE), sleep=sleep)
        self._sleep = sleep

    def new_edition(self, campaign: str) -> int:
        """Begin a snapshot beside the one in force, and drop what was begun and never taken into use."""
        record = self.campaign(campaign)
        self._drop_editions(campaign, keep=record.edition if record else None)
        counted = self.table.update("edition", "edition", add={"last": 1})
        assert counted is not None  # there was no condition
        edition = number(counted, "last")
        self.table.put({"pk": f"editions#{campaign}", "sk": f"{edition:010}"})
        return edition

    def add_choices(self, edition: int, choices: Sequence[Choice]) -> None:
        """Add to a snapshot that is not in force yet; what was cut off leaves a snapshot that is never in force."""
        self._name_parts(edition, choices)
        with ThreadPoolExecutor(AT_ONCE, "snapshot") as pool:
            for _ in pool.map(partial(self._add, edition), batched(choices, WRITTEN_TOGETHER)):
                pass

    def _add(self, edition: int, choices: Sequence[Choice]) -> None:
        # All choices first: whoever deletes a snapshot finds members by their choices.
        for items in zip(*(_items(edition, choice) for choice in choices), strict=True):
            self.table.put_many(items)

    def _name_parts(self, edition: int, choices: Sequence[Choice]) -> None:
        # Those who are left out are in a part without a name: it has nothing to be found by, and never leaves.
        parts = sorted({choice.part for choice in choices if choice.part})
        self.table.put_many({"pk": f"parts#{edition}", "sk": part} for part in parts)

    def choices(self, edition: int, part: str | None = None) -> Iterator[Choice]:
        """A snapshot, or one part of it, in the order of recipients; read page by page."""
        for shard in NIBBLES:
            place = _place(edition, shard) if part is None else _part_place(edition, part, shard)
            yield from map(choice_of, self.table.query(place))

    def change_choices(self, campaign: str, edition: int, choices: Sequence[Choice]) -> None:
        """Change these recipients' pixels and parts, a few at a time: what was cut off can be run again.

        Raises:
            StoreError: the part that somebody would be taken from, or put into, has begun to leave.
        """
        self._name_parts(edition, choices)
        for some in batched(choices, CHANGED_TOGETHER):
            persist(partial(self._change, campaign, edition, some), self._sleep)

    def _change(self, campaign: str, edition: int, choices: Sequence[Choice]) -> None:
        before = self.table.get_many(_key(edition, choice.recipient) for choice in choices)
        writes: list[Write] = []
        parts = {choice.part for choice in choices}
        for choice in choices:
            old = before.get(_key(edition, choice.recipient))
            row, member = _items(edition, choice)
            same = Condition.equals("part", text(old, "part")) if old else Condition.absent()
            writes += [Put(self.table.name, row, same), Put(self.table.name, member)]
            if old and text(old, "part") != choice.part:
                left = _part_place(edition, text(old, "part"), nibble(choice.recipient))
                writes.append(Delete(self.table.name, left, choice.recipient.hex()))
                parts.add(text(old, "part"))
        checks: list[Write] = [
            Check(self.table.name, *journal_key(campaign, part), not_left()) for part in sorted(parts) if part
        ]
        try:
            transact(self.table.client, [*checks, *writes], new_token(), sleep=self._sleep)
        except ConditionFailed as error:
            if min(error.which) < len(checks):
                raise StoreError(
                    f"campaign {campaign}: a part of it left while it was being changed; try again"
                ) from None
            raise

    def next_part(self, edition: int, after: str) -> tuple[str, int] | None:
        """The name and size of the part behind ``after``, in the order of names."""
        return self._first(edition, self.table.query(f"parts#{edition}", after=after))

    def last_part(self, edition: int, prefix: str) -> tuple[str, int] | None:
        """The name and size of the last part whose name begins with ``prefix``."""
        return self._first(edition, self.table.query(f"parts#{edition}", prefix=prefix, newest_first=True))

    def part_state(self, campaign: str, part: str) -> PartState:
        """How far one part of a release has come."""
        item = self.table.get(*journal_key(campaign, part)) if part else None
        return PartState(text(item, "state")) if item else PartState.WAITING

    def part_states(self, campaign: str) -> dict[str, PartState]:
        """How far the parts of a release have come; those that are absent wait."""
        items = self.table.query(f"journal#{campaign}")
        return {text(item, "sk"): PartState(text(item, "state")) for item in items}

    def save_campaign(self, record: CampaignRecord) -> None:
        """Put an applied campaign and its snapshot in force, in place of an earlier one that was not sent.

        Raises:
            StoreError: a part of it left already.
        """
        name = record.campaign.id
        item: Item = {"pk": CAMPAIGNS, "sk": name, "record": msgspec.json.encode(record), "sent": False, "left": 0}
        none_left = Condition.any_of(Condition.absent(), Condition.absent("left"), Condition.equals("left", 0))
        if not self.table.put(item, condition=none_left):
            raise StoreError(f"campaign {name}: a part of it left already; what was applied can no longer change")
        self._drop_editions(name, keep=record.edition)

    def campaign(self, campaign: str) -> CampaignRecord | None:
        """An applied campaign."""
        item = self.table.get(CAMPAIGNS, campaign)
        return _record_of(item) if item and "record" in item else None

    def campaigns(self) -> list[CampaignRecord]:
        """All applied campaigns, by name."""
        return [_record_of(item) for item in self.table.query(CAMPAIGNS) if "record" in item]

    def started(self, campaign: str) -> bool:
        """Whether a part of it left, or may have: from then on what was applied must not change."""
        item = self.table.get(CAMPAIGNS, campaign)
        return item is not None and "left" in item and number(item, "left") > 0

    def mark_sent(self, campaign: str) -> None:
        """Note that both halves left."""
        self.table.update(CAMPAIGNS, campaign, set={"sent": True}, condition=Condition.exists("record"))

    def modes(
        self, campaign: str, recipients: Collection[RecipientId], edition: int | None = None
    ) -> dict[RecipientId, PixelMode]:
        """Which pixel those recipients got, from the snapshot in force: ``edition``, where that is known."""
        if edition is None:
            record = self.campaign(campaign)
            edition = record.edition if record else None
        if edition is None:
            return {}
        items = self.table.get_many((_key(edition, each) for each in recipients), only=("mode",))
        return {recipient_in(item, "sk"): _MODES.get(text(item, "mode"), PixelMode.NONE) for item in items.values()}

    def journal(self, campaign: str) -> DynamoSendJournal:
        """The campaign's send journal."""
        return DynamoSendJournal(self.table, campaign, self._sleep)

    def poll_cursor(self, campaign: str) -> datetime | None:
        """Up to when a campaign's opens have been fetched."""
        item = self.table.get("polled", campaign)
        return moment(number(item, "until")) if item else None

    def save_poll_cursor(self, campaign: str, at: datetime) -> None:
        """Note up to when they have."""
        self.table.put({"pk": "polled", "sk": campaign, "until": int(at.astimezone(UTC).timestamp())})

    def rows(self, edition: int) -> Iterator[Key]:
        """The keys of a snapshot's choices, each behind that of its member, which nothing else leads to."""
        for choice, member in self._rows(edition):
            yield member
            yield choice

    def _rows(self, edition: int) -> Iterator[tuple[Key, Key]]:
        for shard in NIBBLES:
            for item in self.table.query(_place(edition, shard), only=("pk", "part")):
                sort = text(item, "sk")
                yield (text(item, "pk"), sort), (_part_place(edition, text(item, "part"), shard), sort)

    def close(self, record: CampaignRecord) -> None:
        """Note that a campaign's snapshot is kept no longer."""
        emptied = msgspec.json.encode(replace(record, edition=NO_EDITION))
        self.table.update(CAMPAIGNS, record.campaign.id, set={"record": emptied}, condition=Condition.exists("record"))
        self._drop(record.campaign.id, record.edition)

    def _first(self, edition: int, parts: Iterator[Item]) -> tuple[str, int] | None:
        """The first of these parts that has anybody in it."""
        for item in parts:
            part = text(item, "sk")
            size = sum(self.table.count(_part_place(edition, part, shard)) for shard in NIBBLES)
            if size:
                return part, size
        return None

    def _drop_editions(self, campaign: str, *, keep: int | None) -> None:
        """Delete the snapshots that are not in force."""
        for item in self.table.query(f"editions#{campaign}"):
            edition = int(text(item, "sk"))
            if edition != keep:
                self._drop(campaign, edition)

    def _drop(self, campaign: str, edition: int) -> None:
        for some in batched(self._rows(edition), WRITTEN_TOGETHER):
            choices, members = zip(*some, strict=True)
            self.table.delete_many(members)
            self.table.delete_many(choices)
        self.table.delete_many((text(item, "pk"), text(item, "sk")) for item in self.table.query(f"parts#{edition}"))
        self.table.delete(f"editions#{campaign}", f"{edition:010}")


def choice_of(item: Mapping[str, Value]) -> Choice:
    """A choice as it is stored; raises DamagedState."""
    try:
        mode, basis = PixelMode(text(item, "mode")), Basis(text(item, "basis"))
    except ValueError:
        raise DamagedState(DAMAGED) from None
    return Choice(recipient_in(item, "sk"), mode, text(item, "part"), basis, text(item, "reason"))


def choice_key(edition: int, recipient: RecipientId) -> Key:
    """The key of a choice."""
    return _key(edition, recipient)


def _items(edition: int, choice: Choice) -> tuple[Item, Item]:
    """A choice, and its member."""
    said: Item = {
        "sk": choice.recipient.hex(),
        "mode": choice.mode.value,
        "part": choice.part,
        "basis": choice.basis.value,
        "reason": choice.reason,
    }
    shard = nibble(choice.recipient)
    return {"pk": _place(edition, shard), **said}, {"pk": _part_place(edition, choice.part, shard), **said}


def _place(edition: int, shard: str) -> str:
    return f"edition#{edition}#{shard}"


def _part_place(edition: int, part: str, shard: str) -> str:
    return f"part#{edition}#{part}#{shard}"


def _key(edition: int, recipient: RecipientId) -> Key:
    return _place(edition, nibble(recipient)), recipient.hex()


def _record_of(item: Mapping[str, Value]) -> CampaignRecord:
    return _decoded(raw(item, "record"), item.get("sent") is True)


@lru_cache(maxsize=256)
def _decoded(record: bytes, sent: bool) -> CampaignRecord:
    try:
        return replace(_RECORD.decode(record), sent=sent)
    except (msgspec.MsgspecError, ValueError):
        raise DamagedState(DAMAGED) from None
