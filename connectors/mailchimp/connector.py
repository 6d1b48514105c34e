"""The connector: what ``core.ports.Connector`` and ``PollsOpens`` ask for, done by the parts beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256

import msgspec

from connectors.mailchimp import plans
from connectors.mailchimp.answers import Opener, Opening
from connectors.mailchimp.api import Api
from connectors.mailchimp.audience import Audience
from connectors.mailchimp.campaigns import TRACKED, UNTRACKED, Campaigns
from connectors.mailchimp.sdk import client, failure
from connectors.mailchimp.settings import NAME, MailchimpSettings, api_access, check
from connectors.retry import Caller
from core.errors import ProviderError
from core.model import (
    AppliedPlan,
    Campaign,
    ContactChange,
    EventKind,
    Member,
    Plan,
    ProviderEvent,
    ReleaseReport,
    Split,
    SyncReport,
)
from core.ports import ProviderContext, SendJournal


class MailchimpConnector:
    """Implements ``core.ports.Connector`` and ``core.ports.PollsOpens``, one request at a time.

    Args:
        settings: ``[providers.mailchimp]``.
        context: The API key and the clock.
        sleep: How to wait between attempts, in seconds.

    Raises:
        SettingsError: naming what is missing or malformed.
    """

    def __init__(
        self, settings: MailchimpSettings, context: ProviderContext, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        check(settings)
        address, key = api_access(settings, context.secrets)
        caller = Caller(NAME, failure, now=context.now, sleep=sleep)
        self._api = Api(client(address, key, settings.timeout_seconds), caller, settings.list_id)
        self._audience = Audience(self._api, settings.segment_prefix)
        self._campaigns = Campaigns(self._api, self._audience, settings)

    def sync(self, changes: Sequence[ContactChange]) -> SyncReport:
        """See ``core.ports.Connector``. Archived contacts and those that Mailchimp refuses are ``rejected``."""
        before = self._api.calls
        confirmed = frozenset(self._audience.sync(changes))
        rejected = frozenset(change.contact.recipient for change in changes) - confirmed
        return SyncReport(confirmed, rejected, self._api.calls - before)

    def read_back(self) -> Iterator[Member]:
        """See ``core.ports.Connector``; members of any status."""
        return self._audience.members()

    def plan(self, campaign: Campaign, split: Split) -> Plan:
        """See ``core.ports.Connector``. Asks Mailchimp nothing."""
        return plans.plan(campaign, split)

    def apply(self, plan: Plan) -> AppliedPlan:
        """See ``core.ports.Connector``. Raises PlanError too: the template is known only then."""
        before = self._api.calls
        handles = self._campaigns.apply(plan)
        return AppliedPlan(plan.campaign.id, NAME, handles, self._api.calls - before)

    def release(self, plan: Plan, applied: AppliedPlan, journal: SendJournal) -> ReleaseReport:
        """See ``core.ports.Connector``. Counts what this run sent, not what an earlier one did."""
        before = self._api.calls
        sent = self._campaigns.release(plan, applied, journal)
        return ReleaseReport(sent.get(TRACKED, 0), sent.get(UNTRACKED, 0), self._api.calls - before)

    def poll_opens(self, applied: AppliedPlan, since: datetime | None) -> Iterator[ProviderEvent]:
        """The opens that Mailchimp saw of the tracked half, none for a campaign without one.

        Source: ``GET /reports/{campaign_id}/open-details``. An open that comes back is known by its key.

        Raises:
            ProviderError: out of reach, or an answer is not of the documented form.
        """
        campaign = applied.handles.get(TRACKED)
        if campaign is None:
            return
        earliest = since.astimezone(UTC).isoformat(timespec="seconds") if since else None
        for opener in self._api.openers(campaign, earliest):
            for opening in opener.opens:
                event = _open(applied.campaign, opener, opening)
                if since is None or event.occurred_at >= since.replace(microsecond=0):
                    yield event


def _open(campaign: str, opener: Opener, opening: Opening) -> ProviderEvent:
    try:
        at = datetime.fromisoformat(opening.timestamp)
        at = at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ProviderError(NAME, "an open has no readable time") from None
    digest = sha256(opener.email_address.strip().lower().encode()).hexdigest()
    return ProviderEvent(
        provider=NAME,
        kind=EventKind.OPEN,
        native_type="open",
        occurred_at=at,
        keys=(f"{NAME}:open:{campaign}:{digest}:{opening.timestamp}",),
        address=opener.email_address.strip(),
        campaign=campaign,
        machine=bool(opening.is_proxy_open),
        raw=msgspec.to_builtins(opening),
    )
