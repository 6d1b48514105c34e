"""One campaign through Mail Send: its plan in words, the checks before it leaves, and the requests that send it.

Source: SendGrid's API reference, "Mail Send" and "Transactional Templates". Mail Send is the one way of sending for
which SendGrid documents a switch for open tracking: it holds for a request, so the two parts are separate requests.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus

import msgspec

from connectors.sendgrid.api import Api
from connectors.sendgrid.contacts import batched
from connectors.sendgrid.settings import CAMPAIGN_ARG, NAME, RECIPIENT_ARG, SendGridSettings
from core.errors import AmbiguousOutcome, PlanError, ProviderError, ProviderRefused
from core.model import AppliedPlan, Campaign, Contact, Mechanism, Plan, ReleaseReport, Split
from core.ports import SendJournal

CONTENT_KEYS = frozenset({"template_id", "from_email", "from_name"})
"""The keys of a campaign's ``content``: a dynamic template's id (``d-…``) and the sender."""

RECIPIENTS_PER_REQUEST = 1_000
"""Mail Send takes 1,000 personalizations a request."""


class _Version(msgspec.Struct):
    id: str = ""
    active: int = 0
    subject: str | None = None
    html_content: str | None = None


class _Template(msgspec.Struct):
    id: str
    generation: str
    versions: list[_Version] = []

    @property
    def active(self) -> _Version | None:
        """The version that is sent."""
        return next((version for version in self.versions if version.active == 1), None)


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

    def plan(self, campaign: Campaign, split: Split) -> Plan:
        """How both parts would be sent. Reads the template and the account's default, changes nothing.

        Raises:
            PlanError: a wrong key of ``content``, a split that the mechanism does not allow, or a template without
                the link to the choices.
            ProviderError: SendGrid is out of reach or does not know the template.
        """
        _check_content(campaign)
        _check_split(campaign, split)
        template = self._template(campaign)
        fault = _fault(campaign, split, template)
        if fault:
            raise PlanError(fault)
        return Plan(campaign, split, _steps(campaign, split), _limits(campaign, self._tracked_by_default()))

    def apply(self, plan: Plan) -> AppliedPlan:
        """Check what stands at SendGrid; Mail Send needs nothing set up, so nothing is changed.

        Raises:
            ProviderError: the template, the unsubscribe group or the account's settings are not as the plan needs
                them, or cannot be read.
        """
        before = self._api.calls
        template = self._template(plan.campaign)
        fault = _fault(plan.campaign, plan.split, template)
        if fault:
            raise ProviderError(NAME, fault)
        self._check_group()
        handles = {
            "template_id": template.id,
            "template_version": template.active.id if template.active else "",
            "template_digest": _digest(template),
            "account_open_tracking": "on" if self._tracked_by_default() else "off",
        }
        return AppliedPlan(plan.campaign.id, NAME, handles, self._api.calls - before)

    def release(self, plan: Plan, applied: AppliedPlan, journal: SendJournal) -> ReleaseReport:
        """Send both parts, 1,000 recipients a request. Counts what SendGrid accepted in this run.

        Raises:
            ProviderError: the template is no longer the one that was checked, or SendGrid is out of reach or refused.
            AmbiguousOutcome: a request may or may not have been accepted.
        """
        before = self._api.calls
        self._unchanged(plan, applied)
        tracked = self._send("tracked", plan, plan.split.tracked, journal)
        untracked = self._send("untracked", plan, plan.split.untracked, journal)
        return ReleaseReport(tracked, untracked, self._api.calls - before)

    def _unchanged(self, plan: Plan, applied: AppliedPlan) -> None:
        template = self._template(plan.campaign)
        if applied.campaign != plan.campaign.id or applied.handles.get("template_digest") != _digest(template):
            where = f"campaign {plan.campaign.id}: content.template_id"
            raise ProviderError(NAME, f"{where}: the template was changed since it was checked; apply the plan again")

    def _send(self, part: str, plan: Plan, contacts: Iterable[Contact], journal: SendJournal) -> int:
        """Send one part; its requests are journalled as ``tracked-1``, ``tracked-2``, … in the order of recipients."""
        sent = 0
        ordered = sorted(contacts, key=lambda contact: contact.recipient)
        for number, batch in enumerate(batched(ordered, RECIPIENTS_PER_REQUEST), start=1):
            name = f"{part}-{number}"
            if journal.begin(name):
                self._hand_in(name, self._mail(plan.campaign, batch, tracked=part == "tracked"), journal)
                sent += len(batch)
        return sent

    def _hand_in(self, name: str, mail: dict[str, object], journal: SendJournal) -> None:
        try:
            self._api.send(mail)
        except AmbiguousOutcome:
            raise  # the journal goes on saying that it began
        except ProviderError:
            journal.failed(name)
            raise
        journal.done(name)

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

    def _template(self, campaign: Campaign) -> _Template:
        template_id = campaign.content["template_id"]
        try:
            template = self._api.ask("get", f"templates/{template_id}", _Template)
        except ProviderRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            raise ProviderRefused(
                NAME,
                f"campaign {campaign.id}: content.template_id: SendGrid has no such template; copy its id from"
                " Dynamic Templates",
                status=error.status,
            ) from error
        if template.id != template_id:
            raise ProviderError(NAME, f"campaign {campaign.id}: content.template_id: another template came back")
        return template

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


def _personalization(campaign: Campaign, contact: Contact) -> dict[str, object]:
    return {
        "to": [{"email": contact.address}],
        "dynamic_template_data": {"choices_url": contact.choices_url, "pixel_path": _pixel_path(campaign, contact)},
        "custom_args": {RECIPIENT_ARG: contact.recipient.hex(), CAMPAIGN_ARG: campaign.id},
    }


def _pixel_path(campaign: Campaign, contact: Contact) -> str:
    """The hosted image that this mail shows: none beside SendGrid's own pixel."""
    return contact.pixel_path if campaign.mechanism is Mechanism.HOSTED else ""


def _check_content(campaign: Campaign) -> None:
    where = f"campaign {campaign.id}: content"
    missing, unknown = CONTENT_KEYS - campaign.content.keys(), campaign.content.keys() - CONTENT_KEYS
    if missing:
        raise PlanError(f"{where}: {', '.join(sorted(missing))} missing for SendGrid")
    if unknown:
        known = ", ".join(sorted(CONTENT_KEYS))
        raise PlanError(f"{where}: {', '.join(sorted(unknown))} unknown to SendGrid; known are {known}")
    if not re.fullmatch(r"d-[0-9a-f]{32}", campaign.content["template_id"]):
        raise PlanError(f"{where}.template_id: not the id of a dynamic template (d- and 32 characters)")
    if "@" not in campaign.content["from_email"]:
        raise PlanError(f"{where}.from_email: not an address")


def _check_split(campaign: Campaign, split: Split) -> None:
    where = f"campaign {campaign.id}"
    if campaign.provider != NAME:
        raise PlanError(f"{where}: provider: it is not planned for {NAME}")
    if campaign.mechanism is not Mechanism.PROVIDER and split.tracked:
        raise PlanError(f"{where}: mechanism {campaign.mechanism}: SendGrid's own pixel stays off for all recipients")
    everybody = [contact.recipient for contact in (*split.tracked, *split.untracked)]
    if len(set(everybody)) != len(everybody):
        raise PlanError(f"{where}: a recipient stands in both parts, or twice in one")
    if not all(contact.choices_url for contact in _individually_tracked(campaign, split)):
        raise PlanError(f"{where}: a recipient with a pixel has no link to the choices; run the sync first")


def _individually_tracked(campaign: Campaign, split: Split) -> list[Contact]:
    """Those whose mail must carry the link to the choices. A hosted image may be an individual one."""
    return [*split.tracked, *(contact for contact in split.untracked if _pixel_path(campaign, contact))]


def _fault(campaign: Campaign, split: Split, template: _Template) -> str:
    """Why the template cannot carry this campaign; empty when it can."""
    where = f"campaign {campaign.id}: content.template_id"
    if template.generation != "dynamic" or template.active is None:
        return f"{where}: not a dynamic template with an active version"
    html = template.active.html_content or ""
    if _individually_tracked(campaign, split) and not _shows("choices_url", html):
        return f"{where}: the template has no link {{{{choices_url}}}}, which each mail with a pixel must carry (§5)"
    if any(_pixel_path(campaign, contact) for contact in split.untracked) and not _shows("pixel_path", html):
        return f"{where}: the template has no image with {{{{pixel_path}}}}, so that nothing would be measured"
    return ""


def _shows(field: str, html: str) -> bool:
    return re.search(r"\{\{\{?\s*" + field + r"\s*\}\}", html) is not None


def _digest(template: _Template) -> str:
    """What is sent: a later edit of the template must not slip in between the check and the sending."""
    return hashlib.sha256(msgspec.json.encode(template.active)).hexdigest()


def _steps(campaign: Campaign, split: Split) -> tuple[str, ...]:
    template = campaign.content["template_id"]
    on = _requests(len(split.tracked))
    off = _requests(len(split.untracked))
    steps = [f"Check that dynamic template {template} stands as it does now, and that it carries the choices link."]
    if campaign.mechanism is Mechanism.PROVIDER:
        steps.append(f"Send to {len(split.tracked)} with SendGrid's open tracking stated on ({on}).")
    steps.append(f"Send to {len(split.untracked)} with SendGrid's open tracking stated off ({off}).")
    if campaign.mechanism is Mechanism.HOSTED:
        shown = sum(bool(contact.pixel_path) for contact in split.untracked)
        steps.append(f"The template shows the hosted image to {shown} of them; the others get none.")
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
        "Mail Send knows no idempotency key: look a request without an answer up in the activity feed.",
    ]
    if campaign.mechanism is Mechanism.PROVIDER:
        limits.append(
            "SendGrid's own pixel stays in mail already delivered: opens after a withdrawal still reach SendGrid, and"
            " are dropped here unread."
        )
    if tracked_by_default:
        limits.append(
            "The account tracks opens unless a request says otherwise. These requests do say so; other mail of this"
            " account may not. Switch it off under Settings, Tracking."
        )
    return tuple(limits)
