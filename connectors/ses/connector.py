"""Outbound calls to Amazon SES, S3 and SNS through boto3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.ses.campaigns import Campaigns
from connectors.ses.client import Aws
from connectors.ses.contacts import ContactSegments
from connectors.ses.settings import NAME, SesSettings, topic_regions
from core.errors import ProviderError
from core.model import (
    AppliedPlan,
    Campaign,
    ContactChange,
    EventKind,
    Member,
    Plan,
    ProviderEvent,
    PurposeId,
    ReleaseReport,
    Split,
    SyncReport,
)
from core.ports import SendJournal


class SesConnector:
    """One SES account in one region.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
        purposes: The purposes that the team uses.

    Raises:
        SettingsError: a topic in ``topic_arns`` is not an SNS topic's ARN.
    """

    def __init__(self, aws: Aws, settings: SesSettings, purposes: Sequence[PurposeId]) -> None:
        self._aws = aws
        self._regions = topic_regions(settings)
        self._segments = ContactSegments(aws, settings, purposes)
        self._campaigns = Campaigns(aws, settings)

    def sync(self, changes: Sequence[ContactChange]) -> SyncReport:
        """Write the contacts and their consent topics, removals first, and read back what SES has of them.

        Raises:
            ProviderError: SES is out of reach, refuses, or its one list has no room for the topics.
        """
        return self._segments.sync(changes)

    def read_back(self) -> Iterator[Member]:
        """Every contact in a consent topic, as SES has it; raises ProviderError when SES is out of reach."""
        return self._segments.read_back()

    def plan(self, campaign: Campaign, split: Split) -> Plan:
        """How SES would send both halves; raises PlanError for what it cannot. Asks SES nothing."""
        return self._campaigns.plan(campaign, split)

    def apply(self, plan: Plan) -> AppliedPlan:
        """Check all that the campaign needs at SES, and make a missing configuration set where that is safe.

        Raises:
            PlanError: the template does not carry what the law asks for.
            ProviderError: something at SES is not as it must be, or SES is out of reach.
        """
        return self._campaigns.apply(plan)

    def release(self, plan: Plan, applied: AppliedPlan, journal: SendJournal) -> ReleaseReport:
        """Send both halves; parts that the journal has as done are skipped and not counted.

        Raises:
            PlanError: the recipients changed since the plan was applied.
            AmbiguousOutcome: a part may or may not have been sent.
            ProviderError: SES refused a part, or is out of reach.
        """
        return self._campaigns.release(plan, applied, journal)

    def confirm_subscription(self, event: ProviderEvent) -> None:
        """Confirm a subscription of an allowed topic by an authenticated call; no URL of the message is requested.

        Raises:
            ProviderError: not a confirmation of a topic in ``providers.ses.topic_arns``, or SNS refuses its token.
        """
        arn, token = event.raw.get("TopicArn"), event.raw.get("Token")
        region = self._regions.get(arn) if isinstance(arn, str) else None
        if event.kind is not EventKind.CONFIRMATION or region is None or not isinstance(token, str):
            raise ProviderError(NAME, "not the confirmation of a topic in providers.ses.topic_arns; nothing confirmed")
        sns = self._aws.sns(region)
        self._aws.call(
            lambda: sns.confirm_subscription(TopicArn=str(arn), Token=token, AuthenticateOnUnsubscribe="true")
        )
