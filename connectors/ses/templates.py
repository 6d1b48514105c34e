"""Templates at SES: read, tested, and recognised again, so that what is sent is what was checked.

Source: ``GetEmailTemplate`` and ``TestRenderEmailTemplate`` in the Amazon SES API v2 Reference.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus

import msgspec

from connectors.ses.client import Aws, whole
from core.errors import PlanError, ProviderRefused
from core.model import Campaign, Mechanism


@dataclass(frozen=True, slots=True)
class Template:
    """A template as SES has it. ``digest``: the SHA-256 (hex) of its subject, HTML and text."""

    name: str
    html: str = field(repr=False)
    digest: str


class Templates:
    """Reads the templates of campaigns."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def of(self, campaign: Campaign) -> Template:
        """A campaign's template.

        Raises:
            PlanError: SES has none of that name.
            ProviderError: SES is out of reach or refuses.
        """
        ses, name = self._aws.ses, campaign.content["template_name"]

        def get() -> dict[str, str] | None:
            try:
                content = whole(ses.get_email_template(TemplateName=name), "TemplateContent")["TemplateContent"]
            except ses.exceptions.NotFoundException:
                return None
            return {"subject": content.get("Subject", ""), "html": content.get("Html", "")} | (
                {"text": content["Text"]} if content.get("Text") else {}
            )

        content = self._aws.manage(get)
        if content is None:
            raise PlanError(f"{where(campaign)}: SES has no template {name}; create it")
        canonical = msgspec.json.encode(sorted(content.items()))
        return Template(name, content["html"], hashlib.sha256(canonical).hexdigest())

    def check_rendering(self, campaign: Campaign, samples: list[dict[str, str]]) -> None:
        """Have SES render the template with data as they will be sent. Sends nothing.

        SES accepts a message that it cannot render, and never sends it. That the test fails where the sending would
        is unconfirmed.

        Raises:
            PlanError: SES cannot render it.
            ProviderError: SES is out of reach.
        """
        name = campaign.content["template_name"]
        for sample in samples:
            try:
                self._aws.manage(partial(self._render, name, msgspec.json.encode(sample).decode()))
            except ProviderRefused as error:
                if error.status != HTTPStatus.BAD_REQUEST:
                    raise
                raise PlanError(
                    f"{where(campaign)}: SES cannot render {name}: its syntax is wrong, or it names a value other than"
                    f" {' and '.join(sample)}"
                ) from None

    def _render(self, name: str, data: str) -> None:
        self._aws.ses.test_render_email_template(TemplateName=name, TemplateData=data)


def data_of(choices_url: str, pixel_path: str) -> dict[str, str]:
    """What a template is rendered with."""
    return {"choices_url": choices_url, "pixel_path": pixel_path}


def samples(campaign: Campaign) -> list[dict[str, str]]:
    """Data of each shape that a campaign's messages have."""
    paths = ("", "o/sample") if campaign.mechanism is Mechanism.HOSTED else ("",)
    return [data_of("https://choices.example/sample", path) for path in paths]


def where(campaign: Campaign) -> str:
    """The place of the setting, for messages."""
    return f"campaign {campaign.id}: content.template_name"
