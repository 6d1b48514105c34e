"""The function that reconciles: a file that a partner put under ``proofs/<partner>/`` in the inbox, by way of a queue.

The partner's folder is its name as the settings have it, in lower case, with hyphens for whatever else than letters
and digits it holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote_plus

from core.errors import InputError, PixelproofError, StoreError
from core.logs import get_logger
from webhooks.assembly import Services
from webhooks.aws.configuration import client, services
from webhooks.aws.telemetry import correlated, count

PLACE = "proofs/"

log = get_logger("pixelproof.proofs")


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Reconcile the files that a batch of SQS messages names, with ``ReportBatchItemFailures``."""
    failed = []
    for record in event.get("Records", []):
        with correlated(record["messageId"]):
            try:
                for bucket, key in named(record["body"]):
                    reconcile(services(), bucket, key)
            except PixelproofError as error:
                log.error("file not reconciled; it is tried again, and set aside in the end", reason=str(error))
                failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def named(body: str) -> Iterator[tuple[str, str]]:
    """The buckets and keys that a message of S3 names; raises InputError when it is none."""
    try:
        records = json.loads(body).get("Records", [])  # S3's test message has none
        yield from [(r["s3"]["bucket"]["name"], unquote_plus(r["s3"]["object"]["key"])) for r in records]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError("not a message of S3 about objects") from None


def reconcile(made: Services, bucket: str, key: str) -> None:
    """Fetch a file and reconcile it.

    Raises:
        InputError: it lies in no partner's folder, or cannot be read.
        StoreError: S3 or the ledger is out of reach.
    """
    partner = _partner(made, key)
    with TemporaryDirectory() as folder:
        file = Path(folder) / Path(key).name
        _fetch(bucket, key, file)
        done = made.reconciliation.run(file, partner)
        kept = made.stores.files("findings")
        for found in (done.parquet, done.csv):
            kept.put(found.name, found, immutable=True)
            found.unlink()
    proven = done.findings.get("proven", 0)
    count(ClaimsProven=proven, ClaimsNotProven=done.claims - proven, ProofOrphans=done.orphans)
    log.info("reconciled", partner=partner, claims=done.claims, proven=proven, appended=done.entries_appended)


def _partner(made: Services, key: str) -> str:
    folder, _, file = key.removeprefix(PLACE).partition("/")
    for partner in made.settings.partners:
        if file and re.sub(r"[^a-z0-9]+", "-", partner.name.lower()).strip("-") == folder:
            return partner.name
    raise InputError("the file lies in no folder of a partner that the settings name: proofs/<partner>/<file>")


def _fetch(bucket: str, key: str, file: Path) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client("s3").download_file(bucket, key, str(file))
    except (BotoCoreError, ClientError, OSError) as error:
        raise StoreError(f"the inbox is out of reach ({type(error).__name__})") from None
