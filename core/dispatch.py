"""From a declared campaign to what stands ready at the ESP: plan (changes nothing), then apply (sends nothing).

Applying freezes who gets which pixel in a snapshot, which is what ``core.release`` sends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from core import snapshots
from core.campaign import check, decide
from core.consent import Standings, may_be_asked
from core.errors import PlanError, StoreError
from core.mailing import TRACKED, UNTRACKED, Mailing
from core.model import (
    Addressee,
    Campaign,
    Halves,
    Mechanism,
    PixelDecision,
    PixelMode,
    Plan,
    RecipientId,
)
from core.ports import Connector
from core.records import CampaignRecord, Choice
from core.segments import PAGE, BookRow, pages

_Decided = tuple[RecipientId, PixelDecision]


@dataclass(slots=True)
class Outlook:
    """What was decided for a campaign's recipients, counted.

    ``reasons`` counts the recipients by pixel and the reason for it, in words.
    """

    reasons: Counter[tuple[PixelMode, str]] = field(default_factory=Counter)
    tracked: int = 0
    individual: int = 0
    aggregate: int = 0

    def add(self, campaign: Campaign, decision: PixelDecision) -> str:
        """Count one recipient; answers the half that they are in."""
        self.reasons[decision.mode, decision.reason] += 1
        self.individual += decision.mode is PixelMode.INDIVIDUAL
        self.aggregate += decision.mode is PixelMode.AGGREGATE
        by_esp = campaign.mechanism is Mechanism.PROVIDER and decision.mode is PixelMode.INDIVIDUAL
        self.tracked += by_esp
        return TRACKED if by_esp else UNTRACKED

    @property
    def halves(self) -> Halves:
        """What the ESP is told."""
        everybody = self.reasons.total()
        return Halves(self.tracked, everybody - self.tracked, self.individual, self.aggregate)

    def count(self, mode: PixelMode) -> int:
        """How many recipients get that pixel."""
        return sum(n for (of, _), n in self.reasons.items() if of is mode)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with what it rests on."""

    plan: Plan
    outlook: Outlook


@dataclass(frozen=True, slots=True)
class Dispatch(Mailing):
    """Plans campaigns by the ledger and applies them."""

    def plan(self, campaign: Campaign, connector: Connector, audience: Sequence[RecipientId] | None = None) -> Prepared:
        """Decide for each recipient and ask the connector how it would send. Changes nothing.

        ``audience``: the recipients of this mailing; None for the whole address book.

        Raises:
            PlanError: the campaign cannot lawfully be sent as declared, or has nobody to go to.
        """
        outlook = Outlook()
        check(campaign, self.policy)
        for page in self._decided(campaign, audience):
            for _, decision in page:
                outlook.add(campaign, decision)
        return Prepared(self._asked(campaign, connector, outlook), outlook)

    def apply(
        self, campaign: Campaign, connector: Connector, audience: Sequence[RecipientId] | None = None
    ) -> tuple[CampaignRecord, Prepared]:
        """Freeze who gets which pixel, set everything up at the ESP and read it back. Sends nothing.

        The digest of the snapshot goes into the ledger. Interrupted, it may be run again: what was applied before
        stays in force until this one is.

        Raises:
            PlanError: as ``plan``, or the campaign was sent, or a part of it left.
            ProviderError: what stands at the ESP is not what was planned, or it is out of reach.
        """
        check(campaign, self.policy)
        if (earlier := self.mailings.campaign(campaign.id)) and earlier.sent:
            raise PlanError(f"campaign {campaign.id} was sent already; give a new mailing a new id")
        if self.mailings.started(campaign.id):
            raise PlanError(f"campaign {campaign.id}: a part of it left already; `campaigns send` goes on with it")
        edition, outlook = self._freeze(campaign, connector.part_size(campaign), audience)
        plan = self._asked(campaign, connector, outlook)
        applied = connector.apply(plan, lambda: self._addressees(campaign, edition))
        digest = snapshots.write(self.snapshots, campaign.id, self.mailings.choices(edition))
        record = CampaignRecord(campaign, applied, plan.halves, edition, digest)
        self.ledger.record_campaign(record, "applied", digest)
        self.mailings.save_campaign(record)
        if earlier and earlier.snapshot != digest:
            with suppress(StoreError):  # where files are locked it stays
                self.snapshots.delete(snapshots.name_of(campaign.id, earlier.snapshot))
        return record, Prepared(plan, outlook)

    def _asked(self, campaign: Campaign, connector: Connector, outlook: Outlook) -> Plan:
        if not outlook.reasons:
            whom = "nobody may be asked now" if campaign.asks else "nobody to send it to: import addresses first"
            raise PlanError(f"campaign {campaign.id}: {whom}")
        return connector.plan(campaign, outlook.halves)

    def _freeze(
        self, campaign: Campaign, size: int | None, audience: Sequence[RecipientId] | None
    ) -> tuple[int, Outlook]:
        """Keep each recipient's pixel, and the part of the release that their mail leaves with."""
        outlook, edition = Outlook(), self.mailings.new_edition(campaign.id)
        filled = {TRACKED: 0, UNTRACKED: 0}
        for page in self._decided(campaign, audience):
            choices = []
            for recipient, decision in page:
                half = outlook.add(campaign, decision)
                part = part_name(half, filled[half] // size + 1) if size else half
                filled[half] += 1
                choices.append(Choice(recipient, decision.mode, part, decision.basis, decision.reason))
            self.mailings.add_choices(edition, choices)
        return edition, outlook

    def _addressees(self, campaign: Campaign, edition: int) -> Iterator[Addressee]:
        for choice, contact in self.written(campaign, edition):
            yield Addressee(contact, choice.part.startswith(TRACKED))

    def _decided(self, campaign: Campaign, audience: Sequence[RecipientId] | None) -> Iterator[list[_Decided]]:
        now = self.now()
        for rows in self._rows(audience):
            recipients = [row[0] for row in rows]
            heads = self.ledger.store.heads(recipients)
            stands = ((r, heads[r].standings if r in heads else {}) for r in recipients)
            yield [(r, decide(campaign, s, now, self.policy)) for r, s in stands if self._takes(campaign, s)]

    def _takes(self, campaign: Campaign, standings: Standings) -> bool:
        """Whether the campaign goes to somebody who stands like this: a mail that asks leaves out who decided."""
        return not campaign.asks or may_be_asked(standings, self.purposes, self.now(), self.policy)

    def _rows(self, audience: Sequence[RecipientId] | None) -> Iterator[list[BookRow]]:
        if audience is None:
            yield from pages(self.book)
            return
        wanted = sorted(set(audience))
        for start in range(0, len(wanted), PAGE):
            known = self.book.get(wanted[start : start + PAGE])
            yield [(recipient, *known[recipient]) for recipient in sorted(known)]


def part_name(half: str, number: int) -> str:
    """The name of a part; the order of names is the order in which the parts leave."""
    return f"{half}-{number:06d}"
