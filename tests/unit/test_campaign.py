"""Campaigns: what may be declared, and default deny for every recipient."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.campaign import check, decide, lawful_purposes
from core.consent import Mark, Standing, Standings
from core.errors import PlanError, SettingsError
from core.model import Action, Basis, Campaign, CampaignId, CampaignKind, Mechanism, PixelMode, PurposeId
from core.policy import Policy, load

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
POLICY = load()
YEARLY = msgspec.structs.replace(POLICY, consent_lasts_days=365)
MEASURING, DELIVERING = PurposeId("performance"), PurposeId("deliverability")
SECURITY, AUDIENCE = PurposeId("authentication_security"), PurposeId("aggregate_audience")
KNOWN = [p.id for p in POLICY.purposes]
EXEMPT = {SECURITY, AUDIENCE}

marks = st.builds(
    Mark, st.integers(0, 800).map(lambda days: NOW - timedelta(days=days)), st.sampled_from(Action), st.just("form")
)
consents = st.builds(Mark, st.sampled_from([NOW, NOW - timedelta(days=400)]), st.just(Action.GIVEN), st.just("form"))
standings_of_anybody = st.dictionaries(
    st.sampled_from([MEASURING, DELIVERING, MEASURING, DELIVERING, *KNOWN]),
    st.builds(
        Standing,
        decision=st.none() | consents | marks.filter(lambda mark: mark.action is not Action.REQUESTED),
        claim=st.none() | st.builds(Mark, st.just(NOW), st.just(Action.GIVEN), st.just("partner")),
        request=st.none() | st.builds(Mark, st.just(NOW), st.just(Action.REQUESTED), st.just("form")),
    ),
    max_size=5,
)
campaigns = st.builds(
    Campaign,
    id=st.just(CampaignId("autumn")),
    provider=st.just("ses"),
    kind=st.sampled_from(CampaignKind),
    purposes=st.one_of(
        st.lists(st.sampled_from([MEASURING, DELIVERING]), unique=True, max_size=2),
        st.just([SECURITY]),
        st.lists(st.sampled_from(KNOWN), unique=True, max_size=3),
    ).map(tuple),
    mechanism=st.sampled_from(Mechanism),
    aggregate=st.booleans(),
)


def campaign(
    *purposes: PurposeId,
    kind: CampaignKind = CampaignKind.REQUESTED,
    mechanism: Mechanism = Mechanism.PROVIDER,
    aggregate: bool = False,
) -> Campaign:
    """A campaign with these purposes."""
    return Campaign(CampaignId("autumn"), "ses", kind, purposes, mechanism, aggregate)


def agreed(standings: Standings, purpose: PurposeId, policy: Policy) -> bool:
    """Whether the person's last decision is a consent that has not expired, told without the code under test."""
    decision = standings[purpose].decision if purpose in standings else None
    if decision is None or decision.action is not Action.GIVEN:
        return False
    return policy.consent_lasts_days is None or (NOW - decision.at).days < policy.consent_lasts_days


@given(campaigns, standings_of_anybody, st.sampled_from([POLICY, YEARLY]))
@settings(max_examples=300)
def test_an_individual_pixel_takes_consent_or_an_exemption(
    declared: Campaign, standings: Standings, policy: Policy
) -> None:
    """Default deny, and the other way round: whoever agreed to what was declared gets the individual pixel."""
    try:
        check(declared, policy)
    except PlanError:
        return
    decision = decide(declared, standings, NOW, policy)
    consented = {p for p in declared.purposes if agreed(standings, p, policy)}
    exempt = bool(declared.purposes) and set(declared.purposes) <= EXEMPT
    enough = {
        Mechanism.PROVIDER: consented == set(declared.purposes) and bool(consented),
        Mechanism.HOSTED: bool(consented),
        Mechanism.NONE: False,
    }
    individual = enough[declared.mechanism] or (exempt and declared.mechanism is not Mechanism.NONE)
    assert (decision.mode is PixelMode.INDIVIDUAL) is individual
    assert set(decision.serves) == ((set(declared.purposes) if exempt else consented) if individual else set())
    if individual:
        assert decision.basis is (Basis.EXEMPT if exempt else Basis.CONSENT)


@given(campaigns, standings_of_anybody)
def test_whoever_is_not_tracked_is_counted_at_most(declared: Campaign, standings: Standings) -> None:
    """Without an individual pixel there is the aggregate one where the campaign lawfully has it, else none."""
    try:
        check(declared, POLICY)
    except PlanError:
        return
    decision = decide(declared, standings, NOW, POLICY)
    if decision.mode is PixelMode.AGGREGATE:
        assert declared.aggregate
        assert declared.kind in {CampaignKind.REQUESTED, CampaignKind.TRANSACTIONAL}
        assert decision.basis is Basis.EXEMPT
    elif decision.mode is PixelMode.NONE:
        assert not declared.aggregate or declared.mechanism is Mechanism.NONE
        assert decision.basis is Basis.NONE
    assert decision.mode is PixelMode.INDIVIDUAL or decision.serves == ()


@given(campaigns, standings_of_anybody)
def test_no_consent_to_an_exempt_purpose_exists(declared: Campaign, standings: Standings) -> None:
    """What a consent serves is among the purposes that take one, in the campaign's own order."""
    serves = lawful_purposes(declared, standings, NOW, POLICY)
    assert [p for p in declared.purposes if p in serves] == list(serves)
    if not set(declared.purposes) <= EXEMPT:
        assert all(agreed(standings, p, POLICY) for p in serves)


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        (campaign(), "say what its opens are for"),
        (campaign(AUDIENCE), "asked for by aggregate = true"),
        (campaign(SECURITY), "exempt in mail of kind authentication only"),
        (campaign(SECURITY, kind=CampaignKind.PROSPECTING), "exempt in mail of kind authentication only"),
        (campaign(SECURITY, MEASURING, kind=CampaignKind.AUTHENTICATION), "may serve nothing else"),
        (campaign(MEASURING, kind=CampaignKind.AUTHENTICATION), "secures the authentication and nothing else"),
        (campaign(MEASURING, kind=CampaignKind.PROSPECTING, aggregate=True), "not prospecting"),
        (campaign(SECURITY, kind=CampaignKind.AUTHENTICATION, aggregate=True), "not authentication"),
        (campaign(kind=CampaignKind.PROSPECTING, aggregate=True), "not prospecting"),
    ],
)
def test_an_unlawful_campaign_is_refused(declared: Campaign, problem: str) -> None:
    """An exemption is used within its bounds or not at all (§3.2); the error names the campaign."""
    with pytest.raises(PlanError, match=r"^campaign autumn: ") as refused:
        check(declared, POLICY)
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    "declared",
    [
        campaign(MEASURING),
        campaign(MEASURING, DELIVERING, kind=CampaignKind.PROSPECTING),
        campaign(SECURITY, kind=CampaignKind.AUTHENTICATION),
        campaign(aggregate=True),
        campaign(MEASURING, kind=CampaignKind.TRANSACTIONAL, aggregate=True, mechanism=Mechanism.HOSTED),
        campaign(mechanism=Mechanism.NONE),
        campaign(kind=CampaignKind.PROSPECTING, mechanism=Mechanism.NONE),
    ],
)
def test_a_lawful_campaign_is_taken(declared: Campaign) -> None:
    """Among them a mail that carries no pixel and so names no purpose: the mail that asks for consent (§4.2)."""
    check(declared, POLICY)
    assert decide(declared, {}, NOW, POLICY).mode is not PixelMode.INDIVIDUAL or declared.purposes == (SECURITY,)


def test_an_unknown_purpose_is_refused() -> None:
    """A misspelt purpose is a mistake in the file, not a purpose that nobody agreed to."""
    with pytest.raises(SettingsError, match="no purpose 'perfomance'"):
        check(campaign(PurposeId("perfomance")), POLICY)


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (Action.WITHDRAWN, "performance: withdrawn"),
        (Action.REFUSED, "performance: refused"),
        (Action.INVALIDATED, "performance: unproven"),
        (Action.OBJECTED, "performance: objected"),
        (None, "performance: unknown"),
    ],
)
def test_the_reason_is_said(action: Action | None, reason: str) -> None:
    """Whoever approves a plan reads why somebody is not tracked."""
    standings = {MEASURING: Standing(Mark(NOW, action, "form"))} if action else {}
    assert decide(campaign(MEASURING), standings, NOW, POLICY).reason == reason
    counted = decide(campaign(MEASURING, aggregate=True), standings, NOW, POLICY)
    assert (counted.mode, counted.reason) == (PixelMode.AGGREGATE, f"{reason}; counted in the aggregate only")


def test_the_reason_is_the_purpose_that_is_missing() -> None:
    """Of several purposes the first that this person did not agree to."""
    standings = {MEASURING: Standing(Mark(NOW, Action.GIVEN, "form"))}
    assert decide(campaign(MEASURING, DELIVERING), standings, NOW, POLICY).reason == "deliverability: unknown"
    assert decide(campaign(MEASURING), standings, NOW, POLICY).reason == "consent for performance"
    login = campaign(SECURITY, kind=CampaignKind.AUTHENTICATION)
    assert decide(login, {}, NOW, POLICY).reason == "exempt for authentication_security"
    assert decide(campaign(aggregate=True), {}, NOW, POLICY).reason.startswith("no purpose that takes")


@pytest.mark.parametrize("mechanism", Mechanism)
def test_agreeing_to_all_gets_the_pixel_of_the_mechanism(mechanism: Mechanism) -> None:
    """The individual one, from the ESP or hosted; and none where the campaign carries none."""
    standings = {p: Standing(Mark(NOW, Action.GIVEN, "form")) for p in (MEASURING, DELIVERING)}
    decision = decide(campaign(MEASURING, DELIVERING, mechanism=mechanism), standings, NOW, POLICY)
    assert decision.mode is (PixelMode.NONE if mechanism is Mechanism.NONE else PixelMode.INDIVIDUAL)


def test_the_hosted_pixel_serves_what_was_agreed_to() -> None:
    """Of two purposes one was agreed to: the ESP's pixel stays out, the hosted one serves that one alone."""
    standings = {MEASURING: Standing(Mark(NOW, Action.GIVEN, "form"))}
    hosted = campaign(DELIVERING, MEASURING, mechanism=Mechanism.HOSTED)
    assert decide(hosted, standings, NOW, POLICY).serves == (MEASURING,)
    assert decide(campaign(DELIVERING, MEASURING), standings, NOW, POLICY).mode is PixelMode.NONE
