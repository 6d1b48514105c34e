"""The operations of the API that read about recipients: where they stand, their entries in the ledger, receipts.

Addresses are looked up in bodies and never stand in URLs, which end up in logs.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import msgspec

from core.consent import given
from core.errors import AddressError
from core.model import RecipientId
from core.person import Where
from core.receipts import LedgerEntry, Receipt, of_a_person, said
from webhooks.api import paging, problems
from webhooks.api.endpoint import Call, Endpoint, Parameter, ProblemError, Scope
from webhooks.assembly import Services

MOST_ADDRESSES = 1_000

RECIPIENT = Parameter(
    "recipient",
    "path",
    {"type": "string", "pattern": "[0-9a-f]{32}"},
    "The recipient's pseudonym, as `POST /v1/recipients/lookup` tells it.",
)
SEQ = Parameter(
    "seq",
    "path",
    {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    "The entry's number in the recipient's chain, from 1.",
)


class Lookup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Addresses to be looked up, 1 to 1,000."""

    addresses: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MOST_ADDRESSES)]


class Found(msgspec.Struct, frozen=True):
    """What an address is here. ``recipient``: its pseudonym in hex, null for what is not an e-mail address.

    ``known``: whether an address or an entry of the ledger is held.
    """

    recipient: str | None
    known: bool


class LookupAnswer(msgspec.Struct, frozen=True):
    """The recipients, in the order of the addresses."""

    recipients: tuple[Found, ...]


class RecipientAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Where a recipient stands on every purpose of the policy.

    ``choices_url``: the recipient's own link; it belongs into mail to that recipient and nowhere else.
    ``pixel_path``: of the hosted pixel, below the base URL; empty without any consent.
    """

    recipient: str
    purposes: tuple[Where, ...]
    choices_url: str
    pixel_path: str


class EntriesAnswer(msgspec.Struct, frozen=True):
    """A page of what the ledger holds of a recipient, the oldest first."""

    entries: tuple[LedgerEntry, ...]
    next: str | None


def endpoints(services: Services) -> list[Endpoint]:
    """The operations that read about recipients."""
    reading = _Recipients(services)
    unknown = (problems.NOT_FOUND,)
    return [
        Endpoint(
            method="POST",
            path="/v1/recipients/lookup",
            operation="lookupRecipients",
            scope=Scope.RECIPIENTS_READ,
            summary="Find the recipients behind addresses",
            description="Tells the pseudonym of each address, and whether anything is held of it. Stores nothing.",
            body=Lookup,
            answer=LookupAnswer,
            handle=reading.lookup,
        ),
        Endpoint(
            method="GET",
            path="/v1/recipients/{recipient}",
            operation="getRecipient",
            scope=Scope.RECIPIENTS_READ,
            summary="Where a recipient stands",
            description="The state and the legal basis for every purpose, and the recipient's own links.",
            answer=RecipientAnswer,
            parameters=(RECIPIENT,),
            problems=unknown,
            handle=reading.recipient,
        ),
        Endpoint(
            method="GET",
            path="/v1/recipients/{recipient}/entries",
            operation="listEntries",
            scope=Scope.RECIPIENTS_READ,
            summary="What the ledger holds of a recipient",
            description="Every choice, request and withdrawal with the conditions under which it was made.",
            answer=EntriesAnswer,
            parameters=(RECIPIENT, *paging.PARAMETERS),
            problems=(*unknown, problems.INVALID),
            handle=reading.entries,
        ),
        _receipt(reading),
    ]


def _receipt(reading: _Recipients) -> Endpoint:
    return Endpoint(
        method="GET",
        path="/v1/receipts/{recipient}/{seq}",
        operation="getReceipt",
        scope=Scope.RECEIPTS_READ,
        summary="The receipt for one entry of the ledger",
        description="The entry verbatim, the exact text that was shown, and what that proves, to be kept.",
        answer=Receipt,
        parameters=(RECIPIENT, SEQ),
        problems=(problems.NOT_FOUND,),
        handle=reading.receipt,
    )


@dataclass(frozen=True, slots=True)
class _Recipients:
    services: Services

    def lookup(self, call: Call) -> LookupAnswer:
        recipients = [self._of(address) for address in call.body.addresses]
        known = self.services.people.known([r for r in recipients if r is not None])
        return LookupAnswer(tuple(Found(r.hex() if r else None, r in known) for r in recipients))

    def recipient(self, call: Call) -> RecipientAnswer:
        s, recipient = self.services, self._known(call)
        where = s.people.where(recipient)
        head = s.store.head(recipient)
        agreed = given(head.standings if head else {}, s.settings.purposes, s.now(), s.policy)
        return RecipientAnswer(
            recipient=recipient.hex(),
            purposes=where,
            choices_url=s.links.choices_url(recipient),
            pixel_path=s.links.pixel_path(recipient) if agreed else "",
        )

    def entries(self, call: Call) -> EntriesAnswer:
        recipient, limit = self._known(call), paging.limit(call.parameters)
        subject = f"entries {recipient.hex()}"
        after = paging.number(call, subject)
        found = self.services.readings.entries(recipient, after, limit + 1)
        shown, following = paging.page(found, limit, subject, lambda entry: str(entry.seq))
        return EntriesAnswer(tuple(said(entry) for entry in shown if entry.body), following)

    def receipt(self, call: Call) -> Receipt:
        receipt = self.services.receipts.of(_recipient(call), call.parameters["seq"])
        if receipt is None:
            raise ProblemError(problems.NOT_FOUND, "no such entry")
        return receipt

    def _of(self, address: str) -> RecipientId | None:
        with suppress(AddressError):
            return self.services.recipient(address)
        return None

    def _known(self, call: Call) -> RecipientId:
        """The recipient that a call names, if an address or an entry of that person is held."""
        recipient = _recipient(call)
        chain = self.services.readings.entries(recipient, 0, 1)
        erased = bool(chain) and not chain[0].body  # a campaign's entries never are
        if erased or of_a_person(chain) or (not chain and recipient in self.services.people.known([recipient])):
            return recipient
        raise ProblemError(problems.NOT_FOUND, "no such recipient")


def _recipient(call: Call) -> RecipientId:
    return RecipientId(bytes.fromhex(call.parameters["recipient"]))
