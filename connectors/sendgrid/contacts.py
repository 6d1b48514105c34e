"""Contacts in SendGrid's Marketing Campaigns: the single calls, each in portions that SendGrid takes.

Source: SendGrid's API reference, "Contacts" and "Lists". Imports, removals and deletions run in the background: an
accepted request (202) is not yet done, and contacts are known to have vanished after one. So nothing here takes a 202
for an answer: ``lookup`` and the exports read back what stands.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from connectors.sendgrid.api import Api
from connectors.sendgrid.lists import Directory, carried
from core.batches import batched
from core.errors import ProviderRefused
from core.model import Contact, PurposeId

T = TypeVar("T")

LONGEST_ADDRESS = 100
"""Characters. Contacts may have 254, but the lookup takes no more, and what cannot be read back is not confirmed."""

UPSERTED = 30_000
UPSERTED_BYTES = 5_950_000
"""A request takes 30,000 contacts or 6 MB; its list ids need room too."""
LOOKED_UP = 100
TAKEN_OUT = 100
DELETED = 100
REFUSALS = 200
"""How many refused requests one batch may cost in the search for the contact that SendGrid objects to."""

_FINISHED = frozenset({"completed", "errored", "failed"})


class Found(msgspec.Struct):
    """A contact as SendGrid has it."""

    id: str
    email: str | None = None
    list_ids: list[str] | None = None
    custom_fields: dict[str, object] | None = None


class _Accepted(msgspec.Struct):
    job_id: str


class _Taken(msgspec.Struct):
    """An accepted request whose job nobody asks for; SendGrid's document even calls the job's id an object."""


class _Counts(msgspec.Struct):
    created_count: float = 0
    updated_count: float = 0
    errored_count: float = 0


class Import(msgspec.Struct):
    """How an import stands."""

    status: str
    results: _Counts | None = None

    def adds_up(self, contacts: int) -> bool:
        """Whether SendGrid says that it took all of so many contacts."""
        counts = self.results or _Counts()
        taken = counts.created_count + counts.updated_count
        return self.status == "completed" and not counts.errored_count and taken == contacts


class _Match(msgspec.Struct):
    contact: Found | None = None


class _Matches(msgspec.Struct):
    result: dict[str, _Match]


class Contacts:
    """The account's contacts.

    Args:
        api: The account.
        directory: The ids of its lists and fields.
    """

    def __init__(self, api: Api, directory: Directory) -> None:
        self._api = api
        self._directory = directory

    def upsert(self, rows: Sequence[dict[str, Any]], list_ids: Collection[str]) -> str:
        """Begin to create or update contacts and to add them to lists; answers the job. Takes nobody out of a list."""
        body = {"list_ids": sorted(list_ids), "contacts": rows}
        return self._api.ask("put", "marketing/contacts", _Accepted, body=body).job_id

    def finished(self, job: str, *, at_once: bool) -> Import:
        """Wait until an import has ended, well or badly; the first look at it is taken ``at_once`` or after a pause.

        Where a job went wrong SendGrid offers a file (``errors_url``). Its form is undocumented, so it is left alone:
        who arrived is read back.
        """
        return self._api.until(lambda: self._import(job), "an import of contacts", at_once=at_once)

    def lookup(self, addresses: Iterable[str]) -> dict[str, Found]:
        """The contacts among these addresses (normalised), by address; those that SendGrid does not have are absent."""
        found: dict[str, Found] = {}
        for part in batched(addresses, LOOKED_UP):
            sift(part, lambda some: found.update(self._search(some)))
        return found

    def take_out(self, purpose: PurposeId, contact_ids: Iterable[str]) -> None:
        """Take contacts out of a purpose's list. Accepted is not done: read them back.

        SendGrid refuses the whole request (404) when the list or one contact exists no more: both have nothing left
        to take out, and must not hold up the others.
        """
        for part in batched(contact_ids, TAKEN_OUT):
            try:
                self._take_out(purpose, part)
            except ProviderRefused as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                self._directory.refresh()
                sift(part, lambda some: self._take_out(purpose, some), HTTPStatus.NOT_FOUND)

    def delete(self, contact_ids: Iterable[str]) -> None:
        """Delete contacts altogether. Accepted is not done: look them up."""
        for part in batched(contact_ids, DELETED):
            sift(part, self._delete, HTTPStatus.NOT_FOUND)

    def _import(self, job: str) -> Import | None:
        state = self._api.ask("get", f"marketing/contacts/imports/{job}", Import)
        return state if state.status in _FINISHED else None

    def _take_out(self, purpose: PurposeId, contact_ids: Sequence[str]) -> None:
        list_id = self._directory.lists([purpose]).get(purpose)
        if list_id is not None:
            query = {"contact_ids": ",".join(contact_ids)}
            self._api.ask("delete", f"marketing/lists/{list_id}/contacts", _Taken, query=query)

    def _delete(self, contact_ids: Sequence[str]) -> None:
        self._api.ask("delete", "marketing/contacts", _Taken, query={"ids": ",".join(contact_ids)})

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


def row(contact: Contact, fields: Mapping[str, str]) -> dict[str, Any]:
    """A contact as an upsert takes it: custom fields go by their ids."""
    return {
        "email": contact.address,
        "custom_fields": {fields[name]: value for name, value in carried(contact).items()},
    }


def sift(
    items: Sequence[T], act: Callable[[Sequence[T]], None], status: HTTPStatus = HTTPStatus.BAD_REQUEST
) -> list[T]:
    """Run ``act`` on all items; where SendGrid refuses with this status, on ever smaller parts. Answers the refused.

    One item that SendGrid does not like must not hold up the others.

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
            if error.status != status or (not taken and refusals > REFUSALS):
                raise
            half = len(part) // 2
            if half and refusals <= REFUSALS:
                waiting += [part[half:], part[:half]]
            else:
                refused += part
    return refused
