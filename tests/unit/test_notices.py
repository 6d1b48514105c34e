"""Notices: published texts never change, files are complete, and what is rendered is exact."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import NoticeError
from core.model import Party, PurposeId, Role
from core.notices import (
    PERSONALISATION_OPTIONS,
    PURPOSES,
    SUMS,
    TEXTS,
    Disclosure,
    RenderedNotice,
    languages,
    load,
    render,
)

VERSION = "2026-11"
PROFILING = PurposeId("profiling")
DISCLOSURE = Disclosure(
    sender=Party("Librairie du Canal", Role.CONTROLLER, "privacy@librairie.example"),
    parties=(
        Party("Twilio SendGrid", Role.PROCESSOR),
        Party("Réclame & Fils", Role.JOINT_CONTROLLER, purposes=(PROFILING,)),
    ),
    purposes=PURPOSES,
    options=PERSONALISATION_OPTIONS,
    retention_months=13,
)


def rendered(language: str = "en", disclosure: Disclosure = DISCLOSURE) -> RenderedNotice:
    """The notice in one language."""
    return render(load(VERSION), language, disclosure)


def publish(folder: Path) -> None:
    """Write the digests of a folder's files, as sha256sum does."""
    files = sorted(folder.glob("*.toml"))
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / SUMS).write_text("".join(sums), "ascii")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the notice texts."""
    return Path(shutil.copytree(TEXTS, tmp_path / "texts"))


@pytest.fixture
def spoil(folder: Path) -> Callable[[str, str], str]:
    """Replaces words in the English file, publishes that, and answers what loading it says."""

    def spoilt(words: str, others: str) -> str:
        file = folder / f"{VERSION}.en.toml"
        before = file.read_text("utf-8")
        assert words in before
        file.write_text(before.replace(words, others, 1), "utf-8")
        publish(folder)
        with pytest.raises(NoticeError) as error:
            load(VERSION, folder)
        return str(error.value)

    return spoilt


# Published texts


def test_every_text_has_its_committed_digest() -> None:
    """No published text changes: a digest for every file is committed, and each file still has it."""
    sums = dict(line.split()[::-1] for line in (TEXTS / SUMS).read_text("ascii").splitlines())
    assert sums == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in TEXTS.glob("*.toml")}


def test_an_altered_text_is_refused(folder: Path) -> None:
    """One changed letter in a published file stops the start, and the message names the file."""
    file = folder / f"{VERSION}.fr.toml"
    file.write_text(file.read_text("utf-8").replace("courriel", "mail", 1), "utf-8")
    with pytest.raises(NoticeError, match=r"2026-11\.fr\.toml: altered since it was published"):
        load(VERSION, folder)


def test_a_text_that_is_not_published_is_refused(folder: Path) -> None:
    """A language counts only once its digest is committed."""
    shutil.copy(folder / f"{VERSION}.en.toml", folder / f"{VERSION}.de.toml")
    with pytest.raises(NoticeError, match=r"2026-11\.de\.toml: not published"):
        load(VERSION, folder)


def test_a_published_language_cannot_vanish(folder: Path) -> None:
    """A published file that is gone is an error, not a language less."""
    (folder / f"{VERSION}.fr.toml").unlink()
    with pytest.raises(NoticeError, match=r"2026-11\.fr\.toml: cannot be read"):
        load(VERSION, folder)


def test_digests_must_be_readable(folder: Path) -> None:
    """Without the digests nothing is loaded."""
    (folder / SUMS).unlink()
    with pytest.raises(NoticeError, match=SUMS):
        load(VERSION, folder)


def test_languages_of_a_version() -> None:
    """French and English are there."""
    assert languages(VERSION) == ("en", "fr")


@pytest.mark.parametrize("version", ["2026-12", "2026", "", "../2026-11", "2026-11.en", "*"])
def test_unknown_versions_are_refused(version: str) -> None:
    """A version that does not exist, or that is a path, is an error."""
    with pytest.raises(NoticeError):
        load(version)


# Files are complete


@pytest.mark.parametrize(
    ("words", "others", "field"),
    [
        ('heading = "Detecting fraud"', "", "purposes.fraud_detection"),
        ('heading = "Detecting fraud"', 'heading = " "', "purposes.fraud_detection.heading"),
        ('heading = "Detecting fraud"', "heading = 5", "purposes.fraud_detection.heading"),
        ('heading = "Detecting fraud"', 'heading = "Fraud"\nheadnig = "Fraud"', "headnig"),
        ("[purposes.profiling]", "[purposes.profilling]", "profilling"),
        ('frequency_or_channel = "', 'frequency = "', "purposes.personalisation.options"),
        ("[introduction.silence]", "[introduction.quiet]", "quiet"),
        ('reads = "What is read"', "", "labels"),
        ('version = "2026-11"', 'version = "2026-10"', "version"),
        ('heading = "Detecting fraud"', 'heading = "Detecting', "line"),
    ],
)
def test_incomplete_files_are_refused(spoil: Callable[[str, str], str], words: str, others: str, field: str) -> None:
    """A missing, empty, misspelt or unknown field is named, together with its file."""
    message = spoil(words, others)
    assert message.startswith("notice 2026-11.en.toml: ")
    assert field in message


@pytest.mark.parametrize(
    ("words", "others", "message"),
    [
        ("{sender} asks", "{team} asks", "introduction.lead: unknown placeholder {team}"),
        ("{sender} asks", "{retention} asks", "introduction.lead: unknown placeholder {retention}"),
        ("{sender} asks", "{sender asks", "introduction.lead: a single brace"),
        ("{sender} asks", "{sender.name} asks", "introduction.lead: unknown placeholder {sender.name}"),
        ("{sender} notes", "We note", "purposes.performance.brief: lacks {sender}"),
        (" {third_parties}", "", "purposes.performance.brief: lacks {third_parties}"),
        ("{recipients}.", "Nobody.", "purposes.performance.detail.recipients: lacks {recipients}"),
        ("At most {retention}", "Some time", "purposes.performance.detail.kept: lacks {retention}"),
        ("{names}", "others", "third_parties.some: lacks {names}"),
        ("{months} months", "{retention}", "retention.other: unknown placeholder {retention}"),
    ],
)
def test_placeholders_are_checked(spoil: Callable[[str, str], str], words: str, others: str, message: str) -> None:
    """Unknown placeholders are refused, and so is a text that would not name what it must (§4.1)."""
    assert spoil(words, others) == f"notice 2026-11.en.toml: {message}"


# Rendering


@pytest.mark.parametrize("language", languages(VERSION))
def test_text_holds_both_levels(language: str) -> None:
    """The exact text has every heading, brief, option and detail in the order of the page, and no placeholder."""
    notice = rendered(language)
    passages = [notice.scope, *notice.points]
    lines = [notice.title, notice.lead, *(line for p in passages for line in (p.heading, p.text))]
    for purpose in notice.purposes:
        details = [line for part in purpose.detail for line in (part.heading, part.text)]
        lines += [purpose.heading, purpose.brief, *purpose.options, *details]
    assert notice.text.split("\n") == lines
    assert len(lines) == 12 + 5 * 12 + 3
    assert not re.search(r"[{}]", notice.text)
    assert tuple(purpose.id for purpose in notice.purposes) == PURPOSES


@pytest.mark.parametrize("language", languages(VERSION))
def test_digest_is_that_of_the_text(language: str) -> None:
    """What the ledger notes is the SHA-256 of exactly the text shown."""
    notice = rendered(language)
    assert notice.sha256 == hashlib.sha256(notice.text.encode()).hexdigest()
    assert (notice.ref.version, notice.ref.language, notice.ref.sha256) == (VERSION, language, notice.sha256)


def test_the_order_of_the_settings_changes_nothing() -> None:
    """The same facts give the same text, in whatever order they are written down."""
    turned = replace(DISCLOSURE, purposes=PURPOSES[::-1], options=PERSONALISATION_OPTIONS[::-1])
    assert rendered(disclosure=turned) == rendered()


@pytest.mark.parametrize("language", languages(VERSION))
def test_parties_are_named_for_their_own_purposes(language: str) -> None:
    """Each brief text names the sender and exactly the third parties of that purpose, in their role."""
    for purpose in rendered(language).purposes:
        assert "Librairie du Canal" in purpose.brief
        assert "Twilio SendGrid (" in purpose.brief
        assert ("Réclame & Fils (" in purpose.brief) == (purpose.id == PROFILING)
        assert "(" in purpose.detail[2].text
        assert "privacy@librairie.example" in purpose.detail[2].text


@pytest.mark.parametrize(
    ("language", "processor", "joint"),
    [
        ("en", "Twilio SendGrid (processor", "Réclame & Fils (joint controller"),
        ("fr", "Twilio SendGrid (sous-traitant", "Réclame & Fils (responsable conjoint"),
    ],
)
def test_roles_are_said_in_words(language: str, processor: str, joint: str) -> None:
    """The role of each party stands behind its name."""
    profiling = rendered(language).purposes[PURPOSES.index(PROFILING)]
    assert processor in profiling.brief
    assert joint in profiling.brief


@pytest.mark.parametrize(("language", "words"), [("en", "No other company"), ("fr", "Aucune autre société")])
def test_the_absence_of_third_parties_is_said(language: str, words: str) -> None:
    """Where nobody else takes part the text says so; an entry under the sender's own name is nobody else."""
    alone = replace(DISCLOSURE, parties=(DISCLOSURE.sender,))
    assert all(words in purpose.brief for purpose in rendered(language, alone).purposes)


def test_only_the_purposes_in_use_are_asked_about() -> None:
    """A purpose that the team does not use is not in the text."""
    fraud = PurposeId("fraud_detection")
    notice = rendered(disclosure=replace(DISCLOSURE, purposes=(fraud,), options=()))
    assert [purpose.id for purpose in notice.purposes] == [fraud]
    assert "Measuring how well" not in notice.text


def test_only_the_options_in_use_are_named() -> None:
    """Personalisation names what the team really adapts."""
    notice = rendered(disclosure=replace(DISCLOSURE, options=("content",)))
    (personalisation,) = (p for p in notice.purposes if p.id == "personalisation")
    assert len(personalisation.options) == 1
    assert personalisation.options[0].startswith("the content")


@pytest.mark.parametrize(("months", "words"), [(1, "At most one month from"), (24, "At most 24 months from")])
def test_retention_is_said_in_months(months: int, words: str) -> None:
    """How long openings are kept stands in every detail."""
    notice = rendered(disclosure=replace(DISCLOSURE, retention_months=months))
    assert all(words in purpose.detail[3].text for purpose in notice.purposes)


@pytest.mark.parametrize("name", ["{third_parties}", "{sender.__class__}", "{0}", "%s", "{", "\\1"])
def test_a_name_is_never_read_as_a_placeholder(name: str) -> None:
    """Whatever a sender is called is shown as it is, and filled in once."""
    notice = rendered(disclosure=replace(DISCLOSURE, sender=Party(name, Role.CONTROLLER)))
    assert notice.title == f"May {name} know when you open its emails?"


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40))
def test_any_name_gives_a_text_with_its_digest(name: str) -> None:
    """Any sender's name stands on the one line it belongs to, and the digest follows the text."""
    notice = rendered(disclosure=replace(DISCLOSURE, sender=Party(f"A {name}\n", Role.CONTROLLER)))
    assert len(notice.text.split("\n")) == len(rendered().text.split("\n"))
    assert notice.sha256 == hashlib.sha256(notice.text.encode()).hexdigest()


def test_one_spelling_of_a_name_gives_one_digest() -> None:
    """A name in decomposed Unicode reads the same, so it has the same text and digest."""
    spellings = ("Caf\u00e9", "Cafe\u0301")
    assert (
        len({rendered(disclosure=replace(DISCLOSURE, sender=Party(s, Role.CONTROLLER))).sha256 for s in spellings}) == 1
    )


def test_french_keeps_its_no_break_spaces() -> None:
    """A question mark never begins a line in French."""
    assert rendered("fr").title.endswith("courriels\N{NO-BREAK SPACE}?")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"purposes": ()}, "at least one purpose"),
        ({"purposes": (PurposeId("espionage"),)}, "'espionage'"),
        ({"options": ()}, "personalisation takes at least one of"),
        ({"options": ("mood",)}, "'mood'"),
        ({"sender": Party("Acme", Role.PROCESSOR)}, "never a processor"),
        ({"sender": Party(" ", Role.CONTROLLER)}, "need a name"),
        ({"parties": (Party("", Role.PROCESSOR),)}, "need a name"),
        ({"retention_months": 0}, "at least one month"),
    ],
)
def test_what_cannot_be_told_truthfully_is_refused(change: dict[str, object], message: str) -> None:
    """A disclosure with a hole in it gives no notice."""
    with pytest.raises(NoticeError, match=message):
        rendered(disclosure=replace(DISCLOSURE, **change))  # type: ignore[arg-type]  # the fields differ in type


def test_a_language_that_is_not_there_is_refused() -> None:
    """No silent fallback: what was shown must be known."""
    with pytest.raises(NoticeError, match="'de'"):
        rendered("de")
