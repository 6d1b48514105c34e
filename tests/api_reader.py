"""Reading from the API of a served installation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from tests.api_caller import Caller


def read(api: Caller, path: str, **query: object) -> httpx.Response:
    """GET with the caller's key."""
    parameters = {name: str(value) for name, value in query.items()}
    return api.team.client.get(path, params=parameters or None, headers={"Authorization": f"Bearer {api.secret}"})


def pages(api: Caller, path: str, items: str, **query: object) -> Iterator[list[Any]]:
    """The pages of a list, one after the other."""
    cursor: dict[str, object] = {}
    while True:
        answer = read(api, path, **query, **cursor).raise_for_status().json()
        yield answer[items]
        if answer["next"] is None:
            return
        cursor = {"cursor": answer["next"]}


def problem(answer: httpx.Response) -> tuple[int, str]:
    """An error's status and kind."""
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == answer.status_code
    return answer.status_code, told["type"].rpartition("/")[2]
