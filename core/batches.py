"""Long streams in lists of a bounded length (``itertools.batched`` comes with Python 3.12)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of at most ``size``; no more is read ahead than one list."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
