"""The connector: what ``core.ports.Connector`` and ``PollsOpens`` ask for, done by the parts beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime

from connectors.limits import Limiter
from connectors.mailchimp.api import Api
from connectors.mailchimp.audience import Audience, minimum_calls
from connectors.mailchimp.campaigns import Campaigns
from connectors.mailchimp.erasure import erase
from connectors.mailchimp.inspection import Inspection
from connectors.mailchimp.opens import Report
from connectors.mailchimp.plans import TRACKED, UNTRACKED
from connectors.mailchimp.sdk import client, failure
from connectors.mailchimp.settings import NAME, MailchimpSettings, api_access, check
from connectors.mailchimp.webhooks import Webhooks
from connectors.retry import Caller
from core.account import Erasure, Finding, Installed, Webhook
from core.model import (
    Addressee,
    AppliedPlan,
    Campaign,
    Contact,
    ContactChange,
    Halves,
    Member,
    Part,
    Plan,
    ProviderEvent,
    ReleaseReport,
    SyncReport,
)
from core.ports import ProviderContext, SendJournal
from core.tally import Tally


class MailchimpConnector:
    """Implements ``core.ports.Connector``, ``PollsOpens`` and ``InstallsWebhooks``. Several threads may use it.

    Args:
        settings: ``[providers.mailchimp]``.
        context: The API key, the clock, and the interests that are mapped to purposes.
        sleep: How to wait between attempts, in seconds.

    Raises:
        SettingsError: naming what is missing or malformed.
    """

    def __init__(
        self, settings: MailchimpSettings, context: ProviderContext, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        check(settings)
        address, key = api_access(settings, context.secrets)
        # One request more than a synchronisation makes at a time: a withdrawal must not stand in line behind it.
        limiter = Limiter(settings.concurrency + 1, sleep=sleep)
        self._caller = caller = Caller(NAME, failure, now=context.now, sleep=sleep, limiter=limiter)
        self._sleep = sleep
        self._api = Api(client(address, key, settings.timeout_seconds), caller, settings.list_id)
        self._audience = Audience(self._api, settings.segment_prefix, settings.concurrency)
        self._campaigns = Campaigns(self._api, self._audience, settings)
        self._webhooks = Webhooks(self._api, context.secrets, context.topics)
        self._inspection = Inspection(self._api, settings, context.secrets)

    def sync(self, changes: Iterable[ContactChange]) -> Iterator[SyncReport]:
        """See ``core.ports.Connector``. Archived contacts and those that Mailchimp refuses are ``rejected``.

        An address that comes twice in ``changes`` is taken once.
        """
        return self._audience.sync(changes)

    @property
    def calls(self) -> int:
        """See ``core.ports.Connector``; of all threads together."""
        return self._caller.calls

    def minimum_calls(self, tally: Tally) -> int:
        """See ``core.ports.Connector`` and ``connectors.mailchimp.audience``."""
        return minimum_calls(tally)

    def read_back(self) -> Iterator[Member]:
        """See ``core.ports.Connector``; members of any status."""
        return self._audience.members()

    def erase(self, contacts: Sequence[Contact]) -> Erasure:
        """See ``core.ports.Connector``. The address can then only come back through a form of Mailchimp's own."""
        return erase(self._api.apart(), contacts, self._sleep)

    def part_size(self, campaign: Campaign) -> int | None:  # noqa: ARG002 - the same for all
        """See ``core.ports.Connector``. None: each half is a campaign; the parts are ``tracked`` and ``untracked``."""
        return None

    def plan(self, campaign: Campaign, halves: Halves) -> Plan:
        """See ``core.ports.Connector``. Asks Mailchimp only for a saved campaign that is to be copied."""
        return self._campaigns.plan(campaign, halves)

    def apply(self, plan: Plan, addressees: Callable[[], Iterator[Addressee]]) -> AppliedPlan:
        """See ``core.ports.Connector``. Raises PlanError too: what a template makes is known only then."""
        before = self._api.calls
        handles = self._campaigns.apply(plan, addressees)
        return AppliedPlan(plan.campaign.id, NAME, handles, self._api.calls - before)

    def release(
        self, campaign: Campaign, applied: AppliedPlan, parts: Iterable[Part], journal: SendJournal
    ) -> ReleaseReport:
        """See ``core.ports.Connector``. Counts what this run sent, not what an earlier one did.

        Raises PlanError too, for a mail that was changed since it was applied and may not go any more.
        """
        before = self._api.calls
        sent = self._campaigns.release(campaign, applied, parts, journal)
        return ReleaseReport(sent.get(TRACKED, 0), sent.get(UNTRACKED, 0), self._api.calls - before)

    def inspect(self, webhook_url: str, topics: Collection[str]) -> Iterator[Finding]:
        """See ``core.ports.Connector``."""
        return self._inspection.findings(webhook_url, topics)

    def webhooks(self) -> Sequence[Webhook]:
        """See ``core.ports.InstallsWebhooks``; anybody's, for the audience has one list of them."""
        return self._webhooks.listed()

    def install_webhook(self, url: str) -> Installed:
        """See ``core.ports.InstallsWebhooks``. Its URL gets a random last part."""
        return self._webhooks.install(url)

    def rotate_webhook(self, url: str) -> Installed:
        """See ``core.ports.InstallsWebhooks``. Both deliver every event; the second of two changes nothing."""
        return self._webhooks.rotate(url)

    def remove_webhook(self, url: str) -> bool:
        """See ``core.ports.InstallsWebhooks``."""
        return self._webhooks.remove(url)

    def poll_opens(self, applied: AppliedPlan, since: datetime | None) -> Iterator[ProviderEvent]:
        """The opens that Mailchimp saw of the tracked half, none for a campaign without one.

        An open that comes back in a later poll is known by its key. ``since``: give a time before the last poll began.

        Raises:
            ProviderError: out of reach, not of the documented form, or changing faster than it can be read; what was
                given before holds.
        """
        campaign = applied.handles.get(TRACKED)
        return iter(()) if campaign is None else Report(self._api.apart(), campaign, applied.campaign).opens(since)
