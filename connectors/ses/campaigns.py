"""Campaigns: SendBulkEmail with one recipient a message, SES's own pixel switched for each call.

``ConfigurationOverrides.Tracking.OpenTrackingEnabled`` holds for a whole call, whatever the account or the
configuration set says, so a call never mixes the two halves. A consent topic is never passed as
``ListManagementOptions``: SES would then send nothing to those who have not consented.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from connectors.ses.client import Aws, whole
from connectors.ses.configuration_sets import ConfigurationSets
from connectors.ses.release import Release
from connectors.ses.settings import NAME, SesSettings
from connectors.ses.templates import Template, Templates, samples, where
from core.errors import PlanError, ProviderError
from core.mail_check import check_campaign, refuse
from core.merge_fields import HANDLEBARS
from core.model import AppliedPlan, Campaign, Halves, Mechanism, Part, Plan, ReleaseReport
from core.ports import SendJournal

ENTRIES = 50
"""Entries of one SendBulkEmail, at most."""

CONTENT = frozenset({"template_name", "from_email"})
"""The keys of a campaign's ``content``."""

DIGEST = "template_sha256"
"""The handle with the digest of the template that was checked."""


class Campaigns:
    """Plans, sets up and sends campaigns."""

    def __init__(self, aws: Aws, settings: SesSettings) -> None:
        self._aws = aws
        self._settings = settings
        self._templates = Templates(aws)

    def plan(self, campaign: Campaign, halves: Halves) -> Plan:
        """How SES sends both halves. Reads the template and changes nothing.

        Raises:
            PlanError: a key of ``content`` is missing or unknown, the halves do not go with the mechanism, there is no
                such template, or it does not carry what the law asks for.
            ProviderError: SES is out of reach.
        """
        _check_content(campaign)
        if campaign.mechanism is not Mechanism.PROVIDER and halves.tracked:
            raise PlanError(f"campaign {campaign.id}: mechanism {campaign.mechanism}: SES's own pixel is off for all")
        self._checked_template(campaign, halves)
        return Plan(campaign, halves, tuple(self._steps(campaign, halves)), tuple(_limits(campaign)))

    def apply(self, plan: Plan) -> AppliedPlan:
        """Check the template, the account and the configuration sets; make a set that is missing. Sends nothing.

        The untracked set is always wanted: whoever withdraws before the release gets the mail through it.

        Raises:
            PlanError: the template is missing, does not carry what the law asks for, or cannot be rendered.
            ProviderError: something at SES is not as it must be; names the setting.
        """
        before = self._aws.call.calls
        template = self._checked_template(plan.campaign, plan.halves)
        self._templates.check_rendering(plan.campaign, samples(plan.campaign))
        rate = self._send_rate()
        sets = ConfigurationSets(self._aws, self._settings)
        if plan.halves.tracked:
            sets.ensure_tracked()
        sets.ensure_untracked()
        handles = {
            "template": template.name,
            DIGEST: template.digest,
            "configuration_set_tracked": self._settings.configuration_set_tracked,
            "configuration_set_untracked": self._settings.configuration_set_untracked,
            "max_send_rate": str(rate),
        }
        return AppliedPlan(plan.campaign.id, NAME, handles, self._aws.call.calls - before)

    def release(
        self, campaign: Campaign, applied: AppliedPlan, parts: Iterable[Part], journal: SendJournal
    ) -> ReleaseReport:
        """Send the parts, one call each. Counts what SES accepted in this run.

        Raises:
            PlanError: the template was edited since it was checked, or another campaign was applied.
            AmbiguousOutcome: a call left and its answer did not come back.
            ProviderError: SES refused a call or some of its messages, or is out of reach; what was not sent can be
                released again.
        """
        if applied.campaign != campaign.id:
            raise PlanError(f"campaign {campaign.id}: another one was applied; run `campaigns apply` for this one")
        return Release(self._aws, campaign, applied, journal, lambda: self._check_unedited(campaign, applied)).run(
            parts
        )

    def _checked_template(self, campaign: Campaign, halves: Halves) -> Template:
        template = self._templates.of(campaign)
        refuse(campaign, check_campaign(campaign, halves, template.html, HANDLEBARS))
        return template

    def _check_unedited(self, campaign: Campaign, applied: AppliedPlan) -> None:
        if self._templates.of(campaign).digest != applied.handles.get(DIGEST):
            raise PlanError(
                f"{where(campaign)}: the template was edited since it was checked; put it back as it was, or, if"
                " nothing was sent yet, run `campaigns apply` again"
            )

    def _send_rate(self) -> float:
        """Messages a second that the account may send; raises ProviderError when it may send none."""
        account = self._aws.manage(lambda: whole(self._aws.ses.get_account(), "SendingEnabled", "SendQuota"))
        rate = account["SendQuota"].get("MaxSendRate", 0.0)
        if not account["SendingEnabled"] or rate <= 0:
            raise ProviderError(NAME, "sending is paused for the account in providers.ses.region; resume it in SES")
        return rate

    def _steps(self, campaign: Campaign, halves: Halves) -> Iterator[str]:
        template = campaign.content["template_name"]
        yield f"check the template {template}, the account's sending rate and the configuration sets"
        for half, number, pixel in (("tracked", halves.tracked, "on"), ("untracked", halves.untracked, "off")):
            calls = -(-number // ENTRIES)
            through = getattr(self._settings, f"configuration_set_{half}")
            if number:
                yield f"{half}: {number} messages in {calls} calls through {through}, SES's pixel {pixel}"


def _limits(campaign: Campaign) -> Iterator[str]:
    yield "a message that SES refuses for its recipient's sake is reported, not sent again"
    if campaign.mechanism is Mechanism.PROVIDER:
        yield "SES's pixel serves all purposes at once: only who consented to all of them is tracked"
        yield (
            "after a withdrawal the pixel in delivered mail still asks SES, which keeps opens for 60 days; they are"
            " dropped unread here"
        )
        if campaign.aggregate:
            yield "SES has no anonymous pixel: the overall open rate needs mechanism = 'hosted'"


def _check_content(campaign: Campaign) -> None:
    place = f"campaign {campaign.id}: content"
    unknown = sorted(campaign.content.keys() - CONTENT)
    missing = sorted(key for key in CONTENT if not campaign.content.get(key, "").strip())
    if unknown:
        raise PlanError(f"{place}: SES knows no {', '.join(unknown)}; it takes {', '.join(sorted(CONTENT))}")
    if missing:
        raise PlanError(f"{place}.{missing[0]}: missing")
