"""The command line: one JSON object on stdout, exit codes that mean something, nothing overwritten."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.main import run

Run = Callable[..., tuple[int, dict[str, Any]]]
HEADER = "address,purposes,action,occurred_at\n"
GOOD = "a@example.com,performance;deliverability,given,2026-01-01T00:00:00Z\n"


@pytest.fixture
def pixelproof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in a new folder; answers exit code and JSON."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PIXELPROOF_CONFIG", raising=False)

    def call(*words: str) -> tuple[int, dict[str, Any]]:
        with pytest.raises(SystemExit) as ended:
            run([*words, "--json"])
        code = ended.value.code
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        return code if isinstance(code, int) else 0, json.loads(out)

    return call


def write(name: str, text: str) -> str:
    """Write a file into the current folder; answers its name."""
    Path(name).write_text(text, "utf-8")
    return name


def test_init_writes_settings_and_private_keys(pixelproof: Run) -> None:
    """`init` writes both files, the keys readable by their owner alone, and fresh ones each time."""
    assert pixelproof("init") == (0, {"written": [".env", "pixelproof.toml"]})
    assert Path(".env").stat().st_mode & 0o777 == 0o600
    pixelproof("init", "--dir", "other")
    keys = [re.findall(r"(?m)^PIXELPROOF_\w+=(.+)$", Path(f).read_text("utf-8")) for f in (".env", "other/.env")]
    assert all(len(found) == 4 for found in keys)
    assert set(keys[0]).isdisjoint(keys[1])


@pytest.mark.parametrize("there", [".env", "pixelproof.toml"])
def test_init_overwrites_nothing(pixelproof: Run, there: str) -> None:
    """`init` refuses when either file is there, and writes neither."""
    write(there, "mine")
    code, answer = pixelproof("init")
    assert code == 2
    assert there in answer["error"]
    assert [file.name for file in Path().iterdir()] == [there]
    assert Path(there).read_text("utf-8") == "mine"


def test_import_status_and_verify(pixelproof: Run) -> None:
    """What was imported shows in the status, importing it again appends nothing, and the ledger is sound."""
    pixelproof("init")
    file = write("in.csv", HEADER + GOOD)
    code, first = pixelproof("import", file)
    assert (code, first["imported"], first["contacts_new"], first["entries_appended"]) == (0, 1, 1, 1)
    assert pixelproof("import", file)[1]["entries_appended"] == 0
    code, status = pixelproof("status", " A@EXAMPLE.com")
    assert code == 0
    assert re.fullmatch(r"[0-9a-f]{32}", status["recipient"])
    assert status["purposes"]["performance"] == {
        "state": "given",
        "basis": "consent",
        "since": "2026-01-01T00:00:00Z",
        "source": "import",
    }
    assert status["purposes"]["profiling"]["state"] == "unknown"
    code, found = pixelproof("ledger", "verify")
    assert (code, found["ok"], found["problems"]) == (0, True, [])
    assert (found["entries"], found["recipients"], found["campaigns"]) == (1, 1, 0)


def test_an_unknown_address_is_unknown_for_every_purpose(pixelproof: Run) -> None:
    """Nobody that we know: unknown everywhere, and that is no error."""
    pixelproof("init")
    code, status = pixelproof("status", "nobody@example.com")
    assert code == 0
    assert {purpose["state"] for purpose in status["purposes"].values()} == {"unknown"}
    assert len(status["purposes"]) == 7


def test_a_bad_row_stops_the_import(pixelproof: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad row is told by its line, nothing is imported, and no message repeats what the row holds."""
    pixelproof("init")
    file = write("in.csv", HEADER + GOOD + "secret-person(at)example.com,performance,given,\n")
    with pytest.raises(SystemExit) as ended:
        run(["import", file])
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert "line 3" in told.err
    assert "secret-person" not in told.out + told.err
    assert pixelproof("ledger", "verify")[1]["entries"] == 0


def test_skip_bad_imports_the_others_and_keeps_the_bad(pixelproof: Run) -> None:
    """With --skip-bad good rows go in, and bad rows go to a file that only its owner can read."""
    pixelproof("init")
    file = write("in.csv", HEADER + "nonsense,performance,given,\n" + GOOD)
    code, answer = pixelproof("import", file, "--skip-bad")
    assert (code, answer["imported"], answer["rejected"]) == (0, 1, 1)
    rejected = Path(answer["rejected_file"])
    assert rejected.read_text("utf-8").splitlines()[1].startswith("nonsense,")
    assert rejected.stat().st_mode & 0o777 == 0o600


def test_an_altered_ledger_is_found(pixelproof: Run) -> None:
    """Altering one byte of an entry makes `ledger verify` fail with exit code 1."""
    pixelproof("init")
    pixelproof("import", write("in.csv", HEADER + GOOD))
    with sqlite3.connect("data/ledger.sqlite3") as database:
        database.execute("UPDATE entry SET body=CAST(replace(CAST(body AS TEXT), 'given', 'taken') AS BLOB)")
    code, answer = pixelproof("ledger", "verify")
    assert (code, answer["ok"]) == (1, False)
    assert answer["problems"]


def test_wrong_use_is_told(pixelproof: Run) -> None:
    """No settings, no keys, no ESP: exit code 2 with the name of what is missing."""
    code, answer = pixelproof("status", "a@example.com")
    assert (code, "pixelproof init" in answer["error"]) == (2, True)
    pixelproof("init")
    code, answer = pixelproof("sync")
    assert (code, answer["error"][:9]) == (2, "providers")
    assert pixelproof("status", "not an address")[0] == 2
    Path(".env").unlink()
    code, answer = pixelproof("status", "a@example.com")
    assert (code, "PIXELPROOF_" in answer["error"]) == (2, True)


def test_settings_may_stand_elsewhere(pixelproof: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config and PIXELPROOF_CONFIG name another settings file; keys and data lie beside that."""
    pixelproof("init", "--dir", "team")
    assert pixelproof("ledger", "verify", "--config", "team/pixelproof.toml")[0] == 0
    monkeypatch.setenv("PIXELPROOF_CONFIG", "team/pixelproof.toml")
    assert pixelproof("ledger", "verify")[0] == 0
    assert Path("team/data/ledger.sqlite3").exists()


def test_names_in_brackets_are_shown(pixelproof: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The section of the settings that an error names reaches the person at the terminal: brackets are no markup."""
    pixelproof("init")
    with pytest.raises(SystemExit):
        run(["sync", "--provider", "sendgrid"])
    assert "[providers.sendgrid]" in capsys.readouterr().err
