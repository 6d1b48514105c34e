"""A team's account at an ESP: what is found there, what webhooks it has, and what an erasure came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from core.model import RecipientId


class Severity(StrEnum):
    """What a finding means: ``ERROR`` would track somebody without consent, or lose a withdrawal."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """A setting at an ESP, or here, that is not as it should be, and what to do about it.

    ``setting``: where it is, as the ESP or the settings file names it. Never carries an address, a token or a key.
    """

    provider: str
    severity: Severity
    setting: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Erasure:
    """What became of an erasure. ``pending``: accepted by the ESP, and not seen to be done in the time allowed."""

    erased: frozenset[RecipientId]
    pending: frozenset[RecipientId]
    api_calls: int


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook as it stands at an ESP. ``url`` may hold a secret: never logged."""

    url: str = field(repr=False)
    enabled: bool
    signed: bool


@dataclass(frozen=True, slots=True)
class Installed:
    """A webhook that was just made. ``keep``: environment variables, and what must be added to the list in each."""

    url: str = field(repr=False)
    keep: Mapping[str, str] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
