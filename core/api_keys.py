"""The keys of the API: what one may do, and how it is known again.

A key is ``pp_<id>_<secret>``. The secret has 256 bits from the operating system's generator, and its SHA-256 alone is
kept. A slow hash (Argon2, bcrypt) is for passwords, which can be guessed; nobody can try 2^256 secrets however fast
the hash is, and a slow one would only let strangers keep this machine busy with wrong keys.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cache
from hashlib import sha256
from typing import Protocol

from core.errors import InputError, StoreError
from core.model import EPOCH
from core.ports import Clock

SECRET_BYTES = 32
ID_BYTES = 6
LONGEST_NAME = 60
LONGEST_SPAN = timedelta(days=3_650)

_KEY = re.compile(r"pp_(?P<id>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})")
_ID = re.compile(r"[0-9a-f]{12}")
_NAME = re.compile(r"[^\x00-\x1f\x7f@\ud800-\udfff]+")
_NOBODY = "0" * 2 * ID_BYTES
"""An id that no key has: looked up for what is no key at all, so that it costs the same."""


class Scope(StrEnum):
    """What a key may do; one scope gives no other."""

    CONSENTS_WRITE = "consents:write"
    DECISIONS_READ = "decisions:read"
    RECIPIENTS_READ = "recipients:read"
    CAMPAIGNS_READ = "campaigns:read"
    OPENS_READ = "opens:read"
    RECEIPTS_READ = "receipts:read"


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret of a key, as it is kept. ``expires_at``: from then on it opens nothing."""

    sha256: bytes = field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept. ``secrets``: the newest last; two while one is being replaced by the other.

    ``last_used``: the day (UTC), which suffices to find keys that nobody uses.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    secrets: tuple[Secret, ...] = field(repr=False)
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used: date | None = None

    def opens(self, digest: bytes, now: datetime) -> bool:
        """Whether the secret with that SHA-256 opens it now. Every comparison is made, and each in constant time."""
        found = False
        for secret in self.secrets:
            fits = hmac.compare_digest(secret.sha256, digest)
            found |= fits and _valid(secret.expires_at, now)
        return found and self.usable(now)

    def usable(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and _valid(self.expires_at, now)


class KeyStore(Protocol):
    """Where keys are kept. Reads see what any process wrote last."""

    def find(self, id_: str) -> ApiKey | None:
        """The key with that id."""
        ...

    def listed(self) -> Sequence[ApiKey]:
        """All keys, the oldest first."""
        ...

    def put(self, key: ApiKey) -> None:
        """Keep a new key, or an old one as it is now (all but ``last_used``), durably."""
        ...

    def used(self, id_: str, day: date) -> None:
        """Note the day of a key's last use."""
        ...


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """Makes keys, and recognises them."""

    store: KeyStore
    now: Clock

    def create(self, name: str, scopes: Collection[Scope], lasts: timedelta | None = None) -> tuple[ApiKey, str]:
        """A new key, and what its holder must present, which is told this once.

        Raises:
            InputError: no name, no scope, or it would never be valid.
            StoreError: the store is out of reach.
        """
        if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            raise InputError(f"name: 1 to {LONGEST_NAME} characters, and no address")
        if not scopes:
            raise InputError(f"scope: give at least one of {', '.join(Scope)}")
        now = self.now()
        id_ = secrets.token_hex(ID_BYTES)
        text, secret = _secret(id_, now)
        key = ApiKey(id_, name, frozenset(scopes), now, (secret,), _after(now, lasts, "expires-days"))
        self.store.put(key)
        return key, text

    def rotate(self, id_: str, overlap: timedelta) -> tuple[ApiKey, str]:
        """A new secret for a key; the old one stays valid for ``overlap``.

        Raises:
            InputError: there is no such key, or it is no longer valid.
            StoreError: the store is out of reach.
        """
        key, now = self._held(id_), self.now()
        if not key.usable(now):
            raise InputError("the key is revoked or expired; create a new one")
        until = _after(now, overlap, "overlap-days", least=timedelta(0))
        old = [replace(s, expires_at=min(filter(None, (s.expires_at, until)))) for s in key.secrets]
        text, secret = _secret(id_, now)
        kept = [s for s in old if _valid(s.expires_at, now)]
        rotated = replace(key, secrets=(*kept, secret))
        self.store.put(rotated)
        return rotated, text

    def revoke(self, id_: str) -> ApiKey:
        """End a key at once, for a server that runs too; may be repeated.

        Raises:
            InputError: there is no such key.
            StoreError: the store is out of reach.
        """
        key = self._held(id_)
        if key.revoked_at is None:
            key = replace(key, revoked_at=self.now())
            self.store.put(key)
        return key

    def authenticate(self, presented: str) -> ApiKey | None:
        """The key that is presented, if it is valid now.

        What is no key, an unknown id and a wrong secret go the same way and end alike; raises StoreError.
        """
        found = _KEY.fullmatch(presented)
        digest = sha256((found["secret"] if found else "").encode()).digest()
        now = self.now()
        key = self.store.find(found["id"] if found else _NOBODY) or _nobody()
        if not key.opens(digest, now):
            return None
        if key.last_used != now.date():
            self._note_use(key, now.date())
        return key

    def _note_use(self, key: ApiKey, day: date) -> None:
        with suppress(StoreError):  # it is for the operator to read; the request must not fail for it
            self.store.used(key.id, day)

    def _held(self, id_: str) -> ApiKey:
        key = self.store.find(id_) if _ID.fullmatch(id_) else None
        if key is None:
            raise InputError("there is no key with this id; `pixelproof keys list` shows them")
        return key


@cache
def _nobody() -> ApiKey:
    """Compared with in place of a key that does not exist; its secret was thrown away."""
    return ApiKey(_NOBODY, "", frozenset(), EPOCH, (_secret(_NOBODY, EPOCH)[1],), revoked_at=EPOCH)


def _secret(id_: str, now: datetime) -> tuple[str, Secret]:
    text = secrets.token_urlsafe(SECRET_BYTES)
    return f"pp_{id_}_{text}", Secret(sha256(text.encode()).digest(), now)


def _valid(expires_at: datetime | None, now: datetime) -> bool:
    return expires_at is None or now < expires_at


def _after(now: datetime, span: timedelta | None, option: str, least: timedelta = timedelta(days=1)) -> datetime | None:
    if span is None:
        return None
    if not least <= span <= LONGEST_SPAN:
        raise InputError(f"{option}: from {least.days} to {LONGEST_SPAN.days}")
    return now + span
