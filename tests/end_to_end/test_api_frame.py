"""What surrounds the API's operations: keys, scopes, limits, and problems that say nothing about anybody."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from starlette.applications import Starlette

from connectors.simulators.serving import served
from core.api_keys import Scope
from core.settings import load, load_secrets
from tests.api_caller import Caller, said
from tests.embedded import database_of
from tests.installation import ADDRESS, Team
from webhooks.api import bodies
from webhooks.api.app import resources
from webhooks.api.endpoint import Call, Endpoint
from webhooks.api.frame import Frame, Workers
from webhooks.api.limiter import Limiter
from webhooks.app import create_app
from webhooks.assembly import Services

PATIENCE = 20.0
GOOD = {"consents": [said("refused")]}


@pytest.fixture
def api(team: Team) -> Caller:
    """A caller with every scope."""
    return Caller(team)


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The time."""
        return self.at


@pytest.fixture
def clock() -> Clock:
    """The clock of ``slow_team``."""
    return Clock()


@pytest.fixture
def slow_team(folder: Path, clock: Clock) -> Iterator[Team]:
    """An installation that takes three requests a minute, by a clock that stands still."""
    settings = folder / "pixelproof.toml"
    settings.write_text(
        'base_url = "http://127.0.0.1"\npurposes = ["performance"]\n[sender]\nname = "Example"\n'
        "[api]\nrequests_per_minute = 3\n",
        "utf-8",
    )
    with Services(load(settings), load_secrets(folder), folder, clock) as services, served(create_app(services)) as url:
        team = Team(services, url)
        yield team
        team.client.close()


def problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Check that an answer is a problem of that kind; answers what it says."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    told: dict[str, Any] = answer.json()
    assert (told["status"], told["type"]) == (status, f"/problems/{kind}")
    assert answer.headers["cache-control"] == "no-store"
    return told


# Keys


def test_without_a_valid_key_everything_is_the_same(api: Caller) -> None:
    """None, another scheme, a wrong or unknown or revoked or expired key, two keys: one answer, to the byte."""
    keys, client = api.team.services.api_keys, api.team.client
    revoked, revoked_text = keys.create("revoked", tuple(Scope))
    keys.revoke(revoked.id)
    _, expired = keys.create("expired", tuple(Scope), timedelta(days=1))
    with database_of(api.team.services).transaction() as connection:
        connection.execute("UPDATE api_key SET expires_at='2020-01-01T00:00:00+00:00' WHERE name='expired'")
    wrong = f"pp_{api.key.id}_{'A' * 43}"
    values = ["", "Bearer", f"Basic {api.secret}", api.secret, f"Bearer {api.secret} x", "Bearer é".encode()]
    values += [
        f"Bearer {text}" for text in (wrong, f"pp_{'0' * 12}_{'A' * 43}", revoked_text, expired, api.secret[:-1])
    ]
    sent: list[Any] = [
        [],
        *([("Authorization", value)] for value in values),
        [("Authorization", f"Bearer {api.secret}")] * 2,
    ]
    answers = [client.post("/v1/consents", json=GOOD, headers=headers) for headers in sent]
    answers.append(client.post("/v1/consents", json=GOOD, params={"key": api.secret}))
    for answer in answers:
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == 'Bearer realm="pixelproof"'
        assert "ratelimit" not in answer.headers
    assert len({answer.content for answer in answers}) == 1
    assert api.size == 0
    assert client.post("/v1/consents", json=GOOD, headers={"authorization": f"bearer  {api.secret}"}).status_code == 201


def test_a_lesser_scope_is_told_what_it_takes(team: Team) -> None:
    """403, and nothing of the request was looked at."""
    caller = Caller(team, [Scope.DECISIONS_READ])
    answer = caller.post("/v1/consents", {"wrong": 1})
    assert "consents:write" in problem(answer, 403, "missing-scope")["detail"]
    assert 'error="insufficient_scope", scope="consents:write"' in answer.headers["www-authenticate"]
    assert caller.decide({"id": "a", "kind": "requested", "mechanism": "none"}, ADDRESS).status_code == 200
    problem(Caller(team, [Scope.CONSENTS_WRITE]).decide("a", ADDRESS), 403, "missing-scope")


def test_a_key_ends_at_once(api: Caller) -> None:
    """Revoked between two requests, by whatever process: the next one is refused."""
    assert api.consents(said("refused")).status_code == 201
    services = api.team.services
    with Services.from_file(services.folder / "pixelproof.toml") as other:
        other.api_keys.revoke(api.key.id)
    problem(api.consents(said("refused")), 401, "unauthorized")
    assert api.size == 1


# The form of requests


def test_other_paths_and_methods_are_problems(api: Caller) -> None:
    """404 and 405 are told in the same form, and a path with a slash too many leads nowhere else."""
    client, key = api.team.client, {"Authorization": f"Bearer {api.secret}"}
    for path in ("/v1", "/v1/", "/v1/nothing", "/v1/consents/", "/v1/%2e%2e/healthz", "/v1/consents/..%2f"):
        problem(client.get(path, headers=key), 404, "not-found")
        problem(client.post(path, json=GOOD, headers=key), 404, "not-found")
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = client.request(method, "/v1/consents", headers=key)
        assert "POST" in problem(answer, 405, "method-not-allowed")["detail"]
        assert answer.headers["allow"] == "POST"


def test_no_browser_of_another_site_may_call(api: Caller) -> None:
    """No answer allows another origin."""
    for answer in (
        api.consents(said("refused"), Origin="https://example.net"),
        api.team.client.options("/v1/consents", headers={"Origin": "https://example.net"}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
    ids=["none", "text", "form", "other", "gzip"],
)
def test_only_json_is_taken(api: Caller, headers: dict[str, str]) -> None:
    """By its header, and not compressed."""
    sent = {"Authorization": f"Bearer {api.secret}", **headers}
    answer = api.team.client.post("/v1/consents", content=msgspec.json.encode(GOOD), headers=sent)
    problem(answer, 415, "media-type")
    assert api.size == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"consents": [{"address": "\\ud800", "action": "refused"}]}', 400),
        (b'{"consents": [{"address": "\xff", "action": "refused"}]}', 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"consents": []}', 422),
        (b"[" * 500_000, 422),
        (b'{"consents": [' + b"[" * 500_000, 422),
        (b'{"consents": [{"notice": ' * 30_000, 422),
        (b'{"x": ' * 100_000, 422),
        (b'{"consents": [' + b"{}," * 300_000, 422),
        (b'{"consents": [' + b"1" * 1_000_000, 422),
    ],
    ids=range(14),
)
def test_whatever_else_comes_is_a_problem(api: Caller, body: bytes, status: int) -> None:
    """Broken, deep and huge bodies: 400 or 422, promptly, and nothing is recorded."""
    sent = {"Authorization": f"Bearer {api.secret}", "Content-Type": "application/json; charset=utf-8"}
    answer = api.team.client.post("/v1/consents", content=body, headers=sent)
    problem(answer, status, {400: "bad-request", 422: "invalid-request"}[status])
    assert api.size == 0


def test_a_body_is_read_up_to_a_mebibyte(api: Caller) -> None:
    """One byte more is refused, with a length told or in chunks."""
    sent = {"Authorization": f"Bearer {api.secret}", "Content-Type": "application/json"}
    raw = msgspec.json.encode(GOOD)
    full = raw + b" " * (1024 * 1024 - len(raw))
    assert api.team.client.post("/v1/consents", content=full, headers=sent).status_code == 201
    for content in (full + b" ", iter([full, b" "])):
        problem(api.team.client.post("/v1/consents", content=content, headers=sent), 413, "too-large")
    assert api.size == 1


@pytest.mark.parametrize("value", ["", "a b", "a" * 256, "é".encode(), "a\tb"], ids=range(5))
def test_a_bad_idempotency_key(api: Caller, value: Any) -> None:  # noqa: ANN401 - text or bytes
    """1 to 255 visible ASCII characters, once."""
    problem(api.consents(said("refused"), Idempotency_Key=value), 400, "bad-request")
    headers = [("Authorization", f"Bearer {api.secret}"), ("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    problem(api.team.client.post("/v1/consents", json=GOOD, headers=headers), 400, "bad-request")
    assert api.size == 0


def test_unknown_parameters_are_refused(api: Caller) -> None:
    """A misspelt parameter is told and not passed over; its name is not repeated."""
    answer = api.post("/v1/consents?eve@example.com=1", GOOD)
    assert "eve" not in problem(answer, 400, "bad-request")["detail"]


@contextmanager
def stalled(api: Caller, many: int) -> Iterator[list[socket.socket]]:
    """Requests that tell of a body and do not send it."""
    where = urlsplit(str(api.team.client.base_url))
    head = f"POST /v1/consents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.secret}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection((where.hostname or "", where.port or 0))) for _ in range(many)
        ]
        for each in sockets:
            each.settimeout(PATIENCE)
            each.sendall(head.encode())
        yield sockets


def test_slow_requests_hold_no_thread(api: Caller) -> None:
    """More stalled requests than there are threads and places to wait: others are answered all the same.

    While the keys of a hundred at once are looked up, one may be asked to come back; not for longer.
    """
    with stalled(api, 100):
        until = time.monotonic() + PATIENCE
        while api.consents(said("refused")).status_code != 201:
            assert time.monotonic() < until
            time.sleep(0.05)
    assert api.consents(said("refused")).status_code == 201


def test_a_slow_request_ends(api: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not arrive in time: 408, and the connection is closed."""
    monkeypatch.setattr(bodies, "PATIENCE", 0.2)
    with stalled(api, 1) as (connection,):
        answer = b""
        while piece := connection.recv(4_096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"/problems/too-slow" in answer
    assert api.size == 0


# Rates


def test_a_key_has_its_rate(slow_team: Team, clock: Clock) -> None:
    """The fourth request of a minute is told when to come back; another key is not concerned; time heals."""
    api, other = Caller(slow_team), Caller(slow_team)
    told = [api.consents(said("refused")).headers["ratelimit"] for _ in range(3)]
    assert told == ['"key";r=2;t=20', '"key";r=1;t=40', '"key";r=0;t=60']
    answer = api.consents(said("refused"))
    problem(answer, 429, "too-many-requests")
    assert (answer.headers["retry-after"], answer.headers["ratelimit-policy"]) == ("20", '"key";q=3;w=60')
    assert other.consents(said("refused")).status_code == 201
    assert api.size == 4
    clock.at += timedelta(seconds=20)
    assert api.consents(said("refused")).status_code == 201
    assert api.consents(said("refused")).status_code == 429


def test_problems_count_and_tell_the_rate(slow_team: Team) -> None:
    """What was refused for its form counts too; without a key nothing is counted."""
    api = Caller(slow_team)
    assert api.consents().headers["ratelimit"] == '"key";r=2;t=20'
    for _ in range(5):
        slow_team.client.post("/v1/consents", json=GOOD)
    assert api.consents().headers["ratelimit"] == '"key";r=1;t=40'


# What goes wrong inside


class Nothing(msgspec.Struct, frozen=True):
    """An answer that says nothing."""


@contextmanager
def serving(team: Team, handle: Any, workers: Workers) -> Iterator[httpx.Client]:  # noqa: ANN401 - any handler
    """Serve one operation, and call it with a key."""
    endpoint = Endpoint("GET", "/v1/it", "it", Scope.OPENS_READ, "", "", Nothing, handle)
    frame = Frame(team.services.api_keys, Limiter(600), workers)
    headers = {"Authorization": f"Bearer {Caller(team).secret}"}
    with (
        served(Starlette(routes=resources(frame, [endpoint]))) as url,
        httpx.Client(base_url=url, headers=headers, timeout=PATIENCE) as client,
    ):
        yield client


def test_a_failure_tells_nothing(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    """500, and neither the answer nor the log holds what the error said."""

    def fails(_call: Call) -> Nothing:
        raise RuntimeError("secret@example.com")

    with serving(team, fails, Workers()) as client:
        answer = client.get("/v1/it")
    problem(answer, 500, "internal")
    logged = "".join(capsys.readouterr())
    assert "RuntimeError" in logged
    assert "secret" not in answer.text + logged


def test_when_too_much_waits_it_is_told_to_come_back(team: Team) -> None:
    """With every thread busy and every place taken: 503 with Retry-After, and again room afterwards."""
    go, busy = threading.Event(), threading.Semaphore(0)

    def waits(_call: Call) -> Nothing:
        busy.release()
        assert go.wait(PATIENCE)
        return Nothing()

    with serving(team, waits, Workers(threads=2, waiting=0)) as client:
        answers: list[int] = []
        callers = [threading.Thread(target=lambda: answers.append(client.get("/v1/it").status_code)) for _ in range(2)]
        for caller in callers:
            caller.start()
            assert busy.acquire(timeout=PATIENCE)
        refused = client.get("/v1/it")
        go.set()
        for caller in callers:
            caller.join(PATIENCE)
        problem(refused, 503, "unavailable")
        assert refused.headers["retry-after"] == "5"
        assert answers == [200, 200]
        assert client.get("/v1/it").status_code == 200
        assert client.head("/v1/it").status_code == 200


def test_logs_hold_nothing_personal(api: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    """Key id, operation, status and number of items; no address, no key, no token, no idempotency key."""
    told = api.consents(said("refused"), said("withdrawn"), Idempotency_Key="for-ada").json()["consents"][0]
    api.consents(said("refused", address="ada@"))
    api.decide("spring", ADDRESS)
    api.team.client.post("/v1/consents", json=GOOD, headers={"Authorization": f"Bearer {api.secret}x"})
    logged = "".join(capsys.readouterr())
    assert api.key.id in logged
    assert "recordConsents" in logged
    assert "items=2" in logged or "'items': 2" in logged
    for personal in ("ada", api.secret[16:], told["choices_url"].rpartition("/")[2]):
        assert personal not in logged
