"""The API's keys and the answers that it may have to repeat, on DynamoDB, in the state table.

A key is one item: pk ``api-key#<first digit of its id>``, sk its id; so it is read and changed as a whole. The answers
are written by the ledger's batches, and are gone once they have expired: the table's time to live deletes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import date, datetime
from functools import partial

from core.api_keys import ApiKey, Scope, Secret
from core.errors import DamagedState, HeadConflict, StoreError
from core.ports import Answered, Clock
from core.stores.dynamodb.forms import NIBBLES, answered_key, answered_of
from core.stores.dynamodb.persisting import persist
from core.stores.dynamodb.table import STATE, Client, Condition, Item, Table, Value, number, raw, table_name, text


class DynamoKeys:
    """See ``core.stores.bundle.Answers``.

    Args:
        client: DynamoDB.
        prefix: That of the tables' names.
        now: The clock, for what has expired.
        sleep: How to wait, in seconds.
    """

    def __init__(self, client: Client, prefix: str, now: Clock, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.table = Table(client, table_name(prefix, STATE), sleep=sleep)
        self._now = now
        self._sleep = sleep

    def find(self, id_: str) -> ApiKey | None:
        """The key with that id, as last written by any process; raises StoreError."""
        item = self.table.get(*_key(id_))
        return _api_key(item) if item else None

    def listed(self) -> list[ApiKey]:
        """All keys, the oldest first; raises StoreError."""
        found = [_api_key(item) for shard in NIBBLES for item in self.table.query(f"api-key#{shard}")]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    def put(self, key: ApiKey) -> None:
        """Keep a new key, or an old one as it is now; a revocation stays, whatever is put. Raises StoreError."""
        persist(partial(self._put, key), self._sleep)

    def _put(self, key: ApiKey) -> None:
        item = self.table.get(*_key(key.id))
        revoked = item.get("revoked_at") if item else None
        said = _attributes(key)
        if revoked is not None:
            said["revoked_at"] = revoked
        if item is None:
            still = Condition.absent()
        else:
            still = Condition.all_of(
                Condition.exists(),
                Condition.absent("revoked_at") if revoked is None else Condition.equals("revoked_at", revoked),
            )
        kept = {name: value for name, value in said.items() if value is not None}
        if self.table.update(*_key(key.id), set=kept, remove=said.keys() - kept.keys(), condition=still) is None:
            raise HeadConflict("somebody else changed the key first")

    def used(self, id_: str, day: date) -> None:
        """Note the day of a key's last use; raises StoreError."""
        self.table.update(*_key(id_), set={"last_used": day.isoformat()}, condition=Condition.exists())

    def answered(self, name: bytes) -> Answered | None:
        """The answer kept under a name, unless it has expired; raises StoreError."""
        item = self.table.get(*answered_key(name))
        if item is None or number(item, "expires") <= self._now().timestamp():
            return None
        return answered_of(item)


def _key(id_: str) -> tuple[str, str]:
    return f"api-key#{id_[:1]}", id_


def _attributes(key: ApiKey) -> dict[str, Value]:
    """What is put of a key: all but the day of its last use. None: there is none."""
    return {
        "name": key.name,
        "scopes": " ".join(sorted(key.scopes)),
        "created_at": key.created_at.isoformat(),
        "expires_at": _text(key.expires_at),
        "revoked_at": _text(key.revoked_at),
        "secrets": [
            {
                "sha256": secret.sha256,
                "created_at": secret.created_at.isoformat(),
                "expires_at": _text(secret.expires_at),
            }
            for secret in key.secrets
        ],
    }


def _api_key(item: Item) -> ApiKey:
    """A key as it is stored; raises StoreError."""
    last_used = item.get("last_used")
    try:
        return ApiKey(
            id=text(item, "sk"),
            name=text(item, "name"),
            scopes=frozenset(map(Scope, text(item, "scopes").split())),
            created_at=datetime.fromisoformat(text(item, "created_at")),
            secrets=_secrets(item),
            expires_at=_time(item, "expires_at"),
            revoked_at=_time(item, "revoked_at"),
            last_used=date.fromisoformat(text(item, "last_used")) if last_used is not None else None,
        )
    except (ValueError, DamagedState):
        raise StoreError("an API key's stored form is damaged; revoke it and create another one") from None


def _secrets(item: Item) -> tuple[Secret, ...]:
    """The secrets, the newest last."""
    stored = item.get("secrets")
    if not isinstance(stored, list) or not all(isinstance(each, dict) for each in stored):
        raise ValueError
    found = [
        Secret(raw(each, "sha256"), datetime.fromisoformat(text(each, "created_at")), _time(each, "expires_at"))
        for each in stored
    ]
    return tuple(sorted(found, key=lambda secret: secret.created_at))


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _time(stored: Mapping[str, Value], name: str) -> datetime | None:
    return datetime.fromisoformat(text(stored, name)) if stored.get(name) is not None else None
