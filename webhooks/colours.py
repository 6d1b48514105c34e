"""The team's accent colour, kept readable on the page's light and dark surfaces (WCAG 2.2, success criterion 1.4.3)."""

from __future__ import annotations

import re

from core.errors import SettingsError

LIGHT, DARK = "#ffffff", "#181b20"
"""The surfaces of the page, in either colour scheme."""
READABLE = {LIGHT: 4.5, DARK: 6.0}
"""The contrast ratio that the accent gets on each: level AA, and more where light text on dark looks thin."""

_HEX = re.compile(r"#[0-9a-fA-F]{6}")
_STEPS = 40
_LINEAR_UP_TO = 0.04045


def theme(accent: str) -> str:
    """The custom properties of the style sheet for an accent colour ``#rrggbb``, in both colour schemes.

    Raises:
        SettingsError: not of that form.
    """
    if not _HEX.fullmatch(accent):
        raise SettingsError("sender.accent: give the colour as #rrggbb, such as #1f5f8b")
    dark = _properties(accent, DARK)
    return f":root{{{_properties(accent, LIGHT)}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, from 1 to 21 (WCAG 2.2, "contrast ratio")."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def readable(colour: str, surface: str) -> str:
    """The colour itself, or the nearest shade of it towards black or white that can be read on LIGHT or DARK."""
    end = text_on(surface)
    shades = (_mix(colour, end, step / _STEPS) for step in range(_STEPS + 1))
    return next(shade for shade in shades if contrast(shade, surface) >= READABLE[surface])


def _properties(accent: str, surface: str) -> str:
    shade = readable(accent, surface)
    return f"--surface:{surface};--accent:{shade};--on-accent:{text_on(shade)}"


def text_on(surface: str) -> str:
    """Black or white, whichever is easier to read there: never below 4.58 to 1."""
    return max("#000000", "#ffffff", key=lambda text: contrast(text, surface))


def _mix(colour: str, other: str, share: float) -> str:
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def _luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2, "relative luminance")."""
    red, green, blue = (_linear(channel / 255) for channel in _channels(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= _LINEAR_UP_TO else ((channel + 0.055) / 1.055) ** 2.4
