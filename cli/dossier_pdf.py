"""A page as a PDF, for those who file paper.

A PDF carries its fonts. The product brings none: it takes one of the usual free ones from this machine, or the one that
is named, and embeds what it needs of it. Without any, the fonts that every reader has do for the letters of western
European languages; where they do not, no PDF is made, rather than one in which letters are missing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import FontFace

from cli.paper import Paper, Section, Table
from cli.wording import say, spoken
from core.errors import InputError

FONTS = (
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
    "/usr/share/fonts/TTF/DejaVuSans.ttf",
    "/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf",
    "/usr/share/fonts/truetype/noto/NotoSans-Regular.ttf",
    "/usr/share/fonts/noto/NotoSans-Regular.ttf",
    "/Library/Fonts/Arial Unicode.ttf",
)
"""Where Debian, Fedora, Arch and macOS have fonts of many scripts."""

WESTERN = "cp1252"
"""What the fonts that every PDF reader has can show."""
_CORE = "helvetica"
_MAGIC = (b"\0\1\0\0", b"OTTO", b"true")
"""What such fonts begin with (OpenType specification, table directory)."""
_SIZE, _SMALL = 9.5, 7.0
_LINE = 1.35
_SHADE = (235, 235, 232)


class NoPdf(Exception):
    """No PDF can be made in which every letter would be right; says why."""


def pdf(paper: Paper, at: datetime, font: Path | None = None) -> bytes:
    """The page as a PDF, the same for the same page.

    Args:
        paper: The page.
        at: Its date.
        font: A TrueType or OpenType font; None to look for one.

    Raises:
        NoPdf: no font is there that has every letter.
        InputError: ``font`` is none.
    """
    chosen = font or next((Path(name) for name in FONTS if Path(name).is_file()), None)
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    document = _Document(chosen)
    missing = document.lacks(_words(paper))
    if missing:
        where = "the fonts of every PDF reader" if chosen is None else f"the font {chosen.name}"
        raise NoPdf(
            f"{len(missing)} characters are not in {where}: name a font that has them with --font, or print the page"
        )
    document.set_creation_date(at)
    document.set_title(paper.title)
    document.set_lang(paper.language.replace("_", "-"))
    document.add_page()
    document.heading(paper.title, 16)
    document.paragraph(paper.lead)
    with spoken(paper.language):
        for section in paper.sections:
            document.section(section)
    return bytes(document.output())


class _Document(FPDF):
    """A4, with page numbers."""

    def __init__(self, font: Path | None) -> None:
        super().__init__(orientation="landscape", format="A4")
        self.set_auto_page_break(auto=True, margin=15)
        self._family, self._covered = _CORE, None
        if font is None:
            self.core_fonts_encoding = WESTERN
            return
        _check(font)
        try:
            self.add_font("document", fname=font)
        except Exception:  # noqa: BLE001 - whatever a broken font makes the parser raise
            raise InputError(f"--font: {font.name} cannot be read as a TrueType or OpenType font") from None
        self._family = "document"
        self._covered = frozenset(self.fonts["document"].cmap)  # type: ignore[union-attr]

    def lacks(self, words: Iterator[str]) -> set[str]:
        """The characters that the font does not have."""
        used = {character for text in words for character in text if character not in "\n\r\t"}
        if self._covered is None:
            return {character for character in used if not _western(character)}
        return {character for character in used if ord(character) not in self._covered}

    def footer(self) -> None:
        """The number of each page."""
        self.set_y(-12)
        self.set_font(self._family, size=_SMALL)
        self.cell(0, 6, f"{self.page_no()}", align="R")

    def heading(self, text: str, size: float) -> None:
        """A heading; it stays with what follows."""
        if self.will_page_break(24):
            self.add_page()
        self.ln(3)
        self._write(text, size)

    def paragraph(self, text: str) -> None:
        """A paragraph."""
        self._write(text, _SIZE)

    def section(self, section: Section) -> None:
        """A section, without its charts: their tables say the same."""
        self.heading(section.title, 12.5)
        if section.lead:
            self.paragraph(section.lead)
        for name, value in section.facts:
            self.paragraph(say("%(name)s: %(value)s", name=name, value=value))
        for table in section.tables:
            self._table(table)
        for text in section.texts:
            self.heading(text.caption, _SIZE)
            self._write(text.words, _SMALL + 1)
        for command in section.commands:
            self._write(command, _SMALL + 1)

    def _write(self, text: str, size: float) -> None:
        self.set_font(self._family, size=size)
        self.multi_cell(0, size * _LINE / self.k, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(1)

    def _table(self, table: Table) -> None:
        self.heading(table.caption, _SIZE)
        if not table.rows:
            self.paragraph(say("None."))
            return
        self.set_font(self._family, size=_SMALL)
        with self.table(
            first_row_as_headings=True,
            headings_style=FontFace(emphasis="", fill_color=_SHADE),
            line_height=_SMALL * _LINE / self.k,
            text_align="LEFT",
            padding=0.7,
        ) as made:
            for cells in (table.heads, *table.rows):
                row = made.row()
                for cell in cells:
                    row.cell(cell)


def _check(font: Path) -> None:
    """That it is a font at all; the library would leave open what is none."""
    try:
        begins = font.read_bytes()[:4]
    except OSError as error:
        raise InputError(f"--font: {font.name}: {error.strerror}") from None
    if begins not in _MAGIC:
        raise InputError(f"--font: {font.name} is no TrueType or OpenType font")


def _western(character: str) -> bool:
    try:
        character.encode(WESTERN)
    except UnicodeEncodeError:
        return False
    return True


def _words(paper: Paper) -> Iterator[str]:
    """Every text of a page."""
    yield paper.title
    yield paper.lead
    for section in paper.sections:
        yield from (section.title, section.lead, *section.commands)
        yield from (text for fact in section.facts for text in fact)
        for table in section.tables:
            yield from (table.caption, *table.heads, *(cell for row in table.rows for cell in row))
        yield from (text for each in section.texts for text in (each.caption, each.words))
