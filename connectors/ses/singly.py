"""Contacts one by one: read, written with every field repeated, and read again.

SES offers no conditional write: an unsubscription that comes between the reading and the writing is overwritten at
SES, though not in the ledger, which has it from the callback.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import TYPE_CHECKING

from connectors.ses.client import Aws, whole
from connectors.ses.contact_topics import ContactTopics
from connectors.ses.preferences import IN, as_listed, attributes, carries, chosen, defaults, effective, joined, wanted
from connectors.ses.settings import SesSettings
from core.model import ContactChange, PurposeId

if TYPE_CHECKING:
    from mypy_boto3_sesv2.type_defs import GetContactResponseTypeDef

READINGS = 3
"""How often a contact is read anew when somebody else changes it, or the list, at the same time."""


class Outcome(Enum):
    """What came of writing one contact. What was ``WRITTEN`` must be read back before it counts."""

    STANDS = "stands"
    WRITTEN = "written"
    REFUSED = "refused"


class AddressRefused(Exception):
    """SES does not take this one address."""


class _Moved(Exception):
    """The contact, a topic or the list is not what it was when it was read."""


class Singly:
    """Reads and writes single contacts.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
        topics: The list's topics.
        purposes: The purposes that the team uses.
    """

    def __init__(self, aws: Aws, settings: SesSettings, topics: ContactTopics, purposes: Collection[PurposeId]) -> None:
        self._aws = aws
        self._list = settings.contact_list
        self._prefix = settings.topic_prefix
        self._keep = settings.foreign_attributes == "keep"
        self._topics = topics
        self._purposes = frozenset(purposes)

    def get(self, address: str, *, urgent: bool = False) -> GetContactResponseTypeDef | None:
        """A contact; None when it is not in the list.

        Raises:
            AddressRefused: SES does not take the address for one.
            ProviderError: SES is out of reach.
        """
        ses = self._aws.ses

        def get() -> GetContactResponseTypeDef | None:
            try:
                answer = ses.get_contact(ContactListName=self._list, EmailAddress=address)
                return whole(answer, "EmailAddress", "UnsubscribeAll")
            except ses.exceptions.NotFoundException:
                return None
            except ses.exceptions.BadRequestException:
                raise AddressRefused from None

        return self._aws.manage(get, urgent=urgent)

    def find(self, address: str) -> GetContactResponseTypeDef | None:
        """A contact; None when it is not in the list, or SES takes the address for none."""
        try:
            return self.get(address)
        except AddressRefused:
            return None

    def write(self, change: ContactChange, *, left: bool = False, urgent: bool = False) -> Outcome:
        """Write a contact unless it stands as desired; ``left``: it must be unsubscribed from all besides.

        Two calls for a contact that is in the list. Somebody who only withdraws and is not in the list stays out:
        the team may have erased that person there.

        Raises:
            ProviderError: SES is out of reach, or its list has no room for the topics.
        """
        for _ in range(READINGS):
            try:
                return self._attempt(change, left, urgent)
            except AddressRefused:
                break
            except _Moved:
                self._topics.forget()
        return Outcome.REFUSED

    def stands(self, change: ContactChange, *, left: bool = False, urgent: bool = False) -> bool:
        """Whether SES has the contact as desired, or somebody who only withdraws not at all.

        Raises:
            ProviderError: SES is out of reach.
        """
        try:
            held = self.get(change.contact.address, urgent=urgent)
        except AddressRefused:
            return False
        return _only_withdraws(change) if held is None else self._matches(held, change, left)

    def _attempt(self, change: ContactChange, left: bool, urgent: bool) -> Outcome:
        held = self.get(change.contact.address, urgent=urgent)
        if _only_withdraws(change) if held is None else self._matches(held, change, left):
            return Outcome.STANDS
        topics = self._known(held, change)
        fresh = topics is None
        if topics is None:
            topics = self._topics.ensured(self._purposes | change.desired, urgent=urgent)
        try:
            if held is None:
                self._create(change, topics, left, urgent)
            else:
                self._update(held, change, topics, left, urgent)
        except AddressRefused:
            if fresh:
                raise
            raise _Moved from None  # it may be a topic that is gone and not the address
        return Outcome.WRITTEN

    def _known(self, held: GetContactResponseTypeDef | None, change: ContactChange) -> frozenset[str] | None:
        """The list's topics without asking for the list: as remembered, and as the contact itself shows them.

        None where that does not do, and where the contact shows one of ours that counts in who never said so.
        """
        remembered = self._topics.remembered(change.desired)
        if held is None:
            return remembered
        if any(topic.startswith(self._prefix) and status == IN for topic, status in defaults(held).items()):
            return None
        shown = frozenset(effective(held))
        if remembered is not None:
            return remembered | shown
        needed = {self._prefix + purpose for purpose in change.desired}
        return shown if change.withdrawing and needed <= shown else None

    def _create(self, change: ContactChange, topics: frozenset[str], left: bool, urgent: bool) -> None:
        ses = self._aws.ses

        def create() -> None:
            try:
                ses.create_contact(
                    ContactListName=self._list,
                    EmailAddress=change.contact.address,
                    TopicPreferences=as_listed(wanted(change.desired, topics, self._prefix)),
                    UnsubscribeAll=left,
                    AttributesData=attributes(change.contact, None, keep=self._keep),
                )
            except ses.exceptions.AlreadyExistsException:
                return  # an attempt whose answer was lost; what SES has of it is read back next
            except ses.exceptions.NotFoundException:
                raise _Moved from None
            except ses.exceptions.BadRequestException:
                raise AddressRefused from None

        self._aws.manage(create, urgent=urgent)

    def _update(
        self,
        held: GetContactResponseTypeDef,
        change: ContactChange,
        topics: frozenset[str],
        left: bool,
        urgent: bool,
    ) -> None:
        """Write every field: SES drops omitted topics and AttributesData, and resets an omitted UnsubscribeAll."""
        ses = self._aws.ses
        stands = {topic: status for topic, status in chosen(held).items() if topic in topics}

        def update() -> None:
            try:
                ses.update_contact(
                    ContactListName=self._list,
                    EmailAddress=change.contact.address,
                    TopicPreferences=as_listed(stands | wanted(change.desired, topics, self._prefix)),
                    UnsubscribeAll=held["UnsubscribeAll"] or left,
                    AttributesData=attributes(change.contact, held.get("AttributesData"), keep=self._keep),
                )
            except (ses.exceptions.NotFoundException, ses.exceptions.ConcurrentModificationException):
                raise _Moved from None
            except ses.exceptions.BadRequestException:
                raise AddressRefused from None

        self._aws.manage(update, urgent=urgent)

    def _matches(self, held: GetContactResponseTypeDef, change: ContactChange, left: bool) -> bool:
        return (
            joined(held, self._prefix) == change.desired
            and carries(change.contact, held.get("AttributesData"), keep=self._keep)
            and held["UnsubscribeAll"] >= left
        )


def _only_withdraws(change: ContactChange) -> bool:
    return change.withdrawing and not change.desired
