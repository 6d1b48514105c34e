"""Reconciliations and audits on SQLite, in the ledger's file: see ``core.proofs.history.History``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from core.model import PurposeId, RecipientId
from core.proofs.history import Audit, Outcome, Run
from core.stores.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS reconciliation(
  id INTEGER PRIMARY KEY, partner TEXT NOT NULL, at INTEGER NOT NULL, claims INTEGER NOT NULL, records INTEGER NOT NULL,
  orphans INTEGER NOT NULL, appended INTEGER NOT NULL, findings TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS audit(
  id INTEGER PRIMARY KEY, partner TEXT NOT NULL, at INTEGER NOT NULL, size INTEGER NOT NULL, seed INTEGER NOT NULL,
  population INTEGER NOT NULL, sample TEXT NOT NULL, closed_at INTEGER, upheld INTEGER, rejected INTEGER,
  reference TEXT, UNIQUE(partner, seed, size, sample)) STRICT;
"""

_RUN = "partner, at, claims, records, orphans, appended, findings"
_AUDIT = "id, partner, at, size, seed, population, sample, closed_at, upheld, rejected, reference"


class SqliteProofHistory:
    """See ``core.proofs.history.History``.

    Args:
        db: The database, made with ``SCHEMA``.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    def add_run(self, run: Run) -> None:
        """Note a reconciliation."""
        counts = run.claims, run.records, run.orphans, run.appended
        row = run.partner, _seconds(run.at), *counts, json.dumps(dict(run.findings))
        with self.db.transaction() as connection:
            connection.execute(f"INSERT INTO reconciliation({_RUN}) VALUES (?,?,?,?,?,?,?)", row)  # noqa: S608

    def runs(self, partner: str) -> list[Run]:
        """A partner's reconciliations, the oldest first."""
        rows = self.db.rows(f"SELECT {_RUN} FROM reconciliation WHERE partner=? ORDER BY id", (partner,))  # noqa: S608
        return [_run(row) for row in rows]

    def add_audit(self, audit: Audit) -> Audit:
        """Note a sample; the one that is there already when it is the very same."""
        sample = json.dumps([[recipient.hex(), purpose] for recipient, purpose in audit.sample])
        row = audit.partner, _seconds(audit.at), audit.size, audit.seed, audit.population, sample
        with self.db.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO audit(partner, at, size, seed, population, sample) VALUES (?,?,?,?,?,?)", row
            )
            found = connection.execute(
                f"SELECT {_AUDIT} FROM audit WHERE partner=? AND seed=? AND size=? AND sample=?",  # noqa: S608
                (audit.partner, audit.seed, audit.size, sample),
            ).fetchone()
        return _audit(found)

    def audits(self, partner: str | None = None) -> list[Audit]:
        """The audits of a partner, or of all, the oldest first."""
        sql = f"SELECT {_AUDIT} FROM audit WHERE ?1 IS NULL OR partner=?1 ORDER BY id"  # noqa: S608
        return [_audit(row) for row in self.db.rows(sql, (partner,))]

    def close_audit(self, number: int, at: datetime, outcome: Outcome) -> bool:
        """Note an audit's outcome; False when there is no open one of that number."""
        sql = "UPDATE audit SET closed_at=?, upheld=?, rejected=?, reference=? WHERE id=? AND closed_at IS NULL"
        values = _seconds(at), outcome.upheld, outcome.rejected, outcome.reference, number
        with self.db.transaction() as connection:
            changed = connection.execute(sql, values).rowcount
        return changed == 1


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _run(row: Any) -> Run:  # noqa: ANN401 - a row as sqlite3 gives it
    name, at, claims, records, orphans, appended, findings = row
    return Run(name, _moment(at), claims, records, orphans, appended, json.loads(findings))


def _audit(row: Any) -> Audit:  # noqa: ANN401 - a row as sqlite3 gives it
    number, partner, at, size, seed, population, sample, closed_at, upheld, rejected, reference = row
    pairs = [(RecipientId(bytes.fromhex(recipient)), PurposeId(purpose)) for recipient, purpose in json.loads(sample)]
    closed = _moment(closed_at) if closed_at is not None else None
    return Audit(number, partner, _moment(at), size, seed, population, pairs, closed, upheld, rejected, reference or "")
