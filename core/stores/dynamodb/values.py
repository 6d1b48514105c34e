"""What an item may hold, to and from DynamoDB's form on the wire: no floats, no sets, times as integers or text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from core.errors import DamagedState

T = TypeVar("T")

Value = str | int | bytes | bool | None | list[Any] | dict[str, Any]
"""What an attribute may hold."""

Item = dict[str, Value]
"""An item: ``pk`` and ``sk``, both text, and its attributes."""

DAMAGED = "a stored value is damaged: see `pixelproof ledger verify`"

_PLAIN: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (str, "S", str),  # an enumeration's member is text, too
    (bytes, "B", bytes),
    (bool, "BOOL", bool),  # before the numbers, of which it is one to Python
    (int, "N", lambda value: str(int(value))),
)
_OVERHEAD = 3
"""Bytes that a list, a map or each of their members counts besides what it holds; rounded up."""
_NUMBER = 21
"""Bytes that a number counts at most."""


def wire(value: Value) -> dict[str, Any]:
    """A value in DynamoDB's form.

    Raises:
        TypeError: DynamoDB has no such value, or this product does not use it.
    """
    if value is None:
        return {"NULL": True}
    if isinstance(value, list):
        return {"L": [wire(each) for each in value]}
    if isinstance(value, dict):
        return {"M": wired(value)}
    for kind, form, plain in _PLAIN:
        if isinstance(value, kind):
            return {form: plain(value)}
    raise TypeError(f"no attribute can hold a {type(value).__name__}")


def wired(item: Mapping[str, Value]) -> dict[str, Any]:
    """An item in DynamoDB's form."""
    return {name: wire(value) for name, value in item.items()}


def unwire(value: Mapping[str, Any]) -> Value:
    """A value from DynamoDB's form; raises DamagedState for one that this product never writes."""
    ((kind, held),) = value.items()
    match kind:
        case "S" | "BOOL":
            return held  # type: ignore[no-any-return]  # as botocore reads it
        case "B":
            return bytes(held)
        case "N":
            return _integer(held)
        case "NULL":
            return None
        case "L":
            return [unwire(each) for each in held]
        case "M":
            return unwired(held)
    raise DamagedState(DAMAGED)


def unwired(item: Mapping[str, Mapping[str, Any]]) -> Item:
    """An item from DynamoDB's form; raises DamagedState for one that this product never writes."""
    return {name: unwire(value) for name, value in item.items()}


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise DamagedState(DAMAGED) from None


def size_of(value: Value) -> int:
    """How many bytes a value counts towards DynamoDB's limits, or a few more."""
    match value:
        case str():
            return len(value.encode())
        case bytes():
            return len(value)
        case bool() | None:
            return 1
        case int():
            return _NUMBER
        case list():
            return _OVERHEAD + sum(_OVERHEAD + size_of(each) for each in value)
        case dict():
            return _OVERHEAD + sum(_OVERHEAD + len(name.encode()) + size_of(each) for name, each in value.items())
    raise TypeError(f"no attribute can hold a {type(value).__name__}")


def text(item: Mapping[str, Value], name: str) -> str:
    """An attribute that is text; raises DamagedState when it is not there, or something else."""
    return _typed(item, name, str)


def number(item: Mapping[str, Value], name: str) -> int:
    """An attribute that is a whole number; raises DamagedState when it is not there, or something else."""
    return _typed(item, name, int)


def raw(item: Mapping[str, Value], name: str) -> bytes:
    """An attribute that is bytes; raises DamagedState when it is not there, or something else."""
    return _typed(item, name, bytes)


def _typed(item: Mapping[str, Value], name: str, kind: type[T]) -> T:
    value = item.get(name)
    if isinstance(value, kind) and type(value) is kind:  # a bool is an int, too
        return value
    raise DamagedState(DAMAGED)
