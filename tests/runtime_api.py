"""The Runtime API of Lambda on this machine: hands events to a function's process, and takes what it answers.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, version 2018-06-01. One invocation at a time, as there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Thread
from typing import Any, NamedTuple

PATIENCE = 120
"""Seconds after which a function is held to have failed: a cold start on a busy machine is well below."""


class Answer(NamedTuple):
    """What a function posted. ``kind``: ``response``, or ``error`` when it raised or could not be loaded."""

    kind: str
    body: bytes


class RuntimeApi:
    """Where a function's process asks for events. ``address``: its AWS_LAMBDA_RUNTIME_API."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.events: Queue[bytes | None] = Queue()
        self.answers: Queue[Answer] = Queue()

    def invoke(self, event: object) -> Any:  # noqa: ANN401 - JSON
        """Have the function take an event; answers what it returned. AssertionError: it raised, or never answered."""
        self.events.put(json.dumps(event).encode())
        kind, body = self.answers.get(timeout=PATIENCE)
        assert kind == "response", body.decode()
        return json.loads(body)


@contextmanager
def runtime_api() -> Iterator[RuntimeApi]:
    """The API on a port of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = True
    api = RuntimeApi(f"127.0.0.1:{server.server_port}")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """The next event, once there is one: ``/runtime/invocation/next``."""
            event = api.events.get()
            self.close_connection = event is None
            if event is not None:
                deadline = int(time.time() * 1_000) + PATIENCE * 1_000
                named = {"Aws-Request-Id": "request-1", "Deadline-Ms": deadline, "Invoked-Function-Arn": "arn:test"}
                self._answer(200, event, {f"Lambda-Runtime-{name}": str(value) for name, value in named.items()})

        def do_POST(self) -> None:
            """What came of it: ``/runtime/invocation/<id>/response`` or ``…/error``, or ``/runtime/init/error``."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(202, b"{}", {})
            api.answers.put(Answer(self.path.rpartition("/")[2], body))

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            """Nothing."""

    server.RequestHandlerClass = Handler
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield api
    finally:
        api.events.put(None)
        server.shutdown()
        thread.join()
        server.server_close()
