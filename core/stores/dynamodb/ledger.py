"""The ledger on DynamoDB: appends never wait for one another, and positions are given afterwards.

Entries, and the log that says which position each has, lie in a table of which no role may update or delete anything.
Heads, markers and the seal lie in another one; the seal covers the log as it does on SQLite.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain as joined
from typing import TypeVar

from core.batches import batched
from core.errors import HeadConflict, StoreError
from core.merkle import Frontier
from core.model import PurposeId, RecipientId, State
from core.ports import Clock, Entry, Head
from core.stores.dynamodb import forms
from core.stores.dynamodb.batch import ANSWERS_LAST, KEYS_LAST, DynamoBatch, counted
from core.stores.dynamodb.restoring import restore
from core.stores.dynamodb.seal import Seal
from core.stores.dynamodb.sequencer import Sequencer, Waiting, rows_of
from core.stores.dynamodb.table import LEDGER, STATE, Client, Item, Table, number, table_name, text
from core.transfer import Placed

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 500
"""Entries that are read together."""
AHEAD = 64
"""Chains that are asked for before the first of them is read."""
THREADS = 8
"""That ask."""
LONGEST_STEP_BACK = 0.05
"""Seconds to wait, at most, when somebody else was first."""
LAGS = (0.2, 0.5, 1.0, 2.0)
"""Seconds to wait for an index that lags, before entries count as having come from outside."""


class DynamoStore:
    """See ``core.ports.LedgerStore``. Several threads and processes may use the same tables.

    Args:
        client: DynamoDB.
        prefix: Of the tables' names.
        seal_key: Authenticates the seal; whoever lacks it cannot alter the ledger unnoticed.
        now: The clock.
        answers_last: For which an answer of the API may be asked for again.
        keys_last: For which an idempotency key is remembered.
        sleep: How to wait, in seconds.
    """

    def __init__(  # noqa: PLR0913 - the last three can be left out
        self,
        client: Client,
        prefix: str,
        seal_key: bytes,
        now: Clock,
        *,
        answers_last: timedelta = ANSWERS_LAST,
        keys_last: timedelta = KEYS_LAST,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.ledger = Table(client, table_name(prefix, LEDGER))
        self.state = Table(client, table_name(prefix, STATE))
        self._now = now
        self._answers_last = answers_last
        self._keys_last = keys_last
        self._sleep = sleep
        self._seal = Seal(self.state, seal_key)
        self._sequencer = Sequencer(self.ledger, self.state, self._seal)

    @contextmanager
    def batch(self) -> Iterator[DynamoBatch]:
        """One transaction of at most 100 actions; see ``core.stores.dynamodb.batch``."""
        batch = DynamoBatch(
            self.ledger, self.state, self._now, answers_last=self._answers_last, keys_last=self._keys_last
        )
        try:
            yield batch
            batch.write()
        except HeadConflict:
            # Whoever lost tries again at once: each must not go on losing against the other.
            self._sleep(random.uniform(0, LONGEST_STEP_BACK))  # noqa: S311 - when to try again is no secret
            raise

    def heads(self, recipients: Collection[RecipientId]) -> dict[RecipientId, Head]:
        """The heads of those recipients that have a chain, as last committed."""
        return dict(map(forms.head_of, self.state.get_many(map(forms.head_key, recipients)).values()))

    def head(self, recipient: RecipientId) -> Head | None:
        """One recipient's head."""
        item = self.state.get(*forms.head_key(recipient))
        return forms.head_of(item)[1] if item else None

    def chain(self, recipient: RecipientId) -> list[Entry]:
        """All entries of one recipient, the oldest first."""
        return [forms.entry_of(item) for item in self.ledger.query(forms.chain_key(recipient))]

    def sequence(self) -> int:
        """Give positions to what has none yet; answers how many were given. Any number may do it at once."""
        return self._sequencer.run()

    def size(self) -> int:
        """How many entries have a position, once those have one that had none."""
        self.sequence()
        return self.sealed().size

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """Every entry with its position, in the order of positions; one that is missing is left out.

        Its hash is that of the log, so that an entry that was put in its place is found to have another one.
        """
        return self.between(0, self.size())

    def between(self, after: int, until: int) -> Iterator[tuple[int, Entry]]:
        """The same of the positions behind ``after``, up to ``until``."""
        for rows in batched(self._rows(after, until), AT_ONCE):
            keys = [(forms.chain_key(row.recipient), forms.entry_sort(row.seq)) for _, row in rows]
            found = self.ledger.get_many(keys)
            for (position, row), key in zip(rows, keys, strict=True):
                if key in found:
                    entry = forms.entry_of(found[key])
                    yield position, Entry(row.recipient, row.seq, entry.body, row.hash)

    def hashes(self, after: int, until: int) -> Iterator[bytes]:
        """The logged hashes of the entries behind ``after``, up to ``until``; a missing one is left out."""
        return (row.hash for _, row in self._rows(after, until))

    def touched(self, after: int, until: int) -> Iterator[RecipientId]:
        """Whose chains grew behind position ``after``, up to ``until``, in the order of recipients."""
        return iter(sorted({row.recipient for _, row in self._rows(after, until)}))

    def position(self, recipient: RecipientId, seq: int) -> int | None:
        """The position of one entry of a chain, from 1, given to it now if it has none; None: it does not exist."""
        key = forms.person_key(recipient), forms.marker_sort(seq)
        marker = self.state.get(*key)
        if marker is not None and "position" not in marker:
            self._sequencer.place(recipient)
            marker = self.state.get(*key)
        return number(marker, "position") if marker else None

    def erase_bodies(self, recipient: RecipientId) -> int:  # noqa: ARG002 - of nobody
        """Not here: raises StoreError."""
        raise StoreError(
            "the ledger on DynamoDB denies every change to its entries, so that what they say cannot be erased there;"
            " the address can: an entry then tells of nobody who can be named"
        )

    def chains(self) -> Iterator[Entry]:
        """Every entry, chain by chain in the order of recipients; chains without a head: see ``damage``."""
        recipients = (forms.recipient_in(item, "sk") for item in self._head_items(only=("sk",)))
        return joined.from_iterable(_read_ahead(self.chain, recipients))

    def all_heads(self) -> Iterator[tuple[RecipientId, Head]]:
        """Every head, in the order of recipients."""
        return map(forms.head_of, self._head_items())

    def members(self, purpose: PurposeId, state: State) -> Iterator[RecipientId]:
        """Who stands there on a purpose, in the order of recipients; a consent may have expired since.

        By an index that may lag behind: look at the head before anything is done about somebody.
        """
        for shard in forms.NIBBLES:
            segment = forms.segment_key(purpose, state.value, shard)
            for item in self.state.query(segment, index=forms.SEGMENT):
                yield forms.recipient_in(item, "recipient")

    def counters(self, scope: str) -> dict[str, int]:
        """The counters of one scope."""
        return counted(self.state, scope)

    def count_opens(self) -> int:
        """How many opens are on record. Reads the whole table: not for what a request waits for."""
        return sum(text(item, "pk").startswith("opens#") for item in self.state.scan(only=("pk",)))

    def restore(self, rows: Iterable[Placed]) -> None:
        """Append entries of another store in this order, a part at a time: see ``core.transfer.Movable``."""
        restore(self.ledger, self.state, self._seal, rows)

    def known_keys(self) -> Iterator[bytes]:
        """All idempotency keys that are remembered. Reads the whole table."""
        for item in self.state.scan(only=("pk",)):
            if text(item, "pk").startswith(forms.SEEN):
                yield forms.bytes_in(item, "pk", forms.SEEN)

    def sealed(self) -> Frontier:
        """The tree over all entries as it was sealed; raises StoreError when the seal is not genuine."""
        return self._seal.read()

    def damage(self) -> list[str]:
        """Entries that nobody would come across: those of chains without a head, or that the log does not name."""
        problems = []
        try:
            stored = sum(text(item, "pk").startswith("chain#") for item in self.ledger.scan(only=("pk",)))
            placed = self._placed(stored)
            headed = sum(number(item, "seq") for item in self._head_items(only=("seq",)))
        except StoreError:  # whoever reads the seal and the heads one by one reports it
            return []
        if stored > placed:
            problems.append(f"{stored - placed} entries have no position in the log: they were added from outside")
        if headed < placed:
            problems.append(f"{placed - headed} entries are of chains that have no head any more, or a wrong one")
        return problems

    def _placed(self, stored: int) -> int:
        """How many entries have a position, once the index has had the time to show so many that have none."""
        placed = self.size()
        for lag in LAGS:
            if stored <= placed:
                break
            self._sleep(lag)
            placed = self.size()
        return placed

    def _head_items(self, only: Collection[str] = ()) -> Iterator[Item]:
        return joined.from_iterable(self.state.query(f"head#{shard}", only=only) for shard in forms.NIBBLES)

    def _rows(self, after: int, until: int) -> Iterator[tuple[int, Waiting]]:
        """What the log says of the positions behind ``after``, up to ``until``."""
        for chunk in self._chunks(after + 1, until):
            for position, row in rows_of(chunk):
                if after < position <= until:
                    yield position, row

    def _chunks(self, first: int, last: int) -> Iterator[Item]:
        """The parts of the log that hold the positions from ``first`` to ``last``."""
        _, wanted = forms.log_key(first)
        for shard in range(first // forms.CHUNKS, max(first // forms.CHUNKS - 2, -1), -1):
            pk, _ = forms.log_key(shard * forms.CHUNKS)
            begun = list(self.ledger.query(pk, until=wanted, limit=1, newest_first=True))
            if begun:  # the part that begins at or before the first position
                yield from begun
                break
        for shard in range(first // forms.CHUNKS, last // forms.CHUNKS + 1):
            pk, _ = forms.log_key(shard * forms.CHUNKS)
            yield from self.ledger.query(pk, after=wanted, until=forms.log_key(last)[1])


def _read_ahead(read: Callable[[T], R], keys: Iterable[T]) -> Iterator[R]:
    """Read one after the other, in this order, several of them at the same time."""
    with ThreadPoolExecutor(THREADS, "ledger-chains") as pool:
        asked: deque[Future[R]] = deque()
        for key in keys:
            asked.append(pool.submit(read, key))
            if len(asked) >= AHEAD:
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()
