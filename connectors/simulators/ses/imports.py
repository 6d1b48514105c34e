"""S3's bucket for imports, and the import jobs that read it."""

from __future__ import annotations

import csv
import io
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from connectors.simulators.ses.contacts import Contacts
from connectors.simulators.ses.wire import ApiError, Json, invalid, required

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
        self._jobs: dict[str, Job] = {}
        self._now = now

    def put_object(self, request: Request, body: bytes) -> Response:
        """PutObject."""
        self.objects[request.path_params["key"]] = body
        return Response(headers={"ETag": f'"{uuid.uuid4().hex}"'})

    def delete_object(self, request: Request, _body: bytes) -> Response:
        """DeleteObject."""
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
        self._jobs[job.id] = job
        return {"JobId": job.id}

    def get(self, request: Request, _body: Json) -> Json:
        """GetImportJob. A job gets on by one step each time that somebody looks."""
        job = self._jobs.get(request.path_params["job"])
        if job is None:
            raise ApiError("NotFoundException", "Import job does not exist.", 404)
        if job.status == "CREATED":
            job.status = "PROCESSING"
        elif job.status == "PROCESSING":
            self._run(job)
        return job.shown()

    def _run(self, job: Job) -> None:
        source = job.request["ImportDataSource"]
        match = _S3_URL.fullmatch(source["S3Url"])
        content = self.objects.get(match["key"]) if match and match["bucket"] == self.bucket else None
        if content is None:
            job.status, job.error = "FAILED", "The object could not be read"
            return
        destination = job.request["ImportDestination"]["ContactListDestination"]
        for row in _csv_rows(content) if source["DataFormat"] == "CSV" else _json_rows(content):
            job.processed += 1
            try:
                self._contacts.row(destination["ContactListName"], destination["ContactListImportAction"], row)
            except ApiError:
                job.failed += 1
        job.status = "COMPLETED"


def _json_rows(content: bytes) -> Iterator[Json]:
    """One object a line; a line that is none is a row without an address."""
    for line in content.splitlines():
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
