"""``ledger export`` and ``ledger import`` as a team types them: to another installation, receipts and all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cli.main import run
from cli.setup import fresh_keys

SETTINGS = 'base_url = "https://log.example.com"\npurposes = ["performance"]\n[sender]\nname = "Example"\n'
ROWS = "address,purposes,action,occurred_at\n" + "".join(
    f"user{number}@example.com,performance,given,2026-01-01T00:00:00Z\n" for number in range(700)
)


class Shell:
    """Two installations that have the same keys, and what the commands say in them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def told(self, whose: str, *words: str, code: int = 0) -> dict[str, Any]:
        """The object that a command prints with --json."""
        with pytest.raises(SystemExit) as ended:
            run((*words, "--json", "--config", str(self.folder / whose / "pixelproof.toml")))
        said = self._capsys.readouterr()
        assert (ended.value.code or 0) == code, said.err
        assert "@" not in said.err
        return json.loads(said.out) if said.out else {"error": said.err}


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """An old installation with 700 consents under a checkpoint, and a new one."""
    keys = fresh_keys()
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".env").write_text(keys, "utf-8")
        (tmp_path / name / "pixelproof.toml").write_text(SETTINGS, "utf-8")
    (tmp_path / "rows.csv").write_text(ROWS, "utf-8")
    shell = Shell(tmp_path, capsys)
    shell.told("old", "import", str(tmp_path / "rows.csv"))
    shell.told("old", "ledger", "checkpoint")
    return shell


def test_a_ledger_moves_with_its_proofs(shell: Shell) -> None:
    """Entry by entry: the checkpoint that was signed over the old ledger holds for the new one, which goes on."""
    file = shell.folder / "ledger.ndjson"
    out = shell.told("old", "ledger", "export", str(file))
    assert file.stat().st_mode & 0o077 == 0
    assert "@" not in file.read_text("utf-8")
    assert shell.told("new", "ledger", "import", str(file), "--dry-run")["new"] == 0
    assert shell.told("new", "ledger", "verify")["entries"] == 0
    assert shell.told("new", "ledger", "import", str(file)) == {**out, "new": 700}
    shutil.copytree(shell.folder / "old" / "data" / "log", shell.folder / "new" / "data" / "log", dirs_exist_ok=True)
    assert shell.told("new", "ledger", "verify")["covered"] == 700
    again = shell.told("new", "import", str(shell.folder / "rows.csv"))
    assert (again["entries_appended"], again["contacts_new"]) == (0, 700)
    assert shell.told("new", "status", "user7@example.com")["purposes"]


def test_what_is_no_export_changes_nothing(shell: Shell) -> None:
    """An altered export, a file that is none, and one that is there already: exit 2, and nothing done."""
    file, cut = shell.folder / "ledger.ndjson", shell.folder / "cut.ndjson"
    shell.told("old", "ledger", "export", str(file))
    before = file.read_bytes()
    assert "exists" in shell.told("old", "ledger", "export", str(file), code=2)["error"]
    assert file.read_bytes() == before
    cut.write_bytes(before[: len(before) // 2])
    assert "line" in shell.told("new", "ledger", "import", str(cut), code=2)["error"]
    cut.write_bytes(b"\xff\xfe\x00")
    assert "line 1" in shell.told("new", "ledger", "import", str(cut), code=2)["error"]
    assert (
        "missing.ndjson" in shell.told("new", "ledger", "import", str(shell.folder / "missing.ndjson"), code=2)["error"]
    )
    assert shell.told("new", "ledger", "verify")["entries"] == 0
