"""Outbound calls to Amazon SES, S3, SNS and SQS through boto3."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from connectors.ses.campaigns import ENTRIES, Campaigns
from connectors.ses.client import Aws
from connectors.ses.contacts import ContactSegments
from connectors.ses.inspection import Inspection
from connectors.ses.queue import Queue
from connectors.ses.settings import NAME, SesSettings, queue_name, topic_regions
from connectors.ses.webhooks import Webhooks
from core.account import Erasure, Finding, Installed, Webhook
from core.errors import ProviderError, SettingsError
from core.model import (
    Addressee,
    AppliedPlan,
    Campaign,
    Contact,
    ContactChange,
    EventKind,
    Halves,
    Member,
    Part,
    Plan,
    ProviderEvent,
    PurposeId,
    ReleaseReport,
    SyncReport,
)
from core.ports import SendJournal
from core.queue_ports import QueuedMessage
from core.tally import Tally


class SesConnector:
    """One SES account in one region.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
        purposes: The purposes that the team uses.
        bridged: Whether events of EventBridge are taken over HTTPS.

    Raises:
        SettingsError: a topic in ``topic_arns`` is not an SNS topic's ARN, or ``queue_url`` is not a queue's URL.
    """

    def __init__(
        self, aws: Aws, settings: SesSettings, purposes: Sequence[PurposeId], *, bridged: bool = False
    ) -> None:
        self._aws = aws
        self._regions = topic_regions(settings)
        self._segments = ContactSegments(aws, settings, purposes)
        self._campaigns = Campaigns(aws, settings)
        self._webhooks = Webhooks(aws, settings)
        name = queue_name(settings)
        self._queue = Queue(aws, settings, name) if name else None
        self._inspection = Inspection(aws, settings, bridged=bridged)

    @property
    def calls(self) -> int:
        """HTTP requests so far, retries included."""
        return self._aws.call.calls

    def sync(self, changes: Iterable[ContactChange]) -> Iterator[SyncReport]:
        """Write the contacts and their consent topics, and read back what SES has of them; see ``ContactSegments``.

        Raises:
            ProviderError: SES or S3 is out of reach or refuses, an import job failed, or the list has no room for the
                topics.
        """
        return self._segments.sync(changes)

    def minimum_calls(self, tally: Tally) -> int:
        """The fewest calls that write such changes, without those that read back."""
        return self._segments.minimum_calls(tally)

    def read_back(self) -> Iterator[Member]:
        """Every contact in a consent topic, as SES has it; raises ProviderError when SES is out of reach."""
        return self._segments.read_back()

    def erase(self, contacts: Sequence[Contact]) -> Erasure:
        """Delete contacts from the list for good; addresses on the suppression list stay there (see ``Erasures``).

        Raises:
            ProviderError: SES is out of reach.
        """
        return self._segments.erase(contacts)

    def part_size(self, campaign: Campaign) -> int:  # noqa: ARG002 - the same for every campaign
        """Recipients of one part: the entries of one SendBulkEmail."""
        return ENTRIES

    def plan(self, campaign: Campaign, halves: Halves) -> Plan:
        """How SES would send both halves. Reads the template and changes nothing.

        Raises:
            PlanError: SES cannot, or the template does not carry what the law asks for.
            ProviderError: SES is out of reach.
        """
        return self._campaigns.plan(campaign, halves)

    def apply(self, plan: Plan, addressees: Callable[[], Iterator[Addressee]]) -> AppliedPlan:  # noqa: ARG002 - SES keeps no list of them
        """Check all that the campaign needs at SES, and make a missing configuration set where that is safe.

        Raises:
            PlanError: the template does not carry what the law asks for.
            ProviderError: something at SES is not as it must be, or SES is out of reach.
        """
        return self._campaigns.apply(plan)

    def release(
        self, campaign: Campaign, applied: AppliedPlan, parts: Iterable[Part], journal: SendJournal
    ) -> ReleaseReport:
        """Send the parts; those that the journal has as done are skipped and not counted.

        Raises:
            PlanError: the template was edited since the campaign was applied.
            AmbiguousOutcome: a part may or may not have been sent.
            ProviderError: SES refused a part or some of its messages, or is out of reach.
        """
        return self._campaigns.release(campaign, applied, parts, journal)

    def inspect(self, webhook_url: str, topics: Collection[str]) -> Iterator[Finding]:
        """Every setting at SES, SNS and SQS that would track somebody or lose a withdrawal; see ``Inspection``."""
        return self._inspection.findings(webhook_url, topics)

    def webhooks(self) -> Sequence[Webhook]:
        """What the allowed topics deliver to over HTTP; raises ProviderError when SNS is out of reach."""
        return self._webhooks.all()

    def install_webhook(self, url: str) -> Installed:
        """Have SES's events come to ``url`` through SNS; see ``Webhooks.install``.

        Raises:
            InputError: not an address that SNS can deliver to.
            ProviderError: SES or SNS is out of reach or refuses.
        """
        return self._webhooks.install(url)

    def rotate_webhook(self, url: str) -> Installed:
        """Nothing to do: SNS renews its signing key itself, and the codec fetches each new certificate."""
        return self._webhooks.rotate(url)

    def remove_webhook(self, url: str) -> bool:
        """Unsubscribe ``url``; False when no allowed topic delivers there.

        Raises:
            ProviderError: its subscription still waits to be confirmed, or SNS is out of reach.
        """
        return self._webhooks.remove(url)

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

    def receive(self, wait: float) -> Sequence[QueuedMessage]:
        """The next events in the queue; waits up to so many seconds for some.

        Raises:
            SettingsError: no queue is named.
            ProviderError: SQS is out of reach or refuses.
        """
        return self._named_queue.receive(wait)

    def remove(self, messages: Sequence[QueuedMessage]) -> None:
        """Delete from the queue what was taken.

        Raises:
            SettingsError: no queue is named.
            ProviderError: SQS is out of reach, or left some of them: they come again.
        """
        self._named_queue.remove(messages)

    @property
    def _named_queue(self) -> Queue:
        if self._queue is None:
            raise SettingsError("providers.ses.queue_url: name the queue that events shall be read from")
        return self._queue
