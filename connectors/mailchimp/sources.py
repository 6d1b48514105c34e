"""A campaign that somebody wrote in Mailchimp and that is to be sent in two halves: read, and refused if it cannot be.

Only a saved regular campaign can be copied into two whose open tracking differs.
"""

from __future__ import annotations

from http import HTTPStatus

from connectors.mailchimp.account import Source
from connectors.mailchimp.api import Api
from connectors.mailchimp.plans import Sender
from core.errors import PlanError, ProviderRefused
from core.model import Campaign

REGULAR = "regular"
DRAFT = "save"

_VARIANTS = (
    "an A/B campaign, whose open tracking Mailchimp cannot switch off: save the variant to send as a regular one"
)
_TYPES = {
    "variate": _VARIANTS,
    "absplit": _VARIANTS,
    "rss": "an RSS campaign, which Mailchimp sends by itself to whoever there is: write a regular one for each mailing",
    "plaintext": "a plain-text campaign, which has no pixel and nothing to split: write a regular one",
    "automation": "a mail of an automation, whose open tracking the API cannot switch: write a regular campaign",
    "automation-email": "a mail of an automation, whose open tracking the API cannot switch: write a regular campaign",
}
_STATUSES = {
    "schedule": "it is scheduled: unschedule it in Mailchimp first, or it leaves by itself, to everybody, tracked",
    "paused": "it is paused: stop it in Mailchimp and replicate it there",
}
_LEFT = "it left already: replicate it in Mailchimp, and give the copy's ID"


def read_source(api: Api, campaign: Campaign, source: str, list_id: str) -> Sender:
    """Subject and sender of the saved campaign that is to be copied.

    Raises:
        PlanError: there is none, or it cannot be sent in two halves: why, and what to do.
        ProviderError: out of reach, or an answer is not of the documented form.
    """
    where = f"campaign {campaign.id}: content.campaign_id"
    try:
        found = api.source(source)
    except ProviderRefused as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        raise PlanError(f"{where}: Mailchimp has no such campaign") from None
    if fault := _fault(found, list_id):
        raise PlanError(f"{where}: {fault}")
    return Sender(found.settings.subject_line, found.settings.from_name, found.settings.reply_to)


def _fault(found: Source, list_id: str) -> str | None:
    """Why a campaign cannot be copied, in words."""
    if found.type != REGULAR:
        return f"this is {_TYPES.get(found.type, 'no regular campaign: save a regular one')}"
    if found.status != DRAFT:
        return _STATUSES.get(found.status, _LEFT)
    if found.recipients.list_id != list_id:
        return "it belongs to another audience: choose the audience of providers.mailchimp.list_id for it"
    lacking = [name for name in ("subject_line", "from_name", "reply_to") if not getattr(found.settings, name).strip()]
    return f"it has no {lacking[0]} yet: write it in Mailchimp" if lacking else None
