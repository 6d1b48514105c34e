"""E-mail addresses: normalised for matching, masked for display, turned into pseudonyms for everything else."""

from __future__ import annotations

import hashlib
import hmac
import re
from functools import lru_cache

from core.errors import AddressError
from core.model import RecipientId

RECIPIENT_BYTES = 16
LONGEST = 254
"""Characters of an address (RFC 5321 §4.5.3.1, as corrected by erratum 1690)."""


_PLAIN_LOCAL = re.compile(r"[a-z0-9]+(?:[._+-][a-z0-9]+)*", re.IGNORECASE | re.ASCII)
_LOCAL_CHARS = 64
_PLAIN_DOMAIN = re.compile(
    r"(?!.*--)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,8}"
    r"(?!(?:arpa|invalid|local|localhost|onion|test)\Z)[a-z]{2,63}",
    re.IGNORECASE | re.ASCII,
)
"""A domain that needs no closer look: ASCII, no Punycode, no top-level domain that is reserved."""
_PLAIN_CHARS = 200


def normalise(address: str) -> str:
    """The one spelling under which an address is known here: trimmed, lower case, domain in IDNA ASCII form.

    The local part is lower-cased too: two people whose addresses differ in case alone are not known to exist, but
    one person typed in two ways is common, and a withdrawal must reach both.

    Raises:
        AddressError: not an e-mail address. The message never repeats it.
    """
    trimmed = address.strip()
    if len(trimmed) > LONGEST:
        raise AddressError("the address is longer than 254 characters")
    local, _, domain = trimmed.rpartition("@")
    if len(local) <= _LOCAL_CHARS and _PLAIN_LOCAL.fullmatch(local):
        whole = f"{local}@{_domain(domain)}".lower()
        if len(whole) <= LONGEST:
            return whole
    return _checked(trimmed)


@lru_cache(maxsize=4_096)
def _domain(domain: str) -> str:
    """A domain in ASCII form. Checked once: millions of addresses share a few of them."""
    if len(domain) <= _PLAIN_CHARS and _PLAIN_DOMAIN.fullmatch(domain):
        return domain.lower()
    return _checked(f"x@{domain}").removeprefix("x@")


def _checked(address: str) -> str:
    # Imported here: its tables weigh much, and few addresses need them.
    from email_validator import EmailNotValidError, validate_email

    try:
        checked = validate_email(address, check_deliverability=False, test_environment=True, strict=True)
    except (EmailNotValidError, UnicodeError):
        raise AddressError("not a valid e-mail address") from None
    return f"{checked.local_part}@{checked.ascii_domain}".lower()


def pseudonym(key: bytes, normalised: str) -> RecipientId:
    """The recipient behind a normalised address: HMAC-SHA256 under the team's key, 16 bytes of it."""
    return RecipientId(hmac.digest(key, normalised.encode(), hashlib.sha256)[:RECIPIENT_BYTES])


def masked(normalised: str) -> str:
    """The address as a page shows it: its owner recognises it, a passer-by does not learn it (§4.2)."""
    local, _, domain = normalised.partition("@")
    host, dot, rest = domain.partition(".")
    return f"{_veil(local)}@{_veil(host)}{dot}{rest}"


def _veil(word: str) -> str:
    return f"{word[:1]}{'•' * 4}{word[-1:] if len(word) > 3 else ''}"  # noqa: PLR2004 - shorter would show too much
