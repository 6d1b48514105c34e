"""Versioned notices: what a person reads before choosing (§4.1, §4.2), with a digest of the exact text.

A notice is one file for each language, ``notice_texts/<version>.<language>.toml``: an introduction and, for each
purpose, a short heading, a brief text and the detail that stands one step away. A published file never changes:
``SHA256SUMS`` beside the files holds their digests (check it with ``sha256sum -c``) and loading compares them.

A rendered notice names the sender and the third parties and holds nothing about the person: the masked address is
shown beside it and is no part of it. Lists and durations are worded by the file itself, because a library's wording
changes with its releases and would change the digest with it.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from core.errors import NoticeError
from core.model import NoticeRef, Party, PurposeId, Role
from core.notice_schema import (
    PLACEHOLDER,
    Detail,
    NoticeText,
    Options,
    Passage,
    PersonalisationText,
    PurposeText,
    PurposeTexts,
    Roles,
    placeholder_problems,
)

TEXTS = Path(__file__).parent / "notice_texts"
SUMS = "SHA256SUMS"
_VERSION = re.compile(r"[0-9a-z][0-9a-z-]*")
_LANGUAGE = r"[a-z]{2,3}(?:_[A-Z]{2})?"
_BLANKS = re.compile(r"[ \t\r\n]+")  # not \s: the no-break spaces of French typography are meant

PURPOSES = tuple(PurposeId(name) for name in PurposeTexts.__struct_fields__)
"""The purposes that a notice has texts for, in the order in which they are shown."""
PERSONALISATION_OPTIONS = Options.__struct_fields__
"""What a team may do within ``personalisation``."""


@dataclass(frozen=True, slots=True)
class NoticeSet:
    """Every language of one version."""

    version: str
    texts: Mapping[str, NoticeText]


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What a team fills its notice with.

    Attributes:
        sender: Who decides that the mail is sent: a controller or joint controller (§2.2).
        parties: The register of actors; each is named for its own purposes. An entry under the sender's name is
            the sender.
        purposes: The purposes that the team uses.
        options: What it does within ``personalisation``: some of PERSONALISATION_OPTIONS.
        retention_months: How long the record of an opening is kept at most, in months.
    """

    sender: Party
    parties: tuple[Party, ...]
    purposes: tuple[PurposeId, ...]
    options: tuple[str, ...]
    retention_months: int


@dataclass(frozen=True, slots=True)
class RenderedPurpose:
    """One purpose as it is shown: first level (heading, brief, options) and second level (detail)."""

    id: PurposeId
    heading: str
    brief: str
    options: tuple[str, ...]
    detail: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class RenderedNotice:
    """A notice as a person sees it.

    Attributes:
        text: All that is shown, both levels, one paragraph a line.
        sha256: Of ``text`` in UTF-8, hexadecimal.
    """

    version: str
    language: str
    title: str
    lead: str
    scope: Passage
    points: tuple[Passage, ...]
    purposes: tuple[RenderedPurpose, ...]
    text: str
    sha256: str

    @property
    def ref(self) -> NoticeRef:
        """What the ledger notes of it."""
        return NoticeRef(self.version, self.language, self.sha256)


def languages(version: str, folder: Path = TEXTS) -> tuple[str, ...]:
    """The languages of a version, sorted; raises NoticeError when there is no such version."""
    if not _VERSION.fullmatch(version):
        raise NoticeError("notice: a version is made of digits, small letters and hyphens, such as 2026-11")
    named = re.compile(rf"{re.escape(version)}\.({_LANGUAGE})\.toml")
    found = (named.fullmatch(name) for name in {*_published(folder), *(path.name for path in folder.glob("*.toml"))})
    codes = tuple(sorted(match[1] for match in found if match))
    if not codes:
        raise NoticeError(f"notice {version}: there is no {version}.<language>.toml")
    return codes


def load(version: str, folder: Path = TEXTS) -> NoticeSet:
    """A version in all its languages.

    Raises:
        NoticeError: a file is missing, incomplete, altered or not published; the message names file and field.
    """
    published = _published(folder)
    return NoticeSet(version, {code: _read(version, code, folder, published) for code in languages(version, folder)})


def render(notices: NoticeSet, language: str, disclosure: Disclosure) -> RenderedNotice:
    """The notice in one language, filled in. The same input always gives the same text and digest.

    Raises:
        NoticeError: the language is not there, or the disclosure cannot be told truthfully.
    """
    text = notices.texts.get(language)
    if text is None:
        raise NoticeError(f"notice {notices.version}: there is no text in the language {language!r}")
    _check(disclosure)
    fill = partial(_fill, values={"sender": _plain(disclosure.sender.name)})
    intro = text.introduction
    scope, *points = (
        Passage(fill(passage.heading), fill(passage.text))
        for passage in (intro.scope, intro.data, intro.silence, intro.change, intro.record)
    )
    title, lead = fill(intro.title), fill(intro.lead)
    purposes = tuple(_purpose(text, name, disclosure) for name in PURPOSES if name in disclosure.purposes)
    shown = "\n".join((title, lead, *_lines([scope, *points]), *(line for p in purposes for line in _purpose_lines(p))))
    digest = hashlib.sha256(shown.encode()).hexdigest()
    return RenderedNotice(notices.version, language, title, lead, scope, tuple(points), purposes, shown, digest)


# Reading


def _published(folder: Path) -> dict[str, str]:
    """The digests of the published files, by name."""
    try:
        lines = (folder / SUMS).read_text("ascii").splitlines()
        return {name: digest for digest, name in (line.split() for line in lines)}
    except (OSError, ValueError):
        raise NoticeError(f"notice: {SUMS} beside the texts cannot be read; write it with sha256sum") from None


def _read(version: str, language: str, folder: Path, published: Mapping[str, str]) -> NoticeText:
    name = f"{version}.{language}.toml"
    try:
        raw = (folder / name).read_bytes()
    except OSError:
        raise NoticeError(f"notice {name}: cannot be read, although {SUMS} lists it") from None
    if name not in published:
        raise NoticeError(f"notice {name}: not published; when it is final, add it to {SUMS}")
    if hashlib.sha256(raw).hexdigest() != published[name]:
        raise NoticeError(f"notice {name}: altered since it was published; restore it, or make it a new version")
    return _parse(name, version, language, raw)


def _parse(name: str, version: str, language: str, raw: bytes) -> NoticeText:
    try:
        tree = _folded(tomllib.loads(raw.decode()))
        text = msgspec.convert(tree, NoticeText)
    except (ValueError, msgspec.ValidationError) as error:
        raise NoticeError(f"notice {name}: {error}") from None
    if (text.version, text.language) != (version, language):
        raise NoticeError(f"notice {name}: version and language inside differ from the file's name")
    for problem in placeholder_problems(tree):
        raise NoticeError(f"notice {name}: {problem}")
    return text


def _folded(value: Any) -> Any:  # noqa: ANN401 - whatever TOML holds; msgspec checks its shape next
    """Texts on one line, whatever the line breaks of the file, in Unicode's composed form (NFC)."""
    if isinstance(value, dict):
        return {key: _folded(inner) for key, inner in value.items()}
    return _plain(value) if isinstance(value, str) else value


# Rendering


def _check(disclosure: Disclosure) -> None:
    """Refuse what would make the notice untrue or empty."""
    for unknown in sorted(set(disclosure.purposes) - set(PURPOSES)):
        raise NoticeError(f"notice: no text for the purpose {unknown!r}; there are: {', '.join(PURPOSES)}")
    for option in sorted(set(disclosure.options) - set(PERSONALISATION_OPTIONS)):
        known = ", ".join(PERSONALISATION_OPTIONS)
        raise NoticeError(f"notice: no text for the personalisation option {option!r}; there are: {known}")
    if not disclosure.purposes:
        raise NoticeError("notice: name at least one purpose")
    if "personalisation" in disclosure.purposes and not disclosure.options:
        raise NoticeError(f"notice: personalisation takes at least one of: {', '.join(PERSONALISATION_OPTIONS)}")
    if disclosure.sender.role is Role.PROCESSOR:
        raise NoticeError("notice: the sender is a controller or joint controller, never a processor (§2.2)")
    if disclosure.retention_months < 1:
        raise NoticeError("notice: retention is at least one month")
    if not all(_plain(party.name) for party in (disclosure.sender, *disclosure.parties)):
        raise NoticeError("notice: the sender and every party need a name")


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", _BLANKS.sub(" ", text).strip())


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Put the values in, once: a placeholder inside a value stays as it is."""
    return PLACEHOLDER.sub(lambda match: values[match[1]], text)


def _purpose(text: NoticeText, name: PurposeId, disclosure: Disclosure) -> RenderedPurpose:
    purpose: PurposeText = getattr(text.purposes, name)
    fill = partial(_fill, values=_values(text, name, disclosure))
    used = [option for option in PERSONALISATION_OPTIONS if option in disclosure.options]
    options = [getattr(purpose.options, option) for option in used] if isinstance(purpose, PersonalisationText) else []
    detail = (
        Passage(getattr(text.labels, part), fill(getattr(purpose.detail, part))) for part in Detail.__struct_fields__
    )
    return RenderedPurpose(name, fill(purpose.heading), fill(purpose.brief), tuple(map(fill, options)), tuple(detail))


def _values(text: NoticeText, purpose: PurposeId, disclosure: Disclosure) -> dict[str, str]:
    """What the placeholders stand for, for one purpose."""
    sender, months = disclosure.sender, disclosure.retention_months
    others = [p for p in disclosure.parties if p.name != sender.name and (not p.purposes or purpose in p.purposes)]
    named = ", ".join(_party(text.roles, party) for party in others)
    sentence = _fill(text.third_parties.some, {"names": named}) if others else text.third_parties.none
    retention = text.retention.one if months == 1 else _fill(text.retention.other, {"months": str(months)})
    return {
        "sender": _plain(sender.name),
        "third_parties": sentence,
        "recipients": ", ".join(_party(text.roles, party, contact=True) for party in (sender, *others)),
        "retention": retention,
    }


def _party(roles: Roles, party: Party, *, contact: bool = False) -> str:
    role: str = getattr(roles, party.role.value)
    where = _plain(party.contact)
    return f"{_plain(party.name)} ({role}, {where})" if contact and where else f"{_plain(party.name)} ({role})"


def _lines(passages: Collection[Passage]) -> list[str]:
    return [line for passage in passages for line in (passage.heading, passage.text)]


def _purpose_lines(purpose: RenderedPurpose) -> list[str]:
    return [purpose.heading, purpose.brief, *purpose.options, *_lines(purpose.detail)]
