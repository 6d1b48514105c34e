"""Parameters in paths and queries, held to their schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from webhooks.api.endpoint import Parameter, ProblemError
from webhooks.api.problems import BAD_REQUEST

UNDERSTOOD = frozenset({"type", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "format", "default"})
"""The words of JSON Schema that are checked; others that say nothing about validity may stand there too."""
ANNOTATIONS = frozenset({"title", "description", "examples"})
LONGEST_INTEGER = 18
"""Digits: more than any limit, and few enough to be read at once."""

_INTEGER = re.compile(rf"-?[0-9]{{1,{LONGEST_INTEGER}}}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})")


def checked(declared: Sequence[Parameter], path: Mapping[str, str], query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The parameters' values by name; raises ProblemError naming the parameter, never its value."""
    known = {parameter.name for parameter in declared if parameter.place == "query"}
    names = [name for name, _ in query]
    if unknown := len([name for name in names if name not in known]):
        raise ProblemError(BAD_REQUEST, f"query: {unknown} of the parameters not known; known are: {_listed(known)}")
    given = {**path, **dict(query)}
    values = {}
    for parameter in declared:
        if names.count(parameter.name) > 1:
            raise ProblemError(BAD_REQUEST, f"{parameter.name}: given more than once")
        if parameter.name in given:
            values[parameter.name] = _value(parameter, given[parameter.name])
        elif "default" in parameter.schema:
            values[parameter.name] = parameter.schema["default"]
        elif parameter.required:
            raise ProblemError(BAD_REQUEST, f"{parameter.name}: missing")
    return values


def _value(parameter: Parameter, text: str) -> object:
    value = _typed(parameter.schema, text)
    if value is None or not _allowed(parameter.schema, value):
        raise ProblemError(BAD_REQUEST, f"{parameter.name}: not of the documented form")
    return value


def _typed(schema: Mapping[str, Any], text: str) -> object:
    """The value of the type that the schema names; None when the text is none."""
    match schema.get("type", "string"):
        case "integer":
            return int(text) if _INTEGER.fullmatch(text) else None
        case "boolean":
            return {"true": True, "false": False}.get(text)
        case _ if schema.get("format") == "date-time":
            return _time(text)
        case _:
            return text


def _allowed(schema: Mapping[str, Any], value: object) -> bool:
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, str):
        fits = "pattern" not in schema or re.fullmatch(schema["pattern"], value) is not None
        return fits and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
    if isinstance(value, int):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if _TIME.fullmatch(text) else None
    except (ValueError, OverflowError):
        return None


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
