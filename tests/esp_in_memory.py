"""An ESP for the tests of the domain: it does exactly what it is told to add and remove, and can fail half-way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from core.errors import AmbiguousOutcome, PlanError, ProviderError, ProviderRefused
from core.model import (
    AppliedPlan,
    Campaign,
    Contact,
    ContactChange,
    Member,
    Plan,
    PurposeId,
    RecipientId,
    ReleaseReport,
    Split,
    SyncReport,
)
from core.ports import SendJournal

NAME = "memory"


@dataclass
class EspInMemory:
    """See ``core.ports.Connector``.

    Attributes:
        members: Each address's purposes, made of additions and removals alone.
        carried: The pixel path that each address's contact carries.
        syncs: The changes of each call.
        refused: Addresses that it does not take.
        failures: By the number of calls before: of this one it takes so many changes and then is out of reach.
        applied: The plans that were applied.
        mails: Every mail that left: part and address.
        failing_parts: Parts of a release that fail, by what they raise.
    """

    members: dict[str, set[PurposeId]] = field(default_factory=dict)
    carried: dict[str, str] = field(default_factory=dict)
    syncs: list[list[ContactChange]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    failures: dict[int, int] = field(default_factory=dict)
    applied: list[Plan] = field(default_factory=list)
    mails: list[tuple[str, str]] = field(default_factory=list)
    failing_parts: dict[str, type[AmbiguousOutcome | ProviderRefused]] = field(default_factory=dict)

    def sync(self, changes: Sequence[ContactChange]) -> SyncReport:
        """Take additions and removals to the letter."""
        limit = self.failures.pop(len(self.syncs), None)
        self.syncs.append(list(changes))
        confirmed: set[RecipientId] = set()
        for change in changes if limit is None else changes[:limit]:
            address = change.contact.address
            if address not in self.refused:
                held = self.members.get(address, set())
                self.members[address] = (held - change.removed) | change.added
                self.carried[address] = change.contact.pixel_path
                confirmed.add(change.contact.recipient)
        if limit is not None:
            raise ProviderError(NAME, "out of reach")
        rejected = frozenset(change.contact.recipient for change in changes) - confirmed
        return SyncReport(frozenset(confirmed), rejected, len(changes))

    def read_back(self) -> Iterator[Member]:
        """Everybody who is in a segment."""
        for address, purposes in self.members.items():
            if purposes:
                yield Member(address, frozenset(purposes))

    def plan(self, campaign: Campaign, split: Split) -> Plan:
        """Two parts; a campaign without a subject cannot be sent."""
        if "subject" not in campaign.content:
            raise PlanError(f"campaign {campaign.id}: content.subject is missing")
        return Plan(campaign, split, ("tracked", "untracked"))

    def apply(self, plan: Plan) -> AppliedPlan:
        """Set it up."""
        self.applied.append(plan)
        return AppliedPlan(plan.campaign.id, NAME, {"setup": str(len(self.applied))}, 1)

    def release(self, plan: Plan, applied: AppliedPlan, journal: SendJournal) -> ReleaseReport:
        """Send what was set up last, part by part."""
        if applied.handles != {"setup": str(len(self.applied))}:
            raise ProviderRefused(NAME, "this was set up anew since")
        return ReleaseReport(
            self._part("tracked", plan.split.tracked, journal),
            self._part("untracked", plan.split.untracked, journal),
            2,
        )

    def _part(self, part: str, contacts: Sequence[Contact], journal: SendJournal) -> int:
        if not journal.begin(part):
            return 0
        if (failure := self.failing_parts.pop(part, None)) is not None:
            if failure is ProviderRefused:
                journal.failed(part)
            raise failure(NAME, f"{part} failed")
        self.mails += [(part, contact.address) for contact in contacts]
        journal.done(part)
        return len(contacts)
