"""Callbacks over real HTTP that nobody signed, or somebody else did: refused, without effect; nothing is fetched."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, permutations
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cli.setup import fresh_keys
from connectors.simulators.serving import listen
from tests.callback_desk import (
    PROVIDERS,
    SECRETS,
    START,
    Desk,
    Signed,
    by_mailchimp,
    by_mandrill,
    by_sendgrid,
    desk,
)
from tests.outgoing import HOST, ODD_ADDRESSES, PATH, Trap
from tests.served_process import SETTINGS, running

PURPOSE = "performance"
DAY = 86_400
Spoil = Callable[[Signed], Signed]

_people = count(1)


def somebody() -> str:
    """An address that no other test has."""
    return f"person{next(_people)}@example.com"


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """An installation with all ESPs."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / ".env").write_text(fresh_keys(), "utf-8")
    with desk(folder) as made:
        yield made


@pytest.fixture(scope="module")
def aws_team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The same with SNS's certificates from AWS."""
    folder = tmp_path_factory.mktemp("aws")
    (folder / ".env").write_text(fresh_keys(), "utf-8")
    with desk(folder, at_aws=True) as made:
        yield made


# Signatures


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_genuine_callback_is_taken_once(team: Desk, provider: str) -> None:
    """However often it is replayed, and by whomever: each time 2xx, one entry."""
    address = somebody()
    signed, before = team.complaint(provider, address), team.entries
    assert [team.post(signed) for _ in range(3)] == [200] * 3
    assert (team.state(PURPOSE, address), team.entries) == ("withdrawn", before + 1)
    team.later(3_600)
    assert team.post(signed) == 200
    assert team.entries == before + 1
    team.later(-3_600)


def flipped(body: bytes, at: int) -> bytes:
    """One bit of one byte is another one."""
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


BODIES: dict[str, Callable[[bytes], bytes]] = {
    "first byte": lambda body: flipped(body, 0),
    "an early byte": lambda body: flipped(body, len(body) // 8),
    "a byte in the middle": lambda body: flipped(body, len(body) // 2),
    "a late byte": lambda body: flipped(body, len(body) - len(body) // 8),
    "last byte": lambda body: flipped(body, len(body) - 1),
    "cut by one": lambda body: body[:-1],
    "cut in half": lambda body: body[: len(body) // 2],
    "one more": lambda body: body + b"x",
    "twice": lambda body: body + body,
    "empty": lambda _body: b"",
    "for another address": lambda body: body.replace(b"person", b"nobody"),
    "in UTF-16": lambda body: body.decode().encode("utf-16"),
    "with a byte order mark": lambda body: b"\xef\xbb\xbf" + body,
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", BODIES)
def test_an_altered_body_is_refused(team: Desk, provider: str, name: str) -> None:
    """Whatever is changed about it, by a byte: 403, and nobody withdraws."""
    address = somebody()
    signed, before = team.complaint(provider, address), team.entries
    assert team.post(replace(signed, body=BODIES[name](signed.body))) == 403
    assert (team.state(PURPOSE, address), team.entries) == ("unknown", before)


HEADERS: dict[str, Callable[[str], str | None]] = {
    "missing": lambda _value: None,
    "empty": lambda _value: "",
    "cut by one": lambda value: value[:-1],
    "cut in half": lambda value: value[: len(value) // 2],
    "its first character another": lambda value: ("B" if value[0] != "B" else "C") + value[1:],
    "one in the middle another": lambda value: (
        value[: len(value) // 2] + ("B" if value[len(value) // 2] != "B" else "C") + value[len(value) // 2 + 1 :]
    ),
    "twice": lambda value: value + value,
    "a list": lambda value: f"{value},{value}",
    "long": lambda value: value * 500,
    "something else": lambda _value: "Bearer 0",
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", HEADERS)
def test_an_altered_proof_is_refused(team: Desk, provider: str, name: str) -> None:
    """Each header that proves it: without it, with a part of it, with a part more."""
    address = somebody()
    signed, before = team.complaint(provider, address), team.entries
    for header in signed.proofs:
        spoilt = HEADERS[name](signed.headers[header])
        assert team.post(signed.but(**{header: spoilt})) == 403, header
    assert (team.state(PURPOSE, address), team.entries) == ("unknown", before)


SES_FIELDS = ("Type", "MessageId", "TopicArn", "Subject", "Message", "Timestamp", "Signature", "SignatureVersion")


@pytest.mark.parametrize("field_", SES_FIELDS)
def test_each_field_of_sns_is_covered(team: Desk, field_: str) -> None:
    """Another value, none at all, or a second one behind it: refused."""
    signed, before = team.complaint("ses", somebody()), team.entries
    envelope = json.loads(signed.body)
    for changes in ({field_: "B" + envelope[field_][1:]}, {field_: envelope[field_][:-1]}, {field_: ""}):
        assert team.post(replace(signed, body=json.dumps(envelope | changes).encode())) == 403
    without = {name: value for name, value in envelope.items() if name != field_}
    assert team.post(replace(signed, body=json.dumps(without).encode())) == 403
    second = signed.body.rstrip()[:-1] + f', "{field_}": "x"}}'.encode()
    assert team.post(replace(signed, body=second)) == 403
    assert team.entries == before


FORGERIES: dict[str, Callable[[Desk, str], Signed]] = {
    "sendgrid": lambda team, address: by_sendgrid(
        team.complaint("sendgrid", address).body, int(team.at.timestamp()), ec.generate_private_key(ec.SECP256R1())
    ),
    "mailchimp": lambda team, address: by_mailchimp(
        team.complaint("mailchimp", address).body, int(team.at.timestamp()), "another-secret-for-signing"
    ),
    "mandrill": lambda team, address: by_mandrill(
        json.dumps([{"event": "spam", "ts": 1_790_000_000, "msg": {"email": address}}]),
        f"{team.services.settings.base_url}/webhooks/mailchimp/transactional",
        "test-webhook",
    ),
    "mandrill, for another address": lambda _team, address: by_mandrill(
        json.dumps([{"event": "spam", "ts": 1_790_000_000, "msg": {"email": address}}]),
        "https://evil.example/webhooks/mailchimp/transactional",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_another_key_proves_nothing(team: Desk, name: str) -> None:
    """Well signed, by somebody else or for somewhere else; the key that everybody knows included."""
    address, before = somebody(), team.entries
    assert team.post(FORGERIES[name](team, address)) == 403
    assert (team.state(PURPOSE, address), team.entries) == ("unknown", before)


def test_nobody_speaks_for_another_esp(team: Desk) -> None:
    """What one ESP signed is refused on the others' routes, with their headers beside its own, too."""
    before = team.entries
    for mine, other in permutations(PROVIDERS, 2):
        signed, theirs = team.complaint(mine, somebody()), team.complaint(other, somebody())
        if {mine, other} != {"mailchimp", "mandrill"}:  # which share their routes
            assert team.post(replace(signed, path=theirs.path)) == 403
            both = {**signed.headers, **theirs.headers}
            assert team.post(replace(signed, path=theirs.path, headers=both)) == 403
    assert team.entries == before


WINDOWS = {"sendgrid": (2 * DAY, 300), "mailchimp": (7_200, 300), "ses": (38 * DAY, 300)}
"""By default: how old a callback may be, and how far ahead, in seconds."""


@pytest.mark.parametrize("provider", WINDOWS)
def test_a_callback_is_fresh_up_to_the_border(team: Desk, provider: str) -> None:
    """At the very second it is taken, a second beyond it is refused: in the past, and ahead of our clock."""
    oldest, newest = WINDOWS[provider]
    for seconds, status in ((oldest, 200), (oldest + 1, 403), (-newest, 200), (-newest - 1, 403)):
        address = somebody()
        signed = team.complaint(provider, address)
        team.later(seconds)
        assert team.post(signed) == status, seconds
        assert (team.state(PURPOSE, address) == "withdrawn") is (status == 200)
        team.later(-seconds)
    assert team.at == START


# Requests that a message wants made


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    """One for all tests here: a hook stays for as long as the process lives."""
    with listen() as listener:
        made = Trap(listener)
        sys.addaudithook(made.hook)
        yield made


@pytest.mark.parametrize("name", ODD_ADDRESSES)
def test_certificates_come_from_nowhere_else(team: Desk, aws_team: Desk, trap: Trap, name: str) -> None:
    """Not even a name is looked up: refused before. So for AWS, and for a local server in AWS's place."""
    for at, host in ((aws_team, HOST), (team, urlsplit(team.simulator.base_url).netloc)):
        if at is team and name == "plain http":
            continue  # a local server's own address
        scheme = "https" if at is aws_team else "http"
        url = ODD_ADDRESSES[name].replace("https:", f"{scheme}:").format(host=host, trap=trap.place, path=PATH)
        signed, before = at.complaint("ses", somebody()), at.entries
        body = json.dumps(json.loads(signed.body) | {"SigningCertURL": url}).encode()
        with trap.watching(at):
            assert at.post(replace(signed, body=body)) == 403, url
        assert trap.untouched(), trap.asked
        assert at.entries == before


def test_the_genuine_address_is_asked(aws_team: Desk, trap: Trap) -> None:
    """What the test above would see if it were otherwise: SNS's own host is looked up, and no other one."""
    signed = aws_team.complaint("ses", somebody())
    body = json.dumps(json.loads(signed.body) | {"SigningCertURL": f"https://{HOST}{PATH}"}).encode()
    with trap.watching(aws_team):
        assert aws_team.post(replace(signed, body=body)) in {403, 503}
    assert trap.asked
    assert f"'{HOST}', 443" in trap.asked[0].replace("b'", "'")


def test_a_certificate_that_moved_is_not_followed(team: Desk, trap: Trap) -> None:
    """A redirect from the right host leads nowhere."""
    signed, before = team.complaint("ses", somebody()), team.entries
    url = f"{team.simulator.base_url}/SimpleNotificationService-ed.pem"
    body = json.dumps(json.loads(signed.body) | {"SigningCertURL": url}).encode()
    for status in (301, 302, 303, 307, 308):
        team.wire.faults["SimpleNotificationService-ed"] = [(status, {"location": f"http://{trap.place}/x.pem"})]
        with trap.watching(team, simulator=True):
            assert team.post(replace(signed, body=body)) == 403
        assert trap.untouched(), trap.asked
    assert team.entries == before


def test_a_subscription_is_confirmed_without_its_url(team: Desk, trap: Trap) -> None:
    """Genuine and signed: confirmed by a call of our own. Nobody ever requests what the message names."""
    made = team.simulator.topic.subscribe("https", "https://choices.example.com/webhooks/ses", {})
    url = f"http://{trap.place}/?Action=ConfirmSubscription&Token={made.token}"
    for token, status in ((made.token, 200), ("0" * 64, 503)):
        fields = {"Token": token, "Message": "You have chosen to subscribe", "SubscribeURL": url}
        with trap.watching(team, simulator=True):
            assert team.post(team.ses("", "SubscriptionConfirmation", **fields)) == status
            assert team.post(team.ses("", "UnsubscribeConfirmation", **fields)) == 200
        assert trap.untouched(), trap.asked
    assert made.confirmed
    signed = team.complaint("ses", somebody())
    body = json.dumps(json.loads(signed.body) | {"UnsubscribeURL": url}).encode()
    with trap.watching(team, simulator=True):
        assert team.post(replace(signed, body=body)) == 200
    assert trap.untouched(), trap.asked


# What is logged of it


def test_no_log_repeats_a_forged_callback(team: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A process that refuses all of the above tells so, and nothing of what was sent."""
    sections = '[providers.sendgrid]\napi_url = "http://127.0.0.1:9"\n[providers.mailchimp]\nlist_id = "a1b2c3"\n'
    with running(tmp_path_factory.mktemp("log"), SETTINGS + sections, SECRETS) as process:
        for provider in ("sendgrid", "mailchimp", "mandrill"):
            address = somebody()
            signed = team.complaint(provider, address)
            process.secrets |= {address, base64.b64encode(signed.body).decode(), "evil-part"}
            process.secrets |= {signed.headers[name] for name in signed.proofs}
            for body in (signed.body, b"evil-part", signed.body + b"evil-part"):
                headers = {**signed.headers, "user-agent": "evil-part"}
                answer = process.client.post(f"{signed.path}?evil-part=1", content=body, headers=headers)
                assert answer.status_code == 403
            process.client.post(f"/webhooks/{provider}/evil-part", content=signed.body)
        refused = [line for line in process.check_log() if line["event"] == "callback refused"]
    assert len(refused) >= 9
