"""The protocols of what is kept beside the ledger: what the ESPs hold, campaigns and their snapshots, addresses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from core.model import AppliedPlan, Basis, Campaign, Halves, PixelMode, PurposeId, RecipientId
from core.ports import Entry, Open, SendJournal


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What an ESP was last seen to hold about a recipient.

    ``carried``: a digest of what the contact's fields are made with. ``mark``: not 0 while the outcome of a call is
    not known; ``purposes`` is then all that the ESP may hold. ``refused``: it did not take the contact when it was
    last asked.
    """

    purposes: frozenset[PurposeId] = frozenset()
    carried: bytes = b""
    mark: int = 0
    refused: bool = False


@dataclass(frozen=True, slots=True)
class SyncState:
    """How far the last complete look at an ESP's segments came.

    Attributes:
        position: The ledger's entries that it took into account.
        arrivals: The contacts of the address book that it did.
        settings: A digest of the settings that decide on segments and fields.
        complete_at: When everybody was last compared, and not only those about whom something happened since.
    """

    position: int
    arrivals: int
    settings: bytes
    complete_at: datetime


@dataclass(frozen=True, slots=True)
class TakenOut:
    """When an ESP was first seen to hold somebody no longer in the segments of some purposes."""

    provider: str
    at: datetime
    purposes: tuple[PurposeId, ...]


class Records(Protocol):
    """The working records beside the ledger: what the ESPs hold, how far each sync came, the texts of notices."""

    def put_notice(self, sha256: str, text: str) -> None:
        """Keep the exact text that people were shown, by its hash."""
        ...

    def notice(self, sha256: str) -> str | None:
        """The text with that hash."""
        ...

    def confirmed(self, provider: str, recipients: Collection[RecipientId]) -> Mapping[RecipientId, Confirmed]:
        """What was last confirmed at an ESP."""
        ...

    def doubt(self, provider: str, rows: Mapping[RecipientId, frozenset[PurposeId]]) -> int:
        """Note, before an ESP is called, all that it may hold afterwards; answers the mark of this doubt."""
        ...

    def settle(self, provider: str, rows: Mapping[RecipientId, Confirmed], mark: int) -> set[RecipientId]:
        """Note what an ESP was seen to hold, where nobody else has doubted it since that mark.

        Answers the others: two calls crossed, and what the ESP holds must be found out once more.
        """
        ...

    def pending(self, provider: str) -> Iterator[tuple[RecipientId, Confirmed]]:
        """What is in doubt, in the order of recipients."""
        ...

    def held(
        self, provider: str, after: RecipientId | None = None, limit: int = 10_000
    ) -> list[tuple[RecipientId, Confirmed]]:
        """A page of all that an ESP holds, in the order of recipients, beginning behind ``after``."""
        ...

    def forget_held(self, provider: str, recipients: Collection[RecipientId]) -> None:
        """Forget what an ESP held about people whom it has erased."""
        ...

    def taken_out(self, recipient: RecipientId) -> Sequence[TakenOut]:
        """When ESPs were seen to hold somebody no longer in segments in which they may have been, the oldest first."""
        ...

    def sync_state(self, provider: str) -> SyncState | None:
        """How far the last sync came; None before the first one."""
        ...

    def save_sync_state(self, provider: str, state: SyncState) -> None:
        """Note how far a sync came."""
        ...


NO_EDITION = 0
"""Stands for the snapshot of a campaign that was sent so long ago that it is no longer kept who got which pixel."""


@dataclass(frozen=True, slots=True)
class CampaignRecord:
    """A campaign that was applied: what stands ready at the ESP and how many recipients each half has.

    ``edition``: the snapshot of who gets which pixel, or ``NO_EDITION``. ``snapshot``: the SHA-256 (hex) of its file.
    """

    campaign: Campaign
    applied: AppliedPlan
    halves: Halves
    edition: int
    snapshot: str = ""
    sent: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """One row of a snapshot: which pixel a recipient gets, why, and in which part of the release."""

    recipient: RecipientId
    mode: PixelMode
    part: str
    basis: Basis
    reason: str


class PartState(StrEnum):
    """How far a part of a release has come. ``BEGUN``: it may have left, and nobody noted the end."""

    WAITING = "waiting"
    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"


class Mailings(Protocol):
    """Campaigns that were applied, the snapshots of who gets which pixel, and how far their releases have come."""

    def poll_cursor(self, campaign: str) -> datetime | None:
        """Up to when a campaign's opens have been fetched."""
        ...

    def save_poll_cursor(self, campaign: str, at: datetime) -> None:
        """Note up to when they have."""
        ...

    def new_edition(self, campaign: str) -> int:
        """Begin a snapshot beside the one in force, and drop what was begun and never taken into use."""
        ...

    def add_choices(self, edition: int, choices: Sequence[Choice]) -> None:
        """Add to a snapshot that is not in force yet."""
        ...

    def choices(self, edition: int, part: str | None = None) -> Iterator[Choice]:
        """A snapshot, or one part of it, in the order of recipients."""
        ...

    def change_choices(self, campaign: str, edition: int, choices: Sequence[Choice]) -> None:
        """Change these recipients' pixels and parts: only ever to less tracking, and never in a part that left."""
        ...

    def next_part(self, edition: int, after: str) -> tuple[str, int] | None:
        """The name and size of the part behind ``after``, in the order of names."""
        ...

    def last_part(self, edition: int, prefix: str) -> tuple[str, int] | None:
        """The name and size of the last part whose name begins with ``prefix``."""
        ...

    def part_state(self, campaign: str, part: str) -> PartState:
        """How far one part of a release has come."""
        ...

    def part_states(self, campaign: str) -> Mapping[str, PartState]:
        """How far the parts of a release have come; those that are absent wait."""
        ...

    def save_campaign(self, record: CampaignRecord) -> None:
        """Put an applied campaign and its snapshot in force, in place of an earlier one that was not sent."""
        ...

    def campaign(self, campaign: str) -> CampaignRecord | None:
        """An applied campaign."""
        ...

    def campaigns(self) -> list[CampaignRecord]:
        """All applied campaigns."""
        ...

    def started(self, campaign: str) -> bool:
        """Whether a part of it left, or may have: from then on what was applied must not change."""
        ...

    def mark_sent(self, campaign: str) -> None:
        """Note that both halves left."""
        ...

    def modes(
        self, campaign: str, recipients: Collection[RecipientId], edition: int | None = None
    ) -> Mapping[RecipientId, PixelMode]:
        """Which pixel those recipients got, from the snapshot in force: ``edition``, where that is known."""
        ...

    def journal(self, campaign: str) -> SendJournal:
        """The campaign's send journal."""
        ...


class Readings(Protocol):
    """What is read about one person or one campaign, and never written here."""

    def opens_of(self, recipient: RecipientId) -> Sequence[Open]:
        """All opens on record of one person, the oldest first."""
        ...

    def opens(self, campaign: str, purpose: PurposeId, after: int, limit: int) -> Sequence[tuple[int, Open]]:
        """A page of a campaign's opens that may serve a purpose, with their numbers, beginning behind ``after``."""
        ...

    def openers(self, campaign: str) -> int:
        """How many different recipients have an open on record that no machine made."""
        ...

    def entries(self, recipient: RecipientId, after: int, limit: int) -> Sequence[Entry]:
        """A page of a chain, the oldest first, beginning behind the entry ``after``."""
        ...

    def choices_of(self, recipient: RecipientId, editions: Collection[int]) -> Mapping[int, Choice]:
        """What those snapshots say of one person, by edition."""
        ...


class AddressBook(Protocol):
    """Addresses, apart from the ledger, so that they can be erased without harming any proof."""

    def put(self, contacts: Iterable[tuple[RecipientId, str, str | None]]) -> int:
        """Store (recipient, normalised address, locale); answers how many were new."""
        ...

    def get(self, recipients: Collection[RecipientId]) -> Mapping[RecipientId, tuple[str, str | None]]:
        """The address and locale of those that are known."""
        ...

    def scan(self, after: RecipientId | None = None, limit: int = 10_000) -> list[tuple[RecipientId, str, str | None]]:
        """A page in the order of recipients, beginning behind ``after``."""
        ...

    def count(self) -> int:
        """How many addresses are held."""
        ...

    def arrivals(self) -> int:
        """The number of the newest arrival, counted from 1 since the book was begun."""
        ...

    def arrived(self, after: int, until: int) -> Iterator[RecipientId]:
        """Who came in behind ``after``, up to ``until``, in the order of recipients."""
        ...

    def erase(self, recipient: RecipientId) -> bool:
        """Forget an address; False when it was not known."""
        ...
