"""Erasing a person: at every ESP first, then here. The nameless entries of the ledger stay, as proof.

An erasure is not how a withdrawal is carried out: some ESPs never take an erased address back. What was agreed to is
withdrawn first, so that nothing is tracked while an ESP is still at it, nor if the address ever comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.ledger import Ledger, Recording
from core.model import Action, ConsentEvent, Contact, RecipientId
from core.ports import Clock, Connector
from core.records import AddressBook, Records

SOURCE = "erasure"


@dataclass(frozen=True, slots=True)
class Erased:
    """What became of an erasure. ``providers``: for each ESP, whether it has erased the person (else: not yet)."""

    known: bool
    providers: Mapping[str, bool]

    @property
    def complete(self) -> bool:
        """Whether nothing but nameless proof is left."""
        return all(self.providers.values())


@dataclass(frozen=True, slots=True)
class Erasing:
    """Erases people."""

    ledger: Ledger
    book: AddressBook
    records: Records
    now: Clock

    def erase(self, recipient: RecipientId, address: str, connectors: Mapping[str, Connector]) -> Erased:
        """Erase one person; until every ESP has, the address stays here, so that it can be run again.

        Raises:
            ProviderError: an ESP is out of reach or refuses; run it again.
            StoreError: the store is out of reach.
        """
        self._withdraw(recipient)
        known = recipient in self.book.get([recipient])
        contact = Contact(recipient, address)
        done = {name: recipient in connector.erase([contact]).erased for name, connector in connectors.items()}
        for name, gone in done.items():
            if gone:
                self.records.forget_held(name, [recipient])
        erased = Erased(known, done)
        if erased.complete:
            self.book.erase(recipient)
        return erased

    def _withdraw(self, recipient: RecipientId) -> None:
        """Withdraw whatever this person agreed to, or is said to have agreed to."""
        head = self.ledger.store.heads([recipient]).get(recipient)
        standings = head.standings if head else {}
        open_purposes = tuple(
            purpose
            for purpose, standing in sorted(standings.items())
            if standing.ruling and standing.ruling.action is Action.GIVEN
        )
        if open_purposes:
            now = self.now()
            event = ConsentEvent(recipient, open_purposes, Action.WITHDRAWN, now, now, SOURCE)
            self.ledger.record([Recording(event)])
