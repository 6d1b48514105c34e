"""The audience: its contacts, the two fields that they carry, and one static segment for each purpose.

A contact is added as ``subscribed`` only if it is not in the audience yet, and nobody who left is ever subscribed
again. The batch endpoint knows no "status if new", so it is called twice: first with ``update_existing: false``, which
adds the new ones and refuses the others unchanged (``ERROR_CONTACT_EXISTS``); then with ``update_existing: true`` and
without a status for those others. That a missing status leaves the status alone is unconfirmed for this endpoint, and
so is what it does to archived contacts: these are looked up before and left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import md5
from typing import TypeVar

from connectors.mailchimp.answers import ListMember
from connectors.mailchimp.api import BATCH, Api, settled
from core.model import Contact, ContactChange, Member, PurposeId, RecipientId

CHOICES = "PPCHOICES"
"""The merge field with the link to the recipient's choices."""
PIXEL = "PPPIXEL"
"""The merge field with the path of the hosted pixel; empty where there is none."""

_NAMES = {CHOICES: "Tracking choices link", PIXEL: "Tracking pixel path"}
_CONTACT_EXISTS = "ERROR_CONTACT_EXISTS"
_MOST_TAGS = 50
"""A member is given with that many tags at most; whoever has as many may have more."""

T = TypeVar("T")

Held = dict[str, set[int] | None]
"""Of each contact that Mailchimp took, by its hash, the segments that it is in; None: not known."""


def member_hash(address: str) -> str:
    """Mailchimp's name for a member: the MD5 of the lower-cased address. An identifier, no protection."""
    return md5(address.lower().encode(), usedforsecurity=False).hexdigest()


def chunks(items: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    """The items in slices of at most ``size``."""
    return (items[start : start + size] for start in range(0, len(items), size))


class Audience:
    """The contacts and consent segments of one audience.

    Args:
        api: The calls.
        prefix: What the names of the segments begin with: ``<prefix>:<purpose>``.
    """

    def __init__(self, api: Api, prefix: str) -> None:
        self._api = api
        self._prefix = f"{prefix}:"

    def sync(self, changes: Sequence[ContactChange]) -> set[RecipientId]:
        """Bring contacts and segments to what is desired, removals first; answers whom Mailchimp has as desired."""
        if not changes:
            return set()
        segments = self._consent_segments()
        for purpose, segment in segments.items():
            self._remove(segment, [c.contact.address for c in changes if purpose in c.removed])
        held = self.carry([change.contact for change in changes])
        for purpose in sorted({purpose for change in changes for purpose in change.desired} - segments.keys()):
            segments[purpose] = self.segment(f"{self._prefix}{purpose}")
        taken = [change for change in changes if member_hash(change.contact.address) in held]
        for purpose, segment in segments.items():
            self._correct(segment, purpose, taken, held)
        return {change.contact.recipient for change in taken if self._as_desired(change, segments, held)}

    def carry(self, contacts: Sequence[Contact]) -> Held:
        """Add or update contacts with the two fields that they carry; answers those that Mailchimp took."""
        self._ensure_fields()
        archived = self._api.archived()
        held: Held = {}
        for chunk in chunks(contacts):
            rows = {member_hash(c.address): c for c in chunk}
            for member in self._upsert({h: c for h, c in rows.items() if h not in archived}):
                contact = rows.get(member.id)
                if contact and all(member.merge_fields.get(tag) == value for tag, value in _fields(contact).items()):
                    held[member.id] = _segments_in(member)
        return held

    def members(self) -> Iterator[Member]:
        """Everybody in a consent segment, whatever their status."""
        found: dict[str, tuple[str, set[PurposeId]]] = {}
        for purpose, segment in self._consent_segments().items():
            for member in self._api.segment_members(segment):
                found.setdefault(member.id, (member.email_address, set()))[1].add(purpose)
        for address, purposes in found.values():
            yield Member(address, frozenset(purposes))

    def segment(self, name: str) -> int:
        """The static segment of that name, created when there is none."""
        existing = self._api.segments().get(name)
        if existing is not None:
            return existing
        return settled(lambda: self._api.create_segment(name), lambda: self._api.segments().get(name))

    def _consent_segments(self) -> dict[PurposeId, int]:
        named = self._api.segments().items()
        return {PurposeId(n.removeprefix(self._prefix)): i for n, i in named if n.startswith(self._prefix)}

    def _ensure_fields(self) -> None:
        for tag in sorted(_NAMES.keys() - self._api.merge_field_tags()):
            self._ensure_field(tag)

    def _ensure_field(self, tag: str) -> None:
        settled(
            lambda: self._api.add_merge_field(tag, _NAMES[tag]),
            lambda: tag if tag in self._api.merge_field_tags() else None,
        )

    def _upsert(self, contacts: Mapping[str, Contact]) -> list[ListMember]:
        if not contacts:
            return []
        added = self._api.batch([_row(c) | {"status": "subscribed"} for c in contacts.values()], update=False)
        refused = [member_hash(e.email_address) for e in added.errors if e.error_code == _CONTACT_EXISTS]
        known = [_row(contacts[h]) for h in refused if h in contacts]
        updated = self._api.batch(known, update=True).updated_members if known else []
        return [*added.new_members, *updated]

    def _correct(self, segment: int, purpose: PurposeId, changes: Iterable[ContactChange], held: Held) -> None:
        """Take out of one segment whoever does not belong, then put in whoever is missing, or may be."""
        extra, missing = [], []
        for change in changes:
            inside = held[member_hash(change.contact.address)]
            if purpose not in change.desired and (inside is None or segment in inside):
                extra.append(change.contact.address)
            elif purpose in change.desired and (inside is None or segment not in inside):
                missing.append(change.contact.address)
        for gone in self._remove(segment, extra):
            _in(held, gone).discard(segment)
        for chunk in chunks(missing):
            for come in self._api.add_to_segment(segment, chunk):
                _in(held, come).add(segment)

    def _remove(self, segment: int, addresses: Sequence[str]) -> set[str]:
        return {gone for chunk in chunks(addresses) for gone in self._api.remove_from_segment(segment, chunk)}

    def _as_desired(self, change: ContactChange, segments: Mapping[PurposeId, int], held: Held) -> bool:
        """Whether a contact is in the right segments; where the answers so far do not prove it, it is looked up."""
        name = member_hash(change.contact.address)
        wanted, ours = {segments[purpose] for purpose in change.desired}, set(segments.values())
        inside = held[name]
        if inside is None or inside & ours != wanted:
            inside = self._api.segments_of(name)
        return inside & ours == wanted


def _fields(contact: Contact) -> dict[str, str]:
    return {CHOICES: contact.choices_url, PIXEL: contact.pixel_path}


def _row(contact: Contact) -> dict[str, object]:
    return {"email_address": contact.address, "merge_fields": _fields(contact)}


def _segments_in(member: ListMember) -> set[int] | None:
    if member.tags is None or len(member.tags) >= _MOST_TAGS:
        return None
    return {tag.id for tag in member.tags}


def _in(held: Held, name: str) -> set[int]:
    """The segments of a contact, to be changed; changes to what is not known are lost, for it stays unknown."""
    inside = held.get(name)
    return set() if inside is None else inside
