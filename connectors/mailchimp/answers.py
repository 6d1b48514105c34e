"""What Mailchimp answers, as far as it is read here. A field without a default must be there.

Source: the Marketing API's public Swagger document, 3.0.55.
"""

from __future__ import annotations

from typing import Any

import msgspec


class MergeField(msgspec.Struct):
    """A field that members carry. ``tag``: its name in a mail, between ``*|`` and ``|*``."""

    tag: str


class Segment(msgspec.Struct):
    """A segment; a static one is what the interface calls a tag."""

    id: int
    name: str


class Tag(msgspec.Struct):
    """A static segment that a member is in, by the segment's name."""

    name: str


class ListMember(msgspec.Struct):
    """A member of the audience. ``id``: the MD5 of the lower-cased address. ``tags``: the first 50 at most."""

    id: str
    email_address: str = ""
    status: str = ""
    merge_fields: dict[str, Any] = {}
    tags: list[Tag] | None = None


class MemberError(msgspec.Struct):
    """A member that a batch did not take."""

    email_address: str = ""
    error_code: str = ""


class BatchAnswer(msgspec.Struct):
    """What became of a batch of members."""

    new_members: list[ListMember]
    updated_members: list[ListMember]
    errors: list[MemberError]


class SegmentAnswer(msgspec.Struct):
    """What a change of a segment's members did."""

    members_added: list[ListMember]
    members_removed: list[ListMember]


class Condition(msgspec.Struct):
    """One condition of a campaign's audience."""

    field: str = ""
    op: str = ""
    value: Any = None


class SegmentOptions(msgspec.Struct):
    """Whom of the audience a campaign goes to; without conditions: to all of it."""

    match: str = ""
    conditions: list[Condition] = []


class Recipients(msgspec.Struct):
    """A campaign's audience and how many that are, as Mailchimp counts them."""

    list_id: str
    recipient_count: int
    segment_opts: SegmentOptions | None = None


class CampaignSettings(msgspec.Struct):
    """A campaign's subject, sender and title."""

    title: str = ""
    subject_line: str = ""
    from_name: str = ""
    reply_to: str = ""


class Tracking(msgspec.Struct):
    """A campaign's tracking. ``opens`` has no default: what is not said is not off."""

    opens: bool


class CampaignState(msgspec.Struct):
    """A campaign as Mailchimp has it. ``status``: ``save`` is a draft."""

    id: str
    type: str
    status: str
    recipients: Recipients
    settings: CampaignSettings
    tracking: Tracking


class Titled(msgspec.Struct):
    """What is read of a campaign to find it by its title."""

    id: str
    settings: CampaignSettings


class Opening(msgspec.Struct):
    """One open. ``is_proxy_open``: by a mail proxy and not by a person; only newer servers say so."""

    timestamp: str
    is_proxy_open: bool | None = None


class Opener(msgspec.Struct):
    """A member's opens of one campaign. Whose address was erased is still in the report (unconfirmed: without it)."""

    email_address: str = ""
    opens: list[Opening] = []


class Html(msgspec.Struct):
    """A campaign's content."""

    html: str = ""


class Checklist(msgspec.Struct):
    """Whether a campaign may go, by Mailchimp's own judgement."""

    is_ready: bool
