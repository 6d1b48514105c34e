"""One campaign through Mail Send: its plan in words, the checks before it leaves, and the requests that send it.

Source: SendGrid's API reference, "Mail Send". It is the one way of sending for which SendGrid documents a switch for
open tracking: it holds for a request, so the two halves are separate requests, and each request states it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus

import msgspec

from connectors.sendgrid.api import Api
from connectors.sendgrid.settings import CAMPAIGN_ARG, NAME, RECIPIENT_ARG, SendGridSettings
from connectors.sendgrid.templates import check_keys, check_unchanged, checked_version
from core.errors import AmbiguousOutcome, PlanError, ProviderError, ProviderRefused
from core.merge_fields import HANDLEBARS
from core.model import (
    Addressee,
    AppliedPlan,
    Campaign,
    Contact,
    Halves,
    Mechanism,
    Part,
    Plan,
    RecipientId,
    ReleaseReport,
)
from core.ports import SendJournal

CONTENT_KEYS = frozenset({"template_id", "from_email", "from_name"})
"""The keys of a campaign's ``content``: a dynamic template's id (``d-…``) and the sender."""

RECIPIENTS_PER_REQUEST = 1_000
"""Mail Send takes 1,000 personalizations a request."""

REFUSALS = 100
"""How many refused requests one part may cost in the search for the recipients that SendGrid objects to."""

_OF_RECIPIENT = re.compile(r"personalizations\.(\d{1,4})\.to\b")
"""How a refusal names a recipient's address. Faults of other fields are not the recipient's."""


class _OpenTracking(msgspec.Struct):
    enabled: bool


class _Group(msgspec.Struct):
    id: int


class Campaigns:
    """Plans, checks and sends campaigns.

    Args:
        api: The account.
        settings: For the unsubscribe group.
    """

    def __init__(self, api: Api, settings: SendGridSettings) -> None:
        self._api = api
        self._group = settings.unsubscribe_group_id

    def part_size(self) -> int:
        """How many recipients one request takes."""
        return RECIPIENTS_PER_REQUEST

    def plan(self, campaign: Campaign, halves: Halves) -> Plan:
        """How both halves would be sent. Reads the template and the account's default, changes nothing.

        Raises:
            PlanError: a wrong key of ``content``, halves that the mechanism does not allow, or a template with a pixel
                of its own or without the link to the choices.
            ProviderError: SendGrid is out of reach or does not know the template.
        """
        check_keys(campaign, CONTENT_KEYS, frozenset({"via"}))
        if "@" not in campaign.content["from_email"]:
            raise PlanError(f"campaign {campaign.id}: content.from_email: not an address")
        check_halves(campaign, halves)
        checked_version(self._api, campaign, halves, HANDLEBARS)
        return Plan(campaign, halves, _steps(campaign, halves), _limits(campaign, self._tracked_by_default()))

    def apply(self, plan: Plan, _addressees: Callable[[], Iterator[Addressee]]) -> AppliedPlan:
        """Check what stands at SendGrid; Mail Send needs nothing set up, so nothing is changed.

        Raises:
            PlanError: the template may not be sent any more.
            ProviderError: the unsubscribe group or the account's settings are not as the plan needs them, or cannot
                be read.
        """
        before = self._api.calls
        version = checked_version(self._api, plan.campaign, plan.halves, HANDLEBARS)
        self._check_group()
        handles = {
            "template_id": plan.campaign.content["template_id"],
            "template_version": version.id,
            "template_digest": version.digest,
            "account_open_tracking": "on" if self._tracked_by_default() else "off",
        }
        return AppliedPlan(plan.campaign.id, NAME, handles, self._api.calls - before)

    def release(
        self, campaign: Campaign, applied: AppliedPlan, parts: Iterable[Part], journal: SendJournal
    ) -> ReleaseReport:
        """Send the parts, a request each. Counts what SendGrid accepted in this run.

        A request is refused or accepted as a whole. When SendGrid refuses it for some recipients' addresses, those
        are left out and reported, and the others are sent to at once.

        Raises:
            PlanError: a part that the campaign does not allow, or a recipient with a pixel and no link to the choices.
            ProviderError: the template is no longer the one that was checked, or SendGrid is out of reach or refused.
            AmbiguousOutcome: a request may or may not have been accepted; SendGrid knows no way to look it up.
        """
        before = self._api.calls
        check_applied(campaign, applied)
        check_unchanged(self._api, campaign, applied.handles.get("template_digest"))
        accepted = {True: 0, False: 0}
        refused: set[RecipientId] = set()
        for part in parts:
            contacts = _checked(campaign, part)
            if contacts and journal.begin(part.name):
                sent = self._send(campaign, part, contacts, journal)
                accepted[part.tracked] += len(sent)
                refused |= {contact.recipient for contact in contacts} - {contact.recipient for contact in sent}
        return ReleaseReport(accepted[True], accepted[False], self._api.calls - before, frozenset(refused))

    def _send(
        self, campaign: Campaign, part: Part, contacts: Sequence[Contact], journal: SendJournal
    ) -> Sequence[Contact]:
        """Send a part that has begun; answers who is left after the refusals."""
        for _ in range(REFUSALS):
            if not contacts:
                break
            try:
                self._hand_in(self._mail(campaign, contacts, tracked=part.tracked), part, journal)
                break
            except ProviderRefused as error:
                named = _named(error)
                if not named or max(named) >= len(contacts):
                    raise
                contacts = [contact for place, contact in enumerate(contacts) if place not in named]
            journal.begin(part.name)
        else:
            journal.failed(part.name)
            raise ProviderRefused(NAME, f"part {part.name}: refused for ever more addresses; look at the address book")
        journal.done(part.name)
        return contacts

    def _hand_in(self, mail: dict[str, object], part: Part, journal: SendJournal) -> None:
        try:
            self._api.send(mail)
        except AmbiguousOutcome:
            raise  # it stays begun
        except ProviderError:
            journal.failed(part.name)
            raise

    def _mail(self, campaign: Campaign, contacts: Sequence[Contact], *, tracked: bool) -> dict[str, object]:
        mail: dict[str, object] = {
            "from": {"email": campaign.content["from_email"], "name": campaign.content["from_name"]},
            "template_id": campaign.content["template_id"],
            "personalizations": [_personalization(campaign, contact) for contact in contacts],
            "categories": [campaign.id],
            # Always stated: what a request leaves out is decided by the account.
            "tracking_settings": {
                "open_tracking": {"enable": tracked},
                "click_tracking": {"enable": False, "enable_text": False},
            },
        }
        return mail | ({"asm": {"group_id": self._group}} if self._group else {})

    def _tracked_by_default(self) -> bool:
        return self._api.ask("get", "tracking_settings/open", _OpenTracking).enabled

    def _check_group(self) -> None:
        if self._group is None:
            return
        try:
            group = self._api.ask("get", f"asm/groups/{self._group}", _Group)
        except ProviderRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            group = None
        if group is None or group.id != self._group:
            raise ProviderError(
                NAME, f"providers.{NAME}.unsubscribe_group_id: SendGrid has no such group; name one, or leave it out"
            )


def check_halves(campaign: Campaign, halves: Halves) -> None:
    """Refuse halves that SendGrid's own pixel would track where it must stay off.

    Raises:
        PlanError: that, or a campaign for another provider.
    """
    where = f"campaign {campaign.id}"
    if campaign.provider != NAME:
        raise PlanError(f"{where}: provider: it is not planned for {NAME}")
    if campaign.mechanism is not Mechanism.PROVIDER and halves.tracked:
        raise PlanError(f"{where}: mechanism {campaign.mechanism}: SendGrid's own pixel stays off for all recipients")
    if campaign.asks and halves.tracked:
        raise PlanError(f"{where}: asks: the mail that asks for consent carries no pixel for anybody (§4.2)")


def check_applied(campaign: Campaign, applied: AppliedPlan) -> None:
    """Refuse to release with what was applied for another campaign; raises ProviderError."""
    if applied.campaign != campaign.id or applied.provider != NAME:
        raise ProviderError(NAME, f"campaign {campaign.id}: what was applied is another campaign; apply the plan again")


def _checked(campaign: Campaign, part: Part) -> list[Contact]:
    """The recipients of a part, none of whom is tracked without being able to withdraw (§5)."""
    if part.tracked and (campaign.asks or campaign.mechanism is not Mechanism.PROVIDER):
        raise PlanError(f"campaign {campaign.id}: mechanism {campaign.mechanism}: part {part.name} must not be tracked")
    contacts = [*part.contacts()]
    if len(contacts) > RECIPIENTS_PER_REQUEST:
        raise PlanError(f"campaign {campaign.id}: part {part.name} has more than {RECIPIENTS_PER_REQUEST} recipients")
    needs_link = (c for c in contacts if part.tracked or campaign.asks or _pixel_path(campaign, c))
    if not all(contact.choices_url for contact in needs_link):
        raise PlanError(f"campaign {campaign.id}: a recipient with a pixel has no link to the choices (§5)")
    return contacts


def _named(error: ProviderRefused) -> set[int]:
    """The places of the recipients whose addresses a refusal objects to."""
    if error.status != HTTPStatus.BAD_REQUEST:
        return set()
    return {int(place) for place in _OF_RECIPIENT.findall(str(error))}


def _personalization(campaign: Campaign, contact: Contact) -> dict[str, object]:
    return {
        "to": [{"email": contact.address}],
        "dynamic_template_data": {"choices_url": contact.choices_url, "pixel_path": _pixel_path(campaign, contact)},
        "custom_args": {RECIPIENT_ARG: contact.recipient.hex(), CAMPAIGN_ARG: campaign.id},
    }


def _pixel_path(campaign: Campaign, contact: Contact) -> str:
    """The hosted image that this mail shows: none beside SendGrid's own pixel."""
    return contact.pixel_path if campaign.mechanism is Mechanism.HOSTED else ""


def _steps(campaign: Campaign, halves: Halves) -> tuple[str, ...]:
    template = campaign.content["template_id"]
    on, off = _requests(halves.tracked), _requests(halves.untracked)
    steps = [f"Check that dynamic template {template} stands as it does now, with no pixel out of place."]
    if campaign.mechanism is Mechanism.PROVIDER:
        steps.append(f"Send to {halves.tracked} with SendGrid's open tracking stated on ({on}).")
    steps.append(f"Send to {halves.untracked} with SendGrid's open tracking stated off ({off}).")
    if campaign.mechanism is Mechanism.HOSTED:
        shown = f"{halves.individual} of them an individual and {halves.aggregate} an aggregate one"
        steps.append(f"The template shows the hosted image to {shown}; the others get none.")
    steps.append("Click tracking is stated off in each request.")
    return tuple(steps)


def _requests(recipients: int) -> str:
    number = -(-recipients // RECIPIENTS_PER_REQUEST)
    return f"{number} Mail Send request{'' if number == 1 else 's'} of at most {RECIPIENTS_PER_REQUEST}"


def _limits(campaign: Campaign, tracked_by_default: bool) -> tuple[str, ...]:
    limits = [
        "SendGrid switches open tracking by request or by account, never by recipient: hence two sets of requests.",
        "Single Sends have no such switch, so the campaign goes through Mail Send.",
        f"It stands in SendGrid's statistics under the category {campaign.id}, not under Marketing Campaigns.",
        "An accepted request is not a delivered mail: bounces and drops arrive as callbacks.",
        "An address that SendGrid refuses gets no mail, and is reported.",
        "Mail Send knows no idempotency key: look a request without an answer up in the activity feed.",
    ]
    if campaign.mechanism is Mechanism.PROVIDER:
        limits.append(OLD_MAIL)
    if tracked_by_default:
        limits.append(
            "The account tracks opens unless a request says otherwise. These requests do say so; other mail of this"
            " account may not. Switch it off under Settings, Tracking."
        )
    return tuple(limits)


OLD_MAIL = (
    "SendGrid's own pixel stays in mail already delivered: opens after a withdrawal still reach SendGrid, and are"
    " dropped here unread."
)
"""The limit that each plan with SendGrid's own pixel has (§5)."""
