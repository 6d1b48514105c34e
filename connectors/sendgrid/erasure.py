"""Erasing people at SendGrid for good: the record of what they were sent, and the contact.

Source: SendGrid's API reference, "Delete Recipients' Email Data" and "Delete Contacts". The first has no status: once
it is accepted (202) nobody can tell when it is done. It reaches no subuser. Suppressions are kept on purpose: without
them SendGrid would send to an address again that once said no.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat

import msgspec

from connectors.sendgrid.api import PAUSES, Api, packed
from connectors.sendgrid.contacts import LONGEST_ADDRESS, Contacts, sift
from core.account import Erasure
from core.model import Contact, RecipientId

ERASED = 5_000
ERASED_BYTES = 250_000
"""A request takes 5,000 addresses or 256 KB."""


class _Accepted(msgspec.Struct):
    job_id: str


class Eraser:
    """Erases.

    Args:
        api: The account.
        contacts: Its contacts.
        patience: How many seconds to wait until contacts are gone.
    """

    def __init__(self, api: Api, contacts: Contacts, patience: float) -> None:
        self._api = api
        self._contacts = contacts
        self._patience = patience

    def erase(self, contacts: Sequence[Contact]) -> Erasure:
        """Erase people. Running it again does no harm.

        Erased is whose data SendGrid agreed to delete and whose contact is seen to be gone. Pending is whose contact
        still stands after ``patience``, whose address SendGrid refused to erase, and whose address is longer than
        the 100 characters that its lookup takes.

        Raises:
            ProviderError: SendGrid is out of reach or refuses. Nobody is known to be erased then.
        """
        before = self._api.calls
        people = {contact.address.lower(): contact.recipient for contact in contacts}
        agreed = self._agreed(list(people))
        standing = self._deleted([address for address in people if len(address) <= LONGEST_ADDRESS])
        pending = {
            recipient
            for address, recipient in people.items()
            if address in standing or address not in agreed or len(address) > LONGEST_ADDRESS
        }
        erased = frozenset[RecipientId](people.values()) - pending
        return Erasure(erased, frozenset(pending), self._api.calls - before)

    def _agreed(self, addresses: list[str]) -> set[str]:
        refused: set[str] = set()
        for part in _portions(addresses):
            refused.update(sift(part, self._ask))
        return set(addresses) - refused

    def _ask(self, addresses: Sequence[str]) -> None:
        self._api.ask("post", "recipients/erasejob", _Accepted, body={"email_addresses": addresses})

    def _deleted(self, addresses: list[str]) -> set[str]:
        """Delete the contacts, and wait until they are gone; answers those that still stand."""
        standing, waited = set(addresses), 0.0
        for pause in chain((0.0,), PAUSES, repeat(PAUSES[-1])):
            self._api.sleep(pause)
            waited += pause
            found = self._contacts.lookup(sorted(standing))
            standing = set(found)
            if not standing or waited >= self._patience:
                break
            if pause in {0.0, PAUSES[-1]}:  # once, and again now and then: accepted requests have come to nothing
                self._contacts.delete([contact.id for contact in found.values()])
        return standing


def _portions(addresses: list[str]) -> Iterator[list[str]]:
    portion: list[str] = []
    size = 0
    for address in addresses:
        length = len(packed(address)) + 1
        if portion and (len(portion) == ERASED or size + length > ERASED_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(address)
        size += length
    if portion:
        yield portion
