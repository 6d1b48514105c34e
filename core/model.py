"""The values that everything else speaks of. Frozen, without I/O, times in aware UTC.

Names follow the field (W3C DPV, ISO/IEC TS 27560): recipient, purpose, notice, withdrawal, legal basis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import NewType

RecipientId = NewType("RecipientId", bytes)
"""16 bytes: HMAC-SHA256 of the normalised address under the team's key, truncated. All that the ledger knows."""

PurposeId = NewType("PurposeId", str)
"""A purpose's name in the policy file, such as ``performance``."""

CampaignId = NewType("CampaignId", str)
"""A campaign's name: 1 to 64 of ``a-z 0-9 _ -``."""

TO_ASK = PurposeId("to-ask")
"""Not a purpose, but kept at the ESPs like one: the segment of those who may be asked now (§4.2)."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Action(StrEnum):
    """What a person did about a purpose, or what was found out about it."""

    REQUESTED = "requested"
    GIVEN = "given"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    INVALIDATED = "invalidated"
    OBJECTED = "objected"


PROTECTION: Mapping[Action, int] = {
    Action.REQUESTED: 0,
    Action.GIVEN: 1,
    Action.EXPIRED: 2,
    Action.INVALIDATED: 3,
    Action.REFUSED: 4,
    Action.WITHDRAWN: 5,
    Action.OBJECTED: 6,
}
"""How much an action protects the person: on a tie in time the higher one stands."""


class State(StrEnum):
    """Where a recipient stands on one purpose. Only ``GIVEN`` ever allows an individual pixel by consent."""

    UNKNOWN = "unknown"
    REQUESTED = "requested"
    GIVEN = "given"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    OBJECTED = "objected"
    UNPROVEN = "unproven"


class Basis(StrEnum):
    """The legal basis on which a recipient may be tracked for a purpose."""

    CONSENT = "consent"
    TRANSITIONAL = "transitional"
    EXEMPT = "exempt"
    NONE = "none"


class CampaignKind(StrEnum):
    """What kind of mail a campaign is. The aggregate exemption holds for mail that the person asked for (§3.2)."""

    REQUESTED = "requested"
    PROSPECTING = "prospecting"
    TRANSACTIONAL = "transactional"
    AUTHENTICATION = "authentication"


class PixelMode(StrEnum):
    """Which pixel one recipient of one campaign gets."""

    INDIVIDUAL = "individual"
    AGGREGATE = "aggregate"
    NONE = "none"


class Mechanism(StrEnum):
    """Who puts the pixel into the mail: the ESP, this product's hosted one, or nobody."""

    PROVIDER = "provider"
    HOSTED = "hosted"
    NONE = "none"


class Role(StrEnum):
    """What a party is in a processing (GDPR articles 4 and 26; §2.2)."""

    CONTROLLER = "controller"
    JOINT_CONTROLLER = "joint_controller"
    PROCESSOR = "processor"


@dataclass(frozen=True, slots=True)
class Party:
    """An actor of the register: who it is, in which role, for which purposes (empty: all that the team uses)."""

    name: str
    role: Role
    contact: str = ""
    purposes: tuple[PurposeId, ...] = ()


@dataclass(frozen=True, slots=True)
class NoticeRef:
    """What the person was shown: the notice's version, the language, the SHA-256 (hex) of the exact text if known.

    ``build``: a digest of the page around the text, where it was a page of ours.
    """

    version: str
    language: str | None = None
    sha256: str | None = None
    build: str | None = None


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """One thing that happened to a recipient's consent.

    ``occurred_at`` is None when the source does not say when it happened (an undated import row). ``source`` is a
    short label (``choices-page``, ``import``, ``sendgrid``). ``partner`` names the third party that claims to have
    collected the consent: without ``proof`` (the SHA-256 of the proof record that covers it) such a claim stays
    unproven (§6). ``evidence`` is a reference, never personal data.
    """

    recipient: RecipientId
    purposes: tuple[PurposeId, ...]
    action: Action
    received_at: datetime
    occurred_at: datetime | None = None
    source: str = "api"
    notice: NoticeRef | None = None
    partner: str | None = None
    evidence: str | None = None
    proof: str | None = None

    @property
    def is_claim(self) -> bool:
        """Whether this is only a third party's word that somebody agreed (§6)."""
        return self.action is Action.GIVEN and self.partner is not None and self.proof is None

    @property
    def effective_at(self) -> datetime:
        """The instant by which the fold orders events: never later than the receipt.

        An undated consent orders before everything else, so that it can never undo a dated decision; an undated
        protective action counts as of its receipt.
        """
        if self.occurred_at is None:
            return EPOCH if self.action in {Action.GIVEN, Action.REQUESTED} else self.received_at
        return min(self.occurred_at, self.received_at)


@dataclass(frozen=True, slots=True)
class Contact:
    """A recipient together with what only the address book and the ESPs know. Never logged, never in the ledger."""

    recipient: RecipientId
    address: str = field(repr=False)
    locale: str | None = None
    choices_url: str = field(default="", repr=False)
    pixel_path: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ContactChange:
    """One contact's segments at an ESP: what the ledger wants against what was last confirmed there.

    ``doubtful``: an earlier attempt left and its outcome is not known, so the ESP may hold ``desired`` already.
    """

    contact: Contact
    desired: frozenset[PurposeId]
    confirmed: frozenset[PurposeId]
    doubtful: bool = False

    @property
    def added(self) -> frozenset[PurposeId]:
        """The segments to add it to at the ESP."""
        return self.desired - self.confirmed

    @property
    def removed(self) -> frozenset[PurposeId]:
        """The segments to take it out of at the ESP."""
        return self.confirmed - self.desired

    @property
    def withdrawing(self) -> bool:
        """Whether it stops some tracking, and so goes before everything else."""
        return bool(self.removed - {TO_ASK})


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What an ESP took of some changes. ``rejected``: recipients that it did not take, to be reported.

    ``api_calls``: HTTP requests since the report before.
    """

    confirmed: frozenset[RecipientId]
    rejected: frozenset[RecipientId]
    api_calls: int


@dataclass(frozen=True, slots=True)
class Member:
    """A contact as the ESP really has it, read back."""

    address: str = field(repr=False)
    purposes: frozenset[PurposeId]


@dataclass(frozen=True, slots=True)
class Campaign:
    """One mailing and what its opens are meant to serve.

    ``content`` holds what the ESP needs to build the mail (template id, subject, sender …); its keys are the
    provider's own and are checked by the connector. ``asks``: the mail asks for consent, so it carries no pixel and
    whoever gets it counts as asked (§4.2).
    """

    id: CampaignId
    provider: str
    kind: CampaignKind
    purposes: tuple[PurposeId, ...]
    mechanism: Mechanism
    aggregate: bool = False
    asks: bool = False
    content: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PixelDecision:
    """Which pixel a recipient gets in a campaign, on which basis, and the reason in words.

    ``serves`` are the purposes that the opens of an individual pixel may serve for this very person.
    """

    mode: PixelMode
    basis: Basis
    reason: str
    serves: tuple[PurposeId, ...] = ()


@dataclass(frozen=True, slots=True)
class Halves:
    """How many recipients of a campaign the ESP is told to track with its own pixel, and how many not.

    With the hosted mechanism the ESP's pixel is off for everybody, so all are ``untracked``, and the pixel path of
    each contact says which image the mail carries: ``individual`` (``o/…``) or ``aggregate`` (``a``).
    """

    tracked: int = 0
    untracked: int = 0
    individual: int = 0
    aggregate: int = 0

    @property
    def recipients(self) -> int:
        """All of them."""
        return self.tracked + self.untracked


@dataclass(frozen=True, slots=True)
class Addressee:
    """One recipient of a campaign. ``tracked``: in the half that the ESP is told to track."""

    contact: Contact
    tracked: bool


@dataclass(frozen=True, slots=True)
class Part:
    """What leaves in one request, or one half of a campaign where the ESP sends a half as a whole.

    ``name`` is the same in every run and stands for the same people: those who may not be tracked any more since the
    campaign was applied have been put into a later, untracked part. ``contacts`` is called when they are needed, for
    a half may have millions.
    """

    name: str
    tracked: bool
    size: int
    contacts: Callable[[], Iterator[Contact]] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """How an ESP would send both halves of a campaign: steps and limits, in words for the person who approves it."""

    campaign: Campaign
    halves: Halves
    steps: tuple[str, ...]
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AppliedPlan:
    """What stands ready at the ESP, read back and checked: what ``release`` needs, as plain strings."""

    campaign: CampaignId
    provider: str
    handles: Mapping[str, str]
    api_calls: int


@dataclass(frozen=True, slots=True)
class ReleaseReport:
    """What an ESP took for delivery. ``refused``: recipients that it does not take at all, and who get no mail."""

    accepted_tracked: int
    accepted_untracked: int
    api_calls: int
    refused: frozenset[RecipientId] = frozenset()


class EventKind(StrEnum):
    """A provider's event in terms common to all. What nobody has mapped is ``UNKNOWN``, never dropped silently.

    ``MALFORMED``: it cannot be read, so that it may be anything; it becomes a dead letter.
    """

    OPEN = "open"
    UNSUBSCRIBE = "unsubscribe"
    TOPIC_UNSUBSCRIBE = "topic_unsubscribe"
    RESUBSCRIBE = "resubscribe"
    COMPLAINT = "complaint"
    BOUNCE = "bounce"
    ADDRESS_CHANGE = "address_change"
    CONFIRMATION = "confirmation"
    OTHER = "other"
    UNKNOWN = "unknown"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """One event of a callback.

    ``keys``: every string under which a repetition of it must be recognised. ``native_type``: the provider's own
    word. ``topic``: its group, topic or interest, as the provider names it. ``recipient_tag``: the pseudonymous
    recipient (hex) when the mail carried it. ``client``: the family of what fetched the image (``core.machines``), and
    ``machine``: whether no person needs to have been there. ``raw``: the event as it came, for mapping, tests and dead
    letters.
    """

    provider: str
    kind: EventKind
    native_type: str
    occurred_at: datetime
    keys: tuple[str, ...]
    address: str | None = field(default=None, repr=False)
    recipient_tag: str | None = None
    campaign: str | None = None
    topic: str | None = None
    new_address: str | None = field(default=None, repr=False)
    machine: bool = False
    client: str = ""
    raw: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """An HTTP request as a codec sees it. ``headers``: names in lower case. ``path``: as requested, without query.

    ``queued``: no request at all, but a message of a queue that only the provider may write to; never set from outside.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    queued: bool = False


@dataclass(frozen=True, slots=True)
class VerifiedBody:
    """A body proven to come from the provider, and when the provider signed it (None where it does not say)."""

    body: bytes = field(repr=False)
    signed_at: datetime | None = None
