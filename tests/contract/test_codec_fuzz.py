"""Whatever is posted, however it comes in: only the documented errors leave a codec, and every event can be kept.

Mutated payloads are sealed as the ESP seals them, so that reading is reached and not only the check of the signature.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import providers
from core.errors import PayloadError, VerificationError
from core.intake import IDLE
from core.model import EventKind, ProviderEvent, VerifiedBody, WebhookRequest
from core.ports import SiftsEvents
from tests.contract.odd_payloads import ODD, damaged
from tests.contract.posting_routes import Route, routes

ROUTES = routes()
EACH_ROUTE = pytest.mark.parametrize("route", ROUTES.values(), ids=[name.replace(" ", "-") for name in ROUTES])
FUZZ = settings(deadline=None, max_examples=60)


def test_every_provider_is_fuzzed() -> None:
    """A provider that is added here is added there."""
    assert {route.provider for route in ROUTES.values()} == set(providers())


# What is checked


def verified(route: Route, request: WebhookRequest) -> VerifiedBody | None:
    """What ``verify`` says; None when it refuses. Anything but VerificationError escapes."""
    try:
        return route.codec.verify(request, now=route.now)
    except VerificationError as error:
        refusal = str(error)
    assert "@" not in refusal
    return None


def read(route: Route, body: VerifiedBody) -> Sequence[ProviderEvent] | None:
    """What ``parse`` says; None when it refuses. Anything but PayloadError escapes. ``sift`` must say the same."""
    try:
        events = route.codec.parse(body)
    except PayloadError as error:
        refusal = str(error)
    else:
        assert sifted(route, body) == ([e for e in events if e.kind not in IDLE], sum(e.kind in IDLE for e in events))
        return kept(route, body, events)
    assert "@" not in refusal
    with pytest.raises(PayloadError):
        sifted(route, body)
    return None


def sifted(route: Route, body: VerifiedBody) -> tuple[list[ProviderEvent], int]:
    """What ``sift`` says, or would say where there is none."""
    if hasattr(route.codec, "sift"):
        found, idle = cast("SiftsEvents", route.codec).sift(body, IDLE)
        return list(found), idle
    everything = route.codec.parse(body)
    found = [event for event in everything if event.kind not in IDLE]
    return found, len(everything) - len(found)


def kept(route: Route, body: VerifiedBody, events: Sequence[ProviderEvent]) -> Sequence[ProviderEvent]:
    """The events: each can be stored, tells when it happened, and is the same when it is read from its letter."""
    for event in events:
        assert event.occurred_at.tzinfo is UTC
        texts = (event.native_type, event.address, event.recipient_tag, event.campaign, event.topic, event.new_address)
        assert [text.encode() for text in (*texts, *event.keys) if text is not None]
        assert event.keys
        assert "@" not in "".join(event.keys)
        assert event in route.codec.parse(VerifiedBody(route.codec.letter(body, event), body.signed_at))
    return events


def sealed(route: Route, payload: bytes) -> Sequence[ProviderEvent] | None:
    """The same for a payload that the ESP seals."""
    request = route.seal(payload)
    body = verified(route, request)
    assert body is not None or not route.certain
    return None if body is None else read(route, body)


# Genuine payloads, damaged


@EACH_ROUTE
def test_genuine_payloads_are_read(route: Route) -> None:
    """So that what follows damages something that was sound."""
    assert route.payloads
    for payload in route.payloads:
        assert sealed(route, payload)


@EACH_ROUTE
@FUZZ
@given(data=st.data())
def test_damaged_payloads(route: Route, data: st.DataObject) -> None:
    """Sealed, so that they are read; unsealed, so that they are refused or, where nothing seals, read too."""
    payload = data.draw(st.sampled_from(route.payloads))
    body = data.draw(damaged(payload))
    sealed(route, body)
    read(route, VerifiedBody(body))


@EACH_ROUTE
@FUZZ
@given(data=st.data())
def test_damaged_requests(route: Route, data: st.DataObject) -> None:
    """A sealed request whose body was damaged on the way, under its own headers."""
    request = route.seal(data.draw(st.sampled_from(route.payloads)))
    body = data.draw(damaged(request.body))
    proven = verified(route, WebhookRequest("POST", request.path, request.headers, body, request.queued))
    if proven is not None:
        read(route, proven)


ODD_TEXT = st.text(max_size=12) | st.sampled_from(["\ud800", "a\x00b", "é" * 300, "%00%", "9" * 5_000, "\u202e"])
HEADERS = sorted({name for route in ROUTES.values() for name in route.seal(route.payloads[0]).headers})


@EACH_ROUTE
@FUZZ
@given(
    headers=st.dictionaries(st.sampled_from(HEADERS) | ODD_TEXT, ODD_TEXT, max_size=4), path=ODD_TEXT, data=st.data()
)
def test_odd_headers(route: Route, headers: dict[str, str], path: str, data: st.DataObject) -> None:
    """Headers and paths of any characters, in place of the genuine ones or of some of them."""
    request = route.seal(data.draw(st.sampled_from(route.payloads)))
    kept = data.draw(st.sampled_from([{}, dict(request.headers)]))
    proven = verified(route, WebhookRequest("POST", path, kept | headers, request.body))
    if proven is not None:
        read(route, proven)


# Fields dropped, renamed, and of other types

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=12)
    | st.sampled_from([10**400, -(10**30), 1e300, "\ud800", "\x00", "@", "1e5", "ada@example.org"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - any JSON
    """Where everything inside a JSON value stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inside:
        yield (*place, name)
        yield from places(each, (*place, name))


@EACH_ROUTE
@FUZZ
@given(data=st.data())
def test_fields_dropped_and_retyped(route: Route, data: st.DataObject) -> None:
    """Any field of the documented form may be missing or hold anything."""
    payload = data.draw(st.sampled_from(route.payloads))
    try:
        value = json.loads(payload)
    except RecursionError:  # a vector that is nested without end has no fields
        value = []
    except ValueError:
        sealed(route, retyped_form(payload, data))
        return
    for _ in range(data.draw(st.integers(1, 3))):
        found = [place for place in places(value) if place]
        if not found:
            break
        *outer, name = data.draw(st.sampled_from(found))
        holder = value
        for step in outer:
            holder = holder[step]
        if data.draw(st.booleans()):
            holder[name] = data.draw(JSON)
        else:
            del holder[name]
    sealed(route, json.dumps(value).encode())


def retyped_form(payload: bytes, data: st.DataObject) -> bytes:
    """A form with a field dropped, repeated or of another value; inside Mandrill's one field stands JSON."""
    fields = parse_qsl(payload.decode(), keep_blank_values=True)
    at = data.draw(st.integers(0, len(fields) - 1)) if fields else 0
    odd = data.draw(JSON)
    value = odd if isinstance(odd, str) else json.dumps(odd)
    what = data.draw(st.sampled_from(["drop", "repeat", "replace"]))
    fields[at : at + 1] = [] if what == "drop" else [*fields[at : at + 1 if what == "repeat" else at], ("", "")]
    fields = [(name or data.draw(st.sampled_from(["type", "data[email]", "mandrill_events"])), v) for name, v in fields]
    return urlencode([(name, v or value) for name, v in fields], errors="surrogatepass").encode()


# What somebody would try


@pytest.mark.parametrize("what", ODD)
@EACH_ROUTE
def test_odd_payloads(route: Route, what: str) -> None:
    """Sealed, and as a body of its own."""
    sealed(route, ODD[what])
    events = read_some(route, ODD[what])
    assert events is None or all(isinstance(event, ProviderEvent) for event in events)


@EACH_ROUTE
def test_depths_that_can_just_be_read(route: Route) -> None:
    """Between what can be nested and what cannot: an event that was read can be written down too."""
    for depth in range(950, 1_005):
        nested = b"[" * depth + b"]" * depth
        for item in (b'{"event":"unsubscribe","x":' + nested + b"}", b'{"event":7,"x":' + nested + b"}", nested):
            body = VerifiedBody(
                b"mandrill_events=[" + item + b"]" if route.provider == "mailchimp" else b"[" + item + b"]"
            )
            events = read_some(route, body.body)
            for event in events or ():
                assert route.codec.letter(body, event)


def read_some(route: Route, payload: bytes) -> Sequence[ProviderEvent] | None:
    """Read it unsealed."""
    with suppress(PayloadError):
        return route.codec.parse(VerifiedBody(payload))
    return None


def test_one_odd_event_costs_no_other() -> None:
    """Beside a withdrawal in one batch: whatever the other item is, the withdrawal is read."""
    route = ROUTES["sendgrid"]
    for odd in (
        "7",
        "null",
        "{}",
        '{"event":7}',
        '{"":7}',
        "[[]]",
        '"\\ud800"',
        "NaN",
        "9" * 400,
        '{"event":"\\ud800"}',
    ):
        events = sealed(route, f'[{odd},{{"event":"unsubscribe","email":"a@b.example"}}]'.encode())
        assert events is not None
        assert [event.kind for event in events][1:] == [EventKind.UNSUBSCRIBE]
