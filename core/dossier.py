"""Everything about one person's consents, so that an inspector can follow it: shown, said, tracked, ended (§6).

What is held comes from ``core.person``, the receipts from ``core.receipts``; here stand what was shown, which pixel the
person got in which campaign and why, and how long each withdrawal took to reach each ESP.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from core.consent import is_rejection
from core.errors import StoreError
from core.ledger import CampaignBody, Instant, campaign_chain, parse_campaign
from core.model import Action, Basis, CampaignKind, Mechanism, PixelMode, PurposeId, RecipientId
from core.person import People, PersonRecord, Received
from core.ports import LedgerStore
from core.receipts import LedgerEntry, Receipt, Receipts
from core.records import NO_EDITION, Confirmed, Mailings, Records, TakenOut

ENDING = frozenset({Action.WITHDRAWN, Action.OBJECTED, Action.EXPIRED, Action.INVALIDATED})
"""What ends a consent, or may."""
ROUNDING = timedelta(milliseconds=1)
"""The time at which an ESP was seen to follow is kept in milliseconds."""


class Progress(StrEnum):
    """How far the end of a consent has come at an ESP."""

    TAKEN_OUT = "taken_out"
    """It was seen to hold the person in none of these segments any more."""
    NOTHING_HELD = "nothing_held"
    """Nothing shows that it held the person in one of them."""
    WAITING = "waiting"
    """It may hold the person still: the next sync sends it."""
    OVERTAKEN = "overtaken"
    """The person agreed again before."""


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an end at one ESP. ``seconds``: from its receipt here until it was seen to hold there."""

    provider: str
    progress: Progress
    at: Instant | None = None
    seconds: float | None = None


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that ends a consent. The hosted pixel follows at ``recorded_at``, in mail already delivered too."""

    seq: int
    action: Action
    purposes: tuple[PurposeId, ...]
    source: str
    occurred_at: Instant | None
    received_at: Instant
    recorded_at: Instant
    providers: tuple[Reached, ...]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that the person was shown. ``text``: None where it was shown elsewhere and its words are not kept."""

    sha256: str | None
    version: str
    language: str | None
    entries: tuple[int, ...]
    text: str | None = msgspec.field(default=None)


class Mailed(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign that was to reach the person: which pixel, on which basis, why, and by which evidence.

    ``snapshot_sha256``: of the Parquet file of all recipients, as the ledger has it; None when no entry tells.
    """

    campaign: str
    provider: str
    kind: CampaignKind
    mechanism: Mechanism
    purposes: tuple[PurposeId, ...]
    applied_at: Instant | None
    released_at: Instant | None
    mode: PixelMode
    basis: Basis
    reason: str
    snapshot_sha256: str | None


class Dossier(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. ``address``: normalised, as it was asked for. ``no_longer_kept``: campaigns without a snapshot now."""

    address: str
    policy: str
    record: PersonRecord
    shown: tuple[Shown, ...]
    ended: tuple[Ended, ...]
    mailed: tuple[Mailed, ...]
    no_longer_kept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dossiers:
    """Makes dossiers.

    Attributes:
        providers: The configured ESPs.
    """

    store: LedgerStore
    people: People
    receipts: Receipts
    records: Records
    mailings: Mailings
    providers: Sequence[str]

    def of(self, recipient: RecipientId, address: str) -> Dossier:
        """The dossier of one person; of somebody unknown, one whose ``record.known`` is False.

        Raises:
            StoreError: a store is out of reach, or what it holds is not what was written.
        """
        record = self.people.record(recipient)
        forgotten = [c.campaign.id for c in self.mailings.campaigns() if c.edition == NO_EDITION]
        return Dossier(
            address=address,
            policy=self.people.policy.id,
            record=record,
            shown=self._shown(record.entries),
            ended=tuple(self._ended(recipient, record.entries)),
            mailed=tuple(map(self._mailed, record.mailings)),
            no_longer_kept=tuple(forgotten),
        )

    def receipts_of(self, recipient: RecipientId, dossier: Dossier) -> Iterator[Receipt]:
        """The receipt for each entry, the oldest first; raises StoreError."""
        for entry in dossier.record.entries:
            receipt = self.receipts.of(recipient, entry.seq)
            if receipt is not None:
                yield receipt

    def _shown(self, entries: Sequence[LedgerEntry]) -> tuple[Shown, ...]:
        found: dict[tuple[str, str | None, str | None], list[int]] = {}
        for entry in entries:
            if entry.notice_version is not None:
                key = entry.notice_version, entry.notice_language, entry.notice_sha256
                found.setdefault(key, []).append(entry.seq)
        return tuple(
            Shown(
                sha256=digest,
                version=version,
                language=language,
                entries=tuple(numbers),
                text=self.records.notice(digest) if digest else None,
            )
            for (version, language, digest), numbers in found.items()
        )

    def _ended(self, recipient: RecipientId, entries: Sequence[LedgerEntry]) -> Iterator[Ended]:
        taken = self.records.taken_out(recipient)
        held = {name: self.records.confirmed(name, [recipient]).get(recipient) for name in self.providers}
        names = sorted({*self.providers, *(out.provider for out in taken)})
        for entry in entries:
            if ends(entry):
                yield Ended(
                    seq=entry.seq,
                    action=entry.action,
                    purposes=entry.purposes,
                    source=entry.source,
                    occurred_at=entry.occurred_at,
                    received_at=entry.received_at,
                    recorded_at=entry.recorded_at,
                    providers=tuple(reached(n, entry, entries, taken, held.get(n)) for n in names),
                )

    def _mailed(self, received: Received) -> Mailed:
        record = self.mailings.campaign(received.campaign)
        if record is None:
            raise StoreError("a campaign was taken off the record while it was read; try again")
        stages = {body.stage: body for body in self._told(received.campaign)}
        applied, released = stages.get("applied"), stages.get("released")
        last = released or applied
        return Mailed(
            campaign=received.campaign,
            provider=record.campaign.provider,
            kind=record.campaign.kind,
            mechanism=record.campaign.mechanism,
            purposes=record.campaign.purposes,
            applied_at=applied.recorded_at if applied else None,
            released_at=released.recorded_at if released else None,
            mode=received.mode,
            basis=received.basis,
            reason=received.reason,
            snapshot_sha256=last.snapshot_sha256 if last else None,
        )

    def _told(self, campaign: str) -> list[CampaignBody]:
        return [parse_campaign(entry.body) for entry in self.store.chain(campaign_chain(campaign))]


def ends(entry: LedgerEntry) -> bool:
    """Whether an entry ends a consent, or may; a claim that never was proven gave none."""
    return entry.action in ENDING and not is_rejection(entry)


def reached(
    provider: str,
    end: LedgerEntry,
    entries: Sequence[LedgerEntry],
    taken: Sequence[TakenOut],
    held: Confirmed | None,
) -> Reached:
    """What became of an end at one ESP.

    Args:
        provider: The ESP.
        end: The entry that ends something.
        entries: The person's whole chain.
        taken: When ESPs were seen to hold the person no longer, the oldest first.
        held: What the ESP was last seen to hold.
    """
    purposes = set(end.purposes)
    later = (
        e.recorded_at for e in entries if e.seq > end.seq and e.action is Action.GIVEN and purposes & {*e.purposes}
    )
    until: datetime | None = next(later, None)
    for out in taken:
        if out.provider == provider and out.at >= end.recorded_at - ROUNDING and purposes & set(out.purposes):
            if until is None or out.at < until:
                seconds = max(0.0, (out.at - end.received_at).total_seconds())
                return Reached(provider=provider, progress=Progress.TAKEN_OUT, at=out.at, seconds=round(seconds, 3))
            break
    if until is not None:
        return Reached(provider=provider, progress=Progress.OVERTAKEN)
    waits = held is not None and purposes & held.purposes
    return Reached(provider=provider, progress=Progress.WAITING if waits else Progress.NOTHING_HELD)
