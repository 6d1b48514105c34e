"""Makes ``ses.json``: what SNS, EventBridge and a queue deliver of Amazon SES, and what the codec must make of each.

Run it as ``python -m tests.vectors.make_ses_routes``. Nothing here uses the code under test.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from tests.vectors.make_ses import (
    BY_SNS,
    MESSAGE_ID,
    OPENED,
    SIGNED,
    TOPIC,
    Json,
    case,
    change,
    digest,
    envelope,
    event,
    expected,
    keys,
    preferences,
    signed,
)

BRIDGE_ID = "df1515d9-b441-32ac-346a-8b4d5dd153c6"
BRIDGED = "2026-11-20T11:58:01Z"
QUEUED = "2026-11-20T11:59:40+00:00"
KEY_HEADER = "x-pixelproof-key"
BRIDGE_KEYS = ("first-key-of-an-api-destination-1", "second-key-of-an-api-destination-2")

NAMELESS: Json = {
    "occurred_at": BRIDGED,
    "address": None,
    "recipient_tag": None,
    "campaign": None,
    "topic": None,
    "machine": False,
    "client": "",
}
"""What is expected of an event that names nobody."""


def posted(name: str, body: str | Json, **more: object) -> Json:
    """What an API destination of EventBridge posts, with the first of two keys."""
    text = body if isinstance(body, str) else json.dumps(body)
    case_ = case(name, {}) | {"secrets": {"SES_EVENTBRIDGE_KEYS": ", ".join(BRIDGE_KEYS)}}
    del case_["body"]
    return (
        case_
        | {"headers": {KEY_HEADER: BRIDGE_KEYS[0]}, "body_base64": base64.b64encode(text.encode()).decode()}
        | more
    )


def queued(name: str, body: str | Json, **more: object) -> Json:
    """What waits in a queue."""
    case_ = posted(name, body, queued=True, headers={"x-pixelproof-queued-at": QUEUED})
    del case_["secrets"]
    return case_ | more


def bridge_event(detail: Json, **changes: object) -> Json:
    """An event of EventBridge."""
    return {
        "version": "0",
        "id": BRIDGE_ID,
        "detail-type": "Email Opened",
        "source": "aws.ses",
        "account": TOPIC.split(":")[4],
        "time": BRIDGED,
        "region": "eu-west-3",
        "resources": ["arn:aws:ses:eu-west-3:123456789012:configuration-set/pixelproof-tracked"],
        "detail": detail,
    } | changes


def open_by(id_: str | None, **changes: object) -> list[Json]:
    """The open, as it is expected by every route."""
    message = json.dumps(event("Open", OPENED))
    opened = {"kind": "open", "native_type": "Open", "client": "thunderbird", "keys": keys(message, id_=id_)}
    return [expected(message, 0, opened | changes)]


def by_event_bridge() -> Iterator[Json]:
    """Events of EventBridge with a key, and what must not get in."""
    opened = bridge_event(event("Open", OPENED))
    known: Json = {"expected": open_by(BRIDGE_ID), "signed_at": BRIDGED}
    yield posted("EventBridge: open", opened, **known)
    yield posted("EventBridge: the second key", opened, headers={KEY_HEADER: BRIDGE_KEYS[1]}, **known)
    named = {"region": "eu-west-3", "topic_arns": [TOPIC], "eventbridge_key_header": "X-Other-Key"}
    yield posted(
        "EventBridge: another header", opened, settings=named, headers={"x-other-key": BRIDGE_KEYS[0]}, **known
    )
    alone = {"region": "eu-west-3"}
    yield posted("EventBridge: without topics", opened, settings=alone, **known)
    yield posted("EventBridge: without topics any account", opened | {"account": "9" * 12}, settings=alone, **known)
    half = json.dumps(opened).replace("Thunderbird", "\\ud800")
    keys_ = keys(json.dumps(event("Open", OPENED)).replace("Thunderbird", "\\ud800"), id_=BRIDGE_ID)
    yield posted(
        "EventBridge: half a surrogate pair",
        half,
        expected=open_by(BRIDGE_ID, client="other", keys=keys_),
        signed_at=BRIDGED,
    )
    gone = change(None, preferences(everything=True))
    left = {"kind": "unsubscribe", "native_type": "Subscription", "keys": keys(json.dumps(gone), id_=BRIDGE_ID)}
    yield posted(
        "EventBridge: unsubscribed",
        bridge_event(gone, **{"detail-type": "Email Subscribed"}),
        expected=[expected("", 0, left)],
        signed_at=BRIDGED,
    )
    for native, kind in {
        "Advisor Recommendation Status Open": "other",
        "AWS API Call via CloudTrail": "other",
        "Mailbox Moved": "unknown",
    }.items():
        yield posted(
            f"EventBridge: {native}",
            bridge_event({"eventType": "AwsApiCall"}, **{"detail-type": native}),
            expected=[NAMELESS | {"kind": kind, "native_type": native, "keys": [f"ses:id:{digest(BRIDGE_ID)}:0"]}],
            signed_at=BRIDGED,
        )
    text = json.dumps({"mail": {}}, sort_keys=True, separators=(",", ":"))
    unreadable = {"kind": "malformed", "native_type": "malformed", "keys": [f"ses:malformed:{digest(text)}"]}
    yield posted(
        "EventBridge: a mail's event without type",
        bridge_event({"mail": {}}),
        expected=[NAMELESS | unreadable],
        signed_at=BRIDGED,
    )
    yield from _kept_out(opened, known)


def _kept_out(opened: Json, known: Json) -> Iterator[Json]:
    message = json.dumps(event("Open", OPENED))
    envelope_ = signed(envelope(message))
    notified = {"x-amz-sns-message-type": "Notification"}
    for name, headers in {
        "no key": {},
        "an empty key": {KEY_HEADER: ""},
        "a wrong key": {KEY_HEADER: "wrong"},
        "both keys at once": {KEY_HEADER: ", ".join(BRIDGE_KEYS)},
        "a key that begins alike": {KEY_HEADER: BRIDGE_KEYS[0] + "0"},
        "a key with odd characters": {KEY_HEADER: "é" * 40},
        "the key in another header": {"x-api-key": BRIDGE_KEYS[0]},
        "SNS's header": notified,
        "a wrong key and SNS's header": notified | {KEY_HEADER: "wrong"},
        "a queue's header": {"x-pixelproof-queued-at": QUEUED},
    }.items():
        yield posted(f"EventBridge: {name}", opened, headers=headers, error="forged")
    altered: dict[str, Json] = {
        "another source": {"source": "my.ses"},
        "another region": {"region": "us-east-1"},
        "another account": {"account": "9" * 12},
        "no time": {"time": "soon"},
        "a time out of range": {"time": "0001-01-01T00:00:00+23:59"},
        "no id": {"id": None},
        "a text for detail": {"detail": "{}"},
        "too old": {"time": "2026-10-13T11:59:59Z"},
        "from the future": {"time": "2026-11-20T12:05:01Z"},
    }
    for name, fields in altered.items():
        yield posted(f"EventBridge: {name}", opened | fields, error="forged")
    for age, time in {"38 days": "2026-10-13T12:00:00Z", "five minutes ahead": "2026-11-20T12:05:00Z"}.items():
        yield posted(f"EventBridge: {age}", opened | {"time": time}, **known | {"signed_at": time})
    for name, body in {"a raw event": message, "not JSON": "hello", "an SNS message": json.dumps(envelope_)}.items():
        yield posted(f"EventBridge: with a key, {name}", body, error="forged")
    both = json.dumps(envelope_ | opened | {"Signature": "AAAA"})
    yield posted("EventBridge: with a key, both at once", both, error="forged")
    yield posted("EventBridge: both at once, forged", both, headers=notified, error="forged")
    hidden = json.dumps(opened | {"detail": event("Complaint")} | envelope_)
    taken = open_by(MESSAGE_ID)
    yield posted("an SNS message is one, whatever it holds", hidden, headers=notified, expected=taken, signed_at=SIGNED)
    yield posted("EventBridge: without keys in the settings", opened, secrets={}, error="forged")
    empty = {KEY_HEADER: ""}
    yield posted("EventBridge: without keys, an empty one", opened, secrets={}, headers=empty, error="forged")


def by_queue() -> Iterator[Json]:
    """What waits in a queue: SNS's messages are verified, the rest is believed."""
    published = event("Open", OPENED)
    message = json.dumps(published)
    envelope_ = signed(envelope(message, SignatureVersion="2"))
    yield queued("queue: SNS's message", envelope_, expected=open_by(MESSAGE_ID), signed_at=SIGNED)
    later = datetime.fromisoformat(SIGNED) + timedelta(days=52)
    late: Json = {"expected": open_by(MESSAGE_ID), "signed_at": SIGNED, "now": later.isoformat()}
    yield queued("queue: SNS's message after 52 days", envelope_, **late)
    yield queued("queue: raw", message, expected=open_by(None), signed_at=QUEUED)
    undated = json.dumps(event("Complaint"))
    unknown = {"kind": "complaint", "native_type": "Complaint", "keys": keys(undated, id_=None), "occurred_at": QUEUED}
    yield queued("queue: raw, without time", undated, expected=[expected("", 0, unknown)], signed_at=QUEUED)
    bridged = bridge_event(published)
    yield queued("queue: EventBridge's event", bridged, expected=open_by(BRIDGE_ID), signed_at=BRIDGED)
    for name, text, kind in (
        ("not JSON", "hello", "malformed"),
        ("a list", "[1]", "malformed"),
        ("SES validates the topic", "Successfully validated SNS topic for Amazon SES event publishing.", "other"),
    ):
        native = "malformed" if kind == "malformed" else "validation"
        event_ = {"kind": kind, "native_type": native, "keys": [f"ses:malformed:{digest(text)}"], "occurred_at": QUEUED}
        yield queued(f"queue: raw, {name}", text, expected=[NAMELESS | event_], signed_at=QUEUED)
    for name, body in {
        "forged SNS's message": envelope_ | {"Message": message.replace("reader", "writer")},
        "SNS's message of another topic": signed(envelope(message, TopicArn=TOPIC + "2")),
        "EventBridge's event of another source": bridged | {"source": "my.ses"},
        "EventBridge's event of another account": bridged | {"account": "9" * 12},
        "EventBridge's event of another region": bridged | {"region": "us-east-1"},
    }.items():
        yield queued(f"queue: {name}", body, error="forged")
    stale = later + timedelta(seconds=1)
    yield queued("queue: SNS's message after 52 days and a second", envelope_, now=stale.isoformat(), error="stale")


def main() -> None:
    """Write the file."""
    cases = [each for group in (*BY_SNS, by_event_bridge, by_queue) for each in group()]
    assert len({each["name"] for each in cases}) == len(cases), "names must differ"
    Path(__file__).with_name("ses.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
