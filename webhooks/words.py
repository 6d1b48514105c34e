"""The pages' own words, from gettext catalogues: ``locales/<language>/LC_MESSAGES/messages.po``, read as they are.

The message ids are the English words. Adding a language is adding its catalogue here and its notice text in
``core/notice_texts``; nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from babel import Locale, negotiate_locale
from babel.messages.pofile import PoFileError, read_po
from markupsafe import Markup, escape

from core.errors import SettingsError

LOCALES = Path(__file__).parent / "locales"


class Words:
    """One language's words, by their English form. An unknown one is a KeyError: a test holds them complete."""

    def __init__(self, language: str, messages: Mapping[str, str]) -> None:
        self.language = language
        self.messages = {message: escape(words) for message, words in messages.items()}

    def __call__(self, message: str, **values: str) -> Markup:
        """The words for a message, with values (escaped) in the place of their ``%(name)s``."""
        words = self.messages[message]
        return words % values if values else words

    @property
    def own_name(self) -> str:
        """The language's name in itself, with a capital."""
        name = Locale.parse(self.language).get_display_name(self.language) or self.language
        return name[:1].upper() + name[1:]


def load_words(folder: Path = LOCALES) -> dict[str, Words]:
    """Every catalogue, by language.

    Raises:
        SettingsError: one cannot be read, or lacks a message that another one has; it names file and message.
    """
    found = {file.parts[-3]: _messages(file) for file in sorted(folder.glob("*/LC_MESSAGES/messages.po"))}
    every = {message for messages in found.values() for message in messages}
    for language, messages in found.items():
        for missing in sorted(message for message in every if not messages.get(message)):
            raise SettingsError(f"locales/{language}/LC_MESSAGES/messages.po: {missing!r} is not translated")
    return {language: Words(language, messages) for language, messages in found.items()}


def negotiate(wishes: Sequence[str], available: Sequence[str]) -> str | None:
    """The first of the wished languages that there is: itself, or without its region; None when there is none."""
    spelling = {language.lower(): language for language in available}
    found = negotiate_locale([wish.lower().replace("-", "_") for wish in wishes], spelling)
    return spelling.get(found.lower()) if found else None


def accepted(header: str) -> list[str]:
    """The languages of an Accept-Language header (RFC 9110 §12.5.4), the most wanted first, without unreadable ones."""
    ranked = []
    for part in header.split(","):
        language, _, parameter = part.partition(";")
        weight = _weight(parameter)
        if weight > 0 and language.strip():
            ranked.append((weight, language.strip()))
    return [language for _, language in sorted(ranked, key=lambda item: item[0], reverse=True)]


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if not name.strip():
        return 1.0
    try:
        return float(value) if name.strip() == "q" else 0.0
    except ValueError:
        return 0.0


def _messages(file: Path) -> dict[str, str]:
    try:
        with file.open("rb") as source:
            catalogue = read_po(source, charset="utf-8", abort_invalid=True)
    except (OSError, PoFileError, ValueError):
        raise SettingsError(f"locales/{file.parts[-3]}/LC_MESSAGES/messages.po: cannot be read") from None
    return {str(m.id): "" if m.fuzzy else str(m.string) for m in catalogue if m.id}
