"""What surrounds every operation of the API: the key, the scope, the rate, the form of the request, the answer.

The event loop reads and checks; an operation itself runs in one of a few threads, and only when its whole request is
there. Threads are the API's own, so that no use of it keeps callbacks or pages waiting.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TypeVar

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from core.api_keys import ApiKey, ApiKeys
from core.errors import StoreError
from webhooks.api.bodies import body_of, decoded
from webhooks.api.endpoint import Call, Endpoint, Problem, ProblemDocument, ProblemError
from webhooks.api.limiter import Limiter
from webhooks.api.parameters import checked
from webhooks.api.problems import (
    BAD_REQUEST,
    FORBIDDEN,
    INTERNAL,
    METHOD,
    NOT_FOUND,
    TOO_MANY,
    UNAUTHORIZED,
    UNAVAILABLE,
)

THREADS = 8
MOST_WAITING = 64
"""Requests that may wait for a thread; more are asked to come back."""
RETRY_AFTER = 5
"""Seconds, when the store is out of reach or too much is waiting."""
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_BEARER = re.compile(r"bearer +(?P<key>[!-~]+)", re.IGNORECASE)
_IDEMPOTENCY = re.compile(r"[!-~]{1,255}")

log = structlog.get_logger("pixelproof.api")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Done:
    """What an operation answers, in JSON. ``items``: how many things the request's lists held."""

    content: bytes = field(repr=False)
    items: int


class Workers:
    """A few threads, and a limit to what may wait for them."""

    def __init__(self, threads: int = THREADS, waiting: int = MOST_WAITING) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="api")
        self._most = threads + waiting
        self._under_way = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Have it done in a thread; raises ProblemError when too much is waiting. Called from the event loop alone."""
        if self._under_way >= self._most:
            raise unavailable("Too much is under way")
        self._under_way += 1
        future = self._pool.submit(work)
        # Counted down when the work has ended, and not when its caller has gone away.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        return await asyncio.wrap_future(future)

    def _done(self) -> None:
        self._under_way -= 1


class Frame:
    """What all operations share."""

    def __init__(self, keys: ApiKeys, limiter: Limiter, workers: Workers) -> None:
        self.keys = keys
        self.limiter = limiter
        self.workers = workers

    async def answer(self, endpoint: Endpoint, request: Request) -> Response:
        """Answer a request to an operation, whatever happens; logs no more of it than key, operation and numbers."""
        headers: dict[str, str] = {}
        key, items = "", 0
        try:
            known = await self._key(request)
            key = known.id
            headers = self._rated(key)
            _permit(known, endpoint)
            call, raw = await _call(known, endpoint, request)
            done = await self.workers.run(lambda: _handled(endpoint, call, raw))
            items = done.items
            response = Response(done.content, endpoint.status, {**HEADERS, **headers}, "application/json")
        except ProblemError as error:
            response = problem_response(error, headers)
        except StoreError as error:
            log.error("api: no answer from the store", operation=endpoint.operation, reason=str(error))
            response = problem_response(unavailable("The store is out of reach"), headers)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - the caller gets an answer, and no trace may tell what it held
            log.error("api: failed", operation=endpoint.operation, error=type(error).__name__)
            response = problem_response(ProblemError(INTERNAL, "Nothing more can be said here."), headers)
        log.info("api", key=key, operation=endpoint.operation, status=response.status_code, items=items)
        return response

    async def _key(self, request: Request) -> ApiKey:
        """The key that is presented: looked up each time, so that a revoked one ends at once."""
        presented = request.headers.getlist("authorization")
        found = _BEARER.fullmatch(presented[0]) if len(presented) == 1 else None
        text = found["key"] if found else ""
        key = await self.workers.run(lambda: self.keys.authenticate(text))
        if key is None:
            headers = {"WWW-Authenticate": 'Bearer realm="pixelproof"'}
            raise ProblemError(UNAUTHORIZED, "Send Authorization: Bearer and a valid API key.", headers=headers)
        return key

    def _rated(self, key: str) -> dict[str, str]:
        verdict = self.limiter.take(key, self.keys.now())
        if not verdict.allowed:
            headers = {**verdict.headers, "Retry-After": str(verdict.wait)}
            raise ProblemError(TOO_MANY, "This key has made its requests for now; wait as told.", headers=headers)
        return verdict.headers


class Resource:
    """The ASGI application of one path: its operations by method."""

    def __init__(self, frame: Frame, operations: Sequence[Endpoint]) -> None:
        self._frame = frame
        self._operations: Mapping[str, Endpoint] = {each.method: each for each in operations}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; one whose sender went away gets none."""
        request = Request(scope, receive)
        endpoint = self._operations.get("GET" if request.method == "HEAD" else request.method)
        try:
            response = await self._frame.answer(endpoint, request) if endpoint else self._other_method()
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    def _other_method(self) -> Response:
        allowed = ", ".join(sorted(self._operations))
        return problem_response(ProblemError(METHOD, f"It takes: {allowed}.", headers={"Allow": allowed}))


class Nowhere:
    """The ASGI application of every path below ``/v1`` that is none."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer that there is nothing."""
        response = problem_response(ProblemError(NOT_FOUND, "The API has no such path: see /openapi.json."))
        await response(scope, receive, send)


def problem_response(error: ProblemError, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as RFC 9457 has it."""
    problem: Problem = error.problem
    told = ProblemDocument(problem.type, problem.title, problem.status, error.detail, error.errors)
    sent = {**HEADERS, **(headers or {}), **error.headers}
    return Response(msgspec.json.encode(told), problem.status, sent, "application/problem+json")


def unavailable(reason: str) -> ProblemError:
    """Whoever asked may ask again."""
    headers = {"Retry-After": str(RETRY_AFTER)}
    return ProblemError(UNAVAILABLE, f"{reason}. Send the same request again in a moment.", headers=headers)


def _permit(key: ApiKey, endpoint: Endpoint) -> None:
    if endpoint.scope not in key.scopes:
        challenge = f'Bearer realm="pixelproof", error="insufficient_scope", scope="{endpoint.scope}"'
        raise ProblemError(
            FORBIDDEN, f"It takes a key with the scope {endpoint.scope}.", headers={"WWW-Authenticate": challenge}
        )


async def _call(key: ApiKey, endpoint: Endpoint, request: Request) -> tuple[Call, bytes]:
    """The request as far as the event loop checks it, and its body."""
    idempotency = _idempotency(request) if endpoint.idempotent else None
    parameters = checked(endpoint.parameters, request.path_params, request.query_params.multi_items())
    raw = await body_of(request) if endpoint.body else b""
    return Call(key.id, parameters, None, idempotency), raw


def _handled(endpoint: Endpoint, call: Call, raw: bytes) -> _Done:
    """Decode the body and do it; runs in a thread."""
    items = 0
    if endpoint.body:
        body = decoded(raw, endpoint.body)
        items = sum(len(value) for value in msgspec.structs.astuple(body) if isinstance(value, tuple))
        call = replace(call, body=body, digest=sha256(raw).digest())
    return _Done(msgspec.json.encode(endpoint.handle(call)), items)


def _idempotency(request: Request) -> str | None:
    given = request.headers.getlist("idempotency-key")
    if len(given) > 1 or any(not _IDEMPOTENCY.fullmatch(value) for value in given):
        raise ProblemError(BAD_REQUEST, "Idempotency-Key: once, 1 to 255 visible ASCII characters.")
    return given[0] if given else None
