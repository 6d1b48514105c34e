"""The hosted pixel under load: the product as `pixelproof serve` runs it, nginx, and a bare Starlette route.

wrk asks for the pixels of 100,000 recipients, in no order, through 32 connections that are kept alive, each request
with one of four common user agents. Two thirds agreed and got the campaign's pixel; the product checks each token,
looks up campaign, snapshot and consent, and records the opens of those two thirds: what it has stored in the end is
counted, and nothing may have been lost.

- ``product``: `pixelproof serve`.
- ``nginx``: one worker, ``empty_gif``: the limit.
- ``starlette``: a bare route on uvicorn (uvloop, httptools), which checks and keeps nothing.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.frame import DATA, BenchmarkError
from core.stores.database import FORM

RECIPIENTS = 100_000
CAMPAIGN = "spring-2026"
SECONDS = 4
WARM_UP = 1
CONNECTIONS = 32
PATIENCE = 60.0
FOLDER = DATA / f"pixel-{FORM}"
PATHS = FOLDER / "paths"
SETTINGS = """base_url = "https://choices.example.com"
purposes = ["performance", "deliverability"]
[sender]
name = "Example"
contact = "privacy@example.com"
"""
KEYS = {
    "PIXELPROOF_LEDGER_KEY": "11" * 32,
    "PIXELPROOF_RECIPIENT_KEY": "22" * 32,
    "PIXELPROOF_TOKEN_KEYS": f"1:{'33' * 64}",
}
AGENTS = (
    "Mozilla/5.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
)
_WRK = r"""
local agents = {{ {agents} }}
local requests = {{}}
for path in io.lines("{paths}") do
  requests[#requests + 1] = "GET " .. path .. " HTTP/1.1\r\nHost: localhost\r\nUser-Agent: " ..
    agents[#requests % #agents + 1] .. "\r\nAccept: image/avif,image/webp,*/*\r\nAccept-Encoding: gzip\r\n\r\n"
end
local n = 0
request = function() n = n % #requests + 1; return requests[n] end
"""
_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location /o/ {{ empty_gif; }} }}
}}
"""
_DONE = re.compile(r"(\d+) requests in ([\d.]+)s")
_P99 = re.compile(r"99%\s+([\d.]+)(us|ms|s)")
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}

Serving = Callable[[Path, int], Any]


def prepare() -> None:
    """Make the store: consents through the ledger, one applied campaign; and the paths, shuffled."""
    for tool in ("wrk", "nginx"):
        if shutil.which(tool) is None:
            raise BenchmarkError(f"{tool} is missing: apt-get install nginx-light wrk")
    if PATHS.exists():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    store = FOLDER / "store"
    store.mkdir(parents=True)
    (store / "pixelproof.toml").write_text(SETTINGS, "utf-8")
    (store / ".env").write_text("".join(f"{name}={value}\n" for name, value in KEYS.items()), "utf-8")
    paths = _filled(store)
    random.Random(7).shuffle(paths)  # noqa: S311 - the same order in every run
    PATHS.write_text("".join(f"{path}\n" for path in paths), "utf-8")
    (FOLDER / "wrk.lua").write_text(_WRK.format(paths=PATHS, agents=", ".join(f'"{a}"' for a in AGENTS)), "utf-8")


def _filled(store: Path) -> list[str]:
    """Consents of two thirds, and a campaign that went to all; answers everybody's path."""
    from core.ledger import Recording
    from core.model import Action, Basis, ConsentEvent, PixelMode, PurposeId
    from core.records import Choice
    from webhooks.assembly import Services

    with Services.from_file(store / "pixelproof.toml") as services:
        now = services.now()
        everybody = [services.recipient(f"user{n}@example.com") for n in range(RECIPIENTS)]
        purposes = tuple(map(PurposeId, ("performance", "deliverability")))
        for start in range(0, RECIPIENTS, 5_000):
            agreeing = [r for n, r in enumerate(everybody[start : start + 5_000], start) if agrees(n)]
            services.ledger.record([Recording(ConsentEvent(r, purposes, Action.GIVEN, now, now)) for r in agreeing])
        edition = services.mailings.new_edition(CAMPAIGN)
        modes = [PixelMode.INDIVIDUAL if agrees(n) else PixelMode.NONE for n in range(RECIPIENTS)]
        rows = [Choice(r, m, "untracked", Basis.CONSENT, "") for r, m in zip(everybody, modes, strict=True)]
        services.mailings.add_choices(edition, rows)
        services.mailings.save_campaign(_record(edition))
        return [f"/{services.links.pixel_path(recipient)}/{CAMPAIGN}.gif" for recipient in everybody]


def _record(edition: int) -> Any:  # noqa: ANN401 - imported where it is used
    from core.model import AppliedPlan, Campaign, CampaignId, CampaignKind, Halves, Mechanism, PurposeId
    from core.records import CampaignRecord

    name, purposes = CampaignId(CAMPAIGN), (PurposeId("performance"), PurposeId("deliverability"))
    campaign = Campaign(name, "sendgrid", CampaignKind.REQUESTED, purposes, Mechanism.HOSTED)
    return CampaignRecord(campaign, AppliedPlan(name, "sendgrid", {}, 0), Halves(untracked=RECIPIENTS), edition)


def paths_by_outcome() -> dict[str, list[str]]:
    """The same people's paths, apart by what becomes of a request: recorded; or nobody's consent stands behind it."""
    from core.tokens import Tokens, Use

    tokens = Tokens({1: bytes.fromhex("33" * 64)})
    recorded: list[str] = []
    refused: list[str] = []
    for number in range(RECIPIENTS):
        path = f"/o/{tokens.make(_recipient(number), Use.PIXEL)}/{CAMPAIGN}.gif"
        (recorded if agrees(number) else refused).append(path)
    altered = [f"{path[:20]}{'B' if path[20] == 'A' else 'A'}{path[21:]}" for path in recorded]
    strangers = [f"/o/{tokens.make(_recipient(RECIPIENTS + n), Use.PIXEL)}/{CAMPAIGN}.gif" for n in range(10_000)]
    elsewhere = [path.replace(CAMPAIGN, "autumn-2026") for path in recorded]
    kinds = {"recorded": recorded, "refused": refused, "altered": altered}
    return kinds | {"unknown_person": strangers, "unknown_campaign": elsewhere}


def _recipient(number: int) -> Any:  # noqa: ANN401 - imported where it is used
    from core.addresses import pseudonym

    return pseudonym(bytes.fromhex(KEYS["PIXELPROOF_RECIPIENT_KEY"]), f"user{number}@example.com")


def agrees(number: int) -> bool:
    """Two of three recipients."""
    return number % 3 != 0


def measured(serving: Serving) -> Mapping[str, Any]:
    """The requests of wrk to one server: ``seconds`` for each, and the 99th percentile of the latency."""
    with tempfile.TemporaryDirectory(dir=DATA) as name:
        folder, port = Path(name), free_port()
        with serving(folder, port):
            warm, _, _ = _wrk(port, WARM_UP)
            requests, seconds, p99 = _wrk(port, SECONDS)
        kept = _kept(folder, warm + requests)
    return {"seconds": seconds / requests, "requests_per_second": round(requests / seconds), "p99_ms": p99, **kept}


def _wrk(port: int, seconds: int) -> tuple[int, float, float]:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(FOLDER / "wrk.lua")]
    told = subprocess.run(  # noqa: S603 - our own words
        [*command, f"http://127.0.0.1:{port}/"], check=True, capture_output=True, text=True, timeout=PATIENCE
    ).stdout
    done, p99 = _DONE.search(told), _P99.search(told)
    if done is None or p99 is None or "Non-2xx" in told or "Socket errors" in told:
        raise BenchmarkError("wrk saw errors, or nothing")
    return int(done[1]), float(done[2]), round(float(p99[1]) * _MILLISECONDS[p99[2]], 3)


def _kept(folder: Path, requests: int) -> Mapping[str, Any]:
    """What the product has stored: two thirds of what was asked for, and nothing lost."""
    if not (folder / "data").exists():
        return {}
    with closing(sqlite3.connect(folder / "data" / "ledger.sqlite3")) as db:
        (kept,) = db.execute("SELECT count(*) FROM open").fetchone()
        lost = db.execute("SELECT n FROM counter WHERE name='opens_lost'").fetchall()
    if lost or not 0.6 < kept / requests < 0.73:  # noqa: PLR2004 - the order of paths is random
        raise BenchmarkError(f"{kept} opens were kept of {requests} requests, and some were lost: {lost}")
    return {"opens_kept": kept}


@contextmanager
def product(folder: Path, port: int) -> Iterator[None]:
    """`pixelproof serve`."""
    shutil.copytree(FOLDER / "store", folder, dirs_exist_ok=True)
    command = ["-m", "cli", "serve", "--config", str(folder / "pixelproof.toml"), "--port", str(port)]
    with _running([sys.executable, *command], port, folder):
        yield


@contextmanager
def nginx(folder: Path, port: int) -> Iterator[None]:
    """The limit."""
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port), "utf-8")
    with _running(["nginx", "-c", str(folder / "nginx.conf")], port, folder):
        yield


@contextmanager
def starlette(folder: Path, port: int) -> Iterator[None]:
    """A bare route in the product's own environment, on uvicorn as `pixelproof serve` sets it."""
    server = ["-m", "uvicorn", "benchmarks.bare_pixel:app", "--port", str(port), "--no-access-log"]
    server += ["--loop", "uvloop", "--http", "httptools", "--no-server-header", "--log-level", "error"]
    with _running([sys.executable, *server], port, folder):
        yield


@contextmanager
def _running(command: Sequence[str], port: int, folder: Path) -> Iterator[None]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env={**os.environ}, stdout=log, stderr=log)  # noqa: S603 - our own programs
        try:
            _await(process, port)
            yield
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise BenchmarkError("the server did not start")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
