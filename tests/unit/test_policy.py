"""Policies: the shipped rules, and what a policy file may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import policy as policies
from core.errors import PolicyError, SettingsError
from core.model import Basis, CampaignKind, PurposeId
from core.policy import Policy, load, read

GOOD = """
id = "test"
authority = "Nobody"
title = "Rules for a test"
status = "draft"
ask_again_after_days = 30

[[purposes]]
id = "measuring"
section = "1"
family = "m"
legal_basis = "consent"
options = ["a", "b"]

[[purposes]]
id = "advertising"
section = "1"
family = "m"
legal_basis = "consent"

[[purposes]]
id = "counting"
section = "2"
family = "c"
legal_basis = "exempt"
kinds = ["requested"]
pixel = "aggregate"

[[couplings]]
id = "together"
section = "4"
with = "marketing"
purposes = ["measuring"]

[never_coupled]
purposes = ["advertising"]
"""


def test_the_default_policy_is_the_draft_recommendation(policy: Policy) -> None:
    """Five purposes take consent, in the order of §3.1; two are exempt (§3.2)."""
    assert policy.id == "cnil-2025-draft"
    assert policy.consent_purposes == (
        "performance",
        "deliverability",
        "personalisation",
        "profiling",
        "fraud_detection",
    )
    assert {p.id for p in policy.purposes if p.exempt} == {"authentication_security", "aggregate_audience"}
    assert policy.purpose("personalisation").options == ("content", "frequency_or_channel", "campaign_optimisation")


def test_exemptions_have_bounds(policy: Policy) -> None:
    """Securing an authentication serves nothing else, and counting uses one pixel for all (§3.2)."""
    security, audience = policy.purpose("authentication_security"), policy.purpose("aggregate_audience")
    assert (security.kinds, security.alone, security.pixel) == ((CampaignKind.AUTHENTICATION,), True, "individual")
    assert audience.pixel == "aggregate"
    assert all(p.legal_basis is Basis.CONSENT for p in policy.purposes if not p.exempt)


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [
        (CampaignKind.REQUESTED, True),
        (CampaignKind.TRANSACTIONAL, True),
        (CampaignKind.PROSPECTING, False),
        (CampaignKind.AUTHENTICATION, False),
    ],
)
def test_the_aggregate_pixel_is_for_mail_that_was_asked_for(policy: Policy, kind: CampaignKind, allowed: bool) -> None:
    """The exemption of the overall open rate holds for requested and transactional mail alone (§3.2)."""
    assert policy.aggregate_allowed(kind) is allowed


def test_profiling_stands_in_no_coupling(policy: Policy) -> None:
    """Advertising elsewhere is asked for apart (§4.2); whatever may be coupled takes consent."""
    coupled = {purpose for coupling in policy.couplings for purpose in coupling.purposes}
    assert coupled == {"performance", "deliverability", "personalisation", "fraud_detection"}
    assert policy.coupling("prospecting-measurement").purposes == ("performance", "deliverability")


def test_unknown_names_are_refused_with_the_known_ones(policy: Policy) -> None:
    """The user reads what could stand there instead."""
    with pytest.raises(SettingsError, match="no purpose 'opens' in the policy cnil-2025-draft; it has: performance"):
        policy.purpose("opens")
    with pytest.raises(SettingsError, match="no coupling 'all'; it allows: prospecting-measurement"):
        policy.coupling("all")
    with pytest.raises(PolicyError, match="known are cnil-2025-draft"):
        load("cnil-2031")


def test_a_good_policy_is_read() -> None:
    """The text that the refusals below alter is sound as it stands."""
    policy = read(GOOD, "test")
    assert policy.consent_purposes == ("measuring", "advertising")
    assert policy.consent_lasts_days is None
    assert policy.coupling("together").with_ == "marketing"
    assert policy.aggregate_allowed(CampaignKind.REQUESTED)


@pytest.mark.parametrize(
    ("part", "instead", "problem"),
    [
        ('id = "advertising"', 'id = "measuring"', "'measuring' stands twice"),
        ('options = ["a", "b"]', 'options = ["a", "a"]', "option 'a' stands twice"),
        ('kinds = ["requested"]', "", "must say for which kinds"),
        ('options = ["a", "b"]', "alone = true", "belong to exemptions only"),
        ('options = ["a", "b"]', 'pixel = "aggregate"', "belong to exemptions only"),
        ('options = ["a", "b"]', 'kinds = ["requested"]', "belong to exemptions only"),
        ('legal_basis = "exempt"', 'legal_basis = "transitional"', "must be consent or exempt"),
        ('legal_basis = "exempt"', 'legal_basis = "interest"', "purposes"),
        ('purposes = ["measuring"]', 'purposes = ["counting"]', "'counting' takes no consent"),
        ('purposes = ["measuring"]', 'purposes = ["opens"]', "'opens' takes no consent"),
        ('purposes = ["measuring"]', 'purposes = ["advertising"]', "advertising must stand apart"),
        ('purposes = ["measuring"]', "purposes = []", "coupling together: no purposes"),
        ("[never_coupled]\npurposes", "[never_coupled]\nids", "ids"),
        ("ask_again_after_days = 30", "ask_again_after_days = 0", "ask_again_after_days must be at least 1"),
        ("ask_again_after_days = 30", "ask_again_after_days = 30\nconsent_lasts_days = 0", "consent_lasts_days"),
        ("ask_again_after_days = 30", "", "ask_again_after_days"),
        ("ask_again_after_days = 30", "ask_again_after_days = -1", "ask_again_after_days must be at least 1"),
        ('status = "draft"', 'status = "rumour"', "status"),
        ('title = "Rules', 'titel = "Rules', "titel"),
        ("ask_again_after_days = 30", "ask_again_after_days = = 30", "policy test"),
    ],
)
def test_a_policy_that_breaks_its_own_rules_is_refused(part: str, instead: str, problem: str) -> None:
    """The error names the file and what is wrong in it."""
    assert GOOD.count(part) >= 1
    with pytest.raises(PolicyError, match=r"^policy test: ") as refused:
        read(GOOD.replace(part, instead, 1), "test")
    assert problem in str(refused.value)


def test_a_span_of_a_day_is_enough() -> None:
    """One day is the shortest that may be set."""
    policy = read(GOOD.replace("_days = 30", "_days = 1\nconsent_lasts_days = 1"), "test")
    assert (policy.ask_again_after_days, policy.consent_lasts_days) == (1, 1)


def test_a_policy_may_allow_no_coupling() -> None:
    """Asking for one says that there is none."""
    start, end = GOOD.index("[[couplings]]"), GOOD.index("[never_coupled]")
    with pytest.raises(SettingsError, match="no coupling 'together'; it allows: none"):
        read(GOOD[:start] + GOOD[end:], "test").coupling("together")


def test_a_policy_without_consent_is_refused() -> None:
    """Rules that ask nobody are not this product's."""
    exempt = GOOD.replace('legal_basis = "consent"', 'legal_basis = "exempt"\nkinds = ["requested"]')
    with pytest.raises(PolicyError, match="no purpose takes consent"):
        read(exempt, "test")


def test_a_coupling_stands_once() -> None:
    """Two couplings of one name would hide one another."""
    coupling = GOOD[GOOD.index("[[couplings]]") : GOOD.index("[never_coupled]")]
    with pytest.raises(PolicyError, match="coupling 'together' stands twice"):
        read(GOOD.replace("[never_coupled]", f"{coupling}\n[never_coupled]"), "test")


def test_file_and_id_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy file that calls itself something else is refused: receipts name the policy by its id."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "other.toml").write_text(GOOD, "utf-8")
    monkeypatch.setattr("core.policy.POLICIES", tmp_path / "policies")
    with pytest.raises(PolicyError, match="its id is 'test'"):
        load.__wrapped__("other")


def test_every_shipped_policy_is_sound() -> None:
    """Each file loads under its own name and has a purpose to ask for."""
    files = sorted((Path(policies.__file__).parent / "policies").glob("*.toml"))
    assert files
    for file in files:
        assert load(file.stem).consent_purposes
        assert PurposeId("performance") in load(file.stem).consent_purposes
