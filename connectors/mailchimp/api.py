"""The calls to Mailchimp's Marketing API that the connector makes: counted, retried, their answers typed.

Source: the Marketing API's public Swagger document, 3.0.55.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from connectors.mailchimp.answers import (
    BatchAnswer,
    CampaignState,
    Checklist,
    Html,
    ListMember,
    MergeField,
    Opener,
    Segment,
    SegmentAnswer,
    Tag,
    Titled,
)
from connectors.mailchimp.settings import NAME
from connectors.retry import Caller
from core.errors import AmbiguousOutcome, ProviderError, ProviderRefused

BATCH = 500
"""Members that the batch endpoints take at once."""
PAGE = 1_000
"""Items of one page, the most that Mailchimp gives."""
ALL_STATUSES = {"include_cleaned": "true", "include_transactional": "true", "include_unsubscribed": "true"}
"""Text, for the SDK would write a Boolean as ``True``."""

T = TypeVar("T")

_CAMPAIGN_ID = re.compile(r"[A-Za-z0-9]{1,64}")


class Api:
    """The calls that the connector makes.

    Every method raises ProviderRefused, AmbiguousOutcome or ProviderError as ``connectors.retry.Caller`` does, and
    ProviderError for an answer that is not of the documented form.

    Args:
        client: The SDK's client, made safe by ``connectors.mailchimp.sdk``.
        run: Runs its calls.
        list_id: The audience.
    """

    def __init__(self, client: Any, run: Caller, list_id: str) -> None:  # noqa: ANN401 - the SDK has no types
        self._client = client
        self._run = run
        self._list = list_id

    @property
    def calls(self) -> int:
        """HTTP requests so far, retries included."""
        return self._run.calls

    # The audience

    def merge_field_tags(self) -> set[str]:
        """The merge fields that the audience has."""
        pages = self._pages(self._client.lists.get_list_merge_fields, "merge_fields", MergeField, ("tag",), self._list)
        return {field.tag for field in pages}

    def add_merge_field(self, tag: str, name: str) -> str:
        """Add a text field that stands on no form, so that nobody but the API fills it; answers its tag."""
        body = {"tag": tag, "name": name, "type": "text", "required": False, "public": False}
        add = self._client.lists.add_list_merge_field
        return self._ask(MergeField, lambda: add(self._list, body), repeatable=False).tag

    def segments(self) -> dict[str, int]:
        """All static segments of the audience: name to ID."""
        pages = self._pages(
            self._client.lists.list_segments, "segments", Segment, ("id", "name"), self._list, type="static"
        )
        return {segment.name: segment.id for segment in pages}

    def create_segment(self, name: str) -> int:
        """Create a static segment without members; answers its ID."""
        body = {"name": name, "static_segment": []}
        create = self._client.lists.create_segment
        return self._ask(Segment, lambda: create(self._list, body), repeatable=False).id

    def delete_segment(self, segment: int) -> None:
        """Delete a segment; its members stay in the audience."""
        with _gone_already():
            self._run(lambda: self._client.lists.delete_segment(self._list, str(segment)))

    def add_to_segment(self, segment: int, addresses: Sequence[str]) -> set[str]:
        """Add up to ``BATCH`` members; answers the hashes of those that were added and not in it before."""
        return {member.id for member in self._change(segment, {"members_to_add": [*addresses]}).members_added}

    def remove_from_segment(self, segment: int, addresses: Sequence[str]) -> set[str]:
        """Remove up to ``BATCH`` members; answers the hashes of those that were in it."""
        return {member.id for member in self._change(segment, {"members_to_remove": [*addresses]}).members_removed}

    def segment_members(self, segment: int) -> Iterator[ListMember]:
        """A segment's members with their address and status, whatever their status is."""
        fields = ("id", "email_address", "status")
        list_members = self._client.lists.get_segment_members_list
        return self._pages(list_members, "members", ListMember, fields, self._list, str(segment), **ALL_STATUSES)

    def archived(self) -> set[str]:
        """The hashes of the audience's archived contacts."""
        list_members = self._client.lists.get_list_members_info
        pages = self._pages(list_members, "members", ListMember, ("id",), self._list, status="archived")
        return {member.id for member in pages}

    def batch(self, members: Sequence[Mapping[str, Any]], *, update: bool) -> BatchAnswer:
        """Add up to ``BATCH`` members, or with ``update`` change those that exist."""
        body = {"members": [*members], "update_existing": update}
        send = self._client.lists.batch_list_members
        return self._ask(BatchAnswer, lambda: send(self._list, body, skip_merge_validation="true"))

    def segments_of(self, member: str) -> set[int]:
        """The static segments that one member is in, by its hash; none when it is not in the audience."""
        list_tags = self._client.lists.get_list_member_tags
        tags: set[int] = set()
        with _gone_already():
            tags.update(tag.id for tag in self._pages(list_tags, "tags", Tag, ("id",), self._list, member))
        return tags

    # Campaigns

    def campaigns_titled(self, titles: Sequence[str]) -> dict[str, list[str]]:
        """The IDs of this audience's campaigns with one of these titles; the API cannot look for titles itself."""
        fields = ("id", "settings.title")
        found: dict[str, list[str]] = {title: [] for title in titles}
        for campaign in self._pages(self._client.campaigns.list, "campaigns", Titled, fields, list_id=self._list):
            if campaign.settings.title in found:
                found[campaign.settings.title].append(campaign.id)
        return found

    def campaign(self, campaign: str) -> CampaignState:
        """One campaign."""
        return self._ask(CampaignState, lambda: self._client.campaigns.get(_checked(campaign)))

    def create_campaign(self, body: Mapping[str, Any]) -> CampaignState:
        """Create a draft."""
        return self._ask(CampaignState, lambda: self._client.campaigns.create(body), repeatable=False)

    def delete_campaign(self, campaign: str) -> None:
        """Delete a campaign."""
        with _gone_already():
            self._run(lambda: self._client.campaigns.remove(_checked(campaign)))

    def set_template(self, campaign: str, template: int) -> None:
        """Fill a draft with a template."""
        body = {"template": {"id": template}}
        self._run(lambda: self._client.campaigns.set_content(_checked(campaign), body))

    def html(self, campaign: str) -> str:
        """A campaign's mail as it stands, merge tags not filled in."""
        return self._ask(Html, lambda: self._client.campaigns.get_content(_checked(campaign), fields=["html"])).html

    def ready(self, campaign: str) -> bool:
        """Whether Mailchimp's own checklist lets the campaign go."""
        return self._ask(Checklist, lambda: self._client.campaigns.get_send_checklist(_checked(campaign))).is_ready

    def send(self, campaign: str) -> None:
        """Send a campaign. Never repeated blindly."""
        self._run(lambda: self._client.campaigns.send(_checked(campaign)), repeatable=False)

    def openers(self, campaign: str, since: str | None) -> Iterator[Opener]:
        """Who opened a campaign and when. ``since``: ISO 8601."""
        report = self._client.reports.get_campaign_open_details
        narrowed = {"since": since} if since else {}
        return self._pages(report, "members", Opener, ("email_address", "opens"), _checked(campaign), **narrowed)

    def _change(self, segment: int, body: Mapping[str, Any]) -> SegmentAnswer:
        change = self._client.lists.batch_segment_members
        return self._ask(SegmentAnswer, lambda: change(body, self._list, str(segment)))

    def _ask(self, kind: type[T], call: Callable[[], Any], *, repeatable: bool = True) -> T:
        return _read(self._run(call, repeatable=repeatable), kind)

    def _pages(
        self, call: Callable[..., Any], key: str, kind: type[T], fields: Sequence[str], *args: str, **filters: str
    ) -> Iterator[T]:
        wanted, offset, total = [*(f"{key}.{name}" for name in fields), "total_items"], 0, 1
        while offset < total:
            page = self._run(partial(call, *args, fields=wanted, count=PAGE, offset=offset, **filters))
            answer = _read(page, dict[str, Any])
            total = _read(answer.get("total_items"), int)
            yield from _read(answer.get(key), list[kind])  # type: ignore[valid-type]
            offset += PAGE


def settled(make: Callable[[], T], find: Callable[[], T | None]) -> T:
    """Make something of which there must be one; where the answer got lost, or says that there is one, look for it.

    Raises what ``make`` raised when there is none.
    """
    try:
        return make()
    except (AmbiguousOutcome, ProviderRefused):
        found = find()
        if found is None:
            raise
        return found


@contextmanager
def _gone_already() -> Iterator[None]:
    """What is not there (404) need not be deleted, and is in nothing."""
    try:
        yield
    except ProviderRefused as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise


def _read(answer: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError:
        raise ProviderError(NAME, "an answer is not of the documented form; nothing is taken for granted") from None


def _checked(campaign: str) -> str:
    if not _CAMPAIGN_ID.fullmatch(campaign):
        raise ProviderError(NAME, "a campaign's ID is not of the documented form")
    return campaign
