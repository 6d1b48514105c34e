"""The consent segments of an audience: one static segment for each purpose, named ``<prefix>:<purpose>``.

Their IDs are remembered, for the service keeps one connector as long as it lives. They are read again when Mailchimp
knows one no more (404), when a purpose that somebody leaves is not among them, and when something did not come out as
it should.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import TypeVar

from connectors.mailchimp.answers import ListMember, Tag
from connectors.mailchimp.api import Api, settled
from core.errors import ProviderRefused
from core.model import PurposeId

T = TypeVar("T")


class Segments:
    """The consent segments, for all threads that use a connector.

    Args:
        prefix: What their names begin with, before the colon.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}:"
        self._ids: dict[PurposeId, int] | None = None
        self._changing = threading.RLock()

    def ids(self, api: Api) -> Mapping[PurposeId, int]:
        """Purpose to segment, read when nothing is remembered."""
        with self._changing:
            if self._ids is None:
                self._ids = self._read(api)
            return dict(self._ids)

    def forget(self) -> None:
        """Have them read again when they are needed next."""
        with self._changing:
            self._ids = None

    def named(self, tags: Iterable[Tag]) -> frozenset[PurposeId]:
        """The purposes among a member's tags.

        That tags are named as the static segments are is unconfirmed; were it not so, nobody would be confirmed.
        """
        return frozenset(self._purpose(tag.name) for tag in tags if tag.name.startswith(self._prefix))

    def members(self, api: Api, purpose: PurposeId) -> Iterator[ListMember]:
        """Everybody in a segment, whatever their status; nobody when there is no such segment."""
        segment = self.ids(api).get(purpose)
        return iter(()) if segment is None else api.segment_members(segment)

    def add(self, api: Api, purpose: PurposeId, addresses: Sequence[str]) -> set[str]:
        """Put up to 500 members into a segment, made where there is none; the hashes of those who were not in it."""
        return self._with(api, lambda: api.add_to_segment(self._made(api, purpose), addresses))

    def remove(self, api: Api, purpose: PurposeId, addresses: Sequence[str]) -> list[ListMember]:
        """Take up to 500 members out of a segment; those who were in it. Where there is no segment, nobody was."""

        def take() -> list[ListMember]:
            segment = self.ids(api).get(purpose)
            return [] if segment is None else api.remove_from_segment(segment, addresses)

        return self._with(api, take)

    def _with(self, api: Api, change: Callable[[], T]) -> T:
        """Make a change, once more with fresh IDs when a segment is gone."""
        known = self.ids(api)
        try:
            return change()
        except ProviderRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
        with self._changing:
            if self._ids == known:  # else another thread has read them anew
                self._ids = None
        return change()

    def _made(self, api: Api, purpose: PurposeId) -> int:
        with self._changing:
            ids = self.ids(api)
            if purpose not in ids:
                self._ids = ids = {**ids, purpose: self._make(api, purpose)}
            return ids[purpose]

    def _make(self, api: Api, purpose: PurposeId) -> int:
        """Create a segment; one that somebody else made since the IDs were read is taken instead."""
        name = f"{self._prefix}{purpose}"
        return settled(lambda: api.create_segment(name), lambda: api.segments().get(name))

    def _read(self, api: Api) -> dict[PurposeId, int]:
        named = api.segments().items()
        return {self._purpose(name): segment for name, segment in named if name.startswith(self._prefix)}

    def _purpose(self, name: str) -> PurposeId:
        return PurposeId(name.removeprefix(self._prefix))
