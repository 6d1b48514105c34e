"""The two campaigns at Mailchimp that make one mailing: made as drafts, read back, found again, discarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from connectors.mailchimp.account import Source
from connectors.mailchimp.answers import CampaignState
from connectors.mailchimp.api import Api, settled
from connectors.mailchimp.audience import PIXEL
from connectors.mailchimp.plans import HALVES, FromCampaign, FromTemplate, Sender, check_mail
from connectors.mailchimp.settings import NAME
from connectors.mailchimp.sources import DRAFT, REGULAR
from core.errors import PlanError, ProviderError
from core.model import Campaign, Halves


@dataclass(frozen=True, slots=True)
class Wanted:
    """One half as it must be at Mailchimp.

    Attributes:
        opens: Whether Mailchimp's own pixel is in it.
        conditions: Operator and segment of each condition; all must hold.
        recipients: How many it reaches.
        settings: Subject, sender and title, by Mailchimp's names.
    """

    list_id: str
    opens: bool
    conditions: frozenset[tuple[str, str]]
    recipients: int
    settings: Mapping[str, str]

    @property
    def title(self) -> str:
        """By which it is found again."""
        return self.settings["title"]

    def body(self) -> dict[str, object]:
        """What says all of it in one request."""
        conditions = [
            {"condition_type": "StaticSegment", "field": "static_segment", "op": op, "value": int(segment)}
            for op, segment in sorted(self.conditions)
        ]
        return {
            "recipients": {"list_id": self.list_id, "segment_opts": {"match": "all", "conditions": conditions}},
            "settings": dict(self.settings),
            "tracking": {"opens": self.opens},
        }

    def cleared(self) -> dict[str, object]:
        """What takes a copy's own segment and tracking away, before its own are set.

        Mailchimp does not count again when one segment is swapped for another.
        """
        return {
            "recipients": {"list_id": self.list_id, "segment_opts": {}},
            "settings": dict(self.settings),
            "tracking": {"opens": False},
        }

    def misaimed(self, state: CampaignState) -> list[str]:
        """The settings by which a campaign would reach others than wanted."""
        options = state.recipients.segment_opts
        found = [(c.field, c.op, str(c.value)) for c in options.conditions] if options else []
        wanted = sorted(("static_segment", op, segment) for op, segment in self.conditions)
        wrong = {
            "recipients.list_id": state.recipients.list_id != self.list_id,
            "recipients.segment_opts": options is None or options.match != "all" or sorted(found) != wanted,
        }
        return [name for name, differs in wrong.items() if differs]

    def differing(self, state: CampaignState) -> list[str]:
        """All settings that are not as wanted, but for the number of recipients."""
        wrong = {
            "type": state.type != REGULAR,
            "tracking.opens": state.tracking.opens is not self.opens,
            **{f"settings.{name}": getattr(state.settings, name) != value for name, value in self.settings.items()},
        }
        return [*self.misaimed(state), *(name for name, differs in wrong.items() if differs)]

    def check(self, state: CampaignState, *, at_least: int | None = None) -> None:
        """Raise ProviderError for whatever is not as wanted; with ``at_least`` also for too few or too many people."""
        wrong, count = self.differing(state), state.recipients.recipient_count
        if at_least is not None and not at_least <= count <= self.recipients:
            wrong.append(f"recipients.recipient_count ({count}, not {self.recipients})")
        if wrong:
            raise ProviderError(
                NAME,
                f"campaign {self.title!r} differs from its plan in {', '.join(wrong)};"
                " put it right or delete it in Mailchimp, then apply again",
            )


@dataclass(frozen=True, slots=True)
class Ready:
    """One half as it stands at Mailchimp. ``shows_pixel``: it is still to be sent, and its mail has that field."""

    id: str
    shows_pixel: bool


@dataclass(frozen=True, slots=True)
class Mail:
    """What is sent: the campaign that is declared, how many it goes to, and where its content comes from."""

    campaign: Campaign
    halves: Halves
    content: FromTemplate | FromCampaign
    sender: Sender


class Drafts:
    """Sets one campaign of a mailing up after the other.

    Args:
        api: The calls.
        prefix: What the titles of the campaigns begin with.
    """

    def __init__(self, api: Api, prefix: str) -> None:
        self._api = api
        self._prefix = prefix

    def title(self, campaign: Campaign, half: str) -> str:
        """What a half is called at Mailchimp."""
        return f"{self._prefix} {campaign.id} {half}"

    def earlier(self, campaign: Campaign) -> dict[str, CampaignState]:
        """What an earlier apply made, by half.

        Raises ProviderError when there are several of one title, for then one of them is not ours.
        """
        titles = {half: self.title(campaign, half) for half in HALVES}
        found = self._api.campaigns_titled([*titles.values()])
        return {half: self._only(title, found[title]) for half, title in titles.items() if found[title]}

    def set_up(self, mail: Mail, wanted: Wanted, earlier: CampaignState | None) -> Ready:
        """One half as it must be, found or made, read back and checked.

        A draft of an earlier plan that aims at other people is made anew, and so is a copy, for what it was copied
        from may have been edited. Any other difference was made by hand.

        Raises:
            PlanError: the mail may not go like this; no draft of it stays behind.
            ProviderError: naming the setting that differs.
        """
        if earlier and earlier.status != DRAFT:
            wanted.check(earlier)
            return Ready(earlier.id, shows_pixel=False)
        if earlier and (isinstance(mail.content, FromCampaign) or self._misaimed(wanted, earlier)):
            self.discard(earlier)
            earlier = None
        name = earlier.id if earlier else self._make(mail, wanted)
        if isinstance(mail.content, FromTemplate):
            self._api.set_template(name, mail.content.template)
        html = self._checked_html(mail, name)
        wanted.check(self._api.campaign(name), at_least=wanted.recipients)
        if not self._api.ready(name):
            raise ProviderError(NAME, f"campaign {wanted.title!r}: its send checklist in Mailchimp has open points")
        return Ready(name, shows_pixel=PIXEL in html)

    def discard(self, state: CampaignState) -> None:
        """Delete a draft; raises ProviderError when it is none any more."""
        if state.status != DRAFT:
            raise ProviderError(
                NAME, f"campaign {state.settings.title!r} left already, for another audience; take a new campaign id"
            )
        self._api.delete_campaign(state.id)

    def _only(self, title: str, found: Sequence[str]) -> CampaignState:
        if len(found) > 1:
            raise ProviderError(NAME, f"several campaigns have the title {title!r}; delete the surplus in Mailchimp")
        return self._api.campaign(found[0])

    def _misaimed(self, wanted: Wanted, state: CampaignState) -> bool:
        return bool(wanted.misaimed(state)) or state.recipients.recipient_count != wanted.recipients

    def _checked_html(self, mail: Mail, draft: str) -> str:
        """The mail as it stands in the draft, which is deleted when the mail may not go."""
        html = self._api.html(draft)
        try:
            check_mail(mail.campaign, mail.halves, html)
        except PlanError:
            with suppress(ProviderError):  # what is wrong with the mail is what matters
                self._api.delete_campaign(draft)
            raise
        return html

    def _make(self, mail: Mail, wanted: Wanted) -> str:
        if isinstance(mail.content, FromTemplate):
            return self._create(wanted)
        copy = self._copy(mail.content.campaign, mail.sender)
        self._api.update_campaign(copy, wanted.cleared())
        self._api.update_campaign(copy, wanted.body())
        return copy

    def _create(self, wanted: Wanted) -> str:
        def find() -> str | None:
            return next(iter(self._api.campaigns_titled([wanted.title])[wanted.title]), None)

        return settled(lambda: self._api.create_campaign({"type": REGULAR, **wanted.body()}).id, find)

    def _copy(self, source: str, sender: Sender) -> str:
        """A copy of the saved campaign. Where the answer got lost it is the one draft more with that subject.

        A copy of a run that was killed right here stays behind, under the title that Mailchimp gave it.
        """
        before = {draft.id for draft in self._api.campaigns_in(DRAFT)}

        def find() -> str | None:
            new = [d.id for d in self._api.campaigns_in(DRAFT) if d.id not in before and _resembles(d, sender)]
            return new[0] if len(new) == 1 else None

        return settled(lambda: self._api.replicate(source), find)


def _resembles(draft: Source, sender: Sender) -> bool:
    same = replace(sender, reply_to="") == Sender(draft.settings.subject_line, draft.settings.from_name, "")
    return same and draft.type == REGULAR
