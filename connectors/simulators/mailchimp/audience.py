"""One audience: members, merge fields, static segments (tags).

Where Mailchimp's document leaves something open, the more harmful way is taken, so that whoever relies on the kinder
one notices: a batch with the status ``subscribed`` subscribes archived and, when updating, unsubscribed contacts too,
and one without a status subscribes archived contacts as well; members are shown taken out of a segment with its tag.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import datetime

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from connectors.simulators.mailchimp.pages import Snapshots
from connectors.simulators.mailchimp.people import StaticSegment, Subscriber, name_of
from connectors.simulators.mailchimp.segments import Segments
from connectors.simulators.mailchimp.wire import (
    ADDRESS,
    LONGEST_TEXT,
    BatchMember,
    Handler,
    Json,
    MemberBatch,
    NewMergeField,
    Problem,
    answer,
    invalid,
    not_found,
    paged,
    read,
    stamp,
)

__all__ = ["MOST_TAGS", "Audience", "StaticSegment", "Subscriber", "name_of"]

MOST_TAGS = 50
"""Tags that a member is shown with."""


class Audience:
    """The audience's state and the part of the API that is about it.

    Attributes:
        list_id: Its ID.
        members: By hash.
        segments: By ID.
        forgotten: Hashes of addresses that were permanently deleted.
        refused: Why Mailchimp does not take an address, by its hash: a role's, a fake one, "in a compliance state".
        wants_status: Whether a batch with a new member without a status is refused whole instead of that member alone.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.list_id = secrets.token_hex(5)
        self.members: dict[str, Subscriber] = {}
        self.forgotten: set[str] = set()
        self.refused: dict[str, str] = {}
        self.wants_status = False
        self._fields: dict[str, NewMergeField] = {}
        self._now = now
        self._snapshots = Snapshots()
        self._segments = Segments(self.list_id, self.members, self._shown, self._snapshots, now)
        for tag, name in (("FNAME", "First Name"), ("LNAME", "Last Name")):
            self._fields[tag] = NewMergeField(name=name, type="text", tag=tag, public=True)

    @property
    def segments(self) -> dict[int, StaticSegment]:
        """The static segments, by ID."""
        return self._segments.all

    def handlers(self) -> list[tuple[str, str, Handler]]:
        """Method, path and handler of each call."""
        at = f"/lists/{self.list_id}"
        return [
            ("POST", at, self._batch),
            ("GET", f"{at}/members", self._list_members),
            ("GET", f"{at}/members/{{member}}", self._member),
            ("DELETE", f"{at}/members/{{member}}", self._archive),
            ("POST", f"{at}/members/{{member}}/actions/delete-permanent", self._erase),
            ("GET", f"{at}/members/{{member}}/tags", self._tags),
            ("GET", f"{at}/merge-fields", self._list_fields),
            ("POST", f"{at}/merge-fields", self._add_field),
            *self._segments.handlers(),
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
        self._snapshots.changed()
        if self.wants_status and any(self._lacks_status(row) for row in batch.members):
            raise invalid("members.item:0.status", "This value should not be blank.")
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

    def _lacks_status(self, row: BatchMember) -> bool:
        return row.status is UNSET and name_of(row.email_address) not in self.members

    def _objection(self, row: BatchMember, name: str, *, known: bool, seen: set[str], update: bool) -> Json | None:
        """Why a member of a batch is not taken."""
        if name in seen:
            return _error("Duplicate items found for email.")
        if name in self.forgotten:
            return _error(f"{row.email_address} was permanently deleted and cannot be re-imported.")
        if name in self.refused:
            return _error(f"{row.email_address} {self.refused[name]}")
        if known and not update:
            text = "is already a list member, do you want to update? please provide update_existing:true in the request"
            return _error(f"{row.email_address} {text} body", "ERROR_CONTACT_EXISTS")
        if self._lacks_status(row):
            return _error("The status field is required for a new list member.")
        return _unfit(row)

    def _put(self, row: BatchMember, name: str) -> Subscriber:
        member = self.members.get(name)
        if member is None:
            member = self.members[name] = Subscriber(row.email_address, "subscribed", self._now())
        if row.status is not UNSET:
            member.status = row.status
        elif member.status == "archived":
            member.status = "subscribed"
        member.fields |= {tag: str(value) for tag, value in row.merge_fields.items() if tag in self._fields}
        member.changed = self._now()
        return member

    async def _list_members(self, request: Request) -> Response:
        status = request.query_params.get("status")

        def collect() -> Iterator[Subscriber]:
            return (m for m in self.members.values() if (m.status == status if status else m.status != "archived"))

        found = self._snapshots.of(request, status, collect)
        return paged(request, "members", found, len(found), self._shown)

    async def _member(self, request: Request) -> Response:
        return answer(request, self._shown(self._of(request)))

    async def _archive(self, request: Request) -> Response:
        member = self._of(request)
        self._snapshots.changed()
        member.status = "archived"
        self._segments.take_out_of_all(member)
        return Response(status_code=204)

    async def _erase(self, request: Request) -> Response:
        member = self._of(request)
        self._snapshots.changed()
        self._segments.take_out_of_all(member)
        del self.members[member.id]
        self.forgotten.add(member.id)
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


def _unfit(row: BatchMember) -> Json | None:
    """What is wrong with a member whatever the audience holds."""
    if not ADDRESS.fullmatch(row.email_address):
        return _error("Please provide a valid email address.")
    if any(len(str(value).encode()) > LONGEST_TEXT for value in row.merge_fields.values()):
        return _error("Your merge fields were invalid.")
    return None


def _error(text: str, code: str = "ERROR_GENERIC") -> Json:
    return {"error": text, "error_code": code}
