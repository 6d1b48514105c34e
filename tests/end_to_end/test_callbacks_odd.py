"""Requests that no ESP makes, over HTTP: a plain refusal, no effect, and nobody else waits for them."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from core.dead_letters import Reason
from tests.at_sendgrid import AtSendGrid
from tests.installation import ADDRESS
from webhooks.callbacks import BODY_LIMIT

UNSUBSCRIBE = json.dumps([{"event": "unsubscribe", "email": ADDRESS, "timestamp": 1_790_000_000}]).encode()
HOOK = "/webhooks/sendgrid"


def post(at_sendgrid: AtSendGrid, body: bytes, **headers: str) -> int:
    """Post a body, signed as SendGrid does; answers the status."""
    client = at_sendgrid.team.client
    return client.post(HOOK, content=body, headers={**at_sendgrid.signed(body), **headers}).status_code


def raw(at_sendgrid: AtSendGrid, method: str, path: str, headers: dict[str, str], body: bytes = UNSUBSCRIBE) -> int:
    """A request whose path and headers nobody tidies up."""
    connection = http.client.HTTPConnection(urlsplit(str(at_sendgrid.team.client.base_url)).netloc, timeout=30)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in {"content-length": str(len(body)), **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_body_may_be_as_long_as_the_limit_and_no_longer(at_sendgrid: AtSendGrid) -> None:
    """At the limit it is taken; a byte more is refused, whether or not its length was announced."""
    assert post(at_sendgrid, UNSUBSCRIBE + b" " * (BODY_LIMIT - len(UNSUBSCRIBE))) == 200
    assert at_sendgrid.effects == {"unsubscribe": 1}
    longer = b" " * (BODY_LIMIT + 1)
    assert post(at_sendgrid, longer) == 413
    client = at_sendgrid.team.client
    pieces = (longer[at : at + 65_536] for at in range(0, len(longer), 65_536))
    assert client.post(HOOK, content=pieces, headers=at_sendgrid.signed(longer)).status_code == 413
    assert at_sendgrid.effects == {"unsubscribe": 1}
    assert list(at_sendgrid.team.services.dead_letters.listed()) == []


def test_nothing_is_unpacked(at_sendgrid: AtSendGrid) -> None:
    """No ESP packs its callbacks. What was signed packed is kept as it is; what was packed on the way is refused."""
    packed = gzip.compress(UNSUBSCRIBE, mtime=0)
    client = at_sendgrid.team.client
    headers = {**at_sendgrid.signed(UNSUBSCRIBE), "content-encoding": "gzip"}
    assert client.post(HOOK, content=packed, headers=headers).status_code == 403
    assert post(at_sendgrid, packed, **{"content-encoding": "gzip"}) == 200
    (letter,) = at_sendgrid.team.services.dead_letters.listed()
    assert (letter.reason, letter.body) == (Reason.UNREADABLE, packed)
    assert post(at_sendgrid, UNSUBSCRIBE, **{"content-encoding": "gzip"}) == 200
    assert at_sendgrid.effects == {"unsubscribe": 1}


def test_a_slow_body_keeps_nobody_waiting(at_sendgrid: AtSendGrid) -> None:
    """It comes a byte at a time and is taken when it is complete; another callback is taken meanwhile."""
    other = json.dumps([{"event": "unsubscribe", "email": "bob@example.com"}]).encode()

    def slowly() -> Iterator[bytes]:
        for at in range(len(UNSUBSCRIBE)):
            if at == 10:
                assert post(at_sendgrid, other) == 200
                assert at_sendgrid.effects == {"unsubscribe": 1}
            time.sleep(0.001)
            yield UNSUBSCRIBE[at : at + 1]

    slow = at_sendgrid.signed(UNSUBSCRIBE)
    assert at_sendgrid.team.client.post(HOOK, content=slowly(), headers=slow).status_code == 200
    assert at_sendgrid.effects == {"unsubscribe": 2}


def test_who_goes_away_in_the_middle_leaves_nothing(at_sendgrid: AtSendGrid) -> None:
    """The next callback is taken."""
    parts = urlsplit(str(at_sendgrid.team.client.base_url))
    assert parts.hostname
    signed = "".join(f"{name}: {value}\r\n" for name, value in at_sendgrid.signed(UNSUBSCRIBE).items())
    head = f"POST {HOOK} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(UNSUBSCRIBE)}\r\n{signed}\r\n"
    for _ in range(3):
        with socket.create_connection((parts.hostname, parts.port or 80)) as connection:
            connection.sendall(head.encode() + UNSUBSCRIBE[:20])
            time.sleep(0.05)
    assert post(at_sendgrid, UNSUBSCRIBE) == 200
    assert at_sendgrid.effects == {"unsubscribe": 1}


def test_other_methods_are_refused_and_looks_change_nothing(at_sendgrid: AtSendGrid) -> None:
    """Even with a signed body; ESPs look whether an address answers before they use it."""
    signed = at_sendgrid.signed(UNSUBSCRIBE)
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "ODD"):
        assert raw(at_sendgrid, method, HOOK, signed) in {400, 405}
    assert [raw(at_sendgrid, method, HOOK, signed) for method in ("GET", "HEAD")] == [200, 200]
    assert at_sendgrid.entries == 0


PATHS = [
    "/webhooks/",
    "/webhooks/other",
    "/webhooks/mailchimp",
    "/webhooks/SendGrid",
    "/webhooks/sendgrid/a/b",
    "/webhooks/sendgrid%00",
    "/webhooks/sendgrid%0a",
    "/webhooks/..",
    "/webhooks/../sendgrid",
    "/webhooks/%2e%2e/sendgrid",
    "/webhooks/..%2f..%2fetc%2fpasswd",
    "/webhooks/..%5c..%5cpixelproof.toml",
    "/webhooks/%ed%a0%80",
    "/webhooks/%ff",
    "/webhooks//sendgrid",
    "//webhooks/sendgrid",
    "/webhooks/" + "a" * 20_000,
]


def test_no_other_path_leads_anywhere(at_sendgrid: AtSendGrid) -> None:
    """A provider's name is looked up as it is and never becomes a path; the answer says nothing."""
    answers = {path[:40]: raw(at_sendgrid, "POST", path, at_sendgrid.signed(UNSUBSCRIBE)) for path in PATHS}
    assert set(answers.values()) <= {404, 400}, answers
    assert at_sendgrid.entries == 0


ODD = {
    "no signature": {},
    "empty": {"x-twilio-email-event-webhook-signature": "", "x-twilio-email-event-webhook-timestamp": ""},
    "not ASCII": {"x-twilio-email-event-webhook-signature": "é\xff", "x-twilio-email-event-webhook-timestamp": "é"},
    "long": {
        "x-twilio-email-event-webhook-signature": "A" * 30_000,
        "x-twilio-email-event-webhook-timestamp": "9" * 30_000,
    },
    "of another ESP": {"x-mailchimp-signature": "t=1,v1=" + "0" * 64, "x-amz-sns-message-type": "Notification"},
}


def test_odd_headers_are_refused(at_sendgrid: AtSendGrid) -> None:
    """With a plain refusal, never an error of ours."""
    answers = {what: raw(at_sendgrid, "POST", HOOK, headers) for what, headers in ODD.items()}
    assert set(answers.values()) <= {400, 403, 431}, answers
    assert at_sendgrid.entries == 0
