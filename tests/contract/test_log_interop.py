"""The log read by implementations that are not ours: pymerkle, openssl, and a reader written from C2SP's text alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest
from pymerkle import InmemoryTree, verify_consistency, verify_inclusion

from cli.setup import fresh_keys
from core.ledger import Recording
from core.merkle import consistent
from core.model import Action, ConsentEvent, PurposeId, RecipientId
from core.notary import Notary
from core.receipt_check import check
from core.settings import NotarySettings, Sender, Settings, load_secrets
from core.timestamps import StampError, checked
from tests.tools import openssl
from webhooks.assembly import Services

SIZES = (1, 2, 5, 128, 255, 256, 257, 300, 512, 600)
ADA = RecipientId(b"a" * 16)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """An installation with keys."""
    (tmp_path / ".env").write_text(fresh_keys(), "utf-8")
    settings = Settings(
        sender=Sender(name="Example"), base_url="https://log.example.com", purposes=(PurposeId("performance"),)
    )
    with Services(settings, load_secrets(tmp_path), tmp_path) as built:
        yield built


def record(services: Services, many: int) -> None:
    """So many decisions of one person."""
    now = datetime.now(UTC)
    event = ConsentEvent(ADA, (PurposeId("performance"),), Action.GIVEN, now, now)
    services.ledger.record([Recording(event)] * many)


def notary_of(services: Services) -> Notary:
    """The installation's notary."""
    assert services.notary is not None
    return services.notary


def grown(services: Services) -> InmemoryTree:
    """The ledger and its log through ``SIZES``, and pymerkle's tree over the same entries."""
    for before, size in zip((0, *SIZES), SIZES, strict=False):
        record(services, size - before)
        notary_of(services).cover()
    tree = InmemoryTree(algorithm="sha256")
    for _, entry in services.store.entries():
        tree.append_entry(entry.body)
    return tree


def test_pymerkle_finds_the_same_roots_and_proofs(services: Services) -> None:
    """Of every checkpoint; every hundredth inclusion proof hash by hash, and verified by pymerkle."""
    tree, notary = grown(services), notary_of(services)
    leaves = [entry.hash for _, entry in services.store.entries()]
    for size in SIZES:
        head = notary.head(size)
        assert head is not None
        assert tree.get_root(size) == head.checkpoint.root
        for index in {0, size // 3, size - 1, *range(0, size, 97)}:
            proof = tree.prove_inclusion(index + 1, size)
            proof.path = [leaves[index], *notary.tiles.inclusion(index, size)]
            verify_inclusion(leaves[index], head.checkpoint.root, proof, index=index + 1, size=size)


def test_pymerkle_finds_the_checkpoints_consistent(services: Services) -> None:
    """Each root with each later one, by a proof of its own; and by ours, which divides trees otherwise (RFC 9162)."""
    tree, notary = grown(services), notary_of(services)
    roots = {size: notary.tiles.root(size) for size in SIZES}
    for first in SIZES:
        for second in (size for size in SIZES if size >= first):
            verify_consistency(roots[first], roots[second], tree.prove_consistency(first, second))
            assert consistent((first, roots[first]), (second, roots[second]), notary.tiles.consistency(first, second))


def test_a_reader_of_c2sps_text_alone_accepts_the_checkpoint(services: Services, tmp_path: Path) -> None:
    """The note's lines, the key's id and text, the tree's files, and the signature as openssl checks it."""
    record(services, 300)
    notary_of(services).cover()
    text, lines = (services.data / "log" / "checkpoint").read_text("utf-8").rsplit("\n\n", 1)
    origin, size, root = text.split("\n")
    mark, name, signature = lines.rstrip("\n").split(" ")
    assert (mark, name, origin, size) == ("\u2014", "log.example.com", "log.example.com", "300")
    key_name, key_id, encoded = str(notary_of(services).keys.verifiers[0]).split("+", 2)
    material, raw = base64.b64decode(encoded), base64.b64decode(signature)
    assert hashlib.sha256(name.encode() + b"\n" + material).digest()[:4].hex() == key_id == raw[:4].hex()
    assert (material[0], key_name) == (1, name)
    pem, body, value = tmp_path / "key.der", tmp_path / "body", tmp_path / "signature"
    pem.write_bytes(bytes.fromhex("302a300506032b6570032100") + material[1:])  # RFC 8410: SubjectPublicKeyInfo
    body.write_bytes(text.encode() + b"\n")
    value.write_bytes(raw[4:])
    verified = ["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", str(pem), "-rawin"]
    assert b"Verified Successfully" in openssl(*verified, "-in", str(body), "-sigfile", str(value))
    full = (services.data / "log/tile/0/000").read_bytes()
    rest = (services.data / "log/tile/0/001.p/44").read_bytes()
    row = [(full + rest)[i : i + 32] for i in range(0, 300 * 32, 32)]
    while len(row) > 1:  # RFC 9162 §2.1.2: level by level, the odd one moves up
        pairs = [hashlib.sha256(b"\x01" + a + b).digest() for a, b in zip(row[::2], row[1::2], strict=False)]
        row = pairs + ([row[-1]] if len(row) % 2 else [])
    assert base64.b64encode(row[0]).decode() == root
    assert (services.data / "log/tile/1/000.p/1").read_bytes() != b""


# Timestamps: an authority made with openssl, behind HTTP


_CONFIG = """
[tsa]
default_tsa = t
[t]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
ess_cert_id_alg = sha256
accuracy = secs:1
[v]
extendedKeyUsage = critical,timeStamping
keyUsage = critical,digitalSignature
"""


def authority(folder: Path) -> Path:
    """Make a timestamp authority; answers its root's certificate."""
    folder.mkdir()
    (folder / "serial").write_text("01\n", "utf-8")
    (folder / "conf").write_text(_CONFIG.format(folder=folder), "utf-8")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    root = ("-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.pem"), "-subj", "/CN=Test root", "-days", "30")
    openssl("req", "-x509", *new, *root)
    request = ("-keyout", str(folder / "tsa.key"), "-out", str(folder / "tsa.csr"), "-subj", "/CN=Test authority")
    openssl("req", *new, *request)
    issued = ("-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial", "-days", "30")
    files = ("-in", str(folder / "tsa.csr"), "-out", str(folder / "tsa.pem"))
    openssl("x509", "-req", *files, *issued, "-extfile", str(folder / "conf"), "-extensions", "v")
    return folder / "ca.pem"


def replied(folder: Path, query: bytes) -> bytes:
    """What the authority answers."""
    (folder / "query").write_bytes(query)
    key = ("-signer", str(folder / "tsa.pem"), "-inkey", str(folder / "tsa.key"))
    reply = folder / "reply"
    asked = ("-queryfile", str(folder / "query"), "-out", str(reply), "-config", str(folder / "conf"))
    openssl("ts", "-reply", *asked, *key)
    return reply.read_bytes()


@contextmanager
def at_the_authority(folder: Path, answers: list[bytes | int | None]) -> Iterator[str]:
    """Serve it; ``answers`` go before its own: bytes, a status, or None for its own answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["content-length"]))
            assert self.headers["content-type"] == "application/timestamp-query"
            planned = answers.pop(0) if answers else None
            body = planned if isinstance(planned, bytes) else replied(folder, query)
            self.send_response(planned if isinstance(planned, int) else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def stamping(services: Services, url: str) -> Services:
    """The same installation with that authority in its settings."""
    settings = msgspec.structs.replace(services.settings, notary=NotarySettings(timestamp_url=url))
    return Services(settings, services.secrets, services.folder)


def test_a_timestamp_is_verified_by_openssl_and_by_us(services: Services, tmp_path: Path) -> None:
    """Over the checkpoint's bytes; it stands in the receipts from then on."""
    root = authority(tmp_path / "tsa")
    with at_the_authority(tmp_path / "tsa", []) as url, stamping(services, url) as stamped:
        record(stamped, 3)
        covered = notary_of(stamped).cover()
        assert covered.unstamped == ""
        log = stamped.data / "log"
        data = ("-data", str(log / "checkpoint"), "-in", str(log / "checkpoints" / "3.tsr"), "-CAfile", str(root))
        assert b"Verification: OK" in openssl("ts", "-verify", *data)
        stamp = notary_of(stamped).timestamp(3)
        assert stamp is not None
        assert covered.head is not None
        at = checked(stamp, covered.head.raw, [root.read_bytes()])
        assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)
        receipt = stamped.receipts.of(ADA, 2)
    assert receipt is not None
    (verdict,) = check(msgspec.json.encode(receipt), notary_of(stamped).keys.verifiers)
    assert verdict.ok
    assert checked(verdict.timestamp, verdict.checkpoint.encode(), [root.read_bytes()]) == at


def test_a_timestamp_is_not_taken_for_anything_else(services: Services, tmp_path: Path) -> None:
    """Other content, another root, and altered bytes (each seventh): refused, as StampError and nothing else."""
    root, other = authority(tmp_path / "tsa").read_bytes(), authority(tmp_path / "other").read_bytes()
    with at_the_authority(tmp_path / "tsa", []) as url, stamping(services, url) as stamped:
        record(stamped, 1)
        head = notary_of(stamped).cover().head
        stamp = notary_of(stamped).timestamp(1)
    assert head is not None
    assert stamp is not None
    right = checked(stamp, head.raw, [root])
    for content, roots in ((head.raw + b" ", [root]), (head.raw, [other]), (head.raw, []), (head.raw, [b"no PEM"])):
        with pytest.raises(StampError):
            checked(stamp, content, roots)
    for place in range(0, len(stamp), 7):
        altered = stamp[:place] + bytes([stamp[place] ^ 1]) + stamp[place + 1 :]
        try:
            at = checked(altered, head.raw, [root])
        except StampError:
            continue
        assert at == right, place  # a byte that says nothing about the time, such as one of the certificates beside it


@pytest.mark.parametrize("answer", [500, 302, b"nonsense", b"\x30\x03\x02\x01\x02"], ids=str)
def test_an_authority_that_fails_leaves_the_checkpoint_unstamped(
    services: Services, tmp_path: Path, answer: int | bytes
) -> None:
    """It is said why, and asked again the next time."""
    authority(tmp_path / "tsa")
    with at_the_authority(tmp_path / "tsa", [answer]) as url, stamping(services, url) as stamped:
        record(stamped, 1)
        assert "timestamp authority" in notary_of(stamped).cover().unstamped
        assert notary_of(stamped).cover().unstamped == ""
        assert notary_of(stamped).timestamp(1) is not None


def test_an_answer_about_something_else_is_refused(services: Services, tmp_path: Path) -> None:
    """One that was given before, over another checkpoint: the nonce tells."""
    authority(tmp_path / "tsa")
    with at_the_authority(tmp_path / "tsa", []) as url, stamping(services, url) as stamped:
        record(stamped, 1)
        notary_of(stamped).cover()
        old = notary_of(stamped).timestamp(1)
    assert old is not None
    with at_the_authority(tmp_path / "tsa", [old]) as url, stamping(services, url) as stamped:
        record(stamped, 1)
        assert "something else" in notary_of(stamped).cover().unstamped
        assert notary_of(stamped).timestamp(2) is None


def test_an_authority_out_of_reach(services: Services) -> None:
    """Nobody listens there: said without the address."""
    with stamping(services, "http://127.0.0.1:1/secret-path") as stamped:
        record(stamped, 1)
        unstamped = notary_of(stamped).cover().unstamped
    assert "out of reach" in unstamped
    assert "secret-path" not in unstamped
