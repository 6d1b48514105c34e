"""All contacts of the list, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from connectors.ses.client import Aws, whole
from connectors.ses.settings import NAME
from core.errors import ProviderError

if TYPE_CHECKING:
    from mypy_boto3_sesv2.type_defs import ContactTypeDef, ListContactsResponseTypeDef

PAGE = 1_000
"""Contacts a page (whether SES returns so many at once is unconfirmed; it may return fewer)."""


def listed(aws: Aws, contact_list: str) -> Iterator[Sequence[ContactTypeDef]]:
    """The pages of the list, at one a second; nothing when there is no such list.

    A page may be empty and still not be the last one. AttributesData are not among what SES lists.

    Raises:
        ProviderError: SES is out of reach, or does not get on from one page to the next.
    """
    ses, token = aws.ses, ""

    def page() -> ListContactsResponseTypeDef | None:
        more: dict[str, Any] = {"NextToken": token} if token else {}
        try:
            return whole(ses.list_contacts(ContactListName=contact_list, PageSize=PAGE, **more), "Contacts")
        except ses.exceptions.NotFoundException:
            return None

    while (answer := aws.manage(page)) is not None:
        yield answer["Contacts"]
        token, last = answer.get("NextToken", ""), token
        if not token:
            return
        if token == last:
            raise ProviderError(NAME, "SES gave the same page of contacts twice; try again later")
