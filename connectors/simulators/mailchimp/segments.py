"""The static segments (tags) of an audience."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import count

from starlette.requests import Request
from starlette.responses import Response

from connectors.simulators.mailchimp.pages import Snapshots
from connectors.simulators.mailchimp.people import StaticSegment, Subscriber, name_of
from connectors.simulators.mailchimp.wire import (
    Handler,
    Json,
    NewSegment,
    Problem,
    SegmentChange,
    answer,
    invalid,
    not_found,
    paged,
    read,
    stamp,
)


class Segments:
    """The segments' state and the part of the API that is about them.

    Args:
        list_id: The audience's ID.
        members: The audience's members, by hash.
        shown: How a member stands in an answer.
        snapshots: What is kept between pages.
        now: The clock.

    Attributes:
        all: By ID.
        saved: The names of those whose members Mailchimp works out itself, by ID.
    """

    def __init__(
        self,
        list_id: str,
        members: Mapping[str, Subscriber],
        shown: Callable[[Subscriber], Json],
        snapshots: Snapshots,
        now: Callable[[], datetime],
    ) -> None:
        self.all: dict[int, StaticSegment] = {}
        self.saved: dict[int, str] = {}
        self._list_id = list_id
        self._members = members
        self._shown = shown
        self._snapshots = snapshots
        self._now = now
        self._numbers = count(101)

    def handlers(self) -> list[tuple[str, str, Handler]]:
        """Method, path and handler of each call."""
        at = f"/lists/{self._list_id}/segments"
        return [
            ("GET", at, self._list_segments),
            ("POST", at, self._add_segment),
            ("GET", f"{at}/{{segment:int}}", self._segment),
            ("POST", f"{at}/{{segment:int}}", self._change_segment),
            ("DELETE", f"{at}/{{segment:int}}", self._delete_segment),
            ("GET", f"{at}/{{segment:int}}/members", self._segment_members),
        ]

    def take_out_of_all(self, member: Subscriber) -> None:
        """A member that is archived or erased is in no segment any more."""
        for tag in [*member.tags]:
            self.all[tag].take_out(member)

    def put_in(self, segment: StaticSegment, addresses: Iterable[str]) -> list[Subscriber]:
        """Add members; those that were not in it before."""
        added = [member for member in self._known(addresses) if member.id not in segment.members]
        for member in added:
            segment.put_in(member)
        return added

    async def _list_segments(self, request: Request) -> Response:
        kind = request.query_params.get("type")
        static = map(self._shown_segment, self.all.values()) if kind in {None, "static"} else ()
        saved = map(self._shown_saved, self.saved.items()) if kind in {None, "saved"} else ()
        found = [*static, *saved]
        return paged(request, "segments", found, len(found), dict)

    async def _add_segment(self, request: Request) -> Response:
        new = await read(request, NewSegment)
        if any(segment.name == new.name for segment in self.all.values()):
            raise Problem("Bad Request", "Sorry, that tag already exists.")
        segment = StaticSegment(next(self._numbers), new.name, self._now())
        self.all[segment.id] = segment
        self._snapshots.changed()
        self.put_in(segment, new.static_segment)
        return answer(request, self._shown_segment(segment))

    async def _segment(self, request: Request) -> Response:
        return answer(request, self._shown_segment(self._of(request)))

    async def _change_segment(self, request: Request) -> Response:
        segment, change = self._of(request), await read(request, SegmentChange)
        if not (change.members_to_add or change.members_to_remove):
            raise invalid("members_to_add", "At least one of members_to_add and members_to_remove is required")
        self._snapshots.changed()
        added = self.put_in(segment, change.members_to_add)
        # Shown as they were: whoever takes an answer's tags for the new state notices.
        removed = [(self._shown(m), segment.take_out(m)) for m in self._known(change.members_to_remove)]
        gone = [shown for shown, was_in in removed if was_in]
        totals = {"total_added": len(added), "total_removed": len(gone), "error_count": 0}
        shown = {"members_added": [*map(self._shown, added)], "members_removed": gone}
        return answer(request, {**shown, "errors": [], **totals})

    async def _delete_segment(self, request: Request) -> Response:
        segment = self._of(request)
        for name in [*segment.members]:
            segment.take_out(self._members[name])
        del self.all[segment.id]
        self._snapshots.changed()
        return Response(status_code=204)

    async def _segment_members(self, request: Request) -> Response:
        shown = frozenset({"subscribed"}) | {
            status
            for status in ("cleaned", "transactional", "unsubscribed")
            if request.query_params.get(f"include_{status}", "").lower() == "true"
        }
        segment = self._of(request)

        def collect() -> Iterable[Subscriber]:
            inside = (self._members[name] for name in segment.members)
            return (member for member in inside if member.status in shown)

        found = self._snapshots.of(request, (segment.id, shown), collect)
        return paged(request, "members", found, len(found), self._shown)

    def _of(self, request: Request) -> StaticSegment:
        segment = self.all.get(request.path_params["segment"])
        if segment is None:
            raise not_found()
        return segment

    def _known(self, addresses: Iterable[str]) -> list[Subscriber]:
        """Those that are in the audience; the others are ignored without a word."""
        found = (self._members.get(name_of(address)) for address in addresses)
        return [member for member in found if member is not None and member.status != "archived"]

    def _shown_saved(self, segment: tuple[int, str]) -> Json:
        return {"id": segment[0], "name": segment[1], "member_count": 0, "type": "saved", "list_id": self._list_id}

    def _shown_segment(self, segment: StaticSegment) -> Json:
        return {
            "id": segment.id,
            "name": segment.name,
            "member_count": sum(self._members[name].status == "subscribed" for name in segment.members),
            "type": "static",
            "created_at": stamp(segment.created),
            "updated_at": stamp(segment.created),
            "options": {"match": "all", "conditions": []},
            "list_id": self._list_id,
        }
