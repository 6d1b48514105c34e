"""Changes on their way through import jobs: in a temporary file, so that memory does not grow with their number.

Each change is there once, with what the list held of the contact before. The file is SQLite's own temporary one: no
other program can open it, and it is gone when the spool is closed.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Self

import msgspec

from connectors.ses.preferences import chosen, joined
from core.batches import batched
from core.model import Contact, ContactChange, PurposeId, RecipientId

if TYPE_CHECKING:
    from types import TracebackType

    from mypy_boto3_sesv2.type_defs import ContactTypeDef

SLICE = 1_000
"""Rows that are read or written at once."""

_SCHEMA = """
CREATE TABLE change(
    place INTEGER PRIMARY KEY, address TEXT NOT NULL UNIQUE, spelling TEXT NOT NULL, recipient BLOB NOT NULL,
    choices_url TEXT NOT NULL, pixel_path TEXT NOT NULL, desired INTEGER NOT NULL, confirmed INTEGER NOT NULL,
    doubtful INTEGER NOT NULL, withdrawing INTEGER NOT NULL, stage INTEGER NOT NULL DEFAULT 0,
    overtaken INTEGER NOT NULL DEFAULT 0, held INTEGER NOT NULL DEFAULT 0, gone INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0, stood INTEGER NOT NULL DEFAULT 0, ours INTEGER NOT NULL DEFAULT 0,
    moved REAL NOT NULL DEFAULT 0, chosen TEXT NOT NULL DEFAULT '{}');
CREATE INDEX by_spelling ON change(spelling);
CREATE INDEX by_stage ON change(stage, withdrawing);
"""
_COLUMNS = (
    "place, stage, address, recipient, choices_url, pixel_path, desired, confirmed, doubtful, overtaken, held, gone,"
    " lost, stood, moved, chosen"
)


class Stage(IntEnum):
    """How far a change has come. ``SENT``: in a job that may still write it; ``DONE``: that job has ended."""

    WAITING = 0
    SENT = 1
    DONE = 2
    REPORTED = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A change, and what the list holds of the contact.

    Attributes:
        place: Its number in the spool.
        stage: How far it has come.
        overtaken: A later call is about the same person, so that this one must not be carried out any more.
        held: The list has the contact, in this very spelling.
        gone: The person has unsubscribed from all.
        lost: And the list does not say so any more.
        stood: The topics were as desired when the list was last read.
        moved: When SES last changed the contact, before the import, in seconds since 1970; 0 when not known.
        chosen: The topics on which a choice was written for the contact itself.
    """

    place: int
    stage: Stage
    change: ContactChange
    overtaken: bool
    held: bool
    gone: bool
    lost: bool
    stood: bool
    moved: float
    chosen: dict[str, str] = field(repr=False)


class Spool:
    """The changes of one call. Several threads may use it at once.

    Args:
        prefix: Consent topics are named ``<prefix><purpose>``.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._lock = threading.RLock()
        self._sets: list[frozenset[PurposeId]] = []
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_SCHEMA}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._db.close()

    # Coming in

    def add(self, changes: Iterable[ContactChange]) -> None:
        """Take all changes in; of several about one address the last one counts."""
        for some in batched(changes, SLICE):
            with self._lock:
                self._db.execute("BEGIN")
                self._db.executemany(
                    "INSERT OR REPLACE INTO change(address, spelling, recipient, choices_url, pixel_path, desired,"
                    " confirmed, doubtful, withdrawing) VALUES (?,?,?,?,?,?,?,?,?)",
                    [self._stored(change) for change in some],
                )
                self._db.execute("COMMIT")

    def _stored(self, change: ContactChange) -> tuple[object, ...]:
        contact = change.contact
        who = (contact.address, contact.address.lower(), contact.recipient, contact.choices_url, contact.pixel_path)
        return (
            *who,
            self._number(change.desired),
            self._number(change.confirmed),
            change.doubtful,
            change.withdrawing,
        )

    def _number(self, purposes: frozenset[PurposeId]) -> int:
        if purposes not in self._sets:
            self._sets.append(purposes)
        return self._sets.index(purposes)

    def purposes(self) -> frozenset[PurposeId]:
        """All that is desired or was confirmed of anybody."""
        return frozenset[PurposeId]().union(*self._sets)

    # What the list holds

    def compare(self, contacts: Iterable[ContactTypeDef], topics: frozenset[str]) -> list[ContactTypeDef]:
        """Note what the list holds of these contacts; answers those of them that it does not say have unsubscribed.

        Somebody who is listed under two spellings counts as unsubscribed when either is.
        """
        ours = frozenset(topic for topic in topics if topic.startswith(self._prefix))
        unsaid: list[ContactTypeDef] = []
        exact: list[tuple[object, ...]] = []
        other: list[tuple[object, ...]] = []
        for contact, row in self._met(contacts):
            gone = contact.get("UnsubscribeAll")
            if gone is None:
                unsaid.append(contact)
            said = {topic: status for topic, status in chosen(contact).items() if topic in topics}
            text = msgspec.json.encode(said).decode()
            if contact["EmailAddress"] == row.change.contact.address:
                stood = joined(contact, self._prefix) == row.change.desired
                exact.append((bool(gone), stood, ours <= said.keys(), _moved(contact), text, row.place))
            else:
                other.append((bool(gone), text, row.place))
        self._write("gone=gone OR ?, chosen=CASE held WHEN 1 THEN chosen ELSE ? END", other)
        self._write("held=1, gone=gone OR ?, stood=?, ours=?, moved=?, chosen=?", exact)
        return unsaid

    def check(self, contacts: Iterable[ContactTypeDef]) -> frozenset[RecipientId]:
        """The recipients that the list now shows to have been written as desired; they are reported with this.

        Whose topics were so before is shown by the time at which SES last changed the contact. An unsubscription that
        is not there any more is noted.
        """
        found: list[Row] = []
        left: list[tuple[object, ...]] = []
        for contact, row in self._met(contacts):
            if contact["EmailAddress"] != row.change.contact.address or row.stage is not Stage.DONE or row.overtaken:
                continue
            lost = row.gone and not contact.get("UnsubscribeAll", True)
            stands = joined(contact, self._prefix) == row.change.desired
            if stands and not lost and (not row.stood or _moved(contact) > row.moved):
                found.append(row)
            else:
                left.append((stands, lost, row.place))
        self._write("stood=?, lost=?", left)
        return self.report([row.place for row in found])

    def _met(self, contacts: Iterable[ContactTypeDef]) -> Iterator[tuple[ContactTypeDef, Row]]:
        """Each of these contacts with each change about the same person."""
        for some in batched(contacts, SLICE):
            spellings = {contact["EmailAddress"].lower() for contact in some}
            rows: dict[str, list[Row]] = {}
            for row in self._select(f"spelling IN ({','.join('?' * len(spellings))})", tuple(spellings)):
                rows.setdefault(row.change.contact.address.lower(), []).append(row)
            for contact in some:
                for row in rows.get(contact["EmailAddress"].lower(), []):
                    yield contact, row

    # Going out

    def withdrawing(self) -> list[int]:
        """The places of those changes that wait and stop some tracking."""
        return self._places(f"stage={Stage.WAITING} AND withdrawing=1 AND overtaken=0")

    def doubtful(self) -> bool:
        """Whether an earlier run left the outcome of any change open."""
        return bool(self._places("doubtful=1", "place LIMIT 1"))

    def in_doubt(self) -> list[int]:
        """The places of changes that an earlier run may have carried out, and whose topics say so: oldest first.

        The list shows that this product once wrote them: each of its topics is chosen, none left to the default.
        """
        where = f"stage={Stage.WAITING} AND overtaken=0 AND doubtful=1 AND stood=1 AND ours=1"
        return self._places(where, "moved, place")

    def absent(self) -> list[int]:
        """The places of those who only withdraw, and are not in the list at all."""
        nothing = self._number(frozenset())
        where = f"stage={Stage.WAITING} AND overtaken=0 AND withdrawing=1 AND desired={nothing} AND held=0"
        return self._places(where)

    def unproven(self) -> list[int]:
        """The places of what a job had, and whose topics were as desired before and after it."""
        return self._places(f"stage={Stage.DONE} AND overtaken=0 AND stood=1 AND lost=0")

    def left(self) -> list[int]:
        """The places of all that is not reported, withdrawals first."""
        return self._places(f"stage<>{Stage.REPORTED}", "withdrawing DESC, place")

    def take(self, most: int, *, withdrawing: bool) -> list[Row]:
        """So many changes that wait; they count as sent from now on."""
        with self._lock:
            where = f"stage={Stage.WAITING} AND withdrawing=? AND overtaken=0 ORDER BY place LIMIT ?"
            rows = list(self._select(where, (withdrawing, most)))
            self._write("stage=?", [(Stage.SENT, row.place) for row in rows])
        return rows

    def begin(self, place: int) -> Row | None:
        """One change is sent on its own now; None: it has been overtaken."""
        with self._lock:
            row = self.row(place)
            if row.overtaken:
                return None
            self._write("stage=?", [(Stage.SENT, place)])
        return row

    def left_all(self, place: int) -> None:
        """The person has unsubscribed from all, as the contact itself says."""
        self._write("gone=?", [(True, place)])

    def ended(self) -> list[ContactChange]:
        """What counts as sent has been written; answers whom other calls have overtaken meanwhile."""
        with self._lock:
            overtaken = [row.change for row in self._select("stage=? AND overtaken=1", (Stage.SENT,))]
            self._db.execute("UPDATE change SET stage=? WHERE stage=?", (Stage.DONE, Stage.SENT))
        return overtaken

    def report(self, places: Sequence[int]) -> frozenset[RecipientId]:
        """Note that these are reported; answers who they are."""
        recipients = frozenset(self.row(place).change.contact.recipient for place in places)
        self._write("stage=?", [(Stage.REPORTED, place) for place in places])
        return recipients

    def overtake(self, spelling: str, beyond: frozenset[PurposeId] | None = None) -> bool:
        """A later call is about this person: what waits is not sent any more. True: a job may still write it.

        ``beyond``: only what wants more than these purposes; None: whatever it wants.
        """
        with self._lock:
            found = list(self._select("spelling=? AND stage<>?", (spelling, Stage.REPORTED)))
            late = [row for row in found if beyond is None or not row.change.desired <= beyond]
            self._write("overtaken=1", [(row.place,) for row in late])
        return any(row.stage is Stage.SENT for row in found)

    def row(self, place: int) -> Row:
        """One change."""
        return next(self._select("place=?", (place,)))

    # Within

    def _places(self, where: str, order: str = "place") -> list[int]:
        query = f"SELECT place FROM change WHERE {where} ORDER BY {order}"  # noqa: S608 - constants
        with self._lock:
            return [place for (place,) in self._db.execute(query)]

    def _select(self, where: str, values: tuple[object, ...]) -> Iterator[Row]:
        with self._lock:
            found = self._db.execute(f"SELECT {_COLUMNS} FROM change WHERE {where}", values).fetchall()  # noqa: S608 - constants
        return map(self._read, found)

    def _write(self, values: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Set some values; the last member of each row is its place."""
        with self._lock:
            self._db.execute("BEGIN")
            self._db.executemany(f"UPDATE change SET {values} WHERE place=?", rows)  # noqa: S608 - constants
            self._db.execute("COMMIT")

    def _read(self, found: tuple[Any, ...]) -> Row:
        place, stage, address, recipient, choices, pixel, desired, confirmed, doubtful, *seen = found
        overtaken, held, gone, lost, stood, moved, said = seen
        contact = Contact(RecipientId(recipient), address, None, choices, pixel)
        change = ContactChange(contact, self._sets[desired], self._sets[confirmed], bool(doubtful))
        flags = (bool(overtaken), bool(held), bool(gone), bool(lost), bool(stood))
        return Row(place, Stage(stage), change, *flags, moved, msgspec.json.decode(said, type=dict[str, str]))


def _moved(contact: ContactTypeDef) -> float:
    """When SES last changed a contact; 0 where the list does not say."""
    at = contact.get("LastUpdatedTimestamp")
    return at.timestamp() if at is not None else 0.0
