"""What a mail's HTML has a mail client fetch by itself, how visible each is, and the links that a reader may follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from core.mail_css import Sheet, declarations, hiding, length, urls, without_comments
from core.mail_markup import Tag, tags

_FETCHES: Mapping[str, tuple[str, ...]] = {
    "img": ("src", "srcset", "lowsrc", "dynsrc"),
    "input": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "bgsound": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "iframe": ("src",),
    "frame": ("src",),
    "script": ("src",),
    "track": ("src",),
    "image": ("src", "href", "xlink:href"),
    "amp-img": ("src", "srcset"),
}
"""Which attributes of which elements are fetched. ``image`` is SVG's, and browsers take it for ``img``."""

_LINKED = frozenset({"stylesheet", "preload", "prefetch", "icon", "preconnect", "dns-prefetch", "import"})
_VOID = frozenset(
    "area base br col embed frame hr img input link meta param source track wbr bgsound basefont".split()  # noqa: SIM905
)
_BLOCKS = ("p", "div", "table", "ul", "ol", "h1", "h2", "h3", "h4", "center", "blockquote", "hr")
_ENDS: Mapping[str, set[str]] = {
    **{name: {"p"} for name in _BLOCKS},
    "li": {"li", "p"},
    "td": {"td", "th", "p"},
    "th": {"td", "th", "p"},
    "tr": {"tr", "td", "th", "p"},
}
"""Which open elements an element ends by beginning, where the mail leaves their end tags out."""

_TINY, _SMALL = 1.4, 3.0
"""CSS pixels: one dimension that makes an image invisible (1 px, 1 pt), and two that do so together."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Something that is fetched when the mail is shown.

    ``what``: the element or attribute, in a word. ``unseen``: why nobody sees it (its size, or what hides it), or
    empty. ``large``: it says itself that it is larger than any pixel.
    """

    offset: int
    what: str
    url: str = field(repr=False)
    unseen: str = ""
    large: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """The target of an ``<a>``. ``unseen``: what hides it, or empty."""

    offset: int
    url: str = field(repr=False)
    unseen: str = ""


def scan(source: str) -> Iterator[Fetch | Link]:
    """Everything that the mail fetches or links to, in the order of the source. Linear in its length."""
    found = list(tags(source))
    sheet = Sheet()
    for tag in found:
        if tag.name == "style" and not tag.closing:
            sheet.add(tag.content)
    page = _Page(sheet)
    for tag in found:
        page.close(tag)
        if not tag.closing:
            yield from page.open(tag)


class _Page:
    """The elements that are open, and which of them hides what is in them."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._open: list[tuple[str, str]] = []
        self._count: Counter[str] = Counter()

    def close(self, tag: Tag) -> None:
        """End what an end tag ends, or a start tag by implication. An end tag of nothing is ignored, as browsers do."""
        if not tag.closing:
            ended = _ENDS.get(tag.name, set())
            while self._open and self._open[-1][0] in ended:
                self._pop()
        elif self._count[tag.name]:
            while self._pop() != tag.name:
                pass

    def open(self, tag: Tag) -> Iterator[Fetch | Link]:
        """What a start tag fetches or links to."""
        names = list(_names(tag))
        look = {**self._sheet.of(iter(names)), **declarations(tag.attributes.get("style", ""))}
        own = "the hidden attribute" if "hidden" in tag.attributes else hiding(look)
        if own and not self._sheet.shown.isdisjoint(names):
            own, look = "", {}  # for another screen: what hides it here, its size included, is taken back there
        hidden = own or (self._open[-1][1] if self._open else "")
        if tag.name not in _VOID and ":" not in tag.name:  # Outlook's own elements close themselves
            self._open.append((tag.name, hidden))
            self._count[tag.name] += 1
        if tag.name in {"a", "area"} and "href" in tag.attributes:
            yield Link(tag.offset, tag.attributes["href"].strip(), hidden)
        sizes = [_size(look, tag.attributes, side) for side in ("width", "height")]
        unseen = _invisible(sizes) or (f"hidden by {hidden}" if hidden else "")
        large = any(size is not None and size > 10 * _TINY for size in sizes)
        for offset, what, url in _fetched(tag):
            yield Fetch(offset, what, url, "" if tag.name in {"style", "link", "script"} else unseen, large)

    def _pop(self) -> str:
        name, _ = self._open.pop()
        self._count[name] -= 1
        return name


def _names(tag: Tag) -> Iterator[str]:
    """The names by which a style sheet may mean an element, the weakest first."""
    yield tag.name
    for name in tag.attributes.get("class", "").lower().split():
        yield f".{name}"
    if "id" in tag.attributes:
        yield f"#{tag.attributes['id'].lower().strip()}"


def _size(look: Mapping[str, str], attributes: Mapping[str, str], side: str) -> float | None:
    """One dimension in CSS pixels; None when it is left open. ``100%`` is as large as it gets."""
    stated = [look.get(side, attributes.get(side, "")), look.get(f"max-{side}", "")]
    known = [pixels for value in stated if (pixels := length(value)) is not None]
    if known:
        return min(known)
    return float("inf") if any(value.strip().endswith("%") for value in stated) else None


def _invisible(sizes: list[float | None]) -> str:
    known = [size for size in sizes if size is not None]
    if known and (min(known) <= _TINY or (len(known) == len(sizes) and max(known) <= _SMALL)):
        return " by ".join("?" if size is None else f"{size:.0f}" for size in sizes) + " pixels in size"
    return ""


def _fetched(tag: Tag) -> Iterator[tuple[int, str, str]]:
    """Offset, what it is and URL of everything that one tag has fetched."""
    attributes = tag.attributes
    for name in _FETCHES.get(tag.name, ("src",) if ":" in tag.name else ()):
        for url in _candidates(attributes.get(name, "")) if name == "srcset" else [attributes.get(name, "")]:
            yield tag.offset, f"<{tag.name}>", url.strip()
    if "background" in attributes:
        yield tag.offset, "background", attributes["background"].strip()
    if tag.name == "link" and not _LINKED.isdisjoint(attributes.get("rel", "").lower().split()):
        yield tag.offset, "<link>", attributes.get("href", "").strip()
    for _, url in urls(attributes.get("style", "")):
        yield tag.offset, "CSS image", url
    if tag.name == "style":
        for offset, url in urls(without_comments(tag.content)):
            yield tag.content_offset + offset, "CSS url", url


def _candidates(srcset: str) -> Iterator[str]:
    """The URLs of a ``srcset``; a ``data:`` URL, which holds a comma of its own, is left out."""
    within_data = False
    for part in srcset.split(","):
        words = part.split()
        if words and not within_data:
            yield words[0]
        within_data = bool(words) and words[0].lower().startswith("data:")
