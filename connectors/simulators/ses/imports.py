"""S3's bucket for imports, and the import jobs that read it."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from connectors.simulators.ses.contacts import Contacts
from connectors.simulators.ses.wire import ApiError, Json, invalid, required

SLICE = 5_000
"""Rows that are done at once; between two slices other requests are answered."""

_S3_URL = re.compile(r"s3://(?P<bucket>[^/]+)/(?P<key>.+)")


@dataclass(slots=True)
class Job:
    """An import job: what was asked for and how far it is."""

    id: str
    request: Json
    created: float
    status: str = "CREATED"
    processed: int = 0
    failed: int = 0
    error: str | None = None
    rows: Iterator[Json] | None = None

    def shown(self) -> Json:
        """As GetImportJob answers it."""
        return {
            "JobId": self.id,
            "ImportDestination": self.request["ImportDestination"],
            "ImportDataSource": self.request["ImportDataSource"],
            "JobStatus": self.status,
            "CreatedTimestamp": self.created,
            "ProcessedRecordsCount": self.processed,
            "FailedRecordsCount": self.failed,
        } | ({"FailureInfo": {"ErrorMessage": self.error}} if self.error else {})


class Imports:
    """The bucket and the jobs.

    Args:
        bucket: The bucket's name.
        contacts: What the jobs write.
        now: The clock.
    """

    def __init__(self, bucket: str, contacts: Contacts, now: Callable[[], datetime]) -> None:
        self.bucket = bucket
        self.objects: dict[str, bytes] = {}
        self._contacts = contacts
        self.jobs: dict[str, Job] = {}
        self._now = now
        self._tasks: set[asyncio.Task[None]] = set()

    def put_object(self, request: Request, body: bytes) -> Response:
        """PutObject."""
        self.objects[request.path_params["key"]] = body
        return Response(headers={"ETag": f'"{uuid.uuid4().hex}"'})

    def delete_object(self, request: Request, _body: bytes) -> Response:
        """DeleteObject. A job that has begun to read the object goes on."""
        self.objects.pop(request.path_params["key"], None)
        return Response(status_code=204)

    def create(self, _request: Request, body: Json) -> Json:
        """CreateImportJob."""
        source = required(body, "ImportDataSource", dict)
        destination = required(body, "ImportDestination", dict).get("ContactListDestination") or {}
        if not _S3_URL.fullmatch(str(source.get("S3Url"))):
            raise invalid("importDataSource.s3Url", "Member must satisfy regular expression pattern")
        if source.get("DataFormat") not in {"CSV", "JSON"}:
            raise invalid("importDataSource.dataFormat", "Member must satisfy enum value set: [CSV, JSON]")
        if destination.get("ContactListImportAction") not in {"PUT", "DELETE"}:
            raise invalid("importDestination", "Member must satisfy enum value set: [DELETE, PUT]")
        self._contacts.named(str(destination.get("ContactListName")))
        job = Job(str(uuid.uuid4()), body, self._now().timestamp())
        self.jobs[job.id] = job
        return {"JobId": job.id}

    def get(self, request: Request, _body: Json) -> Json:
        """GetImportJob. A job gets on by one step each time that somebody looks."""
        job = self.jobs.get(request.path_params["job"])
        if job is None:
            raise ApiError("NotFoundException", "Import job does not exist.", 404)
        self._step(job)
        return job.shown()

    def listed(self, _request: Request, _body: Json) -> Json:
        """ListImportJobs, all on one page. This is a look at each of them."""
        for job in self.jobs.values():
            self._step(job)
        kept = ("JobId", "ImportDestination", "JobStatus", "CreatedTimestamp")
        return {"ImportJobs": [{name: job.shown()[name] for name in kept} for job in self.jobs.values()]}

    def _step(self, job: Job) -> None:
        if job.status == "CREATED":
            job.status = "PROCESSING"
        elif job.status == "PROCESSING" and job.rows is None:
            self._run(job)

    def _run(self, job: Job) -> None:
        """Begin to read the object. A small one is done at once, a large one beside other requests."""
        source = job.request["ImportDataSource"]
        match = _S3_URL.fullmatch(source["S3Url"])
        content = self.objects.get(match["key"]) if match and match["bucket"] == self.bucket else None
        if content is None:
            job.status, job.error = "FAILED", "The object could not be read"
            return
        job.rows = _csv_rows(content) if source["DataFormat"] == "CSV" else _json_rows(content)
        if self._slice(job):
            task = asyncio.get_running_loop().create_task(self._go_on(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _go_on(self, job: Job) -> None:
        while self._slice(job):  # noqa: ASYNC110 - this is the work, not a wait for it
            await asyncio.sleep(0)

    def _slice(self, job: Job) -> bool:
        """Do some rows; False when there are no more."""
        destination = job.request["ImportDestination"]["ContactListDestination"]
        rows = list(islice(job.rows or (), SLICE))
        for row in rows:
            job.processed += 1
            try:
                self._contacts.row(destination["ContactListName"], destination["ContactListImportAction"], row)
            except ApiError:
                job.failed += 1
        if len(rows) < SLICE:
            job.status = "COMPLETED"
        return len(rows) == SLICE


def _json_rows(content: bytes) -> Iterator[Json]:
    """One object a line; a line that is none is a row without an address."""
    for line in io.BytesIO(content):
        if line.strip():
            try:
                row = msgspec.json.decode(line)
            except (ValueError, RecursionError):
                row = None
            yield row if isinstance(row, dict) else {}


def _csv_rows(content: bytes) -> Iterator[Json]:
    for row in csv.DictReader(io.StringIO(content.decode("utf-8", "replace"))):
        yield {
            "emailAddress": row.get("emailAddress"),
            "unsubscribeAll": row.get("unsubscribeAll") == "true",
            "attributesData": row.get("attributesData") or None,
            "topicPreferences": [
                {"topicName": name.removeprefix("topicPreferences."), "subscriptionStatus": status}
                for name, status in row.items()
                if name and name.startswith("topicPreferences.") and status
            ],
        }
