"""As much of Mailchimp's merge language as the product's mails need: ``*|TAG|*``, ``*|IF:TAG|* … *|END:IF|*``."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping

_PLACEHOLDERS = {
    "[[choices_url]]": "*|PPCHOICES|*",
    "[[pixel_path]]": "*|PPPIXEL|*",
    "[[if_pixel]]": "*|IF:PPPIXEL|*",
    "[[end_if]]": "*|END:IF|*",
}
_IF = re.compile(r"\*\|IF:(\w+)\|\*(.*?)(?:\*\|ELSE:\|\*(.*?))?\*\|END:IF\|\*", re.DOTALL)
_TAG = re.compile(r"\*\|(\w+)\|\*")


def from_placeholders(text: str) -> str:
    """A mail with this language's tags in place of the neutral placeholders."""
    for placeholder, tag in _PLACEHOLDERS.items():
        text = text.replace(placeholder, tag)
    return text


def merged(template: str, values: Mapping[str, str], escape: Callable[[str], str] = html.escape) -> str:
    """A template with a member's values; what is no tag of the audience stays as it is written."""
    chosen = _IF.sub(lambda found: (found[2] if values.get(found[1]) else found[3]) or "", template)
    return _TAG.sub(lambda found: escape(values[found[1]]) if found[1] in values else found[0], chosen)
