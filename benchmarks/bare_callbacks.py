"""The limit of what a callback's receiver in Python can do: signature, parsing, one durable table, and nothing else.

``DB`` and ``KEY`` in the environment: the database's file, and the verification key in base64 SPKI.
"""

from __future__ import annotations

import asyncio
import base64
import os
import queue
import sqlite3
import threading
from functools import partial

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"
MOST_JOBS = 256
TABLE = "event(id TEXT PRIMARY KEY, event TEXT, email TEXT, at INT, message TEXT) WITHOUT ROWID"
_ECDSA = ec.ECDSA(SHA256())


class Event(msgspec.Struct, gc=False):
    """The fields that are stored."""

    sg_event_id: str
    event: str
    email: str
    timestamp: int
    sg_message_id: str = ""


Row = tuple[str, str, str, int, str]
_EVENTS = msgspec.json.Decoder(list[Event])


class Writer:
    """Commits together whatever waits."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[tuple[list[Row], asyncio.Future[None]]] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._work, daemon=True).start()

    async def put(self, rows: list[Row]) -> None:
        """Durable when it returns."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._jobs.put((rows, done))
        await done

    def _work(self) -> None:
        db = sqlite3.connect(self._path, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"CREATE TABLE IF NOT EXISTS {TABLE}")
        while True:
            group = [self._jobs.get()]
            while len(group) < MOST_JOBS and not self._jobs.empty():
                group.append(self._jobs.get())
            db.execute("BEGIN IMMEDIATE")
            for rows, _ in group:
                db.executemany("INSERT OR IGNORE INTO event VALUES (?,?,?,?,?)", rows)
            db.execute("COMMIT")
            self._loop.call_soon_threadsafe(partial(_resolve, [done for _, done in group]))


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def application() -> Starlette:
    """``POST /hook``."""
    key = load_der_public_key(base64.b64decode(os.environ["KEY"]))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    writers: list[Writer] = []

    async def hook(request: Request) -> Response:
        body = await request.body()
        try:
            signed = request.headers[TIMESTAMP].encode() + body
            key.verify(base64.b64decode(request.headers[SIGNATURE]), signed, _ECDSA)
        except InvalidSignature:
            return Response(status_code=400)
        rows = [(e.sg_event_id, e.event, e.email, e.timestamp, e.sg_message_id) for e in _EVENTS.decode(body)]
        if not writers:
            writers.append(Writer(os.environ["DB"]))
        await writers[0].put(rows)
        return Response()

    return Starlette(routes=[Route("/hook", hook, methods=["POST"])])


def __getattr__(name: str) -> Starlette:
    """``app``, made when the server asks for it: the module can be read without an environment."""
    if name == "app":
        return application()
    raise AttributeError(name)
