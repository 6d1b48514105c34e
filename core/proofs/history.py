"""What was found in each reconciliation and in each audit: how a partner's word holds over time (§6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from core.model import PurposeId, RecipientId


@dataclass(frozen=True, slots=True)
class Run:
    """A reconciliation that was done: over how much, and how often each verdict was found."""

    partner: str
    at: datetime
    claims: int
    records: int
    orphans: int
    appended: int
    findings: Mapping[str, int]

    @property
    def rejected(self) -> float:
        """The part of the claims that is not proven, from 0 to 1."""
        return 1 - self.findings.get("proven", 0) / self.claims if self.claims else 0.0


@dataclass(frozen=True, slots=True)
class Audit:
    """A sample of proven claims for which the partner is asked for its evidence.

    ``population``: how many proven claims it was drawn from. ``upheld`` and ``rejected``: the outcome, once known;
    ``reference``: where the partner's answer is kept.
    """

    id: int
    partner: str
    at: datetime
    size: int
    seed: int
    population: int
    sample: Sequence[tuple[RecipientId, PurposeId]]
    closed_at: datetime | None = None
    upheld: int | None = None
    rejected: int | None = None
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an audit came to: how many claims the evidence bears out, and not. ``reference``: where the answer is."""

    upheld: int
    rejected: int
    reference: str = ""


class History(Protocol):
    """Keeps them."""

    def add_run(self, run: Run) -> None:
        """Note a reconciliation."""
        ...

    def runs(self, partner: str) -> Sequence[Run]:
        """A partner's reconciliations, the oldest first."""
        ...

    def add_audit(self, audit: Audit) -> Audit:
        """Note a sample; the one that is there already when it is the very same. ``id`` is not looked at."""
        ...

    def audits(self, partner: str | None = None) -> Sequence[Audit]:
        """The audits of a partner, or of all, the oldest first."""
        ...

    def close_audit(self, number: int, at: datetime, outcome: Outcome) -> bool:
        """Note an audit's outcome; False when there is no open one of that number."""
        ...
