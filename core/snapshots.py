"""Snapshots as files: who got which pixel in a campaign, one row a recipient, in Parquet.

The SHA-256 of the file stands in the ledger (``core.ledger.CampaignBody``), so that the file can be shown to be the
one of that day with any tool: ``sha256sum``, then any reader of Parquet. It holds pseudonyms, no address.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from core.errors import StoreError
from core.files import Files
from core.records import Choice

_COLUMNS = ("recipient", "pixel", "part", "basis", "reason")


def write(files: Files, campaign: str, choices: Iterable[Choice]) -> str:
    """Write a snapshot as ``<campaign>-<first 12 digits of its SHA-256>.parquet``; answers the SHA-256 in hex.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        with TemporaryDirectory(prefix=".snapshot-", dir=files.scratch) as folder:
            rows, made = Path(folder) / "rows.csv", Path(folder) / "made.parquet"
            with rows.open("w", newline="", encoding="utf-8") as text:
                writer = csv.writer(text)
                writer.writerows((c.recipient.hex(), c.mode.value, c.part, c.basis.value, c.reason) for c in choices)
            _convert(rows, made)
            with made.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files.put(name_of(campaign, digest), made, immutable=True)
    except OSError as error:
        raise StoreError(f"snapshot of campaign {campaign}: {error.strerror}") from None
    return digest


def name_of(campaign: str, sha256: str) -> str:
    """The name of a snapshot's file."""
    return f"{campaign}-{sha256[:12]}.parquet"


def _convert(source: Path, target: Path) -> None:
    import duckdb

    columns = ", ".join(f"'{name}': 'VARCHAR'" for name in _COLUMNS)
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as db:
        rows = f"read_csv({_quoted(source)}, header=false, delim=',', quote='\"', columns={{{columns}}})"
        db.execute(f"COPY (FROM {rows}) TO {_quoted(target)} (FORMAT parquet, COMPRESSION zstd)")


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
