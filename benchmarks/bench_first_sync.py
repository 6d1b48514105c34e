"""A first sync of a million contacts to SendGrid's simulator, against the bare uploads of the same contacts.

The simulator runs in a process of its own. The product compares, makes every contact's links, uploads, follows the
jobs, reads everything back by exports, and notes what was confirmed. The limit uploads ready-made contacts, 30,000 a
call, one job after the other, and polls each to its end: no links, no read-back, no notes.

It fails, and measures nothing, when the product needs more uploads than the contacts divided by 30,000, rounded up.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from benchmarks.difference import CALL, KEYS, names_of
from benchmarks.difference import fill as fill_stores
from benchmarks.frame import DATA, Benchmark, BenchmarkError, Goal, Variant, main
from core.stores.database import FORM

RECIPIENTS = 1_000_000
FOLDER = DATA / f"first-sync-{RECIPIENTS}-{FORM}"

SIMULATOR = """
import json, sys, threading
from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import simulated
simulator = SendGridSimulator()
with simulated(simulator) as url:
    print(json.dumps({"url": url, "key": simulator.api_key}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"uploads": len(simulator.contacts.uploads), "calls": simulator.calls}), flush=True)
"""


def synchronised() -> Mapping[str, Any]:
    """The product's way."""
    from core.settings import load, load_secrets
    from tests.embedded import database_of
    from webhooks.assembly import Services

    settings, secrets = load(FOLDER / "pixelproof.toml"), load_secrets(FOLDER)
    with _simulator() as (simulator, account):
        settings.providers["sendgrid"]["api_url"] = account["url"]
        values = {**secrets.values, "SENDGRID_API_KEY": account["key"]}
        with Services(settings, type(secrets)(values), FOLDER) as services:
            with database_of(services).transaction() as db:
                db.execute("DELETE FROM confirmed")
                db.execute("DELETE FROM sync_state")
            connector = services.connector("sendgrid")
            begun = time.perf_counter()
            done = services.segments.sync("sendgrid", connector)
            seconds = time.perf_counter() - begun
        told = _ask(simulator)
    if (done.confirmed, len(done.rejected)) != (RECIPIENTS, 0):
        raise BenchmarkError(f"{done.confirmed} of {RECIPIENTS} contacts were confirmed")
    if told["uploads"] != math.ceil(RECIPIENTS / CALL) or done.minimum_calls != told["uploads"]:
        raise BenchmarkError(f"{told['uploads']} uploads, {done.minimum_calls} by the plan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"seconds": seconds, "uploads": told["uploads"], "api_calls": done.api_calls, "own_peak_mb": peak}


def uploaded() -> Mapping[str, Any]:
    """The bare uploads."""
    contacts = [
        {
            "email": f"{name.hex()[:12]}@example.com",
            "custom_fields": {"e1_T": f"https://choices.example.com/c/{'x' * 44}", "e2_T": f"o/{'x' * 44}"},
        }
        for name in names_of(RECIPIENTS)
    ]
    with (
        _simulator() as (simulator, account),
        httpx.Client(base_url=account["url"], headers={"authorization": f"Bearer {account['key']}"}, timeout=60) as api,
    ):
        lists = api.post("/v3/marketing/lists", json={"name": "performance"}).json()["id"]
        for field in ("choices", "pixel"):
            api.post("/v3/marketing/field_definitions", json={"name": field, "field_type": "Text"}).raise_for_status()
        begun = time.perf_counter()
        for at in range(0, RECIPIENTS, CALL):
            body = {"list_ids": [lists], "contacts": contacts[at : at + CALL]}
            text = json.dumps(body, separators=(",", ":")).encode()
            answer = api.put("/v3/marketing/contacts", content=text, headers={"content-type": "application/json"})
            job = answer.raise_for_status().json()["job_id"]
            while api.get(f"/v3/marketing/contacts/imports/{job}").json()["status"] == "pending":
                time.sleep(0.05)
        seconds = time.perf_counter() - begun
        told = _ask(simulator)
    return {"seconds": seconds, "uploads": told["uploads"], "api_calls": told["calls"]}


@contextmanager
def _simulator() -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", SIMULATOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(timeout=60)


def _ask(simulator: subprocess.Popen[str]) -> dict[str, int]:
    assert simulator.stdin is not None
    assert simulator.stdout is not None
    simulator.stdin.write("?\n")
    simulator.stdin.flush()
    told: dict[str, int] = json.loads(simulator.stdout.readline())
    return told


def prepare() -> None:
    """A million people who agreed, once."""
    if not (FOLDER / "ready").exists():
        fill_stores(FOLDER, names_of(RECIPIENTS), KEYS)
        (FOLDER / "ready").touch()


if __name__ == "__main__":
    main(
        Benchmark(
            name="first_sync",
            variants=[Variant("product", synchronised), Variant("bare_uploads", uploaded)],
            goal=Goal(of="product", against="bare_uploads", at_most=5.0),
            prepare=prepare,
            timeout=1_200.0,
        )
    )
