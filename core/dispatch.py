"""From a declared campaign to sent mail: plan (changes nothing), apply (all stands ready, nothing sent), send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from core.campaign import check, decide
from core.errors import PlanError
from core.links import Links
from core.model import (
    Campaign,
    Contact,
    Mechanism,
    PixelDecision,
    PixelMode,
    Plan,
    RecipientId,
    ReleaseReport,
    Split,
)
from core.policy import Policy
from core.ports import AddressBook, CampaignRecord, Clock, Connector, LedgerStore, Records
from core.segments import PAGE, BookRow, pages

_Decided = tuple[Contact, PixelDecision]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with what was decided for each recipient.

    ``reasons`` counts the recipients by the reason for their pixel, in words.
    """

    plan: Plan
    modes: tuple[tuple[RecipientId, PixelMode], ...]
    reasons: Counter[tuple[PixelMode, str]]

    def count(self, mode: PixelMode) -> int:
        """How many recipients get that pixel."""
        return sum(n for (of, _), n in self.reasons.items() if of is mode)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Plans and sends campaigns by the ledger."""

    store: LedgerStore
    book: AddressBook
    records: Records
    policy: Policy
    links: Links
    now: Clock

    def plan(self, campaign: Campaign, connector: Connector, audience: Sequence[RecipientId] | None = None) -> Prepared:
        """Decide for each recipient and ask the connector how it would send. Changes nothing.

        ``audience``: the recipients of this mailing; None for the whole address book.

        Raises:
            PlanError: the campaign cannot lawfully be sent as declared, or has nobody to go to.
        """
        check(campaign, self.policy)
        tracked: list[Contact] = []
        untracked: list[Contact] = []
        modes: list[tuple[RecipientId, PixelMode]] = []
        reasons: Counter[tuple[PixelMode, str]] = Counter()
        for contact, decision in self._decide(campaign, audience):
            by_esp = campaign.mechanism is Mechanism.PROVIDER and decision.mode is PixelMode.INDIVIDUAL
            (tracked if by_esp else untracked).append(contact)
            modes.append((contact.recipient, decision.mode))
            reasons[decision.mode, decision.reason] += 1
        if not modes:
            raise PlanError(f"campaign {campaign.id}: nobody to send it to: import addresses first")
        plan = connector.plan(campaign, Split(tuple(tracked), tuple(untracked)))
        return Prepared(plan, tuple(modes), reasons)

    def apply(self, prepared: Prepared, connector: Connector) -> CampaignRecord:
        """Set everything up at the ESP, read it back, and keep the snapshot of who gets which pixel. Sends nothing."""
        plan = prepared.plan
        if (earlier := self.records.campaign(plan.campaign.id)) and earlier.sent:
            raise PlanError(f"campaign {plan.campaign.id} was sent already; give a new mailing a new id")
        if self.records.started(plan.campaign.id):
            raise PlanError(f"campaign {plan.campaign.id}: a part of it left already; what was applied must not change")
        applied = connector.apply(plan)
        record = CampaignRecord(plan.campaign, applied, len(plan.split.tracked), len(plan.split.untracked))
        self.records.save_campaign(record, prepared.modes)
        return record

    def send(
        self, campaign: Campaign, connector: Connector, audience: Sequence[RecipientId] | None = None
    ) -> ReleaseReport:
        """Release an applied campaign; a run that was interrupted goes on where it stopped, sending nothing twice.

        Raises:
            PlanError: it was not applied, was changed since, or somebody withdrew since: apply it again.
            AmbiguousOutcome: an earlier run was cut off and nobody can tell whether a part of it left.
        """
        record = self.records.campaign(campaign.id)
        if record is None or record.campaign != campaign:
            raise PlanError(f"campaign {campaign.id}: not applied as it is declared now; run `campaigns apply` first")
        prepared = self.plan(campaign, connector, audience)
        if not self._still_lawful(prepared, record):
            raise PlanError(
                f"campaign {campaign.id}: its audience or their choices changed since it was applied;"
                " run `campaigns apply` again"
            )
        report = connector.release(prepared.plan, record.applied, self.records.journal(campaign.id))
        self.records.mark_sent(campaign.id)
        return report

    def _still_lawful(self, prepared: Prepared, record: CampaignRecord) -> bool:
        """Whether the recipients are those of the snapshot, and each still gets exactly the pixel that is in it."""
        if len(prepared.modes) != record.tracked + record.untracked:
            return False
        for start in range(0, len(prepared.modes), PAGE):
            chunk = dict(prepared.modes[start : start + PAGE])
            if self.records.modes(prepared.plan.campaign.id, [*chunk]) != chunk:
                return False
        return True

    def _decide(self, campaign: Campaign, audience: Sequence[RecipientId] | None) -> Iterator[_Decided]:
        now = self.now()
        for rows in self._rows(audience):
            heads = self.store.heads([row[0] for row in rows])
            for recipient, address, locale in rows:
                head = heads.get(recipient)
                decision = decide(campaign, head.standings if head else {}, now, self.policy)
                path = self._path_of(campaign, decision)(recipient)
                yield self.links.contact(recipient, address, locale, pixel_path=path), decision

    def _path_of(self, campaign: Campaign, decision: PixelDecision) -> Callable[[RecipientId], str]:
        if campaign.mechanism is not Mechanism.HOSTED or decision.mode is PixelMode.NONE:
            return lambda _: ""
        if decision.mode is PixelMode.AGGREGATE:
            return lambda _: "a"
        return self.links.pixel_path

    def _rows(self, audience: Sequence[RecipientId] | None) -> Iterator[list[BookRow]]:
        if audience is None:
            yield from pages(self.book)
            return
        wanted = sorted(set(audience))
        for start in range(0, len(wanted), PAGE):
            known = self.book.get(wanted[start : start + PAGE])
            yield [(recipient, *known[recipient]) for recipient in sorted(known)]
