"""A contact on its way into the audience, and what Mailchimp says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any, TypeVar

from connectors.mailchimp.answers import ListMember
from connectors.mailchimp.api import BATCH
from core.model import Contact, ContactChange, PurposeId

CHOICES = "PPCHOICES"
"""The merge field with the link to the recipient's choices."""
PIXEL = "PPPIXEL"
"""The merge field with the path of the hosted pixel; empty where there is none."""
FIELDS: Mapping[str, str] = {CHOICES: "Tracking choices link", PIXEL: "Tracking pixel path"}
"""Both, with the names under which Mailchimp's interface shows them."""

ARCHIVED = "archived"
MOST_TAGS = 50
"""A member is given with that many tags at most; whoever has as many may have more."""

T = TypeVar("T")


def member_hash(address: str) -> str:
    """Mailchimp's name for a member: the MD5 of the lower-cased address. An identifier, no protection."""
    return md5(address.lower().encode(), usedforsecurity=False).hexdigest()


def chunks(items: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    """The items in slices of at most ``size``."""
    return (items[start : start + size] for start in range(0, len(items), size))


@dataclass(slots=True, eq=False)
class Case:
    """One contact within one run.

    Attributes:
        change: What is wanted.
        name: Its hash.
        exists: Whether the audience has it, as Mailchimp said in this run; None: not asked yet.
        member: It, as Mailchimp showed it last.
        left: Segments that Mailchimp said it left since then.
        awaiting: Segments from which it is being taken, or into which it is being put.
        unproven: An answer did not show that such a change was done.
        resent: It was sent a second time, for the audience had lost a merge field.
    """

    change: ContactChange
    name: str
    exists: bool | None = None
    member: ListMember | None = None
    left: set[PurposeId] = field(default_factory=set)
    awaiting: set[PurposeId] = field(default_factory=set)
    unproven: bool = False
    resent: bool = False

    @classmethod
    def of(cls, change: ContactChange) -> Case:
        """The case of a change."""
        return cls(change, member_hash(change.contact.address))

    @property
    def contact(self) -> Contact:
        """Whom it is about."""
        return self.change.contact

    @property
    def expected(self) -> bool:
        """Whether an earlier run put it into the audience, or may have."""
        return self.change.doubtful or bool(self.change.confirmed)

    def row(self) -> dict[str, Any]:
        """As the batch endpoint takes it, without a status."""
        return {"email_address": self.contact.address, "merge_fields": fields_of(self.contact)}


def fields_of(contact: Contact) -> dict[str, str]:
    """What a contact carries."""
    return {CHOICES: contact.choices_url, PIXEL: contact.pixel_path}


def carries(member: ListMember, contact: Contact) -> bool:
    """Whether Mailchimp has both fields as they should be."""
    return all(member.merge_fields.get(tag) == value for tag, value in fields_of(contact).items())


def shows_all_tags(member: ListMember) -> bool:
    """Whether a member was given with all its tags."""
    return member.tags is not None and len(member.tags) < MOST_TAGS
