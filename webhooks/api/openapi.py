"""The API's OpenAPI 3.1 document, made from the table of operations that the routes are made from.

It is public and holds nothing about anybody: no key is needed to read it, and it may be kept for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from webhooks.api.endpoint import Endpoint, Parameter, Problem, ProblemDocument
from webhooks.api.problems import INTERNAL, of_every

PATH = "/openapi.json"
PAGE = "/docs/api"
MAX_AGE = 300
"""Seconds for which the document and its page may be kept."""
REF = "#/components/schemas/{name}"
PROBLEM_TYPE = "application/problem+json"

JSON = Mapping[str, Any]

TAGS: Mapping[str, str] = {
    "consents": "Choices that people made in forms of your own.",
    "decisions": "Which pixel the mail to somebody may carry.",
    "recipients": "Where recipients stand. Addresses stand in bodies only, never in URLs.",
    "receipts": "Proof to keep, one entry of the ledger at a time.",
    "campaigns": "Applied campaigns, their opens, and numbers about nobody.",
}
"""The groups of operations, by the first part of their paths below ``/v1``, in the order in which they are shown."""

_ABOUT = """\
Record what people chose, ask which pixel a mail may carry, and read what is on record. Every request needs an API key
(`pixelproof keys create`) with the operation's scope, in `Authorization: Bearer`.

Errors are problem documents (RFC 9457): `type` names the kind, `detail` says what to do, `errors` points to the parts
that are wrong. None of them repeats what the request held. Each key may make so many requests a minute; beyond that
the answer is 429 and says in `Retry-After` how long to wait.
"""

_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "`Bearer`."},
    403: {"WWW-Authenticate": "The scope that is missing."},
    429: {"Retry-After": "Seconds to wait."},
    503: {"Retry-After": "Seconds to wait."},
}
_IDEMPOTENCY: JSON = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Any text of your own, such as a UUID: the same request with the same key is carried out once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def document(endpoints: Sequence[Endpoint], base_url: str) -> dict[str, Any]:
    """The document for these operations, as the team reaches them below ``base_url``."""
    forms = {form for each in endpoints for form in (each.body, each.answer) if form}
    forms.add(ProblemDocument)
    ordered = sorted(forms, key=lambda form: form.__qualname__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=REF)
    paths: dict[str, dict[str, Any]] = {}
    for each in endpoints:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pixelproof",
            "version": _version(),
            "description": _ABOUT,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base_url}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": {name: _legible(schema) for name, schema in schemas.items()},
            "responses": {
                _name(problem): _refusal(problem)
                for problem in sorted({p for e in endpoints for p in _problems(e)}, key=lambda p: (p.status, p.type))
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of `pixelproof keys create`, with the scope that the operation names.",
                }
            },
        },
    }


def route(path: str, content: bytes, media_type: str, headers: Mapping[str, str]) -> Route:
    """A route that answers the same to everybody; a browser that has it already is told so."""
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    sent = {
        **headers,
        "Cache-Control": f"public, max-age={MAX_AGE}",
        "ETag": tag,
        "X-Content-Type-Options": "nosniff",
    }

    async def answer(request: Request) -> Response:
        known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
        if tag in known:
            return Response(status_code=304, headers=sent)
        return Response(content, headers=sent, media_type=media_type)

    return Route(path, answer, methods=["GET"])


@cache
def examples() -> Mapping[str, JSON]:
    """A request and an answer for each operation that has them, by operation."""
    found: dict[str, JSON] = msgspec.json.decode((Path(__file__).parent / "examples.json").read_bytes())
    return found


def tag_of(endpoint: Endpoint) -> str:
    """The group of an operation."""
    return endpoint.path.split("/")[2]


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    example = examples().get(endpoint.operation, {})
    operation: dict[str, Any] = {
        "operationId": endpoint.operation,
        "tags": [tag_of(endpoint)],
        "summary": endpoint.summary,
        "description": f"{endpoint.description.strip()}\n\nScope: `{endpoint.scope}`.",
        "security": [{"key": [endpoint.scope.value]}],
        "parameters": [*map(_parameter, endpoint.parameters), *([_IDEMPOTENCY] if endpoint.idempotent else [])],
        "responses": _responses(endpoint, example.get("answer")),
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": _content("application/json", endpoint.body, example.get("request")),
        }
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = dict(parameter.schema)
    if "pattern" in schema:  # callers are held to the whole text, and JSON Schema to any part of it
        schema["pattern"] = f"^(?:{schema['pattern']})$"
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required or parameter.place == "path",
        "description": parameter.description,
        "schema": schema,
    }


def _responses(endpoint: Endpoint, example: object) -> dict[str, Any]:
    good = {
        "description": "Done.",
        "content": _content("application/json", endpoint.answer, example),
        "headers": _headers({"RateLimit": "What is left.", "RateLimit-Policy": "How much there is."}),
    }
    by_status: dict[int, list[Problem]] = {}
    for problem in _problems(endpoint):
        by_status.setdefault(problem.status, []).append(problem)
    refused = {
        str(status): {"$ref": f"#/components/responses/{_name(found[0])}"} if len(found) == 1 else _refusal(*found)
        for status, found in sorted(by_status.items())
    }
    return {str(endpoint.status): good} | refused


def _problems(endpoint: Endpoint) -> tuple[Problem, ...]:
    return (*of_every(endpoint), INTERNAL)


def _name(problem: Problem) -> str:
    """A problem's name among the document's answers."""
    return problem.type.rpartition("/")[2]


def _refusal(*problems: Problem) -> dict[str, Any]:
    """What is answered with an error's status: each kind of problem that has it."""
    status = problems[0].status
    told: dict[str, Any] = {
        "description": "; or: ".join(f"{problem.title} (`{problem.type}`)" for problem in problems) + ".",
        "content": _content(PROBLEM_TYPE, ProblemDocument, None),
    }
    if status in _HEADERS:
        told["headers"] = _headers(_HEADERS[status])
    return told


def _headers(described: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in described.items()}


def _content(media_type: str, form: type[msgspec.Struct], example: object) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([form], ref_template=REF)
    return {media_type: {"schema": schema} | ({"example": example} if example is not None else {})}


def _legible(schema: Any) -> Any:  # noqa: ANN401 - a JSON Schema, part by part
    """The schema with descriptions in Markdown: ours are written in reStructuredText, over several lines."""
    if isinstance(schema, dict):
        return {
            key: paragraphs(value) if key == "description" and isinstance(value, str) else _legible(value)
            for key, value in schema.items()
        }
    return [*map(_legible, schema)] if isinstance(schema, list | tuple) else schema


def paragraphs(text: str) -> str:
    """A docstring as Markdown: a line for each paragraph."""
    return "\n\n".join(" ".join(each.split()) for each in text.replace("``", "`").split("\n\n"))


def _version() -> str:
    try:
        return version("pixelproof")
    except PackageNotFoundError:  # run from its folder, without having been installed
        return "0"


def properties(schema: JSON) -> Iterable[tuple[str, JSON, bool]]:
    """The fields of an object's schema: name, schema, and whether it is always there."""
    required = schema.get("required", ())
    return ((name, field, name in required) for name, field in schema.get("properties", {}).items())
