"""A log in a folder as the tests see it: its keys, its files, and somebody who alters the ledger behind its back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from core.checkpoint_lock import FolderLock
from core.checkpoints import NotaryKeys
from core.files import FolderFiles
from core.notary import Notary, Stamp
from core.ports import LedgerStore
from core.stores.embedded import LEDGER_FILE
from webhooks.assembly import Services

NAMED = f":1:{'44' * 32}"


def keys(text: str = NAMED) -> NotaryKeys:
    """The log's keys."""
    return NotaryKeys.parse(text, "log.example.com")


def notary_in(store: LedgerStore, folder: Path, keys: NotaryKeys, stamp: Stamp | None = None) -> Notary:
    """The notary of a ledger whose log lies in a folder."""
    return Notary(store, FolderFiles(folder), FolderLock(folder), keys, stamp)


def files(folder: Path) -> dict[str, bytes]:
    """Everything in the log but what a crash may leave lying about."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def altered(services: Services, *statements: str) -> None:
    """Somebody with access to the file runs these statements."""
    with closing(sqlite3.connect(services.data / LEDGER_FILE, isolation_level=None)) as thief:
        for statement in statements:
            thief.execute(statement)
