"""How Mailchimp would send a campaign, in words for the person who approves it; changes nothing and asks nobody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from connectors.mailchimp.audience import CHOICES, PIXEL, member_hash
from connectors.mailchimp.settings import NAME
from core.addresses import normalise
from core.errors import AddressError, PlanError
from core.model import Campaign, Mechanism, Plan, Split

_KEYS = frozenset({"template_id", "subject", "from_name", "reply_to"})

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
_AGGREGATE_LIMIT = "Mailchimp has no aggregate pixel: the opens of the untracked half are not counted at all."


@dataclass(frozen=True, slots=True)
class Content:
    """A campaign's ``content``, checked."""

    template: int
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


def content_of(campaign: Campaign) -> Content:
    """Read ``campaign.content``; raises PlanError naming the missing, unknown or malformed key."""
    content, where = campaign.content, f"campaign {campaign.id}: content"
    if unknown := sorted(content.keys() - _KEYS):
        raise PlanError(f"{where}.{unknown[0]}: Mailchimp takes {', '.join(sorted(_KEYS))} only")
    for key in sorted(_KEYS):
        if not content.get(key, "").strip():
            raise PlanError(f"{where}.{key}: missing")
    template = content["template_id"].strip()
    if not (template.isascii() and template.isdigit() and int(template)):
        raise PlanError(f"{where}.template_id: give the number of a template in Mailchimp")
    try:
        normalise(content["reply_to"])
    except AddressError:
        raise PlanError(f"{where}.reply_to: not an e-mail address") from None
    return Content(int(template), content["subject"], content["from_name"], content["reply_to"].strip())


def plan(campaign: Campaign, split: Split) -> Plan:
    """The steps and limits of a campaign at Mailchimp.

    Raises:
        PlanError: another provider's campaign, a wrong ``content``, nobody to send it to, somebody in both halves,
            or recipients to be tracked by Mailchimp where the campaign says that Mailchimp's pixel is off.
    """
    where = f"campaign {campaign.id}"
    if campaign.provider != NAME:
        raise PlanError(f"{where}: provider: this is not a campaign for Mailchimp")
    content_of(campaign)
    if not split.tracked and not split.untracked:
        raise PlanError(f"{where}: nobody to send it to")
    if split.tracked and campaign.mechanism is not Mechanism.PROVIDER:
        raise PlanError(f"{where}: mechanism: {campaign.mechanism} leaves Mailchimp's own pixel off for everybody")
    if {member_hash(c.address) for c in split.tracked} & {member_hash(c.address) for c in split.untracked}:
        raise PlanError(f"{where}: somebody is in the tracked and in the untracked half")
    return Plan(campaign, split, tuple(_steps(campaign, split)), tuple(_limits(campaign)))


def check_mail(campaign: Campaign, html: str, *, tracked: bool) -> None:
    """Refuse a mail that may not go, or not work, with its pixel: raises PlanError naming the merge tag.

    An individual pixel needs the choices link in the same mail (§5); a hosted pixel needs its path.
    """
    where = f"campaign {campaign.id}: content.template_id"
    hosted = campaign.mechanism is Mechanism.HOSTED
    if (tracked or (hosted and campaign.purposes)) and CHOICES not in html:
        raise PlanError(
            f"{where}: a mail with an individual pixel must carry the choices link: put *|{CHOICES}|* in the template"
        )
    if hosted and PIXEL not in html:
        raise PlanError(f"{where}: the template shows no hosted pixel: put *|IF:{PIXEL}|* … *|END:IF|* in it")


def _steps(campaign: Campaign, split: Split) -> Iterator[str]:
    everybody = len(split.tracked) + len(split.untracked)
    yield f"Freeze the {everybody} recipients in a static segment made for this campaign."
    if split.tracked:
        yield f"Freeze the {len(split.tracked)} of them who may be tracked in a second one."
        yield f"Set up a campaign for these {len(split.tracked)}, with Mailchimp's open tracking on."
    if split.untracked:
        which = "the other" if split.tracked else "these"
        yield f"Set up a campaign for {which} {len(split.untracked)}, with Mailchimp's open tracking off."
    if campaign.mechanism is Mechanism.HOSTED:
        yield f"Write each recipient's pixel path (*|{PIXEL}|*, empty for no pixel) to the audience, and read it back."
    yield "Read both back: open tracking, segments, number of recipients, the choices link in the mail."
    yield "Send, after the same checks once more."


def _limits(campaign: Campaign) -> Iterator[str]:
    yield from _LIMITS
    if campaign.mechanism is Mechanism.PROVIDER:
        yield from _PROVIDER_LIMITS
        if campaign.aggregate:
            yield _AGGREGATE_LIMIT
