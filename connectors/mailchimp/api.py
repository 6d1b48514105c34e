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

from connectors.mailchimp.account import (
    AnySegment,
    Automation,
    Category,
    Field,
    Hook,
    Hooks,
    Interest,
    ListState,
    Named,
    Source,
)
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
from connectors.mailchimp.counting import Counted
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

_SOURCE_FIELDS = [
    "id",
    "type",
    "status",
    "recipients.list_id",
    "recipients.segment_opts",
    "settings.title",
    "settings.subject_line",
    "settings.from_name",
    "settings.reply_to",
    "tracking.opens",
]

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
        self._caller = run
        self._run = Counted(run)
        self._list = list_id

    @property
    def calls(self) -> int:
        """HTTP requests of this instance so far, retries included."""
        return self._run.calls

    def apart(self) -> Api:
        """The same calls, counted from zero: what one run makes, whatever other threads do meanwhile."""
        return Api(self._client, self._caller, self._list)

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

    def remove_from_segment(self, segment: int, addresses: Sequence[str]) -> list[ListMember]:
        """Remove up to ``BATCH`` members; answers those that were in it.

        Whether the tags that they are answered with still name this segment is unconfirmed.
        """
        return self._change(segment, {"members_to_remove": [*addresses]}).members_removed

    def segment_members(self, segment: int) -> Iterator[ListMember]:
        """A segment's members with their address and status, whatever their status is."""
        fields = ("id", "email_address", "status")
        list_members = self._client.lists.get_segment_members_list
        return self._pages(list_members, "members", ListMember, fields, self._list, str(segment), **ALL_STATUSES)

    def archived(self) -> Iterator[str]:
        """The hashes of the audience's archived contacts."""
        list_members = self._client.lists.get_list_members_info
        pages = self._pages(list_members, "members", ListMember, ("id",), self._list, status="archived")
        return (member.id for member in pages)

    def member(self, member: str) -> ListMember | None:
        """One contact of whatever status, archived too, by its hash; None when the audience has no such contact."""
        fields = ["id", "email_address", "status", "merge_fields", "tags"]
        get = self._client.lists.get_list_member
        try:
            return self._ask(ListMember, lambda: get(self._list, member, fields=fields))
        except ProviderRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return None

    def delete_permanently(self, member: str) -> None:
        """Erase a contact by its hash. Its address can then only come back through a form of Mailchimp's."""
        with _gone_already():
            self._run(lambda: self._client.lists.delete_list_member_permanent(self._list, member))

    def batch(self, members: Sequence[Mapping[str, Any]], *, update: bool) -> BatchAnswer:
        """Add up to ``BATCH`` members, or with ``update`` change those that exist."""
        body = {"members": [*members], "update_existing": update}
        send = self._client.lists.batch_list_members
        return self._ask(BatchAnswer, lambda: send(self._list, body, skip_merge_validation="true"))

    def tags_of(self, member: str) -> list[Tag]:
        """All static segments that one member is in, by its hash; none when it is not in the audience."""
        list_tags = self._client.lists.get_list_member_tags
        tags: list[Tag] = []
        with _gone_already():
            tags.extend(self._pages(list_tags, "tags", Tag, ("name",), self._list, member))
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

    def source(self, campaign: str) -> Source:
        """Any campaign, whoever made it and of whatever type."""
        return self._ask(Source, lambda: self._client.campaigns.get(_checked(campaign), fields=_SOURCE_FIELDS))

    def campaigns_in(self, status: str) -> Iterator[Source]:
        """This audience's campaigns of one status, whoever made them."""
        fields = [name for name in _SOURCE_FIELDS if not name.startswith("settings.reply")]
        listed = self._client.campaigns.list
        return self._pages(listed, "campaigns", Source, fields, list_id=self._list, status=status)

    def replicate(self, campaign: str) -> str:
        """Copy a campaign into a new draft; answers its ID. What the copy inherits is unconfirmed."""
        copy = self._client.campaigns.replicate
        return self._ask(Named, lambda: copy(_checked(campaign)), repeatable=False).id

    def update_campaign(self, campaign: str, body: Mapping[str, Any]) -> None:
        """Change a draft."""
        self._run(lambda: self._client.campaigns.update(_checked(campaign), body))

    def openers(self, campaign: str, since: str | None, offset: int) -> tuple[list[Opener], int]:
        """A page of who opened a campaign and when, and how many they are in all. ``since``: ISO 8601."""
        report = partial(self._client.reports.get_campaign_open_details, _checked(campaign))
        narrowed = {"since": since} if since else {}
        return self._page(report, "members", Opener, ("email_address", "opens"), offset, **narrowed)

    # The account

    def webhooks(self) -> list[Hook]:
        """All webhooks of the audience; the list has no pages."""
        listed = self._ask(Hooks, lambda: self._client.lists.get_list_webhooks(self._list))
        return listed.webhooks

    def create_webhook(self, body: Mapping[str, Any]) -> Hook:
        """Make a webhook. Mailchimp asks the URL with a GET first, and tells the signing secret this once."""
        create = self._client.lists.create_list_webhook
        return self._ask(Hook, lambda: create(self._list, body), repeatable=False)

    def update_webhook(self, webhook: str, body: Mapping[str, Any]) -> None:
        """Change a webhook."""
        self._run(lambda: self._client.lists.update_list_webhook(self._list, _checked(webhook), body))

    def delete_webhook(self, webhook: str) -> None:
        """Remove a webhook."""
        with _gone_already():
            self._run(lambda: self._client.lists.delete_list_webhook(self._list, _checked(webhook)))

    def fields(self) -> dict[str, Field]:
        """The audience's merge fields with their settings, by tag."""
        names = ("tag", "type", "required", "public")
        listed = self._client.lists.get_list_merge_fields
        return {field.tag: field for field in self._pages(listed, "merge_fields", Field, names, self._list)}

    def segments_of_any_type(self) -> Iterator[AnySegment]:
        """The audience's segments, those among them that Mailchimp works out itself."""
        return self._pages(self._client.lists.list_segments, "segments", AnySegment, ("id", "name", "type"), self._list)

    def interests(self) -> list[str]:
        """The names of the audience's interests, each as often as it is there; a call for each of their categories."""
        lists = self._client.lists
        categories = self._pages(lists.get_list_interest_categories, "categories", Category, ("id",), self._list)
        listed = lists.list_interest_category_interests
        found: list[str] = []
        for category in categories:
            pages = self._pages(listed, "interests", Interest, ("name",), self._list, _checked(category.id))
            found.extend(interest.name for interest in pages)
        return found

    def running_automations(self) -> list[str]:
        """The IDs of the classic automations that send; none where Mailchimp has them no more (404)."""
        found: list[str] = []
        with _gone_already():
            pages = self._pages(self._client.automations.list, "automations", Automation, ("id",), status="sending")
            found.extend(automation.id for automation in pages)
        return found

    def audience(self) -> ListState:
        """The audience's own settings."""
        names = ["double_optin", "has_welcome"]
        return self._ask(ListState, lambda: self._client.lists.get_list(self._list, fields=names))

    def _change(self, segment: int, body: Mapping[str, Any]) -> SegmentAnswer:
        change = self._client.lists.batch_segment_members
        return self._ask(SegmentAnswer, lambda: change(body, self._list, str(segment)))

    def _ask(self, kind: type[T], call: Callable[[], Any], *, repeatable: bool = True) -> T:
        return _read(self._run(call, repeatable=repeatable), kind)

    def _pages(
        self, call: Callable[..., Any], key: str, kind: type[T], fields: Sequence[str], *args: str, **filters: str
    ) -> Iterator[T]:
        offset, total = 0, 1
        while offset < total:
            page, total = self._page(partial(call, *args), key, kind, fields, offset, **filters)
            yield from page
            offset += PAGE

    def _page(
        self, call: Callable[..., Any], key: str, kind: type[T], fields: Sequence[str], offset: int, **filters: str
    ) -> tuple[list[T], int]:
        wanted = [*(f"{key}.{name}" for name in fields), "total_items"]
        page = self._run(partial(call, fields=wanted, count=PAGE, offset=offset, **filters))
        answer = _read(page, dict[str, Any])
        return _read(answer.get(key), list[kind]), _read(answer.get("total_items"), int)  # type: ignore[valid-type]


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


def _checked(name: str) -> str:
    """An ID that may stand in a URL; the SDK does not escape it."""
    if not _CAMPAIGN_ID.fullmatch(name):
        raise ProviderError(NAME, "an ID is not of the documented form")
    return name
