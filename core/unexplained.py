"""What callbacks brought that nothing here knows: event types that nobody mapped, topics that the settings do not map.

Both are counted for good. Whoever has looked at them acknowledges the counts; only what came since is told again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from core.intake import label
from core.ports import Batch

TYPES, TOPICS = "unknown:", "unmapped_topic:"
"""How the names of the counters begin."""


class Counters(Protocol):
    """A store whose counters can be read."""

    def counters(self, scope: str) -> Mapping[str, int]:
        """The counters of one scope."""
        ...


@dataclass(frozen=True, slots=True)
class Unexplained:
    """How many events came since the last acknowledgement, of each unknown type and of each unmapped topic."""

    types: Mapping[str, int]
    topics: Mapping[str, int]


def unexplained(store: Counters, provider: str, mapped: Collection[str]) -> Unexplained:
    """What a provider's callbacks brought.

    Args:
        store: The ledger's.
        provider: Its name.
        mapped: Its topics that the settings map, to no purpose at all perhaps.
    """
    since = _since(store, provider)
    known = {label(topic) for topic in mapped}
    topics = {name: n for name, n in _named(since, TOPICS).items() if name not in known}
    return Unexplained(_named(since, TYPES), topics)


def acknowledge(batch: Batch, store: Counters, provider: str) -> int:
    """Have only what comes from now on told again; answers how many counters that concerns."""
    since = {name: n for name, n in _since(store, provider).items() if name.startswith((TYPES, TOPICS))}
    for name, n in since.items():
        batch.count(f"acknowledged:{provider}", name, n)
    return len(since)


def _since(store: Counters, provider: str) -> dict[str, int]:
    acknowledged = store.counters(f"acknowledged:{provider}")
    counted = store.counters(f"callbacks:{provider}")
    return {name: n - acknowledged.get(name, 0) for name, n in counted.items() if n > acknowledged.get(name, 0)}


def _named(counted: Mapping[str, int], beginning: str) -> dict[str, int]:
    return {name.removeprefix(beginning): n for name, n in sorted(counted.items()) if name.startswith(beginning)}
