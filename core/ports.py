"""The protocols between the domain and the world."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from core.model import (
    AppliedPlan,
    Campaign,
    ContactChange,
    Member,
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
