"""As much of CSS as tells whether a mail shows an element, and how large.

Style sheets count by single names (``.class``, ``#id``, an element): enough for those of mails, where what hides or
sizes an image stands in its ``style`` attribute as a rule. A rule under ``@media`` may show on a telephone what is
hidden elsewhere (the two-image pattern of responsive mail), and so takes back the hiding, but never hides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Declarations = Mapping[str, str]
"""Properties in lower case to values in lower case, without ``!important``."""

_PROPERTIES = frozenset(
    {
        *("display", "visibility", "opacity", "overflow", "filter", "transform", "clip", "clip-path", "text-indent"),
        *("width", "height", "max-width", "max-height", "position"),
        *("left", "top", "right", "bottom", "margin-left", "margin-top", "margin"),
    }
)
_SELECTOR = re.compile(r"(?:[a-z][\w-]*)?([.#]?[a-z_][\w-]*)", re.IGNORECASE)
_LAST_NAME = re.compile(r"([.#][a-zA-Z_][\w-]*)$")
_LENGTH = re.compile(r"\s*([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))\s*([a-z%]*)", re.IGNORECASE)
_PIXELS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "em": 16.0, "rem": 16.0, "in": 96.0, "cm": 37.8, "mm": 3.78}
_URL = re.compile(
    r"""url\(\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"')]*+))|@import\s++(?:"([^"]*+)"|'([^']*+)')""", re.IGNORECASE
)
_SCALED_AWAY = re.compile(r"scale[xy]?\(\s{0,9}0(?:\.0+)?\s{0,9}[,)]")
_SEEN_THROUGH = re.compile(r"opacity\(\s{0,9}(?:0|0?\.0[0-9]*)%?\s{0,9}\)")
_CLIPPED = re.compile(r"rect\(\s{0,9}(?:0|1px)|inset\(\s{0,9}(?:50|100)%")
_FAINT = 0.05
_AWAY = -100.0
"""Pixels to the left or above: outside of what anybody sees."""


@dataclass(slots=True)
class Sheet:
    """The style sheets of a mail: what each name's elements look like, and which names ``@media`` makes visible."""

    looks: dict[str, dict[str, str]] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)

    def add(self, css: str) -> None:
        """Read one ``<style>``."""
        for selector, body, conditional in _rules(without_comments(css)):
            found = declarations(body)
            for part in selector.split(",") if found else ():
                self._rule(part.strip(), found, conditional)

    def _rule(self, selector: str, found: Declarations, conditional: bool) -> None:
        if conditional and _shows(found) and (last := _LAST_NAME.search(selector[-100:])):
            self.shown.add(last[1].lower())
        single = _SELECTOR.fullmatch(selector)
        if single and not conditional:
            self.looks.setdefault(single[1].lower(), {}).update(found)

    def of(self, names: Iterator[str]) -> dict[str, str]:
        """What the style sheets say of an element with these names."""
        found: dict[str, str] = {}
        for name in names:
            found.update(self.looks.get(name, {}))
        return found


def declarations(style: str) -> dict[str, str]:
    """The properties of a ``style`` attribute or a rule's body that matter here."""
    found = {}
    for part in style.split(";"):
        name, _, value = part.partition(":")
        if (key := name.strip().lower()) in _PROPERTIES:
            found[key] = value.lower().partition("!")[0].strip()
    return found


def urls(css: str) -> Iterator[tuple[int, str]]:
    """What CSS fetches, with the offset of each: ``url(…)`` and ``@import``."""
    for found in _URL.finditer(css):
        yield found.start(), next((group for group in found.groups() if group is not None), "").strip()


def without_comments(css: str) -> str:
    """The same text with its comments blank, so that nothing moves to another line."""
    parts, at = [], 0
    while (start := css.find("/*", at)) >= 0 and (end := css.find("*/", start + 2)) >= 0:
        parts += [css[at:start], blanked(css[start : end + 2])]
        at = end + 2
    return "".join([*parts, css[at:]])


def blanked(text: str) -> str:
    """Spaces in place of everything but the ends of lines."""
    return "\n".join(" " * len(line) for line in text.split("\n"))


def length(value: str) -> float | None:
    """A length in CSS pixels; None for what depends on the surroundings (``100%``, ``auto``), save nothing at all."""
    found = _LENGTH.match(value)
    if found is None:
        return None
    number, unit = float(found[1]), found[2].lower()
    return 0.0 if number == 0 else number * _PIXELS[unit] if unit in _PIXELS else None


def hiding(look: Declarations) -> str:
    """How these declarations hide an element and everything in it, in CSS's words; empty when they do not."""
    if look.get("display") == "none":
        return "display:none"
    if look.get("visibility") in {"hidden", "collapse"}:
        return f"visibility:{look['visibility']}"
    opacity = length(look.get("opacity", ""))
    if (opacity is not None and opacity <= _FAINT) or _SEEN_THROUGH.search(look.get("filter", "")):
        return "opacity:0"
    for name in ("max-height", "max-width", *(("height", "width") if look.get("overflow") == "hidden" else ())):
        if length(look.get(name, "")) == 0:
            return f"{name}:0"
    return _displacement(look)


def _displacement(look: Declarations) -> str:
    names = ["margin-left", "margin-top", "text-indent"]
    if look.get("position") in {"absolute", "fixed", "relative"}:
        names += ["left", "top", "right", "bottom"]
    for name in names:
        if (length(look.get(name, "")) or 0.0) <= _AWAY:
            return f"{name} off the screen"
    if any((length(value) or 0.0) <= _AWAY for value in look.get("margin", "").split()):
        return "margin off the screen"
    if _SCALED_AWAY.search(look.get("transform", "")):
        return "transform:scale(0)"
    clipped = _CLIPPED.search(look.get("clip", "") + look.get("clip-path", ""))
    return "clip" if clipped else ""


def _shows(look: Declarations) -> bool:
    """Whether a rule makes visible what another one hides."""
    return (
        look.get("display", "none") != "none"
        or look.get("visibility") == "visible"
        or (length(look.get("max-height", "0")) != 0)
        or (length(look.get("opacity", "0")) or 0.0) > _FAINT
    )


def _rules(css: str) -> Iterator[tuple[str, str, bool]]:
    """Selector, body and whether it stands under a condition (``@media``), for each rule."""
    open_at_rules, selector = 0, ""
    parts = re.split(r"([{}])", css)
    for text, brace in zip(parts[::2], parts[1::2], strict=False):
        if brace == "{":
            prelude = text.rpartition(";")[2].strip()
            open_at_rules += prelude.startswith("@")
            selector = "" if prelude.startswith("@") else prelude
        elif selector:
            yield selector, text, open_at_rules > 0
            selector = ""
        else:
            open_at_rules = max(0, open_at_rules - 1)
