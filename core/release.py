"""Sends what was applied, part by part, each person by what they have chosen until then.

The snapshot says who is in which part, so an interrupted release goes on where it stopped, whatever happened to the
audience since. Just before a part leaves, everybody in it is judged again: whoever may not be tracked any more moves
to a later part that is not tracked; nobody is ever moved the other way. Who was erased meanwhile gets no mail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from core import snapshots
from core.batches import batched
from core.campaign import decide
from core.consent import may_be_asked
from core.errors import PlanError
from core.ledger import Recording, idempotency_key
from core.mailing import TRACKED, UNTRACKED, Mailing
from core.model import (
    Action,
    Campaign,
    ConsentEvent,
    Contact,
    Part,
    PixelDecision,
    PixelMode,
    PurposeId,
    ReleaseReport,
)
from core.ports import Connector, SendJournal
from core.records import CampaignRecord, Choice, PartState
from core.segments import PAGE

LATE = f"{UNTRACKED}-late"
"""Where those go who may not be tracked any more; it sorts behind the other untracked parts."""
LEFT_OUT = ""
"""The part of those who get no mail; it is before all others and never sent."""


@dataclass(frozen=True, slots=True)
class Release(Mailing):
    """Sends applied campaigns."""

    def send(self, campaign: Campaign, connector: Connector) -> ReleaseReport:
        """Release an applied campaign; a run that was interrupted goes on where it stopped, sending nothing twice.

        Raises:
            PlanError: it was not applied as it is declared now; or the ESP holds the tracked half frozen and somebody
                in it may not be tracked any more: apply it again.
            AmbiguousOutcome: an earlier run was cut off and nobody can tell whether a part of it left.
            ProviderError: the ESP is out of reach or refused a part.
        """
        record = self.mailings.campaign(campaign.id)
        if record is None or record.campaign != campaign:
            advice = "put the file back as it was" if self.mailings.started(campaign.id) else "run `campaigns apply`"
            raise PlanError(f"campaign {campaign.id}: not applied as it is declared now; {advice} first")
        parts = self._parts(record, connector.part_size(campaign))
        report = connector.release(campaign, record.applied, parts, self._journal(record))
        if not record.sent:
            self._conclude(record)
        return report

    def settle(self, campaign: str, part: str, *, sent: bool) -> None:
        """The operator says whether a part left of which the ESP could not tell.

        Raises:
            PlanError: there is no such part in doubt.
        """
        record = self.mailings.campaign(campaign)
        if record is None or self.mailings.part_state(campaign, part) is not PartState.BEGUN:
            raise PlanError(f"campaign {campaign}: part {part!r} is not in doubt; see `campaigns status`")
        journal = self._journal(record)
        (journal.done if sent else journal.failed)(part)

    def _journal(self, record: CampaignRecord) -> SendJournal:
        journal = self.mailings.journal(record.campaign.id)
        return _Asking(journal, self, record) if record.campaign.asks else journal

    # The parts

    def _parts(self, record: CampaignRecord, size: int | None) -> Iterator[Part]:
        """The parts that have not left, each judged again when its turn comes."""
        name = LEFT_OUT
        while (following := self.mailings.next_part(record.edition, name)) is not None:
            name, number = following
            state = self.mailings.part_state(record.campaign.id, name)
            if state in {PartState.WAITING, PartState.FAILED}:
                number -= self._protect(record, name, size)
            if number and state is not PartState.DONE:
                yield Part(name, name.startswith(TRACKED), number, partial(self._contacts, record, name))

    def _protect(self, record: CampaignRecord, part: str, size: int | None) -> int:
        """Judge everybody in a part again; answers how many left it."""
        gone = 0
        for page in batched(self.mailings.choices(record.edition, part), PAGE):
            changed = list(self._worse(record.campaign, page))
            moved = [choice for choice in changed if choice.part != part]
            if moved and size is None:
                raise PlanError(
                    f"campaign {record.campaign.id}: at least {len(moved)} of its recipients decided otherwise since it"
                    " was applied, and the ESP holds it as it was then: run `campaigns apply` again"
                )
            late = [choice for choice in changed if choice.part == LATE]
            others = [choice for choice in changed if choice.part != LATE]
            if others:
                self.mailings.change_choices(record.campaign.id, record.edition, others)
            self._put_late(record, late, size or 0)
            gone += len(moved)
        return gone

    def _worse(self, campaign: Campaign, choices: list[Choice]) -> Iterator[Choice]:
        """Those who must get less than their choice says, as they must get it now."""
        now = self.now()
        heads = self.ledger.store.heads([choice.recipient for choice in choices])
        for choice in choices:
            standings = heads[choice.recipient].standings if choice.recipient in heads else {}
            if campaign.asks and not may_be_asked(standings, self.purposes, now, self.policy):
                yield replace(choice, part=LEFT_OUT, reason="decided since; not asked")
                continue
            decision = decide(campaign, standings, now, self.policy)
            if choice.mode is PixelMode.INDIVIDUAL and decision.mode is not PixelMode.INDIVIDUAL:
                yield _demoted(choice, decision)

    def _put_late(self, record: CampaignRecord, choices: list[Choice], size: int) -> None:
        """Put them into the last late part that has room and has not begun to leave, and into new ones."""
        while choices:
            last, filled = self.mailings.last_part(record.edition, LATE) or (f"{LATE}-000001", 0)
            begun = self.mailings.part_state(record.campaign.id, last) in {PartState.BEGUN, PartState.DONE}
            if begun or filled >= size:
                last, filled = f"{LATE}-{int(last[-6:]) + 1:06d}", 0
            some, choices = choices[: size - filled], choices[size - filled :]
            placed = [replace(choice, part=last) for choice in some]
            self.mailings.change_choices(record.campaign.id, record.edition, placed)

    def _contacts(self, record: CampaignRecord, part: str) -> Iterator[Contact]:
        return (contact for _, contact in self.written(record.campaign, record.edition, part))

    def _conclude(self, record: CampaignRecord) -> None:
        """Keep the snapshot as it was sent, and say in the ledger that it was."""
        campaign = record.campaign.id
        digest = snapshots.write(self.snapshots, campaign, self.mailings.choices(record.edition))
        self.ledger.record_campaign(record, "released", digest)
        self.mailings.mark_sent(campaign)

    def asked(self, record: CampaignRecord, part: str) -> None:
        """Note that everybody in a part was asked, each once for a campaign."""
        now = self.now()
        for page in batched(self.mailings.choices(record.edition, part), PAGE):
            self.ledger.record([_request(record.campaign, choice, self.purposes, now=now) for choice in page])


@dataclass(frozen=True, slots=True)
class _Asking:
    """A send journal that also notes who was asked, before a part counts as done."""

    journal: SendJournal
    release: Release
    record: CampaignRecord

    def begin(self, part: str) -> bool:
        """See ``core.ports.SendJournal``."""
        return self.journal.begin(part)

    def done(self, part: str) -> None:
        """See ``core.ports.SendJournal``."""
        self.release.asked(self.record, part)
        self.journal.done(part)

    def failed(self, part: str) -> None:
        """See ``core.ports.SendJournal``."""
        self.journal.failed(part)


def _demoted(choice: Choice, decision: PixelDecision) -> Choice:
    """With less than was chosen: out of the half that the ESP tracks; a hosted pixel goes where it is."""
    part = LATE if choice.part.startswith(TRACKED) else choice.part
    reason = f"{decision.reason}, since it was applied"
    return Choice(choice.recipient, decision.mode, part, decision.basis, reason)


def _request(campaign: Campaign, choice: Choice, purposes: Sequence[PurposeId], *, now: datetime) -> Recording:
    event = ConsentEvent(
        recipient=choice.recipient,
        purposes=tuple(purposes),
        action=Action.REQUESTED,
        received_at=now,
        occurred_at=now,
        source="campaign",
        evidence=f"campaign:{campaign.id}",
    )
    return Recording(event, (idempotency_key(f"asked:{campaign.id}:{choice.recipient.hex()}"),))
