"""Import jobs: many contacts at once, from an object in S3 that is deleted as soon as the job has ended."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO

import msgspec

from connectors.ses.client import Aws, whole
from connectors.ses.settings import NAME, SesSettings
from core.errors import ProviderError

IN_MEMORY = 8 * 1024 * 1024
"""Bytes of an import that are kept in memory before a temporary file is used."""
FIRST_LOOK, LONGEST_WAIT = 0.5, 10.0
"""Seconds between two looks at a job: doubled each time, up to the longest."""


def import_contacts(aws: Aws, settings: SesSettings, bucket: str, rows: Iterable[dict[str, object]]) -> None:
    """Have SES import rows of newline-delimited JSON, and wait until it has. Rows that it refuses are not reported.

    Raises:
        ProviderError: the job failed or took longer than ``providers.ses.patience_seconds``.
    """
    with SpooledTemporaryFile(IN_MEMORY) as file:
        digest = hashlib.sha256()
        for row in rows:
            line = msgspec.json.encode(row) + b"\n"
            digest.update(line)
            file.write(line)
        with _uploaded(aws, bucket, f"pixelproof/{digest.hexdigest()}.ndjson", file) as url:
            _run(aws, settings, url)


@contextmanager
def _uploaded(aws: Aws, bucket: str, key: str, file: IO[bytes]) -> Iterator[str]:
    """Put the object there for as long as the context lasts. SES cannot read one that a default KMS key encrypts."""

    def put() -> None:
        file.seek(0)
        aws.s3.put_object(Bucket=bucket, Key=key, Body=file, ServerSideEncryption="AES256")

    aws.call(put)
    try:
        yield f"s3://{bucket}/{key}"
    finally:
        aws.call(lambda: aws.s3.delete_object(Bucket=bucket, Key=key))


def _run(aws: Aws, settings: SesSettings, url: str) -> None:
    def create() -> str:
        answer = aws.ses.create_import_job(
            ImportDestination={
                "ContactListDestination": {
                    "ContactListName": settings.contact_list,
                    "ContactListImportAction": "PUT",
                }
            },
            ImportDataSource={"S3Url": url, "DataFormat": "JSON"},
        )
        return whole(answer, "JobId")["JobId"]

    job = aws.manage(create)
    waited, wait = 0.0, FIRST_LOOK
    while True:
        status = aws.manage(lambda: whole(aws.ses.get_import_job(JobId=job), "JobStatus"))["JobStatus"]
        if status == "COMPLETED":
            return
        if status in {"FAILED", "CANCELLED"}:
            raise ProviderError(
                NAME, f"import job {status}: check that SES may read the bucket in providers.ses.import_bucket"
            )
        if waited >= settings.patience_seconds:
            raise ProviderError(NAME, "import job still running after providers.ses.patience_seconds; run sync again")
        aws.sleep(wait)
        waited, wait = waited + wait, min(2 * wait, LONGEST_WAIT)
