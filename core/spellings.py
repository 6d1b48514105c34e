"""E-mail addresses inside payloads, however these spell them: in JSON, in JSON inside JSON, in forms, in plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import unquote, unquote_plus

from core.addresses import LONGEST, normalise
from core.errors import AddressError

_AROUND = re.compile(r'[\s"<>,;()\[\]{}\\]+')
"""What stands around an address in JSON and in text, and never in one that needs no quotes."""
_BETWEEN = re.compile(r"[=&:/|?#]+")
"""What may stand in an address, and far more often separates it from what is not part of it."""
_MARKS = "'`.*!_"
"""Punctuation that is no part of an address when it stands at its ends."""
_ESCAPED = re.compile(r"\\+u([0-9a-fA-F]{4})")
"""A character of JSON text as its number; inside JSON inside JSON the backslash is doubled."""


def addresses_in(payload: bytes) -> set[str]:
    """Every address that a payload names, normalised. Compressed or encrypted ones cannot be seen."""
    text = payload.decode("utf-8", "replace")
    found = set()
    for variant in {text, unquote(text), unquote_plus(text)}:
        for candidate in _candidates(_ESCAPED.sub(_character, variant)):
            with suppress(AddressError):
                found.add(normalise(candidate))
    return found


def _candidates(text: str) -> Iterator[str]:
    for token in _AROUND.split(text):
        if "@" in token:
            for part in {token, *_BETWEEN.split(token)}:
                candidate = part.strip(_MARKS)
                if "@" in candidate and len(candidate) <= LONGEST:
                    yield candidate


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16))
