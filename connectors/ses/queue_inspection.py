"""What could lose a withdrawal, or let one be invented, in the SQS queue from which events are read.

Source: "Amazon SQS dead-letter queues", "Amazon SQS message quotas" (a queue keeps messages for 4 days unless told
otherwise, and for 14 at most) and "Amazon SQS key management" in the Amazon SQS Developer Guide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from connectors.ses.client import Aws
from connectors.ses.findings import asked, checked, found
from connectors.ses.queue import Queue
from connectors.ses.queue_policies import lets_aws_in, open_to_others
from connectors.ses.settings import DAY, SesSettings, accounts, queue_name
from core.account import Finding, Severity

_WHERE = "providers.ses.queue_url"
_READ = "sqs:GetQueueAttributes"
_AWS_KEY = "alias/aws/sqs"

SHORTEST = 4 * DAY
"""Seconds for which the queue should keep messages: over a long weekend."""
FEWEST = 3
"""Times that a message should be read before it is given up: an outage must not empty the queue."""


class QueueInspection:
    """Reads the queue's attributes; changes nothing.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
    """

    def __init__(self, aws: Aws, settings: SesSettings) -> None:
        name = queue_name(settings)
        self._queue = Queue(aws, settings, name) if name else None
        self._accounts = {name.account, *accounts(settings)} if name else set()

    def findings(self) -> Iterator[Finding]:
        """What is not as it should be; nothing where no queue is named."""
        if self._queue is not None:
            yield from checked(self._held)

    def _held(self) -> Iterator[Finding]:
        queue = self._queue
        assert queue is not None
        held = asked(_READ, queue.attributes)
        yield from self._policy(held.get("Policy", ""))
        if (kept := _number(held, "MessageRetentionPeriod")) < SHORTEST:
            yield found(
                Severity.WARNING,
                f"{_WHERE}: MessageRetentionPeriod",
                f"a message is dropped after {kept / DAY:.1f} days: withdrawals that come during a longer outage are"
                " lost",
                "set it to 14 days",
            )
        if held.get("KmsMasterKeyId", "").endswith(_AWS_KEY):
            yield found(
                Severity.ERROR,
                f"{_WHERE}: KmsMasterKeyId",
                "the queue is encrypted with AWS's own key, with which neither SNS nor EventBridge can write",
                "encrypt it with SSE-SQS, or with a key of your own whose policy lets them use it",
            )
        yield from _rescue(queue, _redrive(held))

    def _policy(self, policy: str) -> Iterator[Finding]:
        if open_to_others(policy, self._accounts):
            yield found(
                Severity.ERROR,
                f"{_WHERE}: access policy",
                "a statement may let others write to it: they can invent events, which carry no signature here",
                "let only sns.amazonaws.com and events.amazonaws.com send messages, under a condition on aws:SourceArn"
                " (your topic, your rule) or aws:SourceAccount",
            )
        if not lets_aws_in(policy, self._accounts):
            yield found(
                Severity.ERROR,
                f"{_WHERE}: access policy",
                "nothing there certainly lets SNS or EventBridge write for your account: no withdrawal would arrive",
                "let sns.amazonaws.com, or events.amazonaws.com, do sqs:SendMessage under a condition on aws:SourceArn",
            )


def _rescue(queue: Queue, policy: Mapping[str, object]) -> Iterator[Finding]:
    """Where messages go that nobody could take, and whether some lie there."""
    arn, most = policy.get("deadLetterTargetArn"), policy.get("maxReceiveCount")
    if not isinstance(arn, str):
        yield found(
            Severity.WARNING,
            f"{_WHERE}: RedrivePolicy",
            "there is no dead-letter queue: what cannot be verified comes again and again, and is dropped in the end",
            "give the queue one, with a maxReceiveCount of 10",
        )
        return
    if str(most).isdecimal() and int(str(most)) < FEWEST:
        yield found(
            Severity.WARNING,
            f"{_WHERE}: RedrivePolicy",
            f"a message is given up after it was read {most} times: a short outage puts withdrawals aside",
            "set maxReceiveCount to 10",
        )
    waiting = asked(_READ, lambda: _number(queue.attributes(queue.url_of(arn)), "ApproximateNumberOfMessages"))
    if waiting:
        yield found(
            Severity.ERROR,
            f"{_WHERE}: dead-letter queue",
            f"about {waiting} messages lie there that could not be taken: withdrawals may be among them",
            "see in the log of `pixelproof serve` why, put that right, and have SQS move them back (start a redrive)",
        )


def _redrive(held: Mapping[str, str]) -> Mapping[str, object]:
    try:
        value = json.loads(held.get("RedrivePolicy") or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _number(held: Mapping[str, str], name: str) -> int:
    text = held.get(name, "")
    return int(text) if text.isdecimal() else 0
