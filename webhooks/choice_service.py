"""What the choices page does, on the ledger: see ``webhooks.visits.Choices``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from core.addresses import masked
from core.consent import state_of
from core.ledger import Ledger, Recording, idempotency_key
from core.model import Action, ConsentEvent, NoticeRef, PurposeId, RecipientId, State
from core.person import People, PersonRecord
from core.policy import Policy
from core.ports import Batch, Clock, Head, LedgerStore
from core.receipts import Receipt, Receipts
from core.records import AddressBook, Records
from core.stores.bundle import Writer
from core.tokens import Tokens, Use
from webhooks.page_build import is_manifest
from webhooks.visits import Statement, Visit

SOURCE = "choices-page"
REPEATED_WITHIN = timedelta(minutes=2)
"""For how long at least the same form counts as the same answer, and for at most twice as long."""

Act = tuple[Action, Sequence[PurposeId]]


@dataclass(frozen=True, slots=True)
class LedgerChoices:
    """Reads and records choices.

    Attributes:
        changed: Told of a recipient whose choice is durable, so that the ESPs hear of it.
    """

    store: LedgerStore
    ledger: Ledger
    book: AddressBook
    records: Records
    people: People
    proofs: Receipts
    writer: Writer
    tokens: Tokens
    policy: Policy
    now: Clock
    changed: Callable[[Collection[RecipientId]], None]

    async def visit(self, token: str) -> Visit:
        """Whose link this is, and where that person stands; raises TokenError or StoreError."""
        recipient = self.tokens.open(token, Use.CHOICES)
        return await asyncio.to_thread(self._visit, recipient, token)

    async def knows_build(self, build: str) -> bool:
        """Whether a page of that build was ever served; raises StoreError."""
        text = await asyncio.to_thread(self.records.notice, build)
        return text is not None and is_manifest(text)

    async def record(self, visit: Visit, statement: Statement) -> None:
        """Record a choice, purpose by purpose; durable when this returns. Raises StoreError."""
        notice = statement.notice
        if notice.sha256:
            await asyncio.to_thread(self.records.put_notice, notice.sha256, statement.text)

        def acts(head: Head | None) -> Sequence[Act]:
            withdrawn = [p for p in statement.refused if self._state(head, p) is State.GIVEN]
            never = [p for p in statement.refused if p not in withdrawn]
            return (Action.GIVEN, statement.given), (Action.REFUSED, never), (Action.WITHDRAWN, withdrawn)

        form = f"{statement.seen}|{notice.sha256}|{' '.join(statement.given)}|{' '.join(statement.refused)}"
        await self._append(visit.recipient, acts, notice, form)

    async def withdraw(self, visit: Visit, notice: NoticeRef | None, seen: int | None) -> None:
        """Withdraw everything; durable when this returns. Raises StoreError."""
        everything = [(Action.WITHDRAWN, self.policy.consent_purposes)]
        await self._append(visit.recipient, lambda _head: everything, notice, f"{seen}|withdraw")

    async def receipts(self, visit: Visit) -> Sequence[Receipt]:
        """The receipts of what the person decided last; raises StoreError."""
        return await asyncio.to_thread(self.proofs.of_last_choice, visit.recipient)

    async def person(self, visit: Visit) -> PersonRecord:
        """All that is held about the person; raises StoreError."""
        return await asyncio.to_thread(self.people.record, visit.recipient)

    def _visit(self, recipient: RecipientId, token: str) -> Visit:
        address, locale = self.book.get([recipient]).get(recipient, (None, None))
        head = self.store.heads([recipient]).get(recipient)
        return Visit(
            recipient=recipient,
            token=token,
            masked_address=masked(address) if address else None,
            locale=locale,
            states={p: self._state(head, p) for p in self.policy.consent_purposes},
            entries=head.seq if head else 0,
        )

    def _state(self, head: Head | None, purpose: PurposeId) -> State:
        return state_of(head.standings if head else {}, purpose, self.now(), self.policy)

    async def _append(
        self, recipient: RecipientId, acts: Callable[[Head | None], Sequence[Act]], notice: NoticeRef | None, form: str
    ) -> None:
        """Record what a form says in the place where it is said, unless it was said a moment ago."""

        def job(batch: Batch) -> int:
            head = batch.heads([recipient]).get(recipient)
            said = [(action, purposes) for action, purposes in acts(head) if purposes]
            keys = self._keys(recipient, form)
            if batch.seen(keys) and not self._undone(head, said):
                return 0
            batch.remember(keys)
            return self.ledger.record_in(batch, self._recordings(recipient, said, notice))

        await asyncio.wrap_future(self.writer.submit(job))
        self.changed([recipient])

    def _recordings(self, recipient: RecipientId, acts: Sequence[Act], notice: NoticeRef | None) -> Sequence[Recording]:
        now = self.now()
        return [
            Recording(
                ConsentEvent(
                    recipient=recipient,
                    purposes=tuple(purposes),
                    action=action,
                    received_at=now,
                    occurred_at=now,
                    source=SOURCE,
                    notice=notice,
                )
            )
            for action, purposes in acts
        ]

    def _undone(self, head: Head | None, acts: Sequence[Act]) -> bool:
        """Whether a form that takes consents away must count again, because one of them stands nevertheless.

        A form that gives any never does: sent again late, it would bring back what was withdrawn meanwhile.
        """
        if any(action is Action.GIVEN for action, _ in acts):
            return False
        return any(self._state(head, p) is State.GIVEN for _, purposes in acts for p in purposes)

    def _keys(self, recipient: RecipientId, form: str) -> tuple[bytes, bytes]:
        """The form's keys for this spell of time and for the next one."""
        now = self.now()
        spell = now - timedelta(seconds=now.timestamp() % REPEATED_WITHIN.total_seconds())
        text = f"{SOURCE}|{recipient.hex()}|{form}"
        return idempotency_key(text, spell), idempotency_key(text, spell + REPEATED_WITHIN)
