"""Makes ``sendgrid.json``: callbacks signed with a fixed test key, and what the codec must make of them.

Run it as ``python tests/vectors/make_sendgrid.py`` after a change of the cases; the signatures are deterministic
(RFC 6979), so the file changes only where a case does. What is expected is written down here by hand, not taken from
the codec. One case is not ours: SendGrid's own example, signed with SendGrid's key, from the tests of its SDKs.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

FILE = Path(__file__).with_name("sendgrid.json")
SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"

KEY = ec.derive_private_key(int.from_bytes(hashlib.sha256(b"test vectors").digest()) >> 1, ec.SECP256R1())
OLD_KEY = ec.derive_private_key(int.from_bytes(hashlib.sha256(b"older vectors").digest()) >> 1, ec.SECP256R1())
AT = 1_767_225_600
"""2026-01-01T00:00:00Z"""
NOW = "2026-01-01T00:00:10+00:00"
ADA, TAG = "ada@example.com", "00112233445566778899aabbccddeeff"
MESSAGE = "x1Y2.recvd-7d5d8f9c5-1-68A1B2C3-1.0"


def spki(key: ec.EllipticCurvePrivateKey) -> str:
    """The verification key as SendGrid shows it."""
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def signed(body: bytes, key: ec.EllipticCurvePrivateKey = KEY, at: str = str(AT)) -> dict[str, str]:
    """The headers of a callback."""
    signature = key.sign(at.encode() + body, ec.ECDSA(SHA256(), deterministic_signing=True))
    return {SIGNATURE: base64.b64encode(signature).decode(), TIMESTAMP: at}


def event(native: str, **more: object) -> dict[str, object]:
    """An event as SendGrid posts it, with the custom arguments of a campaign's mail."""
    return {
        "email": ADA,
        "timestamp": AT - 60,
        "event": native,
        "sg_event_id": "bW9zdGx5LWhhcm1sZXNz",
        "sg_message_id": MESSAGE,
        "pixelproof_recipient": TAG,
        "pixelproof_campaign": "news-1",
        **more,
    }


def content_key(*said: object) -> str:
    """The key of what an event says: address, type, timestamp, message and group as compact JSON, digested."""
    encoded = json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
    return f"sendgrid:content:{hashlib.sha256(encoded).hexdigest()}"


def expected(kind: str, native: str, **more: object) -> dict[str, object]:
    """What the codec must make of ``event(native)``."""
    return {
        "kind": kind,
        "native_type": native,
        "occurred_at": "2025-12-31T23:59:00+00:00",
        "keys": ["sendgrid:id:bW9zdGx5LWhhcm1sZXNz", content_key(ADA, native, AT - 60, MESSAGE, None)],
        "address": ADA,
        "recipient_tag": TAG,
        "campaign": "news-1",
        "topic": None,
        "machine": False,
        **more,
    }


def case(name: str, body: object, outcome: object, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a case
    """One case: ``body`` is JSON to be or bytes, ``outcome`` the expected events or the name of the error."""
    raw = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode() + b"\r\n"
    result = {"error": outcome} if isinstance(outcome, str) else {"events": outcome}
    return {
        "name": name,
        "settings": {"webhook_public_keys": [spki(KEY)]},
        "headers": signed(raw),
        "body": base64.b64encode(raw).decode(),
        "now": NOW,
        **result,
        **more,
    }


KINDS = {
    "processed": "other",
    "delivered": "other",
    "deferred": "other",
    "click": "other",
    "bounce": "bounce",
    "dropped": "bounce",
    "open": "open",
    "unsubscribe": "unsubscribe",
    "spamreport": "complaint",
    "account_status_change": "unknown",
}


def types() -> list[dict[str, Any]]:
    """Every documented event type, and one that nobody has mapped."""
    plain = [case(f"event {native}", [event(native)], [expected(kind, native)]) for native, kind in KINDS.items()]
    grouped = {"group_unsubscribe": "topic_unsubscribe", "group_resubscribe": "resubscribe"}
    more = {"asm_group_id": 10, "url": "https://example.com", "ip": "192.0.2.1", "useragent": "x"}
    return plain + [
        case(
            f"event {native}",
            [event(native, **more)],
            [expected(kind, native, topic="10", keys=_keys(native, group=10))],
        )
        for native, kind in grouped.items()
    ]


def _keys(native: str, group: object = None, timestamp: object = AT - 60, address: object = ADA) -> list[str]:
    return ["sendgrid:id:bW9zdGx5LWhhcm1sZXNz", content_key(address, native, timestamp, MESSAGE, group)]


def traps() -> list[dict[str, Any]]:
    """What is irregular in genuine callbacks."""
    stripped = dict.fromkeys(("recipient_tag", "campaign"))
    odd = event("unsubscribe", pixelproof_recipient="AB", pixelproof_campaign="No Such!", category=["a", "b"])
    milliseconds = event("open", timestamp=(AT - 60) * 1000, sg_machine_open=True, category="news-1")
    undated = event("unsubscribe", timestamp="soon")
    other_id = event("spamreport", sg_event_id="Y2hhbmdlZA==")
    unsafe_id = event("open", sg_event_id=ADA)
    digest = hashlib.sha256(ADA.encode()).hexdigest()
    return [
        case(
            "milliseconds and a machine's open",
            [milliseconds],
            [expected("open", "open", machine=True, keys=_keys("open", timestamp=(AT - 60) * 1000))],
        ),
        case("odd custom arguments are left out", [odd], [expected("unsubscribe", "unsubscribe", **stripped)]),
        case(
            "a withdrawal without a readable time counts as of its signature",
            [undated],
            [
                expected(
                    "unsubscribe",
                    "unsubscribe",
                    occurred_at="2026-01-01T00:00:00+00:00",
                    keys=_keys("unsubscribe", timestamp="soon"),
                )
            ],
        ),
        case(
            "a repetition under another id keeps the second key",
            [other_id],
            [
                expected(
                    "complaint",
                    "spamreport",
                    keys=["sendgrid:id:Y2hhbmdlZA==", *_keys("spamreport")[1:]],
                )
            ],
        ),
        case(
            "an id that could be an address is digested",
            [unsafe_id],
            [expected("open", "open", keys=[f"sendgrid:id:{digest}", *_keys("open")[1:]])],
        ),
    ]


def damage() -> list[dict[str, Any]]:
    """Bodies that are damaged in part or as a whole."""
    malformed = {
        "native_type": "malformed",
        "occurred_at": "2026-01-01T00:00:00+00:00",
        "keys": [f"sendgrid:malformed:{hashlib.sha256(b'7').hexdigest()}"],
        "address": None,
        "recipient_tag": None,
        "campaign": None,
    }
    surrogate = json.dumps([event("open", useragent="\ud800"), event("unsubscribe")]).encode()
    return [
        case(
            "one malformed item does not cost the others",
            [7, event("unsubscribe")],
            [
                {**expected("malformed", "malformed"), **malformed},
                expected("unsubscribe", "unsubscribe"),
            ],
        ),
        case(
            "half a surrogate pair does not cost a withdrawal",
            surrogate,
            [expected("open", "open"), expected("unsubscribe", "unsubscribe")],
        ),
        case(
            "the address is passed on as written, stripped",
            [event("open", email=" Ada@Example.COM ")],
            [expected("open", "open", address="Ada@Example.COM", keys=_keys("open", address=" Ada@Example.COM "))],
        ),
        case("no events", [], []),
        case("an object is no array", {"event": "open"}, "PayloadError"),
        case("not JSON", b"event=open", "PayloadError"),
        case("nested too deeply", b"[" * 3_000, "PayloadError"),
    ]


def signatures() -> list[dict[str, Any]]:
    """Keys, freshness and forgeries."""
    events = [event("unsubscribe")]
    good = [expected("unsubscribe", "unsubscribe")]
    body = json.dumps(events, separators=(",", ":")).encode() + b"\r\n"
    genuine = signed(body)
    both = {"webhook_public_keys": [spki(OLD_KEY), spki(KEY)]}
    return [
        case("either of two keys", events, good, settings=both),
        case("the older of two keys", events, good, settings=both, headers=signed(body, OLD_KEY)),
        case("a foreign key", events, "VerificationError", headers=signed(body, OLD_KEY)),
        case("a retry after a day is not stale", events, good, now="2026-01-02T05:00:00+00:00"),
        case("stale after two days", events, "VerificationError", now="2026-01-03T00:00:01+00:00"),
        case("four minutes ahead", events, good, now="2025-12-31T23:56:00+00:00"),
        case("six minutes ahead", events, "VerificationError", now="2025-12-31T23:54:00+00:00"),
        case("no signature", events, "VerificationError", headers={TIMESTAMP: str(AT)}),
        case("no timestamp", events, "VerificationError", headers={SIGNATURE: genuine[SIGNATURE]}),
        case("no headers", events, "VerificationError", headers={}),
        case("signature not base64", events, "VerificationError", headers={**genuine, SIGNATURE: "é%"}),
        case("signature not DER", events, "VerificationError", headers={**genuine, SIGNATURE: "AAAA"}),
        case("timestamp altered", events, "VerificationError", headers={**genuine, TIMESTAMP: str(AT + 1)}),
        case("timestamp not ASCII", events, "VerificationError", headers={**genuine, TIMESTAMP: "١٧٦٧٢٢٥٦٠٠"}),
        case("timestamp huge", events, "VerificationError", headers={**genuine, TIMESTAMP: "9" * 5000}),
        case("one byte altered", [event("unsubscribe", email="adb@example.com")], "VerificationError", headers=genuine),
    ]


def of_sendgrid() -> dict[str, Any]:
    """SendGrid's own example: neither the key nor the signature is ours."""
    message = "LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0"
    dropped = {
        "email": "hello@world.com",
        "event": "dropped",
        "reason": "Bounced Address",
        "sg_event_id": "ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",
        "sg_message_id": message,
        "smtp-id": "<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>",
        "timestamp": 1_600_112_492,
    }
    key = (
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglS"
        "I8eNEc6wEA3F+g=="
    )
    signature = "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
    keys = [
        f"sendgrid:id:{dropped['sg_event_id']}",
        content_key("hello@world.com", "dropped", 1600112492, message, None),
    ]
    outcome = expected(
        "bounce",
        "dropped",
        occurred_at="2020-09-14T19:41:32+00:00",
        keys=keys,
        address="hello@world.com",
        recipient_tag=None,
        campaign=None,
    )
    return case(
        "SendGrid's own example",
        [dropped],
        [outcome],
        settings={"webhook_public_keys": [key]},
        headers={SIGNATURE: signature, TIMESTAMP: "1600112502"},
        now="2020-09-14T19:42:00+00:00",
    )


def cases() -> list[dict[str, Any]]:
    """All cases."""
    return [of_sendgrid(), *types(), *traps(), *damage(), *signatures()]


def text() -> str:
    """The file's contents."""
    return json.dumps(cases(), indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
