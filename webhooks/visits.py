"""Who comes by a recipient's own link, and what the pages behind it need of the domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from core.model import NoticeRef, PurposeId, RecipientId, State
from core.person import PersonRecord
from core.receipts import Receipt

DECIDED = frozenset({State.GIVEN, State.REFUSED, State.WITHDRAWN, State.OBJECTED})


@dataclass(frozen=True, slots=True)
class Visit:
    """Who came by a link, and where that person stands.

    Attributes:
        token: The link's last part: the pages lead to one another by it.
        masked_address: None once the address was erased.
        entries: How many entries the ledger has of this person. A form carries it: of two forms that say the same
            and were made of the same page, one is a repetition.
    """

    recipient: RecipientId
    token: str = field(repr=False)
    masked_address: str | None = field(repr=False)
    locale: str | None
    states: Mapping[PurposeId, State]
    entries: int = 0

    @property
    def decided(self) -> bool:
        """Whether this person has said anything that stands."""
        return any(state in DECIDED for state in self.states.values())


@dataclass(frozen=True, slots=True)
class Statement:
    """What a person answered on a page.

    Attributes:
        given: The purposes agreed to.
        refused: Those that were not.
        notice: What was shown, and by which build of the page.
        text: The exact text of it.
        seen: How many entries the ledger had when the page was made (``Visit.entries``); None where it does not say.
    """

    given: Sequence[PurposeId]
    refused: Sequence[PurposeId]
    notice: NoticeRef
    text: str
    seen: int | None


class Choices(Protocol):
    """What the pages need of the domain. Each method raises StoreError when the store is out of reach."""

    async def visit(self, token: str) -> Visit:
        """The recipient behind a link; raises TokenError when it was altered, is foreign or revoked."""
        ...

    async def knows_build(self, build: str) -> bool:
        """Whether a page of that build was ever served, so that it can be said what it looked like."""
        ...

    async def record(self, visit: Visit, statement: Statement) -> None:
        """Note a choice for all purposes of the notice; durable when it returns, and seen by the next visit.

        The same form sent twice within moments (a double click, a request that was sent again) is noted once.
        """
        ...

    async def withdraw(self, visit: Visit, notice: NoticeRef | None, seen: int | None) -> None:
        """Withdraw every purpose; durable when it returns. ``notice`` is None when it is not known what was shown.

        Sent twice within moments it is noted once, unless anything was agreed to in between.
        """
        ...

    async def receipts(self, visit: Visit) -> Sequence[Receipt]:
        """The receipts of what the person decided last: one for each entry of it; none without a decision."""
        ...

    async def person(self, visit: Visit) -> PersonRecord:
        """All that is held about the person."""
        ...
