"""`proofs` as a team types it: from a partner's claims to segments, pages and audits."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.main import run

Command = Callable[..., dict[str, Any]]
CLAIMS = """address,purposes,action,occurred_at,partner
ada@example.com,performance,given,2026-01-01T00:00:00Z,Leads Ltd
bob@example.com,performance,given,2026-01-01T00:00:00Z,Leads Ltd
cat@example.com,performance,given,2026-01-01T00:00:00Z,Leads Ltd
"""
HEADER = (
    "address,collected_at,purposes,notice,notice_sha256,source_url,controller,method,confirmed_at,evidence_uri,"
    "evidence_sha256,withdrawn_at"
)
RECORDS = f"""{HEADER}
Ada@Example.com,2026-01-01T00:00:00Z,performance,,,https://leads.example,Example,form,,,,
bob@example.com,2026-01-01T00:00:00Z,performance,,,https://leads.example,Example,form,,,,2026-02-01T00:00:00Z
zed@example.com,2026-01-01T00:00:00Z,performance,,,https://leads.example,Example,form,,,,
"""


@pytest.fixture
def command(folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command with --json; answers its one object, with what was told on stderr."""
    (folder / "pixelproof.toml").write_text(
        'base_url = "https://choices.example.com"\npurposes = ["performance"]\n[sender]\nname = "Example"\n'
        '[[partners]]\nname = "Leads Ltd"\ncontract = "2026/117 <b>"\n',
        "utf-8",
    )
    (folder / "claims.csv").write_text(CLAIMS, "utf-8")
    (folder / "records.csv").write_text(RECORDS, "utf-8")

    def ran(*words: str, code: int = 0) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            run([*words, "--config", str(folder / "pixelproof.toml"), "--json"])
        told = capsys.readouterr()
        assert (ended.value.code or 0) == code, told.err
        (line,) = told.out.splitlines()
        return {**json.loads(line), "stderr": told.err}

    ran("import", str(folder / "claims.csv"))
    return ran


def state(command: Command, name: str) -> str:
    """Where somebody stands."""
    return str(command("status", f"{name}@example.com")["purposes"]["performance"]["state"])


def test_a_delivery_is_reconciled(command: Command, folder: Path) -> None:
    """Exactly the documented keys; exit code 1 for what is not proven; the second run appends nothing."""
    words = ("proofs", "reconcile", str(folder / "records.csv"), "--partner", "Leads Ltd")
    assert state(command, "ada") == "unproven"
    dry = command(*words, "--dry-run", code=1)
    assert (dry["entries_appended"], dry["would_append"]) == (0, {"given": 1, "invalidated": 1, "withdrawn": 1})
    assert state(command, "ada") == "unproven"
    done = command(*words, code=1)
    told = done.pop("stderr")
    assert done.keys() == {"claims", "records", "findings", "orphans", "entries_appended", "seconds"}
    assert (done["claims"], done["records"], done["orphans"], done["entries_appended"]) == (3, 3, 1, 3)
    assert done["findings"] == {"missing": 1, "withdrawn_at_partner": 1, "proven": 1}
    assert "reading the records" in told
    assert "@" not in told
    assert [state(command, name) for name in ("ada", "bob", "cat")] == ["given", "withdrawn", "unproven"]
    assert command(*words, code=1)["entries_appended"] == 0
    assert command("ledger", "verify")["ok"]


def test_all_proven_exits_with_zero(command: Command, folder: Path) -> None:
    """And so does a partner without claims."""
    rows = "".join(f"{name}@example.com,2026-01-01T00:00:00Z,performance,,,,,,,,,\n" for name in ("ada", "bob", "cat"))
    (folder / "all.csv").write_text(f"{HEADER}\n{rows}", "utf-8")
    done = command("proofs", "reconcile", str(folder / "all.csv"), "--partner", "Leads Ltd")
    assert done["findings"] == {"proven": 3}
    assert command("proofs", "reconcile", str(folder / "all.csv"), "--partner", "Nobody")["claims"] == 0


def test_wrong_use_changes_nothing(command: Command, folder: Path) -> None:
    """A file that is not there, a column that is not known, a mapping that does not exist."""
    words = ("proofs", "reconcile", "--partner", "Leads Ltd")
    assert "No such file" in command(*words, str(folder / "none.csv"), code=2)["error"]
    (folder / "odd.csv").write_text(f"{HEADER},optout\n", "utf-8")
    assert "'optout' is not known" in command(*words, str(folder / "odd.csv"), code=2)["error"]
    assert "ready ones are" in command(*words, str(folder / "records.csv"), "--mapping", "none", code=2)["error"]
    assert state(command, "ada") == "unproven"


def test_the_report_is_one_page(command: Command, folder: Path) -> None:
    """Self-contained, without an address, with what was found and how it went over time; its texts are escaped."""
    words = ("proofs", "reconcile", str(folder / "records.csv"), "--partner", "Leads Ltd")
    report = folder / "report.html"
    for _ in range(2):
        command(*words, "--report", str(report), code=1)
    command("proofs", "audit", "--partner", "Leads Ltd", "--size", "1")
    command("proofs", "audit", "record", "1", "--upheld", "0", "--rejected", "1", "--reference", "letter", code=1)
    command(*words, "--report", str(report), code=1)
    page = report.read_text("utf-8")
    assert "@example" not in page
    assert not re.findall(r"<script|<link|src=|href=|url\(", page)
    assert "2026/117 &lt;b&gt;" in page
    assert page.count('<td class="n">66.7 %</td>') == 3
    assert "withdrawn at partner" in page
    assert "<td>letter</td>" in page
    assert '<td class="n">100.0 %</td>' in page
    assert "An audit is due" not in page


def test_a_mapping_is_checked_on_a_sample(command: Command, folder: Path) -> None:
    """Counts of what it makes of it; nothing is recorded."""
    sample = folder / "sample.csv"
    sample.write_text(
        "email,optin_date,optins\nada@example.com,2026-01-01T00:00:00Z,performance\nnobody,1/2/26,x\n", "utf-8"
    )
    seen = command("proofs", "mapping", "check", "co-registration", str(sample), code=1)
    assert (seen["records"], seen["recognised"], seen["sound"]) == (2, 1, 1)
    assert (seen["states_method"], seen["states_notice"], seen["states_address"]) == (2, 0, 2)
    sample.write_text("email,optin_date,optins\nada@example.com,2026-01-01T00:00:00Z,performance\n", "utf-8")
    assert command("proofs", "mapping", "check", "co-registration", str(sample))["sound"] == 1
    assert "is missing" in command("proofs", "mapping", "check", "didomi", str(sample), code=2)["error"]
    assert state(command, "ada") == "unproven"


def test_an_audit_is_drawn_and_recorded(command: Command, folder: Path) -> None:
    """The same seed draws the same sample; addresses stand in the partner's file alone."""
    words = ("proofs", "audit", "--partner", "Leads Ltd", "--size", "5", "--seed", "7")
    assert "no claim of Leads Ltd is proven" in command(*words, code=2)["error"]
    command("proofs", "reconcile", str(folder / "records.csv"), "--partner", "Leads Ltd", code=1)
    ask = folder / "ask.csv"
    drawn = command(*words, "--out", str(ask))
    assert (drawn["id"], drawn["population"], len(drawn["sample"]), drawn["closed_at"]) == (1, 1, 1, None)
    assert drawn["ask"]
    assert "@" not in json.dumps(drawn)
    (row,) = csv.DictReader(ask.read_text("utf-8").splitlines())
    assert (row["address"], row["recipient"]) == ("ada@example.com", drawn["sample"][0]["recipient"])
    assert command(*words)["id"] == 1
    assert (
        "the sample has 1"
        in command("proofs", "audit", "record", "1", "--upheld", "2", "--rejected", "0", code=2)["error"]
    )
    done = command("proofs", "audit", "record", "1", "--upheld", "1", "--rejected", "0")
    assert (done["upheld"], done["rejected"]) == (1, 0)
    assert "give --partner" in command("proofs", "audit", code=2)["error"]


@pytest.mark.usefixtures("command")
def test_people_read_it_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json there are tables."""
    where = ["--config", str(folder / "pixelproof.toml")]
    with pytest.raises(SystemExit):
        run(["proofs", "reconcile", str(folder / "records.csv"), "--partner", "Leads Ltd", *where])
    assert "3 claims against 3 records" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(["proofs", "audit", "--partner", "Leads Ltd", *where])
    assert "Ask the partner" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(["proofs", "audit", "record", "1", "--upheld", "1", "--rejected", "0", *where])
    assert "1 upheld" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(["proofs", "mapping", "check", "double-opt-in", str(folder / "records.csv"), *where])
