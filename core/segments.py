"""Segments: who belongs to a purpose by the ledger, what the ESPs were last seen to hold, and the difference.

The ledger is its own journal of what may have changed: since a sync that came to its end, only those whose chains
grew, who came into the address book, or about whom an ESP's answer was lost can differ. So a sync looks at these alone,
however many people there are. Once a day, and whenever a setting that matters changed, it compares everybody: then
also what time alone does is seen (a consent that expired, somebody who may be asked again).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from heapq import merge
from itertools import groupby

from core.addresses import RECIPIENT_BYTES
from core.batches import batched
from core.consent import given, may_be_asked
from core.links import Links
from core.model import TO_ASK, Contact, ContactChange, PurposeId, RecipientId, SyncReport
from core.policy import Policy
from core.ports import Clock, Connector, LedgerStore, Progress
from core.records import AddressBook, Confirmed, Records, SyncState
from core.tally import Tally

PAGE = 10_000
"""Contacts that are compared at once, and whose outcome at an ESP is noted at once."""
COMPLETE_EVERY = timedelta(days=1)
"""After so long everybody is compared again."""
ROUNDS = 3
"""How often those are tried again about whom two calls crossed."""

BookRow = tuple[RecipientId, str, str | None]
"""A recipient with address and locale."""

_Sets = tuple[frozenset[PurposeId], frozenset[PurposeId]]
"""What is desired of a contact and what was confirmed."""


def pages(book: AddressBook) -> Iterator[list[BookRow]]:
    """An address book, page by page in the order of recipients."""
    last = None
    while page := book.scan(last, PAGE):
        yield page
        last = page[-1][0]


class Recipients:
    """Many recipients in little memory: 16 bytes each."""

    def __init__(self, recipients: Iterable[RecipientId] = ()) -> None:
        self._packed = bytearray(b"".join(recipients))

    def __len__(self) -> int:
        return len(self._packed) // RECIPIENT_BYTES

    def add(self, recipient: RecipientId) -> None:
        """Add one."""
        self._packed += recipient

    def pages(self) -> Iterator[list[RecipientId]]:
        """All of them, page by page, in the order in which they were added."""
        step = RECIPIENT_BYTES
        for start in range(0, len(self._packed), PAGE * step):
            page = self._packed[start : start + PAGE * step]
            yield [RecipientId(bytes(page[at : at + step])) for at in range(0, len(page), step)]


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
        minimum_calls: The fewest with which these changes can be written, without those that read back.
        resumed: Contacts whose outcome an earlier run had left open.
    """

    desired: int = 0
    confirmed: int = 0
    added: int = 0
    removed: int = 0
    rejected: tuple[RecipientId, ...] = ()
    api_calls: int = 0
    minimum_calls: int = 0
    resumed: int = 0

    def plus(self, other: Sync) -> Sync:
        """Both together; of ``desired`` and ``resumed`` this one's."""
        return replace(
            self,
            confirmed=self.confirmed + other.confirmed,
            added=self.added + other.added,
            removed=self.removed + other.removed,
            rejected=(*self.rejected, *other.rejected),
            api_calls=self.api_calls + other.api_calls,
            minimum_calls=self.minimum_calls + other.minimum_calls,
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

    def sync(
        self, provider: str, connector: Connector, progress: Progress = lambda _: None, *, complete: bool = False
    ) -> Sync:
        """Bring an ESP up to date, withdrawals first; what it confirmed is noted as it comes.

        Whatever interrupts this, the next run goes on with what is not confirmed yet. ``complete``: compare everybody,
        and not only those about whom something happened since the last sync.

        Raises:
            ProviderError: the ESP is out of reach or refuses.
        """
        state, looks = self._begin(provider, complete=complete)
        calls = connector.calls
        done = Sync(desired=self.book.count(), resumed=self._in_doubt(provider))
        for rows in looks:
            later = Recipients()
            for changes in (self._withdrawing(provider, rows, later), self._others(provider, later, progress)):
                done = done.plus(self.carry_out(provider, connector, changes))
        self.records.save_sync_state(provider, state)
        return replace(done, api_calls=connector.calls - calls)

    def plan(self, provider: str, connector: Connector, progress: Progress = lambda _: None) -> Sync:
        """What a sync would do, and in how many calls at least. Changes nothing, asks the ESP nothing."""
        _, looks = self._begin(provider, complete=False)
        first, then = Tally(), Tally()
        for rows in looks[-1]:
            for change in self.changes(provider, rows, linked=False):
                (first if change.withdrawing else then).add(change)
            progress(len(rows))
        return Sync(
            desired=self.book.count(),
            added=first.added.total() + then.added.total(),
            removed=first.removed.total() + then.removed.total(),
            minimum_calls=connector.minimum_calls(first) + connector.minimum_calls(then),
            resumed=self._in_doubt(provider),
        )

    def push(self, provider: str, connector: Connector, recipients: Collection[RecipientId]) -> Sync:
        """Bring an ESP up to date about these recipients alone: the fast path of a withdrawal."""
        calls = connector.calls
        (rows,) = self._rows([sorted(recipients)])
        done = self.carry_out(provider, connector, iter(self.changes(provider, rows)))
        return replace(done, desired=len(rows), api_calls=connector.calls - calls)

    def changes(self, provider: str, rows: Sequence[BookRow], *, linked: bool = True) -> list[ContactChange]:
        """What differs between the ledger and the ESP for these contacts.

        ``linked``: with their links, which take longer to make than all the rest.
        """
        recipients = [row[0] for row in rows]
        heads = self.store.heads(recipients)
        held = self.records.confirmed(provider, recipients)
        now, settings, unknown, changes = self.now(), self._settings(), Confirmed(), []
        for recipient, address, locale in rows:
            head = heads.get(recipient)
            standings = head.standings if head else {}
            agreed = given(standings, self.purposes, now, self.policy)
            asking = may_be_asked(standings, self.purposes, now, self.policy)
            desired = _set_of((*agreed, TO_ASK) if asking else agreed)
            known = held.get(recipient, unknown)
            if known.purposes != desired or known.carried != settings or known.mark:
                contact = Contact(recipient, address, locale)
                if linked:
                    path = self.links.pixel_path(recipient) if agreed else ""
                    contact = self.links.contact(recipient, address, locale, pixel_path=path)
                certain = known.purposes - desired if known.mark else known.purposes
                doubtful = bool(known.mark) and not known.refused
                changes.append(ContactChange(contact, desired, certain, doubtful))
        return changes

    # Whom to look at

    def _begin(self, provider: str, *, complete: bool) -> tuple[SyncState, list[Iterator[list[BookRow]]]]:
        """Where a sync that ends well will have come to, and whom it looks at: those about whom something happened.

        Where everybody is compared, that comes after: no withdrawal waits for it. The last look covers all others.
        """
        last, now = self.records.sync_state(provider), self.now()
        state = SyncState(self.store.size(), self.book.arrivals(), self._settings(), now)
        if last is None:
            return state, [pages(self.book)]
        touched = self.store.touched(last.position, state.position)
        arrived = self.book.arrived(last.arrivals, state.arrivals)
        pending = (recipient for recipient, _ in self.records.pending(provider))
        candidates = Recipients(recipient for recipient, _ in groupby(merge(touched, arrived, pending)))
        looks = [self._rows(candidates.pages())]
        if complete or self._everybody(last, now):
            return state, [*looks, pages(self.book)]
        return replace(state, complete_at=last.complete_at), looks

    def _everybody(self, last: SyncState, now: datetime) -> bool:
        expiring = self.policy.consent_lasts_days is not None
        return expiring or last.settings != self._settings() or last.complete_at + COMPLETE_EVERY <= now

    def _rows(self, recipients: Iterable[Sequence[RecipientId]]) -> Iterator[list[BookRow]]:
        """Those of the recipients whose address is known."""
        for page in recipients:
            known = self.book.get(page)
            yield [(recipient, *known[recipient]) for recipient in dict.fromkeys(page) if recipient in known]

    def _withdrawing(
        self, provider: str, rows: Iterable[Sequence[BookRow]], later: Recipients
    ) -> Iterator[ContactChange]:
        """The changes that stop some tracking; who else differs is put into ``later``."""
        for page in rows:
            for change in self.changes(provider, page):
                if change.withdrawing:
                    yield change
                else:
                    later.add(change.contact.recipient)

    def _others(self, provider: str, recipients: Recipients, progress: Progress) -> Iterator[ContactChange]:
        for page in self._rows(recipients.pages()):
            yield from self.changes(provider, page)
            progress(len(page))

    def _in_doubt(self, provider: str) -> int:
        return sum(not known.refused for _, known in self.records.pending(provider))

    def _settings(self) -> bytes:
        """A digest of what decides on everybody's segments and fields, besides their own choices."""
        link = self.links.choices_url(RecipientId(bytes(RECIPIENT_BYTES)))  # tells the address and the key in use
        return sha256(f"{link}\n{self.policy.id}\n{' '.join(self.purposes)}".encode()).digest()[:8]

    # What becomes of it

    def carry_out(self, provider: str, connector: Connector, changes: Iterator[ContactChange]) -> Sync:
        """Have the ESP carry changes out; those about whom another call came in between, once more."""
        total = Sync()
        for _ in range(ROUNDS):
            run = _Run(self.records, provider, self._settings())
            for report in connector.sync(run.noted(changes)):
                run.note(report)
            total = total.plus(run.result(connector.minimum_calls(run.tally)))
            if not run.crossed:
                break
            (rows,) = self._rows([sorted(run.crossed)])
            changes = iter(self.changes(provider, rows))
        return total


@lru_cache(maxsize=4_096)
def _set_of(purposes: tuple[PurposeId, ...]) -> frozenset[PurposeId]:
    """The same set each time: few differ among millions of people."""
    return frozenset(purposes)


@dataclass(slots=True)
class _Run:
    """One stream of changes to an ESP, and the notes that outlast it.

    Attributes:
        crossed: Recipients about whom another call came in between, so that nobody knows what the ESP holds.
    """

    records: Records
    provider: str
    settings: bytes
    tally: Tally = field(default_factory=Tally)
    crossed: set[RecipientId] = field(default_factory=set)
    done: Sync = Sync()
    _open: dict[RecipientId, tuple[_Sets, int]] = field(default_factory=dict)
    _sets: dict[_Sets, _Sets] = field(default_factory=dict)

    def noted(self, changes: Iterator[ContactChange]) -> Iterator[ContactChange]:
        """The changes, each noted before the ESP hears of it.

        From then on the ESP may hold either, whatever becomes of the answer. Without a note of that, nobody would take
        out whoever withdraws after an addition that was never confirmed.
        """
        for page in batched(changes, PAGE):
            rows = {c.contact.recipient: c.confirmed | c.desired for c in page}
            mark = self.records.doubt(self.provider, rows)
            for change in page:
                sets = (change.desired, change.confirmed)
                self._open[change.contact.recipient] = (self._sets.setdefault(sets, sets), mark)
                self.tally.add(change)
            yield from page

    def note(self, report: SyncReport) -> None:
        """Note what the ESP was seen to hold, or not to take."""
        for recipients, refused in ((report.confirmed, False), (report.rejected, True)):
            by_mark: dict[int, dict[RecipientId, Confirmed]] = {}
            for recipient in recipients:
                (desired, confirmed), mark = self._open[recipient]
                row = Confirmed(desired, self.settings)
                if refused:
                    row = Confirmed(confirmed | desired, b"", mark, refused=True)
                by_mark.setdefault(mark, {})[recipient] = row
            for mark, rows in by_mark.items():
                self._count(rows, self.records.settle(self.provider, rows, mark))

    def result(self, minimum_calls: int) -> Sync:
        """What came of it."""
        return replace(self.done, minimum_calls=minimum_calls)

    def _count(self, rows: dict[RecipientId, Confirmed], crossed: set[RecipientId]) -> None:
        self.crossed |= crossed
        added = removed = confirmed = 0
        rejected: list[RecipientId] = []
        for recipient, row in rows.items():
            (desired, before), _ = self._open.pop(recipient)
            if row.refused:
                rejected.append(recipient)
            elif recipient not in crossed:
                confirmed, added = confirmed + 1, added + len(desired - before)
                removed += len(before - desired)
        counted = Sync(confirmed=confirmed, added=added, removed=removed, rejected=tuple(sorted(rejected)))
        self.done = self.done.plus(counted)
