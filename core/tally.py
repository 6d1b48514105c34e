"""Counts changes, by which an ESP's calls can be counted beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from core.model import TO_ASK, ContactChange, PurposeId


@dataclass(slots=True)
class Tally:
    """What a set of changes amounts to, by which an ESP's calls can be counted beforehand."""

    _sets: Counter[tuple[frozenset[PurposeId], frozenset[PurposeId]]] = field(default_factory=Counter)

    def add(self, change: ContactChange) -> None:
        """Count one change in."""
        self._sets[change.desired, change.confirmed] += 1

    @property
    def contacts(self) -> int:
        """How many contacts change."""
        return self._sets.total()

    @property
    def withdrawing(self) -> int:
        """How many of them stop some tracking."""
        return sum(n for (desired, confirmed), n in self._sets.items() if confirmed - desired - {TO_ASK})

    @property
    def desired(self) -> Counter[frozenset[PurposeId]]:
        """How many contacts shall stand in exactly these segments."""
        counted: Counter[frozenset[PurposeId]] = Counter()
        for (desired, _), n in self._sets.items():
            counted[desired] += n
        return counted

    @property
    def added(self) -> Counter[PurposeId]:
        """How many come into a segment."""
        return self._moved(lambda desired, confirmed: desired - confirmed)

    @property
    def removed(self) -> Counter[PurposeId]:
        """How many leave a segment."""
        return self._moved(lambda desired, confirmed: confirmed - desired)

    def _moved(
        self, moved: Callable[[frozenset[PurposeId], frozenset[PurposeId]], frozenset[PurposeId]]
    ) -> Counter[PurposeId]:
        counted: Counter[PurposeId] = Counter()
        for (desired, confirmed), n in self._sets.items():
            for purpose in moved(desired, confirmed):
                counted[purpose] += n
        return counted
