"""Marketing Campaigns' contacts, lists, custom fields, imports and exports, as far as SendGrid documents them."""

from __future__ import annotations

import gzip
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from connectors.simulators.sendgrid.erasures import Erasures
from connectors.simulators.sendgrid.jobs import Jobs, Outcome
from connectors.simulators.sendgrid.people import Lists, People, Person
from connectors.simulators.sendgrid.wire import (
    ADDRESS,
    BAD_REQUEST,
    NOT_FOUND,
    ContactIn,
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
EXPORTED = 10_000
"""Contacts in each member of a packed export file."""
API = "https://api.sendgrid.com/v3/marketing"
"""The links in ``_metadata`` name the real API, whatever the address."""


class ContactsApi:
    """The routes under ``/v3/marketing`` and their state.

    Args:
        base_url: Answers where the simulator is served, for the addresses of export files.
        now: The clock.

    Attributes:
        jobs: What was accepted and is not done yet: imports, removals, deletions and exports.
        erasures: Erased records of recipients.
        refused: Addresses that an import reports as errored.
        lost: Addresses that an import counts as created and that never appear, as has been reported of SendGrid.
        mishaps: What befalls the next imports: ``fail`` (nothing is stored, and it says so), ``break`` (the same
            without any counts), ``half`` (the second half is errored), ``short`` (the second half is
            neither stored nor counted), ``drop`` (nothing is stored, and it says that all was), ``""`` (none).
        shows_fields: Whether exports hold the custom fields; SendGrid does not document what they hold.
        uploads: How many contacts each accepted upsert had.
    """

    def __init__(self, base_url: Callable[[], str], now: Callable[[], datetime]) -> None:
        self.jobs = Jobs()
        self.erasures = Erasures(now)
        self.refused: set[str] = set()
        self.lost: set[str] = set()
        self.mishaps: deque[str] = deque()
        self.shows_fields = True
        self.uploads: list[int] = []
        self._people = People()
        self._base_url = base_url
        self._now = now
        self._lists: dict[str, str] = {}
        self._fields: dict[str, tuple[str, str]] = {}
        self._exports: dict[str, list[Person]] = {}

    @property
    def people(self) -> dict[str, Person]:
        """The contacts by address."""
        return self._people.by_address

    def list_ids(self) -> set[str]:
        """The ids of the lists that exist."""
        return set(self._lists)

    def drop_list(self, name: str) -> None:
        """Delete a list, as somebody would in SendGrid's own interface; the contacts stay."""
        for list_id in [i for i, known in self._lists.items() if known == name]:
            del self._lists[list_id]

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
            ("DELETE", "/contacts", self._delete),
            ("GET", "/contacts/imports/{id}", self._import_state),
            ("POST", "/contacts/search/emails", self._search),
            ("POST", "/contacts/exports", self._export),
            ("GET", "/contacts/exports/{id}", self._export_state),
        ]
        return [
            *(Route(f"/v3/marketing{p}", guard(self._in_time(h)), methods=[verb]) for verb, p, h in table),
            Route("/v3/recipients/erasejob", guard(self.erasures), methods=["POST"]),
            Route("/_exports/{id}.json.gz", self._file),
        ]

    def _in_time(self, handler: Handler) -> Handler:
        async def later(request: Request) -> Response:
            self.jobs.tick()
            return await handler(request)

        return later

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
        ids = list(filter(None, request.query_params.get("contact_ids", "").split(",")))
        if not ids:
            return JSONResponse({"message": "contact_ids is required", "field": "contact_ids"}, BAD_REQUEST)
        if not self._people.known(ids):
            return JSONResponse({"message": "contact not found", "field": "contact_ids"}, NOT_FOUND)
        return JSONResponse({"job_id": self.jobs.add(lambda: self._removed(list_id, ids))}, 202)

    def _removed(self, list_id: str, ids: list[str]) -> Outcome:
        for person in self._people.chosen(ids):
            self._people.place(person, person.lists - {list_id})
        return {"status": "completed", "finished_at": self._stamp()}

    def _known_list(self, list_id: str) -> str:
        if list_id not in self._lists:
            raise Refused("list not found", "id", NOT_FOUND)
        return list_id

    def _list(self, list_id: str) -> dict[str, object]:
        links = {"self": f"{API}/lists/{list_id}"}
        count = self._people.in_list[list_id]
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
        lists = frozenset(map(self._known_list, upsert.list_ids))
        for place, contact in enumerate(upsert.contacts):
            if not (contact.email or contact.phone_number_id or contact.external_id or contact.anonymous_id):
                raise Refused("at least one identifier is required", f"contacts.{place}")
            for field_id in contact.custom_fields.keys() - self._fields.keys():
                raise Refused(f"no custom field {field_id}", f"contacts.{place}.custom_fields")
        mishap = self.mishaps.popleft() if self.mishaps else ""
        self.uploads.append(len(upsert.contacts))
        return JSONResponse({"job_id": self.jobs.add(lambda: self._import(upsert.contacts, lists, mishap))}, 202)

    def _import(self, contacts: list[ContactIn], lists: Lists, mishap: str) -> Outcome:
        """Store the contacts. Those without an address are known by another identifier, and left aside here."""
        if mishap == "break":
            return {"status": "failed", "job_type": "upsert", "finished_at": self._stamp()}
        if mishap == "short":
            contacts = contacts[: len(contacts) // 2]
        spared = {"fail": 0, "half": len(contacts) // 2}.get(mishap, len(contacts))
        created = updated = 0
        for contact in contacts[:spared]:
            address = contact.email.lower()
            if address in self.refused or not ADDRESS.fullmatch(address):
                continue
            created, updated = (created, updated + 1) if address in self.people else (created + 1, updated)
            if address not in self.lost and mishap != "drop":
                self._store(address, contact, lists)
        return self._result(len(contacts), created, updated)

    def _store(self, address: str, contact: ContactIn, lists: Lists) -> None:
        person = self._people.obtain(address, self._stamp())
        self._people.place(person, person.lists | lists)
        person.fields.update({self._fields[i][0]: value for i, value in contact.custom_fields.items()})

    def _result(self, requested: int, created: int, updated: int) -> Outcome:
        errored = requested - created - updated
        status = "completed" if not errored else "failed" if errored == requested else "errored"
        counts: dict[str, object] = {
            "requested_count": requested,
            "created_count": created,
            "updated_count": updated,
            "errored_count": errored,
        }
        if errored:
            counts["errors_url"] = f"{self._base_url()}/_errors"
        return {"status": status, "job_type": "upsert", "results": counts, "finished_at": self._stamp()}

    async def _delete(self, request: Request) -> Response:
        ids = list(filter(None, request.query_params.get("ids", "").split(",")))
        if not ids:
            raise Refused("ids or delete_all_contacts is required", "ids")
        if not self._people.known(ids):
            raise Refused("contact not found", "ids", NOT_FOUND)
        return JSONResponse({"job_id": self.jobs.add(lambda: self._deleted(ids))}, 202)

    def _deleted(self, ids: list[str]) -> Outcome:
        gone = list(self._people.chosen(ids))
        for person in gone:
            self._people.delete(person)
        results = {"requested_count": len(ids), "deleted_count": len(gone)}
        return {"status": "completed", "job_type": "delete", "results": results, "finished_at": self._stamp()}

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
            "list_ids": sorted(person.lists & self._lists.keys()),
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
        export_id = self.jobs.add(lambda: self._exported(export.list_ids))
        return JSONResponse({"id": export_id, "_metadata": {"self": f"{API}/contacts/exports/{export_id}"}}, 202)

    def _exported(self, list_ids: list[str]) -> Outcome:
        file = uuid.uuid4().hex
        chosen = self._exports[file] = self._people.members(list_ids)
        url = f"{self._base_url()}/_exports/{file}.json.gz"
        return {"status": "ready", "urls": [url], "contact_count": len(chosen), "completed_at": self._stamp()}

    async def _export_state(self, request: Request) -> Response:
        export_id, outcome = self._look(request)
        stamp = self._stamp()
        dates = {"created_at": stamp, "updated_at": stamp, "expires_at": stamp}
        return JSONResponse({"id": export_id, **dates, **(outcome or {"status": "pending"})})

    async def _file(self, request: Request) -> Response:
        if "authorization" in request.headers:
            return Response(status_code=405)  # the address is signed, and takes no second authentication
        chosen = self._exports.get(request.path_params["id"])
        if chosen is None:
            return Response(status_code=404)
        return StreamingResponse(self._packed(chosen), media_type="application/gzip")

    def _packed(self, chosen: list[Person]) -> Iterator[bytes]:
        """The file, made as it is read: kept, those of a large account would not fit into memory."""
        for start in range(0, len(chosen), EXPORTED):
            rows = [self._row(person) for person in chosen[start : start + EXPORTED]]
            yield gzip.compress(msgspec.json.Encoder().encode_lines(rows), 1)

    def _row(self, person: Person) -> dict[str, object]:
        row: dict[str, object] = {"contact_id": person.id, "email": person.email}
        return {**row, "custom_fields": person.fields} if self.shows_fields else row

    def _look(self, request: Request) -> tuple[str, Outcome | None]:
        job_id = request.path_params["id"]
        if not self.jobs.known(job_id):
            raise Refused("job not found", "id", NOT_FOUND)
        return job_id, self.jobs.outcome(job_id)

    def _stamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise Refused(f"{name} must be a number", name)
    return int(text)
