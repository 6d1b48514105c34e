"""Campaigns that count as applied, for tests that need one and not how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from core.model import AppliedPlan, Basis, Campaign, Halves, PixelMode, RecipientId
from core.records import CampaignRecord, Choice, Mailings


class KeepsMailings(Protocol):
    """Services, or stores."""

    @property
    def mailings(self) -> Mailings:
        """Campaigns, their snapshots and their releases."""
        ...


def applied(services: KeepsMailings, campaign: Campaign, modes: Mapping[RecipientId, PixelMode]) -> CampaignRecord:
    """Put a campaign in force with these pixels, all in one untracked part."""
    edition = services.mailings.new_edition(campaign.id)
    choices = [Choice(recipient, mode, "untracked", Basis.CONSENT, "as told") for recipient, mode in modes.items()]
    services.mailings.add_choices(edition, choices)
    plan = AppliedPlan(campaign.id, campaign.provider, {"template": "t1"}, 3)
    record = CampaignRecord(campaign, plan, Halves(untracked=len(modes)), edition)
    services.mailings.save_campaign(record)
    return record
