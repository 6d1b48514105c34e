"""The ids of the consent lists and of the two carried fields, looked up by name once and then remembered.

Source: SendGrid's API reference, "Lists" and "Custom Fields". SendGrid wants ids everywhere, and a withdrawal should
not wait for two listings first. What is remembered may be outdated: somebody deletes a list, or another process
creates one. So it is read anew when a name is missing, when SendGrid refuses an id, and when a contact stands in a
list that is not known.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import parse_qs, urlsplit

import msgspec

from connectors.sendgrid.api import Api
from core.errors import ProviderRefused
from core.model import Contact, PurposeId

Lists = Mapping[PurposeId, str]
"""The ids of consent lists by purpose."""

CHOICES_FIELD = "pixelproof_choices_url"
PIXEL_FIELD = "pixelproof_pixel_path"
"""The custom fields, for templates of Single Sends and Automations."""

_NOTHING: Mapping[str, str] = {}


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


class Directory:
    """One account's lists and custom fields by name. Shared by threads: what is remembered is replaced as a whole.

    Args:
        api: The account.
        prefix: Consent lists are named ``<prefix>-<purpose>``.
    """

    def __init__(self, api: Api, prefix: str) -> None:
        self._api = api
        self._prefix = prefix
        self._creating = threading.Lock()
        self._list_ids = _NOTHING
        self._field_ids = _NOTHING

    def refresh(self) -> None:
        """Read the lists anew."""
        self._list_ids = self._read_lists()

    def forget_fields(self) -> None:
        """Read the fields anew when they are next needed."""
        self._field_ids = _NOTHING

    def lists(self, purposes: Iterable[PurposeId]) -> dict[PurposeId, str]:
        """The ids of the consent lists that exist, by purpose. None is created, for that may fail."""
        names = {purpose: self._name(purpose) for purpose in purposes}
        if set(names.values()) - self._list_ids.keys():
            self._list_ids = self._read_lists()
        known = self._list_ids
        return {purpose: known[name] for purpose, name in names.items() if name in known}

    def made(self, purposes: Iterable[PurposeId]) -> dict[PurposeId, str]:
        """The ids of these purposes' consent lists, created where they are missing."""
        wanted = sorted(purposes)
        with self._creating:
            found = self.lists(wanted)
            for purpose in wanted:
                if purpose not in found:
                    body = {"name": self._name(purpose)}
                    found[purpose] = self._created("marketing/lists", body, self._read_lists)
                    self._list_ids = {**self._list_ids, body["name"]: found[purpose]}
        return found

    def knows(self, list_ids: Iterable[str]) -> bool:
        """Whether all of these are lists that have been seen, be they this product's or the team's own."""
        return not set(list_ids).difference(self._list_ids.values())

    def fields(self) -> Mapping[str, str]:
        """The ids of the two carried fields by name, created when missing: a contact's fields are set by id."""
        if known := self._field_ids:
            return known
        with self._creating:
            found = self._read_fields()
            self._field_ids = {name: found.get(name) or self._new_field(name) for name in (CHOICES_FIELD, PIXEL_FIELD)}
            return self._field_ids

    def _name(self, purpose: PurposeId) -> str:
        return f"{self._prefix}-{purpose}"

    def _read_lists(self) -> dict[str, str]:
        known: dict[str, str] = {}
        token: str | None = ""
        while token is not None:
            query = {"page_size": "1000"} | ({"page_token": token} if token else {})
            page = self._api.ask("get", "marketing/lists", _Lists, query=query)
            known.update({each.name: each.id for each in page.result or []})
            following = parse_qs(urlsplit(page.metadata.next or "").query).get("page_token", [None])[0]
            token = following if following != token else None
        return known

    def _read_fields(self) -> dict[str, str]:
        answer = self._api.ask("get", "marketing/field_definitions", _Fields)
        return {field.name.lower(): field.id for field in answer.custom_fields or []}

    def _new_field(self, name: str) -> str:
        return self._created("marketing/field_definitions", {"name": name, "field_type": "Text"}, self._read_fields)

    def _created(self, path: str, body: dict[str, str], known: Callable[[], Mapping[str, str]]) -> str:
        """Create something named. SendGrid refuses a name twice, so a lost answer is made good by looking it up."""
        try:
            return self._api.ask("post", path, _Named, body=body).id
        except ProviderRefused:
            found = known().get(body["name"])
            if found is None:
                raise
            return found


def carried(contact: Contact) -> dict[str, str]:
    """What a contact carries at SendGrid, by the names of the fields."""
    return {CHOICES_FIELD: contact.choices_url, PIXEL_FIELD: contact.pixel_path}


def carries(has: Mapping[str, object] | None, fields: Mapping[str, str], contact: Contact) -> bool:
    """Whether custom fields as SendGrid shows them, by name or by id, are those that the contact shall carry."""
    shown = has or {}
    return all((shown.get(name) or shown.get(fields[name]) or "") == value for name, value in carried(contact).items())
