"""Import jobs: many contacts at once, from an object in S3 that is deleted as soon as the job has ended.

A row replaces the whole contact, and what it omits is cleared (so others observed; AWS's API reference says that an
existing record is overridden "with the new value").
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any

import msgspec

from connectors.ses.client import Aws, whole
from connectors.ses.settings import NAME, SesSettings
from core.errors import ProviderError

if TYPE_CHECKING:
    from mypy_boto3_sesv2.type_defs import ImportJobSummaryTypeDef, ListImportJobsResponseTypeDef

MOST = 1_000_000
"""Contacts of one job, at most ("Using list management" in the SES Developer Guide)."""
WRITES = 3
"""Calls of a job that write: putting the object there, making the job, deleting the object."""
IN_MEMORY = 8 * 1024 * 1024
"""Bytes of an import that are kept in memory before a temporary file is used."""
FIRST_LOOK, LONGEST_WAIT = 0.5, 10.0
"""Seconds between two looks at a job: doubled each time, up to the longest."""

_RUNNING = frozenset({"CREATED", "PROCESSING"})
_FAILED = frozenset({"FAILED", "CANCELLED"})
_KEY_BYTES = 16


class Imports:
    """Import jobs into the contact list, one after the other.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
        bucket: The S3 bucket through which they go.
    """

    def __init__(self, aws: Aws, settings: SesSettings, bucket: str) -> None:
        self._aws = aws
        self._settings = settings
        self._bucket = bucket
        self._undeleted: list[str] = []

    def run(self, rows: Iterable[dict[str, object]]) -> bool:
        """Have SES import rows of newline-delimited JSON, and wait until it has; False when there were none.

        Which rows SES took is not to be learnt here: it counts those that failed, and does not name them.

        Raises:
            ProviderError: the job failed, or took longer than ``providers.ses.patience_seconds``.
        """
        with SpooledTemporaryFile(IN_MEMORY) as file:
            for row in rows:
                file.write(msgspec.json.encode(row) + b"\n")
            if not file.tell():
                return False
            # A name of its own for each: of two runs with the same rows, one must not delete the other's.
            key = f"pixelproof/{secrets.token_hex(_KEY_BYTES)}.ndjson"
            try:
                self._put(key, file)
                self._wait(self._create(f"s3://{self._bucket}/{key}"))
            except ProviderError as error:
                self._delete(key)
                if self._undeleted:
                    reason = str(error).removeprefix(f"{NAME}: ")
                    raise ProviderError(NAME, f"{reason}; besides, {self._left()}", status=error.status) from None
                raise
            except BaseException:
                self._delete(key)
                raise
            self._delete(key)
        return True

    def settle(self) -> None:
        """Wait until no import job into the list is running, whoever began it.

        A job of a run that was cut off, or one that was made twice because the answer to the first request was lost,
        would otherwise write old rows after the list was read.

        Raises:
            ProviderError: one is still running after ``providers.ses.patience_seconds``.
        """
        self._look(self.running)

    def running(self, *, urgent: bool = False) -> bool:
        """Whether an import job into the list is running; raises ProviderError when SES is out of reach."""
        return any(
            job.get("JobStatus") in _RUNNING
            and job.get("ImportDestination", {}).get("ContactListDestination", {}).get("ContactListName")
            == self._settings.contact_list
            for job in self._jobs(urgent)
        )

    def clean(self) -> None:
        """Delete the objects that could not be deleted before.

        Raises:
            ProviderError: that fails again; what was imported stands all the same.
        """
        left, self._undeleted = self._undeleted, []
        for key in left:
            self._delete(key)
        if self._undeleted:
            raise ProviderError(NAME, self._left())

    def _left(self) -> str:
        return (
            f"{len(self._undeleted)} imported object(s) with addresses could not be deleted: delete what is under"
            " pixelproof/ in the bucket of providers.ses.import_bucket, and let this key delete objects there"
        )

    def _put(self, key: str, file: IO[bytes]) -> None:
        def put() -> None:
            file.seek(0)
            # Named, since a default KMS key of the bucket would keep SES from reading the object.
            self._aws.s3.put_object(Bucket=self._bucket, Key=key, Body=file, ServerSideEncryption="AES256")

        self._aws.store(put)

    def _delete(self, key: str) -> None:
        try:
            self._aws.store(lambda: self._aws.s3.delete_object(Bucket=self._bucket, Key=key))
        except ProviderError:
            self._undeleted.append(key)  # what SES has imported is still to be confirmed; see clean()

    def _create(self, url: str) -> str:
        def create() -> str:
            answer = self._aws.ses.create_import_job(
                ImportDestination={
                    "ContactListDestination": {
                        "ContactListName": self._settings.contact_list,
                        "ContactListImportAction": "PUT",
                    }
                },
                ImportDataSource={"S3Url": url, "DataFormat": "JSON"},
            )
            return whole(answer, "JobId")["JobId"]

        return self._aws.manage(create)

    def _wait(self, job: str) -> None:
        def running() -> bool:
            answer = self._aws.manage(lambda: whole(self._aws.ses.get_import_job(JobId=job), "JobStatus"))
            if answer["JobStatus"] in _FAILED:
                raise ProviderError(
                    NAME,
                    f"import job {answer['JobStatus']}: check that SES may read the bucket in"
                    " providers.ses.import_bucket",
                )
            return answer["JobStatus"] in _RUNNING

        self._look(running)

    def _look(self, running: Callable[[], bool]) -> None:
        waited, wait = 0.0, FIRST_LOOK
        while running():
            if waited >= self._settings.patience_seconds:
                raise ProviderError(
                    NAME, "import job still running after providers.ses.patience_seconds; run sync again"
                )
            self._aws.sleep(wait)
            waited, wait = waited + wait, min(2 * wait, LONGEST_WAIT)

    def _jobs(self, urgent: bool) -> Iterator[ImportJobSummaryTypeDef]:
        """All import jobs into contact lists that SES still knows; in which order, it does not say."""
        ses, token = self._aws.ses, ""

        def page() -> ListImportJobsResponseTypeDef:
            more: dict[str, Any] = {"NextToken": token} if token else {}
            return whole(ses.list_import_jobs(ImportDestinationType="CONTACT_LIST", **more), "ImportJobs")

        while True:
            answer = self._aws.manage(page, urgent=urgent)
            yield from answer["ImportJobs"]
            token, last = answer.get("NextToken", ""), token
            if token in {"", last}:
                return
