"""Prism between a connector and a simulator: each request and each answer is held against the provider's own document.

``PIXELPROOF_SPECS`` names the folder of the documents (SendGrid's OpenAPI, Mailchimp's Swagger, as the providers
publish them), and ``PIXELPROOF_PRISM`` the ``prism`` command. A relay stands before Prism and notes what it objects
to; ``false_alarms.toml`` says which objections are wrong, each with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.simulators.serving import served

START_TIMEOUT = 60.0
"""Seconds that Prism may take to read a document and come up."""
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]

_HOP = frozenset({"connection", "content-length", "host", "transfer-encoding", "content-encoding", "sl-violations"})


@dataclass(frozen=True)
class Alarm:
    """An objection of Prism's that is wrong; method, path and what it says are regular expressions."""

    reason: str
    method: str = ""
    path: str = ""
    says: str = ""

    def meets(self, method: str, path: str, says: str) -> bool:
        """Whether it is about this."""
        return all(re.search(p, v) for p, v in ((self.method, method), (self.path, path), (self.says, says)))


@dataclass
class Relay:
    """What went through Prism.

    Attributes:
        requests: Method and path of each request.
        violations: What Prism objects to, but for the false alarms.
        raised: The false alarms that were raised.
    """

    alarms: list[Alarm]
    prism: str
    base: str
    requests: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    raised: set[Alarm] = field(default_factory=set)

    async def __call__(self, request: Request) -> Response:
        """Pass a request on, and note what Prism says of it."""
        method, path = request.method, request.url.path
        url = f"{self.prism}{path.removeprefix(self.base)}"
        headers = {name: value for name, value in request.headers.items() if name not in _HOP}
        async with httpx.AsyncClient(timeout=120) as client:
            answer = await client.request(
                method, url, params=request.query_params, content=await request.body(), headers=headers
            )
        self.requests.append(f"{method} {path}")
        for violation in json.loads(answer.headers.get("sl-violations", "[]")):
            self._note(method, path, violation)
        kept = {name: value for name, value in answer.headers.items() if name not in _HOP}
        return Response(answer.content, answer.status_code, kept)

    def _note(self, method: str, path: str, violation: dict[str, object]) -> None:
        where = ".".join(map(str, violation.get("location", [])))  # type: ignore[call-overload]
        says = f"{where}: {violation.get('message')}"
        wrong = next((a for a in self.alarms if a.meets(method, path, says)), None)
        if wrong:
            self.raised.add(wrong)
        else:
            self.violations.append(f"{method} {path}: {says}")


def document(name: str) -> Path:
    """A provider's document; skips the test when it, or Prism, is not there."""
    folder = os.environ.get("PIXELPROOF_SPECS")
    if not folder or not (Path(folder) / name).exists():
        pytest.skip("PIXELPROOF_SPECS does not name a folder with the provider's API document")
    if not _command():
        pytest.skip("Prism is not there: npm install @stoplight/prism-cli, then set PIXELPROOF_PRISM to it")
    return Path(folder) / name


@contextmanager
def checked(name: str, provider: str, simulator: str, base: str = "") -> Iterator[tuple[str, Relay]]:
    """Serve a relay to a simulator, through Prism; yields its URL and what it saw.

    ``base``: what stands before the paths of the document.
    """
    alarms = false_alarms(provider)
    with _prism(document(name), f"{simulator}{base}") as url:
        relay = Relay(alarms, url, base)

        async def handle(request: Request) -> Response:
            return await relay(request)

        with served(Starlette(routes=[Route("/{path:path}", handle, methods=METHODS)])) as address:
            yield address, relay


@contextmanager
def upheld(name: str, provider: str, simulator: str, raised: set[str], base: str = "") -> Iterator[tuple[str, Relay]]:
    """As ``checked``; fails in the end for whatever Prism objects to, and notes the false alarms that were raised."""
    with checked(name, provider, simulator, base) as (url, relay):
        yield url, relay
    raised.update(alarm.reason for alarm in relay.raised)
    assert relay.violations == []
    assert relay.requests


@contextmanager
def needed(provider: str) -> Iterator[set[str]]:
    """Collects the reasons of the false alarms that are raised; each must have been, once all tests of a module ran."""
    seen: set[str] = set()
    yield seen
    if len(seen) > 1:  # all tests ran, and not one alone
        assert seen == {alarm.reason for alarm in false_alarms(provider)}


def false_alarms(provider: str) -> list[Alarm]:
    """What is known to be wrong in Prism's objections to this provider."""
    listed = tomllib.loads((Path(__file__).parent / "false_alarms.toml").read_text("utf-8"))
    return [Alarm(**alarm) for alarm in listed[provider]]


def _command() -> str | None:
    return os.environ.get("PIXELPROOF_PRISM") or shutil.which("prism")


@contextmanager
def _prism(spec: Path, upstream: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(_command()), "proxy", "--port", str(port), "--verboseLevel", "error", str(spec), upstream]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        _await(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("Prism did not come up")
