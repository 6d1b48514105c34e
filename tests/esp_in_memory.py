"""An ESP for the tests of the domain: it does exactly what it is told to add and remove, and can fail half-way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from core.account import Erasure, Finding
from core.errors import AmbiguousOutcome, PlanError, ProviderError, ProviderRefused
from core.model import (
    Addressee,
    AppliedPlan,
    Campaign,
    Contact,
    ContactChange,
    Halves,
    Member,
    Part,
    Plan,
    PurposeId,
    RecipientId,
    ReleaseReport,
    SyncReport,
)
from core.ports import SendJournal
from core.tally import Tally

NAME = "memory"


@dataclass
class EspInMemory:
    """See ``core.ports.Connector``.

    Attributes:
        members: Each address's purposes, made of additions and removals alone.
        carried: The pixel path that each address's contact carries.
        batch: How many changes go into one call.
        syncs: The changes of each call.
        refused: Addresses that it does not take.
        failures: By the number of calls before: of this one it takes so many changes and then is out of reach.
        meanwhile: What somebody else does after a call was carried out and before it is reported.
        part: How many recipients a part has; None when it sends each half as a whole.
        applied: The plans that were applied, and whom they track.
        mails: Every mail that left: part and address.
        images: The pixel path in the mail that each address got.
        failing_parts: Parts of a release that fail, by what they raise.
        before_part: What somebody else does when a part is about to be sent.
        unerased: Addresses whose erasure is accepted and never done.
    """

    members: dict[str, set[PurposeId]] = field(default_factory=dict)
    carried: dict[str, str] = field(default_factory=dict)
    batch: int = 1_000
    syncs: list[list[ContactChange]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    failures: dict[int, int] = field(default_factory=dict)
    meanwhile: list[Callable[[], object]] = field(default_factory=list)
    part: int | None = None
    applied: list[tuple[Plan, set[str]]] = field(default_factory=list)
    mails: list[tuple[str, str]] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)
    failing_parts: dict[str, type[AmbiguousOutcome | ProviderRefused]] = field(default_factory=dict)
    before_part: dict[str, Callable[[], object]] = field(default_factory=dict)
    unerased: set[str] = field(default_factory=set)
    calls: int = 0

    def sync(self, changes: Iterable[ContactChange]) -> Iterator[SyncReport]:
        """Take additions and removals to the letter, a batch a call."""
        rest = iter(changes)
        while batch := list(islice(rest, self.batch)):
            yield self._take(batch)

    def _take(self, changes: list[ContactChange]) -> SyncReport:
        limit = self.failures.pop(len(self.syncs), None)
        self.syncs.append(changes)
        self.calls += 1
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
        while self.meanwhile:
            self.meanwhile.pop()()
        rejected = frozenset(change.contact.recipient for change in changes) - confirmed
        return SyncReport(frozenset(confirmed), rejected, 1)

    def minimum_calls(self, tally: Tally) -> int:
        """A call for each full batch, and one for the rest."""
        return -(-tally.contacts // self.batch)

    def read_back(self) -> Iterator[Member]:
        """Everybody who is in a segment."""
        self.calls += 1
        for address, purposes in self.members.items():
            if purposes:
                yield Member(address, frozenset(purposes))

    def part_size(self, _campaign: Campaign) -> int | None:
        """As told."""
        return self.part

    def plan(self, campaign: Campaign, halves: Halves) -> Plan:
        """Two halves; a campaign without a subject cannot be sent."""
        if "subject" not in campaign.content:
            raise PlanError(f"campaign {campaign.id}: content.subject is missing")
        return Plan(campaign, halves, ("tracked", "untracked"))

    def apply(self, plan: Plan, addressees: Callable[[], Iterator[Addressee]]) -> AppliedPlan:
        """Set it up."""
        self.applied.append((plan, {each.contact.address for each in addressees() if each.tracked}))
        return AppliedPlan(plan.campaign.id, NAME, {"setup": str(len(self.applied))}, 1)

    def release(
        self, _campaign: Campaign, applied: AppliedPlan, parts: Iterable[Part], journal: SendJournal
    ) -> ReleaseReport:
        """Send what was set up last, part by part."""
        if applied.handles != {"setup": str(len(self.applied))}:
            raise ProviderRefused(NAME, "this was set up anew since")
        accepted = {True: 0, False: 0}
        refused: set[RecipientId] = set()
        for part in parts:
            self.before_part.pop(part.name, lambda: None)()
            contacts = [*part.contacts()]
            refused.update(contact.recipient for contact in contacts if contact.address in self.refused)
            accepted[part.tracked] += self._send(part.name, contacts, journal)
        return ReleaseReport(accepted[True], accepted[False], 2, frozenset(refused))

    def _send(self, part: str, contacts: Sequence[Contact], journal: SendJournal) -> int:
        if not journal.begin(part):
            return 0
        if (failure := self.failing_parts.pop(part, None)) is not None:
            if failure is ProviderRefused:
                journal.failed(part)
            raise failure(NAME, f"{part} failed")
        taken = [contact for contact in contacts if contact.address not in self.refused]
        self.mails += [(part, contact.address) for contact in taken]
        self.images |= {contact.address: contact.pixel_path for contact in taken}
        journal.done(part)
        return len(taken)

    def inspect(self, _webhook_url: str, _topics: Collection[str]) -> Iterator[Finding]:
        """Nothing is wrong."""
        return iter(())

    def erase(self, contacts: Sequence[Contact]) -> Erasure:
        """Forget people, but those who are said to stay."""
        gone = [contact for contact in contacts if contact.address not in self.unerased]
        for contact in gone:
            self.members.pop(contact.address, None)
            self.carried.pop(contact.address, None)
        everybody = frozenset(contact.recipient for contact in contacts)
        erased = frozenset(contact.recipient for contact in gone)
        return Erasure(erased, everybody - erased, 1)
