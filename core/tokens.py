"""Opaque, authenticated names of recipients for links and pixel paths.

A token is one byte of key version and AES-SIV (RFC 5297) over the recipient, in URL-safe base64: 44 characters,
no padding and no spare bits, so every altered bit is refused. What a token is for is bound into it: a pixel path
cannot be used as a link to the choices. It says nothing about the person to whoever lacks the key, follows no
sequence, and dies with its key version.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from enum import StrEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from core.addresses import RECIPIENT_BYTES
from core.errors import SettingsError, TokenError
from core.model import RecipientId

KEY_BYTES = 64
TOKEN_CHARS = 44
_VERSIONS = range(1, 256)
_SPELLING = re.compile(rf"[A-Za-z0-9_-]{{{TOKEN_CHARS}}}")
_NOBODYS = bytes(1 + 16 + RECIPIENT_BYTES)
"""The bytes of a token of version 0, which no key ever has: it opens nothing."""


class Use(StrEnum):
    """What a token is for."""

    CHOICES = "choices"
    PIXEL = "pixel"


class Tokens:
    """Makes tokens with the newest key and opens those of every key that is still held.

    Args:
        keys: AES-SIV keys of 64 bytes by version (1 to 255). Taking a version away revokes its tokens.

    Raises:
        SettingsError: no key, or one of the wrong size or version.
    """

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        if not keys or any(v not in _VERSIONS or len(k) != KEY_BYTES for v, k in keys.items()):
            raise SettingsError("PIXELPROOF_TOKEN_KEYS: give version:key pairs, versions 1 to 255, keys of 64 bytes")
        self._ciphers = {version: AESSIV(key) for version, key in keys.items()}
        self._newest = max(keys)

    def make(self, recipient: RecipientId, use: Use) -> str:
        """The recipient's token for one use; always the same under the same key."""
        version = bytes([self._newest])
        sealed = self._ciphers[self._newest].encrypt(recipient, [version, use.value.encode()])
        return urlsafe_b64encode(version + sealed).decode()

    def open(self, token: str, use: Use) -> RecipientId:
        """The recipient behind a token; raises TokenError when it is altered, foreign, revoked or for another use."""
        raw = _decoded(token)
        cipher = self._ciphers.get(raw[0]) if raw else None
        if cipher is None:
            raise TokenError("the link is not one of ours, or was revoked")
        try:
            recipient = cipher.decrypt(raw[1:], [raw[:1], use.value.encode()])
        except (InvalidTag, ValueError):
            raise TokenError("the link was altered") from None
        if len(recipient) != RECIPIENT_BYTES:
            raise TokenError("the link is not one of ours")
        return RecipientId(recipient)

    def recognise(self, token: str, use: Use) -> RecipientId | None:
        """The same, and None for whatever ``open`` refuses: always by one decryption, so that time tells nothing."""
        raw = _decoded(token) or _NOBODYS
        cipher = self._ciphers.get(raw[0])
        if cipher is None:
            cipher, raw = self._ciphers[self._newest], _NOBODYS
        try:
            recipient = cipher.decrypt(raw[1:], [raw[:1], use.encode()])
        except (InvalidTag, ValueError):
            return None
        return RecipientId(recipient)


def _decoded(token: str) -> bytes:
    """A token's bytes; none for any spelling but that of ``make``, of which Python's decoder takes several."""
    return urlsafe_b64decode(token) if _SPELLING.fullmatch(token) else b""
