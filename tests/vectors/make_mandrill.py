"""Cases for ``mailchimp.json``: webhooks of Mailchimp Transactional (Mandrill), signed with fixed test keys.

What is expected is written down here by hand, not taken from the codec.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha1, sha256
from typing import Any
from urllib.parse import urlencode

Json = dict[str, Any]

KEY, OTHER_KEY, TEST_KEY = "fixed-test-key-a", "fixed-test-key-b", "test-webhook"
URL, OTHER_URL = "https://team.example/webhooks/mailchimp/transactional", "https://team.example/mandrill?from=us"
KEYS = {"MANDRILL_WEBHOOK_KEYS": KEY}
SETTINGS = {"list_id": "a1b2c3d4e5", "transactional_urls": [URL]}
PATH = "/webhooks/mailchimp/transactional"

TS = 1_772_721_000
NOW = datetime.fromtimestamp(TS + 60, UTC).isoformat()
AT = datetime.fromtimestamp(TS, UTC).isoformat()
NEVER = datetime.fromtimestamp(0, UTC).isoformat()
ADA = "ada@example.com"
ID = "7761629"
RECIPIENT, CAMPAIGN = "ab" * 16, "spring"
METADATA = {"pixelproof_recipient": RECIPIENT, "pixelproof_campaign": CAMPAIGN, "user_id": 111}
OUTLOOK = "Mozilla/5.0 (Windows NT 10.0; Microsoft Outlook 16.0.5; Microsoft Outlook 16.0.5; ms-office; MSOffice 16)"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"

OF_MESSAGES = {
    "send": "other",
    "delivered": "other",
    "deferral": "other",
    "click": "other",
    "hard_bounce": "bounce",
    "soft_bounce": "bounce",
    "reject": "bounce",
    "spam": "complaint",
    "unsub": "unsubscribe",
}
OF_LISTS = {
    ("blacklist", "add", "unsub"): "unsubscribe",
    ("blacklist", "change", "spam"): "complaint",
    ("blacklist", "add", "hard-bounce"): "bounce",
    ("blacklist", "add", "soft-bounce"): "bounce",
    ("blacklist", "add", "custom"): "other",
    ("blacklist", "remove", "unsub"): "other",
    ("blacklist", "add", "new-reason"): "unknown",
    ("blacklist", "new-action", "unsub"): "unknown",
    ("denylist", "add", "unsub"): "unsubscribe",
    ("whitelist", "add", ""): "other",
    ("safelist", "remove", ""): "other",
    ("greylist", "add", "unsub"): "unknown",
}


def told(event: str, **more: object) -> Json:
    """An event about a message, as Mandrill documents it."""
    message = {"ts": TS - 5, "_id": ID, "state": "sent", "subject": "Your order", "email": ADA, "tags": ["orders"]}
    message |= {"sender": "shop@team.example", "metadata": METADATA, "opens": [], "clicks": []}
    return {"event": event, "_id": ID, "ts": TS, "msg": message} | more


def opened(agent: str = OUTLOOK) -> Json:
    """An open, with all that Mandrill says about who read it where."""
    return told("open", user_agent=agent, ip="192.0.2.7", location={"city": "Rennes"}, user_agent_parsed=None)


def synced(listed: str, action: str, reason: str) -> Json:
    """A change of Mandrill's lists of addresses."""
    reject = {"email": ADA, "created_at": "2026-03-05 14:30:00"} | ({"reason": reason} if reason else {})
    return {"type": listed, "action": action, "reject": reject, "ts": TS}


def expected(kind: str, item: Mapping[str, Any], **more: object) -> Json:
    """What the codec must make of an event about a message with the usual metadata."""
    native = item.get("event") or " ".join(filter(None, (item["type"], item["action"], item["reject"].get("reason"))))
    said = [native, item.get("_id"), item["ts"], ADA, item.get("url"), item.get("user_agent")]
    return {
        "kind": kind,
        "native_type": native,
        "occurred_at": AT,
        "keys": [f"mailchimp:transactional:{sha256(json.dumps(said).encode()).hexdigest()}"],
        "address": ADA,
        "new_address": None,
        "topic": None,
        "recipient_tag": RECIPIENT if "msg" in item else None,
        "campaign": CAMPAIGN if "msg" in item else None,
        "machine": False,
        "client": "",
    } | more


def malformed(raw: object) -> Json:
    """What the codec must make of an item that it cannot read."""
    kept = raw if isinstance(raw, dict) else {"": raw}
    digest = sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    usual = expected("malformed", told("malformed"), occurred_at=NEVER, keys=[f"mailchimp:malformed:{digest}"])
    return usual | {"address": None, "recipient_tag": None, "campaign": None}


def signature(form: Mapping[str, str], key: str = KEY, url: str = URL) -> str:
    """The signature header of a form."""
    signed = url + "".join(f"{name}{form[name]}" for name in sorted(form))
    return base64.b64encode(hmac.new(key.encode(), signed.encode(errors="surrogateescape"), sha1).digest()).decode()


def case(name: str, events: object, outcome: list[Json] | str, *, signed: str = "", **more: object) -> Json:
    """One case: ``events`` is the array, or the text of the form's field, or the whole form, or the raw body.

    ``outcome``: the expected events or the name of the error.
    """
    form = events if isinstance(events, dict) else {"mandrill_events": _text(events)}
    raw = events if isinstance(events, bytes) else urlencode(form, errors="surrogateescape").encode()
    headers = {"content-type": "application/x-www-form-urlencoded"}
    headers["x-mandrill-signature"] = signed or signature(form)
    return {
        "name": f"transactional: {name}",
        "path": PATH,
        "headers": headers,
        "body": base64.b64encode(raw).decode(),
        "secrets": KEYS,
        "settings": SETTINGS,
        "now": NOW,
        **({"error": outcome} if isinstance(outcome, str) else {"events": outcome}),
        **more,
    }


def _text(events: object) -> str:
    return events if isinstance(events, str) else "" if isinstance(events, bytes) else json.dumps(events)


def one(name: str, item: Json, result: Json, **more: Any) -> Json:  # noqa: ANN401 - parts of a case
    """A case with a single event."""
    return case(name, [item], [result], **more)


def types() -> list[Json]:
    """Every documented event, and some that nobody has mapped."""
    agents = {OUTLOOK: ("outlook", False), GMAIL: ("gmail-proxy", True), "": ("", False)}
    lists = [(synced(*change), kind) for change, kind in OF_LISTS.items()]
    inbound = told("inbound", _id=None)
    clicked = told("click", user_agent=GMAIL, url="https://shop.example/")
    return [
        *(one(event, told(event), expected(kind, told(event))) for event, kind in OF_MESSAGES.items()),
        *(
            one(
                f"open by {family or 'who knows'}",
                opened(agent),
                expected("open", opened(agent), client=family, machine=machine),
            )
            for agent, (family, machine) in agents.items()
        ),
        *(
            one(
                f"list {item['type']} {item['action']} {item['reject'].get('reason', '')}".strip(),
                item,
                expected(kind, item),
            )
            for item, kind in lists
        ),
        one("inbound", inbound, expected("other", inbound)),
        one("a click by a machine", clicked, expected("other", clicked)),
        one("a new type", told("new"), expected("unknown", told("new"))),
    ]


def batches() -> list[Json]:
    """What many events in one post may hold."""
    bare, unnamed, undated = 7, {"ts": TS, "msg": {"email": ADA}}, told("unsub", ts=None)
    undated["msg"] = {"email": ADA}
    lost = told("spam", ts="tomorrow", user_agent="odd")
    kept = {name: value for name, value in lost.items() if name != "user_agent"}
    kept["msg"] = {name: value for name, value in lost["msg"].items() if name not in {"opens", "clicks"}}
    good = told("unsub")
    events = [bare, unnamed, undated, lost, good]
    results = [malformed(bare), malformed(unnamed), malformed(undated), malformed(kept), expected("unsubscribe", good)]
    seconds = told("unsub", ts=str(TS))
    half = json.dumps([opened("\\ud800"), good]).replace("\\\\ud800", "\\ud800")
    return [
        case(
            "one after the other",
            [told("send"), opened(), good],
            [expected("other", told("send")), expected("open", opened(), client="outlook"), results[-1]],
        ),
        case("unreadable items among good ones", events, results),
        one("seconds as text", seconds, expected("unsubscribe", seconds)),
        case("half a character", half, [expected("open", opened("?"), client="other"), results[-1]]),
        case("bytes that are no UTF-8", '["\udcff"]', [malformed("\ufffd")]),
        one(
            "without metadata",
            told("unsub", msg={"email": ADA, "metadata": []}),
            expected("unsubscribe", told("unsub"), recipient_tag=None, campaign=None),
        ),
        one(
            "with odd metadata",
            told(
                "unsub",
                msg={"email": ADA, "metadata": {"pixelproof_recipient": "A" * 32, "pixelproof_campaign": ["spring"]}},
            ),
            expected("unsubscribe", told("unsub"), recipient_tag=None, campaign=None),
        ),
        one(
            "without an address",
            told("unsub", msg={"metadata": METADATA}),
            expected("unsubscribe", told("unsub"), address=None, keys=_keys_without_address()),
        ),
        one(
            "undated, without effect",
            told("send", ts=None),
            expected("other", told("send", ts=None), occurred_at=NEVER),
        ),
    ]


def _keys_without_address() -> list[str]:
    said = ["unsub", ID, TS, None, None, None]
    return [f"mailchimp:transactional:{sha256(json.dumps(said).encode()).hexdigest()}"]


def proven() -> list[Json]:
    """What is signed in another way than the usual one, and holds."""
    good = told("unsub")
    result = [expected("unsubscribe", good)]
    form = {"mandrill_events": json.dumps([good])}
    both = {"MANDRILL_WEBHOOK_KEYS": f"{OTHER_KEY}, {KEY}"}
    urls = SETTINGS | {"transactional_urls": [OTHER_URL, URL]}
    marketing = {"MAILCHIMP_WEBHOOK_SECRETS": "fixed-test-secret-a"}
    further = form | {"added_later": "1", "z": "é"}
    empty = {"mandrill_events": "[]"}
    return [
        case("the second of two keys", [good], result, secrets=both),
        case("the second of two addresses", [good], result, settings=urls),
        case("an address with a query", [good], result, settings=urls, signed=signature(form, url=OTHER_URL)),
        case("further fields", further, result, signed=signature(further)),
        case("an empty batch", [], []),
        case("the test of an address", [], [], signed=signature(empty, TEST_KEY)),
        case("the test before there is a key", [], [], signed=signature(empty, TEST_KEY), secrets=marketing),
    ]


def forged() -> list[Json]:
    """What nobody but Mandrill sent."""
    good = [told("unsub")]
    form = {"mandrill_events": json.dumps(good)}
    moved = {"mandrill_e": f"vents{form['mandrill_events']}"}
    marketing = {"MAILCHIMP_WEBHOOK_SECRETS": "fixed-test-secret-a"}
    cases: dict[str, Json] = {
        "an empty signature": {"signed": " "},
        "a signature that is not ASCII": {"signed": "é" * 28},
        "another key": {"signed": signature(form, "somebody-else")},
        "another address": {"signed": signature(form, url=f"{URL}/")},
        "the test key on a batch with events": {"signed": signature(form, TEST_KEY)},
        "altered": {"signed": signature({"mandrill_events": json.dumps([told("send")])})},
        "no key configured": {"secrets": marketing},
    }
    return [
        *(case(name, good, "VerificationError", **more) for name, more in cases.items()),
        case("no events", {"type": "unsubscribe"}, "VerificationError"),
        case("cut up into other fields", moved, "VerificationError", signed=signature(form)),
        case("too many fields", form | {f"a{n}": "1" for n in range(100)}, "VerificationError"),
        case(
            "the test key on an empty text",
            "",
            "VerificationError",
            signed=signature({"mandrill_events": ""}, TEST_KEY),
        ),
        case("no form", b"\xff\xfe", "VerificationError"),
    ]


def unusable() -> list[Json]:
    """What Mandrill signed and nobody can read: it becomes a dead letter."""
    bodies = {"no JSON": "{[", "an object": "{}", "nothing": "", "cut off": "[{", "NaN alone": "NaN"}
    return [case(name, text, "PayloadError") for name, text in bodies.items()]


def cases() -> list[Json]:
    """All of them."""
    return [*types(), *batches(), *proven(), *forged(), *unusable()]
