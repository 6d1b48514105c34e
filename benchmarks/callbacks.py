"""SendGrid's callbacks over HTTP: the product as `pixelproof serve` runs it, its peer, and a bare handler.

Signed posts of so many events each (open, click, delivered, processed, a quarter each; no event twice) go through 8
connections that are kept alive. Every server checks the signature, recognises repetitions, and has committed to disk
(WAL, ``synchronous=FULL``) before it answers; what each has stored is counted afterwards.

- ``product``: `pixelproof serve` with 50,000 recipients, two thirds of whom agreed and got the campaign's pixel. It
  keeps lawful opens, counts the others, and keeps nothing of the other events.
- ``product_full``: the same with a million opens, and the keys of as many, in the store.
- ``anymail``: django-anymail's SendGrid view and a receiver that stores each event: gunicorn with two workers of four
  threads, one IMMEDIATE transaction a request, INSERT OR IGNORE.
- ``bare``: a Starlette handler: cryptography, msgspec, and a writer thread that commits together whatever waits.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from benchmarks.frame import DATA, PEERS, Benchmark, BenchmarkError, Goal, Variant
from benchmarks.posting import post_all
from core.stores.database import FORM

RECIPIENTS = 50_000
STORED = 1_000_000
CAMPAIGN = "spring-2026"
WARM_UP = 200
POSTS = {1: 2_000, 100: 300, 1_000: 60}
"""How many posts a run takes, by the events in each."""
SPAN = 30
"""Seconds within which the events of a post happened: SendGrid holds them back no longer."""
PATIENCE = 60.0
FOLDER = DATA / f"callbacks-{FORM}"
CONFIG = "pixelproof.toml"
HERE = Path(__file__).resolve().parent
SIGNATURE, TIMESTAMP = "X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp"
KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
SPKI = base64.b64encode(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
KEYS = {
    "PIXELPROOF_LEDGER_KEY": "11" * 32,
    "PIXELPROOF_RECIPIENT_KEY": "22" * 32,
    "PIXELPROOF_TOKEN_KEYS": f"1:{'33' * 64}",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server's folder, address and process."""

    folder: Path
    port: int
    path: str
    process: int = 0

    @property
    def cpu_seconds(self) -> float:
        """What it and its workers have used so far; 0 where there is no ``/proc``."""
        ticks = 0
        for file in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = file.read_text("ascii", "replace").rpartition(")")[2].split()
                if self.process in {int(file.parent.name), int(fields[1])}:
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def benchmark(size: int) -> Benchmark:
    """The measurement for posts of so many events."""
    return Benchmark(
        name=f"callbacks_{size}",
        variants=[
            Variant("product", partial(measured, product, size)),
            Variant("anymail", partial(measured, anymail, size)),
            Variant("bare", partial(measured, bare, size)),
            Variant("product_full", partial(measured, partial(product, template="full"), size)),
        ],
        goal=Goal(of="product", against="anymail", at_least=5.0 if size == 1 else 6.0),
        also=[
            Goal(of="product", against="anymail", at_most=0.1, measure="p99_ms"),
            Goal(of="product", against="bare", at_least=0.8),
            Goal(of="product_full", against="product", at_least=0.5),
        ],
        prepare=prepare,
    )


def measured(serving: Callable[[Path], Any], size: int) -> Mapping[str, Any]:
    """Post to one server."""
    with tempfile.TemporaryDirectory(dir=DATA) as name, serving(Path(name)) as server:
        count = POSTS[size]
        posts = [_post(server, size, number * size) for number in range(count)]
        post_all(server.port, [_post(server, 1, STORED + number) for number in range(WARM_UP)])
        before, used = _stored(server.folder), server.cpu_seconds
        seconds, latencies = post_all(server.port, posts)
        used = server.cpu_seconds - used
        kept = _stored(server.folder) - before
    expected = sum(_is_kept(server, n) for n in range(count * size))
    if kept != expected:
        raise BenchmarkError(f"{kept} events were kept, not {expected}")
    return {
        "seconds": seconds,
        "events_per_second": round(count * size / seconds),
        "cpu_us_an_event": round(used / count / size * 1e6, 1),
        "p50_ms": round(_percentile(latencies, 0.5) * 1_000, 3),
        "p99_ms": round(_percentile(latencies, 0.99) * 1_000, 3),
    }


@contextmanager
def product(folder: Path, template: str = "empty") -> Iterator[Server]:
    """`pixelproof serve`."""
    shutil.copytree(FOLDER / template, folder, dirs_exist_ok=True)
    port = _free_port()
    command = ["-m", "cli", "serve", "--config", str(folder / CONFIG), "--port", str(port)]
    with _running([sys.executable, *command], port, {}, folder) as process:
        yield Server(folder, port, "/webhooks/sendgrid", process)


@contextmanager
def anymail(folder: Path) -> Iterator[Server]:
    """The peer."""
    environment = {"DB": str(folder / "store.sqlite3"), "KEY": SPKI, "PYTHONPATH": str(HERE / "peers")}
    port = _free_port()
    # Two workers that switch a new database to WAL at once collide.
    _write_ahead(folder)
    making = [str(PEERS), "-c", "import anymail_app; anymail_app.make_tables()"]
    subprocess.run(making, env={**os.environ, **environment}, check=True)  # noqa: S603 - our own program
    server = ["-m", "gunicorn", "anymail_app:app", "--bind", f"127.0.0.1:{port}", "--log-level", "error"]
    server += ["--workers", "2", "--worker-class", "gthread", "--threads", "4"]
    with _running([str(PEERS), *server], port, environment, folder) as process:
        yield Server(folder, port, "/hook", process)


@contextmanager
def bare(folder: Path) -> Iterator[Server]:
    """The limit, in the product's own environment and under the same server."""
    environment = {"DB": str(folder / "store.sqlite3"), "KEY": SPKI}
    port = _free_port()
    server = ["-m", "uvicorn", "benchmarks.bare_callbacks:app", "--port", str(port), "--no-access-log"]
    with _running([sys.executable, *server, "--log-level", "error"], port, environment, folder) as process:
        yield Server(folder, port, "/hook", process)


@contextmanager
def _running(command: Sequence[str], port: int, more: Mapping[str, str], folder: Path) -> Iterator[int]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **more}, stdout=log, stderr=log)  # noqa: S603 - our own programs
        try:
            _await(process, port, folder)
            yield process.pid
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


def _await(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    said = (folder / "log").read_text("utf-8", "replace").strip().splitlines()
    raise BenchmarkError(f"the server did not start: {said[-1] if said else 'it said nothing'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write_ahead(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "store.sqlite3")) as db:
        db.execute("PRAGMA journal_mode=WAL")


def _post(server: Server, size: int, start: int) -> bytes:
    body = json.dumps([event(start + n) for n in range(size)], separators=(",", ":")).encode()
    at = str(int(time.time()))
    signature = base64.b64encode(KEY.sign(at.encode() + body, ec.ECDSA(SHA256()))).decode()
    head = (
        f"POST {server.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{SIGNATURE}: {signature}\r\n{TIMESTAMP}: {at}\r\n\r\n"
    )
    return head.encode() + body


def event(number: int) -> dict[str, object]:
    """An event as SendGrid posts it, of a mail that `pixelproof campaigns send` sent."""
    from core.addresses import pseudonym

    person = number // 4 % RECIPIENTS
    address = f"user{person}@example.com"
    return {
        "email": address,
        "timestamp": int(time.time()) - SPAN + number % SPAN,
        "smtp-id": f"<14c5d75ce93.dfd.{number:08x}@ismtpd-555>",
        "event": ("open", "click", "delivered", "processed")[number % 4],
        "category": ["newsletter", "weekly"],
        "sg_event_id": f"{os.urandom(12).hex()}{number:010x}",
        "sg_message_id": f"14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.{number}",
        "useragent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0",
        "ip": "203.0.113.7",
        "url": "https://www.example.com/offers?utm_source=newsletter&utm_campaign=spring",
        "pixelproof_recipient": pseudonym(bytes.fromhex(KEYS["PIXELPROOF_RECIPIENT_KEY"]), address).hex(),
        "pixelproof_campaign": CAMPAIGN,
    }


def _is_kept(server: Server, number: int) -> bool:
    """The product keeps the opens of those who agreed; the others keep everything."""
    return server.path == "/hook" or (number % 4 == 0 and _agreed(number // 4 % RECIPIENTS))


def _agreed(person: int) -> bool:
    return person % 3 != 2  # noqa: PLR2004 - two thirds


def _stored(folder: Path) -> int:
    for file, table in (("data/ledger.sqlite3", "open"), ("store.sqlite3", "event")):
        if (folder / file).exists():
            with closing(sqlite3.connect(folder / file)) as db:
                return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - our own names
    raise BenchmarkError("the server has no store")


def _percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def prepare() -> None:
    """The product's folders: one with a campaign that was applied, one that has taken a million opens of it besides."""
    for name, stored in (("empty", 0), ("full", STORED)):
        folder = FOLDER / name
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, stored)
            (folder / "ready").touch()


def _make(folder: Path, stored: int) -> None:
    from tests.embedded import database_of
    from webhooks.assembly import Services

    folder.mkdir(parents=True)
    (folder / ".env").write_text("".join(f"{name}={key}\n" for name, key in KEYS.items()), "utf-8")
    (folder / CONFIG).write_text(
        'base_url = "https://choices.example.com"\npurposes = ["performance"]\n[sender]\nname = "Example"\n'
        f'[providers.sendgrid]\nwebhook_public_keys = ["{SPKI}"]\n',
        "utf-8",
    )
    with Services.from_file(folder / CONFIG) as services:
        _agree(services)
        _apply(services)
        _fill(services, stored)
        database_of(services).row("PRAGMA wal_checkpoint(TRUNCATE)")


def _agree(services: Any) -> None:  # noqa: ANN401 - imported late
    from core.ledger import Recording
    from core.model import Action, ConsentEvent, PurposeId

    now = services.now()
    for start in range(0, RECIPIENTS, 10_000):
        people = [n for n in range(start, start + 10_000) if _agreed(n)]
        names = [services.recipient(f"user{n}@example.com") for n in people]
        said = (ConsentEvent(name, (PurposeId("performance"),), Action.GIVEN, now, now) for name in names)
        services.ledger.record([Recording(event) for event in said])


def _apply(services: Any) -> None:  # noqa: ANN401 - imported late
    from core.model import (
        AppliedPlan,
        Basis,
        Campaign,
        CampaignId,
        CampaignKind,
        Halves,
        Mechanism,
        PixelMode,
        PurposeId,
    )
    from core.records import CampaignRecord, Choice

    name = CampaignId(CAMPAIGN)
    campaign = Campaign(name, "sendgrid", CampaignKind.REQUESTED, (PurposeId("performance"),), Mechanism.PROVIDER)
    edition = services.mailings.new_edition(name)
    modes = {True: (PixelMode.INDIVIDUAL, "tracked"), False: (PixelMode.NONE, "untracked")}
    for start in range(0, RECIPIENTS, 10_000):
        people = ((services.recipient(f"user{n}@example.com"), modes[_agreed(n)]) for n in range(start, start + 10_000))
        choices = [Choice(person, mode, part, Basis.CONSENT, "as told") for person, (mode, part) in people]
        services.mailings.add_choices(edition, choices)
    plan = AppliedPlan(name, "sendgrid", {"template": "t1"}, 3)
    services.mailings.save_campaign(CampaignRecord(campaign, plan, Halves(RECIPIENTS, 0), edition))


def _fill(services: Any, stored: int) -> None:  # noqa: ANN401 - imported late
    """So many opens of the last day, and their keys, as they are when they come in."""
    from core.ledger import idempotency_key
    from tests.embedded import database_of

    begun = services.now().timestamp() - 86_400
    for start in range(0, stored, 50_000):
        times = [(n, begun + n * 86_000 / stored) for n in range(start, start + 50_000)]
        keys = [_dated(idempotency_key(f"{kind}:{n}"), at) for n, at in times for kind in ("id", "content")]
        people = {n: services.recipient(f"user{n % RECIPIENTS}@example.com") for n, _ in times}
        opens = [(CAMPAIGN, people[n], int(at), "performance", "sendgrid", 0, "") for n, at in times]
        with database_of(services).transaction() as db:
            db.executemany("INSERT INTO idempotency VALUES (?)", [(key,) for key in sorted(keys)])
            db.executemany(
                "INSERT INTO open(campaign, recipient, opened_at, serves, source, machine, client)"
                " VALUES (?,?,?,?,?,?,?)",
                opens,
            )


def _dated(key: bytes, at: float) -> bytes:
    return int(at).to_bytes(4, "big") + key[4:]
