"""What the choices page does, on the ledger: see ``webhooks.choices.Choices``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from core.addresses import masked
from core.consent import state_of
from core.ledger import Ledger, Recording
from core.model import Action, ConsentEvent, NoticeRef, PurposeId, RecipientId, State
from core.policy import Policy
from core.ports import Batch, Clock, LedgerStore
from core.records import AddressBook, Records
from core.stores.group_commit import GroupCommit
from core.tokens import Tokens, Use
from webhooks.choices import Visit

SOURCE = "choices-page"


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
    writer: GroupCommit
    tokens: Tokens
    policy: Policy
    now: Clock
    changed: Callable[[Collection[RecipientId]], None]

    async def visit(self, token: str) -> Visit:
        """Whose link this is, and where that person stands; raises TokenError or StoreError."""
        recipient = self.tokens.open(token, Use.CHOICES)
        return await asyncio.to_thread(self._visit, recipient)

    async def record(
        self,
        visit: Visit,
        given: Sequence[PurposeId],
        refused: Sequence[PurposeId],
        notice: NoticeRef,
        notice_text: str,
    ) -> None:
        """Record a choice, purpose by purpose; durable when this returns. Raises StoreError."""
        if notice.sha256:
            await asyncio.to_thread(self.records.put_notice, notice.sha256, notice_text)
        withdrawn = [p for p in refused if visit.states.get(p) is State.GIVEN]
        never = [p for p in refused if p not in withdrawn]
        acts = ((Action.GIVEN, given), (Action.REFUSED, never), (Action.WITHDRAWN, withdrawn))
        await self._append(visit.recipient, [(action, purposes) for action, purposes in acts if purposes], notice)

    async def withdraw(self, visit: Visit, notice: NoticeRef | None) -> None:
        """Withdraw everything; durable when this returns. Raises StoreError."""
        await self._append(visit.recipient, [(Action.WITHDRAWN, self.policy.consent_purposes)], notice)

    def _visit(self, recipient: RecipientId) -> Visit:
        address, locale = self.book.get([recipient]).get(recipient, (None, None))
        head = self.store.heads([recipient]).get(recipient)
        standings, now = head.standings if head else {}, self.now()
        states = {p: state_of(standings, p, now, self.policy) for p in self.policy.consent_purposes}
        return Visit(recipient, masked(address) if address else None, locale, states)

    async def _append(
        self, recipient: RecipientId, acts: Sequence[tuple[Action, Sequence[PurposeId]]], notice: NoticeRef | None
    ) -> None:
        now = self.now()
        recordings = [
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

        def job(batch: Batch) -> int:
            return self.ledger.record_in(batch, recordings)

        await asyncio.wrap_future(self.writer.submit(job))
        self.changed([recipient])
