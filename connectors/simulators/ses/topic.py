"""One SNS topic: its access policy, its subscriptions, and what it delivers to them."""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from connectors.simulators.base import Callback
from connectors.simulators.ses.signer import Signer
from connectors.simulators.ses.wire import ApiError, Json

SES = "ses.amazonaws.com"

LONGEST = 3_600
"""Seconds for which a delivery policy may repeat."""

MOST = 100
"""Retries of a delivery policy."""

DEFAULT_RETRIES = {"healthyRetryPolicy": {"numRetries": 3, "minDelayTarget": 20, "maxDelayTarget": 20}}
"""What SNS does when nobody says how to repeat, as far as it matters here."""


@dataclass(slots=True)
class Subscription:
    """A subscription to the topic. ``token``: what confirms it."""

    arn: str
    protocol: str
    endpoint: str
    attributes: dict[str, str] = field(default_factory=dict)
    token: str = ""
    confirmed: bool = False

    def set(self, name: str, value: str) -> None:
        """Set an attribute; raises ApiError for what SNS does not take."""
        if name not in {"RawMessageDelivery", "DeliveryPolicy", "FilterPolicy", "FilterPolicyScope", "RedrivePolicy"}:
            raise invalid(f"AttributeName: {name}")
        if name == "RawMessageDelivery":
            if value not in {"true", "false"}:
                raise invalid("RawMessageDelivery: Invalid value, must be true or false")
            self.attributes[name] = value
            return
        document = parsed(value, name)
        if name == "DeliveryPolicy":
            _check_retries(document.get("healthyRetryPolicy") or {})
        self.attributes[name] = value
        if not document:
            del self.attributes[name]


class Topic:
    """The topic.

    Args:
        arn: Its name.
        signer: The keys of SNS.
        version: Of its signatures: 1 (SHA-1), which is SNS's default, or 2 (SHA-256).

    Attributes:
        policy: Its access policy. At first nobody but the account itself may publish.
        subscriptions: By ARN.
    """

    def __init__(self, arn: str, signer: Signer, version: str = "1") -> None:
        self.arn = arn
        self.version = version
        self.key_id = ""
        self.subscriptions: dict[str, Subscription] = {}
        self._signer = signer
        owner = {"StringEquals": {"AWS:SourceOwner": self.account}}
        self.policy: Json = {
            "Version": "2008-10-17",
            "Id": "__default_policy_ID",
            "Statement": [
                {
                    "Sid": "__default_statement_ID",
                    "Effect": "Allow",
                    "Principal": {"AWS": "*"},
                    "Action": ["SNS:GetTopicAttributes", "SNS:Subscribe", "SNS:Publish"],
                    "Resource": arn,
                    "Condition": owner,
                }
            ],
        }

    @property
    def account(self) -> str:
        """The account that it belongs to."""
        return self.arn.split(":")[4]

    @property
    def endpoint(self) -> str | None:
        """A URL to which it delivers; None when nobody has confirmed."""
        return next((each.endpoint for each in self.subscriptions.values() if each.confirmed), None)

    def let_ses_in(self, *sources: str) -> None:
        """Add what a person would to the policy, for these configuration sets (ARNs)."""
        condition = {"StringEquals": {"AWS:SourceAccount": self.account, "AWS:SourceArn": [*sources]}}
        self.policy["Statement"].append(
            {
                "Sid": "by-hand",
                "Effect": "Allow",
                "Principal": {"Service": SES},
                "Action": "SNS:Publish",
                "Resource": self.arn,
                "Condition": condition,
            }
        )

    def lets_in(self, source: str) -> bool:
        """Whether SES may publish for a configuration set (its ARN)."""
        return any(self._applies(each, source) for each in self.policy["Statement"])

    def _applies(self, statement: Json, source: str) -> bool:
        """As far as conditions of equality go; any other is taken not to hold."""
        principal, actions = statement.get("Principal") or {}, statement.get("Action") or ""
        services = principal.get("Service", "") if isinstance(principal, dict) else ""
        known = {"aws:sourceaccount": self.account, "aws:sourcearn": source}
        condition: Json = statement.get("Condition") or {}
        return (
            statement.get("Effect") == "Allow"
            and SES in (services if isinstance(services, list) else [services])
            and "sns:publish" in str(actions).lower()
            and statement.get("Resource") == self.arn
            and condition.keys() <= {"StringEquals"}
            and all(known.get(k.lower(), "") in v for k, v in (condition.get("StringEquals") or {}).items())
        )

    # Subscriptions

    def subscribe(self, protocol: str, endpoint: str, attributes: dict[str, str]) -> Subscription:
        """Subscribe; the same again is the same subscription, with a new token while it is not confirmed."""
        wanted = Subscription(f"{self.arn}:{uuid.uuid4()}", protocol, endpoint)
        for name, value in attributes.items():
            wanted.set(name, value)
        for held in self.subscriptions.values():
            if (held.protocol, held.endpoint) == (protocol, endpoint):
                if attributes and held.attributes != wanted.attributes:
                    raise invalid("Attributes Reason: Subscription already exists with different attributes")
                wanted = held
        self.subscriptions[wanted.arn] = wanted
        if not wanted.confirmed:
            wanted.token = secrets.token_hex(112)
        return wanted

    def confirm(self, token: str) -> Subscription:
        """Confirm; a token serves again and again."""
        found = next((each for each in self.subscriptions.values() if token and each.token == token), None)
        if found is None:
            raise invalid("Token")
        found.confirmed = True
        return found

    # What it sends

    def confirmation(self, subscription: Subscription, base_url: str) -> Callback:
        """What SNS sends to an endpoint that was subscribed and has not confirmed it."""
        said = (
            f"You have chosen to subscribe to the topic {self.arn}.\n"
            "To confirm the subscription, visit the SubscribeURL included in this message."
        )
        token = subscription.token
        url = f"{base_url}/?Action=ConfirmSubscription&TopicArn={quote(self.arn, safe='')}&Token={token}"
        fields = {"Token": token, "Message": said, "SubscribeURL": url}
        return self._signed("SubscriptionConfirmation", fields, subscription, base_url)

    def published(self, message: str, base_url: str) -> Iterator[Callback]:
        """One published message, as it is delivered to each endpoint. SES's messages pass no filter policy."""
        fields = {"Subject": "Amazon SES Email Event Notification", "Message": message}
        for each in self.subscriptions.values():
            if not each.confirmed or each.protocol not in {"http", "https"} or "FilterPolicy" in each.attributes:
                continue
            if each.attributes.get("RawMessageDelivery") == "true":
                headers = {"x-amz-sns-message-type": "Notification", "x-amz-sns-rawdelivery": "true"}
                yield Callback(each.endpoint, headers | {"content-type": "text/plain; charset=UTF-8"}, message.encode())
            else:
                yield self._signed("Notification", fields, each, base_url)

    def _signed(self, kind: str, fields: dict[str, str], to: Subscription, base_url: str) -> Callback:
        return self._signer.message(
            kind, self.arn, fields, version=self.version, endpoint=to.endpoint, base_url=base_url
        )


def invalid(what: str) -> ApiError:
    """What SNS answers to a parameter that it does not take."""
    return ApiError("InvalidParameter", f"Invalid parameter: {what}")


def parsed(text: str, name: str) -> dict[str, Any]:
    """A JSON object in an attribute; raises ApiError when it is none."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise invalid(f"{name}: failed to parse JSON")
    return value


def _check_retries(retries: Json) -> None:
    number, quick = retries.get("numRetries", 3), retries.get("numNoDelayRetries", 0)
    shortest, longest = retries.get("minDelayTarget", 20), retries.get("maxDelayTarget", 20)
    if not 0 <= number <= MOST or not 1 <= shortest <= longest or quick > number:
        raise invalid("DeliveryPolicy: healthyRetryPolicy is out of range")
    if (number - quick) * longest > LONGEST:
        raise invalid(f"DeliveryPolicy: Total policy retry time cannot be greater than {LONGEST} seconds")
