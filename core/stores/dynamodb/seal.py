"""The seal over all entries that have a position: the same as on SQLite, as one item of the state table."""

from __future__ import annotations

import hmac

from core.errors import StoreError
from core.merkle import Frontier
from core.stores.dynamodb.table import Condition, Item, Put, Table, number, raw

KEY = ("seal", "seal")


class Seal:
    """Reads and writes it.

    Args:
        state: The table.
        key: Authenticates it; whoever lacks it cannot alter the ledger unnoticed.
    """

    def __init__(self, state: Table, key: bytes) -> None:
        self._state = state
        self._key = key

    def read(self) -> Frontier:
        """The tree as it was sealed; raises StoreError when the seal is not genuine."""
        return self._genuine(self._state.get(*KEY))

    def growing(self) -> tuple[Frontier, Condition]:
        """The tree as it was sealed, and what holds as long as it has not grown."""
        item = self._state.get(*KEY)
        tree = self._genuine(item)
        if item is None:
            return tree, Condition.absent()
        return tree, Condition.all_of(Condition.equals("size", tree.size), Condition.equals("mac", raw(item, "mac")))

    def put(self, tree: Frontier, condition: Condition) -> Put:
        """The write that seals a tree."""
        pk, sk = KEY
        item: Item = {"pk": pk, "sk": sk, "size": tree.size, "peaks": tree.to_bytes(), "mac": self._mac(tree)}
        return Put(self._state.name, item, condition)

    def _genuine(self, item: Item | None) -> Frontier:
        if item is None:
            return Frontier()
        try:
            tree = Frontier.from_bytes(number(item, "size"), raw(item, "peaks"))
        except ValueError:
            raise StoreError("the ledger's seal is damaged: see `pixelproof ledger verify`") from None
        if not hmac.compare_digest(self._mac(tree), raw(item, "mac")):
            raise StoreError(
                "the ledger's seal does not fit: PIXELPROOF_LEDGER_KEY is not the key that this ledger was written"
                " with, or the table was altered: see `pixelproof ledger verify`"
            )
        return tree

    def _mac(self, tree: Frontier) -> bytes:
        return hmac.digest(self._key, b"pixelproof seal v1\n%d\n%s" % (tree.size, tree.root), "sha256")
