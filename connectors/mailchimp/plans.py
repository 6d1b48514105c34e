"""How Mailchimp would send a campaign, in words for the person who approves it; changes nothing and asks nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from connectors.mailchimp.audience import PIXEL
from connectors.mailchimp.settings import NAME
from core.addresses import normalise
from core.errors import AddressError, PlanError
from core.mail_check import check_campaign, refuse
from core.merge_fields import MAILCHIMP
from core.model import Campaign, Halves, Mechanism, Plan

TRACKED, UNTRACKED = "tracked", "untracked"
HALVES = (TRACKED, UNTRACKED)
"""The parts of a release, by which the send journal knows them."""

_SENDER_KEYS = frozenset({"subject", "from_name", "reply_to"})
_TEMPLATE_KEYS = _SENDER_KEYS | {"template_id"}
_SOURCE = "campaign_id"
_SOURCE_ID = re.compile(r"[A-Za-z0-9]{1,64}")

_LIMITS = (
    "Neither of the two segments may be changed between the two sends, or somebody gets the mail twice or not at all.",
    "Automations, journeys and A/B campaigns are not covered: the API cannot switch their open tracking off.",
    "Click tracking is left as the account has it. Mailchimp may count a click as an open (unconfirmed).",
    "Recipients who left the audience or whose address was cleaned get no mail from Mailchimp, in either half.",
)
_PROVIDER_LIMITS = (
    "Mailchimp reports no opens by webhook: they are polled from the tracked campaign's report.",
    "Mailchimp's reports show the untracked recipients as people who did not open: do not use 'resend to non-openers'.",
    "Mailchimp's pixel stays in mail that was delivered: opens after a withdrawal are dropped here, unread.",
)
_TEMPLATE_LIMIT = (
    "The template's mail is checked for pixels and for the choices link when it is applied: Mailchimp shows how it"
    " fills a campaign only once there is a draft."
)
_SOURCE_LIMIT = (
    "The saved campaign itself stays a draft in Mailchimp: switch its open tracking off there, and do not send it."
)
_AGGREGATE_LIMIT = "Mailchimp has no aggregate pixel: the opens of the untracked half are not counted at all."


@dataclass(frozen=True, slots=True)
class Sender:
    """A campaign's subject and sender."""

    subject: str
    from_name: str
    reply_to: str

    def settings(self, title: str) -> dict[str, str]:
        """By Mailchimp's names."""
        return {
            "title": title,
            "subject_line": self.subject,
            "from_name": self.from_name,
            "reply_to": self.reply_to,
        }


@dataclass(frozen=True, slots=True)
class FromTemplate:
    """A mail that a template fills; the campaign says subject and sender."""

    template: int
    sender: Sender


@dataclass(frozen=True, slots=True)
class FromCampaign:
    """A mail that was written as a campaign in Mailchimp, with its subject and sender; it is copied."""

    campaign: str


def content_of(campaign: Campaign) -> FromTemplate | FromCampaign:
    """Read ``campaign.content``: either ``campaign_id`` alone, or ``template_id`` with subject and sender.

    Raises PlanError naming the missing, unknown, malformed or surplus key.
    """
    content, where = campaign.content, f"campaign {campaign.id}: content"
    if unknown := sorted(content.keys() - _TEMPLATE_KEYS - {_SOURCE}):
        known = ", ".join(sorted(_TEMPLATE_KEYS))
        raise PlanError(f"{where}.{unknown[0]}: Mailchimp takes {known} or {_SOURCE} only")
    if _SOURCE not in content:
        return _from_template(campaign)
    if surplus := sorted(content.keys() - {_SOURCE}):
        raise PlanError(
            f"{where}.{surplus[0]}: leave it out, or leave out {_SOURCE}: the saved campaign brings its content,"
            " subject and sender along"
        )
    if not _SOURCE_ID.fullmatch(content[_SOURCE].strip()):
        raise PlanError(f"{where}.{_SOURCE}: give the ID of a saved campaign, as the API names it (10 characters)")
    return FromCampaign(content[_SOURCE].strip())


def _from_template(campaign: Campaign) -> FromTemplate:
    content, where = campaign.content, f"campaign {campaign.id}: content"
    for key in sorted(_TEMPLATE_KEYS):
        if not content.get(key, "").strip():
            raise PlanError(f"{where}.{key}: missing")
    template = content["template_id"].strip()
    if not (template.isascii() and template.isdigit() and int(template)):
        raise PlanError(f"{where}.template_id: give the number of a template in Mailchimp")
    try:
        normalise(content["reply_to"])
    except AddressError:
        raise PlanError(f"{where}.reply_to: not an e-mail address") from None
    return FromTemplate(int(template), Sender(content["subject"], content["from_name"], content["reply_to"].strip()))


def plan(campaign: Campaign, halves: Halves) -> Plan:
    """The steps and limits of a campaign at Mailchimp.

    Raises:
        PlanError: another provider's campaign, a wrong ``content``, nobody to send it to, or recipients to be tracked
            by Mailchimp where the campaign says that Mailchimp's pixel is off.
    """
    where = f"campaign {campaign.id}"
    if campaign.provider != NAME:
        raise PlanError(f"{where}: provider: this is not a campaign for Mailchimp")
    content = content_of(campaign)
    if not halves.recipients:
        raise PlanError(f"{where}: nobody to send it to")
    if halves.tracked and campaign.mechanism is not Mechanism.PROVIDER:
        raise PlanError(f"{where}: mechanism: {campaign.mechanism} leaves Mailchimp's own pixel off for everybody")
    steps = tuple(_steps(campaign, halves, content))
    return Plan(campaign, halves, steps, tuple(_limits(campaign, content)))


def check_mail(campaign: Campaign, halves: Halves, html: str) -> None:
    """Refuse a mail that may not go, or not work, with its pixel; raises PlanError naming what and where.

    Both halves get the same mail, so what one of them must or must not have holds for both.
    """
    refuse(campaign, check_campaign(campaign, halves, html, MAILCHIMP))


def _steps(campaign: Campaign, halves: Halves, content: FromTemplate | FromCampaign) -> Iterator[str]:
    yield f"Freeze the {halves.recipients} recipients in a static segment made for this campaign."
    if halves.tracked:
        yield f"Freeze the {halves.tracked} of them who may be tracked in a second one."
    made = "Set up a campaign" if isinstance(content, FromTemplate) else "Copy the saved campaign"
    if halves.tracked:
        yield f"{made} for these {halves.tracked}, with Mailchimp's open tracking on."
    if halves.untracked:
        which = "the other" if halves.tracked else "these"
        yield f"{made} for {which} {halves.untracked}, with Mailchimp's open tracking off."
    if campaign.mechanism is Mechanism.HOSTED:
        yield f"Write each recipient's pixel path (*|{PIXEL}|*, empty for no pixel) to the audience, and read it back."
    yield "Read both back: open tracking, segments, number of recipients, the mail's pixels and choices link."
    yield "Send, after the same checks once more."


def _limits(campaign: Campaign, content: FromTemplate | FromCampaign) -> Iterator[str]:
    yield from _LIMITS
    yield _TEMPLATE_LIMIT if isinstance(content, FromTemplate) else _SOURCE_LIMIT
    if campaign.mechanism is Mechanism.PROVIDER:
        yield from _PROVIDER_LIMITS
        if campaign.aggregate:
            yield _AGGREGATE_LIMIT
