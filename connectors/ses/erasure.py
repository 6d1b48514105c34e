"""Erasing people from the contact list for good. A withdrawal is carried out by topics, never by this."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.ses.client import Aws
from connectors.ses.precedence import Precedence
from connectors.ses.settings import SesSettings
from connectors.ses.singly import AddressRefused, Singly
from core.account import Erasure
from core.model import Contact


class Erasures:
    """Deletes contacts.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
        singly: How contacts are read.
        precedence: Who has the last word about a contact.
    """

    def __init__(self, aws: Aws, settings: SesSettings, singly: Singly, precedence: Precedence) -> None:
        self._aws = aws
        self._list = settings.contact_list
        self._singly = singly
        self._precedence = precedence

    def erase(self, contacts: Sequence[Contact]) -> Erasure:
        """Delete each contact with its topics and AttributesData, and look whether it is gone: two calls each.

        Not erased: an address on the account's suppression list, which SES needs to go on sparing it; what a contact
        was called under another spelling of the address; what SES keeps of mail that was sent. ``pending``: still
        there, or an import job that is running may bring it back: erase it again.

        Raises:
            ProviderError: SES is out of reach; whoever was erased before is erased, and may be erased again.
        """
        before = self._aws.made_here
        erased = frozenset(contact.recipient for contact in contacts if self._erased(contact))
        everybody = frozenset(contact.recipient for contact in contacts)
        return Erasure(erased, everybody - erased, self._aws.made_here - before)

    def _erased(self, contact: Contact) -> bool:
        running = self._precedence.singly(contact, None)
        ses = self._aws.ses

        def delete() -> None:
            try:
                ses.delete_contact(ContactListName=self._list, EmailAddress=contact.address)
            except (ses.exceptions.NotFoundException, ses.exceptions.BadRequestException):
                return  # not there; what SES says when it is asked for the contact decides

        self._aws.manage(delete)
        try:
            found = self._singly.get(contact.address)
        except AddressRefused:
            return not running  # what SES does not take for an address, it holds no contact of
        return found is None and not running
