"""As much of SendGrid's Handlebars as the demo's templates need: values, raw values, and ``#if`` without nesting."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_TOKEN = re.compile(r"(\{\{\{\s*\w+\s*\}\}\}|\{\{\s*#if\s+\w+\s*\}\}|\{\{\s*/if\s*\}\}|\{\{\s*\w+\s*\}\})")
_WORD = re.compile(r"\w+")
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;", "`": "&#x60;", "=": "&#x3D;"}
)
"""What Handlebars escapes in a value with two braces."""

Render = Callable[[Mapping[str, object]], str]


def compiled(template: str) -> Render:
    """A function that fills the template; what it does not know is empty, as at SendGrid."""
    parts = _TOKEN.split(template)

    def render(data: Mapping[str, object]) -> str:
        shown, out = True, []
        for place, part in enumerate(parts):
            if place % 2 == 0:
                text = part
            elif "#if" in part:
                shown = bool(data.get(_WORD.findall(part)[1]))
                continue
            elif "/if" in part:
                shown = True
                continue
            else:
                value = str(data.get(_WORD.findall(part)[0], ""))
                text = value if part.startswith("{{{") else value.translate(_ESCAPES)
            if shown:
                out.append(text)
        return "".join(out)

    return render


def from_placeholders(html: str) -> str:
    """The demo's placeholders in this syntax."""
    return (
        html.replace("[[choices_url]]", "{{choices_url}}")
        .replace("[[pixel_path]]", "{{pixel_path}}")
        .replace("[[if_pixel]]", "{{#if pixel_path}}")
        .replace("[[end_if]]", "{{/if}}")
    )
