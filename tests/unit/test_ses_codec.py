"""SES's callbacks through SNS: signed vectors, and whatever else might arrive."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.x509 import Certificate, load_pem_x509_certificate
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.ses import PROVIDER
from connectors.ses.codec import SesCodec
from connectors.ses.event_bridge import api_keys
from connectors.ses.settings import SesSettings
from core.errors import PayloadError, SettingsError, VerificationError
from core.model import EPOCH, EventKind, ProviderEvent, VerifiedBody, WebhookRequest
from core.ports import Capability, ProviderContext

CASES: list[dict[str, Any]] = json.loads(Path(__file__).parents[1].joinpath("vectors", "ses.json").read_text())
BY_SNS = [case for case in CASES if "body" in case]
"""What comes from SNS over HTTPS: nothing of the body can be changed."""
GOOD = CASES[0]
NOW = datetime.fromisoformat(GOOD["now"])
CONTEXT = ProviderContext({}, (), lambda: NOW)


class Held:
    """Certificates by address; every other address is refused, and all that were asked for are noted."""

    def __init__(self, pems: Mapping[str, str]) -> None:
        self._pems = pems
        self.asked: list[str] = []

    def get(self, url: str) -> Certificate:
        """The certificate at an address."""
        self.asked.append(url)
        if url not in self._pems:
            raise VerificationError("ses: no such certificate")
        return load_pem_x509_certificate(self._pems[url].encode())


def codec_of(case: Mapping[str, Any]) -> tuple[SesCodec, Held]:
    """The codec that a case describes."""
    held = Held(case["certificates"])
    keys = api_keys(case.get("secrets", {}))
    settings = msgspec.convert(case["settings"], SesSettings)
    return SesCodec(settings, held, None, keys), held


def request_of(case: Mapping[str, Any]) -> WebhookRequest:
    """The request of a case."""
    body = base64.b64decode(case["body_base64"]) if "body_base64" in case else case["body"].encode()
    return WebhookRequest("POST", "/callbacks/ses", case["headers"], body, queued=case.get("queued", False))


def shown(event: ProviderEvent) -> dict[str, Any]:
    """An event as the vectors write it."""
    return {
        "kind": event.kind.value,
        "native_type": event.native_type,
        "occurred_at": event.occurred_at,
        "keys": list(event.keys),
        "address": event.address,
        "recipient_tag": event.recipient_tag,
        "campaign": event.campaign,
        "topic": event.topic,
        "machine": event.machine,
        "client": event.client,
    }


@pytest.mark.parametrize("case", [c for c in CASES if "expected" in c], ids=lambda case: str(case["name"]))
def test_genuine_callbacks_are_read(case: dict[str, Any]) -> None:
    """What AWS sent is verified and read as the vector says."""
    codec, _ = codec_of(case)
    body = codec.verify(request_of(case), now=datetime.fromisoformat(case["now"]))
    signed_at = case["signed_at"] if "signed_at" in case else json.loads(case["body"])["Timestamp"]
    assert body.signed_at == datetime.fromisoformat(signed_at)
    expected = [each | {"occurred_at": datetime.fromisoformat(each["occurred_at"])} for each in case["expected"]]
    events = codec.parse(body)
    assert [shown(event) for event in events] == expected
    assert {event.provider for event in events} == {"ses"}
    assert all(event.occurred_at.utcoffset() == timedelta(0) for event in events)


@pytest.mark.parametrize("case", [c for c in CASES if "error" in c], ids=lambda case: str(case["name"]))
def test_other_callbacks_are_refused(case: dict[str, Any]) -> None:
    """What AWS did not send, or not lately, is refused for good, and the refusal tells nothing of its content."""
    codec, _ = codec_of(case)
    with pytest.raises(VerificationError) as refusal:
        codec.verify(request_of(case), now=datetime.fromisoformat(case["now"]))
    assert not refusal.value.transient
    assert not [word for word in ("example", "first-key", "second-key") if word in str(refusal.value)]


def test_nothing_is_fetched_from_an_address_that_is_not_snss() -> None:
    """A forged certificate address is refused without being asked."""
    forged = [case for case in CASES if case["name"].startswith("certificate from:")]
    assert len(forged) > 10
    for case in forged:
        codec, held = codec_of(case)
        with pytest.raises(VerificationError, match="address"):
            codec.verify(request_of(case), now=NOW)
        assert held.asked == []


def test_every_event_type_of_ses_is_in_the_vectors() -> None:
    """All event types that SES documents are covered, and none of them is unknown."""
    documented = {
        *("Bounce", "Complaint", "Delivery", "Send", "Reject", "Open", "Click", "Rendering Failure", "DeliveryDelay"),
        "Subscription",
    }
    seen = {
        event["native_type"]: event["kind"]
        for case in CASES
        for event in case.get("expected", ())
        if event["kind"] not in {"unknown", "malformed"}
    }
    assert documented <= seen.keys()


def test_a_confirmation_keeps_the_token_and_no_address_to_visit() -> None:
    """The token and topic are at hand for ConfirmSubscription; the URL of the message is not."""
    case = next(c for c in CASES if c["name"] == "SubscriptionConfirmation")
    codec, _ = codec_of(case)
    (event,) = codec.parse(codec.verify(request_of(case), now=NOW))
    assert event.kind is EventKind.CONFIRMATION
    assert event.raw == {
        "Type": "SubscriptionConfirmation",
        "TopicArn": case["settings"]["topic_arns"][0],
        "Token": "2336412f37",
    }


def test_raw_is_kept_and_not_shown() -> None:
    """The event as it came is there for mapping, but no repr shows an address."""
    codec, _ = codec_of(GOOD)
    (event,) = codec.parse(codec.verify(request_of(GOOD), now=NOW))
    assert event.raw == json.loads(json.loads(GOOD["body"])["Message"])
    assert "reader@example.org" not in repr(event)
    assert not any("reader" in key for key in event.keys)


def test_repetitions_share_a_key_and_other_messages_do_not() -> None:
    """SES publishing one event to two topics is recognised by its content, SNS repeating one by its id."""
    codec, _ = codec_of(GOOD)
    fields = json.loads(GOOD["body"])

    def keys(**changes: str) -> set[str]:
        (event,) = codec.parse(VerifiedBody(json.dumps(fields | changes).encode()))
        return set(event.keys)

    assert keys() & keys(MessageId="another")
    assert keys() & keys(Message=fields["Message"].replace("192.0.2.1", "192.0.2.2"))
    assert not keys() & keys(MessageId="another", Message=fields["Message"].replace("192.0.2.1", "192.0.2.2"))


def test_a_body_that_is_no_text_is_a_payload_error() -> None:
    """Nothing but PayloadError leaves parse."""
    codec, _ = codec_of(GOOD)
    with pytest.raises(PayloadError):
        codec.parse(VerifiedBody(b"\xff\xfe"))


def test_undated_events_fall_back_to_the_epoch() -> None:
    """Where neither the event nor SNS says when, the time is the epoch, never now."""
    codec, _ = codec_of(GOOD)
    fields = json.loads(GOOD["body"]) | {"Timestamp": "soon", "Message": '{"eventType": "Open"}'}
    (event,) = codec.parse(VerifiedBody(json.dumps(fields).encode()))
    assert event.occurred_at == EPOCH


# Whatever else arrives


@given(st.binary(max_size=300), st.dictionaries(st.text(max_size=30), st.text(max_size=30), max_size=3))
@example(GOOD["body"].encode(), {"x-amz-sns-message-type": "Notification", "é": "\ud800"})
def test_arbitrary_requests_raise_nothing_else(body: bytes, headers: dict[str, str]) -> None:
    """Bytes and headers of any kind: verified or refused with VerificationError; read or refused with PayloadError."""
    codec, _ = codec_of(GOOD)
    try:
        codec.verify(WebhookRequest("POST", "/", headers, body), now=NOW)
    except VerificationError:
        pass
    else:
        assert body == GOOD["body"].encode()
    try:
        codec.parse(VerifiedBody(body))
    except PayloadError:
        assert body != GOOD["body"].encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(BY_SNS), st.data())
def test_mutated_vectors_raise_nothing_else(case: dict[str, Any], data: st.DataObject) -> None:
    """A genuine request with bytes cut out or changed is never taken, unless nothing that is signed changed."""
    request = request_of(case)
    start = data.draw(st.integers(0, len(request.body)))
    end = data.draw(st.integers(start, min(len(request.body), start + 40)))
    body = request.body[:start] + data.draw(st.binary(max_size=8)) + request.body[end:]
    codec, _ = codec_of(case)
    try:
        proven = codec.verify(WebhookRequest("POST", "/", request.headers, body), now=NOW)
    except VerificationError:
        return
    assert codec.parse(proven) == codec.parse(VerifiedBody(request.body, proven.signed_at))


PUBLISHED = [
    json.loads(message)
    for message in (json.loads(c["body"])["Message"] for c in BY_SNS if "expected" in c)
    if message.startswith('{"eventType"')
]


@given(st.sampled_from(PUBLISHED), st.data())
def test_events_of_any_form_are_read(published: dict[str, Any], data: st.DataObject) -> None:
    """Whatever SES publishes, parse answers events with aware times and at least one key."""
    event: dict[str, Any] = json.loads(json.dumps(published))
    inside = data.draw(st.sampled_from([event, *(part for part in event.values() if isinstance(part, dict) and part)]))
    inside[data.draw(st.sampled_from(sorted(inside)))] = data.draw(JSON)
    fields = json.loads(GOOD["body"]) | {"Message": json.dumps(event)}
    codec, _ = codec_of(GOOD)
    events = codec.parse(VerifiedBody(json.dumps(fields).encode(), NOW))
    assert events
    assert all(event.occurred_at.tzinfo is UTC and event.keys for event in events)


@given(st.text(max_size=60))
def test_messages_of_any_form_are_kept_as_malformed(message: str) -> None:
    """A message that is no SES event becomes one event of its own: nothing is lost and nothing is made up."""
    codec, _ = codec_of(GOOD)
    body = msgspec.json.encode(json.loads(GOOD["body"]) | {"Message": message.encode("utf-8", "replace").decode()})
    (event,) = codec.parse(VerifiedBody(body, NOW))
    assert (event.kind, event.native_type, event.occurred_at) == (EventKind.MALFORMED, "malformed", NOW)


# Settings


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        ({}, "topic_arns"),
        ({"topic_arns": ["ses-events"]}, r"topic_arns\[0\]"),
        ({"topic_arns": ["arn:aws:sqs:eu-west-3:123456789012:q"]}, r"topic_arns\[0\]"),
        ({"topic_arns": ["arn:other:sns:eu-west-3:123456789012:t"]}, r"topic_arns\[0\]"),
        ({"sns_certificate_origin": "http://192.0.2.1"}, "sns_certificate_origin"),
        ({"sns_certificate_origin": "http://127.0.0.1.evil.example"}, "sns_certificate_origin"),
        ({"sns_certificate_origin": "https://127.0.0.1"}, "sns_certificate_origin"),
        ({"sns_certificate_origin": "http://127.0.0.1:80"}, "sns_authority_file"),
        ({"sns_authority_file": "a.pem"}, "sns_authority_file"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], setting: str) -> None:
    """A codec that could not tell SNS from others is not built, and the error names the setting."""
    topics = {} if "topic_arns" in wrong or not wrong else {"topic_arns": GOOD["settings"]["topic_arns"]}
    settings = msgspec.convert({"region": "eu-west-3"} | topics | wrong, SesSettings)
    with pytest.raises(SettingsError, match=f"providers.ses.{setting}"):
        PROVIDER.codec(settings, CONTEXT)


def test_an_unreadable_authority_is_named(tmp_path: Path) -> None:
    """The authority's file must be a certificate."""
    file = tmp_path / "authority.pem"
    file.write_text("hello")
    local = {"sns_certificate_origin": "http://127.0.0.1:9", "sns_authority_file": str(file)}
    settings = msgspec.convert(GOOD["settings"] | local, SesSettings)
    with pytest.raises(SettingsError, match="sns_authority_file"):
        PROVIDER.codec(settings, CONTEXT)


def test_a_certificate_of_another_authority_is_refused() -> None:
    """With a local authority, a certificate that it did not issue proves nothing."""
    stranger = load_pem_x509_certificate(GOOD["certificates"][json.loads(GOOD["body"])["SigningCertURL"]].encode())
    codec = SesCodec(msgspec.convert(GOOD["settings"], SesSettings), Held(GOOD["certificates"]), stranger)
    with pytest.raises(VerificationError, match="not issued"):
        codec.verify(request_of(GOOD), now=NOW)


def test_the_provider_declares_what_it_can() -> None:
    """Capabilities, name and settings are declared, and unknown settings are refused."""
    assert PROVIDER.name == "ses"
    assert {Capability.CONFIRM_SUBSCRIPTION, Capability.FETCHES_CERTIFICATES} <= PROVIDER.capabilities
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"region": "eu-west-3", "topics": []}, PROVIDER.settings)


def test_the_callback_path_imports_no_sdk() -> None:
    """Building and using the codec loads neither boto3 nor httpx."""
    code = (
        "import sys; from connectors.ses import PROVIDER;"
        "assert 'cryptography' not in sys.modules;"
        "s = PROVIDER.settings(region='eu-west-3', topic_arns=('arn:aws:sns:eu-west-3:123456789012:t',));"
        "from core.ports import ProviderContext; PROVIDER.codec(s, ProviderContext({}, (), None));"
        "print([m for m in ('boto3', 'botocore', 'httpx') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
    assert ran.stdout.strip() == "[]"
