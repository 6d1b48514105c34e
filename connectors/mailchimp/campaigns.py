"""One mailing as two Mailchimp campaigns: open tracking on for those who may be tracked, off for everybody else.

Both aim at two static segments that are filled once and never changed (``connectors.mailchimp.frozen``), and are made
as drafts (``connectors.mailchimp.drafts``). Each leaves as a whole.

A campaign can be sent only once at Mailchimp (unconfirmed), which makes it safe to look an unclear send up and go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from connectors.mailchimp import plans
from connectors.mailchimp.api import Api
from connectors.mailchimp.audience import PIXEL, Audience
from connectors.mailchimp.drafts import Drafts, Mail, Ready, Wanted
from connectors.mailchimp.frozen import Addressees, Frozen, FrozenSegments, known_as
from connectors.mailchimp.plans import HALVES, TRACKED, FromCampaign, Sender, check_mail, content_of
from connectors.mailchimp.settings import NAME, MailchimpSettings
from connectors.mailchimp.sources import DRAFT, read_source
from core.errors import AmbiguousOutcome, PlanError, ProviderError
from core.model import AppliedPlan, Campaign, Contact, Halves, Mechanism, Part, Plan
from core.ports import SendJournal

_LEFT = frozenset({"sending", "sent"})


@dataclass(frozen=True, slots=True)
class _Applied:
    """What apply left in the handles: the campaigns' IDs, segments, subject, sender, and how many were planned."""

    ids: Mapping[str, str]
    frozen: Frozen
    sender: Sender
    halves: Halves

    def handles(self) -> dict[str, str]:
        """As strings, for ``AppliedPlan``."""
        said = self.sender
        told = {"subject": said.subject, "from_name": said.from_name, "reply_to": said.reply_to}
        planned = self.halves
        numbers = (planned.tracked, planned.untracked, planned.individual, planned.aggregate)
        return {**self.frozen.handles(), **told, "halves": " ".join(map(str, numbers)), **self.ids}

    @classmethod
    def of(cls, handles: Mapping[str, str]) -> _Applied:
        """Back from ``handles``."""
        sender = Sender(handles["subject"], handles["from_name"], handles["reply_to"])
        ids = {half: handles[half] for half in HALVES if half in handles}
        return cls(ids, Frozen.of(handles), sender, Halves(*map(int, handles["halves"].split())))


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
        self._list_id = settings.list_id
        self._segments = FrozenSegments(api, audience, settings.segment_prefix)
        self._drafts = Drafts(api, settings.segment_prefix)

    def plan(self, campaign: Campaign, halves: Halves) -> Plan:
        """Steps and limits; asks Mailchimp only for the saved campaign that ``content.campaign_id`` names.

        Raises PlanError also for a saved campaign that cannot be split, or whose mail may not go.
        """
        planned = plans.plan(campaign, halves)
        content = content_of(campaign)
        if isinstance(content, FromCampaign):
            self._sender(campaign)
            check_mail(campaign, halves, self._api.html(content.campaign))
        return planned

    def apply(self, plan: Plan, addressees: Addressees) -> dict[str, str]:
        """Make segments and drafts, or find those that an earlier apply made; check them; answer their handles.

        Raises:
            ProviderError: naming the setting that differs, or that somebody cannot be reached.
            PlanError: the addressees are not the plan's, or the mail may not go.
        """
        campaign = plan.campaign
        mail = Mail(campaign, plan.halves, content_of(campaign), self._sender(campaign))
        frozen = self._segments.freeze(plan, addressees)
        earlier = self._drafts.earlier(campaign)
        ready: dict[str, Ready] = {}
        for half in HALVES:
            if frozen.recipients[half]:
                wanted = self._wanted(campaign, half, frozen, mail.sender)
                ready[half] = self._drafts.set_up(mail, wanted, earlier.get(half))
            elif half in earlier:
                self._drafts.discard(earlier[half])
        if any(each.shows_pixel for each in ready.values()):
            self._carry(campaign, (each.contact for each in addressees()), frozen.audience)
        self._segments.delete_older(campaign, frozen)
        ids = {half: each.id for half, each in ready.items()}
        return _Applied(ids, frozen, mail.sender, plan.halves).handles()

    def release(
        self, campaign: Campaign, applied: AppliedPlan, parts: Iterable[Part], journal: SendJournal
    ) -> dict[str, int]:
        """Send the halves in this order, each checked once more just before.

        Answers how many mails Mailchimp took in this run. A half in which nobody is subscribed is nowhere and stays so.

        Raises:
            PlanError: a part that is no half, or a mail that was changed and may not go any more.
            AmbiguousOutcome: nobody can tell whether a half left.
            ProviderError: something is not as it was applied, or Mailchimp refuses.
        """
        standing = _Applied.of(applied.handles)
        sent: dict[str, int] = {}
        for part in parts:
            if part.name not in HALVES or part.tracked is not (part.name == TRACKED):
                raise PlanError(f"campaign {campaign.id}: {part.name!r} is no half of it; Mailchimp sends halves whole")
            if part.name in standing.ids:
                sent[part.name] = self._send(campaign, part, standing, journal)
        return sent

    def _sender(self, campaign: Campaign) -> Sender:
        content = content_of(campaign)
        if isinstance(content, FromCampaign):
            return read_source(self._api, campaign, content.campaign, self._list_id)
        return content.sender

    def _wanted(self, campaign: Campaign, half: str, frozen: Frozen, sender: Sender) -> Wanted:
        settings = sender.settings(self._drafts.title(campaign, half))
        tracked = half == TRACKED
        return Wanted(self._list_id, tracked, frozen.conditions(half), frozen.recipients[half], settings)

    def _carry(self, campaign: Campaign, contacts: Iterator[Contact], audience: int) -> None:
        """Write the pixel paths of this very campaign to the recipients, for its mail shows them; none but hosted."""
        wanted: set[bytes] = set()

        def rows() -> Iterator[Contact]:
            for contact in contacts:
                wanted.add(known_as(contact.address))
                yield contact if campaign.mechanism is Mechanism.HOSTED else replace(contact, pixel_path="")

        held = {bytes.fromhex(member) for member in self._audience.carry(rows())}
        lacking = wanted - held
        if lacking and (lost := len(lacking & self._segments.reached(audience))):
            raise ProviderError(
                NAME, f"merge field {PIXEL}: {lost} recipients did not take it; put that right and try again"
            )

    # Sending

    def _send(self, campaign: Campaign, part: Part, standing: _Applied, journal: SendJournal) -> int:
        half, draft = part.name, standing.ids[part.name]
        if not self._begin(half, draft, journal):
            return 0
        try:
            count = self._ready_to_leave(campaign, part, standing)
            self._api.send(draft)
        except AmbiguousOutcome:
            if not self._left(draft):
                raise
        except (ProviderError, PlanError):
            journal.failed(half)
            raise
        journal.done(half)
        return count

    def _begin(self, half: str, draft: str, journal: SendJournal) -> bool:
        """Whether to send. An earlier attempt whose end nobody noted is looked up: it left, or the draft still stands.

        Should that attempt come through only now, Mailchimp refuses the second one: a campaign is sent once.
        """
        try:
            return journal.begin(half)
        except AmbiguousOutcome:
            status = self._api.campaign(draft).status
            if status in _LEFT:
                journal.done(half)
                return False
            if status != DRAFT:
                raise
            journal.failed(half)
            return journal.begin(half)

    def _ready_to_leave(self, campaign: Campaign, part: Part, standing: _Applied) -> int:
        """The same checks as when it was applied, and the pixel paths of now; answers the number of recipients."""
        draft = standing.ids[part.name]
        html = self._api.html(draft)
        check_mail(campaign, standing.halves, html)
        if PIXEL in html:
            self._carry(campaign, part.contacts(), standing.frozen.audience)
        wanted = self._wanted(campaign, part.name, standing.frozen, standing.sender)
        state = self._api.campaign(draft)
        if state.status != DRAFT:
            raise ProviderError(NAME, f"campaign {wanted.title!r}: status: it is no draft any more; look at it there")
        wanted.check(state, at_least=1)  # who left the audience since then gets no mail
        return state.recipients.recipient_count

    def _left(self, draft: str) -> bool:
        """Whether a campaign is certainly on its way; what cannot be read is not certain."""
        with suppress(ProviderError):
            return self._api.campaign(draft).status in _LEFT
        return False
