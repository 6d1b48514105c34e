"""The API's document as a page to read: made once, without script, in the style of the recipients' pages."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.routing import Route

from webhooks import pages
from webhooks.api import openapi
from webhooks.api.endpoint import Endpoint
from webhooks.colours import theme

HERE = Path(__file__).parent / "templates"
STYLE = pages.HERE / "static" / "page.css"

JSON = Mapping[str, Any]

_NO_LINE_END = r"(?!\n)"
"""Ends our patterns so that Python's ``$`` means what JSON Schema's does; it would only puzzle a reader."""
_CODE = re.compile(r"`([^`]+)`")
_COMPARED = {"minimum": "at least", "maximum": "at most", "minLength": "at least", "maxLength": "at most"}
_UNITS = {"minLength": " characters", "maxLength": " characters"}


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter or a field of a form."""

    name: str
    kind: Markup
    required: bool
    description: Markup


@dataclass(frozen=True, slots=True)
class Content:
    """What a request or an answer holds, with an example in JSON."""

    kind: Markup
    example: str


def routes(endpoints: Sequence[Endpoint], base_url: str, sender: str, accent: str) -> list[Route]:
    """The routes of the document and of its page."""
    document = openapi.document(endpoints, base_url)
    html, policy = rendered(document, sender, accent)
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "Content-Language": "en"}
    return [
        openapi.route(openapi.PATH, msgspec.json.encode(document), "application/json", {}),
        openapi.route(openapi.PAGE, html.encode(), "text/html", headers),
    ]


def rendered(document: JSON, sender: str, accent: str) -> tuple[str, str]:
    """The page of an OpenAPI document of ours, and the content security policy under which it is shown.

    Raises:
        SettingsError: the accent colour is none.
    """
    css = theme(accent) + STYLE.read_text("utf-8") + (HERE / "api.css").read_text("utf-8")
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, auto_reload=False
    )
    html = environment.get_template("api.html").render(
        css=Markup(css),  # noqa: S704 - our own files
        sender=sender,
        about=text(document["info"]["description"]),
        server=document["servers"][0]["url"],
        version=document["info"]["version"],
        groups=[*_groups(document)],
        forms=[*_forms(document["components"]["schemas"])],
    )
    digest = b64encode(sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
    return html, policy + "frame-ancestors 'none'"


def _groups(document: JSON) -> Iterator[dict[str, Any]]:
    """The operations by tag, in the order of the tags."""
    described = [
        _operation(path, method, operation, document)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    for tag in document["tags"]:
        mine = [each for each in described if each["tag"] == tag["name"]]
        yield {"name": tag["name"], "description": inline(tag["description"]), "operations": mine}


def _operation(path: str, method: str, operation: JSON, document: JSON) -> dict[str, Any]:
    answers: dict[str, JSON] = operation["responses"]
    good = next(status for status in answers if status.startswith("2"))
    body = operation.get("requestBody")
    return {
        "id": operation["operationId"],
        "tag": operation["tags"][0],
        "summary": operation["summary"],
        "method": method.upper(),
        "path": path,
        "description": text(operation["description"]),
        "parameters": [*map(_parameter, operation["parameters"])],
        "body": _message(body["content"]) if body else None,
        "status": good,
        "answer": _message(answers[good]["content"]),
        "problems": [
            {"status": status, "description": inline(_referred(answer, document)["description"])}
            for status, answer in answers.items()
            if status != good
        ],
    }


def _parameter(parameter: JSON) -> Field:
    kind = kind_of(parameter["schema"]) + Markup(" in the {}").format(parameter["in"])
    return Field(parameter["name"], kind, parameter["required"], inline(parameter["description"]))


def _forms(schemas: JSON) -> Iterator[dict[str, Any]]:
    for name, schema in schemas.items():
        yield {
            "name": name,
            "description": text(schema.get("description", "")),
            "kind": kind_of(schema),
            "fields": [
                Field(field, kind_of(part), required, inline(_described(part)))
                for field, part, required in openapi.properties(schema)
            ],
        }


def _described(schema: JSON) -> str:
    """What a field is: said of it, or of the form that it has unless it is null."""
    alternatives: Sequence[JSON] = [schema, *schema.get("anyOf", ())]
    return next((str(each["description"]) for each in alternatives if "description" in each), "")


def _message(content: JSON) -> Content:
    (held,) = content.values()
    example = held.get("example")
    told = json.dumps(example, indent=2, ensure_ascii=False) if example is not None else ""
    return Content(kind_of(held["schema"]), told)


def _referred(part: JSON, document: JSON) -> JSON:
    """A part of the document, or the shared one that it refers to."""
    if "$ref" not in part:
        return part
    shared: JSON = document["components"]["responses"][part["$ref"].rpartition("/")[2]]
    return shared


def kind_of(schema: JSON) -> Markup:
    """What a schema asks for, in words; a form that is described on the page is a link to it."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#form-{0}">{0}</a>').format(name)
    if "anyOf" in schema:
        return Markup(" or ").join(map(kind_of, schema["anyOf"]))
    if "enum" in schema:
        return Markup(", ").join(Markup("<code>{}</code>").format(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return Markup("list of ") + kind_of(schema["items"]) + _bounds(schema)
    return Markup("{}{}").format(_plain_kind(schema), _bounds(schema))


def _plain_kind(schema: JSON) -> str:
    if schema.get("format") == "date-time":
        return "time (RFC 3339)"
    return str(schema.get("type", "anything"))


def _bounds(schema: JSON) -> Markup:
    """The limits that a schema sets, in words."""
    told = [f"{words} {schema[name]}{_UNITS.get(name, '')}" for name, words in _COMPARED.items() if name in schema]
    if "minItems" in schema or "maxItems" in schema:
        told.append(f"{schema.get('minItems', 0)} to {schema.get('maxItems', 'any number')} of them")
    if "pattern" in schema:
        told.append(Markup("matching <code>{}</code>").format(schema["pattern"].removesuffix(_NO_LINE_END)))
    if "default" in schema and isinstance(schema["default"], str | int | bool):
        told.append(f"{schema['default']} unless told")
    return Markup("").join(Markup(", {}").format(each) for each in told)


def text(markdown: str) -> Markup:
    """Paragraphs of a description, with its code marked."""
    return Markup("\n").join(
        Markup("<p>{}</p>").format(inline(part)) for part in markdown.strip().split("\n\n") if part
    )


def inline(markdown: str) -> Markup:
    """A description with its code marked and everything else escaped."""
    parts = _CODE.split(markdown)  # every second one stood between backticks
    return Markup("").join(Markup("<code>{}</code>").format(p) if n % 2 else escape(p) for n, p in enumerate(parts))
