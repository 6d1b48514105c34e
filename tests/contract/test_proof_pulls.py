"""Records that are fetched: page by page over HTTP, and from S3; whatever goes wrong, nothing is taken for complete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import pytest
import respx
from moto import mock_aws

from cli.proof_pulls import ATTEMPTS, Puller, delivered
from core.errors import InputError, ProviderError, ProviderRefused, SettingsError
from core.proofs.mappings import DEFAULT, Mapping, Pull
from core.settings import Secrets

URL = "https://leads.example/v1/proofs"
TOKEN = "tok-secret"
SECRETS = Secrets({"LEADS_TOKEN": TOKEN})


def puller(pull: Pull | None, secrets: Secrets = SECRETS) -> Puller:
    """One that does not really wait."""
    mapping = Mapping(name="leads", columns=DEFAULT.columns, pull=pull)
    return Puller("Leads Ltd", mapping, secrets, sleep=lambda _: None)


@pytest.fixture
def server() -> Iterator[respx.MockRouter]:
    """The partner's API."""
    with respx.mock(assert_all_called=False) as router:
        yield router


def pulled(path: Path) -> list[object]:
    """What was written."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_links_are_followed(server: respx.MockRouter, tmp_path: Path) -> None:
    """To the last page, with the token in each request."""
    following = {"link": '</v1/proofs?page=2>; rel="next"'}
    second = server.get(URL, params={"page": "2"}).respond(json=[{"n": 3}])
    first = server.get(URL, params__eq={}).respond(json=[{"n": 1}, {"n": 2}], headers=following)
    target = puller(Pull(next="link", token_env="LEADS_TOKEN")).fetch(URL, tmp_path / "x.ndjson")
    assert pulled(target) == [{"n": 1}, {"n": 2}, {"n": 3}]
    for route in (first, second):
        assert route.calls.last.request.headers["authorization"] == f"Bearer {TOKEN}"


def test_cursors_are_followed(server: respx.MockRouter, tmp_path: Path) -> None:
    """Until there is none; what the URL asks for stays in it."""
    pages = {None: ("b", [{"n": 1}]), "b": ("c", [{"n": 2}]), "c": (None, [])}

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["organization_id"] == "7"
        cursor, items = pages[request.url.params.get("$cursor")]
        return httpx.Response(200, json={"data": items, "cursor": cursor})

    server.get(URL).mock(side_effect=answer)
    pull = Pull(next="cursor", items="data", parameter="$cursor")
    assert pulled(puller(pull).fetch(f"{URL}?organization_id=7", tmp_path / "x")) == [{"n": 1}, {"n": 2}]


def test_pages_are_counted_until_one_is_empty(server: respx.MockRouter, tmp_path: Path) -> None:
    """From 1."""
    for page, items in (("1", [{"n": 1}]), ("2", [{"n": 2}]), ("3", [])):
        server.get(URL, params={"p": page}).respond(json={"content": items})
    pull = Pull(next="page", items="content", parameter="p")
    assert pulled(puller(pull).fetch(URL, tmp_path / "x")) == [{"n": 1}, {"n": 2}]


def test_passing_troubles_are_waited_for(server: respx.MockRouter, tmp_path: Path) -> None:
    """Busy, broken, cut off: the same page is asked for again."""
    route = server.get(URL)
    route.side_effect = [
        httpx.Response(429),
        httpx.Response(503),
        httpx.ReadTimeout("x"),
        httpx.Response(200, json=[1]),
    ]
    assert pulled(puller(Pull()).fetch(URL, tmp_path / "x")) == [1]
    assert route.call_count == 4


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx.Response(500), (ATTEMPTS, ProviderError, "out of reach 5 times")),
        (httpx.ConnectError("refused"), (ATTEMPTS, ProviderError, "out of reach")),
        (httpx.Response(401, text=TOKEN), (1, ProviderRefused, "refused the request")),
        (httpx.Response(302, headers={"location": "https://elsewhere.example"}), (1, ProviderRefused, "refused")),
        (httpx.Response(200, text="<html>"), (1, ProviderError, "JSON")),
        (httpx.Response(200, json={"ada@example.org": 1}), (1, ProviderError, "list of records")),
        (httpx.Response(200, json=[], headers={"link": f'<{URL}>; rel="next"'}), (1, ProviderError, "circle")),
        (
            httpx.Response(200, json=[], headers={"link": '<https://x.example/>; rel="next"'}),
            (1, ProviderError, "host"),
        ),
    ],
    ids=["broken", "unreachable", "refused", "redirect", "not-json", "no-list", "circle", "another-host"],
)
def test_other_troubles_are_told(
    server: respx.MockRouter,
    tmp_path: Path,
    answer: httpx.Response | httpx.ConnectError,
    expected: tuple[int, type[ProviderError], str],
) -> None:
    """With the partner's name, and neither the token nor what it answered."""
    calls, error, told = expected
    route = server.get(URL)
    route.side_effect = [answer] * ATTEMPTS
    with pytest.raises(error, match=told) as raised:
        puller(Pull(token_env="LEADS_TOKEN")).fetch(URL, tmp_path / "x")
    assert route.call_count == calls
    assert str(raised.value).startswith("Leads Ltd: ")
    assert TOKEN not in repr(raised.value)
    assert "@" not in str(raised.value)


def test_what_must_be_set_is_told(tmp_path: Path) -> None:
    """A mapping that pulls, a token, and TLS."""
    with pytest.raises(SettingsError, match=r"mapping leads: no \[pull\] section"):
        puller(None).fetch(URL, tmp_path / "x")
    with pytest.raises(SettingsError, match="LEADS_TOKEN: not set"):
        puller(Pull(token_env="LEADS_TOKEN"), Secrets({})).fetch(URL, tmp_path / "x")
    with pytest.raises(SettingsError, match="https://"):
        puller(Pull()).fetch("http://leads.example/", tmp_path / "x")


def test_what_was_fetched_is_removed(server: respx.MockRouter, tmp_path: Path) -> None:
    """Also when it could not be used."""
    server.get(URL).respond(json=[{"address": "ada@example.org"}])
    mapping = Mapping(name="leads", columns=DEFAULT.columns, pull=Pull())

    def fail(path: Path) -> None:
        assert path.exists()
        assert (path.parent.stat().st_mode & 0o777) == 0o700
        raise InputError("x")

    with pytest.raises(InputError), delivered(URL, mapping, SECRETS, tmp_path / "proofs", "Leads Ltd") as fetched:
        fail(fetched)
    assert list((tmp_path / "proofs").iterdir()) == []


def test_a_path_is_left_as_it_is(tmp_path: Path) -> None:
    """Nothing is copied or removed."""
    file = tmp_path / "records.csv"
    file.write_text("x", "utf-8")
    with delivered(str(file), DEFAULT, SECRETS, tmp_path / "proofs", "Leads Ltd") as path:
        assert path == file
    assert file.exists()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bucket with a delivery in two parts."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="leads", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
        for key in ("november/2.csv", "november/1.csv", "november/readme.txt", "other.csv"):
            client.put_object(Bucket="leads", Key=key, Body=key.encode())
        yield


@pytest.mark.usefixtures("bucket")
def test_objects_are_downloaded(tmp_path: Path) -> None:
    """One, or all below a prefix that are of a known kind, in their order."""
    with delivered("s3://leads/other.csv", DEFAULT, SECRETS, tmp_path, "Leads Ltd") as path:
        assert path.read_text("utf-8") == "other.csv"
    with delivered("s3://leads/november/", DEFAULT, SECRETS, tmp_path, "Leads Ltd") as path:
        assert [file.read_text("utf-8") for file in sorted(path.iterdir())] == ["november/1.csv", "november/2.csv"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("bucket")
def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    """An object, a bucket, and a prefix without any."""
    for url in ("s3://leads/none.csv", "s3://none/x.csv"):
        with pytest.raises(ProviderError, match="S3"), delivered(url, DEFAULT, SECRETS, tmp_path, "Leads Ltd"):
            pass
    with pytest.raises(InputError, match="s3://leads"), delivered("s3://leads/x/", DEFAULT, SECRETS, tmp_path, "A"):
        pass
