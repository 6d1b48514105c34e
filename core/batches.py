"""Long streams and lists in parts of a bounded length (``itertools.batched`` comes with Python 3.12)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of at most ``size``; no more is read ahead than one list."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def parts(items: Sequence[T], number: int) -> Iterator[Sequence[T]]:
    """The items in about so many parts of equal length, at least two where there are two items."""
    size = -(-len(items) // max(2, number)) or 1
    return (items[start : start + size] for start in range(0, len(items), size))
