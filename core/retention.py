"""How long each kind of data is kept, and what deletes it then: ``docs/retention.md`` gives the reasons.

Nothing that proves a standing consent is among the kinds: the ledger's entries, the texts that people were shown and
the records of withdrawals to come stay. Each kind is deleted in small transactions, each of which also notes how much
it deleted, so that a purge may be interrupted at any time and run again, and its record is right even then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Protocol

import msgspec

from core.ports import Clock

DAYS_A_MONTH = 30
"""Retention is counted in months of 30 days: never longer than is said."""

_Span = Annotated[int, msgspec.Meta(ge=1)]


class RetentionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[retention]``: how long each kind is kept. Opens have ``open_retention_months``, which the notice tells.

    Attributes:
        api_answers_days: How long an answer of the API may be asked for again by its idempotency key.
        dead_letter_months: How long a callback that took no effect waits for somebody to look at it.
        left_months: How long the address of somebody who left every list and withdrew everything is kept.
        evidence_months: How long it is kept when each withdrawal reached each ESP, and what reconciliations found.
        snapshot_months: How long it is kept which recipient got which pixel in a campaign.
        counter_months: How long the counters of a campaign are kept.
    """

    api_answers_days: _Span = 7
    dead_letter_months: _Span = 6
    left_months: _Span = 3
    evidence_months: _Span = 36
    snapshot_months: _Span = 36
    counter_months: _Span = 36


class Kind(StrEnum):
    """What is deleted once it is old enough."""

    OPENS = "opens"
    API_ANSWERS = "api_answers"
    DEAD_LETTERS = "dead_letters"
    ADDRESSES = "addresses"
    EFFECTS = "withdrawal_effects"
    FINDINGS = "findings"
    SNAPSHOTS = "snapshots"
    COUNTERS = "counters"


PROMPT = (Kind.OPENS, Kind.API_ANSWERS)
"""What ``serve`` and ``sync`` delete by themselves; the rest waits for ``purge``."""


def spans(settings: RetentionSettings, open_months: int) -> Mapping[Kind, timedelta]:
    """How long each kind is kept."""
    months = {
        Kind.OPENS: open_months,
        Kind.DEAD_LETTERS: settings.dead_letter_months,
        Kind.ADDRESSES: settings.left_months,
        Kind.EFFECTS: settings.evidence_months,
        Kind.FINDINGS: settings.evidence_months,
        Kind.SNAPSHOTS: settings.snapshot_months,
        Kind.COUNTERS: settings.counter_months,
    }
    kept = {kind: timedelta(days=DAYS_A_MONTH * n) for kind, n in months.items()}
    return {kind: kept.get(kind, timedelta(days=settings.api_answers_days)) for kind in Kind}


@dataclass(frozen=True, slots=True)
class Purge:
    """A purge of one kind: when it was begun, and before when everything was to go."""

    at: datetime
    kind: Kind
    before: datetime


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge came to, or would. ``deleted``: rows, addresses, letters or files, as its kind has them."""

    purge: Purge
    deleted: int


Age = Callable[[str], datetime | None]
"""When a campaign was last applied or released; None when that is not known."""


class Expiring(Protocol):
    """A kind of data that is deleted once it is old enough."""

    def due(self, before: datetime) -> int:
        """How much there is from before that time; raises StoreError."""
        ...

    def forget(self, purge: Purge) -> int:
        """Delete it, note how much in the same transactions, and answer how much it was; raises StoreError."""
        ...


class PurgeLog(Protocol):
    """What was purged so far."""

    def note(self, purge: Purge) -> None:
        """Note that a purge came to its end, be it that there was nothing to delete; raises StoreError."""
        ...

    def listed(self, *, since: datetime | None = None) -> Sequence[Purged]:
        """The purges, the oldest first; raises StoreError."""
        ...

    def last(self) -> datetime | None:
        """When everything was purged last; raises StoreError."""
        ...


@dataclass(frozen=True, slots=True)
class Retention:
    """Applies the retention of every kind."""

    kinds: Mapping[Kind, Expiring]
    spans: Mapping[Kind, timedelta]
    log: PurgeLog
    now: Clock

    def due(self) -> tuple[Purged, ...]:
        """What a purge would delete now. Changes nothing; raises StoreError."""
        return tuple(Purged(purge, self.kinds[purge.kind].due(purge.before)) for purge in self._purges([*Kind]))

    def apply(self, kinds: Collection[Kind] = tuple(Kind)) -> tuple[Purged, ...]:
        """Delete what is old enough, kind by kind; may be interrupted and run again.

        It is on record even where there was nothing to delete, unless only some kinds were asked for: that happens
        with every sync.

        Raises:
            StoreError: a store is out of reach; run it again.
        """
        done = []
        for purge in self._purges(kinds):
            done.append(Purged(purge, self.kinds[purge.kind].forget(purge)))
            if len(kinds) == len(Kind):
                self.log.note(purge)
        return tuple(done)

    def _purges(self, kinds: Collection[Kind]) -> Sequence[Purge]:
        now = self.now()
        return [Purge(now, kind, now - self.spans[kind]) for kind in Kind if kind in kinds]
