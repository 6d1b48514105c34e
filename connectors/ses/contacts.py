"""The account's contact list as consent segments: one topic a purpose, opted out unless somebody agreed.

SES allows one list an account, 20 topics a list, and one request a second. So up to 20 contacts are written one by one,
read before and after; more go through an import job. An imported row replaces the whole contact, and what it omits is
cleared (so others observed; AWS's documentation is vague), so every row repeats what the list holds. SES offers no
conditional write: an unsubscription that comes between the reading and the end of a job is overwritten at SES, though
not in the ledger, which has it from the callback.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from connectors.ses.client import Aws, whole
from connectors.ses.imports import import_contacts
from connectors.ses.settings import NAME, SesSettings
from core.errors import ProviderError, ProviderRefused
from core.model import ContactChange, Member, PurposeId, RecipientId, SyncReport

if TYPE_CHECKING:
    from mypy_boto3_sesv2.type_defs import (
        ContactTypeDef,
        GetContactListResponseTypeDef,
        GetContactResponseTypeDef,
        ListContactsResponseTypeDef,
        TopicPreferenceTypeDef,
        TopicTypeDef,
    )

    _Contact = ContactTypeDef | GetContactResponseTypeDef

SINGLY = 20
"""Up to so many contacts are written one by one."""
TOPICS = 20
"""Topics of a list, at most."""
PAGE = 1_000
"""Contacts a page (whether SES returns so many at once is unconfirmed; it may return fewer)."""

IN: Literal["OPT_IN"] = "OPT_IN"
OUT: Literal["OPT_OUT"] = "OPT_OUT"


class AddressRefused(Exception):
    """SES does not take this one address."""


class ContactSegments:
    """Keeps the consent topics of the contact list.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
        purposes: The purposes that the team uses.
    """

    def __init__(self, aws: Aws, settings: SesSettings, purposes: Collection[PurposeId]) -> None:
        self._aws = aws
        self._settings = settings
        self._list = settings.contact_list
        self._purposes = frozenset(purposes)

    def sync(self, changes: Sequence[ContactChange]) -> SyncReport:
        """Write the contacts, removals first, and read back what SES has of them."""
        before = self._aws.call.calls
        confirmed: set[RecipientId] = set()
        if changes:
            topics = self._ensured_topics(self._purposes.union(*(change.desired for change in changes)))
            for removing in (True, False):
                confirmed |= self._write([c for c in changes if bool(c.removed) is removing], topics)
        everybody = frozenset(change.contact.recipient for change in changes)
        return SyncReport(frozenset(confirmed), everybody - confirmed, self._aws.call.calls - before)

    def read_back(self) -> Iterator[Member]:
        """Every contact that is in a consent topic, by its own choice or by the topic's default."""
        prefix = self._settings.topic_prefix
        for contact in self._listed():
            joined = [topic for topic, status in _effective(contact).items() if status == IN and self._is_ours(topic)]
            purposes = frozenset(PurposeId(topic.removeprefix(prefix)) for topic in joined)
            if purposes:
                yield Member(contact["EmailAddress"], purposes)

    # Topics

    def _ensured_topics(self, purposes: Collection[PurposeId]) -> frozenset[str]:
        """The names of all topics of the list, which has one for each purpose once this returns."""
        wanted = {self._settings.topic_prefix + purpose for purpose in purposes}
        held = self._held_list()
        if self._lacks(held, wanted):
            self._make_topics(held, wanted)
            held = self._held_list()
        if self._lacks(held, wanted):
            raise ProviderError(NAME, f"the list {self._list} lacks topics named after providers.ses.topic_prefix")
        return frozenset(topic["TopicName"] for topic in _topics(held))

    def _held_list(self) -> GetContactListResponseTypeDef | None:
        ses = self._aws.ses

        def get() -> GetContactListResponseTypeDef | None:
            try:
                return whole(ses.get_contact_list(ContactListName=self._list), "ContactListName")
            except ses.exceptions.NotFoundException:
                return None

        return self._aws.manage(get)

    def _lacks(self, held: GetContactListResponseTypeDef | None, wanted: set[str]) -> bool:
        """Whether a topic is missing, or one of ours counts people in who never said so."""
        defaults = {topic["TopicName"]: topic["DefaultSubscriptionStatus"] for topic in _topics(held)}
        return not wanted <= defaults.keys() or any(
            self._is_ours(name) and default != OUT for name, default in defaults.items()
        )

    def _make_topics(self, held: GetContactListResponseTypeDef | None, wanted: set[str]) -> None:
        """Write all topics, and the description: SES replaces the whole list."""
        ses, names = self._aws.ses, wanted | {t["TopicName"] for t in _topics(held) if self._is_ours(t["TopicName"])}
        ours = [_topic(name, name.removeprefix(self._settings.topic_prefix)) for name in sorted(names)]
        topics = [t for t in _topics(held) if not self._is_ours(t["TopicName"])] + ours
        if len(topics) > TOPICS:
            raise ProviderError(
                NAME,
                f"SES allows {TOPICS} topics a list: remove some from {self._list} to make room for those of"
                " providers.ses.topic_prefix",
            )
        if held is not None:
            more: dict[str, Any] = {"Description": held["Description"]} if held.get("Description") else {}
            self._aws.manage(lambda: ses.update_contact_list(ContactListName=self._list, Topics=topics, **more))
            return
        try:
            self._aws.manage(lambda: ses.create_contact_list(ContactListName=self._list, Topics=topics))
        except ProviderRefused as error:
            if self._held_list() is None:
                raise ProviderRefused(
                    NAME,
                    f"the contact list could not be made ({error}); SES allows one an account and region: give its"
                    " name in providers.ses.contact_list",
                    status=error.status,
                ) from error

    def _is_ours(self, topic: str) -> bool:
        return topic.startswith(self._settings.topic_prefix)

    # Contacts

    def _write(self, changes: Sequence[ContactChange], topics: frozenset[str]) -> set[RecipientId]:
        """The recipients that SES took."""
        if len(changes) > SINGLY and self._settings.import_bucket:
            return self._import(changes, topics, self._settings.import_bucket)
        return {change.contact.recipient for change in changes if self._write_one(change, topics)}

    def _write_one(self, change: ContactChange, topics: frozenset[str]) -> bool:
        address = change.contact.address
        try:
            held = self._get(address)
            if held is None:
                self._create(change, topics)
            elif not self._matches(held, change, topics):
                self._update(held, change, topics)
            else:
                return True
            taken = self._get(address)
        except AddressRefused:
            return False
        return taken is not None and self._matches(taken, change, topics)

    def _get(self, address: str) -> GetContactResponseTypeDef | None:
        ses = self._aws.ses

        def get() -> GetContactResponseTypeDef | None:
            try:
                answer = ses.get_contact(ContactListName=self._list, EmailAddress=address)
                return whole(answer, "EmailAddress", "UnsubscribeAll")
            except ses.exceptions.NotFoundException:
                return None
            except ses.exceptions.BadRequestException as error:
                raise AddressRefused from error

        return self._aws.manage(get)

    def _create(self, change: ContactChange, topics: frozenset[str]) -> None:
        ses = self._aws.ses

        def create() -> None:
            try:
                ses.create_contact(
                    ContactListName=self._list,
                    EmailAddress=change.contact.address,
                    TopicPreferences=_listed_preferences(self._wanted(change, topics)),
                    UnsubscribeAll=False,
                    AttributesData=_attributes(change, None),
                )
            except ses.exceptions.AlreadyExistsException:
                return  # an attempt whose answer was lost; what SES has of it is read back next
            except ses.exceptions.BadRequestException as error:
                raise AddressRefused from error

        self._aws.manage(create)

    def _update(self, held: GetContactResponseTypeDef, change: ContactChange, topics: frozenset[str]) -> None:
        """Write every field: SES resets an omitted UnsubscribeAll and clears omitted AttributesData."""
        ses = self._aws.ses

        def update() -> None:
            try:
                ses.update_contact(
                    ContactListName=self._list,
                    EmailAddress=change.contact.address,
                    TopicPreferences=_listed_preferences(_explicit(held, topics) | self._wanted(change, topics)),
                    UnsubscribeAll=held["UnsubscribeAll"],
                    AttributesData=_attributes(change, held.get("AttributesData")),
                )
            except (ses.exceptions.BadRequestException, ses.exceptions.NotFoundException) as error:
                raise AddressRefused from error

        self._aws.manage(update)

    def _wanted(self, change: ContactChange, topics: frozenset[str]) -> dict[str, str]:
        """All consent topics of the list: in those that are desired, out of every other."""
        desired = {self._settings.topic_prefix + purpose for purpose in change.desired}
        return {topic: IN if topic in desired else OUT for topic in topics if self._is_ours(topic)}

    def _matches(self, held: GetContactResponseTypeDef, change: ContactChange, topics: frozenset[str]) -> bool:
        carried = _carried(change).items()
        return self._in_topics(held, change, topics) and carried <= _object(held.get("AttributesData")).items()

    def _in_topics(self, held: _Contact, change: ContactChange, topics: frozenset[str]) -> bool:
        return self._wanted(change, topics).items() <= _effective(held).items()

    # Many at once

    def _import(self, changes: Sequence[ContactChange], topics: frozenset[str], bucket: str) -> set[RecipientId]:
        """Write many contacts through a job; which rows SES did not take is found by reading back."""
        held = self._held(changes)
        rows = (self._row(change, held.get(_spelling(change)), topics) for change in changes)
        import_contacts(self._aws, self._settings, bucket, rows)
        now = self._held(changes)
        return {c.contact.recipient for c in changes if self._was_imported(c, held, now, topics)}

    def _row(self, change: ContactChange, held: ContactTypeDef | None, topics: frozenset[str]) -> dict[str, object]:
        wanted = (_explicit(held, topics) if held else {}) | self._wanted(change, topics)
        return {
            "emailAddress": change.contact.address,
            "unsubscribeAll": held is not None and held.get("UnsubscribeAll", False),
            "attributesData": _attributes(change, None),
            "topicPreferences": [{"topicName": t, "subscriptionStatus": s} for t, s in wanted.items()],
        }

    def _was_imported(
        self,
        change: ContactChange,
        before: Mapping[str, ContactTypeDef],
        after: Mapping[str, ContactTypeDef],
        topics: frozenset[str],
    ) -> bool:
        key = _spelling(change)
        found, earlier = after.get(key), before.get(key, {})
        if found is None or not self._in_topics(found, change, topics):
            return False
        return found.get("UnsubscribeAll", False) or not earlier.get("UnsubscribeAll", False)

    def _held(self, changes: Sequence[ContactChange]) -> dict[str, ContactTypeDef]:
        """What the list has of these contacts, by address in lower case.

        A person who is listed under two spellings counts as unsubscribed when either is.
        """
        wanted = {_spelling(change) for change in changes}
        held: dict[str, ContactTypeDef] = {}
        for contact in self._listed():
            key = contact["EmailAddress"].lower()
            if key in wanted:
                gone = self._has_left(contact) or held.get(key, {}).get("UnsubscribeAll", False)
                held[key] = {**contact, "UnsubscribeAll": gone}
        return held

    def _has_left(self, contact: ContactTypeDef) -> bool:
        """Whether the person unsubscribed from all; asked for once more where the listing does not say."""
        if contact.get("UnsubscribeAll") is not None:
            return contact["UnsubscribeAll"]
        try:
            asked = self._get(contact["EmailAddress"])
        except AddressRefused:
            return True
        return asked is None or asked["UnsubscribeAll"]

    def _listed(self) -> Iterator[ContactTypeDef]:
        """All contacts of the list. A page may be empty and still not be the last one."""
        ses, token = self._aws.ses, ""

        def page() -> ListContactsResponseTypeDef | None:
            more: dict[str, Any] = {"NextToken": token} if token else {}
            try:
                return whole(ses.list_contacts(ContactListName=self._list, PageSize=PAGE, **more), "Contacts")
            except ses.exceptions.NotFoundException:
                return None

        while (answer := self._aws.manage(page)) is not None:
            yield from answer["Contacts"]
            token, last = answer.get("NextToken", ""), token
            if not token:
                return
            if token == last:
                raise ProviderError(NAME, "SES gave the same page of contacts twice; try again later")


def _topics(held: GetContactListResponseTypeDef | None) -> list[TopicTypeDef]:
    return held.get("Topics", []) if held else []


def _topic(name: str, purpose: str) -> TopicTypeDef:
    return {"TopicName": name, "DisplayName": purpose, "DefaultSubscriptionStatus": OUT}


def _effective(contact: _Contact) -> dict[str, str]:
    """Where a contact stands on each topic: by its own choice, else by the topic's default."""
    stands = [*contact.get("TopicDefaultPreferences", []), *contact.get("TopicPreferences", [])]
    return {each["TopicName"]: each["SubscriptionStatus"] for each in stands}


def _explicit(contact: _Contact, topics: frozenset[str]) -> dict[str, str]:
    chosen = contact.get("TopicPreferences", [])
    return {each["TopicName"]: each["SubscriptionStatus"] for each in chosen if each["TopicName"] in topics}


def _listed_preferences(stands: Mapping[str, str]) -> list[TopicPreferenceTypeDef]:
    return [{"TopicName": topic, "SubscriptionStatus": IN if status == IN else OUT} for topic, status in stands.items()]


def _carried(change: ContactChange) -> dict[str, object]:
    return {"choices_url": change.contact.choices_url, "pixel_path": change.contact.pixel_path}


def _attributes(change: ContactChange, held: str | None) -> str:
    """The contact's AttributesData with our two fields in it; others stay."""
    return msgspec.json.encode(_object(held) | _carried(change)).decode()


def _object(text: str | None) -> dict[str, object]:
    try:
        value = msgspec.json.decode(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _spelling(change: ContactChange) -> str:
    return change.contact.address.lower()
