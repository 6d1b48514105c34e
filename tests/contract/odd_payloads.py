"""Payloads that no ESP makes on purpose, and genuine ones that were damaged."""

from __future__ import annotations

import gzip

from hypothesis import strategies as st

DEPTH = 100_000
MEGABYTES = 6 * 1024 * 1024 - 100


@st.composite
def damaged(draw: st.DrawFn, payload: bytes) -> bytes:
    """Bytes flipped, cut out, put in, repeated or cut off."""
    body = bytearray(payload)
    for _ in range(draw(st.integers(1, 4))):
        at, span = draw(st.integers(0, len(body))), draw(st.integers(0, 12))
        odd = st.sampled_from(
            [b"\x00", b"\xff", b"\xed\xa0\x80", b"\\ud800", b'"', b"}", b"]", b"%", b"&", b"1e999", b"[", b","]
        )
        what = draw(st.sampled_from(["flip", "cut", "put", "repeat", "end"]))
        if what == "flip" and at < len(body):
            body[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del body[at : at + span]
        elif what == "put":
            body[at:at] = draw(odd | st.binary(max_size=6))
        elif what == "repeat":
            body[at:at] = body[at : at + span * 10]
        elif what == "end":
            del body[at:]
    return bytes(body)


NESTED = b"[" * DEPTH + b"]" * DEPTH
ODD: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(64),
    "spaces": b" " * 64,
    "null": b"null",
    "number": b"7",
    "text": b'"text"',
    "NaN": b"[NaN]",
    "Infinity": b'[{"event":"open","timestamp":Infinity},{"event":"open","timestamp":-Infinity}]',
    "huge exponent": b'[{"event":"open","timestamp":1e999}]',
    "huge integer": b'[{"event":"open","timestamp":' + b"9" * 400 + b"}]",
    "integer beyond the limit of Python": b'[{"event":"open","timestamp":' + b"9" * 5_000 + b"}]",
    "minus zero": b'[{"event":"open","timestamp":-0.0}]',
    "duplicate keys": b'[{"event":"open","event":"unsubscribe","email":"a@b.example","email":7}]',
    "lone surrogate": b'[{"event":"unsubscribe","email":"a\\ud800@b.example","sg_event_id":"\\udfff"}]',
    "raw surrogate": b'[{"event":"unsubscribe","email":"a\xed\xa0\x80@b.example"}]',
    "not UTF-8": b'[{"event":"unsubscribe","email":"\xff\xfe"}]',
    "UTF-16": '[{"event":"open"}]'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf[]",
    "gzip": gzip.compress(b"[]", mtime=0),
    "gzip cut off": gzip.compress(b"[]", mtime=0)[:12],
    "open arrays": b"[" * DEPTH,
    "open objects": b'{"a":' * DEPTH,
    "nested arrays": NESTED,
    "nested inside an event": b'[{"event":"unsubscribe","email":"a@b.example","x":' + NESTED + b"}]",
    "nested beside an event": b'[{"event":"unsubscribe","email":"a@b.example"},' + NESTED + b"]",
    "nested type": b'{"eventType":' + NESTED + b"}",
    "nested form": b"mandrill_events=" + b"%5B" * DEPTH,
    "form of many fields": b"a=1&" * DEPTH,
    "form of ampersands": b"&" * DEPTH,
    "form of escapes": b"type=%" * DEPTH,
    "form of surrogates": b"type=unsubscribe&data%5Bemail%5D=%ED%A0%80%40example.org&fired_at=2026-01-01 00:00:00",
    "megabytes of spaces": b" " * MEGABYTES,
    "megabytes of one text": b'[{"event":"open","useragent":"' + b"a" * (MEGABYTES - 40) + b'"}]',
    "megabytes of one form field": b"type=" + b"a" * (MEGABYTES - 5),
    "many events": b"[" + b'{"event":"open","email":"a@b.example"},' * 10_000 + b"{}]",
}
