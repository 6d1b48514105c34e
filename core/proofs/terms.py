"""What is known about the words of proof records: which purposes they name, whether the text shown is known, and so on.

A delivery of millions has few different wordings, so each is looked at once, here; the rules in ``core/reconcile.sql``
decide what follows from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from core.model import PurposeId
from core.policy import Policy
from core.proofs.mappings import Mapping as ColumnMapping
from core.proofs.mappings import PurposeList
from core.proofs.partners import DOUBLE_OPT_IN, METHODS, PartnerSettings
from core.proofs.reading import WORDS

DAYS_A_MONTH = 30
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BLANKS = re.compile(r"\s+")
_MONTH = re.compile(r"(\d{4})-(\d\d)(?:-.*)?")
_AROUND = " \t\r\n"
_LONGEST = 500

Words = tuple[str | None, ...]
"""The cells of a record that make its wording, as they were delivered: one for each of ``WORDS``."""


@dataclass(frozen=True, slots=True)
class KnownNotice:
    """A text that people may have been shown: the SHA-256 of it in each language, and since when it is in use."""

    digests: frozenset[str] = frozenset()
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wording:
    """What a record's words amount to: see ``core/reconcile.sql``."""

    sound: bool
    genuine: bool = True
    purposes: tuple[PurposeId, ...] = ()
    purposes_readable: bool = False
    controller_named: bool = False
    notice_known: bool = False
    must_be_confirmed: bool = False
    notice_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """Against what the records of one partner are judged.

    Attributes:
        partner: What was agreed with it.
        mapping: How its columns and words are ours.
        policy: The rules, for the purposes and for how long a consent lasts.
        couplings: Names that stand for several purposes.
        controllers: Names of the sender.
        notices: The texts that people may have been shown, by version.
        now: The time of the reconciliation.
    """

    partner: PartnerSettings
    mapping: ColumnMapping
    policy: Policy
    couplings: tuple[str, ...]
    controllers: frozenset[str]
    notices: Mapping[str, KnownNotice] = field(repr=False)
    now: datetime

    @property
    def expired_before(self) -> datetime | None:
        """A consent from before is too old: it no longer lasts, or its evidence is no longer kept."""
        spans = [self.policy.consent_lasts_days]
        spans += [self.partner.evidence_months * DAYS_A_MONTH] if self.partner.evidence_months else []
        days = [span for span in spans if span]
        return self.now - timedelta(days=min(days)) if days else None

    def wording(self, words: Words) -> Wording:
        """What these words amount to."""
        cells = [(word or "").strip(_AROUND) for word in words]
        missing = any(not cell and column in self.partner.required for column, cell in zip(WORDS, cells, strict=True))
        if any(map(_CONTROL.search, cells)):
            return Wording(sound=False)
        purposes, notice, digest, controller, method = cells
        named = self._purposes(purposes)
        digest, method = digest.lower(), method_named(method)
        readable = named is not None and bool(purposes)
        known = self._notice(notice, digest)
        return Wording(
            sound=not missing and readable and self._allowed(method) and bool(not digest or _SHA256.fullmatch(digest)),
            genuine=self._genuine(notice, digest),
            purposes=named or (),
            purposes_readable=readable,
            controller_named=not controller or plain(controller) in self.controllers,
            notice_known=not (notice or digest) or known is not None,
            must_be_confirmed=self.partner.promises_confirmation or method == DOUBLE_OPT_IN,
            notice_since=known.since if known else None,
        )

    def _allowed(self, method: str) -> bool:
        """A consent that was to be confirmed and was collected in another way is a matter of ``not_confirmed``."""
        if not method or self.partner.promises_confirmation:
            return not method or method in METHODS
        return method in (self.partner.methods or METHODS)

    def _notice(self, version: str, digest: str) -> KnownNotice | None:
        if version:
            return self.notices.get(version)
        return next((notice for notice in self.notices.values() if digest in notice.digests), None)

    def _genuine(self, version: str, digest: str) -> bool:
        """Whether a text that is known by its version has the digest that the record states."""
        known = self.notices.get(version)
        return known is None or not digest or not known.digests or digest in known.digests

    def _purposes(self, text: str) -> tuple[PurposeId, ...] | None:
        """The purposes that a cell names; None when it cannot be read."""
        names = _names(text, self.mapping.purpose_list)
        if names is None:
            return None
        found: dict[PurposeId, None] = {}
        for name in names:
            meant = self._meant(name)
            if meant is None:
                return None
            found |= dict.fromkeys(meant)
        return tuple(found)

    def _meant(self, name: str) -> tuple[PurposeId, ...] | None:
        if name in self.mapping.purposes:
            return self.mapping.purposes[name]
        if name in self.couplings:
            return self.policy.coupling(name).purposes
        if name in self.policy.consent_purposes:
            return (PurposeId(name),)
        return None if not self.mapping.purposes else ()


def rows(terms: Terms, said: Iterable[Words]) -> Iterator[tuple[object, ...]]:
    """The rows of ``wording``: number, facts, and the purposes that it covers, with ``;`` between them.

    ``testimony`` numbers what the words say beside the purposes: duplicates that differ in it disagree.
    """
    testimonies: dict[tuple[str, ...], int] = {}
    for number, words in enumerate(said, 1):
        found = terms.wording(words)
        beside = tuple((word or "").strip(_AROUND) for word in words[1:])
        testimony = testimonies.setdefault(beside, len(testimonies) + 1)
        flags = (found.sound, found.genuine, found.purposes_readable, found.controller_named, found.notice_known)
        since = micros(found.notice_since) if found.notice_since else None
        covered = ";".join(found.purposes) or None
        yield (number, testimony, *flags, found.must_be_confirmed, since, covered)


TABLE = (
    "id BIGINT, testimony BIGINT, sound BOOLEAN, genuine BOOLEAN, purposes_readable BOOLEAN,"
    " controller_named BOOLEAN, notice_known BOOLEAN, must_be_confirmed BOOLEAN, notice_since BIGINT, covered VARCHAR"
)
"""The columns of these rows."""


def micros(at: datetime) -> int:
    """Whole microseconds since 1970."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def instant_of(microseconds: int) -> datetime:
    """The reverse of ``micros``."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def plain(name: str) -> str:
    """A name as it is compared: without regard to capitals and blanks."""
    return _BLANKS.sub(" ", name).strip().casefold()


def method_named(text: str) -> str:
    """How a consent was collected, in our words."""
    word = re.sub(r"[\s-]+", "_", text.strip().lower())
    return DOUBLE_OPT_IN if word in {"doi", "double_optin"} else word


def since_of(version: str) -> datetime | None:
    """Since when one of our own notices can be in use: its version begins with the month that it was published in."""
    match = _MONTH.fullmatch(version)
    try:
        return datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC) if match else None
    except ValueError:
        return None


def _names(text: str, listed: PurposeList | None) -> list[str] | None:
    """The names in a cell: separated by ``;``, a JSON list of names, or a list of objects as the mapping says."""
    if not text.startswith("["):
        return None if listed or len(text) > _LONGEST else [name for name in map(str.strip, text.split(";")) if name]
    try:
        if listed:
            return _agreed(msgspec.json.decode(text, type=list[dict[str, msgspec.Raw]]), listed)
        return [name.strip() for name in msgspec.json.decode(text, type=list[str])]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _agreed(items: list[dict[str, msgspec.Raw]], listed: PurposeList) -> list[str] | None:
    names = []
    for item in items:
        try:
            told = {name: _text(item[name]) for name in (listed.name, listed.agreed) if name}
        except (KeyError, ValueError):
            return None
        if not listed.agreed or told[listed.agreed] in listed.values:
            names.append(told[listed.name])
    return names


def _text(raw: msgspec.Raw) -> str:
    value = msgspec.json.decode(raw)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int):
        return str(value)
    raise ValueError("neither a text nor a number")
