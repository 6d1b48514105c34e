"""Webhooks of Mailchimp Transactional: what the vectors do not show, what no input may do, what the settings hold."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes, quote_plus, unquote_to_bytes, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.mailchimp import PROVIDER, transactional
from connectors.mailchimp.settings import MailchimpSettings
from connectors.mailchimp.transactional import KINDS, REASONS
from connectors.simulators.mailchimp.transactional import MandrillWebhook
from core.errors import KeyMissing, PayloadError, SettingsError, VerificationError
from core.model import EventKind, ProviderEvent, VerifiedBody, WebhookRequest
from core.ports import ProviderContext, WebhookCodec
from tests.vectors import make_mandrill
from tests.vectors.make_mandrill import ADA, KEY, KEYS, TS, opened, told

CASES: list[dict[str, Any]] = [
    case
    for case in json.loads((Path(__file__).parent.parent / "vectors" / "mailchimp.json").read_text("utf-8"))
    if "x-mandrill-signature" in case["headers"]
]
READ = [case for case in CASES if "events" in case]
NOW = datetime.fromtimestamp(TS + 60, UTC)
CALLBACKS = "https://team.example/webhooks/mailchimp"
URL = f"{CALLBACKS}/transactional"


def codec_with(secrets: dict[str, str], *, callbacks: str = CALLBACKS, **settings: Any) -> WebhookCodec:  # noqa: ANN401
    """The codec as the assembly builds it."""
    context = ProviderContext(secrets, (), lambda: NOW, callbacks)
    return PROVIDER.codec(msgspec.convert({"list_id": "a1b2c3d4e5"} | settings, MailchimpSettings), context)


CODEC = codec_with(KEYS)


def request_for(events: list[Any], url: str = URL, key: str = KEY) -> WebhookRequest:
    """One signed post, as the simulator makes it."""
    (post,) = MandrillWebhook(url, key).posts(events)
    return WebhookRequest("POST", "/webhooks/mailchimp/transactional", post.headers, post.body)


def read(events: list[Any], codec: WebhookCodec = CODEC) -> list[ProviderEvent]:
    """Verify and parse, as the web layer does."""
    return list(codec.parse(codec.verify(request_for(events), now=NOW)))


def parsed(text: str) -> list[ProviderEvent]:
    """What a proven form with that text makes."""
    return list(CODEC.parse(VerifiedBody(urlencode({"mandrill_events": text}).encode())))


def test_each_mapped_event_has_a_vector() -> None:
    """No event and no reason is mapped that no vector shows."""
    natives = {event["native_type"] for case in READ for event in case["events"]}
    assert natives >= KINDS.keys()
    assert {reason for reason in REASONS if not any(native.endswith(f" {reason}") for native in natives)} == set()


def test_the_address_is_that_of_the_callbacks_unless_told() -> None:
    """What Mandrill signs along is the address below `base_url`; what the settings name goes in its place."""
    codec = codec_with(KEYS, transactional_urls=["https://other.example/x"])
    assert CODEC.verify(request_for([told("unsub")]), now=NOW).signed_at is None
    assert codec.verify(request_for([told("unsub")], "https://other.example/x"), now=NOW).body
    for refusing, url in ((CODEC, "https://other.example/x"), (codec, URL), (codec_with(KEYS, callbacks=""), URL)):
        with pytest.raises(VerificationError, match="transactional_urls"):
            refusing.verify(request_for([told("unsub")], url), now=NOW)


def test_without_a_key_it_is_to_be_sent_again() -> None:
    """The key is known only when the webhook is made, which delivers at once: nothing may be lost until then."""
    codec = codec_with({"MAILCHIMP_WEBHOOK_SECRETS": "secret"})
    with pytest.raises(VerificationError) as caught:
        codec.verify(request_for([told("unsub")]), now=NOW)
    assert caught.value.transient
    with pytest.raises(VerificationError) as caught:
        CODEC.verify(request_for([told("unsub")], key="another"), now=NOW)
    assert not caught.value.transient


def test_with_mandrills_keys_alone_audience_webhooks_are_to_be_sent_again() -> None:
    """Mandrill's keys prove nothing but what Mandrill signed."""
    for headers in ({}, {"x-mailchimp-signature": f"t={TS},v1={'0' * 64}"}):
        with pytest.raises(VerificationError) as caught:
            CODEC.verify(WebhookRequest("POST", "/webhooks/mailchimp", headers, b"type=profile"), now=NOW)
        assert caught.value.transient


def test_what_mandrill_signed_is_never_read_as_an_audience_webhook() -> None:
    """A signature covers names and values run together: a form with both is Mandrill's, whatever else it says."""
    body = urlencode({"mandrill_events": json.dumps([told("send")]), "type": "unsubscribe", "data[email]": ADA})
    (event,) = CODEC.parse(VerifiedBody(body.encode()))
    assert (event.kind, event.native_type) == (EventKind.OTHER, "send")


def test_a_thousand_events_are_taken_and_each_is_its_own() -> None:
    """As many as Mandrill sends; no two have a key in common, and a repetition has the same ones."""
    events = [opened() | {"_id": f"m{n}"} for n in range(999)] + [told("unsub")]
    found = read(events)
    assert len({key for event in found for key in event.keys}) == len(events)
    assert [event.keys for event in read(events)] == [event.keys for event in found]


@pytest.mark.parametrize("field", ["event", "_id", "ts", "url", "user_agent", "email"])
def test_events_that_differ_have_different_keys(field: str) -> None:
    """Two events are one only if all that identifies them is the same."""
    one, other = opened() | {"url": "https://a.example/"}, opened() | {"url": "https://a.example/"}
    if field == "email":
        other["msg"] = other["msg"] | {"email": "bob@example.com"}
    else:
        other[field] = {"event": "click", "ts": TS + 1}.get(field, "something else")
    assert read([one])[0].keys != read([other])[0].keys


def test_keys_and_representations_name_nobody() -> None:
    """No address can be read in a key, or in what is printed."""
    for case in READ:
        for event in CODEC.parse(VerifiedBody(base64.b64decode(case["body"]))):
            assert all(key.startswith("mailchimp:") and "@" not in key for key in event.keys)
            assert "@" not in repr(event)


def test_from_where_somebody_read_is_not_kept() -> None:
    """IP address and place go at once; of the user agent the family alone has a use."""
    item = opened()
    item["msg"] |= {"opens": [{"ip": "192.0.2.7"}], "clicks": [{"ip": "192.0.2.7"}]}
    (event,) = read([item])
    assert event.raw["user_agent"] == item["user_agent"]
    assert "192.0.2.7" not in json.dumps(event.raw)
    assert "Rennes" not in json.dumps(event.raw)
    (lost,) = read([item | {"ts": None}])
    assert lost.kind is EventKind.MALFORMED
    assert item["user_agent"] not in json.dumps(lost.raw)


@pytest.mark.parametrize("case", READ, ids=[case["name"] for case in READ])
def test_a_letter_holds_its_event_alone(case: dict[str, Any]) -> None:
    """Each event, put into a form of its own, is read as the same event: what failed can be tried again."""
    body = VerifiedBody(base64.b64decode(case["body"]))
    for event in CODEC.parse(body):
        assert list(CODEC.parse(VerifiedBody(CODEC.letter(body, event)))) == [event]


@pytest.mark.parametrize("item", [7, "text", None, [], [[]], {"": 5}, {"": {"event": "unsub"}}, {"": [1]}], ids=repr)
def test_a_letter_of_what_is_no_event_is_the_same_again(item: object) -> None:
    """However odd an item is, its letter holds it as it came, and nothing else."""
    body = VerifiedBody(urlencode({"mandrill_events": json.dumps([item, told("unsub")])}).encode())
    event, _ = CODEC.parse(body)
    assert event.kind is EventKind.MALFORMED
    assert list(CODEC.parse(VerifiedBody(CODEC.letter(body, event)))) == [event]


def test_an_address_is_found_again_in_a_letter() -> None:
    """As `erase` looks for it: what was kept about somebody can be forgotten, whatever letters the name has."""
    body = VerifiedBody(request_for([told("unsub", ts=None, msg={"email": "zoé+news@example.com"})]).body)
    (event,) = CODEC.parse(body)
    assert quote("zoé+news@example.com", safe="").encode() in CODEC.letter(body, event)


def test_a_letter_too_deep_to_be_written_is_the_whole_form() -> None:
    """Nothing is lost for want of a way to write it."""
    raw: dict[str, Any] = {}
    for _ in range(100_000):
        raw = {"x": raw}
    body, (event,) = VerifiedBody(request_for([told("unsub")]).body), read([told("unsub")])
    assert CODEC.letter(body, replace(event, raw=raw)) == body.body
    while raw:  # taken apart by hand: freeing it at once would be as deep
        raw = raw["x"]


@pytest.mark.parametrize("text", ["[" * 100_000, '[{"event":' * 100_000, "[" + '{"a":' * 5_000], ids=["a", "b", "c"])
def test_deep_nesting_is_a_payload_error(text: str) -> None:
    """However deep: PayloadError and nothing else."""
    with pytest.raises(PayloadError):
        parsed(text)


@pytest.mark.parametrize(
    "ts", [-1, 0, 10**30, 1e300, "9" * 400, float("inf"), float("nan"), True, [], {}, "soon", None]
)
def test_a_time_that_is_none_makes_a_withdrawal_unreadable(ts: object) -> None:
    """It is kept as it came: with a wrong time it would be put before the consent that it ends."""
    (event,) = parsed(json.dumps([told("unsub", ts=ts)]))
    assert event.kind is EventKind.MALFORMED


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([*KINDS, "blacklist", "add", "unsub", ADA, "2012", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["event", "type", "action", "reject", "reason", "msg", "email", "metadata", "ts", "_id", ""]
            )
            | st.sampled_from(["pixelproof_recipient", "pixelproof_campaign", "user_agent", "url"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(item=JSON)
def test_no_item_costs_its_neighbour(item: object) -> None:
    """Whatever stands beside a withdrawal, the withdrawal is read, and a letter of the other one is the same again."""
    body = VerifiedBody(urlencode({"mandrill_events": json.dumps([item, told("unsub")])}).encode())
    odd, good = CODEC.parse(body)
    assert good.kind is EventKind.UNSUBSCRIBE
    assert list(CODEC.parse(VerifiedBody(CODEC.letter(body, odd)))) == [odd]


@given(text=st.binary(max_size=60), safe=st.sampled_from(["", "/", "=\n\r \t", "abc=", "_"]))
def test_a_form_is_read_as_forms_are(text: bytes, safe: str) -> None:
    """Every byte, escaped or not, comes out as the standard library reads it: it is what is signed."""
    for written in (quote_from_bytes(text, safe=safe), quote_plus(text, safe=safe)):
        assert transactional._plain(written.encode()) == unquote_to_bytes(written.replace("+", " "))


@given(body=st.binary(max_size=300))
def test_arbitrary_bodies_raise_payload_error_at_most(body: bytes) -> None:
    """No body raises anything but PayloadError."""
    try:
        assert all(event.occurred_at.tzinfo is UTC for event in CODEC.parse(VerifiedBody(b"mandrill_events=" + body)))
    except PayloadError:
        return


@given(body=st.binary(max_size=300), signature=st.text(max_size=40), prefix=st.sampled_from([b"", b"mandrill_events="]))
def test_arbitrary_requests_are_refused(body: bytes, signature: str, prefix: bytes) -> None:
    """Whatever arrives without a genuine signature raises VerificationError and nothing else."""
    headers = {"x-mandrill-signature": signature}
    with pytest.raises(VerificationError):
        CODEC.verify(WebhookRequest("POST", "/", headers, prefix + body), now=NOW)


@given(case=st.sampled_from(READ), at=st.integers(0, 100_000), bit=st.integers(0, 7))
def test_one_altered_bit_changes_nothing(case: dict[str, Any], at: int, bit: int) -> None:
    """With one bit of its body altered a post is refused, or it spells the very same events in another way."""
    codec = codec_with(case["secrets"], **case["settings"])
    raw = base64.b64decode(case["body"])
    altered = bytearray(raw)
    altered[at % len(raw)] ^= 1 << bit
    try:
        body = codec.verify(WebhookRequest("POST", case["path"], case["headers"], bytes(altered)), now=NOW)
    except VerificationError:
        return
    assert list(codec.parse(body)) == list(codec.parse(VerifiedBody(raw)))


@pytest.mark.parametrize(
    ("secrets", "settings", "named"),
    [
        ({"MANDRILL_WEBHOOK_KEYS": "clé"}, {}, "MANDRILL_WEBHOOK_KEYS"),
        ({"MANDRILL_WEBHOOK_KEYS": "one,test-webhook"}, {}, "MANDRILL_WEBHOOK_KEYS"),
        (KEYS, {"transactional_urls": ["http://team.example/x"]}, "transactional_urls"),
        (KEYS, {"transactional_urls": ["https://user:pass@team.example/x"]}, "transactional_urls"),
        (KEYS, {"transactional_urls": ["https://team.example/x "]}, "transactional_urls"),
        (KEYS, {"transactional_urls": ["//["]}, "transactional_urls"),
    ],
)
def test_what_proves_nothing_is_refused(secrets: dict[str, str], settings: dict[str, Any], named: str) -> None:
    """Malformed keys, the key that everybody knows and addresses that will not do are named, not repeated."""
    with pytest.raises(SettingsError, match=named) as caught:
        codec_with(secrets, **settings)
    assert not isinstance(caught.value, KeyMissing)
    assert not any(text in str(caught.value) for text in ("clé", "one", "pass@", "team.example"))


def test_without_any_key_both_kinds_are_named() -> None:
    """Nothing can be verified: the error names what to set for either service."""
    with pytest.raises(KeyMissing, match=r"MAILCHIMP_WEBHOOK_SECRETS.*MANDRILL_WEBHOOK_KEYS"):
        codec_with({})


def test_the_vectors_use_the_documented_limits() -> None:
    """The cases are signed for the address that the settings default to."""
    assert make_mandrill.URL == URL
