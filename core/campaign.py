"""A campaign's plan: which recipient gets which pixel, on which basis, and why.

An ESP's own pixel cannot be told what its opens may serve, so it takes consent to all the purposes that the campaign
declares. The hosted pixel stores each open with those purposes that this person agreed to, so one suffices.
"""

from __future__ import annotations

from datetime import datetime

from core.consent import Standings, given, state_of
from core.errors import PlanError
from core.model import Basis, Campaign, CampaignKind, Mechanism, PixelDecision, PixelMode, PurposeId
from core.policy import Policy


def check(campaign: Campaign, policy: Policy) -> None:
    """Refuse a campaign that the policy allows to nobody.

    Raises:
        PlanError: no or exempt purposes where consent is meant, an exemption used outside of its bounds (§3.2).
        SettingsError: a purpose that the policy does not know.
    """
    purposes = [policy.purpose(name) for name in campaign.purposes]
    where = f"campaign {campaign.id}"
    if campaign.asks and (purposes or campaign.aggregate or campaign.mechanism is not Mechanism.NONE):
        raise PlanError(f"{where}: asks: a mail that asks for consent carries no pixel: set mechanism = 'none' (§4.2)")
    if not purposes and not campaign.aggregate and campaign.mechanism is not Mechanism.NONE:
        raise PlanError(f"{where}: purposes: say what its opens are for, or set mechanism = 'none'")
    for purpose in purposes:
        if purpose.pixel == "aggregate":
            raise PlanError(f"{where}: purposes: {purpose.id} is asked for by aggregate = true, not as a purpose")
        if purpose.exempt and campaign.kind not in purpose.kinds:
            kinds = ", ".join(purpose.kinds)
            raise PlanError(f"{where}: {purpose.id} is exempt in mail of kind {kinds} only (§{purpose.section})")
        if purpose.alone and len(purposes) > 1:
            raise PlanError(f"{where}: a pixel for {purpose.id} may serve nothing else (§{purpose.section})")
    if campaign.kind is CampaignKind.AUTHENTICATION and not all(p.exempt for p in purposes):
        raise PlanError(f"{where}: an authentication mail's pixel secures the authentication and nothing else (§3.2)")
    if campaign.aggregate and not policy.aggregate_allowed(campaign.kind):
        raise PlanError(f"{where}: aggregate: only for mail that the recipients asked for, not {campaign.kind} (§3.2)")


def decide(campaign: Campaign, standings: Standings, now: datetime, policy: Policy) -> PixelDecision:
    """Which pixel one recipient gets. Anything but a standing consent (or an exemption) means no individual pixel."""
    if campaign.mechanism is Mechanism.NONE:
        return PixelDecision(PixelMode.NONE, Basis.NONE, "the campaign carries no pixel")
    serves = lawful_purposes(campaign, standings, now, policy)
    if serves:
        basis = policy.purpose(serves[0]).legal_basis
        return PixelDecision(PixelMode.INDIVIDUAL, basis, f"{basis.value} for {', '.join(serves)}", serves)
    reason = _reason(campaign, standings, now, policy)
    if campaign.aggregate:
        return PixelDecision(PixelMode.AGGREGATE, Basis.EXEMPT, f"{reason}; counted in the aggregate only")
    return PixelDecision(PixelMode.NONE, Basis.NONE, reason)


def lawful_purposes(campaign: Campaign, standings: Standings, now: datetime, policy: Policy) -> tuple[PurposeId, ...]:
    """What an individual open of this campaign by this recipient may serve now; empty: nothing may be read."""
    if all(policy.purpose(p).exempt for p in campaign.purposes):
        return campaign.purposes
    agreed = given(standings, campaign.purposes, now, policy)
    if campaign.mechanism is Mechanism.HOSTED or len(agreed) == len(campaign.purposes):
        return agreed
    return ()


def _reason(campaign: Campaign, standings: Standings, now: datetime, policy: Policy) -> str:
    for purpose in campaign.purposes:
        state = state_of(standings, purpose, now, policy)
        if not given(standings, (purpose,), now, policy):
            return f"{purpose}: {state.value}"
    return "no purpose that takes an individual pixel"
