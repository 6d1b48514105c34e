"""The texts of a report or dossier, to tell in which language they are."""

from __future__ import annotations

from html.parser import HTMLParser


class Texts(HTMLParser):
    """The texts of a page in its own language, in their order: neither its commands nor what is marked as another's."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.labels: list[str] = []
        self.language = ""
        self._skipped = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """What is skipped holds no element of its own kind."""
        given = dict(attrs)
        if tag == "html":
            self.language = given["lang"] or ""
        elif not self._skipped and ("lang" in given or tag == "style"):
            self._skipped = tag
        self.labels.append(given.get("aria-label") or "")

    def handle_endtag(self, tag: str) -> None:
        """Read on behind it."""
        if tag == self._skipped:
            self._skipped = ""

    def handle_data(self, data: str) -> None:
        """One text."""
        if data.strip() and not self._skipped:
            self.found += [line.strip() for line in data.strip().splitlines()]
