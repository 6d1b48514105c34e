"""What an operation of the API is. The routes and the OpenAPI document are made from the same table of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from core.api_keys import Scope

__all__ = ["Call", "Endpoint", "ItemError", "Parameter", "Problem", "ProblemDocument", "ProblemError", "Scope"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the path or the query.

    Attributes:
        schema: A JSON Schema of some of: ``type`` (string, integer, boolean), ``enum``, ``pattern`` (of the whole
            text), ``minLength``, ``maxLength``, ``minimum``, ``maximum``, ``format`` (date-time) and ``default``.
            It is what callers are held to, and what the OpenAPI document says.
        required: Whether it must be there; those in a path always are.
    """

    name: str
    place: Literal["path", "query"]
    schema: Mapping[str, Any]
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A kind of problem (RFC 9457). ``type``: a URI reference, and no promise that something is served there."""

    status: int
    type: str
    title: str


class ItemError(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wrong with one part of a request. ``pointer``: where, as a JSON pointer in a URI fragment (RFC 6901)."""

    pointer: str
    detail: str


class ProblemDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A problem as it is answered, in ``application/problem+json``."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[ItemError, ...] = ()


class ProblemError(Exception):
    """A request ends with a problem.

    ``detail`` says what to do, and repeats nothing of what the request held.
    """

    def __init__(
        self,
        problem: Problem,
        detail: str,
        errors: Sequence[ItemError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was checked.

    Attributes:
        key: The id of the API key.
        parameters: By name, of the types that their schemas say (a date-time: an aware UTC ``datetime``); one that is
            absent and has no default is not there.
        body: An instance of the endpoint's ``body``; None where it takes none.
        idempotency: The ``Idempotency-Key`` header.
        digest: The SHA-256 of the body as it came, so that a repetition can be told from something else.
    """

    key: str
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    body: Any = field(default=None, repr=False)
    idempotency: str | None = field(default=None, repr=False)
    digest: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation.

    Attributes:
        path: Below the root, such as ``/v1/recipients/{recipient}``.
        operation: Its name in the OpenAPI document and in the log.
        scope: What a key must have.
        body: The form of the request's body; unknown fields are refused.
        answer: The form of the answer.
        problems: Those that ``handle`` may raise, besides what every operation may (``webhooks.api.problems``).
        idempotent: Whether it takes an ``Idempotency-Key``.
        handle: Does it, in a thread. Raises ProblemError; a StoreError is answered 503.
    """

    method: Literal["GET", "POST"]
    path: str
    operation: str
    scope: Scope
    summary: str
    description: str
    answer: type[msgspec.Struct]
    handle: Callable[[Call], msgspec.Struct]
    body: type[msgspec.Struct] | None = None
    status: int = 200
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[Problem, ...] = ()
    idempotent: bool = False
