"""SendGrid's callbacks: the vectors, what no input may do, and what the settings must hold."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from connectors.sendgrid import PROVIDER
from connectors.sendgrid.codec import KINDS, SIGNATURE_HEADER, TIMESTAMP_HEADER, SendGridCodec
from connectors.sendgrid.settings import SendGridSettings
from core.errors import PayloadError, PixelproofError, SettingsError, VerificationError
from core.intake import IDLE
from core.model import EPOCH, EventKind, ProviderEvent, VerifiedBody, WebhookRequest
from core.ports import ProviderContext
from tests.vectors import make_sendgrid

VECTORS = Path(__file__).parent.parent / "vectors"
CASES: list[dict[str, Any]] = json.loads((VECTORS / "sendgrid.json").read_text())
CONTEXT = ProviderContext({}, (), lambda: datetime.now(UTC))
ERRORS: dict[str, type[PixelproofError]] = {"VerificationError": VerificationError, "PayloadError": PayloadError}


def codec_of(case: dict[str, Any]) -> SendGridCodec:
    """The codec with the settings of a vector."""
    return SendGridCodec(msgspec.convert(case["settings"], SendGridSettings))


def request_of(case: dict[str, Any]) -> WebhookRequest:
    """The request of a vector."""
    return WebhookRequest("POST", "/webhooks/sendgrid", case["headers"], base64.b64decode(case["body"]))


def read(case: dict[str, Any], request: WebhookRequest) -> list[ProviderEvent]:
    """Verify and parse, as the web layer does."""
    codec = codec_of(case)
    return list(codec.parse(codec.verify(request, now=datetime.fromisoformat(case["now"]))))


def shown(event: ProviderEvent) -> dict[str, Any]:
    """An event as the vectors write it."""
    return {
        "kind": event.kind.value,
        "native_type": event.native_type,
        "occurred_at": event.occurred_at.isoformat(),
        "keys": list(event.keys),
        "address": event.address,
        "recipient_tag": event.recipient_tag,
        "campaign": event.campaign,
        "topic": event.topic,
        "machine": event.machine,
    }


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_each_vector_reads_as_expected(case: dict[str, Any]) -> None:
    """A callback gives exactly the events, or the one error, that its vector names."""
    if "error" in case:
        with pytest.raises(ERRORS[case["error"]]):
            read(case, request_of(case))
    else:
        assert [shown(event) for event in read(case, request_of(case))] == case["events"]


def test_the_vectors_are_what_their_generator_makes() -> None:
    """Nobody edits a vector by hand: the committed file is the generator's output."""
    assert (VECTORS / "sendgrid.json").read_text() == make_sendgrid.text()


def test_each_mapped_type_has_a_vector() -> None:
    """No event type is mapped that no vector shows."""
    known = {event["native_type"] for case in CASES for event in case.get("events", ())}
    assert set(KINDS) < known


def test_the_raw_event_is_kept_but_not_shown() -> None:
    """An unknown event can be mapped later: its fields are kept, and stay out of what is printed."""
    codec = codec_of(CASES[0])
    (event,) = codec.parse(VerifiedBody(b'[{"event":"new","email":"a@b.example","more":1}]', None))
    assert (event.kind, event.raw["more"], event.occurred_at) == (EventKind.UNKNOWN, 1, EPOCH)
    assert "a@b.example" not in repr(event)


@pytest.mark.parametrize(
    "stamp", [True, None, "", [], {}, 0, -1, 1e300, 10**400, "9" * 5000, "2026-01-01", float("nan")]
)
def test_a_time_that_is_none_is_replaced_by_that_of_the_signature(stamp: object) -> None:
    """A withdrawal with a damaged time is neither lost nor put before every consent."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    body = json.dumps([{"event": "unsubscribe", "email": "a@b.example", "timestamp": stamp}]).encode()
    (event,) = codec_of(CASES[0]).parse(VerifiedBody(body, at))
    assert (event.kind, event.occurred_at) == (EventKind.UNSUBSCRIBE, at)


def test_no_key_shows_an_address() -> None:
    """Keys are stored: whatever field an address stands in, no key holds it."""
    fields = ("email", "event", "sg_event_id", "sg_message_id", "timestamp", "asm_group_id")
    item = dict.fromkeys(fields, "a@b.example")
    events = codec_of(CASES[0]).parse(VerifiedBody(json.dumps([item, ["a@b.example"]]).encode(), None))
    keys = [key for event in events for key in event.keys]
    assert len(keys) == 3
    assert not [key for key in keys if "@" in key]
    assert all(key.startswith("sendgrid:") for key in keys)


@given(body=st.binary(max_size=200), signature=st.text(max_size=100), timestamp=st.text(max_size=20))
def test_arbitrary_requests_are_refused(body: bytes, signature: str, timestamp: str) -> None:
    """Whatever arrives without a genuine signature raises VerificationError and nothing else."""
    headers = {SIGNATURE_HEADER: signature, TIMESTAMP_HEADER: timestamp}
    with pytest.raises(VerificationError):
        codec_of(CASES[0]).verify(WebhookRequest("POST", "/", headers, body), now=datetime.now(UTC))


@given(signature=st.binary(min_size=1, max_size=100), at=st.integers(-(10**12), 10**12))
def test_arbitrary_signatures_are_refused(signature: bytes, at: int) -> None:
    """Readable headers around a signature that nobody made raise VerificationError and nothing else."""
    headers = {SIGNATURE_HEADER: base64.b64encode(signature).decode(), TIMESTAMP_HEADER: str(at)}
    now = datetime.fromtimestamp(abs(at), UTC) if abs(at) < 10**11 else datetime.now(UTC)
    with pytest.raises(VerificationError):
        codec_of(CASES[0]).verify(WebhookRequest("POST", "/", headers, b"[]"), now=now)


@given(data=st.data())
def test_mutated_vectors_raise_nothing_else(data: st.DataObject) -> None:
    """A genuine callback with bytes altered, cut or put in is refused; read alone, it is events or a PayloadError."""
    case = data.draw(st.sampled_from(CASES))
    body = bytearray(base64.b64decode(case["body"]))
    place = data.draw(st.integers(0, len(body)))
    body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(min_size=0, max_size=6))
    request = replace(request_of(case), body=bytes(body))
    try:
        read(case, request)
    except (VerificationError, PayloadError):
        pass
    else:
        assert request == request_of(case)
    assert_parses(case, bytes(body))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = ("event", "email", "timestamp", "sg_event_id", "asm_group_id", "sg_message_id", "sg_machine_open", "category")


@given(items=JSON | st.lists(JSON | st.dictionaries(st.sampled_from(NAMES), JSON), max_size=5))
def test_arbitrary_json_is_read_or_refused(items: object) -> None:
    """Signed or not, no JSON whatever (lone surrogates, NaN, huge numbers, wrong types) breaks the reading."""
    events = assert_parses(CASES[0], json.dumps(items).encode())
    if isinstance(items, list):
        assert events is not None
        assert len(events) == len(items)


@given(body=st.binary(max_size=60))
def test_arbitrary_bytes_are_read_or_refused(body: bytes) -> None:
    """The same with bytes that are no JSON: what does not begin an array is refused."""
    events = assert_parses(CASES[0], body)
    assert events is None or body.lstrip().startswith(b"[")


def assert_parses(case: dict[str, Any], body: bytes) -> list[ProviderEvent] | None:
    """Parse; None when it was refused as a whole. All events hold times in UTC and at least one key."""
    try:
        events = list(codec_of(case).parse(VerifiedBody(body, None)))
    except PayloadError:
        return None
    assert all(event.occurred_at.tzinfo is UTC and event.keys for event in events)
    return events


def test_deep_nesting_inside_an_item_is_refused_as_a_whole() -> None:
    """What the reader takes and the digest does not is a PayloadError too, not a RecursionError."""
    read_at = [assert_parses(CASES[0], b"[" * depth + b"]" * depth) is not None for depth in range(2, 1500, 7)]
    assert read_at[0]
    assert not read_at[-1]


def spki_of(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> str:
    """A key in base64 SPKI."""
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "%%%",
        "é",
        "AAAA",
        spki_of(ec.generate_private_key(ec.SECP384R1()).public_key()),
        spki_of(ed25519.Ed25519PrivateKey.generate().public_key()),
    ],
    ids=["nothing", "signs", "an accent", "short", "P-384", "Ed25519"],
)
def test_an_unusable_key_is_named_by_its_setting_and_not_shown(key: str) -> None:
    """A wrong verification key is a SettingsError that says which one it is, without repeating it."""
    good = CASES[0]["settings"]["webhook_public_keys"][0]
    with pytest.raises(SettingsError, match=r"providers\.sendgrid\.webhook_public_keys\[1\]") as caught:
        PROVIDER.codec(SendGridSettings(webhook_public_keys=[good, key]), CONTEXT)
    assert len(key) < 4 or key not in str(caught.value)


def test_a_missing_key_is_named_by_its_setting() -> None:
    """Without a verification key there is no codec."""
    with pytest.raises(SettingsError, match=r"providers\.sendgrid\.webhook_public_keys"):
        PROVIDER.codec(SendGridSettings(), CONTEXT)


@pytest.mark.parametrize(
    "wrong", [{"unknown": 1}, {"tolerance_seconds": 60}, {"list_prefix": "a b"}, {"timeout_seconds": 0}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    """Unknown settings and values out of bounds are refused; a tolerance below SendGrid's retry window is one."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, SendGridSettings)


def test_the_codec_works_without_the_sdk() -> None:
    """The callback path starts without the SDK and its HTTP client."""
    script = (
        "import sys, connectors.sendgrid as s; c = s.ProviderContext({}, (), None);"
        " s.PROVIDER.codec(s.SendGridSettings(webhook_public_keys=sys.argv[1:]), c);"
        " print(any(m in sys.modules for m in ('sendgrid', 'python_http_client', 'connectors.sendgrid.api')))"
    )
    key = CASES[0]["settings"]["webhook_public_keys"][0]
    run = subprocess.run([sys.executable, "-c", script, key], capture_output=True, text=True, check=True)  # noqa: S603
    assert run.stdout.strip() == "False"


def assert_sifted_alike(case: dict[str, Any], body: bytes) -> None:
    """Sifting gives the events of ``parse`` but the idle ones, to the field and in order, or the same refusal."""
    codec, read = codec_of(case), VerifiedBody(body, None)
    try:
        everything = codec.parse(read)
    except PayloadError:
        with pytest.raises(PayloadError):
            codec.sift(read, IDLE)
        return
    events, idle = codec.sift(read, IDLE)
    wanted = [event for event in everything if event.kind not in IDLE]
    assert list(events) == wanted
    assert [codec.letter(read, event) for event in events] == [codec.letter(read, event) for event in wanted]
    assert idle == len(everything) - len(wanted)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_vectors_are_sifted_as_they_are_read(case: dict[str, Any]) -> None:
    """No vector is read in another way by the quick path."""
    assert_sifted_alike(case, base64.b64decode(case["body"]))


TYPES = st.sampled_from([*KINDS, "", "new"]) | JSON


@given(
    items=st.lists(
        JSON | st.dictionaries(st.sampled_from(NAMES), JSON) | st.builds(lambda kind: {"event": kind}, TYPES),
        max_size=5,
    )
)
def test_arbitrary_events_are_sifted_as_they_are_read(items: list[object]) -> None:
    """Whatever an item is: one that is not as documented changes nothing for the others."""
    assert_sifted_alike(CASES[0], json.dumps(items).encode())


@given(data=st.data())
def test_mutated_vectors_are_sifted_as_they_are_read(data: st.DataObject) -> None:
    """The same with bytes that are not quite JSON."""
    case = data.draw(st.sampled_from(CASES))
    body = bytearray(base64.b64decode(case["body"]))
    place = data.draw(st.integers(0, len(body)))
    body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(min_size=0, max_size=6))
    assert_sifted_alike(case, bytes(body))


@pytest.mark.parametrize(
    "body",
    [
        b'[{"event":"open","event":"click"}]',
        b'[{"event":"click","event":"open"}]',
        b'[{"event":"click","x":"\xff"},{"event":"unsubscribe","email":"a@b.example"}]',
        b'[{"event":"unsubscribe","email":"a@b.example","useragent":"\\ud800"},{"event":"click"}]',
        b'[{"event":"click","deep":' + b"[" * 5_000 + b"]" * 5_000 + b"}]",
        b'[{"event":"click"},{"event":5}]',
        b'[{"event":"click"}] 1',
    ],
    ids=["named twice", "named twice, the other way", "no UTF-8", "half a pair", "deep", "no text", "more behind"],
)
def test_odd_bodies_are_sifted_as_they_are_read(body: bytes) -> None:
    """What the two ways of decoding could see differently."""
    assert_sifted_alike(CASES[0], body)
