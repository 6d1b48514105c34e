"""The topics of the account's one contact list: one a purpose, opted out unless somebody agreed.

SES allows one list an account and region, and 20 topics a list ("Using list management" in the SES Developer Guide).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from connectors.ses.client import Aws, whole
from connectors.ses.preferences import OUT
from connectors.ses.settings import NAME, SesSettings
from core.errors import ProviderError, ProviderRefused
from core.model import PurposeId

if TYPE_CHECKING:
    from mypy_boto3_sesv2.type_defs import GetContactListResponseTypeDef, TopicTypeDef

TOPICS = 20
"""Topics of a list, at most."""


class ContactTopics:
    """Makes the topics, and remembers that they were seen, so that a withdrawal need not look again.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
    """

    def __init__(self, aws: Aws, settings: SesSettings) -> None:
        self._aws = aws
        self._list = settings.contact_list
        self._prefix = settings.topic_prefix
        self._seen: frozenset[str] | None = None

    def remembered(self, purposes: Iterable[PurposeId]) -> frozenset[str] | None:
        """The names of all topics of the list as last seen; None when one of these purposes was not among them."""
        seen = self._seen
        return seen if seen is not None and {self._prefix + purpose for purpose in purposes} <= seen else None

    def forget(self) -> None:
        """Look again next time: something is not there any more."""
        self._seen = None

    def ensured(self, purposes: Iterable[PurposeId], *, urgent: bool = False) -> frozenset[str]:
        """The names of all topics of the list, which has one for each purpose once this returns.

        Raises:
            ProviderError: there is no room for the topics, or no list of that name can be made.
        """
        names = {self._prefix + purpose for purpose in purposes}
        held = self._held_list(urgent)
        if self._lacks(held, names):
            self._make(held, names, urgent)
            held = self._held_list(urgent)
        if self._lacks(held, names):
            raise ProviderError(NAME, f"the list {self._list} lacks topics named after providers.ses.topic_prefix")
        self._seen = frozenset(topic["TopicName"] for topic in _topics(held))
        return self._seen

    def _held_list(self, urgent: bool) -> GetContactListResponseTypeDef | None:
        ses = self._aws.ses

        def get() -> GetContactListResponseTypeDef | None:
            try:
                return whole(ses.get_contact_list(ContactListName=self._list), "ContactListName")
            except ses.exceptions.NotFoundException:
                return None

        return self._aws.manage(get, urgent=urgent)

    def _lacks(self, held: GetContactListResponseTypeDef | None, names: set[str]) -> bool:
        """Whether a topic is missing, or one of ours counts people in who never said so."""
        defaults = {topic["TopicName"]: topic["DefaultSubscriptionStatus"] for topic in _topics(held)}
        return not names <= defaults.keys() or any(
            self._is_ours(name) and default != OUT for name, default in defaults.items()
        )

    def _make(self, held: GetContactListResponseTypeDef | None, names: set[str], urgent: bool) -> None:
        """Write all topics, and the description: SES replaces the whole list."""
        ses, names = self._aws.ses, names | {t["TopicName"] for t in _topics(held) if self._is_ours(t["TopicName"])}
        ours = [_topic(name, name.removeprefix(self._prefix)) for name in sorted(names)]
        topics = [t for t in _topics(held) if not self._is_ours(t["TopicName"])] + ours
        if len(topics) > TOPICS:
            raise ProviderError(
                NAME,
                f"SES allows {TOPICS} topics a list: remove some from {self._list} to make room for those of"
                " providers.ses.topic_prefix",
            )
        if held is not None:
            more: dict[str, Any] = {"Description": held["Description"]} if held.get("Description") else {}
            self._aws.manage(
                lambda: ses.update_contact_list(ContactListName=self._list, Topics=topics, **more), urgent=urgent
            )
            return
        try:
            self._aws.manage(lambda: ses.create_contact_list(ContactListName=self._list, Topics=topics), urgent=urgent)
        except ProviderRefused as error:
            if self._held_list(urgent) is None:
                raise ProviderRefused(
                    NAME,
                    f"the contact list could not be made ({error}); SES allows one an account and region: give its"
                    " name in providers.ses.contact_list",
                    status=error.status,
                ) from error

    def _is_ours(self, topic: str) -> bool:
        return topic.startswith(self._prefix)


def _topics(held: GetContactListResponseTypeDef | None) -> list[TopicTypeDef]:
    return held.get("Topics", []) if held else []


def _topic(name: str, purpose: str) -> TopicTypeDef:
    return {"TopicName": name, "DisplayName": purpose, "DefaultSubscriptionStatus": OUT}
