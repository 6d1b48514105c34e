"""The commands as a team types them, against the simulated ESPs; `serve` in a process of its own."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.demo.files import add_secrets, write_settings
from cli.main import run
from connectors.simulators.base import Account, Simulator
from connectors.simulators.mailchimp import MailchimpSimulator
from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import simulated
from connectors.simulators.ses import SesSimulator

ROWS = """address,purposes,action,occurred_at
ada@example.com,performance;personalisation,given,2026-01-01T00:00:00Z
bob@example.com,performance,refused,2026-01-01T00:00:00Z
cat@example.com,,,
"""
HTML = '<p>News</p><a href="[[choices_url]]">Your choices</a>'


class Shell:
    """A team's folder, with the three ESPs set up."""

    def __init__(
        self, folder: Path, accounts: dict[str, Account], port: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder = folder
        self._capsys = capsys
        self.accounts = accounts
        self.port = port

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command in the folder."""
        command = [sys.executable, "-m", "cli", *words, "--config", str(self.folder / "pixelproof.toml")]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603

    def run(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run a command with --json; answers its object."""
        with pytest.raises(SystemExit) as ended:
            run([*words, "--config", str(self.folder / "pixelproof.toml"), "--json"])
        told = self._capsys.readouterr()
        assert (ended.value.code or 0) == code, told.err
        result: dict[str, Any] = json.loads(told.out)
        return result

    def campaign(self, provider: str) -> str:
        """Write a campaign's file."""
        content = "\n".join(f"{key} = {json.dumps(value)}" for key, value in self.accounts[provider].content.items())
        file = self.folder / f"{provider}.toml"
        file.write_text(
            f'id = "news-{provider}"\nprovider = "{provider}"\nkind = "prospecting"\npurposes = ["performance"]\n'
            f"[content]\n{content}\n",
            "utf-8",
        )
        return str(file)


@pytest.fixture
def shell(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[Shell, dict[str, Simulator]]]:
    """The folder and the ESPs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as stack:
        simulators: list[Simulator] = [SendGridSimulator(), MailchimpSimulator(), SesSimulator(folder=folder)]
        for simulator in simulators:
            stack.enter_context(simulated(simulator))
        accounts = {
            s.name: s.account(purposes=("performance", "personalisation"), subject="News", html=HTML)
            for s in simulators
        }
        write_settings(folder, f"http://127.0.0.1:{port}", {name: a.settings for name, a in accounts.items()})
        for account in accounts.values():
            add_secrets(folder, account.secrets)
        (folder / "consents.csv").write_text(ROWS, "utf-8")
        yield Shell(folder, accounts, port, capsys), {s.name: s for s in simulators}


def pixels(simulator: Simulator) -> dict[str, int]:
    """Images in each delivered mail, by address."""
    return {mail.address: len(re.findall("<img", mail.html)) for mail in simulator.mailroom.page(None, 0)}


def test_from_import_to_sent_mail(shell: tuple[Shell, dict[str, Simulator]]) -> None:
    """Import, sync, plan, apply and send at each ESP: a pixel for who agreed, none for the others, nothing twice."""
    team, esps = shell
    assert team.run("import", str(team.folder / "consents.csv"))["entries_appended"] == 2
    synced = team.run("sync")
    assert synced.keys() == esps.keys()
    for one in synced.values():
        assert (one["desired"], one["confirmed"], one["added"], one["rejected"]) == (3, 3, 5, 0)
    assert all(one["api_calls"] == 0 for one in team.run("sync").values())
    for name, simulator in esps.items():
        file = team.campaign(name)
        plan = team.run("campaigns", "plan", file)
        assert (plan["recipients"], plan["individual"], plan["none"]) == (3, 1, 2)
        assert {"pixel": "none", "reason": "performance: refused", "recipients": 1} in plan["reasons"]
        assert plan["steps"]
        assert "apply" in team.run("campaigns", "send", file, code=1)["error"]
        assert team.run("campaigns", "apply", file)["handles"]
        assert pixels(simulator) == {}
        sent = team.run("campaigns", "send", file)
        assert (sent["accepted_tracked"], sent["accepted_untracked"]) == (1, 2)
        assert pixels(simulator) == {"ada@example.com": 1, "bob@example.com": 0, "cat@example.com": 0}
        team.run("campaigns", "send", file)
        assert len(simulator.mailroom.page(None, 0)) == 3


def test_serve_takes_a_withdrawal_and_tells_the_esps(shell: tuple[Shell, dict[str, Simulator]]) -> None:
    """A served installation: the mail's link works, and the withdrawal is at all ESPs within moments."""
    team, esps = shell
    team.run("import", str(team.folder / "consents.csv"))
    team.run("sync", "--provider", "sendgrid")
    file = team.campaign("sendgrid")
    team.run("campaigns", "apply", file)
    team.run("campaigns", "send", file)
    (html,) = [m.html for m in esps["sendgrid"].mailroom.page(None, 0) if m.address == "ada@example.com"]
    link = re.findall('href="([^"]+)"', html)[0]
    server = team.start("serve", "--port", str(team.port))
    try:
        _await(team.port)
        assert httpx.get(link).status_code == 200
        assert httpx.post(f"{link}/withdraw", data={"List-Unsubscribe": "One-Click"}).status_code == 200
        status = team.run("status", "ada@example.com")
        assert status["purposes"]["performance"]["state"] == "withdrawn"
        deadline = time.monotonic() + 20
        while any(one["api_calls"] for one in team.run("sync", "--provider", "sendgrid").values()):
            assert time.monotonic() < deadline
    finally:
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=30)
    assert link.rpartition("/")[2] not in out + err
    assert "ada@" not in out + err
    assert team.run("ledger", "verify")["ok"]


def test_a_sync_is_planned_repaired_and_never_repeated(shell: tuple[Shell, dict[str, Simulator]]) -> None:
    """What `--dry-run` announces is what travels; what somebody changed by hand `--full` finds and puts right."""
    team, esps = shell
    team.run("import", str(team.folder / "consents.csv"))
    planned = team.run("sync", "--dry-run")
    assert all(simulator.calls == 0 for simulator in esps.values())
    done = team.run("sync")
    for name in esps:
        assert (planned[name]["added"], planned[name]["removed"]) == (done[name]["added"], done[name]["removed"])
        assert 0 < planned[name]["minimum_calls"] == done[name]["minimum_calls"] <= done[name]["api_calls"]
    mailchimp = esps["mailchimp"]
    assert isinstance(mailchimp, MailchimpSimulator)
    for segment in mailchimp.audience.segments.values():
        segment.members.clear()
    assert all(one["confirmed"] == 0 for one in team.run("sync").values())
    repaired = team.run("sync", "--full")
    assert (repaired["mailchimp"]["drifted"], repaired["mailchimp"]["confirmed"]) == (3, 3)
    assert (repaired["sendgrid"]["drifted"], repaired["ses"]["drifted"]) == (0, 0)
    with pytest.raises(SystemExit) as refused:
        run(["sync", "--full", "--dry-run", "--config", str(team.folder / "pixelproof.toml")])
    assert refused.value.code == 2


def test_webhooks_are_installed_rotated_and_removed(shell: tuple[Shell, dict[str, Simulator]]) -> None:
    """Against a served installation: both keys are kept, the doctor sees them, and nothing else stands there."""
    team, esps = shell
    server = team.start("serve", "--port", str(team.port))
    try:
        _await(team.port)
        for name in esps:
            installed = team.run("webhooks", "install", "--provider", name)
            assert installed["kept"] or installed["notes"]
            rotated = team.run("webhooks", "rotate", "--provider", name)
            listed = {hook["url"] for hook in team.run("webhooks", "list", "--provider", name)["webhooks"]}
            assert {installed["url"], rotated["url"]} <= listed
            if name != "ses":  # SNS keeps a subscription that was not confirmed yet
                assert team.run("webhooks", "remove", "--provider", name, "--url", rotated["url"])["removed"]
        env = (team.folder / ".env").read_text("utf-8")
    finally:
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=30)
    assert (team.folder / ".env").stat().st_mode & 0o777 == 0o600
    for variable in ("SENDGRID_WEBHOOK_PUBLIC_KEYS", "MAILCHIMP_WEBHOOK_SECRETS", "SES_TOPIC_ARNS"):
        (value,) = re.findall(rf"(?m)^{variable}=(.+)$", env)
        assert not any(part in out + err for part in value.split(",") if variable != "SES_TOPIC_ARNS")


def test_the_doctor_names_what_is_wrong_and_its_remedy(shell: tuple[Shell, dict[str, Simulator]]) -> None:
    """Without webhooks a withdrawal would be lost: an error, for each ESP, and exit 1; no call changes anything."""
    team, esps = shell
    team.run("import", str(team.folder / "consents.csv"))
    findings = team.run("doctor", code=1)["findings"]
    assert all(finding.keys() == {"provider", "severity", "setting", "message", "remedy"} for finding in findings)
    errors = {finding["provider"] for finding in findings if finding["severity"] == "error"}
    assert errors >= {"pixelproof", *esps}
    assert not any("@" in finding["message"] for finding in findings)
    assert [f["severity"] for f in findings] == sorted(
        (f["severity"] for f in findings), key=["error", "warning", "note"].index
    )
    only = team.run("doctor", "--provider", "ses", code=1)["findings"]
    assert {finding["provider"] for finding in only} == {"pixelproof", "ses"}


def test_a_person_is_erased_everywhere(shell: tuple[Shell, dict[str, Simulator]]) -> None:
    """At all ESPs and here; the ledger keeps its nameless proof."""
    team, esps = shell
    team.run("import", str(team.folder / "consents.csv"))
    team.run("sync")
    erased = team.run("erase", "Ada@example.com")
    assert erased["complete"]
    assert erased["providers"] == dict.fromkeys(esps, "erased")
    assert team.run("status", "ada@example.com")["purposes"]["performance"]["state"] == "withdrawn"
    assert all(one["desired"] == 2 for one in team.run("sync", "--full").values())
    assert b"ada@example" not in (team.folder / "data" / "addresses.sqlite3").read_bytes()
    assert team.run("ledger", "verify")["ok"]


def test_opens_are_polled_and_a_release_is_followed(shell: tuple[Shell, dict[str, Simulator]]) -> None:
    """Mailchimp's opens come by `poll`; `campaigns status` tells how far a release came."""
    team, esps = shell
    team.run("import", str(team.folder / "consents.csv"))
    team.run("sync")
    file = team.campaign("mailchimp")
    applied = team.run("campaigns", "apply", file)
    before = team.run("campaigns", "status", "news-mailchimp")
    assert (before["sent"], before["parts"], before["snapshot_sha256"]) == (False, {}, applied["snapshot_sha256"])
    team.run("campaigns", "send", file)
    assert team.run("campaigns", "status", "news-mailchimp")["parts"] == {"tracked": "done", "untracked": "done"}
    assert "not in doubt" in team.run("campaigns", "settle", "news-mailchimp", "tracked", "--sent", code=1)["error"]
    (mail,) = [m for m in esps["mailchimp"].mailroom.page(None, 0) if m.address == "ada@example.com"]
    httpx.get(f"{esps['mailchimp'].base_url}/open/{mail.id}.gif").raise_for_status()
    polled = team.run("poll")
    assert polled == {"mailchimp": {"campaigns": 1, "effects": {"opens_recorded": 1}}}
    assert team.run("poll")["mailchimp"]["effects"] == {"duplicates": 1}


def _await(port: int) -> None:
    for _ in range(200):
        try:
            assert httpx.get(f"http://127.0.0.1:{port}/healthz").json() == {"status": "ok"}
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the server did not come up")
