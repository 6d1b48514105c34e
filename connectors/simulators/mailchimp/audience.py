"""One audience: members, merge fields, static segments (tags).

Where Mailchimp's document leaves something open, the more harmful way is taken, so that whoever relies on the kinder
one notices: a batch with the status ``subscribed`` subscribes archived and, when updating, unsubscribed contacts too.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import md5
from itertools import count

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from connectors.simulators.mailchimp.wire import (
    ADDRESS,
    LONGEST_TEXT,
    BatchMember,
    Handler,
    Json,
    MemberBatch,
    NewMergeField,
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

MOST_TAGS = 50
"""Tags that a member is shown with."""


@dataclass(slots=True)
class Subscriber:
    """A contact of the audience, whatever its status."""

    address: str
    status: str
    changed: datetime
    fields: dict[str, str] = field(default_factory=dict)
    tags: set[int] = field(default_factory=set)

    @property
    def id(self) -> str:
        """Its name in the API."""
        return name_of(self.address)


@dataclass(slots=True)
class StaticSegment:
    """A static segment. ``members``: hashes, in the order in which they came."""

    id: int
    name: str
    created: datetime
    members: dict[str, None] = field(default_factory=dict)


def name_of(address: str) -> str:
    """The MD5 of the lower-cased address."""
    return md5(address.lower().encode(), usedforsecurity=False).hexdigest()


class Audience:
    """The audience's state and the part of the API that is about it.

    Attributes:
        list_id: Its ID.
        members: By hash.
        segments: By ID.
        forgotten: Hashes of addresses that were permanently deleted.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.list_id = secrets.token_hex(5)
        self.members: dict[str, Subscriber] = {}
        self.segments: dict[int, StaticSegment] = {}
        self.forgotten: set[str] = set()
        self._fields: dict[str, NewMergeField] = {}
        self._numbers = count(101)
        self._now = now
        for tag, name in (("FNAME", "First Name"), ("LNAME", "Last Name")):
            self._fields[tag] = NewMergeField(name=name, type="text", tag=tag, public=True)

    def handlers(self) -> list[tuple[str, str, Handler]]:
        """Method, path and handler of each call."""
        at = f"/lists/{self.list_id}"
        return [
            ("POST", at, self._batch),
            ("GET", f"{at}/members", self._list_members),
            ("GET", f"{at}/members/{{member}}", self._member),
            ("DELETE", f"{at}/members/{{member}}", self._archive),
            ("GET", f"{at}/members/{{member}}/tags", self._tags),
            ("GET", f"{at}/merge-fields", self._list_fields),
            ("POST", f"{at}/merge-fields", self._add_field),
            ("GET", f"{at}/segments", self._list_segments),
            ("POST", f"{at}/segments", self._add_segment),
            ("GET", f"{at}/segments/{{segment:int}}", self._segment),
            ("POST", f"{at}/segments/{{segment:int}}", self._change_segment),
            ("DELETE", f"{at}/segments/{{segment:int}}", self._delete_segment),
            ("GET", f"{at}/segments/{{segment:int}}/members", self._segment_members),
        ]

    def subscribed(self) -> Iterator[str]:
        """The hashes of those who can get mail."""
        return (name for name, member in self.members.items() if member.status == "subscribed")

    def values(self, member: Subscriber) -> dict[str, str]:
        """What a mail to that member can show: every merge field, with its default, and the address."""
        defaults = {tag: each.default_value for tag, each in self._fields.items()}
        return defaults | member.fields | {"EMAIL": member.address}

    # Members

    async def _batch(self, request: Request) -> Response:
        batch = await read(request, MemberBatch)
        new: list[Json] = []
        updated: list[Json] = []
        errors: list[Json] = []
        seen: set[str] = set()
        for row in batch.members:
            name = name_of(row.email_address)
            known = name in self.members and self.members[name].status != "archived"
            problem = self._objection(row, name, known=known, seen=seen, update=batch.update_existing)
            if problem:
                errors.append({"email_address": row.email_address, "field": "", "field_message": ""} | problem)
            else:
                (updated if known else new).append(self._shown(self._put(row, name)))
            seen.add(name)
        totals = {"total_created": len(new), "total_updated": len(updated), "error_count": len(errors)}
        return answer(request, {"new_members": new, "updated_members": updated, "errors": errors} | totals)

    def _objection(self, row: BatchMember, name: str, *, known: bool, seen: set[str], update: bool) -> Json | None:
        """Why a member of a batch is not taken."""
        if name in seen:
            return _error("Duplicate items found for email.")
        if name in self.forgotten:
            return _error(f"{row.email_address} was permanently deleted and cannot be re-imported.")
        if known and not update:
            text = "is already a list member, do you want to update? please provide update_existing:true in the request"
            return _error(f"{row.email_address} {text} body", "ERROR_CONTACT_EXISTS")
        if not known and row.status is UNSET:
            return _error("The status field is required for a new list member.")
        return _unfit(row)

    def _put(self, row: BatchMember, name: str) -> Subscriber:
        member = self.members.setdefault(name, Subscriber(row.email_address, "subscribed", self._now()))
        if row.status is not UNSET:
            member.status = row.status
        member.fields |= {tag: str(value) for tag, value in row.merge_fields.items() if tag in self._fields}
        member.changed = self._now()
        return member

    async def _list_members(self, request: Request) -> Response:
        status = request.query_params.get("status")
        if status is None:
            found = [member for member in self.members.values() if member.status != "archived"]
        else:
            found = [member for member in self.members.values() if member.status == status]
        return paged(request, "members", found, len(found), self._shown)

    async def _member(self, request: Request) -> Response:
        return answer(request, self._shown(self._of(request)))

    async def _archive(self, request: Request) -> Response:
        member = self._of(request)
        member.status = "archived"
        for tag in [*member.tags]:
            self._take_out(self.segments[tag], member)
        return Response(status_code=204)

    async def _tags(self, request: Request) -> Response:
        tags = sorted(self._of(request).tags)
        return paged(request, "tags", tags, len(tags), self._tag)

    def _of(self, request: Request) -> Subscriber:
        member = self.members.get(request.path_params["member"].lower())
        if member is None:
            raise not_found()
        return member

    def _tag(self, segment: int) -> Json:
        found = self.segments[segment]
        return {"id": segment, "name": found.name, "date_added": stamp(found.created)}

    def _shown(self, member: Subscriber) -> Json:
        tags = sorted(member.tags)
        values = self.values(member)
        return {
            "id": member.id,
            "email_address": member.address,
            "unique_email_id": member.id[:10],
            "email_type": "html",
            "status": member.status,
            "merge_fields": {tag: values[tag] for tag in self._fields},
            "last_changed": stamp(member.changed),
            "tags_count": len(tags),
            "tags": [{"id": tag, "name": self.segments[tag].name} for tag in tags[:MOST_TAGS]],
            "list_id": self.list_id,
        }

    # Merge fields

    async def _list_fields(self, request: Request) -> Response:
        return paged(request, "merge_fields", self._fields.values(), len(self._fields), self._shown_field)

    async def _add_field(self, request: Request) -> Response:
        new = await read(request, NewMergeField)
        if new.tag in self._fields:
            raise Problem("Bad Request", f'A Merge Field with the tag "{new.tag}" already exists for this list.')
        self._fields[new.tag] = new
        return answer(request, self._shown_field(new))

    def _shown_field(self, each: NewMergeField) -> Json:
        return {
            "merge_id": list(self._fields).index(each.tag) + 1,
            "tag": each.tag,
            "name": each.name,
            "type": each.type,
            "required": each.required,
            "default_value": each.default_value,
            "public": each.public,
            "display_order": list(self._fields).index(each.tag) + 2,
            "list_id": self.list_id,
        }

    # Segments

    async def _list_segments(self, request: Request) -> Response:
        kind = request.query_params.get("type", "static")
        found = [*self.segments.values()] if kind == "static" else []
        return paged(request, "segments", found, len(found), self._shown_segment)

    async def _add_segment(self, request: Request) -> Response:
        new = await read(request, NewSegment)
        if any(segment.name == new.name for segment in self.segments.values()):
            raise Problem("Bad Request", "Sorry, that tag already exists.")
        segment = StaticSegment(next(self._numbers), new.name, self._now())
        self.segments[segment.id] = segment
        self._put_in(segment, new.static_segment)
        return answer(request, self._shown_segment(segment))

    async def _segment(self, request: Request) -> Response:
        return answer(request, self._shown_segment(self._segment_of(request)))

    async def _change_segment(self, request: Request) -> Response:
        segment, change = self._segment_of(request), await read(request, SegmentChange)
        if not (change.members_to_add or change.members_to_remove):
            raise invalid("members_to_add", "At least one of members_to_add and members_to_remove is required")
        added = self._put_in(segment, change.members_to_add)
        removed = [m for m in self._known(change.members_to_remove) if self._take_out(segment, m)]
        shown = {"members_added": [*map(self._shown, added)], "members_removed": [*map(self._shown, removed)]}
        totals = {"total_added": len(added), "total_removed": len(removed), "error_count": 0}
        return answer(request, {**shown, "errors": [], **totals})

    async def _delete_segment(self, request: Request) -> Response:
        segment = self._segment_of(request)
        for name in [*segment.members]:
            self._take_out(segment, self.members[name])
        del self.segments[segment.id]
        return Response(status_code=204)

    async def _segment_members(self, request: Request) -> Response:
        shown = {"subscribed"} | {
            status
            for status in ("cleaned", "transactional", "unsubscribed")
            if request.query_params.get(f"include_{status}", "").lower() == "true"
        }
        inside = (self.members[name] for name in self._segment_of(request).members)
        found = [member for member in inside if member.status in shown]
        return paged(request, "members", found, len(found), self._shown)

    def _segment_of(self, request: Request) -> StaticSegment:
        segment = self.segments.get(request.path_params["segment"])
        if segment is None:
            raise not_found()
        return segment

    def _known(self, addresses: Iterable[str]) -> list[Subscriber]:
        """Those that are in the audience; the others are ignored without a word."""
        found = (self.members.get(name_of(address)) for address in addresses)
        return [member for member in found if member is not None and member.status != "archived"]

    def _put_in(self, segment: StaticSegment, addresses: Iterable[str]) -> list[Subscriber]:
        added = [member for member in self._known(addresses) if member.id not in segment.members]
        for member in added:
            segment.members[member.id] = None
            member.tags.add(segment.id)
        return added

    def _take_out(self, segment: StaticSegment, member: Subscriber) -> bool:
        member.tags.discard(segment.id)
        return segment.members.pop(member.id, member) is None

    def _shown_segment(self, segment: StaticSegment) -> Json:
        return {
            "id": segment.id,
            "name": segment.name,
            "member_count": sum(self.members[name].status == "subscribed" for name in segment.members),
            "type": "static",
            "created_at": stamp(segment.created),
            "updated_at": stamp(segment.created),
            "options": {"match": "all", "conditions": []},
            "list_id": self.list_id,
        }


def _unfit(row: BatchMember) -> Json | None:
    """What is wrong with a member whatever the audience holds."""
    if not ADDRESS.fullmatch(row.email_address):
        return _error("Please provide a valid email address.")
    if any(len(str(value).encode()) > LONGEST_TEXT for value in row.merge_fields.values()):
        return _error("Your merge fields were invalid.")
    return None


def _error(text: str, code: str = "ERROR_GENERIC") -> Json:
    return {"error": text, "error_code": code}
