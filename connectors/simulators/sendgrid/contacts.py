"""Marketing Campaigns' contacts, lists, custom fields, imports and exports, as far as SendGrid documents them."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from connectors.simulators.sendgrid.wire import (
    ADDRESS,
    BAD_REQUEST,
    NOT_FOUND,
    Emails,
    Export,
    Handler,
    Named,
    NewField,
    Refused,
    Upsert,
    read,
)

UPSERT_BYTES = 6_000_000
API = "https://api.sendgrid.com/v3/marketing"
"""The links in ``_metadata`` name the real API, whatever the address."""


@dataclass(slots=True)
class Person:
    """A contact."""

    id: str
    email: str
    at: str
    lists: set[str] = field(default_factory=set)
    fields: dict[str, str | int | float] = field(default_factory=dict)


@dataclass(slots=True)
class Job:
    """An import or an export that runs when it is looked at for the second time."""

    run: Callable[[], dict[str, object]]
    looked_at: bool = False
    outcome: dict[str, object] | None = None


class ContactsApi:
    """The routes under ``/v3/marketing`` and their state.

    Args:
        base_url: Answers where the simulator is served, for the addresses of export files.
        now: The clock.

    Attributes:
        people: The contacts by address.
        refused: Addresses that an import reports as errored.
        lost: Addresses that an import counts as created and that never appear, as has been reported of SendGrid.
    """

    def __init__(self, base_url: Callable[[], str], now: Callable[[], datetime]) -> None:
        self.people: dict[str, Person] = {}
        self.refused: set[str] = set()
        self.lost: set[str] = set()
        self._base_url = base_url
        self._now = now
        self._lists: dict[str, str] = {}
        self._fields: dict[str, tuple[str, str]] = {}
        self._jobs: dict[str, Job] = {}
        self._files: dict[str, bytes] = {}

    def routes(self, guard: Callable[[Handler], Handler]) -> list[BaseRoute]:
        """The routes, each behind ``guard``; export files stand outside, with signed addresses of their own."""
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/lists", self._list_lists),
            ("POST", "/lists", self._create_list),
            ("GET", "/lists/{id}", self._get_list),
            ("DELETE", "/lists/{id}/contacts", self._remove),
            ("GET", "/field_definitions", self._list_fields),
            ("POST", "/field_definitions", self._create_field),
            ("PUT", "/contacts", self._upsert),
            ("GET", "/contacts/imports/{id}", self._import_state),
            ("POST", "/contacts/search/emails", self._search),
            ("POST", "/contacts/exports", self._export),
            ("GET", "/contacts/exports/{id}", self._export_state),
        ]
        marketing = [Route(f"/v3/marketing{path}", guard(handler), methods=[verb]) for verb, path, handler in table]
        return [*marketing, Route("/_exports/{id}.json.gz", self._file)]

    # Lists

    async def _list_lists(self, request: Request) -> Response:
        size = _number(request.query_params.get("page_size", "100"), "page_size")
        start = _number(request.query_params.get("page_token") or "0", "page_token")
        if not 1 <= size <= 1000:  # noqa: PLR2004 - documented
            raise Refused("page_size must be between 1 and 1000", "page_size")
        every = list(self._lists)
        links: dict[str, object] = {"self": f"{API}/lists?page_size={size}&page_token={start}", "count": len(every)}
        if start + size < len(every):
            links["next"] = f"{API}/lists?page_size={size}&page_token={start + size}"
        return JSONResponse({"result": [self._list(i) for i in every[start : start + size]], "_metadata": links})

    async def _create_list(self, request: Request) -> Response:
        name = (await read(request, Named)).name
        if name in self._lists.values():
            raise Refused(f"a list named {name!r} already exists", "name")
        list_id = str(uuid.uuid4())
        self._lists[list_id] = name
        return JSONResponse(self._list(list_id), 201)

    async def _get_list(self, request: Request) -> Response:
        list_id = request.path_params["id"]
        if list_id not in self._lists:
            return JSONResponse([{"message": "list not found", "field": "id"}], NOT_FOUND)  # no errors object here
        return JSONResponse(self._list(list_id))

    async def _remove(self, request: Request) -> Response:
        list_id = self._known_list(request.path_params["id"])
        ids = set(filter(None, request.query_params.get("contact_ids", "").split(",")))
        if not ids:
            return JSONResponse({"message": "contact_ids is required", "field": "contact_ids"}, BAD_REQUEST)
        for person in self.people.values():
            if person.id in ids:
                person.lists.discard(list_id)
        return JSONResponse({"job_id": str(uuid.uuid4())}, 202)

    def _known_list(self, list_id: str) -> str:
        if list_id not in self._lists:
            raise Refused("list not found", "id", NOT_FOUND)
        return list_id

    def _list(self, list_id: str) -> dict[str, object]:
        count = sum(list_id in person.lists for person in self.people.values())
        links = {"self": f"{API}/lists/{list_id}"}
        return {"id": list_id, "name": self._lists[list_id], "contact_count": count, "_metadata": links}

    # Custom fields

    async def _list_fields(self, _request: Request) -> Response:
        custom = [{"id": i, "name": name, "field_type": kind} for i, (name, kind) in self._fields.items()]
        reserved = [{"id": "_rf2_T", "name": "email", "field_type": "Text"}]
        links = {"self": f"{API}/field_definitions"}
        return JSONResponse({"custom_fields": custom, "reserved_fields": reserved, "_metadata": links})

    async def _create_field(self, request: Request) -> Response:
        new = await read(request, NewField)
        if new.name.lower() in {"email", *(name.lower() for name, _ in self._fields.values())}:
            raise Refused("a field with this name already exists", "name")
        field_id = f"e{len(self._fields) + 1}_{new.field_type[0]}"
        self._fields[field_id] = (new.name, new.field_type)
        links = {"self": f"{API}/field_definitions/{field_id}"}
        return JSONResponse({"id": field_id, "name": new.name, "field_type": new.field_type, "_metadata": links})

    # Contacts

    async def _upsert(self, request: Request) -> Response:
        if len(await request.body()) > UPSERT_BYTES:
            raise Refused("the request is larger than 6 MB", "contacts")
        upsert = await read(request, Upsert)
        for list_id in upsert.list_ids:
            self._known_list(list_id)
        for place, contact in enumerate(upsert.contacts):
            if not (contact.email or contact.phone_number_id or contact.external_id or contact.anonymous_id):
                raise Refused("at least one identifier is required", f"contacts.{place}")
            for field_id in contact.custom_fields.keys() - self._fields.keys():
                raise Refused(f"no custom field {field_id}", f"contacts.{place}.custom_fields")
        return JSONResponse({"job_id": self._job(lambda: self._import(upsert))}, 202)

    def _import(self, upsert: Upsert) -> dict[str, object]:
        """Store the contacts. Those without an address are known by another identifier, and left aside here."""
        counts = {"requested_count": len(upsert.contacts), "created_count": 0, "updated_count": 0, "errored_count": 0}
        for contact in upsert.contacts:
            address = contact.email.lower()
            if address in self.refused or not ADDRESS.fullmatch(address):
                counts["errored_count"] += 1
                continue
            counts["updated_count" if address in self.people else "created_count"] += 1
            if address not in self.lost:
                person = self.people.setdefault(address, Person(str(uuid.uuid4()), address, self._stamp()))
                person.lists.update(upsert.list_ids)
                person.fields.update({self._fields[i][0]: value for i, value in contact.custom_fields.items()})
        errored = counts["errored_count"]
        status = "completed" if not errored else "failed" if errored == len(upsert.contacts) else "errored"
        return {"status": status, "job_type": "upsert", "results": counts, "finished_at": self._stamp()}

    async def _import_state(self, request: Request) -> Response:
        job_id, outcome = self._look(request)
        return JSONResponse({"id": job_id, "started_at": self._stamp(), **(outcome or {"status": "pending"})})

    async def _search(self, request: Request) -> Response:
        emails = {email.lower() for email in (await read(request, Emails)).emails if email}
        if not all(ADDRESS.fullmatch(email) for email in emails):
            raise Refused("email is not valid", "emails")
        result: dict[str, object] = {}
        for email in emails:
            person = self.people.get(email)
            result[email] = {"contact": self._contact(person)} if person else {"error": "contact not found"}
        if not emails & self.people.keys():
            raise Refused("no contacts found", "emails", NOT_FOUND)
        return JSONResponse({"result": result})

    def _contact(self, person: Person) -> dict[str, object]:
        return {
            "id": person.id,
            "email": person.email,
            "alternate_emails": [],
            "list_ids": sorted(person.lists),
            "segment_ids": [],
            "custom_fields": person.fields,
            "created_at": person.at,
            "updated_at": person.at,
            "_metadata": {"self": f"{API}/contacts/{person.id}"},
        }

    # Exports

    async def _export(self, request: Request) -> Response:
        export = await read(request, Export)
        for list_id in export.list_ids:
            self._known_list(list_id)
        if export.file_type != "json":
            raise Refused("this simulator exports json only", "file_type")
        export_id = str(uuid.uuid4())
        self._jobs[export_id] = Job(lambda: self._exported(export_id, set(export.list_ids)))
        return JSONResponse({"id": export_id, "_metadata": {"self": f"{API}/contacts/exports/{export_id}"}}, 202)

    def _exported(self, export_id: str, lists: set[str]) -> dict[str, object]:
        chosen = [person for person in self.people.values() if not lists or person.lists & lists]
        rows = ({"contact_id": p.id, "email": p.email, "custom_fields": p.fields} for p in chosen)
        self._files[export_id] = gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode(), 1)
        url = f"{self._base_url()}/_exports/{export_id}.json.gz"
        return {"status": "ready", "urls": [url], "contact_count": len(chosen), "completed_at": self._stamp()}

    async def _export_state(self, request: Request) -> Response:
        export_id, outcome = self._look(request)
        stamp = self._stamp()
        dates = {"created_at": stamp, "updated_at": stamp, "expires_at": stamp}
        return JSONResponse({"id": export_id, **dates, **(outcome or {"status": "pending"})})

    async def _file(self, request: Request) -> Response:
        if "authorization" in request.headers:
            return Response(status_code=405)  # the address is signed, and takes no second authentication
        file = self._files.get(request.path_params["id"])
        return Response(file, media_type="application/gzip") if file is not None else Response(status_code=404)

    # Jobs

    def _job(self, run: Callable[[], dict[str, object]]) -> str:
        job_id = str(uuid.uuid4())
        self._jobs[job_id] = Job(run)
        return job_id

    def _look(self, request: Request) -> tuple[str, dict[str, object] | None]:
        job_id = request.path_params["id"]
        job = self._jobs.get(job_id)
        if job is None:
            raise Refused("job not found", "id", NOT_FOUND)
        if job.looked_at and job.outcome is None:
            job.outcome, job.run = job.run(), dict
        job.looked_at = True
        return job_id, job.outcome

    def _stamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise Refused(f"{name} must be a number", name)
    return int(text)
