"""The embedded stores of an installation, for tests that look into the files or harm them."""

from __future__ import annotations

from core.stores.database import Database
from core.stores.embedded import EmbeddedStores
from core.stores.sqlite import SqliteStore
from webhooks.assembly import Services


def embedded(services: Services) -> EmbeddedStores:
    """The stores; the installation must keep its data in SQLite."""
    assert isinstance(services.stores, EmbeddedStores)
    return services.stores


def ledger_of(services: Services) -> SqliteStore:
    """The ledger's store."""
    return embedded(services).ledger


def database_of(services: Services) -> Database:
    """The ledger's file."""
    return embedded(services).database
