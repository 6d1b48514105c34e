"""Mailchimp's callbacks: the vectors, what no input may do, and what the settings must hold."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.mailchimp import PROVIDER
from connectors.mailchimp.codec import KINDS
from connectors.mailchimp.settings import MailchimpSettings
from core.errors import PayloadError, PixelproofError, SettingsError, VerificationError
from core.model import EventKind, ProviderEvent, VerifiedBody, WebhookRequest
from core.ports import ProviderContext, WebhookCodec
from tests.vectors import make_mailchimp

VECTORS = Path(__file__).parent.parent / "vectors"
CASES: list[dict[str, Any]] = json.loads((VECTORS / "mailchimp.json").read_text("utf-8"))
READ = [case for case in CASES if "events" in case and "x-mandrill-signature" not in case["headers"]]
ERRORS: dict[str, type[PixelproofError]] = {"VerificationError": VerificationError, "PayloadError": PayloadError}
SIGNED_AT = datetime(2026, 3, 5, 14, 30, 2, tzinfo=UTC)


def codec_with(secrets: dict[str, str], settings: dict[str, Any], topics: Sequence[str] = ()) -> WebhookCodec:
    """The codec as the assembly builds it."""
    context = ProviderContext(secrets, (), lambda: SIGNED_AT, topics=tuple(topics))
    return PROVIDER.codec(msgspec.convert(settings, MailchimpSettings), context)


CODEC = codec_with({"MAILCHIMP_WEBHOOK_SECRETS": "secret"}, {"list_id": "a1b2c3d4e5"})


def request_of(case: dict[str, Any]) -> WebhookRequest:
    """The request of a vector."""
    return WebhookRequest("POST", case["path"], case["headers"], base64.b64decode(case["body"]))


def read(case: dict[str, Any], request: WebhookRequest) -> list[ProviderEvent]:
    """Verify and parse, as the web layer does."""
    codec = codec_with(case["secrets"], case["settings"], case.get("topics", ()))
    return list(codec.parse(codec.verify(request, now=datetime.fromisoformat(case["now"]))))


def parsed(fields: dict[str, str], signed_at: datetime | None = SIGNED_AT) -> ProviderEvent:
    """The one event of a form."""
    (event,) = CODEC.parse(VerifiedBody(urlencode(fields).encode(), signed_at))
    return event


def shown(event: ProviderEvent) -> dict[str, Any]:
    """An event as the vectors write it."""
    return {
        "kind": event.kind.value,
        "native_type": event.native_type,
        "occurred_at": event.occurred_at.isoformat(),
        "keys": list(event.keys),
        "address": event.address,
        "new_address": event.new_address,
        "topic": event.topic,
        "recipient_tag": event.recipient_tag,
        "campaign": event.campaign,
        "machine": event.machine,
        "client": event.client,
    }


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_each_vector_reads_as_expected(case: dict[str, Any]) -> None:
    """A callback gives exactly the event, or the one error, that its vector names."""
    if "error" in case:
        with pytest.raises(ERRORS[case["error"]]):
            read(case, request_of(case))
    else:
        assert [shown(event) for event in read(case, request_of(case))] == case["events"]


def test_the_vectors_are_what_their_generator_makes() -> None:
    """Nobody edits a vector by hand: the committed file is the generator's output."""
    assert (VECTORS / "mailchimp.json").read_text("utf-8") == make_mailchimp.text()


def test_each_mapped_type_and_reason_has_a_vector() -> None:
    """No type and no reason is mapped that no vector shows."""
    forms = [dict(parse_qsl(base64.b64decode(case["body"]).decode(), keep_blank_values=True)) for case in READ]
    seen = {(form["type"], form.get("data[reason]", "")) for form in forms}
    assert {native for native, _ in KINDS} <= {native for native, _ in seen}
    assert {(native, reason) for native, reason in KINDS if reason} <= seen


def test_the_raw_event_is_kept_but_not_shown() -> None:
    """An unknown event can be mapped later: its fields are kept, and stay out of what is printed."""
    event = parsed({"type": "new", "data[email]": "ada@example.com", "data[more]": "1"})
    assert (event.kind, event.raw["data[more]"]) == (EventKind.UNKNOWN, "1")
    assert "ada@example.com" not in repr(event)


def test_keys_name_the_provider_and_nobody() -> None:
    """A key begins with the provider's name and no address can be read in it."""
    keys = {key for case in READ for event in case["events"] for key in event["keys"]}
    assert all(key.startswith("mailchimp:") for key in keys)
    assert not [key for key in keys if "@" in key or "ada" in key]


@pytest.mark.parametrize(
    "field", ["fired_at", "data[id]", "data[list_id]", "data[email]", "data[action]", "data[reason]", "type"]
)
def test_events_that_differ_have_different_keys(field: str) -> None:
    """Two events are one only if all that identifies them is the same."""
    form = {"fired_at": "2026-03-05 14:30:00", "type": "unsubscribe", "data[email]": "ada@example.com"}
    other = form | {field: "2026-03-05 14:30:01" if field == "fired_at" else "profile"}
    assert parsed(form).keys != parsed(other).keys
    assert parsed(form).keys == parsed(form | {"data[merges][FNAME]": "Ada"}).keys


def test_a_repetition_of_a_callback_has_the_same_key_and_time() -> None:
    """What was signed again later is the same event: same keys, same time, whatever the delay within the retries."""
    form = {"type": "unsubscribe", "fired_at": "2026-03-05 14:30:00", "data[email]": "ada@example.com"}
    first, last = parsed(form), parsed(form, SIGNED_AT + timedelta(minutes=75))
    assert (first.keys, first.occurred_at) == (last.keys, last.occurred_at)


@given(hours=st.integers(-14, 14), fired=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001
def test_no_zone_puts_a_withdrawal_before_the_signature_by_more_than_the_retries(hours: int, fired: datetime) -> None:
    """Whatever zone ``fired_at`` is in, a signed withdrawal is never late by more than 90 minutes nor in the future."""
    signed = fired.replace(microsecond=0, tzinfo=UTC)
    local = f"{signed + timedelta(hours=hours):%Y-%m-%d %H:%M:%S}"
    event = parsed({"type": "unsubscribe", "fired_at": local, "data[email]": "ada@example.com"}, signed)
    assert timedelta(0) <= signed - event.occurred_at <= timedelta(minutes=90)


@given(
    body=st.binary(max_size=200),
    header=st.none() | st.text(max_size=120),
    path=st.text(max_size=60),
    now=st.datetimes(),
)
def test_arbitrary_requests_are_refused(body: bytes, header: str | None, path: str, now: datetime) -> None:
    """Whatever arrives without a genuine signature or path raises VerificationError and nothing else."""
    codec = codec_with(
        {"MAILCHIMP_WEBHOOK_SECRETS": "secret", "MAILCHIMP_WEBHOOK_PATH_SECRET": "0123456789abcdef"}, {"list_id": "a1"}
    )
    headers = {} if header is None else {"x-mailchimp-signature": header}
    with pytest.raises(VerificationError):
        codec.verify(WebhookRequest("POST", path, headers, body), now=now.replace(tzinfo=UTC))


@given(stamp=st.integers(-(10**15), 10**15), mac=st.binary(min_size=32, max_size=32))
def test_arbitrary_signatures_are_refused(stamp: int, mac: bytes) -> None:
    """A well-formed signature that nobody made raises VerificationError and nothing else."""
    headers = {"x-mailchimp-signature": f"t={stamp},v1={mac.hex()}"}
    with pytest.raises(VerificationError):
        CODEC.verify(WebhookRequest("POST", "/", headers, b"type=profile"), now=SIGNED_AT)


@given(case=st.sampled_from(READ), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_one_altered_bit_is_refused(case: dict[str, Any], at: int, bit: int) -> None:
    """A signed callback with any one bit of its body altered is refused; one sent to the path is read or refused."""
    request = request_of(case)
    body = bytearray(request.body)
    body[at % len(body)] ^= 1 << bit
    altered = replace(request, body=bytes(body))
    if "x-mailchimp-signature" in request.headers:
        with pytest.raises(VerificationError):
            read(case, altered)
    else:
        assert _reads(altered.body, None) in {0, 1}


def _reads(body: bytes, signed_at: datetime | None) -> int:
    """How many events a body gives; PayloadError counts as none, anything else escapes."""
    try:
        events = CODEC.parse(VerifiedBody(body, signed_at))
    except PayloadError:
        return 0
    assert all(event.occurred_at.tzinfo is UTC for event in events)
    assert all(key.encode() for event in events for key in event.keys)
    return len(events)


SIGNED = st.none() | st.just(SIGNED_AT)
FIELDS = st.sampled_from(
    ["type", "fired_at", "data[email]", "data[old_email]", "data[new_email]", "data[reason]", "data[id]", "data[]"]
)
VALUES = (
    st.sampled_from(
        [*(native for native, _ in KINDS), "abuse", "2026-03-05 14:30:00", "0001-01-01 00:00:00", "9999-12-31 23:59:59"]
    )
    | st.text(max_size=20, alphabet=st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["\x00", "9" * 400, "NaN", "[" * 500])
)


@given(body=st.binary(max_size=300), signed_at=SIGNED)
def test_arbitrary_bodies_raise_payload_error_at_most(body: bytes, signed_at: datetime | None) -> None:
    """No body, however signed, raises anything but PayloadError."""
    assert _reads(body, signed_at) in {0, 1}


@given(
    fields=st.lists(st.tuples(FIELDS, VALUES), max_size=12), signed_at=SIGNED, tail=st.sampled_from(["", "&%ED%A0%80"])
)
def test_arbitrary_forms_raise_payload_error_at_most(
    fields: list[tuple[str, str]], signed_at: datetime | None, tail: str
) -> None:
    """No form of known fields with odd values, lone surrogates among them, raises anything but PayloadError."""
    assert _reads((urlencode(fields) + tail).encode(), signed_at) in {0, 1}


def test_a_lone_surrogate_reaches_no_field() -> None:
    """What is no character in UTF-8 is replaced, so that keys can be hashed and stored."""
    body = b"type=unsubscribe&fired_at=2026-03-05+14:30:00&data[email]=%ED%A0%80@example.com"
    (event,) = CODEC.parse(VerifiedBody(body, None))
    assert event.address == "\ufffd\ufffd\ufffd@example.com"


@pytest.mark.parametrize(
    ("secrets", "named"),
    [
        ({}, "MAILCHIMP_WEBHOOK_SECRETS"),
        ({"MAILCHIMP_WEBHOOK_SECRETS": " , "}, "MAILCHIMP_WEBHOOK_SECRETS"),
        ({"MAILCHIMP_WEBHOOK_SECRETS": "clé"}, "MAILCHIMP_WEBHOOK_SECRETS"),
        ({"MAILCHIMP_WEBHOOK_PATH_SECRET": "short"}, "MAILCHIMP_WEBHOOK_PATH_SECRET"),
        ({"MAILCHIMP_WEBHOOK_PATH_SECRET": "0123456789/abcdef"}, "MAILCHIMP_WEBHOOK_PATH_SECRET"),
    ],
)
def test_missing_and_weak_secrets_are_named(secrets: dict[str, str], named: str) -> None:
    """The codec cannot be built without a secret that proves anything; the error names the variable, not its value."""
    with pytest.raises(SettingsError, match=named) as caught:
        codec_with(secrets, {"list_id": "a1b2c3d4e5"})
    assert not [value for value in secrets.values() if value.strip(" ,") and value in str(caught.value)]


@pytest.mark.parametrize("settings", [{"list_id": "a", "unknown": 1}, {"list_id": "a", "tolerance_seconds": 5}, {}])
def test_settings_of_another_form_are_refused(settings: dict[str, Any]) -> None:
    """Unknown settings, a tolerance below Mailchimp's own and a missing audience are refused."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, MailchimpSettings)


def test_the_default_tolerance_covers_every_retry() -> None:
    """A withdrawal that Mailchimp repeats for 75 minutes is never refused as too old."""
    assert MailchimpSettings(list_id="a").tolerance_seconds > 75 * 60


def test_the_codec_needs_no_sdk() -> None:
    """Reading callbacks starts without the SDK and without what it brings."""
    code = (
        "import sys, connectors.mailchimp.codec; print({'mailchimp_marketing', 'requests', 'urllib3'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    assert run.stdout.strip() == "set()"
