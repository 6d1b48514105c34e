"""SNS topics: made, opened to SES, and subscribed to.

Source: the Amazon SNS API Reference (``CreateTopic``, ``SetTopicAttributes``, ``Subscribe``,
``SetSubscriptionAttributes``, ``ListSubscriptionsByTopic``, ``Unsubscribe``), and "Amazon SNS message delivery retries"
in the Amazon SNS Developer Guide: left alone, SNS tries an HTTPS endpoint three more times, 20 seconds apart, and then
drops the message; it can be told to try for an hour.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from connectors.ses.client import Aws, whole
from connectors.ses.settings import NAME, SesSettings, TopicName, topic_name
from connectors.ses.topic_policies import lets_ses_in, letting_ses_in
from core.errors import ProviderError

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

T = TypeVar("T")

TOPIC = "pixelproof-events"
"""The name of a topic that is made here."""

SIGNATURE = "2"
"""Of SNS's signature versions: SHA-256. SNS signs with SHA-1 unless told otherwise."""

PATIENT_RETRIES = {
    "healthyRetryPolicy": {
        "numRetries": 62,
        "numNoDelayRetries": 3,
        "numMinDelayRetries": 0,
        "numMaxDelayRetries": 0,
        "minDelayTarget": 60,
        "maxDelayTarget": 60,
        "backoffFunction": "linear",
    }
}
"""A subscription's delivery policy: three times at once, then each minute for 59 minutes. SNS allows 3,600 seconds."""

PATIENT = 1_800.0
"""Seconds for which a subscription should repeat at least."""

_PENDING = "PendingConfirmation"
_RETRIES, _SECONDS = 3.0, 20.0
"""SNS's own number of retries, and the distance between two."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription to a topic. ``arn`` is None while it waits to be confirmed."""

    topic: str
    arn: str | None
    protocol: str
    endpoint: str = field(repr=False)

    @property
    def over_http(self) -> bool:
        """Whether it is delivered to a URL."""
        return self.protocol in {"http", "https"}


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a subscription is delivered.

    ``raw``: without signature. ``filtered``: some events are kept back. ``seconds``: for how long SNS repeats what the
    endpoint does not take. ``rescued``: what is given up goes to a queue.
    """

    raw: bool
    filtered: bool
    seconds: float
    rescued: bool


class Topics:
    """The SNS topics of one account, which is that of SES too.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
    """

    def __init__(self, aws: Aws, settings: SesSettings) -> None:
        self._aws = aws
        self._settings = settings

    def chosen(self) -> str:
        """The ARN of the topic for SES's events: the one that is allowed, or, if not exactly one is, one made here."""
        allowed = self._settings.topic_arns
        if len(allowed) == 1:
            return allowed[0]
        sns = self._aws.sns(self._settings.region)
        arn = self._aws.call(lambda: whole(sns.create_topic(Name=TOPIC), "TopicArn"))["TopicArn"]
        if topic_name(arn) is None:
            raise ProviderError(NAME, f"SNS made the topic {TOPIC} and answered without its ARN; look at it by hand")
        return arn

    def open_to_ses(self, topic: str) -> None:
        """Let SES publish to a topic for both configuration sets, and have SNS sign with SHA-256; read back.

        Raises:
            ProviderError: SNS refuses, is out of reach, or did not keep it.
        """
        held = self.attributes(topic)
        if not self.is_open_to_ses(topic, held):
            account = _named(topic).account
            policy = letting_ses_in(held.get("Policy", ""), topic, account, self.sources(topic))
            self._call(topic, _set_topic_attribute, topic, "Policy", policy)
        if held.get("SignatureVersion") != SIGNATURE:
            self._call(topic, _set_topic_attribute, topic, "SignatureVersion", SIGNATURE)
        if not self.is_open_to_ses(topic, self.attributes(topic)):
            raise ProviderError(NAME, "SNS did not keep the topic's policy; let ses.amazonaws.com publish by hand")

    def is_open_to_ses(self, topic: str, attributes: Mapping[str, str]) -> bool:
        """Whether SES may publish to a topic for both configuration sets."""
        policy, account = attributes.get("Policy", ""), _named(topic).account
        return all(lets_ses_in(policy, topic, account, source) for source in self.sources(topic))

    def sources(self, topic: str) -> tuple[str, str]:
        """The ARNs of both configuration sets, tracked first, in the account of the topic."""
        name, settings = _named(topic), self._settings
        where = f"arn:{name.partition}:ses:{settings.region}:{name.account}:configuration-set/"
        return where + settings.configuration_set_tracked, where + settings.configuration_set_untracked

    def attributes(self, topic: str) -> Mapping[str, str]:
        """A topic's attributes."""
        return self._call(
            topic, lambda sns: whole(sns.get_topic_attributes(TopicArn=topic), "Attributes")["Attributes"]
        )

    # Subscriptions

    def subscriptions(self, topic: str) -> Iterator[Subscription]:
        """Who is subscribed to a topic, those that wait to be confirmed among them."""
        token = ""
        while True:
            page = self._call(topic, _list_subscriptions, topic, token)
            for each in page["Subscriptions"]:
                arn = each.get("SubscriptionArn", _PENDING)
                yield Subscription(
                    topic, arn if arn.startswith("arn:") else None, each.get("Protocol", ""), each.get("Endpoint", "")
                )
            token = page.get("NextToken", "")
            if not token:
                return

    def delivery(self, subscription: Subscription) -> Delivery:
        """How a confirmed subscription is delivered."""
        assert subscription.arn is not None
        return _delivery(self._subscription_attributes(subscription.topic, subscription.arn))

    def subscribe(self, topic: str, url: str) -> bool:
        """Have a topic deliver to ``url``, signed, unfiltered, and for an hour; True once that is confirmed.

        One that waits to be confirmed gets a new confirmation.
        """
        held = self._of_url(topic, url)
        if not any(each.arn for each in held):
            attributes = {"RawMessageDelivery": "false", "DeliveryPolicy": json.dumps(PATIENT_RETRIES)}
            self._call(topic, _subscribe, topic, url, attributes)
            held = self._of_url(topic, url)
        if not held:
            raise ProviderError(NAME, "SNS does not list the subscription that it has just taken; install it again")
        arns = [each.arn for each in held if each.arn]
        for arn in arns:
            self._mend(topic, arn)
        return bool(arns)

    def _of_url(self, topic: str, url: str) -> list[Subscription]:
        return [each for each in self.subscriptions(topic) if each.over_http and each.endpoint == url]

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a confirmed subscription."""
        assert subscription.arn is not None
        self._call(subscription.topic, _unsubscribe, subscription.arn)

    def _mend(self, topic: str, arn: str) -> None:
        held = _delivery(self._subscription_attributes(topic, arn))
        changes: dict[str, str] = {}
        if held.raw:
            changes["RawMessageDelivery"] = "false"
        if held.filtered:
            changes["FilterPolicy"] = "{}"
        if held.seconds < PATIENT:
            changes["DeliveryPolicy"] = json.dumps(PATIENT_RETRIES)
        for name, value in changes.items():
            self._call(topic, _set_subscription_attribute, arn, name, value)
        if changes:
            _check_kept(_delivery(self._subscription_attributes(topic, arn)))

    def _subscription_attributes(self, topic: str, arn: str) -> Mapping[str, str]:
        return self._call(
            topic,
            lambda sns: whole(sns.get_subscription_attributes(SubscriptionArn=arn), "Attributes")["Attributes"],
        )

    def _call(self, topic: str, act: Callable[..., T], *args: object) -> T:
        sns = self._aws.sns(_named(topic).region)
        return self._aws.call(lambda: act(sns, *args))


def _named(topic: str) -> TopicName:
    name = topic_name(topic)
    assert name is not None, "settings and chosen() let no other through"
    return name


def _delivery(attributes: Mapping[str, str]) -> Delivery:
    return Delivery(
        raw=attributes.get("RawMessageDelivery", "false").lower() == "true",
        filtered=_json(attributes.get("FilterPolicy")) != {},
        seconds=_patience(_json(attributes.get("EffectiveDeliveryPolicy") or attributes.get("DeliveryPolicy"))),
        rescued=_json(attributes.get("RedrivePolicy")) != {},
    )


def _patience(policy: Mapping[str, Any]) -> float:
    """For how many seconds a delivery policy repeats: each wait as its shortest, so never more than it really does."""
    retries = policy.get("healthyRetryPolicy") or policy.get("defaultHealthyRetryPolicy") or {}
    count = _number(retries, "numRetries", _RETRIES) - _number(retries, "numNoDelayRetries", 0)
    late = min(count, _number(retries, "numMaxDelayRetries", 0))
    shortest, longest = (_number(retries, name, _SECONDS) for name in ("minDelayTarget", "maxDelayTarget"))
    return (count - late) * shortest + late * longest


def _number(retries: Mapping[str, Any], name: str, default: float) -> float:
    value = retries.get(name)
    return value if isinstance(value, int | float) else default


def _json(text: str | None) -> Mapping[str, Any]:
    """A JSON object in an attribute; empty when there is none."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {"unreadable": True}
    return value if isinstance(value, dict) else {}


def _check_kept(delivery: Delivery) -> None:
    if delivery.raw or delivery.filtered:
        raise ProviderError(
            NAME, "SNS did not keep the subscription's attributes; switch raw message delivery and its filter off"
        )


# What is asked of SNS


def _set_topic_attribute(sns: SNSClient, topic: str, name: str, value: str) -> None:
    sns.set_topic_attributes(TopicArn=topic, AttributeName=name, AttributeValue=value)


def _list_subscriptions(sns: SNSClient, topic: str, token: str) -> Any:  # noqa: ANN401 - boto3's own
    more = {"NextToken": token} if token else {}
    return whole(sns.list_subscriptions_by_topic(TopicArn=topic, **more), "Subscriptions")


def _subscribe(sns: SNSClient, topic: str, url: str, attributes: Mapping[str, str]) -> None:
    sns.subscribe(TopicArn=topic, Protocol=url.partition(":")[0], Endpoint=url, Attributes=attributes)


def _set_subscription_attribute(sns: SNSClient, arn: str, name: str, value: str) -> None:
    sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName=name, AttributeValue=value)


def _unsubscribe(sns: SNSClient, arn: str) -> None:
    sns.unsubscribe(SubscriptionArn=arn)
