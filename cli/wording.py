"""The words of reports and dossiers, from gettext catalogues as the choices pages have them, and numbers and dates.

The language is one for a whole page, so it is set around the making of it and not handed through every section.
The message ids are the English words. Machine-readable files and the terminal stay in English.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from babel import Locale
from babel.dates import format_datetime
from babel.numbers import format_decimal, format_percent

from core.errors import InputError
from webhooks.words import load_words, negotiate

LOCALES = Path(__file__).parent / "locales"
ENGLISH = "en"

_language: ContextVar[str] = ContextVar("language", default=ENGLISH)


class English(str):
    """Words of a finding, which are in English in every language; where they stand, the page says so."""

    __slots__ = ()
    language = ENGLISH


@cache
def catalogues() -> Mapping[str, Mapping[str, str]]:
    """Every catalogue's words by their English form, by language.

    Raises:
        SettingsError: one cannot be read or is not complete.
    """
    found = load_words(LOCALES)
    return {name: {m: str(text.unescape()) for m, text in words.messages.items()} for name, words in found.items()}


@contextmanager
def spoken(wished: str | None, default: str = ENGLISH) -> Iterator[str]:
    """Inside, everything is said in the wished language, else in the default one, else in English.

    Raises:
        InputError: there is no catalogue of the wished language.
    """
    available = sorted(catalogues())
    language = negotiate([wished or default], available)
    if language is None and wished:
        raise InputError(f"--language: there are {', '.join(available)}")
    token = _language.set(language or ENGLISH)
    try:
        yield _language.get()
    finally:
        _language.reset(token)


def language() -> str:
    """The language that is spoken."""
    return _language.get()


def say(message: str, **values: str) -> str:
    """The words for a message, with values in the place of their ``%(name)s``; an unknown one is a KeyError."""
    words = catalogues()[_language.get()][message]
    return words % values if values else words


def known(words: str) -> str:
    """The words for what may be the product's own or a team's: a policy's title, a partner's verdict."""
    return catalogues()[_language.get()].get(words, words)


def number(value: int) -> str:
    """A whole number, with the language's mark between thousands."""
    return _plain(format_decimal(value, locale=_language.get()))


def percent(share: float, digits: int = 0) -> str:
    """A share in per cent, in the language's form."""
    pattern = Locale.parse(_language.get()).percent_formats[None].pattern
    wanted = pattern.replace("##0", f"##0.{'0' * digits}") if digits else pattern
    return _plain(format_percent(share, wanted, locale=_language.get()))


def moment(at: datetime) -> str:
    """A time in UTC; in English as ISO 8601 has it, which is neither British nor American."""
    if _language.get() == ENGLISH:
        return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"{_plain(format_datetime(at, 'medium', tzinfo=UTC, locale=_language.get()))} UTC"


def _plain(text: str) -> str:
    """With the no-break space that every font has: the narrow one is missing in the fonts of PDF readers."""
    return text.replace("\u202f", "\u00a0")
