"""Erasing a person: at every ESP first, then here. The nameless entries of the ledger stay, as proof.

An erasure is not how a withdrawal is carried out: some ESPs never take an erased address back. What was agreed to is
withdrawn first, so that nothing is tracked while an ESP is still at it, nor if the address ever comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from core.dead_letters import Forgotten, Post
from core.ledger import Ledger, Recording
from core.model import Action, ConsentEvent, Contact, RecipientId
from core.ports import Clock, Connector
from core.records import AddressBook, Records

SOURCE = "erasure"


@dataclass(frozen=True, slots=True)
class Erased:
    """What became of an erasure.

    Attributes:
        known: Whether the address was held here.
        providers: For each ESP, whether it has erased the person (else: not yet).
        letters: What became of callbacks that could not be understood and named the person.
        opens: How many opens of the person were on record, and are no more.
    """

    known: bool
    providers: Mapping[str, bool]
    letters: Forgotten
    opens: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing but nameless proof is left."""
        return all(self.providers.values()) and not self.letters.shared


@dataclass(frozen=True, slots=True)
class Erasing:
    """Erases people.

    Attributes:
        forget_opens: Deletes what is on record of a person's opens; answers how many there were.
    """

    ledger: Ledger
    book: AddressBook
    records: Records
    post: Post
    forget_opens: Callable[[RecipientId], int]
    now: Clock

    def erase(self, recipient: RecipientId, address: str, connectors: Mapping[str, Connector]) -> Erased:
        """Erase one person; until every ESP has, the address stays here, so that it can be run again.

        Opens and dead letters about the person go at once: nothing needs them any more.

        Raises:
            ProviderError: an ESP is out of reach or refuses; run it again.
            StoreError: the store is out of reach.
        """
        self._withdraw(recipient)
        opens = self.forget_opens(recipient)
        letters = self.post.forget(address)
        known = recipient in self.book.get([recipient])
        contact = Contact(recipient, address)
        done = {name: recipient in connector.erase([contact]).erased for name, connector in connectors.items()}
        for name, gone in done.items():
            if gone:
                self.records.forget_held(name, [recipient])
        if all(done.values()):
            self.book.erase(recipient)
        return Erased(known, done, letters, opens)

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
