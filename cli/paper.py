"""Pages that are handed on as files: sections of facts, tables, texts and charts, in one file that needs nothing else.

No script, no font, no image from elsewhere: what somebody opens years later, or on a machine without a network, is what
was written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from core.errors import SettingsError

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
    """A whole page."""

    title: str
    lead: str
    sections: Sequence[Section]


def rendered(paper: Paper) -> str:
    """The page as HTML, in English; every text of another language says so."""
    text = (resources.files("cli") / "templates" / "paper.html").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text).render(paper=paper)


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
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else "not known"


def span(seconds: float) -> str:
    """A span of time for readers: two units, the larger first."""
    if seconds < 1:
        return "under a second"
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    rest, told = int(seconds), []
    for name, size in units:
        n, rest = divmod(rest, size)
        if n:
            told.append(f"{n} {name}")
    return " ".join(told[:2])
