"""What a contact's topics and AttributesData say, and what they shall say."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from core.model import Contact, PurposeId

if TYPE_CHECKING:
    from mypy_boto3_sesv2.type_defs import ContactTypeDef, GetContactResponseTypeDef, TopicPreferenceTypeDef

    AnyContact = ContactTypeDef | GetContactResponseTypeDef

IN: Literal["OPT_IN"] = "OPT_IN"
OUT: Literal["OPT_OUT"] = "OPT_OUT"


def effective(contact: AnyContact) -> dict[str, str]:
    """Where a contact stands on each topic of the list: by its own choice, else by the topic's default."""
    return defaults(contact) | chosen(contact)


def defaults(contact: AnyContact) -> dict[str, str]:
    """The topics on which a contact stands by the topic's default (whether SES shows all of them is unconfirmed)."""
    return {each["TopicName"]: each["SubscriptionStatus"] for each in contact.get("TopicDefaultPreferences", [])}


def chosen(contact: AnyContact) -> dict[str, str]:
    """The topics on which a choice was written for the contact itself."""
    return {each["TopicName"]: each["SubscriptionStatus"] for each in contact.get("TopicPreferences", [])}


def joined(contact: AnyContact, prefix: str) -> frozenset[PurposeId]:
    """The purposes in whose topics a contact is."""
    ours = (topic for topic, status in effective(contact).items() if status == IN and topic.startswith(prefix))
    return frozenset(PurposeId(topic.removeprefix(prefix)) for topic in ours)


def wanted(desired: Iterable[PurposeId], topics: Collection[str], prefix: str) -> dict[str, str]:
    """All consent topics among ``topics``: in those that are desired, out of every other."""
    names = {prefix + purpose for purpose in desired}
    return {topic: IN if topic in names else OUT for topic in topics if topic.startswith(prefix)}


def as_listed(stands: Mapping[str, str]) -> list[TopicPreferenceTypeDef]:
    """Topic preferences as the API writes them."""
    return [{"TopicName": topic, "SubscriptionStatus": IN if status == IN else OUT} for topic, status in stands.items()]


def attributes(contact: Contact, held: str | None, *, keep: bool) -> str:
    """The contact's AttributesData with our two fields in it; the others stay.

    AttributesData may be any text. With ``keep``, text that is no JSON object stays as it is, without our fields:
    mail is rendered with those of the message, not with these.
    """
    fields = _fields(held)
    if fields is None and keep and held is not None:
        return held
    return msgspec.json.encode((fields or {}) | _carried(contact)).decode()


def carries(contact: Contact, held: str | None, *, keep: bool) -> bool:
    """Whether the contact's AttributesData are what they would be written as."""
    fields = _fields(held)
    return keep if fields is None else _carried(contact).items() <= fields.items()


def _carried(contact: Contact) -> dict[str, object]:
    return {"choices_url": contact.choices_url, "pixel_path": contact.pixel_path}


def _fields(text: str | None) -> dict[str, object] | None:
    """The fields of AttributesData; None when they are something else than fields."""
    if text is None or not text.strip():
        return {}
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
