"""Bodies of the API: JSON of a documented form, and what is wrong with one that is not."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated, Any, get_args, get_origin

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request

from webhooks.api.endpoint import ItemError, ProblemError
from webhooks.api.problems import BAD_REQUEST, INVALID, MEDIA_TYPE, TIMEOUT, TOO_LARGE
from webhooks.bodies import PATIENCE, bounded

LIMIT = 1024 * 1024
"""Bytes."""
MOST_ITEMS = 1_000
"""Of a list that are looked at one by one, to tell what is wrong with each."""
CLOSE = {"Connection": "close"}
"""With an answer to a body that was not read to its end."""

_PLACE = re.compile(r" - at `(?P<path>\$[^`]*)`$")
_STEP = re.compile(r"\.(?P<field>\w+)|\[(?P<index>\d+)\]")
_SAFE = re.compile(r"Expected `[\w |]+`, got `\w+`|Object missing required field `\w+`|Expected `[^`]+` .*")


async def body_of(request: Request) -> bytes:
    """A request's body; raises ProblemError when it is no JSON by its header, too large, or slow.

    Waits on the event loop: whoever sends slowly holds no thread.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ProblemError(MEDIA_TYPE, "Send JSON, and Content-Type: application/json.", headers=CLOSE)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError(MEDIA_TYPE, "Send the body without a Content-Encoding.", headers=CLOSE)
    try:
        return await bounded(request, LIMIT, PATIENCE)
    except HTTPException as error:
        if error.status_code == HTTPStatus.REQUEST_TIMEOUT:
            told = f"The body must arrive within {PATIENCE:.0f} seconds."
            raise ProblemError(TIMEOUT, told, headers=CLOSE) from None
        raise ProblemError(TOO_LARGE, f"At most {LIMIT} bytes: send fewer items at once.", headers=CLOSE) from None


def decoded(raw: bytes, form: type[msgspec.Struct]) -> msgspec.Struct:
    """A body of that form.

    Raises:
        ProblemError: it is not; points to the first wrong field of each wrong item, and repeats nothing of the body.
    """
    try:
        return msgspec.json.decode(raw, type=form)
    except msgspec.ValidationError as error:
        first = _fault(str(error), "#")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ProblemError(BAD_REQUEST, "The body is not JSON.") from None
    raise ProblemError(INVALID, "The body is not of the documented form.", _by_item(raw, form) or [first])


def _by_item(raw: bytes, form: type[msgspec.Struct]) -> list[ItemError]:
    """What is wrong with each item of the body's lists; nothing where it is wrong in another way."""
    try:
        tree = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return []
    faults: list[ItemError] = []
    for field in msgspec.structs.fields(form):
        kind, items = _kind_of_items(field.type), tree.get(field.encode_name) if isinstance(tree, dict) else None
        if kind is None or not isinstance(items, list):
            continue
        for index, item in enumerate(items[:MOST_ITEMS]):
            try:
                msgspec.convert(item, kind)
            except msgspec.ValidationError as error:
                faults.append(_fault(str(error), f"#/{field.encode_name}/{index}"))
    return faults


def _kind_of_items(kind: Any) -> Any:  # noqa: ANN401 - types, as typing has them
    """What a list holds; None for what is no list."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_args(kind)[0] if get_origin(kind) is tuple else None


def _fault(message: str, at: str) -> ItemError:
    place = _PLACE.search(message)
    text = message[: place.start()] if place else message
    where = at + (_pointer(place["path"]) if place else "")
    return ItemError(where, text if _SAFE.fullmatch(text) else _plainly(text))


def _pointer(path: str) -> str:
    """The JSON pointer of msgspec's path: ``$.consents[3].address`` is ``/consents/3/address``."""
    return "".join(f"/{step['field'] or step['index']}" for step in _STEP.finditer(path))


def _plainly(text: str) -> str:
    """Without what msgspec repeats of the body: a value of an enumeration, the name of an unknown field."""
    if text.startswith("Object contains unknown field"):
        return "holds a field that is not known"
    if text.startswith("Invalid enum value"):
        return "none of the documented values"
    return "not of the documented form"
