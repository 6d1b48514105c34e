"""The operations of SNS: topics, their attributes, subscriptions."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from xml.sax.saxutils import escape

from connectors.simulators.base import Callback
from connectors.simulators.ses.signer import Signer
from connectors.simulators.ses.topic import DEFAULT_RETRIES, Subscription, Topic, invalid, parsed
from connectors.simulators.ses.wire import ApiError

PAGE = 100
_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}")

_Form = dict[str, str]


class Sns:
    """SNS of one account and region.

    Args:
        where: What the ARNs of its topics begin with.
        now: The clock.
        queue: Takes what is to be delivered.
        base_url: Answers where it is served.

    Attributes:
        signer: Its keys.
        topics: By ARN.
        page: How many subscriptions a page has.
    """

    def __init__(
        self, where: str, now: Callable[[], datetime], queue: Callable[[Callback], None], base_url: Callable[[], str]
    ) -> None:
        self.signer = Signer(now)
        self.topics: dict[str, Topic] = {}
        self.page = PAGE
        self._where = where
        self._queue = queue
        self._base_url = base_url

    def act(self, form: _Form) -> str:
        """One operation, by its name in the form; answers XML."""
        operations: Mapping[str, Callable[[_Form], str]] = {
            "CreateTopic": self._create_topic,
            "GetTopicAttributes": self._topic_attributes,
            "SetTopicAttributes": self._set_topic_attribute,
            "Subscribe": self._subscribe,
            "ConfirmSubscription": self._confirm,
            "ListSubscriptionsByTopic": self._listed,
            "GetSubscriptionAttributes": self._subscription_attributes,
            "SetSubscriptionAttributes": self._set_subscription_attribute,
            "Unsubscribe": self._unsubscribe,
        }
        action = form.get("Action", "")
        if action not in operations:
            raise ApiError("InvalidAction", "The action is not valid for this web service")
        result = operations[action](form)
        metadata = f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
        return f"<{action}Response><{action}Result>{result}</{action}Result>{metadata}</{action}Response>"

    def make(self, name: str, version: str = "1") -> Topic:
        """A topic of that name, made when it is not there."""
        arn = self._where + name
        return self.topics.setdefault(arn, Topic(arn, self.signer, version))

    def publish(self, topic: str, message: str, source: str) -> None:
        """SES publishes for a configuration set (its ARN). What the topic's policy forbids is lost."""
        found = self.topics.get(topic)
        if found is not None and found.lets_in(source):
            for callback in found.published(message, self._base_url()):
                self._queue(callback)

    def subscribe(self, topic: Topic, protocol: str, endpoint: str, attributes: dict[str, str]) -> Subscription:
        """Subscribe, and send what is to be confirmed."""
        made = topic.subscribe(protocol, endpoint, attributes)
        if not made.confirmed:
            self._queue(topic.confirmation(made, self._base_url()))
        return made

    def _create_topic(self, form: _Form) -> str:
        if not _NAME.fullmatch(form.get("Name", "")):
            raise invalid("Topic Name")
        return _element("TopicArn", self.make(form["Name"]).arn)

    def _topic_attributes(self, form: _Form) -> str:
        topic = self._topic(form)
        states = [each.confirmed for each in topic.subscriptions.values()]
        attributes = {
            "TopicArn": topic.arn,
            "Owner": topic.account,
            "Policy": json.dumps(topic.policy),
            "SubscriptionsConfirmed": str(states.count(True)),
            "SubscriptionsPending": str(states.count(False)),
        }
        if topic.version != "1":
            attributes["SignatureVersion"] = topic.version
        if topic.key_id:
            attributes["KmsMasterKeyId"] = topic.key_id
        return _map(attributes)

    def _set_topic_attribute(self, form: _Form) -> str:
        topic, name, value = self._topic(form), form.get("AttributeName", ""), form.get("AttributeValue", "")
        match name:
            case "Policy":
                policy = parsed(value, "Policy")
                if not isinstance(policy.get("Statement"), list) or not policy["Statement"]:
                    raise invalid("Policy statement: policy must have statements")
                topic.policy = policy
            case "SignatureVersion":
                if value not in {"1", "2"}:
                    raise invalid("SignatureVersion")
                topic.version = value
            case _:
                raise invalid("AttributeName")
        return ""

    def _subscribe(self, form: _Form) -> str:
        topic, protocol, endpoint = self._topic(form), form.get("Protocol", ""), form.get("Endpoint", "")
        if protocol not in {"http", "https", "sqs"}:
            raise invalid("Protocol")
        if protocol != "sqs" and not endpoint.startswith(f"{protocol}://"):
            raise invalid("Endpoint must match the specified protocol")
        made = self.subscribe(topic, protocol, endpoint, _entries(form))
        whole = made.confirmed or form.get("ReturnSubscriptionArn") == "true"
        return _element("SubscriptionArn", made.arn if whole else "pending confirmation")

    def _confirm(self, form: _Form) -> str:
        return _element("SubscriptionArn", self._topic(form).confirm(form.get("Token", "")).arn)

    def _listed(self, form: _Form) -> str:
        topic, start = self._topic(form), int(form.get("NextToken") or 0)
        held = list(topic.subscriptions.values())
        members = "".join(
            "<member>"
            + _element("SubscriptionArn", each.arn if each.confirmed else "PendingConfirmation")
            + _element("Owner", topic.account)
            + _element("Protocol", each.protocol)
            + _element("Endpoint", each.endpoint)
            + _element("TopicArn", topic.arn)
            + "</member>"
            for each in held[start : start + self.page]
        )
        more = _element("NextToken", str(start + self.page)) if len(held) > start + self.page else ""
        return f"<Subscriptions>{members}</Subscriptions>{more}"

    def _subscription_attributes(self, form: _Form) -> str:
        topic, found = self._subscription(form)
        attributes = {
            "SubscriptionArn": found.arn,
            "TopicArn": topic.arn,
            "Protocol": found.protocol,
            "Endpoint": found.endpoint,
            "Owner": topic.account,
            "PendingConfirmation": str(not found.confirmed).lower(),
            "RawMessageDelivery": "false",
            "EffectiveDeliveryPolicy": found.attributes.get("DeliveryPolicy", json.dumps(DEFAULT_RETRIES)),
        }
        return _map(attributes | found.attributes)

    def _set_subscription_attribute(self, form: _Form) -> str:
        _, found = self._subscription(form)
        found.set(form.get("AttributeName", ""), form.get("AttributeValue", ""))
        return ""

    def _unsubscribe(self, form: _Form) -> str:
        """Deletes it; that it is not there any more is no error. One that waits to be confirmed cannot be deleted."""
        arn = form.get("SubscriptionArn", "")
        topic = self.topics.get(arn.rpartition(":")[0])
        found = topic.subscriptions.get(arn) if topic else None
        if topic and found:
            if not found.confirmed:
                raise invalid("This subscription is pending confirmation")
            del topic.subscriptions[arn]
        return ""

    def _topic(self, form: _Form) -> Topic:
        if form.get("TopicArn") not in self.topics:
            raise ApiError("NotFound", "Topic does not exist", 404)
        return self.topics[form["TopicArn"]]

    def _subscription(self, form: _Form) -> tuple[Topic, Subscription]:
        arn = form.get("SubscriptionArn", "")
        topic = self.topics.get(arn.rpartition(":")[0])
        if topic is None or arn not in topic.subscriptions:
            raise ApiError("NotFound", "Subscription does not exist", 404)
        return topic, topic.subscriptions[arn]


def _entries(form: _Form) -> dict[str, str]:
    """The attributes in a form: ``Attributes.entry.1.key``, ``Attributes.entry.1.value``, and so on."""
    return {
        value: form.get(name.removesuffix("key") + "value", "")
        for name, value in form.items()
        if name.startswith("Attributes.entry.") and name.endswith(".key")
    }


def _element(name: str, text: str) -> str:
    return f"<{name}>{escape(text)}</{name}>"


def _map(attributes: Mapping[str, str]) -> str:
    entries: Iterable[str] = (
        f"<entry>{_element('key', name)}{_element('value', value)}</entry>" for name, value in attributes.items()
    )
    return f"<Attributes>{''.join(entries)}</Attributes>"
