"""One mailing as two Mailchimp campaigns: open tracking on for those who may be tracked, off for everybody else.

Both aim at two static segments that are filled once and never changed: the audience, and those of it who are tracked
(``static_is`` and ``static_not``). So whoever is missing from the second is untracked, and each recipient is in
exactly one half. The names of the segments end in a digest of their members: another audience makes other segments.

A campaign can be sent only once at Mailchimp (unconfirmed), which makes it safe to look an unclear send up and go on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256

from connectors.mailchimp.answers import CampaignState
from connectors.mailchimp.api import Api, settled
from connectors.mailchimp.audience import PIXEL, Audience, chunks, member_hash
from connectors.mailchimp.plans import check_mail, content_of
from connectors.mailchimp.settings import NAME, MailchimpSettings
from core.errors import AmbiguousOutcome, PlanError, ProviderError
from core.model import AppliedPlan, Campaign, Contact, Mechanism, Plan
from core.ports import SendJournal

TRACKED, UNTRACKED = "tracked", "untracked"
HALVES = (TRACKED, UNTRACKED)
"""The parts of a release, by which the send journal knows them."""

_AUDIENCE = "audience"
_DRAFT = "save"
_LEFT = frozenset({"sending", "sent"})
_SUBSCRIBED = "subscribed"


@dataclass(frozen=True, slots=True)
class _Frozen:
    """The two segments of a campaign, and how many of each half Mailchimp will send to.

    ``tracked``: None when nobody is tracked.
    """

    audience: int
    tracked: int | None
    recipients: Mapping[str, int]

    def conditions(self, half: str) -> frozenset[tuple[str, str]]:
        """Operator and segment of each condition that makes one half; all must hold."""
        whole = {("static_is", str(self.audience))}
        if self.tracked is None:
            return frozenset(whole)
        return frozenset(whole | {("static_is" if half == TRACKED else "static_not", str(self.tracked))})

    def handles(self) -> dict[str, str]:
        """As strings, for ``AppliedPlan``."""
        segments = {"audience_segment": str(self.audience), "tracked_segment": str(self.tracked or "")}
        return segments | {f"{half}_recipients": str(self.recipients[half]) for half in HALVES}

    @classmethod
    def of(cls, handles: Mapping[str, str]) -> _Frozen:
        """Back from ``handles``."""
        tracked = handles["tracked_segment"]
        recipients = {half: int(handles[f"{half}_recipients"]) for half in HALVES}
        return cls(int(handles["audience_segment"]), int(tracked) if tracked else None, recipients)


@dataclass(frozen=True, slots=True)
class _Wanted:
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
        """The request that creates it."""
        conditions = [
            {"condition_type": "StaticSegment", "field": "static_segment", "op": op, "value": int(segment)}
            for op, segment in sorted(self.conditions)
        ]
        return {
            "type": "regular",
            "recipients": {"list_id": self.list_id, "segment_opts": {"match": "all", "conditions": conditions}},
            "settings": dict(self.settings),
            "tracking": {"opens": self.opens},
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
            "type": state.type != "regular",
            "tracking.opens": state.tracking.opens is not self.opens,
            **{f"settings.{name}": getattr(state.settings, name) != value for name, value in self.settings.items()},
        }
        return [*self.misaimed(state), *(name for name, differs in wrong.items() if differs)]


@dataclass(frozen=True, slots=True)
class _Ready:
    """One half as it stands at Mailchimp. ``shows_pixel``: it is still to be sent, and its mail has that field."""

    id: str
    shows_pixel: bool


class Campaigns:
    """Sets campaigns up and sends them.

    Args:
        api: The calls.
        audience: The contacts.
        settings: Audience and prefix.
    """

    def __init__(self, api: Api, audience: Audience, settings: MailchimpSettings) -> None:
        self._api = api
        self._audience = audience
        self._settings = settings

    def apply(self, plan: Plan) -> dict[str, str]:
        """Make segments and drafts, or find those that an earlier apply made; check them; answer their IDs.

        A draft of an earlier plan that aims at other people is made anew. Any other difference was made by hand.

        Raises:
            ProviderError: naming the setting that differs, or that somebody cannot be reached.
            PlanError: the template lacks what the campaign's pixel needs.
        """
        frozen = self._freeze(plan)
        found = self._api.campaigns_titled([self._title(plan.campaign, half) for half in HALVES])
        ready: dict[str, _Ready] = {}
        for half in HALVES:
            earlier = self._earlier(found, self._title(plan.campaign, half))
            if frozen.recipients[half]:
                ready[half] = self._set_up(plan.campaign, self._wanted(plan.campaign, half, frozen), earlier)
            elif earlier:
                self._discard(earlier)
        shows_pixel = any(each.shows_pixel for each in ready.values())
        if shows_pixel:
            self._carry(plan.campaign, (*plan.split.tracked, *plan.split.untracked), frozen.audience)
        self._delete_older_segments(plan.campaign, frozen)
        ids = {half: each.id for half, each in ready.items()}
        return {**frozen.handles(), **ids, "shows_pixel": "yes" if shows_pixel else ""}

    def release(self, plan: Plan, applied: AppliedPlan, journal: SendJournal) -> dict[str, int]:
        """Send both halves, each checked once more just before; answers how many mails Mailchimp took in this run."""
        return {half: self._send(half, plan, applied.handles, journal) for half in HALVES if half in applied.handles}

    # Segments

    def _freeze(self, plan: Plan) -> _Frozen:
        split = plan.split
        tracked = {member_hash(contact.address): contact.address for contact in split.tracked}
        everybody = tracked | {member_hash(contact.address): contact.address for contact in split.untracked}
        audience = self._fill(self._segment_name(plan.campaign, _AUDIENCE, everybody), everybody)
        inner = self._fill(self._segment_name(plan.campaign, TRACKED, tracked), tracked) if tracked else None
        reached = self._reached(audience)
        if not reached:
            raise ProviderError(NAME, "list_id: none of the recipients is subscribed in this audience")
        counts = {TRACKED: len(reached & tracked.keys()), UNTRACKED: len(reached - tracked.keys())}
        return _Frozen(audience, inner, counts)

    def _fill(self, name: str, members: Mapping[str, str]) -> int:
        """The segment of that name with exactly these members; raises ProviderError when it cannot be had."""
        segment = self._audience.segment(name)
        held = {member.id for member in self._api.segment_members(segment)}
        missing = [address for known_as, address in members.items() if known_as not in held]
        for chunk in chunks(missing):
            self._api.add_to_segment(segment, chunk)
        if missing:
            held = {member.id for member in self._api.segment_members(segment)}
        if lacking := len(members.keys() - held):
            raise ProviderError(
                NAME,
                f"list_id: {lacking} of {len(members)} recipients are not in the audience;"
                " run `pixelproof sync`, leave out those that it reports as rejected, and apply again",
            )
        if strangers := len(held - members.keys()):
            raise ProviderError(
                NAME, f"segment {name!r} holds {strangers} people of no concern; delete it in Mailchimp and apply again"
            )
        return segment

    def _reached(self, audience: int) -> set[str]:
        """Those in the segment to whom Mailchimp sends: the subscribed ones."""
        return {member.id for member in self._api.segment_members(audience) if member.status == _SUBSCRIBED}

    def _delete_older_segments(self, campaign: Campaign, frozen: _Frozen) -> None:
        """Delete what earlier plans of this campaign left: by now no campaign aims at them."""
        ours = re.compile(f"{self._settings.segment_prefix} {campaign.id} ({_AUDIENCE}|{TRACKED}) [0-9a-f]{{8}}")
        for name, segment in self._api.segments().items():
            if ours.fullmatch(name) and segment not in {frozen.audience, frozen.tracked}:
                self._api.delete_segment(segment)

    def _segment_name(self, campaign: Campaign, which: str, members: Mapping[str, str]) -> str:
        digest = sha256("".join(sorted(members)).encode()).hexdigest()[:8]
        return f"{self._settings.segment_prefix} {campaign.id} {which} {digest}"

    # Campaigns

    def _title(self, campaign: Campaign, half: str) -> str:
        return f"{self._settings.segment_prefix} {campaign.id} {half}"

    def _wanted(self, campaign: Campaign, half: str, frozen: _Frozen) -> _Wanted:
        settings = content_of(campaign).settings(self._title(campaign, half))
        return _Wanted(
            self._settings.list_id, half == TRACKED, frozen.conditions(half), frozen.recipients[half], settings
        )

    def _earlier(self, found: Mapping[str, Sequence[str]], title: str) -> CampaignState | None:
        """The campaign of that title; raises ProviderError when there are several, for then one of them is not ours."""
        if len(found[title]) > 1:
            raise ProviderError(NAME, f"several campaigns have the title {title!r}; delete the surplus in Mailchimp")
        return self._api.campaign(found[title][0]) if found[title] else None

    def _set_up(self, campaign: Campaign, wanted: _Wanted, earlier: CampaignState | None) -> _Ready:
        """One half as it must be, found or made, read back and checked."""
        if earlier and earlier.status == _DRAFT and self._misaimed(wanted, earlier):
            self._discard(earlier)
            earlier = None
        if earlier and earlier.status != _DRAFT:
            self._check(wanted, earlier)
            return _Ready(earlier.id, shows_pixel=False)
        name = earlier.id if earlier else self._create(wanted)
        self._api.set_template(name, content_of(campaign).template)
        html = self._api.html(name)
        check_mail(campaign, html, tracked=wanted.opens)
        self._check(wanted, self._api.campaign(name), at_least=wanted.recipients)
        if not self._api.ready(name):
            raise ProviderError(NAME, f"campaign {wanted.title!r}: its send checklist in Mailchimp has open points")
        return _Ready(name, shows_pixel=PIXEL in html)

    def _misaimed(self, wanted: _Wanted, state: CampaignState) -> bool:
        return bool(wanted.misaimed(state)) or state.recipients.recipient_count != wanted.recipients

    def _create(self, wanted: _Wanted) -> str:
        def find() -> str | None:
            return next(iter(self._api.campaigns_titled([wanted.title])[wanted.title]), None)

        return settled(lambda: self._api.create_campaign(wanted.body()).id, find)

    def _discard(self, state: CampaignState) -> None:
        if state.status != _DRAFT:
            raise ProviderError(
                NAME, f"campaign {state.settings.title!r} left already, for another audience; take a new campaign id"
            )
        self._api.delete_campaign(state.id)

    def _check(self, wanted: _Wanted, state: CampaignState, *, at_least: int | None = None) -> None:
        """Raise ProviderError for whatever is not as wanted; with ``at_least`` also for too few or too many people."""
        wrong, count = wanted.differing(state), state.recipients.recipient_count
        if at_least is not None and not at_least <= count <= wanted.recipients:
            wrong.append(f"recipients.recipient_count ({count}, not {wanted.recipients})")
        if wrong:
            raise ProviderError(
                NAME,
                f"campaign {wanted.title!r} differs from its plan in {', '.join(wrong)};"
                " put it right or delete it in Mailchimp, then apply again",
            )

    def _carry(self, campaign: Campaign, contacts: Sequence[Contact], audience: int) -> None:
        """Write the pixel paths of this very campaign to the recipients, for its mail shows them; none but hosted."""
        if campaign.mechanism is not Mechanism.HOSTED:
            contacts = [replace(contact, pixel_path="") for contact in contacts]
        held = self._audience.carry(contacts)
        lacking = {member_hash(contact.address) for contact in contacts} - held.keys()
        if lacking and (lost := len(lacking & self._reached(audience))):
            raise ProviderError(
                NAME, f"merge field {PIXEL}: {lost} recipients did not take it; put that right and try again"
            )

    # Sending

    def _send(self, half: str, plan: Plan, handles: Mapping[str, str], journal: SendJournal) -> int:
        campaign = handles[half]
        if not self._begin(half, campaign, journal):
            return 0
        try:
            count = self._ready_to_leave(half, plan, handles)
            self._api.send(campaign)
        except AmbiguousOutcome:
            if not self._left(campaign):
                raise
        except (ProviderError, PlanError):
            journal.failed(half)
            raise
        journal.done(half)
        return count

    def _begin(self, half: str, campaign: str, journal: SendJournal) -> bool:
        """Whether to send. An earlier attempt whose end nobody noted is looked up: it left, or the draft still stands.

        Should that attempt come through only now, Mailchimp refuses the second one: a campaign is sent once.
        """
        try:
            return journal.begin(half)
        except AmbiguousOutcome:
            status = self._api.campaign(campaign).status
            if status in _LEFT:
                journal.done(half)
                return False
            if status != _DRAFT:
                raise
            journal.failed(half)
            return journal.begin(half)

    def _ready_to_leave(self, half: str, plan: Plan, handles: Mapping[str, str]) -> int:
        """The same checks as when it was applied; answers the number of recipients."""
        frozen = _Frozen.of(handles)
        if handles["shows_pixel"]:
            contacts = plan.split.tracked if half == TRACKED else plan.split.untracked
            self._carry(plan.campaign, contacts, frozen.audience)
        wanted, state = self._wanted(plan.campaign, half, frozen), self._api.campaign(handles[half])
        if state.status != _DRAFT:
            raise ProviderError(NAME, f"campaign {wanted.title!r}: status: it is no draft any more; look at it there")
        self._check(wanted, state, at_least=1)  # who left the audience since then gets no mail
        return state.recipients.recipient_count

    def _left(self, campaign: str) -> bool:
        """Whether a campaign is certainly on its way; what cannot be read is not certain."""
        with suppress(ProviderError):
            return self._api.campaign(campaign).status in _LEFT
        return False
