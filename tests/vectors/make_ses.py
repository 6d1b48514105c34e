"""What SNS delivers of Amazon SES over HTTPS, signed, and what the codec must make of each: a part of ``ses.json``.

``make_ses_routes`` writes the file; the keys are new each time. Written after the examples in SES's Developer Guide.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

Json = dict[str, Any]

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
SIGNED = "2026-11-20T11:59:30.000Z"
HAPPENED = "2026-11-20T11:58:00.250Z"
TOPIC = "arn:aws:sns:eu-west-3:123456789012:ses-events"
CHINA = "arn:aws-cn:sns:cn-north-1:123456789012:ses-events"
URL = "https://sns.eu-west-3.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
CHINA_URL = URL.replace("eu-west-3.amazonaws.com", "cn-north-1.amazonaws.com.cn")
RECIPIENT = "00112233445566778899aabbccddeeff"
READER = "reader@example.org"
MESSAGE_ID = "165545c9-2a5c-472c-8df2-7ff2be2b3b1b"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0"

OPENED: Json = {"ipAddress": "192.0.2.1", "timestamp": HAPPENED, "userAgent": BROWSER}
NOTIFIED = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
CONFIRMED = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, start: datetime, end: datetime) -> str:
    """A certificate for a key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    issuer = ec.generate_private_key(ec.SECP256R1())
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .sign(issuer, SHA256())
    )
    return built.public_bytes(Encoding.PEM).decode()


KEY = rsa.generate_private_key(65_537, 2_048)
SMALL_KEY = rsa.generate_private_key(65_537, 1_024)  # noqa: S505 - to be refused
YEAR = timedelta(days=365)
CERTIFICATE = certificate(KEY, NOW - YEAR, NOW + YEAR)


def envelope(message: str, **changes: object) -> Json:
    """A notification, not signed yet."""
    return {
        "Type": "Notification",
        "MessageId": MESSAGE_ID,
        "TopicArn": TOPIC,
        "Subject": "Amazon SES Email Event Notification",
        "Message": message,
        "Timestamp": SIGNED,
        "SignatureVersion": "1",
        "SigningCertURL": URL,
        "UnsubscribeURL": "https://sns.eu-west-3.amazonaws.com/?Action=Unsubscribe",
    } | changes


def signed(fields: Json, key: rsa.RSAPrivateKey = KEY) -> Json:
    """With its signature, made as SNS makes it; fields that are None are left out."""
    fields = {name: value for name, value in fields.items() if value is not None}
    names = [name for name in (NOTIFIED if fields["Type"] == "Notification" else CONFIRMED) if name in fields]
    text = "".join(f"{name}\n{fields[name]}\n" for name in names)
    digest = SHA256() if fields["SignatureVersion"] == "2" else SHA1()  # noqa: S303 - what SNS does
    return fields | {"Signature": base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), digest)).decode()}


def case(name: str, fields: Json, **more: object) -> Json:
    """One case. ``more``: expected or error, and what differs from the ordinary."""
    return {
        "name": name,
        "headers": {"x-amz-sns-message-type": fields.get("Type", "Notification")},
        "body": json.dumps(fields),
        "settings": {"region": "eu-west-3", "topic_arns": [TOPIC]},
        "certificates": {URL: CERTIFICATE},
        "now": NOW.isoformat(),
    } | more


def mail(**changes: object) -> Json:
    """The ``mail`` object."""
    tags = {
        "ses:configuration-set": ["pixelproof-tracked"],
        "pixelproof_recipient": [RECIPIENT],
        "pixelproof_campaign": ["spring-2026"],
    }
    return {
        "timestamp": "2026-11-20T11:00:00.000Z",
        "messageId": "010f019a-0000-0000",
        "destination": [READER],
        "tags": tags,
    } | changes


def event(native: str, section: Json | None = None, **changes: object) -> Json:
    """What SES publishes, with the part that is named after the type."""
    name = {"Rendering Failure": "failure", "DeliveryDelay": "deliveryDelay"}.get(native, native.lower())
    return {"eventType": native, "mail": mail(), name: section if section is not None else {}} | changes


def digest(text: str) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def content(message: str) -> str:
    """What an event says, alike on every route: its type, the id of its mail, and the part of that type."""
    said = json.loads(message.replace("\\ud800", "?"))
    native = said.get("eventType") or said["notificationType"]
    part = {"Rendering Failure": "failure"}.get(native, native[:1].lower() + native[1:])
    id_, section = said["mail"].get("messageId"), said.get(part)
    telling = [native, id_, section] if id_ and section else said
    return digest(json.dumps(telling, sort_keys=True, separators=(",", ":")))


def keys(message: str, place: int = 0, id_: str | None = MESSAGE_ID) -> list[str]:
    """The keys of an event in a message."""
    return [*([f"ses:id:{digest(id_)}:{place}"] if id_ else []), f"ses:content:{content(message)}:{place}"]


def expected(message: str, place: int, changes: Json) -> Json:
    """One expected event, with what differs from the ordinary."""
    return {
        "occurred_at": HAPPENED,
        "keys": changes.get("keys") or keys(message, place),
        "address": READER,
        "recipient_tag": RECIPIENT,
        "campaign": "spring-2026",
        "topic": None,
        "machine": False,
        "client": "",
    } | changes


def read(name: str, published: Json | str, *kinds: tuple[str, Json], **changes: object) -> Json:
    """A genuine notification and the events in it: each a kind and what differs from the ordinary."""
    message = published if isinstance(published, str) else json.dumps(published)
    native = published.get("eventType") if isinstance(published, dict) else None
    events = [
        expected(message, place, {"kind": kind, "native_type": native} | more)
        for place, (kind, more) in enumerate(kinds)
    ]
    return case(name, signed(envelope(message, **changes)), expected=events)


def preferences(*, everything: object = False, **topics: str) -> Json:
    """``newTopicPreferences`` or ``oldTopicPreferences``."""
    states = [{"topicName": f"pixelproof-{t}", "subscriptionStatus": status} for t, status in topics.items()]
    return {"unsubscribeAll": everything, "topicSubscriptionStatus": states}


def change(old: Json | None, new: Json | None) -> Json:
    """A Subscription event."""
    section: Json = {"contactList": "pixelproof", "timestamp": HAPPENED, "source": "UnsubscribeHeader"}
    section |= {"oldTopicPreferences": old} if old is not None else {}
    section |= {"newTopicPreferences": new} if new is not None else {}
    return event("Subscription", section)


def opens() -> Iterator[Json]:
    """Opens: by people, by machines, of mail to several."""
    opened, bird = OPENED, {"client": "thunderbird"}
    yield read("open", event("Open", opened), ("open", bird))
    yield read("open, signature version 2", event("Open", opened), ("open", bird), SignatureVersion="2")
    yield read("open without subject", event("Open", opened), ("open", bird), Subject=None)
    for name, (family, agent) in {
        "Google's image proxy": ("gmail-proxy", "Mozilla/5.0 (Windows NT 5.1) Gecko (via ggpht.com GoogleImageProxy)"),
        "Yahoo's proxy": ("yahoo-proxy", "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"),
        "Apple's Mail Privacy Protection": ("apple-mail-privacy", "Mozilla/5.0"),
    }.items():
        by_machine = {"machine": True, "client": family}
        yield read(f"open by {name}", event("Open", opened | {"userAgent": agent}), ("open", by_machine))
    two = event("Open", opened, mail=mail(destination=[READER, "other@example.org"]))
    nobody: Json = {"address": None, "recipient_tag": None}
    yield read("open of mail to two people names nobody", two, ("open", bird | nobody))
    yield read("padded address", event("Open", opened, mail=mail(destination=[f"  {READER}\t"])), ("open", bird))
    foreign = event(
        "Open", opened, mail=mail(tags={"pixelproof_recipient": ["nobody"], "pixelproof_campaign": ["A B"]})
    )
    untagged: Json = bird | {"recipient_tag": None, "campaign": None}
    yield read("tags of another form are no tags", foreign, ("open", untagged))
    yield read("no tags", event("Open", opened, mail={"destination": [READER]}), ("open", untagged))
    yield read("an event without time has SNS's", event("Open"), ("open", {"occurred_at": SIGNED}))
    for when in ("1970-01-01T00:00:00.000Z", "yesterday", 1_763_640_000, "9999-12-31T23:59:59-23:59"):
        odd = event("Open", opened | {"timestamp": when})
        yield read(f"an event of {when} has SNS's time", odd, ("open", bird | {"occurred_at": SIGNED}))
    half = json.dumps(event("Open", opened)).replace("Thunderbird", "\\ud800")
    yield read("half a surrogate pair costs no event", half, ("open", {"native_type": "Open", "client": "other"}))


def withdrawals() -> Iterator[Json]:
    """Complaints and bounces."""
    said = {"timestamp": HAPPENED, "feedbackId": "010f-1"}
    mine, other = {"emailAddress": READER}, {"emailAddress": "other@example.org"}
    abuse = said | {"complainedRecipients": [mine], "complaintFeedbackType": "abuse"}
    yield read("complaint", event("Complaint", abuse), ("complaint", {}))
    yield read("complaint that names nobody", event("Complaint", said), ("complaint", {}))
    yield read("complaint without date", event("Complaint"), ("complaint", {"occurred_at": SIGNED}))
    nobody = {"recipient_tag": None}
    named = abuse | {"complainedRecipients": [mine, other]}
    one_of_two = event("Complaint", named, mail=mail(destination=[READER, "other@example.org"]))
    both = ("complaint", nobody), ("complaint", nobody | {"address": "other@example.org"})
    yield read("complaint of one of two", one_of_two, *both)
    yield read("not spam after all", event("Complaint", abuse | {"complaintFeedbackType": "not-spam"}), ("other", {}))
    bounced = said | {"bounceType": "Permanent", "bouncedRecipients": [mine]}
    yield read("bounce", event("Bounce", bounced), ("bounce", {}))
    legacy = {"notificationType": "Complaint", "complaint": abuse, "mail": mail()}
    yield read("complaint as identity notification", legacy, ("complaint", {"native_type": "Complaint"}))


def changes_of_subscription() -> Iterator[Json]:
    """Everything or single topics left and joined, clearly and unclearly."""
    left_a, left_b, joined_b, gone, nothing = (
        ("topic_unsubscribe", Json(topic="pixelproof-a")),
        ("topic_unsubscribe", Json(topic="pixelproof-b")),
        ("resubscribe", Json(topic="pixelproof-b")),
        ("unsubscribe", Json()),
        ("other", Json()),
    )
    everything, only_a, out_of_a = (
        preferences(everything=True, a="OptIn"),
        preferences(a="OptIn"),
        preferences(a="OptOut"),
    )
    for name, old, new, *kinds in (
        ("unsubscribed from all", only_a, everything, gone),
        ("unsubscribed from all, before unknown", None, everything, gone),
        ("unsubscribed from all once more", everything, everything, gone),
        ("unclear whether from all counts as all", only_a, preferences(everything="yes", a="OptIn"), gone),
        ("came back to all", everything, only_a, ("resubscribe", {})),
        ("left two topics", preferences(a="OptIn", b="OptIn"), preferences(a="OptOut", b="OptOut"), left_a, left_b),
        (
            "left one, joined one",
            preferences(a="OptIn", b="OptOut"),
            preferences(a="OptOut", b="OptIn"),
            left_a,
            joined_b,
        ),
        ("left a topic, before unknown", None, out_of_a, left_a),
        ("states spelt as the API does", preferences(a="OPT_IN"), preferences(a="OPT_OUT"), left_a),
        ("an unclear state counts as left", only_a, preferences(a="Maybe"), left_a),
        ("left a topic while out of all", everything, preferences(everything=True, a="OptOut"), left_a),
        ("out before, unclear now", out_of_a, preferences(a="Maybe"), nothing),
        ("nothing changed", only_a, only_a, nothing),
        ("a change without what is new", only_a, None, ("unknown", {})),
    ):
        yield read(name, change(old, new), *kinds)


def others() -> Iterator[Json]:
    """All else that SES and SNS say."""
    said = {"timestamp": HAPPENED}
    for native in ("Send", "Delivery", "Reject", "Click", "Rendering Failure", "DeliveryDelay"):
        yield read(native, event(native, said), ("other", {}))
    yield read("a type nobody knows", event("Teleport", said), ("unknown", {}))
    nothing: Json = {"address": None, "recipient_tag": None, "campaign": None, "occurred_at": SIGNED}
    for name, kind, native, message in (
        (
            "SES validates the topic",
            "other",
            "validation",
            "Successfully validated SNS topic for Amazon SES event publishing.",
        ),
        ("published text", "malformed", "malformed", "hello"),
        ("published list", "malformed", "malformed", "[1]"),
        ("published without type", "malformed", "malformed", '{"mail": {}}'),
        ("published nested without end", "malformed", "malformed", "[" * 2_000),
    ):
        key = {"keys": [f"ses:malformed:{digest(message)}"]}
        yield read(name, message, (kind, nothing | key | {"native_type": native}))
    confirmation: Json = {
        "Token": "2336412f37",
        "SubscribeURL": f"https://sns.eu-west-3.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}",
        "Subject": None,
    }
    for kind, native in (("confirmation", "SubscriptionConfirmation"), ("other", "UnsubscribeConfirmation")):
        fields = signed(envelope("You have chosen …", Type=native, **confirmation))
        key = {"keys": [f"ses:id:{digest(MESSAGE_ID)}:0"]}
        yield case(native, fields, expected=[expected("", 0, {"kind": kind, "native_type": native} | nothing | key)])


def freshness() -> Iterator[Json]:
    """Age: all repetitions are taken, nothing from the future."""
    fields = signed(envelope(json.dumps(event("Send", {"timestamp": HAPPENED}))))
    events = [expected(fields["Message"], 0, {"kind": "other", "native_type": "Send"})]
    at = datetime.fromisoformat(SIGNED)
    for days in (timedelta(hours=1), timedelta(days=38)):
        yield case(f"after {days}", fields, now=(at + days).isoformat(), expected=events)
    yield case(
        "after 38 days and a second", fields, now=(at + timedelta(days=38, seconds=1)).isoformat(), error="stale"
    )
    yield case("five minutes ahead", fields, now=(at - timedelta(seconds=300)).isoformat(), expected=events)
    yield case("further ahead", fields, now=(at - timedelta(seconds=301)).isoformat(), error="future")


def refused() -> Iterator[Json]:
    """What somebody without SNS's key might send."""
    message = json.dumps(event("Send", {"timestamp": HAPPENED}))
    good = signed(envelope(message))
    altered = good["Signature"][:-6] + "AAAA=="
    for name, change_ in {
        "altered message": {"Message": message.replace("reader", "writer")},
        "altered subject": {"Subject": "x"},
        "altered time": {"Timestamp": "2026-11-20T11:59:31.000Z"},
        "altered id": {"MessageId": "other"},
        "altered signature": {"Signature": altered},
        "no signature": {"Signature": ""},
        "signature that is not base64": {"Signature": "é" + good["Signature"]},
        "signature with more than base64": {"Signature": "!" + good["Signature"]},
        "signature of SHA-1 called version 2": {"SignatureVersion": "2"},
        "unknown signature version": {"SignatureVersion": "3"},
        "notification passed off as a confirmation": {"Type": "SubscriptionConfirmation", "Token": "t"},
        "unknown message type": {"Type": "Gift"},
        "topic that is not ours": {"TopicArn": TOPIC + "2"},
        "unreadable time": {"Timestamp": "soon"},
        "time out of range": {"Timestamp": "0001-01-01T00:00:00+23:59"},
        "a number where a text must stand": {"Message": 9},
    }.items():
        yield case(name, good | change_, error="forged")
    for name, text in {"not JSON": "hello", "not an object": "[]", "empty": "", "raw SES event": message}.items():
        yield case(f"body: {name}", good, body=text, error="forged")
    yield case("nested without end", good, body='{"x":' * 2_000, error="forged")
    yield case("half a surrogate pair", good, body=json.dumps(good | {"Message": "\ud800"}), error="forged")
    yield case("not UTF-8", good, body_base64=base64.b64encode(b'{"Type":"\xff"}').decode(), error="forged")
    yield case("no header", good, headers={}, error="forged")
    yield case("header contradicts", good, headers={"x-amz-sns-message-type": "Gift"}, error="forged")
    raw = {"x-amz-sns-message-type": "Notification", "x-amz-sns-rawdelivery": "true"}
    yield case("raw delivery", good, headers=raw, error="forged")


def certificates() -> Iterator[Json]:
    """Addresses and certificates that are not SNS's."""
    message = json.dumps(event("Send", {"timestamp": HAPPENED}))
    host = "sns.eu-west-3.amazonaws.com"
    for name, url in {
        "plain http": URL.replace("https", "http"),
        "another host": URL.replace(host, "sns.eu-west-3.amazonaws.com.evil.example"),
        "a host that ends alike": URL.replace(host, "evil-sns.eu-west-3.amazonaws.com"),
        "another region": URL.replace("eu-west-3", "us-east-1"),
        "a bucket at AWS": URL.replace(host, "sns.s3.amazonaws.com"),
        "a user": URL.replace(host, f"user@{host}"),
        "the host as user": URL.replace(host, f"{host}@evil.example"),
        "a port": URL.replace(host, f"{host}:443"),
        "a query": URL + "?x=1",
        "a fragment": URL + "#x",
        "another path": URL.replace("SimpleNotificationService-", "other/SimpleNotificationService-"),
        "dots in the path": URL.replace("0123", "../0123"),
        "another name": URL.replace(".pem", ".crt"),
        "a line break": URL + "\n",
        "nothing": "",
    }.items():
        yield case(
            f"certificate from: {name}",
            signed(envelope(message, SigningCertURL=url)),
            certificates={url: CERTIFICATE},
            error="forged",
        )
    good = signed(envelope(message))
    ended = certificate(KEY, NOW - YEAR, NOW - timedelta(seconds=1))
    coming = certificate(KEY, NOW + timedelta(seconds=1), NOW + YEAR)
    curve = certificate(ec.generate_private_key(ec.SECP256R1()), NOW - YEAR, NOW + YEAR)
    other = certificate(rsa.generate_private_key(65_537, 2_048), NOW - YEAR, NOW + YEAR)
    for name, pem in {"expired": ended, "not valid yet": coming, "not RSA": curve, "of another key": other}.items():
        yield case(f"certificate {name}", good, certificates={URL: pem}, error="forged")
    small = signed(envelope(message), SMALL_KEY)
    yield case(
        "certificate of a small key",
        small,
        certificates={URL: certificate(SMALL_KEY, NOW - YEAR, NOW + YEAR)},
        error="forged",
    )
    china = signed(envelope(message, TopicArn=CHINA, SigningCertURL=CHINA_URL))
    events = [expected(message, 0, {"kind": "other", "native_type": "Send"})]
    settings = {"region": "eu-west-3", "topic_arns": [TOPIC, CHINA]}
    yield case("China", china, settings=settings, certificates={CHINA_URL: CERTIFICATE}, expected=events)
    crossed = signed(envelope(message, TopicArn=CHINA))
    yield case("another topic's region", crossed, settings=settings, error="forged")


BY_SNS = (opens, withdrawals, changes_of_subscription, others, freshness, refused, certificates)
