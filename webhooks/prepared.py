"""A page made once for all who stand alike, with gaps where their own few words go.

Making a page of its template takes longer than all that is looked up for it, and most of it is the same for everybody:
what differs between two people who have decided alike is a link, an address and a number.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from markupsafe import escape

MARK_BYTES = 16


@dataclass(frozen=True, slots=True)
class Prepared:
    """A page in pieces: text, gap, text, gap … text. A gap is named by what goes there."""

    pieces: tuple[str, ...]

    def filled(self, values: Mapping[str, str]) -> str:
        """The page with these values, escaped, in its gaps."""
        out = list(self.pieces)
        for place in range(1, len(out), 2):
            out[place] = str(escape(values[out[place]]))
        return "".join(out)


class Gaps:
    """Marks gaps in a page while it is made. Nobody can guess a mark, so no name or setting can stand for one.

    Args:
        names: What goes into the gaps.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.marks = {name: f"gap{secrets.token_hex(MARK_BYTES)}" for name in names}
        self._names = {mark: name for name, mark in self.marks.items()}
        self._pattern = re.compile(f"({'|'.join(self._names)})")

    def cut(self, page: str) -> Prepared:
        """A page that was made with the marks in the place of values."""
        return Prepared(tuple(self._names.get(piece, piece) for piece in self._pattern.split(page)))
