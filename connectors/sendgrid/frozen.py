"""One half of a campaign, frozen in a list of the subuser that sends it.

A Single Send goes to whole lists, so each half has a list that is made for it and never changed: named after the
campaign and a digest of its recipients. It is read back by an export, in apply and once more before it leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from connectors.sendgrid.accounts import Account
from connectors.sendgrid.exports import Exports
from connectors.sendgrid.lists import Directory
from connectors.sendgrid.settings import NAME
from connectors.sendgrid.sync import Run
from core.errors import ProviderError
from core.model import Contact, ContactChange, PurposeId, RecipientId

Contacts = Callable[[], Iterator[Contact]]

_DIGITS = 12
_MODULUS = 1 << 128


@dataclass(frozen=True, slots=True)
class FrozenHalf:
    """A half as it stands at SendGrid.

    Attributes:
        list_id: The list.
        digest: Names the recipients: the first 12 digits (hex) of a SHA-256 over them.
        members: Names the addresses in the list, whatever their order.
        recipients: How many they are.
        refused: Recipients that SendGrid did not take, and who get no mail.
    """

    list_id: str
    digest: str
    members: str
    recipients: int
    refused: frozenset[RecipientId] = frozenset()

    def handles(self, half: str) -> dict[str, str]:
        """As plain strings, by names that begin with the half's."""
        refused = " ".join(sorted(recipient.hex() for recipient in self.refused))
        values = (self.list_id, self.digest, self.members, str(self.recipients), refused)
        return {f"{half}_{name}": value for name, value in zip(_HANDLES, values, strict=True)}

    @classmethod
    def of(cls, handles: Mapping[str, str], half: str) -> FrozenHalf:
        """Read back from the handles; raises KeyError or ValueError for others."""
        list_id, digest, members, recipients, refused = (handles[f"{half}_{name}"] for name in _HANDLES)
        ids = frozenset(RecipientId(bytes.fromhex(each)) for each in refused.split())
        return cls(list_id, digest, members, int(recipients), ids)


_HANDLES = ("list", "digest", "members", "recipients", "refused")


class Freezer:
    """Freezes the halves of campaigns in the lists of one subuser.

    Args:
        account: The subuser.
        prefix: How the names of this product's lists begin.
    """

    def __init__(self, account: Account, prefix: str) -> None:
        self._account = account
        self._prefix = f"{prefix}-campaign"

    def freeze(self, campaign: str, half: str, contacts: Contacts) -> FrozenHalf:
        """Put a half into its list, with the links that its mail shows, and read the list back.

        Raises:
            ProviderError: SendGrid is out of reach or refuses, took nobody, or somebody else stands in the list.
        """
        digest = _digest(contacts())
        name = PurposeId(f"{campaign}-{half}-{digest}")
        directory = Directory(self._account.api, self._prefix)
        run = Run(self._account.api, directory, frozenset({name}))
        refused: set[RecipientId] = set()
        for report in run.reports(_changes(contacts(), name)):
            refused |= report.rejected
        list_id = directory.lists([name]).get(name, "")
        addresses = (contact.address.lower() for contact in contacts() if contact.recipient not in refused)
        members, recipients = _members(addresses)
        if not recipients:
            raise ProviderError(NAME, f"{self._account.words} took none of the {half} half's recipients")
        frozen = FrozenHalf(list_id, digest, members, recipients, frozenset(refused))
        self.check(frozen)
        return frozen

    def check(self, frozen: FrozenHalf) -> None:
        """Compare the list, as SendGrid has it, with what was frozen; raises ProviderError when it differs."""
        shown = _members(address for address, _ in Exports(self._account.api).rows(frozen.list_id))
        if shown != (frozen.members, frozen.recipients):
            raise ProviderError(
                NAME,
                f"a campaign's list of {self._account.words} holds {shown[1]} contacts that are not the"
                f" {frozen.recipients} of the campaign; delete the list at SendGrid and apply the campaign again",
            )


def _changes(contacts: Iterable[Contact], name: PurposeId) -> Iterator[ContactChange]:
    """The hosted pixel has no place beside SendGrid's own, so its path is left empty."""
    for contact in contacts:
        yield ContactChange(replace(contact, pixel_path=""), frozenset({name}), frozenset())


def _digest(contacts: Iterable[Contact]) -> str:
    digest = hashlib.sha256()
    for contact in contacts:
        digest.update(contact.recipient)
    return digest.hexdigest()[:_DIGITS]


def _members(addresses: Iterable[str]) -> tuple[str, int]:
    """A digest of a set of addresses that does not depend on their order, and their number. Holds none of them."""
    total = count = 0
    for address in addresses:
        total += int.from_bytes(hashlib.sha256(address.encode()).digest()[:16], "big")
        count += 1
    return f"{total % _MODULUS:032x}", count
