"""What should not have happened: opens that should not have been seen, and a ledger that is not what was signed.

Opens are counted, and make an incident once there are as many as the settings say; nothing of such an open is kept but
its number. The ESP's own pixel goes on reporting opens of mail that was delivered before a withdrawal (§5); the other
two kinds say that somebody was tracked who never should have been.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class IncidentKind(StrEnum):
    """What happened. Those of ``OPENS`` say why nothing of some opens was kept; each is a counter's name too."""

    UNTRACKED = "opens_without_tracked_mail"
    """The recipient's mail should have carried no individual pixel: the ESP added one."""
    WITHDRAWN = "opens_after_withdrawal"
    """The mail carried a pixel lawfully, and the consent has ended since."""
    UNKNOWN_CAMPAIGN = "opens_of_unknown_campaigns"
    """Of mail that this product knows nothing of, or that the mail says to be another provider's."""
    LOG = "ledger_not_as_signed"
    """The notary refuses to sign: the ledger is not what was signed before."""


OPENS = (IncidentKind.UNTRACKED, IncidentKind.WITHDRAWN, IncidentKind.UNKNOWN_CAMPAIGN)
LOG_SCOPE = "log"
"""The scope of what concerns the log as a whole."""

REMEDIES: Mapping[IncidentKind, str] = {
    IncidentKind.UNTRACKED: "run `pixelproof doctor`: something at the ESP tracks mail that must not be tracked",
    IncidentKind.WITHDRAWN: "the hosted pixel stops with the withdrawal, the ESP's own does not: prefer the hosted one",
    IncidentKind.UNKNOWN_CAMPAIGN: "have the ESP track no mail that was not sent through `pixelproof campaigns`",
    IncidentKind.LOG: "run `pixelproof ledger verify`, which tells what differs, before anything is restored",
}


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that somebody must look at, such as so many opens of one kind.

    Attributes:
        scope: ``campaign:<id>``, ``provider:<name>`` or ``LOG_SCOPE``.
        total: What the counter amounted to when it was opened, or when it was closed: from there on counts the next.
            0 for what is not counted.
    """

    id: int
    scope: str
    kind: IncidentKind
    opened_at: datetime
    total: int
    closed_at: datetime | None = None

    @property
    def told(self) -> str:
        """What happened, in words."""
        if self.kind not in OPENS:
            return "the ledger is not what was signed before, so nothing more is signed"
        return f"{self.total} {self.kind.value.replace('_', ' ')}, none of them kept"


class Incidents(Protocol):
    """What is kept of incidents; they are opened in a batch, the one that counts (``core.ports.Batch``)."""

    def listed(self, *, closed: bool = False) -> Sequence[Incident]:
        """The open ones, or all of them, the oldest first."""
        ...

    def close(self, number: int, now: datetime) -> bool:
        """Close one; False when no open one has that number."""
        ...


def due(last: Incident | None, total: int, threshold: int) -> bool:
    """Whether a counter that amounts to ``total`` makes an incident, given the last one of its kind."""
    if last is not None and last.closed_at is None:
        return False
    return total - (last.total if last else 0) >= threshold
