"""Receipts, checkpoints and witnesses as a team and an inspector type them; and while the application is served."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cli.main import run
from cli.setup import fresh_keys
from core.model import Action
from core.receipt_check import COSIGNATURE, VerifierKey, note, signature_line
from tests.installation import ADDRESS, PATIENCE, Team
from webhooks.assembly import Services

SETTINGS = 'base_url = "https://log.example.com"\npurposes = ["performance"]\n[sender]\nname = "Example"\n'
ROWS = "address,purposes,action,occurred_at\n" + "".join(
    f"user{number}@example.com,performance,given,2026-01-01T00:00:00Z\n" for number in range(300)
)


class Shell:
    """A team's folder, and what the commands say in it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def say(self, *words: str, code: int = 0) -> str:
        """Run a command; answers what it prints."""
        with pytest.raises(SystemExit) as ended:
            run(words)
        told = self._capsys.readouterr()
        assert (ended.value.code or 0) == code, told.err + told.out
        return told.out

    def team(self, *words: str, code: int = 0) -> str:
        """Run a command with the team's settings."""
        return self.say(*words, "--config", str(self.folder / "pixelproof.toml"), code=code)

    def told(self, *words: str, code: int = 0) -> dict[str, Any]:
        """The object that a command prints with --json."""
        result: dict[str, Any] = json.loads(self.team(*words, "--json", code=code))
        return result

    def grow(self, rows: str = ROWS) -> None:
        """Import some consents."""
        (self.folder / "rows.csv").write_text(rows, "utf-8")
        self.told("import", str(self.folder / "rows.csv"))


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A folder with settings, keys and 300 consents."""
    (tmp_path / ".env").write_text(fresh_keys(), "utf-8")
    (tmp_path / "pixelproof.toml").write_text(SETTINGS, "utf-8")
    shell = Shell(tmp_path, capsys)
    shell.grow()
    return shell


def test_from_the_entry_to_the_offline_check(shell: Shell, tmp_path: Path) -> None:
    """A receipt before and after the checkpoint; checked in an empty folder by the public key alone."""
    early = json.loads(shell.team("ledger", "receipt", "user7@example.com"))
    assert early["proof"] is None
    shell.told("ledger", "checkpoint")
    file, apart = tmp_path / "receipt.json", tmp_path / "apart"
    assert shell.team("ledger", "receipt", "user7@example.com", "--out", str(file)) == ""
    (key,) = shell.told("ledger", "keys")["keys"]
    apart.mkdir()
    shutil.move(file, apart / "r.json")
    command = [sys.executable, "-m", "cli", "receipt", "verify", str(apart / "r.json"), "--key", key]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own code
    assert done.returncode == 0, done.stderr
    assert "Proved:" in done.stdout
    assert "Not proved:" in done.stdout
    assert "user7" not in (apart / "r.json").read_text("utf-8")


def test_the_exit_codes_of_a_check(shell: Shell, tmp_path: Path) -> None:
    """1 while nothing is proved, for another key, and for an altered receipt; 2 for what is no receipt or key."""
    (key,) = shell.told("ledger", "keys")["keys"]
    file = tmp_path / "receipt.json"
    shell.team("ledger", "receipt", "user7@example.com", "--out", str(file))
    result = json.loads(shell.say("receipt", "verify", str(file), "--key", key, "--json", code=1))
    assert (result["ok"], result["receipts"][0]["problems"]) == (False, [])
    shell.told("ledger", "checkpoint")
    shell.team("ledger", "receipt", "user7@example.com", "--out", str(file))
    result = json.loads(shell.say("receipt", "verify", str(file), "--key", key, "--json"))
    assert result["receipts"][0]["covered"]
    stranger = str(VerifierKey("log.example.com", bytes(range(32))))
    assert "Wrong:" in shell.say("receipt", "verify", str(file), "--key", stranger, code=1)
    file.write_text(file.read_text("utf-8").replace('"given"', '"refused"', 1), "utf-8")
    shell.say("receipt", "verify", str(file), "--key", key, code=1)
    shell.say("receipt", "verify", str(file), "--key", "nonsense", code=2)
    shell.say("receipt", "verify", str(tmp_path / "none.json"), "--key", key, code=2)
    file.write_text("no receipt", "utf-8")
    shell.say("receipt", "verify", str(file), "--key", key, code=2)


def test_whose_receipt(shell: Shell) -> None:
    """By address, by pseudonym and by number; for nobody and for none there is none."""
    one = json.loads(shell.team("ledger", "receipt", "user3@example.com"))
    same = json.loads(shell.team("ledger", "receipt", "--recipient", one["recipient"], "--seq", "1"))
    assert one["entry"] == same["entry"] == shell.told("ledger", "receipt", "user3@example.com")["entry"]
    record = json.loads(shell.team("ledger", "receipt", "user3@example.com", "--json-ld"))
    assert (record["@type"], record["dct:identifier"]) == ("dpv:ConsentRecord", one["entry_hash"])
    for words in (
        ("user3@example.com", "--seq", "2"),
        ("nobody@example.com",),
        ("--recipient", "zz"),
        ("--recipient", "00" * 16),
        (),
        ("user3@example.com", "--recipient", one["recipient"]),
    ):
        assert "user3" not in shell.team("ledger", "receipt", *words, code=2)


def test_a_kept_checkpoint_finds_an_old_copy(shell: Shell, tmp_path: Path) -> None:
    """Ledger and log put back as they were; or begun anew, with every file of it sound in itself."""
    shell.told("ledger", "checkpoint")
    old = tmp_path / "old"
    shutil.copytree(shell.folder / "data", old)
    shell.grow(ROWS.replace("user", "other"))
    result = shell.told("ledger", "checkpoint")
    assert (result["size"], result["new"]) == (600, 300)
    kept = tmp_path / "kept"
    kept.write_text(result["checkpoint"], "utf-8")
    found = shell.told("ledger", "verify", "--since", str(kept))
    assert (found["ok"], found["covered"], found["checkpoints"], found["since"]) == (True, 600, 2, 600)
    shutil.rmtree(shell.folder / "data")
    shutil.copytree(old, shell.folder / "data")
    assert shell.told("ledger", "verify")["ok"]
    (problem,) = shell.told("ledger", "verify", "--since", str(kept), code=1)["problems"]
    assert "old copy" in problem
    shutil.rmtree(shell.folder / "data")
    shell.grow(ROWS.replace("user", "anew") + ROWS.partition("\n")[2])
    shell.told("ledger", "checkpoint")
    assert shell.told("ledger", "verify")["ok"]
    (problem,) = shell.told("ledger", "verify", "--since", str(kept), code=1)["problems"]
    assert "history was changed" in problem
    kept.write_text(kept.read_text("utf-8").replace("600", "601"), "utf-8")
    shell.told("ledger", "verify", "--since", str(kept), code=2)


def test_a_ledger_that_lost_entries_is_not_signed(shell: Shell, tmp_path: Path) -> None:
    """Exit 1, and the log stays as it was."""
    shutil.copy(shell.folder / "data" / "ledger.sqlite3", tmp_path / "old")
    shell.grow(ROWS.replace("user", "other"))
    shell.told("ledger", "checkpoint")
    for file in (shell.folder / "data").glob("ledger.sqlite3*"):
        file.unlink()
    shutil.copy(tmp_path / "old", shell.folder / "data" / "ledger.sqlite3")
    result = shell.told("ledger", "checkpoint", code=1)
    assert not result["ok"]
    assert "✗" in shell.team("ledger", "checkpoint", code=1)
    assert (shell.folder / "data/log/checkpoint").read_text("utf-8").split("\n")[1] == "600"


def test_witnesses(shell: Shell, tmp_path: Path) -> None:
    """What a witness is asked with, and its cosignature found again; nobody's is a finding."""
    private = Ed25519PrivateKey.generate()
    witness = VerifierKey("witness.example.com", private.public_key().public_bytes_raw(), COSIGNATURE)
    (shell.folder / "pixelproof.toml").write_text(f'{SETTINGS}[notary]\nwitnesses = ["{witness}"]\n', "utf-8")
    shell.team("ledger", "witness", "export", code=2)
    first = shell.told("ledger", "checkpoint")["checkpoint"]
    assert shell.team("ledger", "witness", "export") == f"old 0\n\n{first}"
    assert shell.told("ledger", "witness", "export") == {"request": f"old 0\n\n{first}"}
    shell.grow(ROWS.replace("user", "other"))
    raw = shell.told("ledger", "checkpoint")["checkpoint"]
    asked = shell.team("ledger", "witness", "export", "--old", "300")
    assert asked.startswith("old 300\n")
    assert asked.endswith(f"\n\n{raw}")
    seconds = 1_800_000_000
    value = private.sign(f"cosignature/v1\ntime {seconds}\n{note(raw.encode()).text}".encode())
    file = tmp_path / "cosigned"
    file.write_text(raw, "utf-8")
    assert shell.told("ledger", "witness", "check", str(file), code=1)["cosigned"] == []
    file.write_text(raw + signature_line(witness, seconds.to_bytes(8) + value), "utf-8")
    done = shell.told("ledger", "witness", "check", str(file))
    (found,) = done["cosigned"]
    assert found == {"witness": "witness.example.com", "at": "2027-01-15T08:00:00+00:00"}
    assert done["kept"]
    assert shell.told("ledger", "verify")["cosigned"] == 600
    file.write_text(first + signature_line(witness, seconds.to_bytes(8) + value), "utf-8")
    shell.told("ledger", "witness", "check", str(file), code=2)


@pytest.fixture
def cosigned(shell: Shell, tmp_path: Path) -> tuple[VerifierKey, Path]:
    """A witness, and a receipt whose checkpoint it cosigned; another entry came since, which it has not seen."""
    private = Ed25519PrivateKey.generate()
    witness = VerifierKey("witness.example.com", private.public_key().public_bytes_raw(), COSIGNATURE)
    (shell.folder / "pixelproof.toml").write_text(f'{SETTINGS}[notary]\nwitnesses = ["{witness}"]\n', "utf-8")
    raw = shell.told("ledger", "checkpoint")["checkpoint"]
    value = private.sign(f"cosignature/v1\ntime 1800000000\n{note(raw.encode()).text}".encode())
    file = tmp_path / "seen"
    file.write_text(raw + signature_line(witness, (1_800_000_000).to_bytes(8) + value), "utf-8")
    assert shell.told("ledger", "witness", "check", str(file))["kept"]
    shell.grow("address,purposes,action,occurred_at\nnew@example.com,performance,given,2026-01-01T00:00:00Z\n")
    shell.told("ledger", "checkpoint")
    receipt = tmp_path / "receipt.json"
    shell.team("ledger", "receipt", "user7@example.com", "--out", str(receipt))
    return witness, receipt


def verified(shell: Shell, receipt: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """What `receipt verify` says of a receipt."""
    (key,) = shell.told("ledger", "keys")["keys"]
    told = json.loads(shell.say("receipt", "verify", str(receipt), "--key", key, *words, "--json", code=code))
    (one,) = told["receipts"]
    return dict(one)


def test_a_receipt_tells_who_cosigned(shell: Shell, cosigned: tuple[VerifierKey, Path]) -> None:
    """By the witness's key; without it, that it is not checked; by another witness's, that this one saw nothing."""
    witness, receipt = cosigned
    one = verified(shell, receipt, "--witness", str(witness))
    assert one["cosigned"] == [{"witness": "witness.example.com", "at": "2027-01-15T08:00:00+00:00"}]
    assert any("witness.example.com saw this checkpoint by 2027-01-15 08:00:00 UTC" in each for each in one["proves"])
    assert any("whose size was 300" in each for each in one["proves"])
    assert not any("checkpoints which others keep" in each for each in one["leaves_open"])
    assert any("independent of the sender" in each for each in one["leaves_open"])
    without = verified(shell, receipt)
    assert without["cosigned"] == []
    assert any("give --witness" in each for each in without["leaves_open"])
    public = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    other = verified(shell, receipt, "--witness", str(VerifierKey("other.example.com", public, COSIGNATURE)))
    assert other["cosigned"] == []
    assert any("other.example.com saw" in each for each in other["leaves_open"])
    alone = [sys.executable, "core/receipt_check.py", str(receipt), "--key", shell.told("ledger", "keys")["keys"][0]]
    done = subprocess.run(alone, capture_output=True, text=True, check=False)  # noqa: S603 - our own code
    assert (done.returncode, "witnesses' signatures, which are not checked here" in done.stdout) == (0, True)


def test_a_log_key_is_no_witness(shell: Shell, cosigned: tuple[VerifierKey, Path]) -> None:
    """It is refused before anything is said."""
    key = shell.told("ledger", "keys")["keys"][0]
    words = ("receipt", "verify", str(cosigned[1]), "--key", key, "--witness")
    shell.say(*words, key, code=2)
    shell.say(*words, "none", code=2)


def test_an_altered_cosignature_is_found(shell: Shell, cosigned: tuple[VerifierKey, Path]) -> None:
    """In the receipt, and in the file of the log, where `ledger verify` finds it."""
    witness, receipt = cosigned
    kept = shell.folder / "data" / "log" / "checkpoints" / "300.cosigned"
    lines = kept.read_text("utf-8").splitlines()
    name, encoded = lines[-1].rsplit(" ", 1)
    forged = "\n".join([*lines[:-1], f"{name} {encoded[:-8]}{'AAAAAAA='}"]) + "\n"
    kept.write_text(forged, "utf-8")
    (problem,) = shell.told("ledger", "verify", code=1)["problems"]
    assert "witness.example.com is wrong" in problem
    kept.with_name("300.cosigned").write_text("\n".join(lines) + "\n", "utf-8")
    (shell.folder / "data" / "log" / "cosigned").write_text(forged, "utf-8")
    shell.team("ledger", "receipt", "user7@example.com", "--out", str(receipt))
    one = verified(shell, receipt, "--witness", str(witness), code=1)
    assert any("witness.example.com is wrong" in each for each in one["problems"])


def test_an_entry_that_no_witness_saw_is_proved_by_the_newest(shell: Shell, cosigned: tuple[VerifierKey, Path]) -> None:
    """Its receipt holds no signature of a witness."""
    witness, receipt = cosigned
    shell.team("ledger", "receipt", "new@example.com", "--out", str(receipt))
    one = verified(shell, receipt, "--witness", str(witness))
    assert (one["ok"], one["cosigned"]) == (True, [])
    assert any("whose size was 301" in each for each in one["proves"])


def test_without_keys_the_commands_say_which_variable(shell: Shell) -> None:
    """Wrong settings; verifying the ledger goes without."""
    env = shell.folder / ".env"
    lines = [line for line in env.read_text("utf-8").splitlines() if "NOTARY" not in line]
    env.write_text("\n".join(lines), "utf-8")
    for words in (("checkpoint",), ("keys",), ("witness", "export")):
        shell.team("ledger", *words, code=2)
    assert shell.told("ledger", "verify")["ok"]
    assert json.loads(shell.team("ledger", "receipt", "user7@example.com"))["signature"] == ""


def test_served_entries_are_covered_by_themselves(team: Team) -> None:
    """What a person says is under a checkpoint within the configured time, and the receipt proves it."""
    team.say(Action.GIVEN, "performance")
    recipient = team.recipient()
    until = time.monotonic() + PATIENCE
    while not _covered(team.services, recipient.hex()):
        assert time.monotonic() < until, "not covered"
        time.sleep(0.2)
    assert team.services.identify(ADDRESS) == recipient


def _covered(services: Services, recipient: str) -> bool:
    receipt = services.receipts.of(services.recipient(ADDRESS), 1)
    assert receipt is not None
    assert receipt.recipient == recipient
    return receipt.proof is not None
