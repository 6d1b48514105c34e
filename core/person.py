"""All that is held about one person: the right of access (GDPR article 15), and where somebody stands.

A person is looked up by pseudonym. The address itself is never told, only masked: a link may have been forwarded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from core.addresses import masked
from core.consent import UNKNOWN, Standings, basis_of
from core.ledger import Instant
from core.model import EPOCH, Basis, PixelMode, PurposeId, RecipientId, State
from core.policy import Policy
from core.ports import Clock, LedgerStore
from core.receipts import LedgerEntry, of_a_person, said
from core.records import AddressBook, Mailings, Readings, Records


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Where a person stands on one purpose, on which legal basis, since when and by whose word.

    ``since`` and ``source``: None when nothing is known, or when it is not known when it happened.
    """

    purpose: PurposeId
    state: State
    basis: Basis
    since: Instant | None
    source: str | None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One open on record: of which campaign, when, what it may serve, by whom it was seen and through what.

    ``client``: the family of what fetched the image; ``machine``: whether no person needs to have been there.
    """

    campaign: str
    opened_at: Instant
    serves: tuple[PurposeId, ...]
    source: str
    machine: bool
    client: str


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign in which the person was to get a mail, which pixel, and why. ``sent``: it has left as a whole."""

    campaign: str
    sent: bool
    mode: PixelMode
    basis: Basis
    reason: str


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What an ESP was last seen to hold. ``certain``: False while the outcome of a call is not known.

    ``segments``: the purposes for which it has the person in a segment, ``to-ask`` among them. ``refused``: it did not
    take the contact when it was last asked.
    """

    provider: str
    segments: tuple[PurposeId, ...]
    certain: bool
    refused: bool


class PersonRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is held about one person, as of ``as_of``.

    ``address``: masked, or None when nobody holds it. ``unread``: reports of ESPs that name the address and could not
    be read, so that they took no effect yet.
    """

    recipient: str
    as_of: Instant
    address: str | None
    locale: str | None
    purposes: tuple[Where, ...]
    entries: tuple[LedgerEntry, ...]
    opens: tuple[Seen, ...]
    mailings: tuple[Received, ...]
    providers: tuple[Held, ...]
    unread: int

    @property
    def known(self) -> bool:
        """Whether anything is held."""
        return bool(self.address or self.entries or self.opens or self.mailings or self.providers or self.unread)


@dataclass(frozen=True, slots=True)
class People:
    """Tells what is held.

    Attributes:
        providers: The configured ESPs.
        letters: How many unread reports name a normalised address.
    """

    store: LedgerStore
    book: AddressBook
    records: Records
    mailings: Mailings
    readings: Readings
    policy: Policy
    providers: Sequence[str]
    letters: Callable[[str], int]
    now: Clock

    def record(self, recipient: RecipientId) -> PersonRecord:
        """Everything about one person; of somebody unknown, a record in which nothing stands.

        Raises:
            StoreError: a store is out of reach or damaged.
        """
        address, locale = self.book.get([recipient]).get(recipient, (None, None))
        chain = self.store.chain(recipient)
        return PersonRecord(
            recipient=recipient.hex(),
            as_of=self.now(),
            address=masked(address) if address else None,
            locale=locale,
            purposes=self.where(recipient),
            entries=tuple(said(entry) for entry in chain if entry.body) if of_a_person(chain) else (),
            opens=self._opens(recipient),
            mailings=self._mailings(recipient),
            providers=self._held(recipient),
            unread=self.letters(address) if address else 0,
        )

    def where(self, recipient: RecipientId) -> tuple[Where, ...]:
        """Where somebody stands, purpose by purpose of the policy; raises StoreError."""
        head = self.store.heads([recipient]).get(recipient)
        return where(head.standings if head else {}, self.now(), self.policy)

    def known(self, recipients: Sequence[RecipientId]) -> set[RecipientId]:
        """Those of whom an address or an entry is held; raises StoreError."""
        return {*self.book.get(recipients), *self.store.heads(recipients)}

    def _opens(self, recipient: RecipientId) -> tuple[Seen, ...]:
        return tuple(
            Seen(
                campaign=each.campaign,
                opened_at=each.opened_at,
                serves=each.serves,
                source=each.source,
                machine=each.machine,
                client=each.client,
            )
            for each in self.readings.opens_of(recipient)
        )

    def _mailings(self, recipient: RecipientId) -> tuple[Received, ...]:
        campaigns = self.mailings.campaigns()
        choices = self.readings.choices_of(recipient, [record.edition for record in campaigns])
        return tuple(
            Received(
                campaign=record.campaign.id,
                sent=record.sent,
                mode=choice.mode,
                basis=choice.basis,
                reason=choice.reason,
            )
            for record in campaigns
            if (choice := choices.get(record.edition))
        )

    def _held(self, recipient: RecipientId) -> tuple[Held, ...]:
        found = ((name, self.records.confirmed(name, [recipient]).get(recipient)) for name in self.providers)
        return tuple(
            Held(provider=name, segments=tuple(sorted(c.purposes)), certain=not c.mark, refused=c.refused)
            for name, c in found
            if c is not None
        )


def where(standings: Standings, now: datetime, policy: Policy) -> tuple[Where, ...]:
    """What standings amount to, for every purpose of the policy."""
    found = []
    for purpose in policy.purposes:
        standing = standings.get(purpose.id, UNKNOWN)
        state, ruling = standing.state(now, policy), standing.ruling
        found.append(
            Where(
                purpose=purpose.id,
                state=state,
                basis=Basis.EXEMPT if purpose.exempt else basis_of(state),
                since=ruling.at if ruling and ruling.at > EPOCH else None,
                source=ruling.source if ruling else None,
            )
        )
    return tuple(found)
