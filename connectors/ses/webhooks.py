"""Webhooks: from SES through an SNS topic to a URL of the team's, signed.

A webhook is a subscription to an allowed topic. SNS delivers nothing before the running ``serve`` has confirmed it, and
``serve`` confirms only for topics that it was started with. Installing again is safe, and asks for a new confirmation
while there is none.

The other routes are set up by hand, or by whatever sets up the team's infrastructure: an SQS queue that is subscribed
to the topic or is the target of a rule of EventBridge (``queue_url``), and an API destination of EventBridge with a
key (``SES_EVENTBRIDGE_KEYS``). ``doctor`` looks at the queue.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from connectors.ses.client import Aws
from connectors.ses.configuration_sets import ConfigurationSets
from connectors.ses.settings import NAME, TOPICS_VARIABLE, SesSettings
from connectors.ses.topics import Subscription, Topics
from core.account import Installed, Webhook
from core.errors import InputError, ProviderError

_URL = re.compile(r"https://[^/?#@\s:]+(?::\d{1,5})?(?:/[^?#\s]*)?")
_NOTHING_TO_ROTATE = (
    "SNS renews its signing key by itself, and each new certificate is fetched when it is first used: there is nothing"
    " to rotate"
)
_LOCAL = re.compile(r"http://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?(?:/[^?#\s]*)?")


class Webhooks:
    """The HTTP subscriptions to the allowed topics.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
    """

    def __init__(self, aws: Aws, settings: SesSettings) -> None:
        self._settings = settings
        self._topics = Topics(aws, settings)
        self._sets = ConfigurationSets(aws, settings)

    def all(self) -> Sequence[Webhook]:
        """Those that exist. One that waits to be confirmed is not enabled, and gets nothing but signed requests."""
        return [
            Webhook(
                each.endpoint,
                enabled=each.arn is not None,
                signed=each.arn is None or not self._topics.delivery(each).raw,
            )
            for each in self._subscriptions()
        ]

    def install(self, url: str) -> Installed:
        """Have a topic that SES may publish to, both configuration sets publishing to it, and ``url`` subscribed.

        The topic is the one that is allowed if exactly one is, else ``pixelproof-events``, made when missing. What is
        there and wrong is put right, but for what others made on the same configuration sets.

        Raises:
            InputError: not an https URL that SNS can deliver to.
            ProviderError: SES or SNS is out of reach or refuses, or did not keep what was set up.
        """
        self._check(url)
        topic = self._topics.chosen()
        self._topics.open_to_ses(topic)
        notes = self._sets.publish(topic)
        confirmed = self._topics.subscribe(topic, url)
        return Installed(url, {TOPICS_VARIABLE: topic}, (*notes, *self._advice(topic, confirmed=confirmed)))

    def rotate(self, url: str) -> Installed:
        """Nothing is installed: AWS renews the signing keys itself."""
        return Installed(url, notes=(_NOTHING_TO_ROTATE,))

    def remove(self, url: str) -> bool:
        """Unsubscribe ``url``. The topic and the event destinations stay: others may read from the topic.

        Raises:
            ProviderError: one waits to be confirmed, which nobody can remove; or SNS is out of reach.
        """
        found = [each for each in self._subscriptions() if each.endpoint == url]
        for each in found:
            if each.arn is not None:
                self._topics.unsubscribe(each)
        if any(each.arn is None for each in found):
            raise ProviderError(
                NAME,
                "the subscription waits to be confirmed, and SNS removes none of those: it drops them by itself after"
                " two days, if nobody confirms",
            )
        return bool(found)

    def _subscriptions(self) -> Iterator[Subscription]:
        for topic in self._settings.topic_arns:
            yield from (each for each in self._topics.subscriptions(topic) if each.over_http)

    def _check(self, url: str) -> None:
        local = self._settings.endpoint_url is not None and _LOCAL.fullmatch(url)
        if not local and not _URL.fullmatch(url):
            raise InputError(f"{NAME}: the webhook's URL must be https, without user, query or fragment")

    def _advice(self, topic: str, *, confirmed: bool) -> Iterator[str]:
        if topic not in self._settings.topic_arns:
            yield (
                f"keep the topic in {TOPICS_VARIABLE} and start `pixelproof serve` anew: it takes and confirms nothing"
                " of a topic that it does not know"
            )
        if not confirmed:
            yield (
                "SNS delivers nothing until the running `pixelproof serve` has confirmed the subscription; if `doctor`"
                " still finds it pending, install again"
            )
        yield (
            "SNS repeats for an hour what the URL does not take, and then drops it: give the subscription a dead-letter"
            " queue, for withdrawals that come while the service is down for longer"
        )
