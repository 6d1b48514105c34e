"""The connector: consent lists in Marketing Campaigns, campaigns through Mail Send."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from connectors.sendgrid.api import PAUSES, Api
from connectors.sendgrid.campaigns import Campaigns
from connectors.sendgrid.contacts import LONGEST_ADDRESS, Contacts, Found, carried
from connectors.sendgrid.settings import SendGridSettings
from core.model import (
    AppliedPlan,
    Campaign,
    Contact,
    ContactChange,
    Member,
    Plan,
    PurposeId,
    RecipientId,
    ReleaseReport,
    Split,
    SyncReport,
)
from core.ports import ProviderContext, SendJournal

Changes = Mapping[str, ContactChange]
"""Changes by address."""

Lists = Mapping[PurposeId, str]
"""The ids of the consent lists by purpose."""


class SendGridConnector:
    """One SendGrid account.

    Args:
        key: The API key.
        settings: ``[providers.sendgrid]``.
        context: The purposes that the team uses, and the clock.
        sleep: How to wait, in seconds.
    """

    def __init__(
        self,
        key: str,
        settings: SendGridSettings,
        context: ProviderContext,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api = Api(key, settings, context.now, sleep)
        self._purposes = frozenset(context.purposes)
        self._contacts = Contacts(self._api, settings.list_prefix)
        self._campaigns = Campaigns(self._api, settings)

    def sync(self, changes: Sequence[ContactChange]) -> SyncReport:
        """Take out, upsert, read back. Confirmed is who stands in exactly the desired lists, with both fields.

        Rejected: addresses that SendGrid refused, that did not appear within about a minute of the import's end, or
        that are longer than the 100 characters its lookup takes. That an empty field clears the one at SendGrid is
        unconfirmed; where it does not, the read-back differs and the recipient is rejected.

        Raises:
            ProviderError: SendGrid is out of reach, refused, or did not finish in time. Nothing is confirmed then.
        """
        before = self._api.calls
        usable = {c.contact.address.lower(): c for c in changes if len(c.contact.address) <= LONGEST_ADDRESS}
        confirmed = self._synced(usable) if usable else frozenset()
        rejected = frozenset(change.contact.recipient for change in changes) - confirmed
        return SyncReport(confirmed, rejected, self._api.calls - before)

    def read_back(self) -> Iterator[Member]:
        """Every member of the consent lists, by an export of each list.

        Raises:
            ProviderError: SendGrid is out of reach, or an export failed, is incomplete or cannot be read.
        """
        members: dict[str, set[PurposeId]] = {}
        for purpose, list_id in self._contacts.lists(self._purposes).items():
            for address in self._contacts.members(list_id):
                members.setdefault(address, set()).add(purpose)
        for address, purposes in members.items():
            yield Member(address, frozenset(purposes))

    def plan(self, campaign: Campaign, split: Split) -> Plan:
        """See ``Campaigns.plan``."""
        return self._campaigns.plan(campaign, split)

    def apply(self, plan: Plan) -> AppliedPlan:
        """See ``Campaigns.apply``."""
        return self._campaigns.apply(plan)

    def release(self, plan: Plan, applied: AppliedPlan, journal: SendJournal) -> ReleaseReport:
        """See ``Campaigns.release``."""
        return self._campaigns.release(plan, applied, journal)

    def _synced(self, changes: Changes) -> frozenset[RecipientId]:
        desired = self._purposes.union(*(change.desired for change in changes.values()))
        left = frozenset[PurposeId]().union(*(change.removed for change in changes.values()))
        lists = self._contacts.lists(desired | left)
        leaving = {address: change for address, change in changes.items() if change.removed}
        self._take_out(self._contacts.lookup(leaving), leaving, lists)
        # Only now what may fail without harm to a withdrawal. A list that is only left is not created for that.
        lists |= {purpose: self._contacts.create_list(purpose) for purpose in sorted(desired - lists.keys())}
        fields = self._contacts.fields()
        self._upsert(changes, lists, fields)
        return self._confirmed(changes, lists, fields)

    def _upsert(self, changes: Changes, lists: Lists, fields: Mapping[str, str]) -> None:
        """An upsert adds all its contacts to the same lists, so they go by the purposes that they share."""
        groups: dict[frozenset[PurposeId], list[Contact]] = {}
        for change in changes.values():
            groups.setdefault(change.desired, []).append(change.contact)
        for purposes, contacts in groups.items():
            self._contacts.upsert(contacts, [lists[purpose] for purpose in purposes], fields)

    def _confirmed(self, changes: Changes, lists: Lists, fields: Mapping[str, str]) -> frozenset[RecipientId]:
        """Who stands at SendGrid as desired. Its lookup lags behind its imports, so the others are looked up again."""
        waiting = dict(changes)
        for pause in (0.0, *PAUSES, *PAUSES[-1:] * 2):
            if pause:
                self._api.sleep(pause)
            found = self._contacts.lookup(waiting)
            self._take_out(found, waiting, lists)
            for address, contact in found.items():
                if _stands(contact, waiting[address], lists, fields):
                    del waiting[address]
            if not waiting:
                break
        return frozenset(changes[address].contact.recipient for address in changes.keys() - waiting.keys())

    def _take_out(self, found: Mapping[str, Found], changes: Changes, lists: Lists) -> None:
        """Take contacts out of every consent list that they stand in without wish, known to us or not."""
        for purpose, list_id in lists.items():
            leaving = [
                contact.id
                for address, contact in found.items()
                if list_id in (contact.list_ids or ()) and purpose not in changes[address].desired
            ]
            self._contacts.take_out(list_id, leaving)


def _stands(contact: Found, change: ContactChange, lists: Lists, fields: Mapping[str, str]) -> bool:
    member_of = {purpose for purpose, list_id in lists.items() if list_id in (contact.list_ids or ())}
    has = contact.custom_fields or {}
    carries = {name: has.get(name) or has.get(fields[name]) or "" for name in fields}
    return member_of == change.desired and carries == carried(change.contact)
