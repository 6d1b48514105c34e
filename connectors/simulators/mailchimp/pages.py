"""Collections read page by page, at a bearable speed when they have hundreds of thousands of items."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from starlette.requests import Request

from connectors.simulators.mailchimp.people import Subscriber

MOST_KEPT = 4
"""Collections that are kept at once."""


class Snapshots:
    """Members collected once, when the first page is asked for, as long as the audience does not change.

    A change made by a call empties it: then the next page counts its offset in a new collection, as Mailchimp does.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, list[Subscriber]] = {}

    def changed(self) -> None:
        """The audience is not what it was."""
        self._kept.clear()

    def of(self, request: Request, key: Hashable, collect: Callable[[], Iterable[Subscriber]]) -> list[Subscriber]:
        """The collection that a request asks for a page of."""
        first = request.query_params.get("offset", "0") == "0"
        if first or key not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[key] = [*collect()]
        return self._kept[key]
