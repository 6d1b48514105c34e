"""Snapshots as files: who got which pixel in a campaign, one row a recipient, in Parquet.

The SHA-256 of the file stands in the ledger (``core.ledger.CampaignBody``), so that the file can be shown to be the
one of that day with any tool: ``sha256sum``, then any reader of Parquet. It holds pseudonyms, no address.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import NamedTemporaryFile

from core.errors import StoreError
from core.records import Choice

_COLUMNS = ("recipient", "pixel", "part", "basis", "reason")


def write(folder: Path, campaign: str, choices: Iterable[Choice]) -> str:
    """Write a snapshot as ``<campaign>-<first 12 digits of its SHA-256>.parquet``; answers the SHA-256 in hex.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with NamedTemporaryFile("w", newline="", encoding="utf-8", dir=folder, suffix=".csv") as rows:
            writer = csv.writer(rows)
            writer.writerows((c.recipient.hex(), c.mode.value, c.part, c.basis.value, c.reason) for c in choices)
            rows.flush()
            made = folder / f"{campaign}.parquet.part"
            _convert(Path(rows.name), made)
        return _keep(made, folder, campaign)
    except OSError as error:
        raise StoreError(f"snapshot of campaign {campaign}: {error.strerror}") from None


def path_of(folder: Path, campaign: str, sha256: str) -> Path:
    """Where a snapshot lies."""
    return folder / f"{campaign}-{sha256[:12]}.parquet"


def _convert(source: Path, target: Path) -> None:
    import duckdb

    columns = ", ".join(f"'{name}': 'VARCHAR'" for name in _COLUMNS)
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as db:
        rows = f"read_csv({_quoted(source)}, header=false, delim=',', quote='\"', columns={{{columns}}})"
        db.execute(f"COPY (FROM {rows}) TO {_quoted(target)} (FORMAT parquet, COMPRESSION zstd)")


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _keep(made: Path, folder: Path, campaign: str) -> str:
    """Give a written file its name, once it is on disk."""
    with made.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    made.chmod(0o600)
    made.replace(path_of(folder, campaign, digest))
    return digest
