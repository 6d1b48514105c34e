"""Builds what deletes old data over an installation's stores. Used by ``serve`` and by the command line."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from core.errors import StoreError
from core.leaving import LeftAddresses, OldLetters
from core.ledger import campaign_chain, parse_campaign
from core.ports import LedgerStore
from core.retention import Age, Kind, Retention, spans

if TYPE_CHECKING:
    from webhooks.assembly import Services


def retention_of(services: Services) -> Retention:
    """What deletes old data of an installation."""
    expiry = services.stores.expiry(_age(services.store))
    return Retention(
        kinds={
            Kind.OPENS: expiry.opens,
            Kind.API_ANSWERS: expiry.answers,
            Kind.DEAD_LETTERS: OldLetters(
                letters=services.dead_letters,
                ledger=services.ledger,
                policy=services.policy,
                identify=services.identify,
                remove=expiry.letters,
            ),
            Kind.ADDRESSES: LeftAddresses(
                store=services.store,
                book=services.book,
                records=services.records,
                policy=services.policy,
                providers=tuple(services.settings.providers),
                remove=expiry.addresses,
            ),
            Kind.EFFECTS: expiry.effects,
            Kind.FINDINGS: expiry.findings,
            Kind.SNAPSHOTS: expiry.snapshots,
            Kind.COUNTERS: expiry.counters,
        },
        spans=spans(services.settings.retention, services.settings.open_retention_months),
        log=expiry.log,
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
