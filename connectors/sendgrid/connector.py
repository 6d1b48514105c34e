"""The connector: consent lists in Marketing Campaigns, campaigns through Mail Send."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from connectors.sendgrid.accounts import MAIL_SEND, SUBUSERS, accounts
from connectors.sendgrid.api import Api
from connectors.sendgrid.campaigns import Campaigns
from connectors.sendgrid.contacts import Contacts
from connectors.sendgrid.erasure import Eraser
from connectors.sendgrid.exports import Exports
from connectors.sendgrid.inspection import Inspection
from connectors.sendgrid.lists import Directory
from connectors.sendgrid.settings import NAME, SendGridSettings, public_keys
from connectors.sendgrid.subusers import SubuserCampaigns
from connectors.sendgrid.sync import Run, minimum_calls
from connectors.sendgrid.webhooks import Webhooks
from core.account import Erasure, Finding, Installed, Webhook
from core.errors import PlanError
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
    PurposeId,
    RecipientId,
    ReleaseReport,
    SyncReport,
)
from core.ports import ProviderContext, SendJournal
from core.tally import Tally


class SendGridConnector:
    """One SendGrid account.

    Args:
        key: The API key.
        settings: ``[providers.sendgrid]``.
        context: The purposes that the team uses, and the clock.
        sleep: How to wait, in seconds.
        subuser_keys: The API keys of the two subusers by half, where the settings name subusers.
    """

    def __init__(
        self,
        key: str,
        settings: SendGridSettings,
        context: ProviderContext,
        *,
        sleep: Callable[[float], None] = time.sleep,
        subuser_keys: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._api = Api(key, settings, context.now, sleep)
        self._purposes = frozenset(context.purposes)
        self._directory = Directory(self._api, settings.list_prefix)
        self._patience = settings.patience_seconds
        known = public_keys(settings, context.secrets).values()
        self._accounts = every = accounts(self._api, settings, subuser_keys, context.now, sleep)
        self._campaigns = Campaigns(self._api, settings)
        self._subusers = SubuserCampaigns(every, settings) if settings.subusers else None
        self._webhooks = Webhooks(every, known)
        self._inspection = Inspection(every, settings, known)

    def sync(self, changes: Iterable[ContactChange]) -> Iterator[SyncReport]:
        """Take out, upsert, read back. Confirmed is who stands in exactly the desired lists, with both fields.

        Rejected: addresses that SendGrid refused, that did not appear within about a minute of the import's end, or
        that are longer than the 100 characters its lookup takes. That an empty field clears the one at SendGrid is
        unconfirmed; where it does not, the read-back differs and the recipient is rejected.

        Raises:
            ProviderError: SendGrid is out of reach, refused, or did not finish in time. What was not reported before
                is not known to stand.
        """
        return Run(self._api, self._directory, self._purposes).reports(changes)

    @property
    def calls(self) -> int:
        """The HTTP requests that the calling thread has made so far, repeated ones included."""
        return sum(account.api.calls for account in self._accounts)

    def minimum_calls(self, tally: Tally) -> int:
        """See ``connectors.sendgrid.sync.minimum_calls``."""
        return minimum_calls(tally)

    def read_back(self) -> Iterator[Member]:
        """Every member of the consent lists, by an export of each list.

        Raises:
            ProviderError: SendGrid is out of reach, or an export failed, is incomplete or cannot be read.
        """
        self._directory.refresh()
        lists = self._directory.lists(self._purposes)
        exports = Exports(self._api)
        members: dict[str, frozenset[PurposeId]] = {}
        alike: dict[frozenset[PurposeId], frozenset[PurposeId]] = {}  # millions of members share a few sets
        for purpose, list_id in lists.items():
            for address, _row in exports.rows(list_id):
                purposes = members.get(address, frozenset()) | {purpose}
                members[address] = alike.setdefault(purposes, purposes)
        for address, purposes in members.items():
            yield Member(address, purposes)

    def erase(self, contacts: Sequence[Contact]) -> Erasure:
        """See ``Eraser.erase``. Suppressions are kept.

        Also in the two subusers, where the halves of campaigns stand as contacts: SendGrid's erasure of an account
        does not reach its subusers. Pending is who is not seen to be erased in one of them.
        """
        done = [
            Eraser(account.api, Contacts(account.api, self._directory), self._patience).erase(contacts)
            for account in self._accounts
        ]
        pending = frozenset[RecipientId]().union(*(erasure.pending for erasure in done))
        erased = frozenset(contact.recipient for contact in contacts) - pending
        return Erasure(erased, pending, sum(erasure.api_calls for erasure in done))

    def part_size(self, campaign: Campaign) -> int | None:
        """1,000 recipients a request by Mail Send; None where two Single Sends take a half each."""
        return self._sender(campaign).part_size()

    def plan(self, campaign: Campaign, halves: Halves) -> Plan:
        """See ``Campaigns.plan`` and ``SubuserCampaigns.plan``."""
        return self._sender(campaign).plan(campaign, halves)

    def apply(self, plan: Plan, addressees: Callable[[], Iterator[Addressee]]) -> AppliedPlan:
        """See ``Campaigns.apply`` and ``SubuserCampaigns.apply``."""
        return self._sender(plan.campaign).apply(plan, addressees)

    def release(
        self, campaign: Campaign, applied: AppliedPlan, parts: Iterable[Part], journal: SendJournal
    ) -> ReleaseReport:
        """See ``Campaigns.release`` and ``SubuserCampaigns.release``."""
        return self._sender(campaign).release(campaign, applied, parts, journal)

    def inspect(self, webhook_url: str, topics: Collection[str]) -> Iterator[Finding]:
        """See ``Inspection``."""
        return self._inspection.findings(webhook_url, topics)

    def webhooks(self) -> Sequence[Webhook]:
        """See ``Webhooks.all``."""
        return self._webhooks.all()

    def install_webhook(self, url: str) -> Installed:
        """See ``Webhooks.install``."""
        return self._webhooks.install(url)

    def rotate_webhook(self, url: str) -> Installed:
        """See ``Webhooks.rotate``."""
        return self._webhooks.rotate(url)

    def remove_webhook(self, url: str) -> bool:
        """See ``Webhooks.remove``."""
        return self._webhooks.remove(url)

    def _sender(self, campaign: Campaign) -> Campaigns | SubuserCampaigns:
        """Who sends a campaign: ``content.via`` is ``mail_send`` unless it says ``subusers``."""
        via = campaign.content.get("via", MAIL_SEND)
        if via == MAIL_SEND:
            return self._campaigns
        if via == SUBUSERS and self._subusers:
            return self._subusers
        where = f"campaign {campaign.id}: content.via"
        if via == SUBUSERS:
            raise PlanError(f"{where}: name two subusers under providers.{NAME}.subusers first")
        raise PlanError(f"{where}: SendGrid knows {MAIL_SEND} and {SUBUSERS}")
