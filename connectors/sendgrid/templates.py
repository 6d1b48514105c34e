"""Dynamic templates: the version that is sent, what may stand in it, and whether it is still the one that was checked.

Source: SendGrid's API reference, "Transactional Templates". A template's plain text is not looked at: SendGrid makes
it of the html unless told otherwise, and a plain text holds no pixel.
"""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus

import msgspec

from connectors.sendgrid.api import Api
from connectors.sendgrid.settings import NAME
from core.errors import PlanError, ProviderError, ProviderRefused
from core.mail_check import check_campaign, refuse
from core.merge_fields import MergeSyntax
from core.model import Campaign, Halves

_TEMPLATE_ID = re.compile(r"d-[0-9a-f]{32}")


class Version(msgspec.Struct):
    """One version of a template."""

    id: str = ""
    active: int = 0
    subject: str | None = None
    html_content: str | None = None

    @property
    def digest(self) -> str:
        """What is sent: a later edit must not slip in between the check and the sending."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


class _Template(msgspec.Struct):
    id: str
    generation: str
    versions: list[Version] = []


def check_keys(campaign: Campaign, needed: frozenset[str], optional: frozenset[str] = frozenset()) -> None:
    """Refuse a ``content`` with a key too few or too many, or without the id of a dynamic template.

    Raises:
        PlanError: naming the keys.
    """
    where = f"campaign {campaign.id}: content"
    missing, unknown = needed - campaign.content.keys(), campaign.content.keys() - needed - optional
    if missing:
        raise PlanError(f"{where}: {', '.join(sorted(missing))} missing for SendGrid")
    if unknown:
        known = ", ".join(sorted(needed | optional))
        raise PlanError(f"{where}: {', '.join(sorted(unknown))} unknown to SendGrid; known are {known}")
    if not _TEMPLATE_ID.fullmatch(campaign.content["template_id"]):
        raise PlanError(f"{where}.template_id: not the id of a dynamic template (d- and 32 characters)")


def active_version(api: Api, campaign: Campaign) -> Version:
    """The version of ``content.template_id`` that is sent.

    Raises:
        PlanError: the template is of the older kind, or has no active version.
        ProviderError: SendGrid is out of reach, or does not know the template.
    """
    template = _template(api, campaign)
    active = next((version for version in template.versions if version.active == 1), None)
    if template.generation != "dynamic" or active is None:
        raise PlanError(f"campaign {campaign.id}: content.template_id: not a dynamic template with an active version")
    return active


def checked_version(api: Api, campaign: Campaign, halves: Halves, syntax: MergeSyntax) -> Version:
    """The same, refused when its mail may not go with these halves: see ``core.mail_check``.

    Raises:
        PlanError: as above, or a pixel where none may be, or no link to the choices.
        ProviderError: SendGrid is out of reach, or does not know the template.
    """
    version = active_version(api, campaign)
    refuse(campaign, check_campaign(campaign, halves, version.html_content or "", syntax))
    return version


def check_unchanged(api: Api, campaign: Campaign, digest: str | None) -> Version:
    """The version that is sent, refused when it was edited since it was checked.

    Raises:
        ProviderError: it was, or SendGrid is out of reach.
    """
    version = active_version(api, campaign)
    if version.digest != digest:
        where = f"campaign {campaign.id}: content.template_id"
        raise ProviderError(NAME, f"{where}: the template was changed since it was checked; apply the plan again")
    return version


def _template(api: Api, campaign: Campaign) -> _Template:
    template_id, where = campaign.content["template_id"], f"campaign {campaign.id}: content.template_id"
    try:
        template = api.ask("get", f"templates/{template_id}", _Template)
    except ProviderRefused as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        advice = "SendGrid has no such template; copy its id from Dynamic Templates"
        raise ProviderRefused(NAME, f"{where}: {advice}", status=error.status) from error
    if template.id != template_id:
        raise ProviderError(NAME, f"{where}: another template came back")
    return template
