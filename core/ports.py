"""The protocols between the domain and the world."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from core.consent import Standings
from core.merkle import Frontier
from core.model import (
    AppliedPlan,
    Campaign,
    ContactChange,
    Member,
    PixelMode,
    Plan,
    ProviderEvent,
    PurposeId,
    RecipientId,
    ReleaseReport,
    Split,
    SyncReport,
    VerifiedBody,
    WebhookRequest,
)

Clock = Callable[[], datetime]
"""Answers the current time in aware UTC. Injected, so that tests and the demo can set it."""

Progress = Callable[[int], None]
"""Told of every batch how many items it held."""


class Capability(StrEnum):
    """What a provider can do; the plan says in words what it cannot."""

    OPEN_CALLBACKS = "open_callbacks"
    POLL_OPENS = "poll_opens"
    CONFIRM_SUBSCRIPTION = "confirm_subscription"
    FETCHES_CERTIFICATES = "fetches_certificates"
    """Verifying a callback may fetch a certificate over HTTP: run it where blocking does no harm."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of one recipient's chain: how many entries it has, the last one's hash, and what they amount to."""

    seq: int
    hash: bytes
    standings: Standings


@dataclass(frozen=True, slots=True)
class Entry:
    """One ledger entry as it is stored: canonical JSON, and the RFC 6962 leaf hash of it."""

    recipient: RecipientId
    seq: int
    body: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Open:
    """One lawful open. No address, no IP address, no user agent."""

    campaign: str
    recipient: RecipientId
    opened_at: datetime
    serves: tuple[PurposeId, ...]
    source: str
    machine: bool = False


class Batch(Protocol):
    """Reads and writes that belong together. What a batch wrote is durable once its context has ended well.

    SQLite makes the whole batch one transaction. DynamoDB makes each recipient's append one, so a batch that fails
    half-way may be run again: the idempotency keys skip what was done.
    """

    def seen(self, keys: Collection[bytes]) -> set[bytes]:
        """Those idempotency keys that were remembered before."""
        ...

    def remember(self, keys: Collection[bytes]) -> None:
        """Remember idempotency keys."""
        ...

    def heads(self, recipients: Collection[RecipientId]) -> dict[RecipientId, Head]:
        """The heads of those recipients that have a chain."""
        ...

    def append(self, recipient: RecipientId, entries: Sequence[Entry], *, expected: Head | None, head: Head) -> None:
        """Compare and swap: add to a chain whose head is still ``expected``; raises HeadConflict when it is not."""
        ...

    def record_opens(self, opens: Sequence[Open]) -> None:
        """Keep lawful opens."""
        ...

    def count(self, scope: str, name: str, by: int = 1) -> None:
        """Add to a counter: of a campaign, or of a provider's callbacks."""
        ...


class LedgerStore(Protocol):
    """Where the ledger lives. Append-only: there is no way to alter or remove an entry."""

    def batch(self) -> AbstractContextManager[Batch]:
        """Begin a batch. Leaving the context normally commits; an exception undoes all of it."""
        ...

    def heads(self, recipients: Collection[RecipientId]) -> dict[RecipientId, Head]:
        """The heads of those recipients that have a chain, as last committed."""
        ...

    def chain(self, recipient: RecipientId) -> list[Entry]:
        """All entries of one recipient, the oldest first."""
        ...

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """Every entry with its position, from 1, in the order in which they were written."""
        ...

    def chains(self) -> Iterator[Entry]:
        """Every entry, chain by chain in the order of recipients, each from its beginning."""
        ...

    def all_heads(self) -> Iterator[tuple[RecipientId, Head]]:
        """Every head, in the order of recipients."""
        ...

    def sealed(self) -> Frontier:
        """The tree over all entries as it was sealed; raises StoreError when the seal is not genuine."""
        ...

    def damage(self) -> list[str]:
        """What the store itself finds wrong with its files."""
        ...


class Connector(Protocol):
    """Outbound calls to one ESP, through its official SDK. Synchronous; every method may raise ProviderError.

    All calls are idempotent: repeating one after a crash does no harm. ``api_calls`` in the reports counts real
    HTTP requests, retries included.
    """

    def sync(self, changes: Sequence[ContactChange]) -> SyncReport:
        """Make the ESP's consent segments match ``desired`` for these contacts, and confirm what it took."""
        ...

    def read_back(self) -> Iterator[Member]:
        """Every member of the consent segments, as the ESP really has them."""
        ...

    def plan(self, campaign: Campaign, split: Split) -> Plan:
        """How this ESP would send both parts; raises PlanError for what it cannot do lawfully. Changes nothing."""
        ...

    def apply(self, plan: Plan) -> AppliedPlan:
        """Set everything up at the ESP, read it back, and raise ProviderError when it differs. Sends nothing."""
        ...

    def release(self, plan: Plan, applied: AppliedPlan, journal: SendJournal) -> ReleaseReport:
        """Send both parts. Parts that the journal has as done are skipped; ambiguous ones raise."""
        ...


class PollsOpens(Protocol):
    """A connector of an ESP that has no open callback."""

    def poll_opens(self, applied: AppliedPlan, since: datetime | None) -> Iterator[ProviderEvent]:
        """The opens that the ESP saw for a campaign since then."""
        ...


class ConfirmsSubscription(Protocol):
    """A connector of a provider whose webhook must be confirmed by an authenticated call (SNS)."""

    def confirm_subscription(self, event: ProviderEvent) -> None:
        """Confirm it. Never requests a URL that the message names."""
        ...


class SendJournal(Protocol):
    """Remembers across crashes which parts of a release left, so that no mail is sent twice."""

    def begin(self, part: str) -> bool:
        """Note durably that ``part`` is about to be sent.

        False: it was sent before, skip it. Raises AmbiguousOutcome when an earlier attempt began and did not end.
        """
        ...

    def done(self, part: str) -> None:
        """Note durably that the ESP accepted ``part``."""
        ...

    def failed(self, part: str) -> None:
        """Note durably that the ESP refused ``part``, so that it may be tried again."""
        ...


class WebhookCodec(Protocol):
    """Inbound: one provider's callbacks. No I/O but what was injected (a certificate source, for SNS)."""

    def verify(self, request: WebhookRequest, *, now: datetime) -> VerifiedBody:
        """Prove that the provider sent this, and recently. Raises VerificationError and nothing else."""
        ...

    def parse(self, body: VerifiedBody) -> Sequence[ProviderEvent]:
        """Read the events; unknown ones map to UNKNOWN. Raises PayloadError and nothing else."""
        ...


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What the assembly hands to a provider's factories.

    ``secrets``: environment variables (and .env). ``purposes``: the purposes that the team uses. ``now``: the clock.
    """

    secrets: Mapping[str, str]
    purposes: tuple[PurposeId, ...]
    now: Clock


@dataclass(frozen=True, slots=True)
class Provider:
    """Everything about one ESP; each module in connectors/ ends in ``PROVIDER = Provider(...)``.

    ``settings`` is a msgspec.Struct type for ``[providers.<name>]``; it forbids unknown fields. ``connector`` and
    ``codec`` take an instance of it and the context, and raise SettingsError naming the missing setting.
    """

    name: str
    capabilities: frozenset[Capability]
    settings: type[Any]
    connector: Callable[[Any, ProviderContext], Connector]
    codec: Callable[[Any, ProviderContext], WebhookCodec]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What an ESP was last seen to hold about a recipient: its purposes, and a digest of the carried fields."""

    purposes: frozenset[PurposeId] = frozenset()
    carried: bytes = b""


@dataclass(frozen=True, slots=True)
class CampaignRecord:
    """A campaign that was applied: what stands ready at the ESP and how many recipients each half has."""

    campaign: Campaign
    applied: AppliedPlan
    tracked: int
    untracked: int
    sent: bool = False


class Records(Protocol):
    """The working records beside the ledger: what ESPs hold, campaigns, send journals, texts of notices."""

    def put_notice(self, sha256: str, text: str) -> None:
        """Keep the exact text that people were shown, by its hash."""
        ...

    def notice(self, sha256: str) -> str | None:
        """The text with that hash."""
        ...

    def confirmed(self, provider: str, recipients: Collection[RecipientId]) -> Mapping[RecipientId, Confirmed]:
        """What was last confirmed at an ESP."""
        ...

    def confirm(self, provider: str, rows: Mapping[RecipientId, Confirmed]) -> None:
        """Note what an ESP confirmed."""
        ...

    def save_campaign(self, record: CampaignRecord, modes: Iterable[tuple[RecipientId, PixelMode]]) -> None:
        """Keep an applied campaign with its snapshot, in place of an earlier one that was not sent."""
        ...

    def campaign(self, campaign: str) -> CampaignRecord | None:
        """An applied campaign."""
        ...

    def started(self, campaign: str) -> bool:
        """Whether a part of it left, or may have: from then on what was applied must not change."""
        ...

    def mark_sent(self, campaign: str) -> None:
        """Note that both halves left."""
        ...

    def modes(self, campaign: str, recipients: Collection[RecipientId]) -> Mapping[RecipientId, PixelMode]:
        """Which pixel those recipients got, from the snapshot."""
        ...

    def journal(self, campaign: str) -> SendJournal:
        """The campaign's send journal."""
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

    def erase(self, recipient: RecipientId) -> bool:
        """Forget an address; False when it was not known."""
        ...
