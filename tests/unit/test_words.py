"""The pages' own words: every catalogue is complete, and the right language is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2.ext import babel_extract

from core.errors import SettingsError
from webhooks.pages import HERE
from webhooks.words import LOCALES, Words, accepted, load_words, negotiate

LANGUAGES = ("en", "fr")


def test_catalogues_hold_the_words_of_the_templates() -> None:
    """Each catalogue has every message of the templates and no other, with the same placeholders."""
    used = set()
    for template in (HERE / "templates").glob("*.html"):
        with template.open("rb") as source:
            found = [message for _, _, message, _ in babel_extract(source, ["_"], [], {})]
        used |= {message[0] if isinstance(message, tuple) else message for message in found}
    for words in load_words().values():
        assert set(words.messages) == used
        for message, text in words.messages.items():
            assert re.findall(r"%\(\w+\)s", message) == re.findall(r"%\(\w+\)s", str(text))


def test_english_words_are_their_own_ids() -> None:
    """The ids are the English words, so the English catalogue repeats them."""
    assert all(message == str(text).replace("&#39;", "'") for message, text in load_words()["en"].messages.items())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('msgstr "Tout refuser"', 'msgstr ""'),
        ('msgid "Refuse all"', '#, fuzzy\nmsgid "Refuse all"'),
        ('msgid "Refuse all"\nmsgstr "Tout refuser"', ""),
    ],
)
def test_an_untranslated_message_is_refused(tmp_path: Path, before: str, after: str) -> None:
    """A catalogue with a hole stops the start; the message names the catalogue and the words."""
    for language in LANGUAGES:
        text = (LOCALES / language / "LC_MESSAGES" / "messages.po").read_text("utf-8")
        if language == "fr":
            assert before in text
            text = text.replace(before, after)
        target = tmp_path / language / "LC_MESSAGES" / "messages.po"
        target.parent.mkdir(parents=True)
        target.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=r"locales/fr/.*'Refuse all' is not translated"):
        load_words(tmp_path)


def test_words_and_values_are_text() -> None:
    """Neither a catalogue nor a value put into it can bring markup onto a page."""
    words = Words("en", {"of %(name)s": "<b>of</b> %(name)s"})
    assert words("of %(name)s", name="<i>") == "&lt;b&gt;of&lt;/b&gt; &lt;i&gt;"


def test_a_broken_catalogue_is_refused(tmp_path: Path) -> None:
    """A file that is no catalogue is named."""
    target = tmp_path / "fr" / "LC_MESSAGES" / "messages.po"
    target.parent.mkdir(parents=True)
    target.write_text('msgid "unfinished\n', "utf-8")
    with pytest.raises(SettingsError, match=r"locales/fr/.*cannot be read"):
        load_words(tmp_path)


def test_headers_are_ranked() -> None:
    """Weights rank the languages, equal ones stay in order, unreadable and refused ones are left out."""
    assert accepted("da, en-GB;q=0.8, en;q=0.7, x;q=y, no;q=0, ;q=1, fr;p=1, sv") == ["da", "sv", "en-GB", "en"]


def test_regional_languages_keep_their_spelling() -> None:
    """A regional language is found in any spelling and named as its catalogue is."""
    assert negotiate(["PT-br"], ["en", "pt_BR"]) == "pt_BR"
    assert negotiate(["de"], ["en", "pt_BR"]) is None
