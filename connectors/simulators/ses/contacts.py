"""The account's one contact list: its topics and its contacts.

Error texts are as others observed them at AWS. Updates and imports replace the whole contact, topics included, as AWS's
API reference says of both ("all your existing preferences will be removed"; "it will override it with the new value").
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime

from starlette.requests import Request

from connectors.simulators.ses.wire import ApiError, Json, invalid, required

TOPICS = 20
PAGE = 1_000
STATUSES = ("OPT_OUT", "OPT_IN")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ADDRESS = re.compile(r"[^@\s]{1,64}@[^@\s]+\.[^@\s]+")


@dataclass(slots=True)
class Contact:
    """One contact as SES keeps it."""

    address: str
    created: float
    updated: float
    preferences: dict[str, str] = field(default_factory=dict)
    unsubscribed: bool = False
    attributes: str | None = None


class Held(MutableMapping[str, Contact]):
    """Contacts by address, in the order in which they came: a page takes the time of its own length alone."""

    def __init__(self) -> None:
        self._contacts: dict[str, Contact] = {}
        self._order: list[str | None] = []
        self._places: dict[str, int] = {}

    def __getitem__(self, address: str) -> Contact:
        return self._contacts[address]

    def __setitem__(self, address: str, contact: Contact) -> None:
        if address not in self._contacts:
            self._places[address] = len(self._order)
            self._order.append(address)
        self._contacts[address] = contact

    def __delitem__(self, address: str) -> None:
        del self._contacts[address]
        self._order[self._places.pop(address)] = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._contacts)

    def __len__(self) -> int:
        return len(self._contacts)

    def page(self, start: int, size: int) -> tuple[list[Contact], bool]:
        """The contacts of some places, less those that left since, and whether there are places behind them."""
        addresses = self._order[start : start + size]
        return [self._contacts[each] for each in addresses if each is not None], start + size < len(self._order)


@dataclass(slots=True)
class ContactList:
    """The list."""

    name: str
    created: float
    updated: float
    description: str | None = None
    topics: list[Json] = field(default_factory=list)
    contacts: Held = field(default_factory=Held)

    def topic_names(self) -> set[str]:
        """The names of its topics."""
        return {topic["TopicName"] for topic in self.topics}

    def status(self, contact: Contact, topic: str, *, default: bool) -> str | None:
        """Where a contact stands on a topic."""
        if contact.unsubscribed:
            return "OPT_OUT"
        if topic in contact.preferences or not default:
            return contact.preferences.get(topic)
        return next((t["DefaultSubscriptionStatus"] for t in self.topics if t["TopicName"] == topic), None)


class Contacts:
    """The list and its contacts.

    Args:
        now: The clock.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.list: ContactList | None = None
        self._now = now
        self._alike: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}

    # The list

    def create_list(self, _request: Request, body: Json) -> Json:
        """CreateContactList."""
        name = required(body, "ContactListName")
        topics = _topics(body)
        if not _NAME.fullmatch(name):
            raise ApiError("BadRequestException", "ContactListName can contain up to 64 characters.")
        if self.list is not None:
            raise ApiError("BadRequestException", "A maximum of 1 Lists allowed per account.")
        at = self._now().timestamp()
        self.list = ContactList(name, at, at, body.get("Description"), topics)
        return {}

    def get_list(self, request: Request, _body: Json) -> Json:
        """GetContactList."""
        found = self._list(request)
        shown: Json = {
            "ContactListName": found.name,
            "Topics": found.topics,
            "CreatedTimestamp": found.created,
            "LastUpdatedTimestamp": found.updated,
        }
        return shown | ({"Description": found.description} if found.description else {})

    def update_list(self, request: Request, body: Json) -> Json:
        """UpdateContactList: a complete replacement."""
        found = self._list(request)
        found.topics, found.description = _topics(body), body.get("Description")
        found.updated = self._now().timestamp()
        return {}

    # Contacts

    def create(self, request: Request, body: Json) -> Json:
        """CreateContact."""
        address = required(body, "EmailAddress")
        preferences = _preferences(body)
        _check_address(address)
        held = self._list(request)
        _check_topics(held, preferences)
        if address in held.contacts:
            raise ApiError("AlreadyExistsException", f"{address} already exists in List.")
        self._put(held, address, preferences, body)
        return {}

    def get(self, request: Request, _body: Json) -> Json:
        """GetContact."""
        held, contact = self._contact(request)
        shown: Json = {"ContactListName": held.name, "CreatedTimestamp": contact.created, **_shown(held, contact)}
        return shown | ({"AttributesData": contact.attributes} if contact.attributes is not None else {})

    def update(self, request: Request, body: Json) -> Json:
        """UpdateContact: what is omitted is reset (UnsubscribeAll), cleared (AttributesData) or removed (topics)."""
        preferences = _preferences(body)
        held, contact = self._contact(request)
        _check_topics(held, preferences)
        self._put(held, contact.address, preferences, body)
        return {}

    def delete(self, request: Request, _body: Json) -> Json:
        """DeleteContact."""
        held, contact = self._contact(request)
        del held.contacts[contact.address]
        return {}

    def listed(self, request: Request, body: Json) -> Json:
        """ListContacts: pages are cut before they are filtered, so one may be empty and not be the last."""
        held = self._list(request)
        size = body.get("PageSize", PAGE)
        if not isinstance(size, int) or not 1 <= size <= PAGE:
            raise ApiError("BadRequestException", "PageSize is out of range")
        start = _start(body.get("NextToken"))
        page, more = held.contacts.page(start, size)
        matching = [_shown(held, c) for c in page if _passes(held, c, body.get("Filter") or {})]
        return {"Contacts": matching} | ({"NextToken": _token(start + size)} if more else {})

    def leave(self, address: str) -> tuple[Json, Json, str] | None:
        """The person uses the list's unsubscribe link: preferences before and after, and the list's name."""
        if self.list is None:
            return None
        at = self._now().timestamp()
        contact = self.list.contacts.setdefault(address, Contact(address, at, at))
        before = _as_event(contact)
        contact.unsubscribed, contact.updated = True, at
        return before, _as_event(contact), self.list.name

    def row(self, name: str, action: str, row: Json) -> None:
        """One row of an import job: PUT replaces the whole contact, DELETE removes it."""
        held = self.named(name)
        body = {
            "TopicPreferences": [
                {"TopicName": p.get("topicName"), "SubscriptionStatus": p.get("subscriptionStatus")}
                for p in row.get("topicPreferences") or []
            ],
            "UnsubscribeAll": row.get("unsubscribeAll", False),
            "AttributesData": row.get("attributesData"),
        }
        address, preferences = str(row.get("emailAddress")), _preferences(body)
        _check_address(address)
        _check_topics(held, preferences)
        if action == "PUT":
            self._put(held, address, preferences, body)
        elif held.contacts.pop(address, None) is None:
            raise ApiError("NotFoundException", f"{address} doesn't exist in List.", 404)

    def named(self, name: str) -> ContactList:
        """The list of that name; raises ApiError when it is another or there is none."""
        if self.list is None or self.list.name != name:
            raise ApiError("NotFoundException", f"List with name: {name} doesn't exist.", 404)
        return self.list

    # Within

    def _put(self, held: ContactList, address: str, preferences: dict[str, str], body: Json) -> None:
        attributes, unsubscribed = body.get("AttributesData"), body.get("UnsubscribeAll", False)
        if not isinstance(attributes, str | None) or not isinstance(unsubscribed, bool):
            raise ApiError("SerializationException", "AttributesData or UnsubscribeAll has the wrong type")
        at = self._now().timestamp()
        known = held.contacts.get(address)
        created = known.created if known else at
        # A million contacts stand on few sets of topics; nobody changes one in place.
        shared = self._alike.setdefault(tuple(preferences.items()), preferences)
        held.contacts[address] = Contact(address, created, at, shared, unsubscribed, attributes)

    def _contact(self, request: Request) -> tuple[ContactList, Contact]:
        address = request.path_params["address"]
        _check_address(address)
        held = self._list(request)
        if address not in held.contacts:
            raise ApiError("NotFoundException", f"{address} doesn't exist in List.", 404)
        return held, held.contacts[address]

    def _list(self, request: Request) -> ContactList:
        return self.named(request.path_params["list"])


def _topics(body: Json) -> list[Json]:
    topics: list[Json] = body.get("Topics") or []
    for place, topic in enumerate(topics, 1):
        for name in ("TopicName", "DisplayName", "DefaultSubscriptionStatus"):
            if topic.get(name) is None:
                raise invalid(f"topics.{place}.member.{name[:1].lower()}{name[1:]}", "Member must not be null")
        if topic["DefaultSubscriptionStatus"] not in STATUSES:
            raise invalid(f"topics.{place}.member.defaultSubscriptionStatus", "Member must satisfy enum value set")
        if not _NAME.fullmatch(topic["TopicName"]):
            raise ApiError("BadRequestException", "TopicName can contain up to 64 characters.")
    if len(topics) > TOPICS:
        raise ApiError("BadRequestException", f"Maximum of <{TOPICS}> topics allowed per ContactList")
    if len({topic["TopicName"] for topic in topics}) < len(topics):
        raise ApiError("BadRequestException", "Duplicate topic names are not allowed within a List.")
    return topics


def _preferences(body: Json) -> dict[str, str]:
    found = {}
    for place, each in enumerate(body.get("TopicPreferences") or [], 1):
        if each.get("SubscriptionStatus") not in STATUSES:
            raise invalid(
                f"topicPreferences.{place}.member.subscriptionStatus",
                "Member must satisfy enum value set: [OPT_OUT, OPT_IN]",
            )
        found[str(each.get("TopicName"))] = each["SubscriptionStatus"]
    return found


def _check_address(address: str) -> None:
    if not address.strip():
        raise ApiError("BadRequestException", "EmailAddress can't be blank.")
    if not _ADDRESS.fullmatch(address):
        raise ApiError("BadRequestException", f"EmailAddress <{address}> is invalid")


def _check_topics(held: ContactList, preferences: dict[str, str]) -> None:
    for topic in preferences.keys() - held.topic_names():
        raise ApiError("BadRequestException", f"List: {held.name} doesn't contain Topic: {topic}")


def _shown(held: ContactList, contact: Contact) -> Json:
    unsaid = [topic for topic in held.topics if topic["TopicName"] not in contact.preferences]
    return {
        "EmailAddress": contact.address,
        "TopicPreferences": [{"TopicName": t, "SubscriptionStatus": s} for t, s in contact.preferences.items()],
        "TopicDefaultPreferences": [
            {"TopicName": t["TopicName"], "SubscriptionStatus": t["DefaultSubscriptionStatus"]} for t in unsaid
        ],
        "UnsubscribeAll": contact.unsubscribed,
        "LastUpdatedTimestamp": contact.updated,
    }


def _passes(held: ContactList, contact: Contact, wanted: Json) -> bool:
    status, topic = wanted.get("FilteredStatus"), wanted.get("TopicFilter") or {}
    if status is None:
        return True
    if not topic.get("TopicName"):
        return contact.unsubscribed is (status == "OPT_OUT")
    default = bool(topic.get("UseDefaultIfPreferenceUnavailable"))
    return bool(held.status(contact, topic["TopicName"], default=default) == status)


def _as_event(contact: Contact) -> Json:
    spelt = {"OPT_IN": "OptIn", "OPT_OUT": "OptOut"}
    return {
        "unsubscribeAll": contact.unsubscribed,
        "topicSubscriptionStatus": [
            {"topicName": topic, "subscriptionStatus": spelt[status]} for topic, status in contact.preferences.items()
        ],
    }


def _token(start: int) -> str:
    return base64.urlsafe_b64encode(f"at:{start}".encode()).decode()


def _start(token: str | None) -> int:
    try:
        return int(base64.urlsafe_b64decode(token).decode().removeprefix("at:")) if token else 0
    except (binascii.Error, ValueError):
        raise ApiError("InvalidNextTokenException", "The specified request includes an invalid NextToken") from None
