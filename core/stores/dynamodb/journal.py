"""The send journal on DynamoDB: see ``core.ports.SendJournal``. Whoever begins a part first is the only one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from core.errors import AmbiguousOutcome
from core.records import PartState
from core.stores.dynamodb.persisting import new_token, persist
from core.stores.dynamodb.table import Condition, Key, Put, Table, Update, text, transact


def journal_key(campaign: str, part: str) -> Key:
    """The key of a part's state, in the state table."""
    return f"journal#{campaign}", part


def not_left() -> Condition:
    """The part has not left, and nobody has begun to send it."""
    return Condition.any_of(Condition.absent(), Condition.equals("state", PartState.FAILED.value))


class DynamoSendJournal:
    """See ``core.ports.SendJournal``.

    Args:
        table: The state table.
        campaign: The campaign's id.
        sleep: How to wait, in seconds.
    """

    def __init__(self, table: Table, campaign: str, sleep: Callable[[float], None]) -> None:
        self._table = table
        self._campaign = campaign
        self._sleep = sleep

    def begin(self, part: str) -> bool:
        """Note that ``part`` is about to be sent; False when it was sent before.

        Raises:
            AmbiguousOutcome: an earlier attempt began and did not end.
            StoreError: DynamoDB is out of reach or refused; it may have been noted all the same.
        """
        return persist(partial(self._begin, part), self._sleep)

    def _begin(self, part: str) -> bool:
        state = self._state(part)
        if state is PartState.DONE:
            return False
        if state is PartState.BEGUN:
            raise AmbiguousOutcome(
                f"campaign {self._campaign}",
                f"part {part} began to be sent and nobody knows whether it left: look it up at the ESP, then say"
                f" `pixelproof campaigns settle` --sent or --not-sent",
            )
        self._note(part, PartState.BEGUN, not_left(), 1)
        return True

    def done(self, part: str) -> None:
        """Note that the ESP accepted ``part``."""
        persist(partial(self._end, part, PartState.DONE), self._sleep)

    def failed(self, part: str) -> None:
        """Note that the ESP refused ``part``."""
        persist(partial(self._end, part, PartState.FAILED), self._sleep)

    def _end(self, part: str, state: PartState) -> None:
        before = self._state(part)
        if before is state:
            return
        had_left = before in {PartState.BEGUN, PartState.DONE}
        unchanged = Condition.equals("state", before.value) if before else Condition.absent()
        self._note(part, state, unchanged, int(state is PartState.DONE) - int(had_left))

    def _state(self, part: str) -> PartState | None:
        item = self._table.get(*journal_key(self._campaign, part))
        return PartState(text(item, "state")) if item else None

    def _note(self, part: str, state: PartState, condition: Condition, more: int) -> None:
        """Write a part's state, and by how many more parts have left, in one transaction."""
        pk, sk = journal_key(self._campaign, part)
        noted = Put(self._table.name, {"pk": pk, "sk": sk, "state": state.value}, condition)
        counted = [Update(self._table.name, "campaigns", self._campaign, add={"left": more})] if more else []
        transact(self._table.client, [noted, *counted], new_token(), sleep=self._sleep)
