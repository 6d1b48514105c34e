"""DynamoDB as others wrote it, for tests: moto over HTTP, ministack, and Amazon's own DynamoDB Local.

Each is skipped where it is not installed. One server of a kind serves a whole run of tests; every test has tables of
its own in it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple, Self, cast

import httpx
import pytest
from botocore.exceptions import ReadTimeoutError

from connectors.simulators.serving import listen
from core.stores.dynamodb.table import DEFINITIONS, Client, connect, create_tables, table_name

SERVERS = ("moto", "ministack", "dynamodb-local")
REGION = "eu-west-3"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
LOCAL = "PIXELPROOF_DYNAMODB_LOCAL"
"""The command that starts DynamoDB Local, without ``-port``."""
DEADLINE = 60.0
"""Seconds for a server to begin and to end."""


class Ground(NamedTuple):
    """A client and the prefix of tables that exist and are empty."""

    client: Client
    prefix: str
    url: str


class Faults:
    """Has a client's next requests of one operation fail, in turn: the connection is lost, and nobody tries again.

    ``before``: the request does not leave. ``after``: it is carried out, and its answer is lost. ``None``: nothing
    happens to it. A callable is called before the request leaves. ``left`` tells what has not happened yet.
    """

    def __init__(self, client: Client, operation: str, *faults: str | Callable[[], object] | None) -> None:
        self.left = [*faults]
        made = cast("Any", client)  # botocore's own class
        self._session = made._endpoint.http_session
        made.meta.events.register(f"before-send.dynamodb.{operation}", self._meet)

    def _meet(self, request: object, **_about: object) -> None:
        fault = self.left.pop(0) if self.left else None
        if fault is None:
            return
        if callable(fault):
            fault()
            return
        if fault == "after":
            self._session.send(request)
        raise ReadTimeoutError(endpoint_url="where the fault is")


class Servers:
    """Starts each server when it is first asked for; a context manager that ends them."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._running: dict[str, str] = {}
        self._clients: list[Client] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_ended: object) -> None:
        for client in self._clients:
            client.close()
        self._stack.close()

    def url(self, kind: str) -> str:
        """Where a server of that kind listens; skips the test where there is none."""
        if kind not in self._running:
            self._running[kind] = self._stack.enter_context(_STARTED_BY[kind]())
        return self._running[kind]

    def ground(self, kind: str) -> Ground:
        """New tables in a server of that kind."""
        url, prefix = self.url(kind), f"test-{uuid.uuid4().hex[:12]}"
        client = self.client(url)
        create_tables(client, prefix)
        return Ground(client, prefix, url)

    def clear(self, ground: Ground) -> None:
        """Drop those tables: moto copies all that it holds for each transaction."""
        for definition in DEFINITIONS:
            ground.client.delete_table(TableName=table_name(ground.prefix, definition["table"]))
        while self._clients:  # each holds some megabytes
            self._clients.pop().close()

    def client(self, url: str) -> Client:
        """Another client, closed in the end. It tries everything once, so that faults are met at once."""
        client = connect(REGION, url, KEYS, attempts=1, patience=DEADLINE)
        self._clients.append(client)
        return client


MOTO = """
import logging, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each request
app, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()

def in_turn(environ, start_response):
    with turn:  # its transactions are none to one another
        return app(environ, start_response)

make_server("127.0.0.1", int(sys.argv[1]), in_turn, threaded=True).serve_forever()
"""


@contextmanager
def moto() -> Iterator[str]:
    """A moto server, spoken to over HTTP; it has S3 and SQS too. In a process of its own, for it keeps what it did."""
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    port = _free_port()
    with running([sys.executable, "-c", MOTO, str(port)], os.environ, port) as url:
        yield url


@contextmanager
def ministack() -> Iterator[str]:
    """A ministack server."""
    program = shutil.which("ministack")
    if program is None:
        pytest.skip("ministack is not installed")
    with tempfile.TemporaryDirectory() as home:
        port = _free_port()
        environment = {"PATH": os.environ["PATH"], "HOME": home, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
        with running([program], environment, port) as url:
            yield url


@contextmanager
def dynamodb_local() -> Iterator[str]:
    """DynamoDB Local, in memory."""
    command = os.environ.get(LOCAL)
    if not command:
        pytest.skip(f"{LOCAL} names no DynamoDB Local")
    port = _free_port()
    words = [*shlex.split(command), "-inMemory", "-disableTelemetry", "-port", str(port)]
    with tempfile.TemporaryDirectory() as folder, running(words, os.environ, port, folder) as url:
        yield url


_STARTED_BY: Mapping[str, Callable[[], AbstractContextManager[str]]] = {
    "moto": moto,
    "ministack": ministack,
    "dynamodb-local": dynamodb_local,
}


def _free_port() -> int:
    with listen() as free:
        return int(free.getsockname()[1])


@contextmanager
def running(command: list[str], environment: Mapping[str, str], port: int, folder: str | None = None) -> Iterator[str]:
    """Start a server that listens on this port of this machine, and end it; answers its URL once it takes requests."""
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(  # noqa: S603 - a server that whoever runs the tests has installed
        command, env=dict(environment), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _await(url)
            yield url
        finally:
            process.terminate()
            process.wait(DEADLINE)


def _await(url: str) -> None:
    end = time.monotonic() + DEADLINE
    while True:
        try:
            httpx.get(url, timeout=1)
        except httpx.HTTPError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return
