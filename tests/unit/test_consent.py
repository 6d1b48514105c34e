"""The fold from events to states: order and repetition change nothing, and whatever protects the person wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.consent import UNKNOWN, absorb, basis_of, fold, state_of
from core.consent import given as tracked_for
from core.model import PROTECTION, Action, Basis, ConsentEvent, PurposeId, State
from core.policy import Policy, load

Make = Callable[..., ConsentEvent]

MEASURING, DELIVERING = PurposeId("performance"), PurposeId("deliverability")
POLICY = load()
LONG_AFTER = datetime(2036, 1, 1, tzinfo=UTC)
DECISIONS = [action for action in Action if action is not Action.REQUESTED]
PROTECTIVE = [action for action in DECISIONS if action is not Action.GIVEN]

histories = st.lists(st.from_type(ConsentEvent), max_size=12)


def state(*events: ConsentEvent, policy: Policy = POLICY, now: datetime = LONG_AFTER) -> State:
    """Where the recipient stands on measuring after these events."""
    return state_of(fold(events), MEASURING, now, policy)


def counts_at(event: ConsentEvent) -> datetime:
    """A protective statement timed to the second counts as made at the end of it."""
    whole = event.effective_at.microsecond == 0 and event.action in PROTECTIVE
    return event.effective_at + timedelta(microseconds=999_999) if whole else event.effective_at


def expected(events: list[ConsentEvent], purpose: PurposeId) -> State:
    """The rules once more, in their plainest form: the last decision, else any claim, else any request."""
    mine = [e for e in events if purpose in e.purposes]
    decisions = [e for e in mine if e.action is not Action.REQUESTED and not e.is_claim]
    if decisions:
        last = max(decisions, key=lambda e: (counts_at(e), PROTECTION[e.action]))
        return State.UNPROVEN if last.action is Action.INVALIDATED else State(last.action.value)
    if any(e.is_claim for e in mine):
        return State.UNPROVEN
    return State.REQUESTED if mine else State.UNKNOWN


@given(histories, st.randoms(use_true_random=False))
def test_order_of_arrival_changes_nothing(events: list[ConsentEvent], random: Random) -> None:
    """Events may come in any order: callbacks, imports and forms race one another."""
    shuffled = list(events)
    random.shuffle(shuffled)
    assert fold(shuffled) == fold(events)


def test_a_consent_told_to_the_second_counts_from_its_beginning(event: Make) -> None:
    """It may have come before or after a withdrawal within that second: the withdrawal stands."""
    begin = datetime(2026, 11, 2, 8, tzinfo=UTC)
    for n in (0, 1, 999_999):
        withdrawn = event(Action.WITHDRAWN, occurred_at=begin.replace(microsecond=n))
        assert state(withdrawn, event(Action.GIVEN, occurred_at=begin)) is State.WITHDRAWN


def test_the_last_second_of_all_can_be_weighed(event: Make) -> None:
    """No time that a source may tell is out of range."""
    end = datetime.max.replace(microsecond=0, tzinfo=UTC)
    assert state(event(Action.WITHDRAWN, received_at=end, occurred_at=end)) is State.WITHDRAWN


def test_the_ruling_is_the_statement_behind_the_state(event: Make) -> None:
    """A decision before a claim before a request; nothing when nothing was said."""
    asked, claimed = event(Action.REQUESTED), event(Action.GIVEN, partner="Partner")
    decided = event(Action.REFUSED)
    rulings = [fold(events)[MEASURING].ruling for events in ([asked], [asked, claimed], [asked, claimed, decided])]
    assert [mark.action for mark in rulings if mark] == [Action.REQUESTED, Action.GIVEN, Action.REFUSED]
    assert UNKNOWN.ruling is None


def test_statements_that_weigh_the_same_are_told_apart(event: Make) -> None:
    """A second's beginning counts as its end: also then it does not matter which of the two comes first."""
    begin = datetime(2026, 11, 2, 8, tzinfo=UTC)
    pair = [event(Action.WITHDRAWN, occurred_at=begin.replace(microsecond=n)) for n in (0, 999_999)]
    assert fold(pair) == fold(reversed(pair))


@given(histories, histories)
def test_repetition_changes_nothing(events: list[ConsentEvent], repeated: list[ConsentEvent]) -> None:
    """An event that is taken in twice counts once."""
    assert fold([*events, *repeated, *events, *repeated[:3]]) == fold([*events, *repeated])


@given(histories)
def test_the_fold_follows_the_rules(events: list[ConsentEvent]) -> None:
    """The state on each purpose is what the rules say, written down a second time."""
    standings = fold(events)
    for purpose in (MEASURING, DELIVERING):
        assert state_of(standings, purpose, LONG_AFTER, POLICY) is expected(events, purpose)


@given(histories)
def test_nothing_is_given_without_a_consent(events: list[ConsentEvent]) -> None:
    """A state of GIVEN rests on a dated or proven word of consent that nothing protective followed."""
    standings = fold(events)
    for purpose in tracked_for(standings, (MEASURING, DELIVERING), LONG_AFTER, POLICY):
        words = [e for e in events if purpose in e.purposes and e.action is Action.GIVEN and not e.is_claim]
        against = [e for e in events if purpose in e.purposes and e.action in PROTECTIVE]
        latest = max(e.effective_at for e in words)
        assert all(e.effective_at < latest for e in against)


@given(st.from_type(ConsentEvent), st.integers(1, 10_000))
def test_the_future_is_clamped(event: ConsentEvent, hours: int) -> None:
    """A date behind the receipt counts as the receipt: nobody consents against withdrawals to come."""
    ahead = replace(event, occurred_at=event.received_at + timedelta(hours=hours))
    assert ahead.effective_at == event.received_at
    assert fold([ahead]) == fold([replace(event, occurred_at=event.received_at)])


def test_a_consent_from_the_future_does_not_outlive_a_withdrawal(event: Make) -> None:
    """Dated 2099 and received today, it is withdrawn by tomorrow's withdrawal."""
    consent = event(Action.GIVEN, occurred_at=datetime(2099, 1, 1, tzinfo=UTC))
    tomorrow = consent.received_at + timedelta(days=1)
    assert state(consent, event(Action.WITHDRAWN, received_at=tomorrow, occurred_at=tomorrow)) is State.WITHDRAWN


@given(st.from_type(ConsentEvent), st.sampled_from(DECISIONS), st.sampled_from(DECISIONS))
def test_a_tie_goes_to_the_protective_action(event: ConsentEvent, one: Action, other: Action) -> None:
    """Of two decisions of one instant the one stands that protects the person more, whatever their sources."""
    tied = replace(event, purposes=(MEASURING,), occurred_at=event.received_at, proof="ab" * 32)
    pair = [replace(tied, action=one, source="a"), replace(tied, action=other, source="b")]
    winner = max(one, other, key=lambda action: PROTECTION[action])
    assert state(*pair) is state(*reversed(pair)) is state(replace(tied, action=winner))


def test_protection_is_ordered() -> None:
    """Being asked protects least, then a consent; every other action protects more than a consent."""
    assert sorted(Action, key=lambda action: PROTECTION[action])[:2] == [Action.REQUESTED, Action.GIVEN]
    assert len(set(PROTECTION.values())) == len(Action)


@given(histories)
def test_a_partners_word_alone_tracks_nobody(events: list[ConsentEvent]) -> None:
    """However many partners claim a consent and however late: without a proof nothing is given (§6)."""
    claims = [replace(e, action=Action.GIVEN, partner="Partner", proof=None) for e in events]
    standings = fold(claims)
    assert tracked_for(standings, (MEASURING, DELIVERING), LONG_AFTER, POLICY) == ()
    assert all(state_of(standings, p, LONG_AFTER, POLICY) is State.UNPROVEN for e in claims for p in e.purposes)


def test_a_proven_claim_counts_from_when_it_was_made(event: Make) -> None:
    """With the proof it is a consent, and a withdrawal that came in between still stands."""
    claim = event(Action.GIVEN, partner="Partner")
    proven = replace(claim, proof="ab" * 32, received_at=claim.received_at + timedelta(days=9))
    assert state(claim, proven) is State.GIVEN
    between = claim.received_at + timedelta(days=1)
    withdrawn = event(Action.WITHDRAWN, received_at=between, occurred_at=between)
    assert state(claim, withdrawn, proven) is State.WITHDRAWN


@pytest.mark.parametrize("action", DECISIONS)
def test_a_claim_overrides_no_decision(event: Make, action: Action) -> None:
    """What the person decided stands, although a partner claims a consent of a later day."""
    own = event(action)
    later = own.received_at + timedelta(days=1)
    claim = event(Action.GIVEN, partner="Partner", received_at=later, occurred_at=later)
    assert state(own, claim) is state(own)


@given(histories, st.from_type(ConsentEvent))
def test_being_asked_takes_nothing_away(events: list[ConsentEvent], asked: ConsentEvent) -> None:
    """A request changes no state but an unknown one."""
    before, request = fold(events), replace(asked, action=Action.REQUESTED)
    after = absorb(before, request)
    for purpose in (MEASURING, DELIVERING):
        was, now = (state_of(s, purpose, LONG_AFTER, POLICY) for s in (before, after))
        assert now is was or (was is State.UNKNOWN and now is State.REQUESTED and purpose in request.purposes)


@given(histories, st.from_type(ConsentEvent), st.sampled_from(PROTECTIVE))
def test_a_protective_word_received_last_always_stands(
    events: list[ConsentEvent], last: ConsentEvent, action: Action
) -> None:
    """Undated or dated now, after everything else: the recipient is untracked for those purposes."""
    now = max([e.received_at for e in events], default=last.received_at)
    for occurred_at in (None, now):
        word = replace(last, action=action, received_at=now, occurred_at=occurred_at)
        assert tracked_for(fold([*events, word]), word.purposes, LONG_AFTER, POLICY) == ()


def test_an_undated_consent_undoes_nothing(event: Make) -> None:
    """It orders before every dated decision, but it is a consent when there is nothing else."""
    undated = event(Action.GIVEN, occurred_at=None)
    old = datetime(1999, 1, 1, tzinfo=UTC)
    assert state(undated) is State.GIVEN
    assert state(event(Action.REFUSED, occurred_at=old, received_at=old), undated) is State.REFUSED


def test_an_undated_withdrawal_counts_from_its_receipt(event: Make) -> None:
    """It undoes a consent that was given before, and not one that is given afterwards."""
    consent = event(Action.GIVEN)
    received = consent.received_at + timedelta(hours=1)
    undated = event(Action.WITHDRAWN, occurred_at=None, received_at=received)
    later = event(Action.GIVEN, received_at=received + timedelta(hours=1), occurred_at=received + timedelta(hours=1))
    assert state(consent, undated) is State.WITHDRAWN
    assert state(consent, undated, later) is State.GIVEN


def test_purposes_are_apart(event: Make) -> None:
    """A decision on one purpose says nothing about another."""
    standings = fold([event(Action.GIVEN, purposes=(MEASURING,)), event(Action.REFUSED, purposes=(DELIVERING,))])
    assert tracked_for(standings, (DELIVERING, MEASURING), LONG_AFTER, POLICY) == (MEASURING,)
    assert state_of(standings, PurposeId("profiling"), LONG_AFTER, POLICY) is State.UNKNOWN


@pytest.mark.parametrize(
    ("days", "expected_state"), [(364.9, State.GIVEN), (365, State.EXPIRED), (9_999, State.EXPIRED)]
)
def test_a_consent_expires_where_the_policy_says_so(event: Make, days: float, expected_state: State) -> None:
    """After ``consent_lasts_days`` to the second, counted from when it was given; a refusal never expires."""
    yearly = msgspec.structs.replace(POLICY, consent_lasts_days=365)
    consent = event(Action.GIVEN)
    now = consent.received_at + timedelta(days=days)
    assert state(consent, policy=yearly, now=now) is expected_state
    assert state(consent, now=now) is State.GIVEN
    assert state(event(Action.REFUSED), policy=yearly, now=now) is State.REFUSED
    assert state(event(Action.GIVEN, occurred_at=None), policy=yearly, now=now) is State.EXPIRED


@pytest.mark.parametrize("stands", State)
def test_only_a_given_consent_is_a_basis(stands: State) -> None:
    """Every other state is no legal basis for an individual pixel."""
    assert basis_of(stands) is (Basis.CONSENT if stands is State.GIVEN else Basis.NONE)


@pytest.mark.parametrize("protective", PROTECTIVE)
def test_a_withdrawal_in_the_second_of_a_consent_counts(event: Make, protective: Action) -> None:
    """ESPs tell times to the second: a withdrawal told so is not lost to a consent given earlier in that second."""
    second = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    agreed = event(action=Action.GIVEN, received_at=LONG_AFTER, occurred_at=second.replace(microsecond=700_000))
    left = event(action=protective, received_at=LONG_AFTER, occurred_at=second)
    assert state(agreed, left) is state(left)
    later = event(action=Action.GIVEN, received_at=LONG_AFTER, occurred_at=second + timedelta(seconds=1))
    assert state(agreed, left, later) is State.GIVEN
