"""A mail's HTML, cut into tags the way mail clients and browsers do it, in one pass and in linear time.

Not :mod:`html.parser`: Python 3.11's takes quadratic time over unclosed comments and quotation marks (a minute for
160 KB), ends comments elsewhere than browsers do, and gives up at some declarations. The rules are those of the HTML
standard's tokeniser (https://html.spec.whatwg.org/multipage/parsing.html#tokenization), with two differences on the
side of seeing too much: what an unclosed comment or ``<style>`` would swallow is read, and so is the content of
Outlook's conditional comments, which Outlook shows.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TAG = re.compile(r"<(/?)([A-Za-z][^\s/>]*)")
_ATTRIBUTE = re.compile(
    r"""[\s/]*+([^\s/>][^\s/>=]*+)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>]*+)))?+""",
)
_CONDITIONAL = re.compile(r"<!--\s{0,9}\[if[^\]<>]{0,200}\]>", re.IGNORECASE)
_EMPTY_COMMENT = re.compile(r"<!---?>")
_COMMENT_END = re.compile(r"--!?>")
_TAG_END = re.compile(r">")
_RAW = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE)
    for name in ("style", "script", "title", "textarea", "xmp", "iframe", "noembed", "noframes")
}
"""Elements whose content is no markup."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A start or end tag. ``offset``: where its ``<`` stands. Names in lower case, values without entities.

    ``content`` and ``content_offset``: the text of an element that holds text alone (``<style>``).
    """

    offset: int
    name: str
    closing: bool
    attributes: dict[str, str] = field(default_factory=dict, repr=False)
    content: str = field(default="", repr=False)
    content_offset: int = 0


def tags(source: str) -> Iterator[Tag]:
    """Every tag in the order of the source; broken HTML is no error."""
    ends = _Ends(source)
    at = source.find("<")
    while at >= 0:
        if source.startswith("<!--", at):
            at = _after_comment(source, at, ends)
        elif named := _TAG.match(source, at):
            tag, at = _tag(source, named, ends)
            yield tag
        elif source.startswith(("<!", "<?", "</"), at):
            at = ends.after(_TAG_END, at) or at + 1
        else:
            at += 1
        at = source.find("<", at)


class _Ends:
    """Looks for what ends something. What was not found once is not looked for again: that keeps it linear."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._absent: set[re.Pattern[str]] = set()

    def find(self, pattern: re.Pattern[str], at: int) -> re.Match[str] | None:
        if pattern in self._absent:
            return None
        found = pattern.search(self._source, at)
        if found is None:
            self._absent.add(pattern)
        return found

    def after(self, pattern: re.Pattern[str], at: int) -> int:
        """The offset after it; 0 when there is none."""
        found = self.find(pattern, at)
        return found.end() if found else 0


def _after_comment(source: str, at: int, ends: _Ends) -> int:
    """Where to read on: behind a comment, or within it when Outlook shows it or it never ends."""
    opening = _CONDITIONAL.match(source, at) or _EMPTY_COMMENT.match(source, at)
    return opening.end() if opening else ends.after(_COMMENT_END, at + 4) or at + 4


def _tag(source: str, named: re.Match[str], ends: _Ends) -> tuple[Tag, int]:
    name, closing = named[2].lower(), bool(named[1])
    attributes: dict[str, str] = {}
    at = named.end()
    while found := _ATTRIBUTE.match(source, at):
        at = found.end()
        attributes.setdefault(found[1].lower(), html.unescape(found[2] or found[3] or found[4] or ""))
    at = ends.after(_TAG_END, at) or len(source)
    content, offset = "", at
    if not closing and name in _RAW and (end := ends.find(_RAW[name], at)):
        content, at = source[at : end.start()], end.start()
    return Tag(named.start(), name, closing, attributes, content, offset), at
