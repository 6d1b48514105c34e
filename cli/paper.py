"""Pages that are handed on as files: sections of facts, tables, texts and charts, in one file that needs nothing else.

No script, no font, no image from elsewhere: what somebody opens years later, or on a machine without a network, is what
was written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from cli.wording import language, moment, number, say, spoken
from core.errors import SettingsError

Language = Annotated[
    str | None,
    typer.Option("--language", help="The language to write in: en or fr.", show_default="default_language"),
]

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


@dataclass(frozen=True, slots=True)
class Table:
    """A table. ``numbers``: the columns, from 0, that hold numbers and stand to the right."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Text:
    """A text, word for word. ``language``: of the text, where it is known."""

    caption: str
    words: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page. ``charts``: SVG; each is followed by the table that holds its numbers."""

    title: str
    lead: str = ""
    facts: Sequence[tuple[str, str]] = ()
    charts: Sequence[Markup] = ()
    tables: Sequence[Table] = ()
    texts: Sequence[Text] = ()
    commands: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Paper:
    """A whole page. ``language``: the one that is spoken when it is made."""

    title: str
    lead: str
    sections: Sequence[Section]
    language: str = field(default_factory=language)


def rendered(paper: Paper) -> str:
    """The page as HTML; every text of another language says so."""
    text = (resources.files("cli") / "templates" / "paper.html").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    with spoken(paper.language):
        return environment.from_string(text).render(paper=paper, _=say)


def written(path: Path, content: bytes) -> None:
    """Write a file that its owner alone can read, whole or not at all; what was there is replaced.

    Raises:
        SettingsError: it cannot be written there.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, PRIVATE_FILE), "wb") as file:
            file.write(content)
        part.chmod(PRIVATE_FILE)
        part.replace(path)
    except OSError as error:
        raise SettingsError(f"--out: {error.strerror}") from None


def when(at: datetime | None) -> str:
    """A time for readers, in UTC."""
    return moment(at) if at else say("not known")


def span(seconds: float) -> str:
    """A span of time for readers: two units, the larger first."""
    if seconds < 1:
        return say("under a second")
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    rest, told = int(seconds), []
    for name, size in units:
        n, rest = divmod(rest, size)
        if n:
            told.append(f"{number(n)} {say(name)}")
    return " ".join(told[:2])
