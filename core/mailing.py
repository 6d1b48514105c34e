"""What planning and sending a campaign share: where everything lives, and the contacts behind a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.batches import batched
from core.files import Files
from core.ledger import Ledger
from core.links import Links
from core.model import Campaign, Contact, Mechanism, PixelMode, PurposeId
from core.policy import Policy
from core.ports import Clock
from core.records import AddressBook, Choice, Mailings
from core.segments import PAGE

TRACKED, UNTRACKED = "tracked", "untracked"
"""What the names of a release's parts begin with; the tracked ones leave first."""


@dataclass(frozen=True, slots=True)
class Mailing:
    """The base of ``Dispatch`` and ``Release``.

    Attributes:
        purposes: The purposes that the team uses.
        snapshots: Where the snapshots' files lie.
    """

    ledger: Ledger
    book: AddressBook
    mailings: Mailings
    policy: Policy
    purposes: tuple[PurposeId, ...]
    links: Links
    snapshots: Files
    now: Clock

    def written(self, campaign: Campaign, edition: int, part: str | None = None) -> Iterator[tuple[Choice, Contact]]:
        """The contacts of a snapshot, or of one part of it, as their mail needs them; who was erased is left out."""
        for page in batched(self.mailings.choices(edition, part), PAGE):
            known = self.book.get([choice.recipient for choice in page])
            for choice in page:
                if choice.recipient in known:
                    address, locale = known[choice.recipient]
                    path = self._image(campaign, choice)
                    yield choice, self.links.contact(choice.recipient, address, locale, pixel_path=path)

    def _image(self, campaign: Campaign, choice: Choice) -> str:
        """The path of the image that the mail shows: empty where there is none, or the ESP's own."""
        if campaign.mechanism is not Mechanism.HOSTED or choice.mode is PixelMode.NONE:
            return ""
        return "a" if choice.mode is PixelMode.AGGREGATE else self.links.pixel_path(choice.recipient)
