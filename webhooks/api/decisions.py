"""``POST /v1/decisions``: which pixel the mail to these people may carry, on which basis, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from core.addresses import normalise
from core.campaign import check, decide
from core.errors import AddressError, PlanError
from core.model import (
    Basis,
    Campaign,
    CampaignId,
    CampaignKind,
    Mechanism,
    PixelDecision,
    PixelMode,
    PurposeId,
    RecipientId,
)
from core.policy import Policy
from core.ports import Clock, LedgerStore
from core.records import Mailings
from webhooks.api.endpoint import Call, Endpoint, ItemError, ProblemError, Scope
from webhooks.api.problems import INVALID

PATH = "/v1/decisions"
MOST = 1_000

_SUMMARY = "Which pixel each of these recipients may get"
_DESCRIPTION = """\
Decides as a campaign's plan does, by what the ledger says now. Name an applied campaign by its id: then nobody gets
more than the snapshot that was frozen for it says. Or declare a campaign as its file does. Somebody who is not known,
and what is no address, gets no individual pixel. Changes nothing and keeps nothing.

A decision holds for this moment: ask again just before the mail leaves.
"""
_MODES = (PixelMode.NONE, PixelMode.AGGREGATE, PixelMode.INDIVIDUAL)
"""From the least tracking to the most."""

_ID = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$(?!\n)", description="A campaign's id.")]


class Declared(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A campaign as its file declares it (see the README), as far as the decision needs it."""

    id: _ID
    kind: CampaignKind
    purposes: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=32)] = ()
    mechanism: Mechanism = Mechanism.PROVIDER
    aggregate: bool = False
    provider: Annotated[str, Meta(max_length=64)] = ""

    def campaign(self) -> Campaign:
        """The campaign."""
        return Campaign(
            id=CampaignId(self.id),
            provider=self.provider,
            kind=self.kind,
            purposes=tuple(map(PurposeId, self.purposes)),
            mechanism=self.mechanism,
            aggregate=self.aggregate,
        )


class Question(Struct, frozen=True, forbid_unknown_fields=True):
    """A campaign, and who may get it."""

    __repr__ = object.__repr__  # it holds addresses

    campaign: _ID | Declared
    addresses: Annotated[
        tuple[Annotated[str, Meta(max_length=1_000)], ...],
        Meta(min_length=1, max_length=MOST, description="E-mail addresses."),
    ]


class Decision(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one recipient may get, in the order of the request."""

    recipient: Annotated[str | None, Meta(description="The pseudonym in hex; null for what is no address.")]
    mode: PixelMode
    basis: Basis
    reason: Annotated[str, Meta(description="Why, in words.")]
    serves: Annotated[
        tuple[str, ...], Meta(description="What the opens of an individual pixel may serve for this person.")
    ] = ()


class Decisions(Struct, frozen=True, forbid_unknown_fields=True):
    """What each of them may get."""

    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class Decider:
    """Answers what a campaign's recipients may get."""

    store: LedgerStore
    mailings: Mailings
    policy: Policy
    identify: Callable[[str], RecipientId]
    now: Clock

    def endpoint(self) -> Endpoint:
        """The operation."""
        return Endpoint(
            method="POST",
            path=PATH,
            operation="decide",
            scope=Scope.DECISIONS_READ,
            summary=_SUMMARY,
            description=_DESCRIPTION,
            body=Question,
            answer=Decisions,
            handle=self.decide,
        )

    def decide(self, call: Call) -> Decisions:
        """Decide for each address.

        Raises:
            ProblemError: there is no such campaign, or it is one that the policy allows to nobody.
            StoreError: the store is out of reach.
        """
        question: Question = call.body
        asked = question.campaign
        campaign = self._applied(asked) if isinstance(asked, str) else self._declared(asked)
        recipients = [self._recipient(address) for address in question.addresses]
        known = {recipient for recipient in recipients if recipient}
        frozen = self.mailings.modes(campaign.id, known) if isinstance(asked, str) else None
        made = self._made(campaign, known, frozen)
        return Decisions(tuple(_decision(recipient, made) for recipient in recipients))

    def _made(
        self, campaign: Campaign, recipients: set[RecipientId], frozen: Mapping[RecipientId, PixelMode] | None
    ) -> dict[RecipientId, PixelDecision]:
        heads, now, made = self.store.heads(recipients), self.now(), {}
        for recipient in recipients:
            standings = heads[recipient].standings if recipient in heads else {}
            decision = decide(campaign, standings, now, self.policy)
            made[recipient] = decision if frozen is None else _within(decision, frozen.get(recipient))
        return made

    def _applied(self, name: str) -> Campaign:
        record = self.mailings.campaign(name)
        if record is None:
            raise _invalid("#/campaign", "no campaign with this id was applied; declare it, or apply it first")
        return record.campaign

    def _declared(self, declared: Declared) -> Campaign:
        known = [purpose.id for purpose in self.policy.purposes]
        for index, name in enumerate(declared.purposes):
            if name not in known:
                raise _invalid(f"#/campaign/purposes/{index}", f"not known; known are {', '.join(known)}")
        campaign = declared.campaign()
        try:
            check(campaign, self.policy)
        except PlanError as error:
            raise _invalid("#/campaign", str(error)) from None
        return campaign

    def _recipient(self, address: str) -> RecipientId | None:
        try:
            return self.identify(normalise(address))
        except AddressError:
            return None


def _within(decision: PixelDecision, frozen: PixelMode | None) -> PixelDecision:
    """The decision, and never more than the campaign's snapshot says."""
    if frozen is None:
        return PixelDecision(PixelMode.NONE, Basis.NONE, "not among the recipients for whom the campaign was applied")
    if _MODES.index(decision.mode) <= _MODES.index(frozen):
        return decision
    basis = Basis.EXEMPT if frozen is PixelMode.AGGREGATE else Basis.NONE
    return PixelDecision(frozen, basis, "the campaign was applied without an individual pixel for this recipient")


def _decision(recipient: RecipientId | None, made: Mapping[RecipientId, PixelDecision]) -> Decision:
    if recipient is None:
        return Decision(recipient=None, mode=PixelMode.NONE, basis=Basis.NONE, reason="not an e-mail address")
    found = made[recipient]
    return Decision(
        recipient=recipient.hex(), mode=found.mode, basis=found.basis, reason=found.reason, serves=found.serves
    )


def _invalid(pointer: str, problem: str) -> ProblemError:
    return ProblemError(INVALID, "The campaign cannot be decided on.", [ItemError(pointer, problem)])
