"""Writes as data: conditions, single writes, and transactions of up to a hundred of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.errors import BatchTooLarge, HeadConflict, StoreError
from core.stores.dynamodb.client import Client, code_of, reported
from core.stores.dynamodb.values import Item, Value, size_of, wire, wired

MOST_ACTIONS = 100
"""In one transaction; DynamoDB's developer guide, "Transactions"."""
MOST_BYTES = 4 * 1024 * 1024
"""In one transaction, likewise."""
MOST_TRIES = 6
"""Of a transaction that meets another one under way on the same items."""
FIRST_WAIT = 0.02
"""Seconds, at most, before the second try; twice as long before each of the next."""

_CONTENDED = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
_TOKEN = 36
"""Characters that a ClientRequestToken may have."""


class ConditionFailed(StoreError):
    """A transaction did nothing, because conditions of it did not hold.

    Attributes:
        which: The numbers of the writes whose conditions these were, from 0.
    """

    def __init__(self, which: Sequence[int]) -> None:
        super().__init__("DynamoDB: somebody else changed the same items first")
        self.which = tuple(which)


class Placeholders:
    """The names and values of one request's expressions: whatever a name is, no reserved word is met."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.values: dict[str, Any] = {}

    def name(self, name: str) -> str:
        """What stands for an attribute's name."""
        for placeholder, known in self.names.items():
            if known == name:
                return placeholder
        placeholder = f"#n{len(self.names)}"
        self.names[placeholder] = name
        return placeholder

    def value(self, value: Value) -> str:
        """What stands for a value."""
        placeholder = f":v{len(self.values)}"
        self.values[placeholder] = wire(value)
        return placeholder

    def parameters(self, **expressions: str) -> dict[str, Any]:
        """The parameters of a request: the expressions that are not empty, and what stands in them."""
        said: dict[str, Any] = {name: expression for name, expression in expressions.items() if expression}
        if self.names:
            said["ExpressionAttributeNames"] = self.names
        if self.values:
            said["ExpressionAttributeValues"] = self.values
        return said


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of the stored item for a write to be done; made by the functions below."""

    render: Callable[[Placeholders], str] = field(repr=False)

    @staticmethod
    def absent(name: str = "pk") -> Condition:
        """The attribute does not exist; without a name: the item does not."""
        return Condition(lambda places: f"attribute_not_exists({places.name(name)})")

    @staticmethod
    def exists(name: str = "pk") -> Condition:
        """The attribute exists; without a name: the item does."""
        return Condition(lambda places: f"attribute_exists({places.name(name)})")

    @staticmethod
    def equals(name: str, value: Value) -> Condition:
        """The attribute exists and has this value."""
        return Condition(lambda places: f"{places.name(name)} = {places.value(value)}")

    @staticmethod
    def differs(name: str, value: Value) -> Condition:
        """The attribute has another value, or does not exist."""
        return Condition(lambda places: f"{places.name(name)} <> {places.value(value)}")

    @staticmethod
    def at_most(name: str, value: Value) -> Condition:
        """The attribute exists, and is not above this value of the same type."""
        return Condition(lambda places: f"{places.name(name)} <= {places.value(value)}")

    @staticmethod
    def at_least(name: str, value: Value) -> Condition:
        """The attribute exists, and is not below this value of the same type."""
        return Condition(lambda places: f"{places.name(name)} >= {places.value(value)}")

    @staticmethod
    def any_of(*conditions: Condition) -> Condition:
        """One of these holds."""
        return Condition(lambda places: f"({' OR '.join(each.render(places) for each in conditions)})")

    @staticmethod
    def all_of(*conditions: Condition) -> Condition:
        """All of these hold."""
        return Condition(lambda places: f"({' AND '.join(each.render(places) for each in conditions)})")


@dataclass(frozen=True, slots=True)
class Put:
    """Write an item, in place of the one that may be there. ``table``: its whole name."""

    table: str
    item: Item = field(repr=False)
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """Change attributes of an item; one that is not there is made. See ``change``."""

    table: str
    pk: str = field(repr=False)
    sk: str = field(repr=False)
    set: Mapping[str, Value] = field(default_factory=dict, repr=False)
    add: Mapping[str, int] = field(default_factory=dict, repr=False)
    remove: Collection[str] = ()
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an item, if it is there."""

    table: str
    pk: str = field(repr=False)
    sk: str = field(repr=False)
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """Change nothing, but have the whole transaction fail unless a condition holds."""

    table: str
    pk: str = field(repr=False)
    sk: str = field(repr=False)
    condition: Condition


Write = Put | Update | Delete | Check


def key(pk: str, sk: str) -> dict[str, Any]:
    """An item's key in DynamoDB's form."""
    return wired({"pk": pk, "sk": sk})


def change(
    places: Placeholders, set_: Mapping[str, Value], add: Mapping[str, int], remove: Collection[str] = ()
) -> str:
    """An UpdateExpression: attributes to set, to add to (from 0), and to remove."""
    parts = []
    if set_:
        parts.append("SET " + ", ".join(f"{places.name(n)} = {places.value(v)}" for n, v in set_.items()))
    if add:
        parts.append("ADD " + ", ".join(f"{places.name(n)} {places.value(v)}" for n, v in add.items()))
    if remove:
        parts.append("REMOVE " + ", ".join(places.name(n) for n in sorted(remove)))
    return " ".join(parts)


def transact(
    client: Client,
    writes: Sequence[Write],
    token: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Do all of these writes or none; durable on return.

    Args:
        client: DynamoDB.
        writes: At most one for each item. None: nothing is done.
        token: At most 32 characters, different for each transaction: by it a repeated request is recognised.
        sleep: How to wait, in seconds.

    Raises:
        BatchTooLarge: more than one transaction takes; nothing was written.
        ConditionFailed: a condition did not hold; nothing was written.
        HeadConflict: other transactions kept working on the same items; nothing was written.
        StoreError: DynamoDB is out of reach or refused. It may have been written all the same.
    """
    if not writes:
        return
    bytes_ = sum(_size(write) for write in writes)
    if len(writes) > MOST_ACTIONS or bytes_ > MOST_BYTES:
        raise BatchTooLarge(max(-(-len(writes) // MOST_ACTIONS), -(-bytes_ // MOST_BYTES)))
    actions = [_action(write) for write in writes]
    for attempt in range(MOST_TRIES):
        # Each try has a token of its own: the one before was certainly not carried out.
        if _done(client, actions, f"{token}.{attempt}"[:_TOKEN]):
            return
        sleep(random.uniform(0, FIRST_WAIT * 2**attempt))  # noqa: S311 - when to try again is no secret
    raise HeadConflict("DynamoDB: other transactions kept working on the same items; try again")


def _done(client: Client, actions: Sequence[Mapping[str, Any]], token: str) -> bool:
    """Try once; False when the transaction met another one and did nothing."""
    with reported("TransactWriteItems"):
        try:
            client.transact_write_items(TransactItems=actions, ClientRequestToken=token)
        except client.exceptions.TransactionCanceledException as error:
            reasons = [reason.get("Code", "None") for reason in error.response.get("CancellationReasons", ())]
        else:
            return True
    failed = [n for n, reason in enumerate(reasons) if reason == "ConditionalCheckFailed"]
    if failed:
        raise ConditionFailed(failed)
    if _CONTENDED.intersection(reasons):
        return False
    named = ", ".join(sorted({code_of(reason) for reason in reasons} - {"None"}))
    raise StoreError(f"DynamoDB refused a transaction: {named or 'no reason given'}")


def _size(write: Write) -> int:
    match write:
        case Put():
            return size_of(write.item)
        case Update():
            return size_of({"pk": write.pk, "sk": write.sk, **write.set, **write.add})
        case Delete() | Check():
            return size_of({"pk": write.pk, "sk": write.sk})


def _action(write: Write) -> dict[str, Any]:
    places = Placeholders()
    condition = write.condition.render(places) if write.condition else ""
    match write:
        case Put():
            said = {"TableName": write.table, "Item": wired(write.item)}
            return {"Put": {**said, **places.parameters(ConditionExpression=condition)}}
        case Update():
            changed = change(places, write.set, write.add, write.remove)
            said = {"TableName": write.table, "Key": key(write.pk, write.sk)}
            return {"Update": {**said, **places.parameters(UpdateExpression=changed, ConditionExpression=condition)}}
        case Delete() | Check():
            said = {"TableName": write.table, "Key": key(write.pk, write.sk)}
            kind = "Delete" if isinstance(write, Delete) else "ConditionCheck"
            return {kind: {**said, **places.parameters(ConditionExpression=condition)}}
