"""The conditional blocks of a template: does everybody get what stands in one?

Reads Handlebars (``{{#if x}} … {{else}} … {{/if}}``, any helper) and Mailchimp (``*|IF:X|* … *|ELSE:|* … *|END:IF|*``).
Helpers and conditions are not understood, only where they branch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from core.mail_css import blanked

_BLOCK = re.compile(
    r"\{\{~?\s{0,9}(?P<mark>[#/^])\s{0,9}(?P<helper>[^{}]{0,300})\}\}"
    r"|\{\{~?\s{0,9}(?P<otherwise>else(?=[\s~}]))(?P<chained>[^{}]{0,300})\}\}"
    r"|\*\|(?P<word>IF|IFNOT|ELSEIF|ELSE|END|INTERESTED):(?P<tag>[^|]{0,300})\|\*",
)


@dataclass(slots=True)
class _Block:
    """One open block. ``condition`` is that of the branch being read; ``covered``: what the branches so far held."""

    condition: str
    first: bool = True
    held: bool = False
    all_held: bool = True
    first_held: bool = False
    exhaustive: bool = False


class Blocks:
    """Walks through a template: ``advance`` to an offset, then ask, or ``mark`` that something stands there.

    ``sure``: conditions that hold for everybody who matters, as the fields are called (``pixel_path``).
    ``everywhere``: whether what was marked is in the mail of everybody for whom ``sure`` holds, after ``end``.
    """

    def __init__(self, source: str, sure: frozenset[str]) -> None:
        self._steps: Iterator[re.Match[str]] = _BLOCK.finditer(source)
        self._next = next(self._steps, None)
        self._sure = sure
        self._open = [_Block("")]
        self._conditions: Counter[str] = Counter()

    def advance(self, offset: int) -> None:
        """Read up to there; offsets never go back."""
        while self._next is not None and self._next.start() < offset:
            self._step(self._next)
            self._next = next(self._steps, None)

    def within(self, condition: str) -> bool:
        """Whether the place reached is shown only when this field is filled."""
        return self._conditions[condition] > 0

    def mark(self) -> None:
        """The thing looked for stands here."""
        self._open[-1].held = True

    def end(self) -> bool:
        """Read the rest; whether everybody gets what was marked."""
        while self._next is not None:
            self.advance(self._next.end())
        while len(self._open) > 1:
            self._close()
        return self._open[0].held

    def _step(self, found: re.Match[str]) -> None:
        mark, word = found["mark"], found["word"]
        if found["otherwise"] or word in {"ELSE", "ELSEIF"} or (mark == "^" and not found["helper"].strip()):
            self._branch(final=not (found["chained"] or "").strip() and word != "ELSEIF")
        elif mark == "/" or word == "END":
            self._close()
        else:
            self._begin(_condition(found))

    def _begin(self, condition: str) -> None:
        self._open.append(_Block(condition))
        self._conditions[condition] += 1

    def _branch(self, *, final: bool) -> None:
        block = self._open[-1]
        if len(self._open) == 1:
            return
        self._leave(block)
        block.exhaustive = block.exhaustive or final

    def _close(self) -> None:
        if len(self._open) == 1:
            return
        block = self._open.pop()
        sure = block.condition in self._sure
        self._leave(block)
        if (block.all_held and block.exhaustive) or (sure and block.first_held):
            self._open[-1].held = True

    def _leave(self, block: _Block) -> None:
        """End the branch that is being read."""
        if block.first:
            block.first_held = block.held
            self._conditions[block.condition] -= 1
        block.first = False
        block.all_held = block.all_held and block.held
        block.held = False


def without_template_comments(source: str) -> str:
    """The same text with Handlebars' comments blank: they are in nobody's mail."""
    parts, at = [], 0
    while (start := source.find("{{!", at)) >= 0:
        close = "--}}" if source.startswith("{{!--", start) else "}}"
        end = source.find(close, start)
        if end < 0:
            break
        parts += [source[at:start], blanked(source[start : end + len(close)])]
        at = end + len(close)
    return "".join([*parts, source[at:]])


def _condition(found: re.Match[str]) -> str:
    """The field of a plain ``if``; otherwise something that no field is called."""
    if found["word"] is not None:
        return found["tag"].strip() if found["word"] == "IF" else "?"
    words = found["helper"].rstrip("~").split()
    plain = found["mark"] == "#" and len(words) == 2 and words[0] == "if"  # noqa: PLR2004 - `if` and a field
    return words[1] if plain else "?"
