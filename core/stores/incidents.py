"""Incidents on SQLite, in the ledger's file: see ``core.incidents.Incidents``."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from core.incidents import Incident, IncidentKind
from core.stores.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS incident(
  id INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL, kind TEXT NOT NULL, opened_at INTEGER NOT NULL,
  total INTEGER NOT NULL, closed_at INTEGER) STRICT;
CREATE INDEX IF NOT EXISTS incident_of ON incident(scope, kind);
"""

_SELECT = "SELECT id, scope, kind, opened_at, total, closed_at FROM incident"
_TOTAL = "coalesce((SELECT n FROM counter WHERE counter.scope=incident.scope AND counter.name=incident.kind), total)"


class SqliteIncidents:
    """See ``core.incidents.Incidents``.

    Args:
        db: The database, made with ``SCHEMA`` and the ledger's.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    def listed(self, *, closed: bool = False) -> list[Incident]:
        """The open ones, or all of them, the oldest first."""
        where = "" if closed else " WHERE closed_at IS NULL"
        return [_incident(row) for row in self.db.rows(f"{_SELECT}{where} ORDER BY id")]

    def close(self, number: int, now: datetime) -> bool:
        """Close one: the next of its kind counts from the counter as it stands; False when none of them is open."""
        sql = f"UPDATE incident SET closed_at=?, total={_TOTAL} WHERE id=? AND closed_at IS NULL"  # noqa: S608
        with self.db.transaction() as connection:
            return connection.execute(sql, (int(now.timestamp()), number)).rowcount == 1


def last(connection: sqlite3.Connection, scope: str, kind: str) -> Incident | None:
    """The newest of a kind."""
    row = connection.execute(f"{_SELECT} WHERE scope=? AND kind=? ORDER BY id DESC LIMIT 1", (scope, kind)).fetchone()
    return _incident(row) if row else None


def open_(connection: sqlite3.Connection, incident: Incident) -> None:
    """Note an incident."""
    connection.execute(
        "INSERT INTO incident(scope, kind, opened_at, total) VALUES (?,?,?,?)",
        (incident.scope, incident.kind, int(incident.opened_at.timestamp()), incident.total),
    )


def _incident(row: Sequence[Any]) -> Incident:
    number, scope, kind, opened_at, total, closed_at = row
    closed = datetime.fromtimestamp(closed_at, UTC) if closed_at is not None else None
    return Incident(number, scope, IncidentKind(kind), datetime.fromtimestamp(opened_at, UTC), total, closed)
