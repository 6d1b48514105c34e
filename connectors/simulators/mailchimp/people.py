"""What an audience holds: its contacts and its static segments (tags)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import md5


def name_of(address: str) -> str:
    """The MD5 of the lower-cased address."""
    return md5(address.lower().encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class Subscriber:
    """A contact of the audience, whatever its status.

    ``id``: its name in the API. ``tags``: the IDs of the static segments that it is in. ``interests``: the names of
    those that it is in, by the ID of their category.
    """

    address: str
    status: str
    changed: datetime
    fields: dict[str, str] = field(default_factory=dict)
    tags: set[int] = field(default_factory=set)
    interests: dict[str, set[str]] = field(default_factory=dict)
    id: str = ""

    def __post_init__(self) -> None:
        """Work the name out once, for it is asked for with every call."""
        self.id = name_of(self.address)


@dataclass(slots=True)
class StaticSegment:
    """A static segment. ``members``: hashes, in the order in which they came."""

    id: int
    name: str
    created: datetime
    members: dict[str, None] = field(default_factory=dict)

    def put_in(self, member: Subscriber) -> None:
        """Add a member."""
        self.members[member.id] = None
        member.tags.add(self.id)

    def take_out(self, member: Subscriber) -> bool:
        """Remove a member; whether it was in."""
        member.tags.discard(self.id)
        return self.members.pop(member.id, member) is None
