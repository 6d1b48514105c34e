"""Makes ``mailchimp.json``: callbacks signed with fixed test secrets, and what the codec must make of them.

Run it as ``python -m tests.vectors.make_mailchimp`` after a change of the cases. What is expected is written down here
by hand, not taken from the codec.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.vectors import make_mandrill

FILE = Path(__file__).with_name("mailchimp.json")

SECRET, OTHER_SECRET = "fixed-test-secret-a", "fixed-test-secret-b"
PATH_SECRET = "fixed-test-path-secret-0123"
SIGNED_ONLY = {"MAILCHIMP_WEBHOOK_SECRETS": SECRET}
PATH_ONLY = {"MAILCHIMP_WEBHOOK_PATH_SECRET": PATH_SECRET}
PATH = "/webhooks/mailchimp"
SECRET_PATH = f"{PATH}/{PATH_SECRET}"

LIST = "a1b2c3d4e5"
FIRED = "2026-03-05 14:30:00"
FIRED_AT = 1_772_721_000
"""The same in UTC."""
SIGNED_AT = FIRED_AT + 2
RETRIES = 75 * 60
"""Seconds for which Mailchimp repeats a callback."""

ADA = "ada@example.com"
MEMBER = {"id": "8a25ff1d98", "list_id": LIST, "email": ADA, "email_type": "html"}
LEAVING = {"action": "unsub", "reason": "manual"}
MERGES = {"merges][EMAIL": ADA, "merges][FNAME": "Ada", "merges][INTERESTS": "Group1,Group2"}

IDENTITY = ("list_id", "id", "new_id", "email", "old_email", "new_email", "action", "reason")

Form = dict[str, str]
Case = dict[str, Any]


def form(native: str, *, fired: str = FIRED, **data: str) -> Form:
    """The fields of a callback."""
    return {"type": native, "fired_at": fired} | {f"data[{name}]": value for name, value in data.items()}


UNSUBSCRIBE = form("unsubscribe", campaign_id="4fjk2ma9xd", ip_opt="192.0.2.7", **LEAVING, **MEMBER, **MERGES)


def signature(body: bytes, at: int = SIGNED_AT, secret: str = SECRET) -> str:
    """The signature header of a body."""
    return f"t={at},v1={hmac.new(secret.encode(), f'{at}.'.encode() + body, sha256).hexdigest()}"


def case(name: str, body: Form | bytes, outcome: list[Case] | str, *, header: str | None = "", **more: object) -> Case:
    """One case: ``outcome`` is the expected events or the name of the error; ``header`` None: not signed."""
    raw = body if isinstance(body, bytes) else urlencode(body).encode()
    headers = {"content-type": "application/x-www-form-urlencoded"}
    if header is not None:
        headers["x-mailchimp-signature"] = header or signature(raw)
    return {
        "name": name,
        "path": PATH,
        "headers": headers,
        "body": base64.b64encode(raw).decode(),
        "secrets": SIGNED_ONLY,
        "settings": {"list_id": LIST},
        "now": at(SIGNED_AT + 1),
        **({"error": outcome} if isinstance(outcome, str) else {"events": outcome}),
        **more,
    }


def at(seconds: int) -> str:
    """An instant as the vectors write it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def event(kind: str, fields: Mapping[str, str], **more: object) -> list[Case]:
    """What the codec must make of a callback."""
    said = [fields.get("type", ""), fields.get("fired_at", ""), *(fields.get(f"data[{name}]", "") for name in IDENTITY)]
    return [
        {
            "kind": kind,
            "native_type": fields["type"],
            "occurred_at": at(FIRED_AT),
            "keys": [f"mailchimp:{sha256(repr(said).encode()).hexdigest()}"],
            "address": ADA,
            "new_address": None,
            "topic": None,
            "recipient_tag": None,
            "campaign": None,
            "machine": False,
            "client": "",
            **more,
        }
    ]


def read(
    name: str,
    kind: str,
    fields: Form,
    *,
    expected: Mapping[str, object] | None = None,
    **more: Any,  # noqa: ANN401 - parts of a case
) -> Case:
    """A case that is read; ``expected`` is what differs from the usual event."""
    return case(name, fields, event(kind, fields, **(expected or {})), **more)


def types() -> list[Case]:
    """Every documented type and reason, and some that nobody has mapped."""
    cleaned = {"list_id": LIST, "campaign_id": "4fjk2ma9xd", "email": ADA}
    moved = form("upemail", list_id=LIST, new_id="51da8c3259", new_email="ada.new@example.com", old_email=f" {ADA} ")
    sent = form("campaign", id="5aa2102003", subject="Spring", status="sent", reason="", list_id=LIST)
    abuse = {"action": "unsub", "reason": "abuse"}
    return [
        read("unsubscribe", "unsubscribe", UNSUBSCRIBE),
        read(
            "unsubscribe, then deleted", "unsubscribe", form("unsubscribe", **{**LEAVING, "action": "delete"}, **MEMBER)
        ),
        read("unsubscribe for abuse", "complaint", form("unsubscribe", **abuse, **MEMBER)),
        read("unsubscribe for a new reason", "unsubscribe", form("unsubscribe", action="unsub", reason="?", **MEMBER)),
        read("subscribe", "resubscribe", form("subscribe", ip_signup="192.0.2.7", **MEMBER, **MERGES)),
        read("profile", "other", form("profile", ip_opt="192.0.2.7", **MEMBER, **MERGES)),
        read("cleaned after a bounce", "bounce", form("cleaned", reason="hard", **cleaned)),
        read("cleaned for abuse", "complaint", form("cleaned", reason="abuse", **cleaned)),
        read("upemail", "address_change", moved, expected={"new_address": "ada.new@example.com"}),
        read("campaign", "other", sent, expected={"address": None}),
        read("a new type", "unknown", form("something_new", **MEMBER)),
        read("a new type without an address", "unknown", form("something_new"), expected={"address": None}),
    ]


def interests() -> list[Case]:
    """Callbacks that show which interests a contact is in, where some are mapped to purposes."""
    first, second = "merges][GROUPINGS][0][groups", "merges][GROUPINGS][1][groups"
    named = {"merges][GROUPINGS][0][id": "5", "merges][GROUPINGS][0][name": "What we may do"}
    forms: dict[str, tuple[dict[str, str], list[str]]] = {
        "in all": ({"merges][INTERESTS": "Offers, Measuring"}, []),
        "in one": ({"merges][INTERESTS": "Measuring"}, ["Offers"]),
        "in none": ({"merges][INTERESTS": ""}, ["Measuring", "Offers"]),
        "in others": ({"merges][INTERESTS": "measuring,Offers to all"}, ["Measuring", "Offers"]),
        "in both, by category": ({first: "News, Measuring", second: "Offers"}, []),
        "in one, by category": ({**named, first: "", second: "Offers"}, ["Measuring"]),
        "in one, and a field that names another": ({first: "Offers", "merges][INTERESTS": "Measuring"}, ["Measuring"]),
        "in none, by categories without groups": (named, ["Measuring", "Offers"]),
        "nothing said": ({"merges][FNAME": "Ada"}, []),
    }
    comma = form("profile", **MEMBER, **{"merges][INTERESTS": "News\\, offers,Measuring"})
    return [
        *(
            _of_interests(f"{native}: {name}", form(native, **MEMBER, **data), gone)
            for native in ("profile", "subscribe")
            for name, (data, gone) in forms.items()
        ),
        _of_interests("profile: a name with a comma", comma, ["Offers"], ["News, offers", "Offers", "Measuring"]),
        _of_interests("unsubscribe: covers everything anyway", UNSUBSCRIBE, []),
    ]


def _of_interests(name: str, fields: Form, gone: list[str], mapped: list[str] | None = None) -> Case:
    """A case with mapped interests, of which those that are ``gone`` must be taken for left."""
    kinds = {"profile": "other", "subscribe": "resubscribe", "unsubscribe": "unsubscribe"}
    (own,) = event(kinds[fields["type"]], fields)
    marks = [sha256(each.encode()).hexdigest()[:16] for each in gone]
    left = [
        own | {"kind": "topic_unsubscribe", "topic": each, "keys": [f"{own['keys'][0]}:{mark}"]}
        for each, mark in zip(gone, marks, strict=True)
    ]
    return case(f"interests, {name}", fields, [own, *left], topics=mapped or ["Measuring", "Offers"])


def traps() -> list[Case]:
    """What is irregular in genuine callbacks."""
    accent = form("unsubscribe", **LEAVING, id="1", list_id=LIST, email="zoé+news@example.com")
    signed = {"occurred_at": at(SIGNED_AT)}
    zones = {"ahead of UTC": "2026-03-05 15:30:00", "behind UTC": "2026-03-05 09:30:00", "unreadable": "yesterday"}
    late = urlencode(UNSUBSCRIBE).encode()
    both = {"MAILCHIMP_WEBHOOK_SECRETS": f"{SECRET}, {OTHER_SECRET}"}
    older: Case = {"header": None, "path": SECRET_PATH}
    return [
        read("an address with plus and accent", "unsubscribe", accent, expected={"address": "zoé+news@example.com"}),
        *(
            read(f"fired_at {how}", "unsubscribe", form("unsubscribe", fired=f, **LEAVING, **MEMBER), expected=signed)
            for how, f in zones.items()
        ),
        read("repeated to the end, signed once", "unsubscribe", UNSUBSCRIBE, now=at(SIGNED_AT + RETRIES)),
        read(
            "repeated to the end, signed again",
            "unsubscribe",
            UNSUBSCRIBE,
            header=signature(late, FIRED_AT + RETRIES),
            now=at(FIRED_AT + RETRIES),
        ),
        read("signed ahead of our clock", "unsubscribe", UNSUBSCRIBE, now=at(SIGNED_AT - 240)),
        read(
            "signed as far ahead as is allowed",
            "unsubscribe",
            UNSUBSCRIBE,
            now=at(SIGNED_AT - 900),
            settings={"list_id": LIST, "future_tolerance_seconds": 900},
        ),
        read(
            "the second of two secrets",
            "unsubscribe",
            UNSUBSCRIBE,
            header=signature(late, secret=OTHER_SECRET),
            secrets=both,
        ),
        read("an older webhook", "unsubscribe", UNSUBSCRIBE, secrets=PATH_ONLY, **older),
        read(
            "an older webhook beside a signed one", "unsubscribe", UNSUBSCRIBE, secrets=SIGNED_ONLY | PATH_ONLY, **older
        ),
    ]


def forged() -> list[Case]:
    """What nobody but Mailchimp sent, or nobody sent now."""
    raw = urlencode(UNSUBSCRIBE).encode()
    _, _, mac = signature(raw).partition(",v1=")
    headers = {
        "empty": " ",
        "without a time": f"v1={mac}",
        "without a signature": f"t={SIGNED_AT}",
        "not hexadecimal": f"t={SIGNED_AT},v1={'g' * 64}",
        "not ASCII": f"t={SIGNED_AT},v1={'é' * 64}",
        "in digits of another script": f"t=١٧٧٢٧٢١٠٠٢,v1={mac}",
        "with a huge time": f"t={'9' * 400},v1={mac}",
        "with a negative time": f"t=-5,v1={mac}",
        "of another time": f"t={SIGNED_AT + 1},v1={mac}",
        "of another secret": signature(raw, secret="somebody-else"),
    }
    to_path = {"header": None, "secrets": PATH_ONLY}

    def refused(name: str, **more: Any) -> Case:  # noqa: ANN401 - parts of a case
        return case(name, more.pop("body", UNSUBSCRIBE), "VerificationError", **more)

    return [
        *(refused(f"signature {what}", header=header) for what, header in headers.items()),
        refused("not signed", header=None),
        refused("altered", body=raw.replace(b"ada%40", b"eve%40"), header=signature(raw)),
        refused("older than Mailchimp repeats", now=at(SIGNED_AT + 7_201)),
        refused(
            "older than the tolerance", now=at(SIGNED_AT + 301), settings={"list_id": LIST, "tolerance_seconds": 300}
        ),
        refused("from the future", now=at(SIGNED_AT - 301)),
        refused(
            "further ahead than is allowed",
            now=at(SIGNED_AT - 11),
            settings={"list_id": LIST, "future_tolerance_seconds": 10},
        ),
        refused("not signed, to another path", path=f"{SECRET_PATH[:-1]}4", **to_path),
        refused("not signed, to the path without its secret", path=f"{PATH}/", **to_path),
        refused(
            "signed wrongly, to the secret path",
            path=SECRET_PATH,
            secrets=SIGNED_ONLY | PATH_ONLY,
            header=headers["of another secret"],
        ),
    ]


def unusable() -> list[Case]:
    """What Mailchimp signed and nobody can act on: refused, so that it is sent again and noticed."""
    nobody = {"id": "8a25ff1d98", "list_id": LIST}
    undated = form("unsubscribe", fired="", **LEAVING, **MEMBER)
    bodies: dict[str, Form | bytes] = {
        "no type": {"fired_at": FIRED, "data[email]": ADA},
        "a withdrawal of nobody": form("unsubscribe", **LEAVING, **nobody),
        "a withdrawal of a blank": form("unsubscribe", email="  ", **LEAVING, **nobody),
        "upemail without the old address": form("upemail", list_id=LIST, new_email="ada.new@example.com"),
        "not UTF-8": b"type=unsubscribe&\xff\xfe=1",
        "empty": b"",
        "JSON": b'{"type":"unsubscribe"}',
        "too many fields": b"&".join(b"a%d=1" % number for number in range(1_001)),
    }
    return [
        *(case(name, body, "PayloadError") for name, body in bodies.items()),
        case("neither signed nor dated", undated, "PayloadError", header=None, secrets=PATH_ONLY, path=SECRET_PATH),
    ]


def cases() -> list[Case]:
    """All vectors."""
    return [*types(), *interests(), *traps(), *forged(), *unusable(), *make_mandrill.cases()]


def text() -> str:
    """The file's contents."""
    return json.dumps(cases(), indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
