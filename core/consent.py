"""From events to a state: what a recipient has decided, purpose by purpose.

The fold keeps a maximum for each kind of statement, so that the order of arrival changes nothing and a repetition
changes nothing: *decisions* (given, refused, withdrawn …), *claims* (a third party says that somebody agreed, or was
found not to have proven it) and *requests* (the person was asked). A decision always outranks a claim, and a claim a
request, whatever their times: being asked again takes no consent away, and nobody's claim overrides what a person did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from core.model import PROTECTION, Action, Basis, ConsentEvent, PurposeId, State
from core.policy import Policy

_STATE_OF: Mapping[Action, State] = {
    Action.GIVEN: State.GIVEN,
    Action.REFUSED: State.REFUSED,
    Action.WITHDRAWN: State.WITHDRAWN,
    Action.EXPIRED: State.EXPIRED,
    Action.INVALIDATED: State.UNPROVEN,
    Action.OBJECTED: State.OBJECTED,
}


RECONCILIATION = "reconcile"
"""The source of what was found about a third party's claim."""
WITHIN_A_SECOND = timedelta(microseconds=999_999)


class Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A statement that stands: when it took effect, what it was, where it came from."""

    at: datetime
    action: Action
    source: str

    @property
    def rank(self) -> tuple[datetime, int, str, datetime]:
        """What orders statements: the later one; on a tie the more protective; then the rest of it, to be total.

        ESPs tell times to the second. Such a time may lie anywhere within it, so a protective statement counts as made
        at its end: a withdrawal in the very second of a consent is not lost.
        """
        protection = PROTECTION[self.action]
        whole = self.at.microsecond == 0 and protection > PROTECTION[Action.GIVEN]
        return self.at + WITHIN_A_SECOND if whole else self.at, protection, self.source, self.at


class Standing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that counts of a recipient's history for one purpose."""

    decision: Mark | None = None
    claim: Mark | None = None
    request: Mark | None = None

    def after(self, event: ConsentEvent) -> Standing:
        """This standing with one more event taken in."""
        mark = Mark(event.effective_at, event.action, event.source)
        if event.action is Action.REQUESTED:
            return Standing(self.decision, self.claim, _later(self.request, mark))
        if event.is_claim or is_rejection(event):
            return Standing(self.decision, _later(self.claim, mark), self.request)
        return Standing(_later(self.decision, mark), self.claim, self.request)

    @property
    def ruling(self) -> Mark | None:
        """The statement that determines the state."""
        return self.decision or self.claim or self.request

    @property
    def recorded(self) -> State:
        """Where the recipient stands, but that a consent may have expired since."""
        if self.decision is None:
            return State.UNPROVEN if self.claim else State.REQUESTED if self.request else State.UNKNOWN
        return _STATE_OF[self.decision.action]

    def state(self, now: datetime, policy: Policy) -> State:
        """Where the recipient stands now. A consent expires after ``policy.consent_lasts_days``, where set."""
        recorded, lasts = self.recorded, policy.consent_lasts_days
        if recorded is State.GIVEN and lasts and self.decision and self.decision.at + timedelta(days=lasts) <= now:
            return State.EXPIRED
        return recorded


class Told(Protocol):
    """What an event, an entry's body and an entry in readable form have in common."""

    @property
    def action(self) -> Action:
        """What happened."""
        ...

    @property
    def occurred_at(self) -> datetime | None:
        """When, where that is known."""
        ...

    @property
    def source(self) -> str:
        """Where it came from."""
        ...

    @property
    def partner(self) -> str | None:
        """Whose word it is about."""
        ...


def is_rejection(told: Told) -> bool:
    """Whether a reconciliation found a third party's claim not proven that never had been: no decision of the person's.

    What had been proven counted, so that its end is dated and takes the place of a decision; this is not.
    """
    undated = told.action is Action.INVALIDATED and told.occurred_at is None
    return undated and told.partner is not None and told.source == RECONCILIATION


Standings = Mapping[PurposeId, Standing]
"""A recipient's standing on each purpose; a purpose that is absent is unknown."""

UNKNOWN = Standing()


def _later(one: Mark | None, other: Mark) -> Mark:
    return other if one is None or other.rank > one.rank else one


def absorb(standings: Standings, event: ConsentEvent) -> dict[PurposeId, Standing]:
    """The standings with one more event taken in."""
    return {**standings, **{p: standings.get(p, UNKNOWN).after(event) for p in event.purposes}}


def fold(events: Iterable[ConsentEvent]) -> dict[PurposeId, Standing]:
    """The standings after all of these events, in whatever order they come."""
    standings: dict[PurposeId, Standing] = {}
    for event in events:
        standings = absorb(standings, event)
    return standings


def state_of(standings: Standings, purpose: PurposeId, now: datetime, policy: Policy) -> State:
    """The state on one purpose; unknown when nothing is known."""
    return standings.get(purpose, UNKNOWN).state(now, policy)


def given(standings: Standings, purposes: Iterable[PurposeId], now: datetime, policy: Policy) -> tuple[PurposeId, ...]:
    """Those of ``purposes`` for which the recipient may be tracked by consent now."""
    return tuple(p for p in purposes if state_of(standings, p, now, policy) is State.GIVEN)


def may_be_asked(standings: Standings, purposes: Iterable[PurposeId], now: datetime, policy: Policy) -> bool:
    """Whether the recipient may be asked now.

    There is a purpose that they have not decided on, and they were neither asked nor decided anything within
    ``ask_again_after_days`` (§4.2: a choice is kept, and left alone for a while). A consent that turned out not to be
    proven was no decision of theirs.
    """
    stands = [standings.get(purpose, UNKNOWN) for purpose in purposes]
    decisions = [s.decision if s.decision and s.decision.action is not Action.INVALIDATED else None for s in stands]
    if all(decisions):
        return False
    last = max((mark.at for mark in (*decisions, *(s.request for s in stands)) if mark), default=None)
    return last is None or last + timedelta(days=policy.ask_again_after_days) <= now


def basis_of(state: State) -> Basis:
    """The legal basis that a state gives for an individual pixel under a policy that knows consent alone."""
    return Basis.CONSENT if state is State.GIVEN else Basis.NONE
