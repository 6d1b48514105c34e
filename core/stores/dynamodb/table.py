"""One table of DynamoDB, in this product's terms: items with ``pk`` and ``sk``, read consistently, paged by itself.

Every failure is a StoreError that names the operation and the table. botocore tries again by itself what was throttled
or cut off; so a condition may fail because an earlier attempt of the very same call was carried out. Where that must
be told apart, use ``transact``: its token makes a repeated request the same one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from core.errors import StoreError
from core.stores.dynamodb.client import Client, connect, reported
from core.stores.dynamodb.definitions import ADDRESSES, DEFINITIONS, LEDGER, STATE, create_tables, table_name
from core.stores.dynamodb.values import Item, Value, number, raw, text, unwired, wired
from core.stores.dynamodb.writes import (
    Check,
    Condition,
    ConditionFailed,
    Delete,
    Placeholders,
    Put,
    Update,
    Write,
    change,
    key,
    transact,
)

__all__ = [
    "ADDRESSES",
    "DEFINITIONS",
    "LEDGER",
    "STATE",
    "Check",
    "Client",
    "Condition",
    "ConditionFailed",
    "Delete",
    "Index",
    "Item",
    "Put",
    "Table",
    "Update",
    "Value",
    "Write",
    "connect",
    "create_tables",
    "number",
    "raw",
    "table_name",
    "text",
    "transact",
]

Key = tuple[str, str]
"""``pk`` and ``sk``."""

READ_AT_ONCE = 100
"""Items of one BatchGetItem."""
WRITTEN_AT_ONCE = 25
"""Items of one BatchWriteItem."""
MOST_TRIES = 10
"""Of a batch of which DynamoDB leaves something undone."""
FIRST_WAIT = 0.05
"""Seconds before what was left undone is asked for again; twice as long each time."""
LAST = "\U0010ffff"
"""Behind whatever begins with the same text: DynamoDB compares text by its UTF-8 bytes."""


@dataclass(frozen=True, slots=True)
class Index:
    """A global secondary index, and the attributes that are its keys."""

    name: str
    hash: str
    range: str


_OWN = Index("", "pk", "sk")


class Table:
    """One table; several threads may share it.

    Args:
        client: DynamoDB.
        name: The table's whole name.
        sleep: How to wait, in seconds.
    """

    def __init__(self, client: Client, name: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.client = client
        self.name = name
        self._sleep = sleep

    def get(self, pk: str, sk: str) -> Item | None:
        """An item as last written; None when there is none."""
        with reported("GetItem", self.name):
            answer = self.client.get_item(TableName=self.name, Key=key(pk, sk), ConsistentRead=True)
        return unwired(answer["Item"]) if "Item" in answer else None

    def get_many(self, keys: Iterable[Key], only: Collection[str] = ()) -> dict[Key, Item]:
        """Those of these items that exist, as last written. ``only``: these attributes alone, besides the keys."""
        found: dict[Key, Item] = {}
        waiting = iter(dict.fromkeys(keys))
        while some := list(islice(waiting, READ_AT_ONCE)):
            for item in self._some([key(*each) for each in some], only):
                found[text(item, "pk"), text(item, "sk")] = item
        return found

    def _some(self, keys: list[dict[str, Any]], only: Collection[str]) -> Iterator[Item]:
        places = Placeholders()
        projection = ", ".join(places.name(each) for each in ("pk", "sk", *only)) if only else ""
        asked = {"Keys": keys, "ConsistentRead": True, **places.parameters(ProjectionExpression=projection)}
        for attempt in range(MOST_TRIES):
            with reported("BatchGetItem", self.name):
                answer = self.client.batch_get_item(RequestItems={self.name: asked})
            yield from map(unwired, answer.get("Responses", {}).get(self.name, ()))
            left = answer.get("UnprocessedKeys", {}).get(self.name)
            if not left:
                return
            asked = {**asked, "Keys": left["Keys"]}
            self._sleep(FIRST_WAIT * 2**attempt)
        raise StoreError(f"DynamoDB: BatchGetItem on {self.name} left something undone each time; try again")

    def query(  # noqa: PLR0913 - each of them can be left out
        self,
        pk: str,
        *,
        after: str = "",
        prefix: str = "",
        until: str = "",
        limit: int | None = None,
        newest_first: bool = False,
        index: Index | None = None,
        only: Collection[str] = (),
    ) -> Iterator[Item]:
        """The items of one hash key in the order of their range keys, page by page as they are read.

        Args:
            pk: The hash key.
            after: Only what lies behind this range key.
            prefix: Only range keys that begin with this.
            until: Only up to this range key, and with it.
            limit: At most so many.
            newest_first: The highest range key first.
            index: Of this index: what was written last may be missing, and its range keys need not be unique.
            only: These attributes alone.
        """
        keys = index or _OWN
        places = Placeholders()
        low, high = _bounds(after, prefix, until)
        if high and low > high:  # DynamoDB refuses such a question
            return iter(())
        said = f"{places.name(keys.hash)} = {places.value(pk)}{_between(places, keys.range, low, high)}"
        projection = ", ".join(places.name(each) for each in dict.fromkeys((*only, keys.range))) if only else ""
        request: dict[str, Any] = {
            "TableName": self.name,
            "ScanIndexForward": not newest_first,
            **({"IndexName": index.name} if index else {"ConsistentRead": True}),
            **places.parameters(KeyConditionExpression=said, ProjectionExpression=projection),
        }
        wanted = (item for item in self._pages("Query", request, limit) if not after or item[keys.range] != after)
        return islice(wanted, limit)

    def scan(self, only: Collection[str] = ()) -> Iterator[Item]:
        """Every item, in no order; never for what a request waits for."""
        places = Placeholders()
        projection = ", ".join(places.name(each) for each in only)
        request = {"TableName": self.name, "ConsistentRead": True}
        return self._pages("Scan", {**request, **places.parameters(ProjectionExpression=projection)}, None)

    def count(self, pk: str, *, prefix: str = "") -> int:
        """How many items a hash key has; of those alone whose range keys begin with ``prefix``."""
        places = Placeholders()
        said = f"{places.name('pk')} = {places.value(pk)}{_between(places, 'sk', *_bounds('', prefix, ''))}"
        request = {"TableName": self.name, "ConsistentRead": True, "Select": "COUNT"}
        answers = self._answers("Query", {**request, **places.parameters(KeyConditionExpression=said)})
        return sum(answer["Count"] for answer in answers)

    def _pages(self, operation: str, request: Mapping[str, Any], limit: int | None) -> Iterator[Item]:
        # One more, since the item ``after`` which it begins is read too.
        bounded = {**request, "Limit": limit + 1} if limit is not None else request
        for answer in self._answers(operation, bounded):
            yield from map(unwired, answer["Items"])

    def _answers(self, operation: str, request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        ask = self.client.scan if operation == "Scan" else self.client.query
        start: Mapping[str, Any] = {}
        while True:
            with reported(operation, self.name):
                answer = ask(**request, **start)
            yield answer
            if not answer.get("LastEvaluatedKey"):
                return
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def put(self, item: Item, *, new: bool = False, condition: Condition | None = None) -> bool:
        """Write an item, in place of the one that may be there.

        Args:
            item: The item.
            new: Only if there is none.
            condition: Only if this holds of the stored one.

        Returns:
            False: the condition did not hold, and nothing was written.
        """
        condition = Condition.absent() if new else condition
        places = Placeholders()
        said = condition.render(places) if condition else ""
        request = {"TableName": self.name, "Item": wired(item), **places.parameters(ConditionExpression=said)}
        with reported("PutItem", self.name):
            try:
                self.client.put_item(**request)
            except self.client.exceptions.ConditionalCheckFailedException:
                return False
        return True

    def put_many(self, items: Iterable[Item]) -> None:
        """Write items, in place of those that may be there; several in no order. Of equal keys the last one counts."""
        self._write_many(((str(item["pk"]), str(item["sk"])), {"PutRequest": {"Item": wired(item)}}) for item in items)

    def delete_many(self, keys: Iterable[Key]) -> None:
        """Remove items, whether or not they are there."""
        self._write_many((each, {"DeleteRequest": {"Key": key(*each)}}) for each in keys)

    def _write_many(self, requests: Iterable[tuple[Key, dict[str, Any]]]) -> None:
        waiting = iter(requests)
        while some := list(islice(waiting, WRITTEN_AT_ONCE)):
            left: list[dict[str, Any]] = list(dict(some).values())
            for attempt in range(MOST_TRIES):
                with reported("BatchWriteItem", self.name):
                    answer = self.client.batch_write_item(RequestItems={self.name: left})
                left = answer.get("UnprocessedItems", {}).get(self.name, [])
                if not left:
                    break
                self._sleep(FIRST_WAIT * 2**attempt)
            else:
                raise StoreError(f"DynamoDB: BatchWriteItem on {self.name} left something undone each time; try again")

    def update(  # noqa: PLR0913 - each of them can be left out
        self,
        pk: str,
        sk: str,
        *,
        set: Mapping[str, Value] | None = None,  # noqa: A002 - DynamoDB's own word
        add: Mapping[str, int] | None = None,
        remove: Collection[str] = (),
        condition: Condition | None = None,
    ) -> Item | None:
        """Change attributes of an item; one that is not there is made.

        Args:
            pk: The hash key.
            sk: The range key.
            set: Attributes to set.
            add: Numbers to add to attributes; one that is not there counts from 0.
            remove: Attributes to remove.
            condition: Only if this holds of the stored item.

        Returns:
            The item as it is now; None: the condition did not hold, and nothing was written.
        """
        places = Placeholders()
        changed = change(places, set or {}, add or {}, remove)
        said = condition.render(places) if condition else ""
        request = {
            "TableName": self.name,
            "Key": key(pk, sk),
            "ReturnValues": "ALL_NEW",
            **places.parameters(UpdateExpression=changed, ConditionExpression=said),
        }
        with reported("UpdateItem", self.name):
            try:
                return unwired(self.client.update_item(**request)["Attributes"])
            except self.client.exceptions.ConditionalCheckFailedException:
                return None

    def delete(self, pk: str, sk: str, *, condition: Condition | None = None) -> bool:
        """Remove an item; False: there was none, or the condition did not hold, and nothing was removed."""
        places = Placeholders()
        said = condition.render(places) if condition else ""
        request = {
            "TableName": self.name,
            "Key": key(pk, sk),
            "ReturnValues": "ALL_OLD",
            **places.parameters(ConditionExpression=said),
        }
        with reported("DeleteItem", self.name):
            try:
                return bool(self.client.delete_item(**request).get("Attributes"))
            except self.client.exceptions.ConditionalCheckFailedException:
                return False


def _bounds(after: str, prefix: str, until: str) -> tuple[str, str]:
    """The lowest and the highest range key; empty: no such bound."""
    return max(after, prefix), min(filter(None, (until, prefix + LAST if prefix else "")), default="")


def _between(places: Placeholders, name: str, low: str, high: str) -> str:
    """What a range key must be: DynamoDB takes one condition on it, so that ``low`` itself is among them."""
    if low and high:
        return f" AND {places.name(name)} BETWEEN {places.value(low)} AND {places.value(high)}"
    if low:
        return f" AND {places.name(name)} >= {places.value(low)}"
    return f" AND {places.name(name)} <= {places.value(high)}" if high else ""
