"""Builds what deletes old data over an installation's stores. Used by ``serve`` and by the command line."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from core.errors import StoreError
from core.leaving import LeftAddresses, OldLetters
from core.ledger import campaign_chain, parse_campaign
from core.ports import LedgerStore
from core.reconcile import FINDINGS
from core.retention import Kind, Retention, spans
from core.stores.database import Database
from core.stores.retention import (
    Age,
    OldCounters,
    OldFiles,
    OldRows,
    OldSnapshots,
    SqlitePurgeLog,
    remove_addresses,
    remove_letters,
)

if TYPE_CHECKING:
    from webhooks.assembly import Services


def retention_of(services: Services, database: Database, addresses: Database, *folders: str) -> Retention:
    """What deletes old data.

    Args:
        services: The installation.
        database: The ledger's file.
        addresses: The address book's file.
        folders: Below ``data``: that of snapshots, and that of what was found about partners' claims.
    """
    snapshots, proofs = folders
    age = _age(services.store)
    return Retention(
        kinds={
            Kind.OPENS: OldRows(database, "open", "opened_at"),
            Kind.API_ANSWERS: OldRows(database, "answered", "at", whole=True),
            Kind.DEAD_LETTERS: OldLetters(
                letters=services.dead_letters,
                ledger=services.ledger,
                policy=services.policy,
                identify=services.identify,
                remove=remove_letters(addresses),
            ),
            Kind.ADDRESSES: LeftAddresses(
                store=services.store,
                book=services.book,
                records=services.records,
                policy=services.policy,
                providers=tuple(services.settings.providers),
                remove=remove_addresses(addresses),
            ),
            Kind.EFFECTS: OldRows(database, "taken_out", "at", scale=1_000, whole=True),
            Kind.FINDINGS: OldFiles(database, services.data / proofs / FINDINGS, (".parquet", ".csv")),
            Kind.SNAPSHOTS: OldSnapshots(database, services.mailings, age, services.data / snapshots),
            Kind.COUNTERS: OldCounters(database, age),
        },
        spans=spans(services.settings.retention, services.settings.open_retention_months),
        log=SqlitePurgeLog(database, addresses),
        now=services.now,
    )


def _age(store: LedgerStore) -> Age:
    """Tells by the ledger when a campaign was last applied or released."""

    def age(campaign: str) -> datetime | None:
        chain = store.chain(campaign_chain(campaign))
        try:
            return parse_campaign(chain[-1].body).recorded_at if chain else None
        except StoreError:  # a damaged entry: `ledger verify` tells, and nothing is deleted meanwhile
            return None

    return age
