"""From the click to the last of three ESPs, while a bulk sync is running.

`pixelproof serve` and `pixelproof sync` run as a team has them, each in a process of its own, against simulators of the
three ESPs over HTTP; Amazon SES is called once a second, as it allows. 60,000 newcomers are being synchronised when
somebody who agreed withdraws on the choices page. What counts is the time until none of the ESPs holds them in a
segment of consent, by the ESPs' own state.
"""

from __future__ import annotations

import csv
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.frame import Benchmark, BenchmarkError, Goal, Variant, main

LIMIT = 5.0
"""Seconds."""
NEWCOMERS = 60_000
BUSY = 3.0
"""Seconds for the bulk sync to get going."""
PATIENCE = 60.0
PERSON = "ada@example.com"
COLUMNS = ("address", "action", "purposes", "occurred_at")
PURPOSES = "performance;deliverability;personalisation"


def clicked() -> Mapping[str, Any]:
    """One withdrawal beside a bulk sync."""
    from webhooks.assembly import Services

    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        config, port, holds = _installation(stack, folder)
        _run(config, "import", _people(folder / "ada.csv", [PERSON]))
        _run(config, "sync")
        if not all(holds().values()):
            raise BenchmarkError("the person stands in no segment to begin with")
        _run(config, "import", _people(folder / "new.csv", [f"person{n}@example.com" for n in range(NEWCOMERS)]))
        with Services.from_file(config) as services:
            link = services.links.choices_url(services.recipient(PERSON))
        stack.enter_context(_running(config, "serve", "--port", str(port)))
        _await(port)
        bulk = stack.enter_context(_running(config, "sync"))
        time.sleep(BUSY)
        if bulk.poll() is not None:
            raise BenchmarkError("the bulk sync was over before the click")
        begun = time.perf_counter()
        httpx.post(f"{link}/withdraw", data={"List-Unsubscribe": "One-Click"}, timeout=30).raise_for_status()
        reached = _reached(holds, begun)
        still = bulk.poll() is None
    return {"seconds": max(reached.values()), "each": reached, "bulk_still_running": still}


def _reached(holds: Any, begun: float) -> dict[str, float]:  # noqa: ANN401 - a function without arguments
    """After how many seconds each ESP held the person no more."""
    reached: dict[str, float] = {}
    while time.perf_counter() - begun < PATIENCE:
        for name, held in holds().items():
            if not held and name not in reached:
                reached[name] = round(time.perf_counter() - begun, 3)
        if len(reached) == len(holds()):
            return reached
        time.sleep(0.005)
    raise BenchmarkError(f"after {PATIENCE:.0f} s the withdrawal is at {sorted(reached) or 'no ESP'} alone")


def _installation(stack: ExitStack, folder: Path) -> tuple[Path, int, Any]:
    """Three served ESPs and a team's folder; answers the settings, a free port, and who holds the person."""
    from cli.demo.files import add_secrets, fresh_folder, write_settings
    from connectors.simulators.mailchimp import MailchimpSimulator
    from connectors.simulators.mailchimp.audience import name_of
    from connectors.simulators.sendgrid import SendGridSimulator
    from connectors.simulators.serving import simulated
    from connectors.simulators.ses import SesSimulator

    fresh_folder(folder / "team", random.Random(1))  # noqa: S311 - keys that guard made-up people
    sendgrid, mailchimp, ses = SendGridSimulator(), MailchimpSimulator(), SesSimulator(folder=folder)
    for simulator in (sendgrid, mailchimp, ses):
        stack.enter_context(simulated(simulator))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    accounts = {s.name: s.account(purposes=[], subject="News", html="News") for s in (sendgrid, mailchimp, ses)}
    sections = {name: dict(account.settings) for name, account in accounts.items()}
    sections["ses"]["management_calls_per_second"] = 1.0
    config = write_settings(folder / "team", f"http://127.0.0.1:{port}", sections)
    for account in accounts.values():
        add_secrets(folder / "team", account.secrets)

    def holds() -> dict[str, bool]:
        person = sendgrid.contacts.people.get(PERSON)
        segments = mailchimp.audience.segments.values()
        listed = ses.contacts.list.contacts.get(PERSON) if ses.contacts.list else None
        return {
            "sendgrid": bool(person and person.lists),
            "mailchimp": any(name_of(PERSON) in segment.members for segment in segments),
            "ses": bool(listed and "OPT_IN" in listed.preferences.values()),
        }

    return config, port, holds


def _people(file: Path, addresses: list[str]) -> str:
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(COLUMNS)
        writer.writerows((address, "given", PURPOSES, "2026-11-01T00:00:00Z") for address in addresses)
    return str(file)


def _command(config: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "cli", *words, "--config", str(config)]


def _run(config: Path, *words: str) -> None:
    subprocess.run(_command(config, *words), check=True, capture_output=True)  # noqa: S603 - our own command


@contextmanager
def _running(config: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(  # noqa: S603 - our own command
        _command(config, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def _await(port: int) -> None:
    for _ in range(300):
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz").raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise BenchmarkError("the server did not come up")


if __name__ == "__main__":
    main(
        Benchmark(
            name="withdrawal",
            variants=[
                Variant("click_to_last_esp", clicked),
                Variant("limit", f"print('{{\"seconds\": {LIMIT}}}')"),
            ],
            goal=Goal(of="click_to_last_esp", against="limit", at_most=1.0),
        )
    )
