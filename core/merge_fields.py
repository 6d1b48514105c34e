"""How the templates of the ESPs write a recipient's two fields, and a condition on one of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce


@dataclass(frozen=True, slots=True)
class MergeSyntax:
    """How the templates of an ESP write the recipient's two fields.

    ``choices`` and ``pixel`` find the fields; ``choices_name`` and ``pixel_name`` are what conditions call them;
    ``choices_words`` and ``pixel_words`` are how messages and snippets write them; ``if_pixel`` and ``end_if`` stand
    around what those alone get who have a pixel. ``openers``: what begins or ends something in the template language.
    """

    choices: re.Pattern[str]
    pixel: re.Pattern[str]
    choices_name: str
    pixel_name: str
    choices_words: str
    pixel_words: str
    if_pixel: str
    end_if: str
    openers: tuple[str, ...]

    @property
    def guard_words(self) -> str:
        """The condition as messages write it."""
        return f"{self.if_pixel} … {self.end_if}"

    def inert_html(self, html: str) -> str:
        """HTML of which nothing is read as the template language: what would begin something becomes entities."""
        return _replaced(html, self.openers, lambda opener: "".join(f"&#{ord(char)};" for char in opener))

    def inert_text(self, text: str) -> str:
        """Plain text of which nothing is read as the template language: what would begin something gets blanks."""
        return _replaced(text, self.openers, " ".join)


def _replaced(text: str, parts: Sequence[str], by: Callable[[str], str]) -> str:
    return reduce(lambda done, part: done.replace(part, by(part)), parts, text)


def _handlebars(choices: str, pixel: str) -> MergeSyntax:
    return MergeSyntax(
        choices=re.compile(r"\{\{\{?\s{0,9}" + choices + r"\s{0,9}\}?\}\}"),
        pixel=re.compile(r"\{\{\{?\s{0,9}" + pixel + r"\s{0,9}\}?\}\}"),
        choices_name=choices,
        pixel_name=pixel,
        choices_words=f"{{{{{choices}}}}}",
        pixel_words=f"{{{{{pixel}}}}}",
        if_pixel=f"{{{{#if {pixel}}}}}",
        end_if="{{/if}}",
        openers=("{{", "}}"),
    )


HANDLEBARS = _handlebars("choices_url", "pixel_path")
"""SendGrid's dynamic templates and the templates of SES."""

SENDGRID_FIELDS = _handlebars("pixelproof_choices_url", "pixelproof_pixel_path")
"""SendGrid's Single Sends, which take a contact's custom fields."""

MAILCHIMP = MergeSyntax(
    choices=re.compile(r"\*\|PPCHOICES\|\*"),
    pixel=re.compile(r"\*\|PPPIXEL\|\*"),
    choices_name="PPCHOICES",
    pixel_name="PPPIXEL",
    choices_words="*|PPCHOICES|*",
    pixel_words="*|PPPIXEL|*",
    if_pixel="*|IF:PPPIXEL|*",
    end_if="*|END:IF|*",
    openers=("*|", "|*"),
)
"""The merge tags of a Mailchimp audience."""

ALL = (HANDLEBARS, SENDGRID_FIELDS, MAILCHIMP)
