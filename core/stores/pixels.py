"""What the hosted pixel is judged by, read from the ledger's file: see ``core.hosted.PixelFacts``."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from core.consent import Mark, Standing, Standings
from core.errors import StoreError
from core.hosted import Fact
from core.model import EPOCH, Action, Campaign, CampaignId, PixelMode, PurposeId, RecipientId
from core.records import CampaignRecord
from core.stores.database import Database

TOGETHER = 64
"""Requests that are looked up in one query."""
PATIENCE = 1.0
"""Seconds to wait where SQLite repairs its log: the event loop stands still meanwhile."""
MAPPED = 1 << 30
"""Bytes of the file that are read through the system's own memory, rather than copied page by page."""

_POSITION = "SELECT coalesce(max(position), 0) FROM entry"
_CAMPAIGNS = "SELECT id, record FROM campaign WHERE id IN ({})"
_FACTS = """
WITH asked(n, edition, recipient) AS (VALUES {})
SELECT n, (SELECT mode FROM snapshot WHERE edition=asked.edition AND recipient=asked.recipient),
  (SELECT standings FROM head WHERE recipient=asked.recipient) FROM asked
"""
_SNAPSHOT = """
SELECT s.recipient, s.mode, h.standings FROM snapshot s LEFT JOIN head h ON h.recipient=s.recipient
WHERE s.edition=? LIMIT ?
"""
_TOUCHED = "SELECT recipient FROM entry WHERE position>?"
_INDIVIDUAL = PixelMode.INDIVIDUAL.value

_record = msgspec.json.Decoder(CampaignRecord).decode
_standings = msgspec.msgpack.Decoder(dict[PurposeId, Standing]).decode
_REFUSAL = Standing(Mark(EPOCH, Action.REFUSED, "nobody"))
_NOBODY = msgspec.msgpack.encode({"performance": _REFUSAL})
"""What is decoded for somebody without a chain, so that it takes as long as for anybody else."""


class _Read(NamedTuple):
    """A campaign's record as it is stored, and what it says; edition 0 is nobody's."""

    record: bytes
    edition: int
    campaign: Campaign | None


_ABSENT = _Read(b"", 0, None)
_UNREAD = Fact(None, 0, None, {}, 0)


class SqlitePixelFacts:
    """Reads what was last committed, on connections of its own.

    Args:
        db: The ledger's database.
    """

    lasting = True

    def __init__(self, db: Database) -> None:
        self._path = db.path
        self._connection: sqlite3.Connection | None = None
        self._known: dict[CampaignId, _Read] = {}

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def moment(self, names: Collection[CampaignId]) -> tuple[int, dict[CampaignId, int]]:
        """See ``core.hosted.PixelFacts``."""
        with _reporting():
            position = _position(self._reader)  # first: whatever is read later is as new, or newer
            return position, {name: read.edition for name, read in self._campaigns(self._reader, names).items()}

    def touched(self, after: int) -> set[RecipientId]:
        """See ``core.hosted.PixelFacts``."""
        with _reporting():
            return {recipient for (recipient,) in self._reader.execute(_TOUCHED, (after,))}

    def look_up(self, asked: Sequence[tuple[CampaignId, RecipientId]]) -> list[Fact]:
        """See ``core.hosted.PixelFacts``."""
        parts = [asked[start : start + TOGETHER] for start in range(0, len(asked), TOGETHER)]
        with _reporting():
            return [fact for part in parts for fact in self._some(self._reader, part)]

    def snapshot(self, campaign: CampaignId, most: int) -> Iterator[tuple[RecipientId, Fact]]:
        """See ``core.hosted.PixelFacts``."""
        with _reporting(), closing(_connected(self._path)) as reader:
            position = _position(reader)
            _, edition, found = self._campaigns(reader, [campaign]).get(campaign, _ABSENT)
            for recipient, mode, standings in reader.execute(_SNAPSHOT, (edition, most)):
                yield recipient, Fact(found, edition, _pixel(mode), _stand(standings), position)

    @property
    def _reader(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = _connected(self._path)
        return self._connection

    def _some(self, reader: sqlite3.Connection, asked: Sequence[tuple[CampaignId, RecipientId]]) -> list[Fact]:
        position = _position(reader)
        known = self._campaigns(reader, {name for name, _ in asked})
        campaigns = [known.get(name, _ABSENT) for name, _ in asked]
        values: list[object] = []
        for n, (_, recipient) in enumerate(asked):
            values += (n, campaigns[n].edition, recipient)
        facts = [_UNREAD] * len(asked)
        for n, mode, standings in reader.execute(_FACTS.format(",".join(["(?,?,?)"] * len(asked))), values):
            _, edition, campaign = campaigns[n]
            facts[n] = Fact(campaign, edition, _pixel(mode), _stand(standings), position)
        return facts

    def _campaigns(self, reader: sqlite3.Connection, names: Collection[CampaignId]) -> dict[CampaignId, _Read]:
        """The campaigns of these names as they stand now; what is remembered is only how a record is read."""
        found: dict[CampaignId, _Read] = {}
        for name, record in reader.execute(_CAMPAIGNS.format(",".join("?" * len(names))), [*names]):
            seen = self._known.get(name)
            if seen is None or seen.record != record:
                seen = self._known[name] = _decoded(record)
            found[name] = seen
        return found


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"the ledger cannot be read: {type(error).__name__}") from None


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only=ON")
    # Each commit empties this connection's page cache; what is mapped stays.
    connection.execute(f"PRAGMA mmap_size={MAPPED}")
    return connection


def _position(reader: sqlite3.Connection) -> int:
    return int(reader.execute(_POSITION).fetchone()[0])


def _pixel(mode: object) -> PixelMode | None:
    return PixelMode.INDIVIDUAL if mode == _INDIVIDUAL else None


def _decoded(record: bytes) -> _Read:
    try:
        read = _record(record)
    except (msgspec.MsgspecError, ValueError):
        return _ABSENT
    return _Read(record, read.edition, read.campaign)


def _stand(standings: object) -> Standings:
    """Where somebody stands; nowhere when nothing is on record, or when it cannot be read: then nothing is recorded."""
    try:
        return _standings(standings if isinstance(standings, bytes) else _NOBODY)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
