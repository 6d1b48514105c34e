"""What reconciliations read of SQLite: entries that name a partner, texts that were shown, and first uses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from core.ledger import campaign_chain, parse_campaign
from core.proofs.terms import micros
from core.stores import chains
from core.stores.database import Database

PAGE = 20_000
_PAGE = """
SELECT group_concat('{"position":' || position || ',' || substr(CAST(body AS TEXT), 2), char(10)) FROM (
  SELECT position, body FROM entry WHERE position>? AND position<=? AND instr(body, CAST('"partner":' AS BLOB))>0
  ORDER BY position)
"""
# SQLite joins the rows of a page by itself: one call of Python for twenty thousand entries.
_TRACKED = """
SELECT group_concat(hex(recipient), char(10)) FROM (
  SELECT recipient FROM snapshot WHERE edition=? AND mode='individual' AND part<>'' AND recipient>? AND recipient<=?)
"""
_LAST = """
SELECT max(recipient), count(*) FROM (
  SELECT recipient FROM snapshot WHERE edition=? AND recipient>? ORDER BY recipient LIMIT ?)
"""
_OPENED = "SELECT hex(recipient), min(opened_at) FROM open GROUP BY recipient"
_LEFT = "SELECT DISTINCT campaign FROM send_part WHERE state<>'failed' UNION SELECT id FROM campaign WHERE sent=1"


class SqlitePartnerEntries:
    """See ``core.proofs.claims.PartnerEntries``.

    Args:
        db: The database, made with the schemas of the ledger, of the records and of mailings.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    def size(self) -> int:
        """The position of the newest entry."""
        return int(self.db.row("SELECT coalesce(max(position), 0) FROM entry")[0])

    def hash_at(self, position: int) -> bytes | None:
        """The hash of the entry at a position."""
        row = self.db.row("SELECT hash FROM entry WHERE position=?", (position,))
        return bytes(row[0]) if row else None

    def pages(self, after: int, until: int) -> Iterator[tuple[int, str]]:
        """The entries that name a partner, as NDJSON."""
        for start in range(after, until, PAGE):
            end = min(start + PAGE, until)
            (text,) = self.db.row(_PAGE, (start, end))
            yield end - start, text or ""

    def texts(self) -> frozenset[str]:
        """The SHA-256 (hex) of every text that people were shown."""
        return frozenset(digest for (digest,) in self.db.rows("SELECT sha256 FROM notice"))

    def first_uses(self) -> Iterator[tuple[str, int]]:
        """(recipient in hex, microseconds): when mail with an individual pixel left, and when an open was recorded.

        A campaign that began to leave and has not been released whole counts from when it was applied. A recipient may
        come several times.
        """
        for (campaign,) in list(self.db.rows(_LEFT)):
            at, edition = self._released(campaign)
            if at is not None:
                yield from ((recipient, micros(at)) for recipient in self._tracked(edition))
        for recipient, opened_at in self.db.rows(_OPENED):
            yield recipient, opened_at * 1_000_000

    def _released(self, campaign: str) -> tuple[datetime | None, int]:
        """When a campaign left, by the ledger, and which snapshot it was sent by."""
        times: dict[str, datetime] = {}
        chain = campaign_chain(campaign)
        for _, _, body, _ in self.db.rows(chains.CHAIN, (chain,)):
            said = parse_campaign(body)
            times[said.stage] = said.recorded_at
        row = self.db.row(
            "SELECT json_extract(CAST(record AS TEXT), '$.edition') FROM campaign WHERE id=?", (campaign,)
        )
        return times.get("released") or times.get("applied"), int(row[0]) if row else 0

    def _tracked(self, edition: int) -> Iterator[str]:
        last = b""
        while True:
            until, number = self.db.row(_LAST, (edition, last, PAGE))
            if not number:
                return
            (text,) = self.db.row(_TRACKED, (edition, last, until))
            yield from (text or "").split()
            last = until
