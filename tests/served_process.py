"""An installation that `pixelproof serve` serves in a process of its own, as a team runs it, and what it logs."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from cli.demo.files import add_secrets
from cli.setup import fresh_keys
from tests.installation import ADDRESS, PATIENCE, Team
from webhooks.assembly import Services

BASE = "https://choices.example.com"
"""Where recipients are told to reach it; not where the tests do."""
SETTINGS = f"""base_url = "{BASE}"
purposes = ["performance", "deliverability", "personalisation"]
personalisation_options = ["content"]
[sender]
name = "Marché des Lices"
contact = "privacy desk"
"""
OTHER = "bob@example.com"

_SERVE = "from webhooks import bodies; bodies.PATIENCE = {patience}; from cli.main import run; run()"
"""`pixelproof serve` with another patience: it is read when the server starts."""


class Process(Team):
    """The installation. ``secrets``: what must never be logged, besides addresses, tokens and keys."""

    def __init__(self, services: Services, url: str, server: subprocess.Popen[bytes], log: Path) -> None:
        super().__init__(services, url)
        self.server = server
        self.log = log
        self.secrets: set[str] = set()

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        url = urlsplit(str(self.client.base_url))
        assert url.hostname
        assert url.port
        return url.hostname, url.port

    def connect(self) -> socket.socket:
        """A connection on which nothing has been sent."""
        return socket.create_connection(self.place, timeout=PATIENCE)

    def talk(self, *pieces: bytes) -> bytes:
        """Send raw bytes over one connection; answers all that comes back until the server closes it."""
        with self.connect() as connection:
            try:
                for piece in pieces:
                    connection.sendall(piece)
            except OSError:  # closed already: what it said may still be read
                pass
            return heard(connection)

    def everything(self) -> dict[str, list[Any]]:
        """All rows of all stores, but those of the API's keys, which tell when they were used last."""
        found: dict[str, list[Any]] = {}
        for file in sorted(self.services.data.glob("*.sqlite3")):
            with closing(sqlite3.connect(file)) as database:
                names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
                found |= {name: list(database.execute(f'SELECT * FROM "{name}"')) for name in names}  # noqa: S608
        del found["api_key"]
        return found

    def check_log(self) -> list[dict[str, Any]]:
        """Check that each line of the log is JSON and holds nothing that must not be there; answers the lines."""
        text = self.log.read_text("utf-8")
        for secret in (*self._personal(), *self.secrets):
            assert secret not in text, "the log holds what it must not"
        return [json.loads(line) for line in text.splitlines()]

    def _personal(self) -> Iterator[str]:
        for address in (ADDRESS, OTHER):
            yield address
            yield self.choices_path(address).rpartition("/")[2]
            yield self.pixel_path("x", address).split("/")[2]
            yield self.services.recipient(address).hex()
        for name, value in self.services.secrets.values.items():
            if name.startswith("PIXELPROOF_") and len(value) > 30:
                yield value.rpartition(":")[2]


def heard(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection, by whatever means."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


@contextmanager
def running(
    folder: Path, settings: str = SETTINGS, secrets: Mapping[str, str] | None = None, *, patience: float = 30.0
) -> Iterator[Process]:
    """Serve an installation in that folder; in the end it must stop by itself, and its log must be clean."""
    (folder / ".env").write_text(fresh_keys(), "utf-8")
    add_secrets(folder, secrets or {})
    (folder / "pixelproof.toml").write_text(settings, "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "stderr"
    words = ["serve", "--port", str(port), "--config", str(folder / "pixelproof.toml")]
    command = [sys.executable, "-c", _SERVE.format(patience=patience), *words]
    with log.open("wb") as stderr, Services.from_file(folder / "pixelproof.toml") as services:
        server = subprocess.Popen(command, stderr=stderr, stdout=stderr, cwd=Path(__file__).parents[1])  # noqa: S603
        process = Process(services, f"http://127.0.0.1:{port}", server, log)
        try:
            _await(process)
            yield process
        finally:
            process.client.close()
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=60)
        process.check_log()


def _await(process: Process) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            process.client.get("/healthz").raise_for_status()
        except httpx.TransportError:
            assert process.server.poll() is None, process.log.read_text("utf-8")
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            return
