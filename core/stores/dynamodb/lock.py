"""What the notary signed last, in one item of the state table: for notaries on many machines."""

from __future__ import annotations

from dataclasses import dataclass

from core.stores.dynamodb.table import Condition, Item, Table, raw

_SK = "checkpoint"
_SIGNED = "signed"


@dataclass(frozen=True, slots=True)
class DynamoLock:
    """See ``core.checkpoint_lock.CheckpointLock``.

    botocore tries again what was cut off, so that a swap may be told as lost although it was carried out by an earlier
    attempt of the same call: whoever lost looks at what is there.

    Attributes:
        table: The state table.
        origin: The log's name.
    """

    table: Table
    origin: str

    def fetch(self) -> bytes | None:
        """See ``CheckpointLock``; read consistently."""
        item = self.table.get(self._pk, _SK)
        return raw(item, _SIGNED) if item else None

    def create(self, new: bytes) -> bool:
        """See ``CheckpointLock``."""
        return self.table.put(self._item(new), new=True)

    def replace(self, old: bytes, new: bytes) -> bool:
        """See ``CheckpointLock``."""
        return self.table.put(self._item(new), condition=Condition.equals(_SIGNED, old))

    def _item(self, signed: bytes) -> Item:
        return {"pk": self._pk, "sk": _SK, _SIGNED: signed}

    @property
    def _pk(self) -> str:
        return f"checkpoint#{self.origin}"
