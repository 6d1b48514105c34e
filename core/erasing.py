"""Erasing a person: at every ESP first, then here. The nameless entries of the ledger stay, as proof, unless asked.

An erasure is not how a withdrawal is carried out: some ESPs never take an erased address back. What was agreed to is
withdrawn first, so that nothing is tracked while an ESP is still at it, nor if the address ever comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from core.consent import Standing
from core.dead_letters import Forgotten, Post
from core.ledger import Ledger, Recording, parse
from core.model import Action, ConsentEvent, Contact, RecipientId
from core.ports import Clock, Connector, Entry
from core.records import AddressBook, Records

SOURCE = "erasure"
REMAINDER = "what was said before is erased"
"""The evidence of the one entry that is written where all others were erased."""
_MAY_RETURN = frozenset({Action.GIVEN, Action.INVALIDATED})
"""What stands, or would stand by a proof that is delivered later."""


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
        """Withdraw whatever this person agreed to, or is said to have agreed to, proven or not."""

        def open_(standing: Standing) -> bool:
            return standing.ruling is not None and standing.ruling.action in _MAY_RETURN

        _withdraw(self.ledger, recipient, open_, self.now())


@dataclass(frozen=True, slots=True)
class ErasingProofs:
    """Erases what a person's entries say, where that is asked for; nobody can prove this person's consents any more.

    Their hashes stay, so that chain, tree and checkpoints verify as before. One entry is written anew, which says no
    more than that everything is withdrawn: without it an old list could give a consent back, once the ledger was moved
    by export and import, which make the states anew from what the entries say.

    Attributes:
        erase_bodies: Erases what a person's entries say.
        forget_claims: Deletes the files that are derived from what entries say of partners' claims.
    """

    ledger: Ledger
    erase_bodies: Callable[[RecipientId], object]
    forget_claims: Callable[[], None]
    now: Clock

    def erase(self, recipient: RecipientId) -> int:
        """Erase them; answers how many entries said something. Harmless to run again.

        Raises:
            StoreError: the store is out of reach, or keeps entries for good.
        """
        said = [entry for entry in self.ledger.store.chain(recipient) if entry.body]
        if len(said) == 1 and is_remainder(said[0]):
            return 0
        if said:
            self.erase_bodies(recipient)
        self.forget_claims()
        _withdraw(
            self.ledger, recipient, lambda standing: bool(standing.decision or standing.claim), self.now(), REMAINDER
        )
        return len(said)


def is_remainder(entry: Entry) -> bool:
    """Whether an entry is the one that stands for all that were erased; raises StoreError when it cannot be read."""
    body = parse(entry.body)
    return (body.source, body.evidence) == (SOURCE, REMAINDER)


def _withdraw(
    ledger: Ledger,
    recipient: RecipientId,
    wanted: Callable[[Standing], bool],
    now: datetime,
    evidence: str | None = None,
) -> None:
    """Withdraw the purposes of which the standing is such a one."""
    head = ledger.store.heads([recipient]).get(recipient)
    standings = sorted(head.standings.items()) if head else []
    purposes = tuple(purpose for purpose, standing in standings if wanted(standing))
    if purposes:
        event = ConsentEvent(recipient, purposes, Action.WITHDRAWN, now, now, SOURCE, evidence=evidence)
        ledger.record([Recording(event)])
