"""What was read back from an ESP, kept in a temporary file while it is compared: millions of members fit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from core.model import PurposeId, RecipientId

_PUT = "INSERT INTO seen VALUES (?,?) ON CONFLICT DO UPDATE SET purposes=purposes||' '||excluded.purposes"


class Seen:
    """Members of an ESP's segments by recipient; a context manager."""

    def __init__(self) -> None:
        # An empty name is a temporary file of SQLite's own, deleted when it is closed.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("CREATE TABLE seen(recipient BLOB PRIMARY KEY, purposes TEXT NOT NULL) STRICT, WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._db.close()

    def add(self, members: Iterable[tuple[RecipientId, frozenset[PurposeId]]]) -> None:
        """Add members; whoever stands there under two spellings of an address has the segments of both."""
        self._db.execute("BEGIN")
        self._db.executemany(_PUT, ((recipient, " ".join(purposes)) for recipient, purposes in members))
        self._db.execute("COMMIT")

    def between(
        self, after: RecipientId | None, until: RecipientId | None
    ) -> Iterator[tuple[RecipientId, frozenset[PurposeId]]]:
        """The members behind ``after``, up to ``until`` (None: to the end), in the order of recipients."""
        sql = (
            "SELECT recipient, purposes FROM seen WHERE recipient>? AND (? IS NULL OR recipient<=?) ORDER BY recipient"
        )
        for recipient, purposes in self._db.execute(sql, (after or b"", until, until)):
            yield RecipientId(recipient), frozenset(map(PurposeId, purposes.split()))
