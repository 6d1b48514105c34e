"""The protocols between the domain and the world."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from core.account import Erasure, Finding, Installed, Webhook
from core.consent import Standings
from core.incidents import Incident
from core.merge_fields import MergeSyntax
from core.merkle import Frontier
from core.model import (
    Addressee,
    AppliedPlan,
    Campaign,
    Contact,
    ContactChange,
    EventKind,
    Halves,
    Member,
    Part,
    Plan,
    ProviderEvent,
    PurposeId,
    RecipientId,
    ReleaseReport,
    SyncReport,
    VerifiedBody,
    WebhookRequest,
)
from core.tally import Tally

Clock = Callable[[], datetime]
"""Answers the current time in aware UTC. Injected, so that tests and the demo can set it."""

Progress = Callable[[int], None]
"""Told of every batch how many items it held."""


class Capability(StrEnum):
    """What a provider can do; the plan says in words what it cannot."""

    OPEN_CALLBACKS = "open_callbacks"
    POLL_OPENS = "poll_opens"
    INSTALL_WEBHOOKS = "install_webhooks"
    CONFIRM_SUBSCRIPTION = "confirm_subscription"
    READS_QUEUE = "reads_queue"
    """Its events can be fetched from a queue: the connector is a ``ReadsQueue``."""
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
    """One lawful open. No address, no IP address, no user agent but its family (``client``)."""

    campaign: str
    recipient: RecipientId
    opened_at: datetime
    serves: tuple[PurposeId, ...]
    source: str
    machine: bool = False
    client: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that a caller may ask for again.

    ``name``: a digest of who asked for what under which idempotency key. ``request``: a digest of what was asked.
    """

    name: bytes
    request: bytes
    answer: bytes
    at: datetime


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

    def touched(self, after: int) -> set[RecipientId]:
        """Whose chains grew behind position ``after``, by this batch's own entries too."""
        ...

    def append(self, recipient: RecipientId, entries: Sequence[Entry], *, expected: Head | None, head: Head) -> None:
        """Compare and swap: add to a chain whose head is ``expected``; else HeadConflict, by the batch's end."""
        ...

    def record_opens(self, opens: Sequence[Open]) -> None:
        """Keep lawful opens."""
        ...

    def count(self, scope: str, name: str, by: int = 1) -> int:
        """Add to a counter, of a campaign or of a provider's callbacks; answers what it amounts to now."""
        ...

    def last_incident(self, scope: str, kind: str) -> Incident | None:
        """The newest incident of a kind, closed or not."""
        ...

    def open_incident(self, incident: Incident) -> None:
        """Note an incident; its ``id`` is not looked at."""
        ...

    def chain(self, recipient: RecipientId) -> list[Entry]:
        """All entries of one recipient, the oldest first, those of this batch among them."""
        ...

    def answered(self, name: bytes) -> Answered | None:
        """The answer that was given under a name."""
        ...

    def keep_answer(self, answered: Answered) -> None:
        """Keep an answer under a name that has none."""
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

    def size(self) -> int:
        """How many entries there are: the position of the newest."""
        ...

    def hashes(self, after: int, until: int) -> Iterator[bytes]:
        """The stored hashes of the entries behind position ``after``, up to ``until``, in order."""
        ...

    def position(self, recipient: RecipientId, seq: int) -> int | None:
        """The position of one entry of a chain, from 1; None when there is no such entry."""
        ...

    def touched(self, after: int, until: int) -> Iterator[RecipientId]:
        """Whose chains grew behind position ``after``, up to ``until``, in the order of recipients."""
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
    HTTP requests, retries included. An instance may be used by several threads.
    """

    def sync(self, changes: Iterable[ContactChange]) -> Iterator[SyncReport]:
        """Make the ESP's segments match ``desired`` for these contacts, in as few calls as it allows.

        Reads ``changes`` as it goes, and reports each part once the ESP has been seen to hold it (or not to take it):
        every recipient stands in exactly one report. Whoever stops reading leaves the rest unsent.
        """
        ...

    def minimum_calls(self, tally: Tally) -> int:
        """The fewest calls that write such changes, without those that read back."""
        ...

    @property
    def calls(self) -> int:
        """HTTP requests so far, retries included."""
        ...

    def read_back(self) -> Iterator[Member]:
        """Every member of the segments, as the ESP really has them."""
        ...

    def part_size(self, campaign: Campaign) -> int | None:
        """How many recipients go into one part of a release; None where the ESP sends each half as a whole."""
        ...

    def plan(self, campaign: Campaign, halves: Halves) -> Plan:
        """How this ESP would send both halves; raises PlanError for what it cannot do lawfully. Changes nothing."""
        ...

    def apply(self, plan: Plan, addressees: Callable[[], Iterator[Addressee]]) -> AppliedPlan:
        """Set everything up at the ESP, read it back, and raise ProviderError when it differs. Sends nothing."""
        ...

    def release(
        self, campaign: Campaign, applied: AppliedPlan, parts: Iterable[Part], journal: SendJournal
    ) -> ReleaseReport:
        """Send the parts one after the other, in this order. What the journal has as done is skipped.

        An ambiguous part is looked up at the ESP where that is possible, else it raises AmbiguousOutcome.
        """
        ...

    def inspect(self, webhook_url: str, topics: Collection[str]) -> Iterator[Finding]:
        """Every setting at the ESP that would track somebody or lose a withdrawal.

        ``webhook_url``: where callbacks shall arrive. ``topics``: the ESP's groups, topics or interests that the
        settings map to purposes. What cannot be read is a finding too, not an exception.
        """
        ...

    def erase(self, contacts: Sequence[Contact]) -> Erasure:
        """Have the ESP erase people for good, and wait until it has. Never the way to carry out a withdrawal."""
        ...


class InstallsWebhooks(Protocol):
    """A connector of an ESP whose webhooks can be set up by calls."""

    def webhooks(self) -> Sequence[Webhook]:
        """Those that exist there."""
        ...

    def install_webhook(self, url: str) -> Installed:
        """Make a signed webhook that posts to ``url`` what this product needs; one that is there is put right."""
        ...

    def rotate_webhook(self, url: str) -> Installed:
        """Make a second one with a new key beside the first, so that both keys are valid until the old one goes."""
        ...

    def remove_webhook(self, url: str) -> bool:
        """Remove it; False when there was none of that URL."""
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

    def letter(self, body: VerifiedBody, event: ProviderEvent) -> bytes:
        """The part of a body that holds this event, in a form that ``parse`` takes: it is kept as a dead letter."""
        ...


class SiftsEvents(Protocol):
    """A codec that tells events without effect by less than reading them: one that has ``sift``."""

    def sift(self, body: VerifiedBody, idle: Collection[EventKind]) -> tuple[Sequence[ProviderEvent], int]:
        """What ``parse`` gives but for events of ``idle`` kinds, and how many these were. Raises PayloadError alone."""
        ...


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What the assembly hands to a provider's factories.

    ``secrets``: environment variables (and .env). ``purposes``: those for which the team keeps segments, ``TO_ASK``
    among them. ``now``: the clock. ``callbacks``: where this provider's callbacks arrive. ``topics``: its groups,
    topics or interests that the settings map to purposes, by its own names.
    """

    secrets: Mapping[str, str] = field(repr=False)
    purposes: tuple[PurposeId, ...]
    now: Clock
    callbacks: str = ""
    topics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """Everything about one ESP; each module in connectors/ ends in ``PROVIDER = Provider(...)``.

    ``settings`` is a msgspec.Struct type for ``[providers.<name>]``; it forbids unknown fields. ``connector`` and
    ``codec`` take an instance of it and the context, and raise SettingsError naming the missing setting.
    ``templates``: how its templates write a recipient's fields, by the kind of template; the usual kind first.
    """

    name: str
    capabilities: frozenset[Capability]
    settings: type[Any]
    connector: Callable[[Any, ProviderContext], Connector]
    codec: Callable[[Any, ProviderContext], WebhookCodec]
    templates: Mapping[str, MergeSyntax]
