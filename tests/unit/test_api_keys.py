"""The API's keys: recognised while they are valid, never stored, ended at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.main import run
from core.api_keys import ApiKey, Scope
from core.errors import InputError, StoreError
from core.stores.api_keys import SqliteKeys
from core.stores.embedded import LEDGER_FILE
from tests.unit.conftest import KEYS
from webhooks.assembly import Services

Wait = Callable[..., object]
READ = (Scope.DECISIONS_READ,)


def known(services: Services, text: str) -> str | None:
    """The name of the key that is presented, if it is valid."""
    key = services.api_keys.authenticate(text)
    return key.name if key else None


def test_a_key_is_known_again_with_its_scopes(services: Services) -> None:
    """What `create` hands over opens exactly what it was made for."""
    made, text = services.api_keys.create("sign-up form", [Scope.CONSENTS_WRITE, Scope.DECISIONS_READ])
    assert re.fullmatch(rf"pp_{made.id}_[A-Za-z0-9_-]{{43}}", text)
    key = services.api_keys.authenticate(text)
    assert key is not None
    assert (key.id, key.name) == (made.id, "sign-up form")
    assert key.scopes == {Scope.CONSENTS_WRITE, Scope.DECISIONS_READ}


def test_the_secret_is_stored_nowhere(services: Services) -> None:
    """Neither the file nor the key's own text holds it."""
    made, text = services.api_keys.create("form", READ)
    secret = text[16:]
    for file in services.data.iterdir():
        assert secret.encode() not in file.read_bytes()
    assert secret not in repr(made)
    assert made.secrets[0].sha256.hex() not in repr(made)


@pytest.mark.parametrize(
    "presented",
    ["", "pp", "pp__", "pp_{id}_", "pp_{id}_{other}", "pp_ffffffffffff_{secret}", "{text}A", "{text}\n", " {text}"],
)
def test_nothing_else_opens(services: Services, presented: str) -> None:
    """No key, an unknown id, another key's secret, an altered text."""
    made, text = services.api_keys.create("form", READ)
    _, other = services.api_keys.create("other", READ)
    words = {"id": made.id, "other": other[16:], "secret": text[16:], "text": text}
    assert known(services, text) == "form"
    assert known(services, presented.format(**words)) is None


def test_an_unknown_id_costs_a_comparison_too(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no key, an unknown id and a wrong secret: one look-up and one comparison each."""
    made, text = services.api_keys.create("form", READ)
    steps: list[str] = []
    find, opens = SqliteKeys.find, ApiKey.opens

    def watched_find(store: SqliteKeys, id_: str) -> ApiKey | None:
        steps.append("find")
        return find(store, id_)

    def watched_opens(key: ApiKey, digest: bytes, now: datetime) -> bool:
        steps.append("opens")
        return opens(key, digest, now)

    monkeypatch.setattr(SqliteKeys, "find", watched_find)
    monkeypatch.setattr(ApiKey, "opens", watched_opens)
    for wrong in ("nonsense", "pp_ffffffffffff_" + text[16:], f"pp_{made.id}_" + "A" * 43):
        steps.clear()
        assert services.api_keys.authenticate(wrong) is None
        assert steps == ["find", "opens"]


def test_a_key_ends_by_itself(services: Services, wait: Wait) -> None:
    """From the moment on that was set, to the microsecond."""
    _, text = services.api_keys.create("form", READ, timedelta(days=30))
    wait(days=30, microseconds=-1)
    assert known(services, text) == "form"
    wait(microseconds=1)
    assert known(services, text) is None


def test_both_secrets_are_valid_while_they_overlap(services: Services, wait: Wait) -> None:
    """After a rotation the old secret lives as long as it was told, the new one on."""
    made, old = services.api_keys.create("form", READ)
    wait(days=1)
    rotated, new = services.api_keys.rotate(made.id, timedelta(days=7))
    assert rotated.id == made.id
    assert (known(services, old), known(services, new)) == ("form", "form")
    wait(days=7)
    assert (known(services, old), known(services, new)) == (None, "form")


def test_rotating_again_lengthens_no_old_secret(services: Services, wait: Wait) -> None:
    """A second rotation gives the first secret no more time, and forgets it once it is over."""
    made, first = services.api_keys.create("form", READ)
    services.api_keys.rotate(made.id, timedelta(days=2))
    wait(days=1)
    rotated, _ = services.api_keys.rotate(made.id, timedelta(days=30))
    assert len(rotated.secrets) == 3
    wait(days=1)
    assert known(services, first) is None
    rotated, last = services.api_keys.rotate(made.id, timedelta(0))
    assert len(rotated.secrets) == 1
    assert known(services, last) == "form"


def test_a_revoked_key_ends_at_once_in_another_process(services: Services) -> None:
    """A server that runs looks each time: what another process revokes is refused by the next request."""
    made, text = services.api_keys.create("form", READ)
    assert known(services, text) == "form"
    with Services(services.settings, services.secrets, services.folder, services.now) as other:
        other.api_keys.revoke(made.id)
    assert known(services, text) is None


def test_nothing_brings_a_revoked_key_back(services: Services, wait: Wait) -> None:
    """Revoking twice keeps the first time; rotating is refused, even where the revocation came in between."""
    made, text = services.api_keys.create("form", READ)
    first = services.api_keys.revoke(made.id)
    wait(days=1)
    assert services.api_keys.revoke(made.id).revoked_at == first.revoked_at
    with pytest.raises(InputError, match="revoked or expired"):
        services.api_keys.rotate(made.id, timedelta(days=7))
    services.key_store.put(made)  # as a rotation would that had read the key before
    assert known(services, text) is None


def test_the_last_use_is_kept_to_the_day(services: Services, wait: Wait) -> None:
    """One write a day, and no time of day."""
    made, text = services.api_keys.create("form", READ)
    assert services.key_store.listed()[0].last_used is None
    known(services, text)
    wait(hours=1)
    known(services, text)
    assert services.key_store.find(made.id).last_used == date(2026, 11, 2)  # type: ignore[union-attr]
    wait(days=1)
    known(services, text)
    assert services.key_store.find(made.id).last_used == date(2026, 11, 3)  # type: ignore[union-attr]


def test_a_key_opens_although_its_use_cannot_be_noted(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """The note is for the operator: what it cannot write keeps no request from being answered."""
    _, text = services.api_keys.create("form", READ)

    def broken(*_: object) -> None:
        raise StoreError("locked")

    monkeypatch.setattr(SqliteKeys, "used", broken)
    assert known(services, text) == "form"


@pytest.mark.parametrize("name", ["", "a" * 61, "someone@example.com", "two\nlines", "\ud800"])
def test_bad_names(services: Services, name: str) -> None:
    """A name is short, on one line, and no address."""
    with pytest.raises(InputError, match=r"^name: "):
        services.api_keys.create(name, READ)
    assert services.key_store.listed() == []


def test_bad_spans_and_ids(services: Services) -> None:
    """A key that would never be valid, one without scope, an id that there is not."""
    made, _ = services.api_keys.create("form", READ)
    with pytest.raises(InputError, match=r"^scope: "):
        services.api_keys.create("form", [])
    for days in (0, -1, 3_651):
        with pytest.raises(InputError, match=r"^expires-days: "):
            services.api_keys.create("form", READ, timedelta(days=days))
    for days in (-1, 3_651):
        with pytest.raises(InputError, match=r"^overlap-days: "):
            services.api_keys.rotate(made.id, timedelta(days=days))
    for id_ in ("", "f" * 12, "%", f"{made.id}\n"):
        with pytest.raises(InputError, match="there is no key"):
            services.api_keys.revoke(id_)
    assert len(services.key_store.listed()) == 1


@pytest.mark.parametrize("scope", list(Scope))
def test_every_scope_is_in_the_readme(scope: Scope) -> None:
    """The README tells of every scope."""
    assert f"`{scope}`" in (Path(__file__).parents[2] / "README.md").read_text("utf-8")


# The commands


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:  # noqa: ANN401
    """Runs `pixelproof keys …` in a new installation; answers exit code and JSON."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PIXELPROOF_CONFIG", raising=False)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    settings = 'base_url = "http://127.0.0.1:8080"\npurposes = ["performance"]\n[sender]\nname = "Example"\n'
    (tmp_path / "pixelproof.toml").write_text(settings, "utf-8")

    def call(*words: str) -> tuple[object, Any]:
        with pytest.raises(SystemExit) as ended:
            run(["keys", *words, "--json"])
        return ended.value.code, json.loads(capsys.readouterr().out)

    return call


def test_the_life_of_a_key_on_the_command_line(keys: Any, tmp_path: Path) -> None:  # noqa: ANN401 - the fixture's own
    """Created, listed without its secret, rotated, revoked."""
    code, made = keys("create", "--name", "form", "--scope", "consents:write", "--scope", "decisions:read")
    assert (code, made["scopes"]) == (0, ["consents:write", "decisions:read"])
    assert made["key"].startswith(f"pp_{made['id']}_")
    code, rotated = keys("rotate", made["id"], "--overlap-days", "3")
    assert (code, len(rotated["secrets"])) == (0, 2)
    assert rotated["key"] != made["key"]
    code, listed = keys("list")
    assert [key["state"] for key in listed["keys"]] == ["valid"]
    assert made["key"][16:] not in json.dumps(listed)
    code, revoked = keys("revoke", made["id"])
    assert (code, revoked["id"]) == (0, made["id"])
    assert keys("list")[1]["keys"][0]["state"] == "revoked"
    with Services.from_file(tmp_path / "pixelproof.toml") as services:
        assert services.api_keys.authenticate(made["key"]) is None
    assert (tmp_path / "data" / LEDGER_FILE).exists()


def test_wrong_use_of_the_commands(keys: Any) -> None:  # noqa: ANN401 - the fixture's own
    """Exit code 2, one line that says what to do, and no key made."""
    code, answer = keys("revoke", "0" * 12)
    assert (code, "keys list" in answer["error"]) == (2, True)
    code, answer = keys("create", "--name", "form", "--scope", "decisions:read", "--expires-days", "0")
    assert (code, "expires-days" in answer["error"]) == (2, True)
    assert keys("list") == (0, {"keys": []})
