"""Contacts, consent lists and the two carried fields in SendGrid's Marketing Campaigns.

Source: SendGrid's API reference, "Contacts", "Lists" and "Custom Fields". Imports and removals run in the background:
an accepted request (202) is not yet done, and contacts are known to have vanished after one. So nothing here takes a
202 for an answer: ``lookup`` reads back what stands.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from connectors.sendgrid.api import Api
from connectors.sendgrid.settings import NAME
from core.errors import ProviderError, ProviderRefused
from core.model import Contact, PurposeId

T = TypeVar("T")

CHOICES_FIELD = "pixelproof_choices_url"
PIXEL_FIELD = "pixelproof_pixel_path"
"""The custom fields, for templates of Single Sends and Automations."""

LONGEST_ADDRESS = 100
"""Characters. Contacts may have 254, but the lookup takes no more, and what cannot be read back is not confirmed."""

UPSERTED = 30_000
UPSERTED_BYTES = 5_500_000
"""A request takes 30,000 contacts or 6 MB; the rest of the request needs room too."""
LOOKED_UP = 100
TAKEN_OUT = 100
REFUSALS = 200
"""How many refused requests one batch may cost in the search for the contact that SendGrid objects to."""

_FINISHED = frozenset({"completed", "errored", "failed"})
_GZIP = b"\x1f\x8b"


class Found(msgspec.Struct):
    """A contact as SendGrid has it."""

    id: str
    email: str | None = None
    list_ids: list[str] | None = None
    custom_fields: dict[str, object] | None = None


class _Named(msgspec.Struct):
    id: str
    name: str


class _Links(msgspec.Struct):
    next: str | None = None


class _Lists(msgspec.Struct):
    result: list[_Named] | None
    metadata: _Links = msgspec.field(name="_metadata", default_factory=_Links)


class _Fields(msgspec.Struct):
    custom_fields: list[_Named] | None


class _Accepted(msgspec.Struct):
    job_id: str


class _Job(msgspec.Struct):
    status: str


class _Match(msgspec.Struct):
    contact: Found | None = None


class _Matches(msgspec.Struct):
    result: dict[str, _Match]


class _ExportRef(msgspec.Struct):
    id: str


class _Export(msgspec.Struct):
    status: str
    urls: list[str] | None = None
    contact_count: int | None = None


class _Row(msgspec.Struct):
    email: str | None = None


class Contacts:
    """The account's contacts.

    Args:
        api: The account.
        prefix: Consent lists are named ``<prefix>-<purpose>``.
    """

    def __init__(self, api: Api, prefix: str) -> None:
        self._api = api
        self._prefix = prefix

    def lists(self, purposes: Iterable[PurposeId]) -> dict[PurposeId, str]:
        """The ids of the consent lists that exist, by purpose."""
        known = self._list_ids()
        names = {purpose: self._list_name(purpose) for purpose in purposes}
        return {purpose: known[name] for purpose, name in names.items() if name in known}

    def create_list(self, purpose: PurposeId) -> str:
        """Create a purpose's consent list; answers its id."""
        return self._created("marketing/lists", {"name": self._list_name(purpose)}, self._list_ids)

    def fields(self) -> dict[str, str]:
        """The ids of the two carried fields by name, created when missing: a contact's fields are set by id."""
        known = self._field_ids()
        return {name: known.get(name) or self._new_field(name) for name in (CHOICES_FIELD, PIXEL_FIELD)}

    def upsert(self, contacts: Iterable[Contact], list_ids: Collection[str], fields: Mapping[str, str]) -> None:
        """Create or update contacts, add them to lists, and wait until SendGrid has finished.

        It takes nobody out of a list, and leaves out whom SendGrid refuses.
        """
        rows = (
            {"email": c.address, "custom_fields": {fields[name]: value for name, value in carried(c).items()}}
            for c in contacts
        )
        for batch in _batches(rows):
            sift(batch, lambda part: self._import(part, list_ids))

    def lookup(self, addresses: Iterable[str]) -> dict[str, Found]:
        """The contacts among these addresses (normalised), by address; those that SendGrid does not have are absent."""
        found: dict[str, Found] = {}
        for part in batched(addresses, LOOKED_UP):
            sift(part, lambda some: found.update(self._search(some)))
        return found

    def take_out(self, list_id: str, contact_ids: Sequence[str]) -> None:
        """Take contacts out of a list. Accepted is not done: read them back."""
        for part in batched(contact_ids, TAKEN_OUT):
            query = {"contact_ids": ",".join(part)}
            self._api.ask("delete", f"marketing/lists/{list_id}/contacts", _Accepted, query=query)

    def members(self, list_id: str) -> Iterator[str]:
        """The address of every contact in a list, by an export: no other call answers more than 50.

        That the files are lines of JSON, usually compressed, is unconfirmed: it is what programs that read them
        expect. Anything else raises.
        """
        body = {"list_ids": [list_id], "file_type": "json", "notifications": {"email": False}}
        export = self._api.ask("post", "marketing/contacts/exports", _ExportRef, body=body)
        done = self._api.until(lambda: self._export(export.id), "an export of contacts")
        read = 0
        for url in done.urls or []:
            for row in _rows(self._api.download(url)):
                read += 1
                if row.email:
                    yield row.email
        if done.contact_count not in (None, read):
            raise ProviderError(NAME, f"an export holds {read} of {done.contact_count} contacts; run this again")

    def _list_name(self, purpose: PurposeId) -> str:
        return f"{self._prefix}-{purpose}"

    def _list_ids(self) -> dict[str, str]:
        known: dict[str, str] = {}
        token: str | None = ""
        while token is not None:
            query = {"page_size": "1000"} | ({"page_token": token} if token else {})
            page = self._api.ask("get", "marketing/lists", _Lists, query=query)
            known.update({each.name: each.id for each in page.result or []})
            following = parse_qs(urlsplit(page.metadata.next or "").query).get("page_token", [None])[0]
            token = following if following != token else None
        return known

    def _field_ids(self) -> dict[str, str]:
        answer = self._api.ask("get", "marketing/field_definitions", _Fields)
        return {field.name.lower(): field.id for field in answer.custom_fields or []}

    def _new_field(self, name: str) -> str:
        return self._created("marketing/field_definitions", {"name": name, "field_type": "Text"}, self._field_ids)

    def _created(self, path: str, body: dict[str, str], known: Callable[[], Mapping[str, str]]) -> str:
        """Create something named. SendGrid refuses a name twice, so a lost answer is made good by looking it up."""
        try:
            return self._api.ask("post", path, _Named, body=body).id
        except ProviderRefused:
            found = known().get(body["name"])
            if found is None:
                raise
            return found

    def _import(self, rows: Sequence[dict[str, Any]], list_ids: Collection[str]) -> None:
        body = {"list_ids": sorted(list_ids), "contacts": rows}
        job = self._api.ask("put", "marketing/contacts", _Accepted, body=body).job_id
        self._api.until(lambda: self._finished(job), "an import of contacts")

    def _finished(self, job: str) -> bool | None:
        """Whether an import has ended, well or badly: who arrived is read back, so its counts decide nothing."""
        return self._api.ask("get", f"marketing/contacts/imports/{job}", _Job).status in _FINISHED or None

    def _search(self, addresses: Sequence[str]) -> dict[str, Found]:
        try:
            answer = self._api.ask("post", "marketing/contacts/search/emails", _Matches, body={"emails": addresses})
        except ProviderRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return {}  # the documented answer when none of them is a contact
        # A search also finds the contact of somebody else who has the address as an alternate one.
        contacts = (match.contact for match in answer.result.values() if match.contact)
        asked = set(addresses)
        return {c.email.lower(): c for c in contacts if c.email and c.email.lower() in asked}

    def _export(self, export: str) -> _Export | None:
        state = self._api.ask("get", f"marketing/contacts/exports/{export}", _Export)
        if state.status == "failure":
            raise ProviderError(NAME, "SendGrid could not export a list of contacts; run this again")
        return state if state.status == "ready" else None


def carried(contact: Contact) -> dict[str, str]:
    """What a contact carries at SendGrid, by the names of the fields."""
    return {CHOICES_FIELD: contact.choices_url, PIXEL_FIELD: contact.pixel_path}


def sift(items: Sequence[T], act: Callable[[Sequence[T]], None]) -> list[T]:
    """Run ``act`` on all items; where SendGrid refuses (400), on ever smaller parts. Answers the items refused.

    One address that SendGrid does not like must not hold up the others.

    Raises:
        ProviderRefused: after 200 refusals it has taken none, so the fault is not in some of them.
    """
    refused: list[T] = []
    waiting, refusals, taken = [items], 0, False
    while waiting:
        part = waiting.pop()
        try:
            act(part)
            taken = True
        except ProviderRefused as error:
            refusals += 1
            if error.status != HTTPStatus.BAD_REQUEST or (not taken and refusals > REFUSALS):
                raise
            half = len(part) // 2
            if half and refusals <= REFUSALS:
                waiting += [part[half:], part[:half]]
            else:
                refused += part
    return refused


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of at most ``size``."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in batches that SendGrid takes: by number and by size as the SDK writes them."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        length = len(json.dumps(row)) + 2
        if batch and (len(batch) == UPSERTED or size + length > UPSERTED_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch


def _rows(file: bytes) -> Iterator[_Row]:
    try:
        text = gzip.decompress(file) if file.startswith(_GZIP) else file
        for line in text.splitlines():
            if line.strip():
                yield msgspec.json.decode(line, type=_Row)
    except (OSError, EOFError, zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ProviderError(NAME, "the file of an export cannot be read: it is not lines of JSON") from None
