"""People who left, and letters about them that nobody read in time: what is deleted of both, and when.

Both live in the address book's file. What is done about a consent comes first and is durable before anything is
deleted, so that no withdrawal is lost by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from core.batches import batched
from core.consent import Standings
from core.dead_letters import DeadLetter, DeadLetters
from core.ledger import EntryBody, Ledger, Recording, idempotency_key, parse
from core.model import Action, ConsentEvent, RecipientId
from core.policy import Policy
from core.ports import LedgerStore
from core.records import AddressBook, Records
from core.retention import Purge
from core.spellings import addresses_in

SOURCE = "retention"
PAGE = 500
"""Addresses that are deleted at once."""

TAG = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
"""A recipient's pseudonym as mail carries it."""

ENDED = frozenset({Action.REFUSED, Action.WITHDRAWN, Action.OBJECTED, Action.EXPIRED, Action.INVALIDATED})
LEAVING = frozenset({Action.WITHDRAWN, Action.EXPIRED})
"""What an ESP's report of an unsubscription, a complaint or a changed address is recorded as."""


@dataclass(frozen=True, slots=True)
class LeftAddresses:
    """Addresses of people who left: whom an ESP reported to have unsubscribed, and who agreed to nothing since.

    An unsubscription from the mail is known by the ESP's report alone; who only refused the pixels still gets the mail,
    and keeps the address. Whoever an ESP still has in a segment is kept, too: the next sync needs the address.

    Attributes:
        providers: The configured ESPs.
        remove: Deletes addresses and notes how many, in one transaction; answers how many there were.
    """

    store: LedgerStore
    book: AddressBook
    records: Records
    policy: Policy
    providers: Sequence[str]
    remove: Callable[[Sequence[RecipientId], Purge], int]

    def due(self, before: datetime) -> int:
        """How many there are; raises StoreError."""
        return sum(len(page) for page in self._pages(before))

    def forget(self, purge: Purge) -> int:
        """Delete them; the nameless entries stay, so that whoever comes back has still withdrawn. Raises StoreError."""
        deleted = 0
        for page in self._pages(purge.before):
            for provider in self.providers:
                self.records.forget_held(provider, page)
            deleted += self.remove(page, purge)
        return deleted

    def _pages(self, before: datetime) -> Iterator[list[RecipientId]]:
        quiet = (r for r, head in self.store.all_heads() if self._ended(head.standings, before))
        for page in batched(quiet, PAGE):
            known = self.book.get(page)
            found = [r for r in page if r in known and self._left(r) and not self._held(r)]
            if found:
                yield found

    def _ended(self, standings: Standings, before: datetime) -> bool:
        """Whether all of it ended, and nothing at all was said since."""
        purposes = self.policy.consent_purposes
        decisions = [standings[p].decision for p in purposes if p in standings]
        if len(decisions) < len(purposes) or not all(d is not None and d.action in ENDED for d in decisions):
            return False
        marks = [m for s in standings.values() for m in (s.decision, s.claim, s.request) if m]
        return all(mark.at < before for mark in marks)

    def _left(self, recipient: RecipientId) -> bool:
        return any(self._leaves(parse(entry.body)) for entry in self.store.chain(recipient) if entry.body)

    def _leaves(self, body: EntryBody) -> bool:
        reported = body.source in self.providers and body.action in LEAVING
        return reported and set(self.policy.consent_purposes) <= set(body.purposes)

    def _held(self, recipient: RecipientId) -> bool:
        found = (self.records.confirmed(name, [recipient]).get(recipient) for name in self.providers)
        return any(c.purposes or c.mark for c in found if c)


@dataclass(frozen=True, slots=True)
class OldLetters:
    """Dead letters that waited for too long. Each may be a withdrawal, so it counts as one by all whom it names.

    As of when it was received: whoever agreed to something since has still agreed to it.

    Attributes:
        identify: Makes a recipient of a normalised address.
        remove: Deletes letters and notes how many, in one transaction; answers how many there were.
    """

    letters: DeadLetters
    ledger: Ledger
    policy: Policy
    identify: Callable[[str], RecipientId]
    remove: Callable[[Sequence[int], Purge], int]

    def due(self, before: datetime) -> int:
        """How many there are; raises StoreError."""
        return sum(letter.received_at < before for letter in self.letters.listed())

    def forget(self, purge: Purge) -> int:
        """Withdraw what those agreed to whom they name, then delete them; raises StoreError."""
        deleted = 0
        for letter in self.letters.listed():
            if letter.received_at < purge.before:
                self.ledger.record(self._withdrawals(letter))
                deleted += self.remove([letter.id], purge)
        return deleted

    def _withdrawals(self, letter: DeadLetter) -> list[Recording]:
        digest, received = sha256(letter.body).hexdigest(), letter.received_at
        named = {self.identify(address) for address in addresses_in(letter.body)} | self._tagged(letter.body)
        return [
            Recording(
                ConsentEvent(recipient, self.policy.consent_purposes, Action.WITHDRAWN, received, received, SOURCE),
                (idempotency_key(f"dead letter:{digest}:{recipient.hex()}", received),),
            )
            for recipient in sorted(named)
        ]

    def _tagged(self, body: bytes) -> set[RecipientId]:
        """Known recipients whose pseudonym, which their mail carried as a tag, stands in the body."""
        candidates = {RecipientId(bytes.fromhex(match.decode())) for match in TAG.findall(body)}
        return set(self.ledger.store.heads(candidates))
