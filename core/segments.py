"""Segments: who belongs to a purpose by the ledger, what the ESPs were last seen to hold, and the difference."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from core.consent import given
from core.links import Links, carried
from core.model import ContactChange, PurposeId, RecipientId, SyncReport
from core.policy import Policy
from core.ports import AddressBook, Clock, Confirmed, Connector, LedgerStore, Progress, Records

PAGE = 10_000
"""Contacts that are compared, and handed to a connector, at once."""

BookRow = tuple[RecipientId, str, str | None]
"""A recipient with address and locale."""


def pages(book: AddressBook) -> Iterator[list[BookRow]]:
    """An address book, page by page in the order of recipients."""
    last = None
    while page := book.scan(last, PAGE):
        yield page
        last = page[-1][0]


@dataclass(frozen=True, slots=True)
class Sync:
    """What came of a synchronisation with one ESP.

    Attributes:
        desired: Contacts that should stand at the ESP.
        confirmed: Contacts whose change the ESP took.
        added: Memberships of segments that were added.
        removed: Memberships that were taken away.
        rejected: Recipients that the ESP did not take.
        api_calls: HTTP requests to the ESP.
    """

    desired: int = 0
    confirmed: int = 0
    added: int = 0
    removed: int = 0
    rejected: tuple[RecipientId, ...] = ()
    api_calls: int = 0

    def plus(self, changes: Sequence[ContactChange], report: SyncReport) -> Sync:
        """With one batch of changes and what the ESP said of it."""
        taken = [change for change in changes if change.contact.recipient in report.confirmed]
        return Sync(
            desired=self.desired,
            confirmed=self.confirmed + len(taken),
            added=self.added + sum(len(change.added) for change in taken),
            removed=self.removed + sum(len(change.removed) for change in taken),
            rejected=(*self.rejected, *sorted(report.rejected)),
            api_calls=self.api_calls + report.api_calls,
        )


@dataclass(frozen=True, slots=True)
class Segments:
    """Compares the ledger with what the ESPs hold.

    Attributes:
        purposes: The purposes for which the team keeps segments.
    """

    store: LedgerStore
    book: AddressBook
    records: Records
    policy: Policy
    purposes: tuple[PurposeId, ...]
    links: Links
    now: Clock

    def sync(self, provider: str, connector: Connector, progress: Progress = lambda _: None) -> Sync:
        """Bring an ESP up to date, withdrawals first; what it confirmed is noted batch by batch.

        Whatever interrupts this, the next run goes on with what is not confirmed yet.

        Raises:
            ProviderError: the ESP is out of reach or refuses.
        """
        total = Sync(desired=self.book.count())
        for removing in (True, False):
            for page in self.pages():
                changes = [c for c in self.changes(provider, page) if bool(c.removed) is removing]
                total = self._push(provider, connector, changes, total)
                if not removing:
                    progress(len(page))
        return total

    def push(self, provider: str, connector: Connector, recipients: Collection[RecipientId]) -> Sync:
        """Bring an ESP up to date about these recipients alone: the fast path of a withdrawal."""
        known = self.book.get(recipients)
        rows = [(recipient, *known[recipient]) for recipient in sorted(known)]
        return self._push(provider, connector, self.changes(provider, rows), Sync(desired=len(rows)))

    def pages(self) -> Iterator[list[BookRow]]:
        """The address book, page by page."""
        return pages(self.book)

    def changes(self, provider: str, rows: Sequence[BookRow]) -> list[ContactChange]:
        """What differs between the ledger and the ESP for these contacts."""
        recipients = [row[0] for row in rows]
        heads = self.store.heads(recipients)
        held = self.records.confirmed(provider, recipients)
        now, changes = self.now(), []
        for recipient, address, locale in rows:
            head = heads.get(recipient)
            desired = frozenset(given(head.standings, self.purposes, now, self.policy)) if head else frozenset()
            path = self.links.pixel_path(recipient) if desired else ""
            contact = self.links.contact(recipient, address, locale, pixel_path=path)
            known = held.get(recipient, Confirmed())
            if known != Confirmed(desired, carried(contact)):
                certain = known.purposes if known.carried else known.purposes - desired
                changes.append(ContactChange(contact, desired, certain))
        return changes

    def _push(self, provider: str, connector: Connector, changes: Sequence[ContactChange], total: Sync) -> Sync:
        if not changes:
            return total
        # From here on the ESP may hold either, whatever becomes of the answer. Without a note of that, nobody would
        # take out whoever withdraws after an addition that was never confirmed. Nothing carried marks the doubt.
        changing = [c for c in changes if c.desired != c.confirmed]
        self.records.confirm(provider, {c.contact.recipient: Confirmed(c.confirmed | c.desired) for c in changing})
        report = connector.sync(changes)
        taken = (c for c in changes if c.contact.recipient in report.confirmed)
        self.records.confirm(provider, {c.contact.recipient: Confirmed(c.desired, carried(c.contact)) for c in taken})
        return total.plus(changes, report)
