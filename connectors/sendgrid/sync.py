"""One run of a sync: a stream of changes in, a report for each part that SendGrid has been seen to hold.

It holds some hundred thousand changes at once, however many there are: what it has read ahead, what has not filled
a request yet, and what has been sent since the last read-back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from connectors.sendgrid.api import Api
from connectors.sendgrid.contacts import LONGEST_ADDRESS, TAKEN_OUT, UPSERTED, Contacts
from connectors.sendgrid.imports import Groups, Imports
from connectors.sendgrid.lists import Directory
from connectors.sendgrid.standing import Changes, Standing
from core.batches import batched
from core.model import ContactChange, PurposeId, RecipientId, SyncReport
from core.tally import Tally

READ_AHEAD = 4 * UPSERTED
"""Changes that are read at once: their withdrawals leave together, before their additions."""

READ_BACK_AFTER = 8 * UPSERTED
"""Contacts after which what was sent is read back and reported, so that a run cut off later need not repeat it."""


def minimum_calls(tally: Tally) -> int:
    """The fewest calls that write such changes.

    An upsert takes 30,000 contacts that want the same lists (fewer when those make more than 6 MB), and a removal
    takes 100 contacts of one list. Making a list or a field that is missing, polls and read-backs come on top.
    """
    upserts = sum(math.ceil(count / UPSERTED) for count in tally.desired.values())
    return upserts + sum(math.ceil(count / TAKEN_OUT) for count in tally.removed.values())


class Run:
    """One run; not to be shared by threads.

    Args:
        api: The account.
        directory: The ids of its lists and fields.
        purposes: Those that the team uses.
    """

    def __init__(self, api: Api, directory: Directory, purposes: frozenset[PurposeId]) -> None:
        contacts = Contacts(api, directory)
        self._api = api
        self._directory = directory
        self._purposes = purposes
        self._standing = Standing(api, contacts, directory, purposes)
        self._imports = Imports(contacts, directory)
        self._groups = Groups(directory)
        self._sent: dict[str, ContactChange] = {}
        self._reported = api.calls

    def reports(self, changes: Iterable[ContactChange]) -> Iterator[SyncReport]:
        """Carry the changes out.

        Raises:
            ProviderError: SendGrid is out of reach, refused, or did not finish in time. What was not reported is not
                known to stand.
        """
        for part in batched(changes, READ_AHEAD):
            yield from self._without_sending(part)
            if len(self._sent) >= READ_BACK_AFTER:
                yield self._read_back()
        for batch in self._groups.rest():
            self._upload(*batch)
        if self._sent:
            yield self._read_back()

    def _without_sending(self, changes: list[ContactChange]) -> Iterator[SyncReport]:
        """Begin with a part, and report those of it for whom nothing must be sent."""
        usable = {c.contact.address.lower(): c for c in changes if len(c.contact.address) <= LONGEST_ADDRESS}
        refused = {c.contact.recipient for c in changes} - {c.contact.recipient for c in usable.values()}
        # Withdrawals alone at first; then what may fail, and what must be read. A list that is only left is not made.
        self._take_out(usable, withdrawing=True)
        if usable:
            self._directory.made(self._purposes.union(*{change.desired for change in usable.values()}))
        stood = self._already(usable)
        if stood or refused:
            yield self._report({usable[address].contact.recipient for address in stood}, refused)
        rest = {address: change for address, change in usable.items() if address not in stood}
        self._take_out(rest, withdrawing=False)
        for change in rest.values():
            self._gather(change)

    def _take_out(self, changes: Changes, *, withdrawing: bool) -> None:
        leaving = {a: c for a, c in changes.items() if c.removed and c.withdrawing is withdrawing}
        if leaving:
            self._standing.take_out(leaving)

    def _already(self, changes: Changes) -> set[str]:
        """Those about whom an earlier run was cut off, and who stand as desired.

        Never somebody who withdraws: an import of that run may still be waiting at SendGrid and add them again. They
        are sent, so that what is read back afterwards has come behind it. That SendGrid works on imports in the order
        in which it took them is unconfirmed.
        """
        doubtful = {a: c for a, c in changes.items() if c.doubtful and not c.withdrawing}
        return self._standing.already(doubtful) if doubtful else set()

    def _gather(self, change: ContactChange) -> None:
        batch = self._groups.add(change)
        if batch is not None:
            self._upload(*batch)

    def _upload(self, desired: frozenset[PurposeId], changes: list[ContactChange]) -> None:
        self._sent.update((change.contact.address.lower(), change) for change in changes)
        self._imports.upload((desired, changes))

    def _read_back(self) -> SyncReport:
        self._imports.settle()
        sent, self._sent = self._sent, {}
        stood = self._standing.as_desired(sent, self._imports.uncounted)
        self._imports.uncounted.clear()
        confirmed = {sent[address].contact.recipient for address in stood}
        return self._report(confirmed, {change.contact.recipient for change in sent.values()} - confirmed)

    def _report(self, confirmed: set[RecipientId], rejected: set[RecipientId]) -> SyncReport:
        before, self._reported = self._reported, self._api.calls
        return SyncReport(frozenset(confirmed), frozenset(rejected), self._reported - before)
