"""Oversized, slow and malformed requests against `pixelproof serve`: refused or cut off, and nobody else waits."""

from __future__ import annotations

import re
import signal
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cli.serve import MOST_CONNECTIONS
from core.model import Action
from tests.api_caller import Caller
from tests.installation import PATIENCE
from tests.served_process import SETTINGS, Process, heard, running
from webhooks.callbacks import BODY_LIMIT
from webhooks.choices import LONGEST_BODY
from webhooks.connections import HEAD_LIMIT

SHORT = 2.0
"""Seconds for which this installation waits for a request."""
KEY = "A" * 43
SENDGRID = f'{SETTINGS}[providers.sendgrid]\napi_url = "http://127.0.0.1:9"\n'
_SPKI = (
    ec.derive_private_key(7, ec.SECP256R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)
SECRETS = {"SENDGRID_API_KEY": f"SG.{KEY}", "SENDGRID_WEBHOOK_PUBLIC_KEYS": b64encode(_SPKI).decode()}
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"
LAST = b"connection: close\r\n\r\n"
MANY = 60
PLENTY = 200
"""Pieces of 64 KiB, which are more than anything is allowed to be."""
PIECE = b"a" * 65_536


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """An installation that is soon out of patience. Somebody has agreed and got a campaign's mail."""
    with running(tmp_path_factory.mktemp("requests"), SENDGRID, SECRETS, patience=SHORT) as process:
        process.campaign("spring", aggregate=True)
        process.say(Action.GIVEN, "performance")
        yield process


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One that would wait for ever: what it cuts off, it cuts off for its size."""
    with running(tmp_path_factory.mktemp("patient"), SENDGRID, SECRETS, patience=100_000) as process:
        yield process


@pytest.fixture(scope="module")
def key(site: Process) -> str:
    """A key of the API."""
    secret = Caller(site).secret
    site.secrets.add(secret)
    return secret


def status(told: bytes) -> int:
    """The status of the first answer; 0 when there was none."""
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", told)
    return int(found[1]) if found else 0


def well(site: Process) -> bool:
    """Whether somebody else is answered."""
    return site.client.get("/healthz").status_code == 200 == site.client.get(site.choices_path()).status_code


@contextmanager
def connections(site: Process, many: int) -> Iterator[list[socket.socket]]:
    """So many open connections."""
    with ExitStack() as stack:
        yield [stack.enter_context(site.connect()) for _ in range(many)]


# Slow


STARTS = {
    "silent": b"",
    "a line's start": b"GET /heal",
    "a head without its end": HEALTH + b"x-more: 1\r\n",
    "a header's start": HEALTH + b"x-more: ",
    "empty lines": b"\r\n\r\n",
    "a pixel's head": b"GET /a/spring.gif HTTP/1.1\r\nhost: x\r\n",
}


@pytest.mark.parametrize("name", STARTS)
def test_slow_heads_are_cut_off(site: Process, name: str) -> None:
    """Many connections on which no head is ever complete: others are answered meanwhile, and these are closed."""
    with connections(site, MANY) as slow:
        for each in slow:
            each.sendall(STARTS[name])
        assert well(site)
        assert {heard(each) for each in slow} == {b""}
    assert well(site)


def test_a_byte_now_and_then_buys_no_time(site: Process) -> None:
    """A head that grows a byte at a time is cut off as well: what counts is that it is not complete."""
    with connections(site, 1) as (slow,):
        slow.sendall(HEALTH)
        slow.settimeout(SHORT / 20)
        assert b"".join(_dripping(slow, b"x")) == b""


def test_a_slow_body_is_refused_and_cut_off(site: Process) -> None:
    """A byte now and then of a callback: request time-out, and the connection is closed."""
    before = site.everything()
    with connections(site, 1) as (slow,):
        slow.sendall(b"POST /webhooks/sendgrid HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        slow.settimeout(SHORT / 20)
        told = b"".join(_dripping(slow, b"["))
    assert status(told) == 408
    assert b"\r\nconnection: close\r\n" in told.lower()
    assert site.everything() == before


def _dripping(connection: socket.socket, piece: bytes) -> Iterator[bytes]:
    """Send a piece again and again until the server closes the connection; gives what it says."""
    for _ in range(2_000):
        try:
            connection.sendall(piece)
            part = connection.recv(65_536)
        except TimeoutError:
            continue
        except ConnectionError:
            return
        if not part:
            return
        yield part
    pytest.fail("never cut off")


def bodies(site: Process, key: str) -> dict[str, tuple[str, str, int]]:
    """Everything that can be posted to: path, headers, and the answer to a body that never comes; 0: none."""
    form = "content-type: application/x-www-form-urlencoded\r\n"
    return {
        "a callback": ("/webhooks/sendgrid", "", 408),
        "a choice": (site.choices_path(), form, 408),
        "a one-click withdrawal": (f"{site.choices_path()}/withdraw", form, 408),
        "the API": ("/v1/consents", f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n", 408),
        "the API without a key": ("/v1/consents", "content-type: application/json\r\n", 401),
        "an unknown ESP": ("/webhooks/other", "", 404),
        "nothing": ("/nothing", "", 404),
        "a pixel": (site.pixel_path("spring"), "", 405),
        "health": ("/healthz", "", 405),
    }


@pytest.mark.parametrize("framing", ["content-length: 50", "transfer-encoding: chunked"], ids=["length", "chunked"])
def test_bodies_that_do_not_come_end_everywhere(site: Process, key: str, framing: str) -> None:
    """Whether the body is waited for or the answer was given without it: the connection is closed, nothing changed."""
    targets = bodies(site, key)
    before = site.everything()
    with connections(site, len(targets)) as slow:
        for each, (path, headers, _) in zip(slow, targets.values(), strict=True):
            each.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}{framing}\r\n\r\n".encode())
        assert well(site)
        told = {name: status(heard(each)) for each, name in zip(slow, targets, strict=True)}
    assert told == {name: expected for name, (_, _, expected) in targets.items()}
    assert site.everything() == before


def test_who_takes_no_answers_is_cut_off(site: Process) -> None:
    """Complete requests for a long document whose answers nobody reads: in the end the sockets are given back."""
    asks = b"GET /docs/api HTTP/1.1\r\nhost: x\r\n\r\n" * 300
    files, until = Path(f"/proc/{site.server.pid}/fd"), time.monotonic() + PATIENCE
    with connections(site, 3) as slow:
        for each in slow:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            each.sendall(asks)
        assert well(site)
        held = len(list(files.iterdir()))
        while len(list(files.iterdir())) > held - len(slow):
            assert time.monotonic() < until, "never cut off"
            time.sleep(0.1)


# Large


def test_long_heads_are_refused(patient: Process) -> None:
    """A long line, a long header, many headers, complete or without end: 431. What proxies let pass is answered."""
    site, fits = patient, (HEAD_LIMIT - 1_000) * b"a"
    assert status(site.talk(HEALTH, b"x: ", fits, b"\r\n", LAST)) == 200
    assert status(site.talk(HEALTH, b"x: ", fits, b"a" * 1_000, b"\r\n", LAST)) == 431
    assert status(site.talk(HEALTH, *repeat(b"x-header: 1\r\n" * 1_000, 20), b"\r\n")) == 431
    assert status(site.talk(b"GET /", *repeat(PIECE, 20), b" HTTP/1.1\r\n\r\n")) == 431
    for endless in ((HEALTH, b"x: ", *repeat(PIECE, PLENTY)), (b"GET /", *repeat(PIECE, PLENTY))):
        assert status(site.talk(*endless)) in {0, 431}  # the answer may be lost while so much is still being sent
    assert status(site.talk(HEALTH, *repeat(b"a: b\r\n" * 10_000, PLENTY))) in {0, 431}
    assert well(site)


@pytest.mark.parametrize("path", ["/webhooks/sendgrid", "/nothing"])
@pytest.mark.parametrize(
    "around",
    [b"1;", b"0\r\nx: ", b"3\r\nabc\r\n0\r\nx: ", b"0\r\n" + b"x: y\r\n" * 1_000],
    ids=["size", "trailer", "trailer of a body", "trailers"],
)
def test_what_stands_around_a_body_has_a_limit(patient: Process, path: str, around: bytes) -> None:
    """A chunk's size and a trailer without end, which nobody would ever see, are not collected; nor are empty lines."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    more = b"x: y\r\n" * 10_000 if around.endswith(b"\n") else PIECE
    assert status(patient.talk(head, around, *repeat(more, PLENTY))) in {0, 404}
    assert patient.talk(*repeat(b"\r\n" * 10_000, PLENTY)) == b""
    assert well(patient)


@pytest.mark.parametrize("path", ["/webhooks/sendgrid", "/webhooks/other", "/nothing"])
def test_a_body_without_end_is_cut_off(site: Process, path: str) -> None:
    """Chunks for ever, and chunks of a byte, sizes and trailers for ever: refused, and not read for ever."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    before = site.everything()
    pieces = {
        "chunks": b"10000\r\n" + PIECE + b"\r\n",
        "small chunks": b"1\r\na\r\n" * 10_000,
        "sizes": b"1;" + b"a" * 10_000,
        "trailers": b"0\r\nx: " + b"a" * 10_000,
    }
    for piece in pieces.values():
        with connections(site, 1) as (endless,):
            endless.settimeout(PATIENCE)
            endless.sendall(head)
            _send_for_ever(endless, piece)
    assert site.everything() == before
    assert well(site)


def _send_for_ever(connection: socket.socket, piece: bytes) -> None:
    """Send a piece again and again; of one that begins a header or a chunk's size, what stands in it."""
    try:
        connection.sendall(piece)
        for _ in range(10_000_000):
            connection.sendall(piece if piece.endswith(b"\n") else b"a" * 10_000)
    except ConnectionError:
        return
    pytest.fail("never cut off")


def test_announced_lengths_are_not_believed(site: Process, key: str) -> None:
    """Too long by the header: refused once it is too long in truth, or cut off. Nothing is taken of a part."""
    before = site.everything()
    for path, headers, limit, refusal in (
        ("/webhooks/sendgrid", "", BODY_LIMIT, 413),
        (site.choices_path(), "content-type: application/x-www-form-urlencoded\r\n", LONGEST_BODY, 400),
        ("/v1/consents", f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n", 1024 * 1024, 413),
    ):
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: "
        whole = f"{head}{limit + 1}\r\nconnection: close\r\n\r\n".encode()
        assert status(site.talk(whole, b"a" * limit, b"a")) == refusal
        assert status(site.talk(f"{head}{10**12}\r\n\r\n".encode(), b"action=withdraw")) == 408
        with connections(site, 1) as (short,):
            short.sendall(f"{head}40\r\n\r\naction=withdraw".encode())
            short.shutdown(socket.SHUT_WR)  # says no more
            assert status(heard(short)) in {0, 408}
    assert site.everything() == before


# Malformed


MALFORMED = {
    "two framings": b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "one length twice": b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "a list of lengths": b"content-length: 3, 3\r\n\r\nabc",
    "a negative length": b"content-length: -3\r\n\r\nabc",
    "a signed length": b"content-length: +3\r\n\r\nabc",
    "a hexadecimal length": b"content-length: 0x3\r\n\r\nabc",
    "a length beyond 64 bits": b"content-length: 99999999999999999999\r\n\r\nabc",
    "an unknown coding": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "another coding last": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a chunk of bad size": b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "a chunk of huge size": b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "a space before the colon": b"x-a : 1\r\n\r\n",
    "a folded header": b"x-a: 1\r\n 2\r\n\r\n",
    "NUL in a header": b"x-a: 1\x002\r\n\r\n",
    "NUL in a header's name": b"x-\x00a: 1\r\n\r\n",
    "a bare CR": b"x-a: 1\rx-b: 2\r\n\r\n",
    "bare line feeds": b"x-a: 1\nx-b: 2\n\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_ambiguous_requests_are_refused(site: Process, name: str) -> None:
    """Whatever two servers could read in two ways is read in none: 400, closed, and what follows is not answered."""
    told = site.talk(b"POST /webhooks/other HTTP/1.1\r\nhost: x\r\n" + MALFORMED[name], HEALTH + LAST)
    assert told.count(b"HTTP/1.1 ") == 1 or name.startswith("a chunk")  # whose head was answered already
    assert b"HTTP/1.1 400 Bad Request" in told
    assert b'"status"' not in told


@pytest.mark.parametrize(
    "request_",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT example.net:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET healthz HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"\x00" * 1_000,
        b"GE\xffT / HTTP/1.1\r\n\r\n",
    ],
    ids=["HTTP/2", "CONNECT", "no path", "another version", "TLS", "NUL", "no method"],
)
def test_what_is_no_request_is_refused(site: Process, request_: bytes) -> None:
    """400, and closed."""
    assert status(site.talk(request_)) == 400
    assert well(site)


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c", b"TLS/1.0"])
def test_a_connection_never_becomes_another_one(site: Process, protocol: bytes) -> None:
    """A wish to change the protocol is passed over: an ordinary answer, and another one behind it."""
    wish = b"connection: upgrade\r\nupgrade: " + protocol + b"\r\nsec-websocket-version: 13\r\n"
    wish += b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    with site.connect() as connection:
        connection.sendall(HEALTH + wish)
        assert status(_one_answer(connection)) == 200
        connection.sendall(HEALTH + LAST)
        assert status(heard(connection)) == 200


def _one_answer(connection: socket.socket) -> bytes:
    told = b""
    while b"}" not in told:
        part = connection.recv(65_536)
        assert part, "closed"
        told += part
    return told


# Many, and the end


def test_too_many_connections_are_told_to_come_again(site: Process) -> None:
    """With all places taken by connections that do nothing the next request is told 503; they are soon cut off."""
    with connections(site, MOST_CONNECTIONS) as idle:
        assert status(site.talk(HEALTH + LAST)) == 503
        assert {heard(each) for each in idle} == {b""}
    assert status(site.talk(HEALTH + LAST)) == 200


def test_a_request_without_end_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """With all the patience in the world, too: told to stop, the server does, whoever still keeps it waiting."""
    with running(tmp_path, SENDGRID, SECRETS, patience=100_000) as process:
        starts: list[Callable[[], bytes]] = [lambda: HEALTH, lambda: b""]
        starts.append(lambda: b"POST /webhooks/sendgrid HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n[")
        with connections(process, len(starts)) as slow:
            for each, start in zip(slow, starts, strict=True):
                each.sendall(start())
            assert well(process)
            process.server.send_signal(signal.SIGTERM)
            process.server.wait(timeout=60)
