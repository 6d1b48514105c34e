"""The addresses of a recipient's choices page and pixel, which the ESPs carry as fields of the contact."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from core.model import Contact, RecipientId
from core.tokens import Tokens, Use


@dataclass(frozen=True, slots=True)
class Links:
    """Makes links. ``base_url``: where the webhooks application is reached from outside, without a final slash."""

    base_url: str
    tokens: Tokens

    def choices_url(self, recipient: RecipientId) -> str:
        """The recipient's own link to the choices page (§4.2, §5: unique, nothing to type)."""
        return f"{self.base_url}/c/{self.tokens.make(recipient, Use.CHOICES)}"

    def pixel_path(self, recipient: RecipientId) -> str:
        """The individual pixel's path below ``base_url``, to which a template adds ``/<campaign>.gif``."""
        return f"o/{self.tokens.make(recipient, Use.PIXEL)}"

    def contact(self, recipient: RecipientId, address: str, locale: str | None, *, pixel_path: str) -> Contact:
        """The contact that carries them."""
        return Contact(recipient, address, locale, self.choices_url(recipient), pixel_path)


def carried(contact: Contact) -> bytes:
    """A digest of what an ESP carries for a contact besides its segments: when it changes, it is sent again."""
    return sha256(f"{contact.choices_url}\n{contact.pixel_path}".encode()).digest()[:8]
