"""`pixelproof demo`: the main job end to end, checked against what lies in the inboxes and in the ledger."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cli.demo.command import problems
from webhooks.assembly import Services

KEYS = {
    "recipients",
    "consented",
    "providers",
    "hosted",
    "pixels_in_untracked_mail",
    "opens_recorded",
    "opens_after_withdrawal_seen",
    "opens_after_withdrawal_recorded",
    "withdrawals",
    "withdrawn_left_in_segments",
    "forged_callbacks_sent",
    "forged_callbacks_accepted",
    "replayed_callbacks_applied_twice",
    "second_campaign",
    "ledger",
    "seconds",
}
PEOPLE = 150


def pixelproof(*words: str) -> subprocess.Popen[str]:
    """Start the command line in a process of its own."""
    command = [sys.executable, "-m", "cli", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON object that a process prints, once it has ended well."""
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert out.count("\n") == 1
    result: dict[str, Any] = json.loads(out)
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo plays."""
    return tmp_path_factory.mktemp("stage") / "demo"


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    """What the demo counted."""
    return told(pixelproof("demo", "--recipients", str(PEOPLE), "--seed", "3", "--data", str(folder), "--json"))


def test_the_demo_counts_everything_and_finds_nothing_wrong(result: dict[str, Any]) -> None:
    """Every number is there, what must be zero is zero, and each thing really happened."""
    assert result.keys() == KEYS
    assert problems(result) == []
    assert result["recipients"] == PEOPLE
    assert result["ledger"]["ok"]
    assert min(result["withdrawals"].values()) > 0
    assert min(one["tracked"] for one in result["providers"].values()) > 0
    assert sum(one["tracked"] + one["untracked"] for one in result["providers"].values()) == PEOPLE
    assert min(result[k] for k in ("opens_recorded", "opens_after_withdrawal_seen", "forged_callbacks_sent")) > 0


def test_the_inboxes_say_the_same(result: dict[str, Any], folder: Path) -> None:
    """Read straight from the inboxes: as many mails with a pixel as the demo told, one pixel each."""
    for name, counted in result["providers"].items():
        with sqlite3.connect(folder / f"{name}-inboxes.sqlite3") as database:
            mails = [html for (html,) in database.execute("SELECT html FROM mail ORDER BY id")]
        first = mails[: counted["tracked"] + counted["untracked"]]
        images = [len(re.findall("<img", html)) for html in first]
        assert (images.count(1), images.count(0)) == (counted["tracked"], counted["untracked"])
        assert all("/c/" in html for html in mails)


def test_the_store_can_be_looked_at_afterwards(result: dict[str, Any], folder: Path) -> None:
    """The demo leaves an installation: its ledger verifies, its files hold no address but in the address book."""
    settings = str(folder / "pixelproof.toml")
    found = told(pixelproof("ledger", "verify", "--config", settings, "--json"))
    assert (found["ok"], found["entries"]) == (True, result["ledger"]["entries"])
    assert b"@example.com" not in (folder / "data" / "ledger.sqlite3").read_bytes()
    with Services.from_file(Path(settings)) as services:
        assert services.book.count() == PEOPLE
        assert services.store.count_opens() == result["opens_recorded"]


def test_the_same_seed_tells_the_same_story(result: dict[str, Any], tmp_path: Path) -> None:
    """A seed decides who does what; only how often the ESPs were called for it depends on the moment."""
    words = ("demo", "--recipients", str(PEOPLE), "--seed", "3", "--data", str(tmp_path / "again"), "--json")
    again = told(pixelproof(*words))
    expected = json.loads(json.dumps(result))
    for told_by in (again, expected):
        told_by["seconds"] = told_by["forged_callbacks_sent"] = 0
        for one in told_by["providers"].values():
            one["api_calls"] = 0
    assert again == expected


def test_wrong_results_are_noticed(result: dict[str, Any]) -> None:
    """The demo fails when a number is not as it must be."""
    for name in ("pixels_in_untracked_mail", "forged_callbacks_accepted", "opens_after_withdrawal_recorded"):
        assert problems({**result, name: 1})
    assert problems({**result, "consented": result["consented"] + 1})
    assert problems({**result, "second_campaign": {"tracked": result["second_campaign"]["tracked"] + 1}})
    assert problems({**result, "ledger": {"ok": False}})


@pytest.mark.parametrize("after", [0.8, 1.6, 2.4, 3.6])
def test_a_killed_demo_leaves_a_sound_ledger(tmp_path: Path, after: float) -> None:
    """SIGKILL at any moment: what is in the store verifies."""
    process = pixelproof("demo", "--recipients", "2000", "--data", str(tmp_path / "demo"), "--json")
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    settings = tmp_path / "demo" / "pixelproof.toml"
    if settings.exists():  # killed before anything was written otherwise
        assert told(pixelproof("ledger", "verify", "--config", str(settings), "--json"))["ok"]


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    """The demo replaces a folder of its own only."""
    (tmp_path / "precious").write_text("mine", "utf-8")
    process = pixelproof("demo", "--data", str(tmp_path), "--json")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--data" in json.loads(out)["error"]
    assert [file.name for file in tmp_path.iterdir()] == ["precious"]
