"""What could lose a withdrawal on the way from SES through SNS to this service, or to the queue that it reads.

Source: "Set up an Amazon SNS event destination" in the Amazon SES Developer Guide (access policy, encrypted topics),
and "Amazon SNS message delivery retries" and "Amazon SNS raw message delivery" in the Amazon SNS Developer Guide.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from connectors.ses.client import Aws
from connectors.ses.findings import asked, checked, found
from connectors.ses.settings import TOPICS_VARIABLE, SesSettings, queue_name
from connectors.ses.topic_policies import open_to_others
from connectors.ses.topics import PATIENT, SIGNATURE, Subscription, Topics
from core.account import Finding, Severity

_INSTALL = "run `pixelproof webhooks install --provider ses`"
_AWS_KEY = "alias/aws/sns"


class TopicInspection:
    """Reads the allowed topics and their subscriptions; changes nothing.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
        needed: Whether there is no other route.
    """

    def __init__(self, aws: Aws, settings: SesSettings, *, needed: bool) -> None:
        self._topics = Topics(aws, settings)
        self._allowed = settings.topic_arns
        self._needed = needed
        queue = queue_name(settings)
        self._queue = [queue.account, queue.name] if queue else None

    def findings(self, webhook_url: str, used: Collection[str]) -> Iterator[Finding]:
        """What is not as it should be.

        Args:
            webhook_url: Where callbacks shall arrive.
            used: The topics to which our configuration sets publish; the others of the allowed ones matter only where
                there is none of these.
        """
        if not self._allowed and self._needed:
            yield found(
                Severity.ERROR,
                "providers.ses.topic_arns",
                f"no SNS topic is named there or in {TOPICS_VARIABLE}: every callback is refused, withdrawals too",
                _INSTALL,
            )
        for topic in [arn for arn in self._allowed if arn in used] or self._allowed:
            yield from checked(lambda t=topic: self._topic(t), lambda t=topic: self._subscriptions(t, webhook_url))  # type: ignore[misc]

    def _topic(self, topic: str) -> Iterator[Finding]:
        held = asked("sns:GetTopicAttributes", lambda: self._topics.attributes(topic))
        if not self._topics.is_open_to_ses(topic, held):
            yield found(
                Severity.ERROR,
                f"{topic}: access policy",
                "nothing there certainly lets SES publish for both configuration sets: no withdrawal would arrive",
                _INSTALL,
            )
        if open_to_others(held.get("Policy", ""), topic):
            yield found(
                Severity.WARNING,
                f"{topic}: access policy",
                "a statement lets others publish under no condition: they can invent events, which SNS then signs",
                "add a condition on aws:SourceAccount to it, or remove it",
            )
        if held.get("SignatureVersion") != SIGNATURE:
            yield found(
                Severity.WARNING, f"{topic}: SignatureVersion", "SNS signs with SHA-1", f"set it to 2, or {_INSTALL}"
            )
        yield from _encryption(topic, held.get("KmsMasterKeyId", ""))

    def _subscriptions(self, topic: str, url: str) -> Iterator[Finding]:
        held = asked("sns:ListSubscriptionsByTopic", lambda: list(self._topics.subscriptions(topic)))
        ours = [each for each in held if (each.over_http and each.endpoint == url) or self._is_queued(each)]
        confirmed = [each for each in ours if each.arn is not None]
        if not ours:
            yield found(
                Severity.ERROR,
                f"{topic}: subscriptions",
                "it does not deliver to this service: no unsubscribe, complaint or open is ever heard of",
                _INSTALL,
            )
        elif not confirmed:
            yield found(
                Severity.ERROR,
                f"{topic}: subscriptions",
                "the one to this service waits to be confirmed: SNS delivers nothing",
                f"see that `pixelproof serve` runs with this topic among its settings, then {_INSTALL} again",
            )
        for each in confirmed:
            yield from self._delivery(each)

    def _is_queued(self, subscription: Subscription) -> bool:
        """Whether it goes to the queue, by the account and name at the end of the queue's ARN."""
        return subscription.protocol == "sqs" and subscription.endpoint.split(":")[-2:] == self._queue

    def _delivery(self, subscription: Subscription) -> Iterator[Finding]:
        held = asked("sns:GetSubscriptionAttributes", lambda: self._topics.delivery(subscription))
        where = f"{subscription.topic}: subscription"
        if held.raw and subscription.over_http:
            yield found(
                Severity.ERROR,
                where,
                "raw message delivery is on: nothing is signed, so every callback is refused",
                f"switch it off, or {_INSTALL}",
            )
        if held.filtered:
            yield found(
                Severity.ERROR,
                where,
                "a filter policy keeps events back, which may be withdrawals",
                f"remove the filter policy, or {_INSTALL}",
            )
        if held.rescued or not subscription.over_http:
            return  # into a queue SNS repeats for 23 days
        if held.seconds < PATIENT:
            yield found(
                Severity.WARNING,
                where,
                f"SNS gives up after {held.seconds:.0f} seconds: a withdrawal that comes during a restart is lost",
                _INSTALL,
            )
        else:
            yield found(
                Severity.NOTE,
                where,
                "SNS gives up after an hour at the latest: a withdrawal that comes during a longer outage is lost",
                "give the subscription a dead-letter queue (RedrivePolicy)",
            )


def _encryption(topic: str, key: str) -> Iterator[Finding]:
    if key.endswith(_AWS_KEY):
        yield found(
            Severity.ERROR,
            f"{topic}: KmsMasterKeyId",
            "the topic is encrypted with AWS's own key, with which SES cannot publish",
            "encrypt it with a key of your own whose policy lets ses.amazonaws.com use it, or not at all",
        )
    elif key:
        yield found(
            Severity.NOTE,
            f"{topic}: KmsMasterKeyId",
            "the topic is encrypted; whether the key lets SES publish is not looked up",
            "see that the key's policy allows kms:GenerateDataKey and kms:Decrypt to ses.amazonaws.com",
        )
