"""Campaigns: SendBulkEmail with one recipient a message, SES's own pixel switched for each call.

``ConfigurationOverrides.Tracking.OpenTrackingEnabled`` holds for a whole call, whatever the account or the
configuration set says, so a call never mixes the two halves. A consent topic is never passed as
``ListManagementOptions``: SES would then send nothing to those who have not consented.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from connectors.ses.client import Aws, Pace, whole
from connectors.ses.configuration_sets import ConfigurationSets
from connectors.ses.settings import CAMPAIGN_TAG, NAME, RECIPIENT_TAG, SesSettings
from core.errors import AmbiguousOutcome, PlanError, ProviderError
from core.model import AppliedPlan, Campaign, Contact, Mechanism, Plan, ReleaseReport, Split
from core.ports import SendJournal

if TYPE_CHECKING:
    from mypy_boto3_sesv2.type_defs import (
        BulkEmailEntryResultTypeDef,
        BulkEmailEntryTypeDef,
        SendBulkEmailRequestTypeDef,
    )

ENTRIES = 50
"""Entries of one SendBulkEmail, at most."""

CONTENT = frozenset({"template_name", "from_email"})
"""The keys of a campaign's ``content``."""

ACCOUNT_WIDE = frozenset(
    {
        "MAIL_FROM_DOMAIN_NOT_VERIFIED",
        "CONFIGURATION_SET_NOT_FOUND",
        "CONFIGURATION_SET_SENDING_PAUSED",
        "TEMPLATE_NOT_FOUND",
        "ACCOUNT_SUSPENDED",
        "ACCOUNT_SENDING_PAUSED",
        "ACCOUNT_THROTTLED",
        "ACCOUNT_DAILY_QUOTA_EXCEEDED",
        "INVALID_SENDING_POOL_NAME",
        "TRANSIENT_FAILURE",
    }
)
"""Statuses of an entry that say nothing about its recipient: when a whole call has no other, going on is no use."""

_CHOICES = re.compile(r"\{\{\{?\s*choices_url\s*\}?\}\}")
_PIXEL = re.compile(r"\{\{\{?\s*pixel_path\s*\}?\}\}")


@dataclass(frozen=True, slots=True)
class _Half:
    """One half of a campaign: who gets it, and with what SES is told."""

    name: Literal["tracked", "untracked"]
    contacts: tuple[Contact, ...]

    def parts(self) -> Iterator[tuple[str, Sequence[Contact]]]:
        """The calls that send it, each with a name that is the same in every run over the same recipients."""
        for number, start in enumerate(range(0, len(self.contacts), ENTRIES), 1):
            yield f"{self.name}-{number:06d}", self.contacts[start : start + ENTRIES]


class Campaigns:
    """Plans, sets up and sends campaigns."""

    def __init__(self, aws: Aws, settings: SesSettings) -> None:
        self._aws = aws
        self._settings = settings

    def plan(self, campaign: Campaign, split: Split) -> Plan:
        """How SES sends both halves. Asks SES nothing.

        Raises:
            PlanError: a key of ``content`` is missing or unknown, or the split does not go with the mechanism.
        """
        _check_content(campaign)
        if campaign.mechanism is not Mechanism.PROVIDER and split.tracked:
            raise PlanError(f"campaign {campaign.id}: mechanism {campaign.mechanism}: SES's own pixel is off for all")
        return Plan(campaign, split, tuple(self._steps(campaign, split)), tuple(_limits(campaign)))

    def apply(self, plan: Plan) -> AppliedPlan:
        """Check the template, the account and the configuration sets; make a set that is missing. Sends nothing.

        Raises:
            PlanError: the template lacks the link to the choices, or the place of the hosted pixel.
            ProviderError: something at SES is not as it must be; names the setting.
        """
        before = self._aws.call.calls
        self._check_template(plan)
        rate = self._send_rate()
        sets = ConfigurationSets(self._aws, self._settings)
        if plan.split.tracked:
            sets.ensure_tracked()
        if plan.split.untracked:
            sets.ensure_untracked()
        handles = {
            "template": plan.campaign.content["template_name"],
            "configuration_set_tracked": self._settings.configuration_set_tracked,
            "configuration_set_untracked": self._settings.configuration_set_untracked,
            "max_send_rate": str(rate),
            "recipients": _digest(plan.split),
        }
        return AppliedPlan(plan.campaign.id, NAME, handles, self._aws.call.calls - before)

    def release(self, plan: Plan, applied: AppliedPlan, journal: SendJournal) -> ReleaseReport:
        """Send both halves, 50 messages a call. Counts what SES accepted in this run.

        Raises:
            PlanError: the recipients are not those that the plan was applied for: parts would not mean the same.
            AmbiguousOutcome: a call left and its answer did not come back.
            ProviderError: SES refused a call as a whole, or is out of reach; what was not sent can be released again.
        """
        if applied.campaign != plan.campaign.id or applied.handles.get("recipients") != _digest(plan.split):
            raise PlanError(
                f"campaign {plan.campaign.id}: its recipients changed since it was applied; run `campaigns apply` again"
            )
        before = self._aws.call.calls
        pace = Pace(float(applied.handles["max_send_rate"]), self._aws.sleep)
        accepted = {}
        for half in (_Half("tracked", plan.split.tracked), _Half("untracked", plan.split.untracked)):
            accepted[half.name] = 0
            for part, contacts in half.parts():
                pace.wait()
                if journal.begin(part):
                    pace.note(len(contacts))
                    request = _request(plan.campaign, applied, half, contacts)
                    accepted[half.name] += self._send(part, request, journal)
        return ReleaseReport(accepted["tracked"], accepted["untracked"], self._aws.call.calls - before)

    def _send(self, part: str, request: SendBulkEmailRequestTypeDef, journal: SendJournal) -> int:
        """Send one call; answers how many of its messages SES accepted."""
        try:
            results = self._aws.call(lambda: self._bulk(request), repeatable=False)
        except AmbiguousOutcome:
            raise
        except ProviderError:
            journal.failed(part)
            raise
        if len(results) != len(request["BulkEmailEntries"]):
            raise AmbiguousOutcome(NAME, "SES took a call without saying what became of each message")
        statuses = {result.get("Status", "") for result in results}
        if statuses <= ACCOUNT_WIDE:
            journal.failed(part)
            raise ProviderError(NAME, f"SES accepted no message of a call: {', '.join(sorted(statuses))}")
        journal.done(part)
        return sum(result.get("Status") == "SUCCESS" for result in results)

    def _bulk(self, request: SendBulkEmailRequestTypeDef) -> list[BulkEmailEntryResultTypeDef]:
        return whole(self._aws.ses.send_bulk_email(**request), "BulkEmailEntryResults")["BulkEmailEntryResults"]

    def _check_template(self, plan: Plan) -> None:
        ses, name = self._aws.ses, plan.campaign.content["template_name"]

        def get() -> str | None:
            try:
                return whole(ses.get_email_template(TemplateName=name), "TemplateContent")["TemplateContent"].get(
                    "Html", ""
                )
            except ses.exceptions.NotFoundException:
                return None

        html, where = self._aws.manage(get), f"campaign {plan.campaign.id}: content.template_name"
        if html is None:
            raise ProviderError(NAME, f"{where}: SES has no template {name}; create it")
        hosted = plan.campaign.mechanism is Mechanism.HOSTED
        if hosted and not _PIXEL.search(html):
            raise PlanError(
                f"{where}: {name} has no image at {{{{pixel_path}}}}; add one between {{{{#if pixel_path}}}} and"
                " {{/if}}"
            )
        if _tracks(plan) and not _CHOICES.search(html):
            raise PlanError(f"{where}: {name} carries a pixel but no link to {{{{choices_url}}}}; add it (§5)")

    def _send_rate(self) -> float:
        """Messages a second that the account may send; raises ProviderError when it may send none."""
        account = self._aws.manage(lambda: whole(self._aws.ses.get_account(), "SendingEnabled", "SendQuota"))
        rate = account["SendQuota"].get("MaxSendRate", 0.0)
        if not account["SendingEnabled"] or rate <= 0:
            raise ProviderError(NAME, "sending is paused for the account in providers.ses.region; resume it in SES")
        return rate

    def _steps(self, campaign: Campaign, split: Split) -> Iterator[str]:
        template = campaign.content["template_name"]
        yield f"check the template {template}, the account's sending rate and the configuration sets"
        for half, contacts, pixel in (("tracked", split.tracked, "on"), ("untracked", split.untracked, "off")):
            calls = -(-len(contacts) // ENTRIES)
            through = getattr(self._settings, f"configuration_set_{half}")
            if contacts:
                yield f"{half}: {len(contacts)} messages in {calls} calls through {through}, SES's pixel {pixel}"


def _limits(campaign: Campaign) -> Iterator[str]:
    yield "what SES does not accept of a call is counted, not sent again"
    if campaign.mechanism is Mechanism.PROVIDER:
        yield "SES's pixel serves all purposes at once: only who consented to all of them is tracked"
        yield (
            "after a withdrawal the pixel in delivered mail still asks SES, which keeps opens for 60 days; they are"
            " dropped unread here"
        )
        if campaign.aggregate:
            yield "SES has no anonymous pixel: the overall open rate needs mechanism = 'hosted'"


def _tracks(plan: Plan) -> bool:
    """Whether any mail carries an individual pixel, SES's own or the hosted one."""
    hosted = plan.split.untracked if plan.campaign.mechanism is Mechanism.HOSTED else ()
    return bool(plan.split.tracked) or any(contact.pixel_path.startswith("o/") for contact in hosted)


def _request(
    campaign: Campaign, applied: AppliedPlan, half: _Half, contacts: Sequence[Contact]
) -> SendBulkEmailRequestTypeDef:
    hosted = campaign.mechanism is Mechanism.HOSTED
    return {
        "FromEmailAddress": campaign.content["from_email"],
        "ConfigurationSetName": applied.handles[f"configuration_set_{half.name}"],
        "ConfigurationOverrides": {
            "Tracking": {"OpenTrackingEnabled": "ENABLED" if half.name == "tracked" else "DISABLED"}
        },
        "DefaultContent": {"Template": {"TemplateName": applied.handles["template"], "TemplateData": "{}"}},
        "BulkEmailEntries": [_entry(campaign, contact, contact.pixel_path if hosted else "") for contact in contacts],
    }


def _entry(campaign: Campaign, contact: Contact, pixel_path: str) -> BulkEmailEntryTypeDef:
    """One message. Both tags stand in the entry: whether default tags survive an entry's own is unconfirmed."""
    data = {"choices_url": contact.choices_url, "pixel_path": pixel_path}
    return {
        "Destination": {"ToAddresses": [contact.address]},
        "ReplacementTags": [
            {"Name": RECIPIENT_TAG, "Value": contact.recipient.hex()},
            {"Name": CAMPAIGN_TAG, "Value": campaign.id},
        ],
        "ReplacementEmailContent": {
            "ReplacementTemplate": {"ReplacementTemplateData": msgspec.json.encode(data).decode()}
        },
    }


def _check_content(campaign: Campaign) -> None:
    where = f"campaign {campaign.id}: content"
    unknown = sorted(campaign.content.keys() - CONTENT)
    missing = sorted(key for key in CONTENT if not campaign.content.get(key, "").strip())
    if unknown:
        raise PlanError(f"{where}: SES knows no {', '.join(unknown)}; it takes {', '.join(sorted(CONTENT))}")
    if missing:
        raise PlanError(f"{where}.{missing[0]}: missing")


def _digest(split: Split) -> str:
    """Who is in which half, in order."""
    digest = hashlib.sha256()
    for half in (split.tracked, split.untracked):
        digest.update(len(half).to_bytes(8, "big"))
        for contact in half:
            digest.update(contact.recipient)
    return digest.hexdigest()
