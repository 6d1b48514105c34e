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
    assert all(
        (one["desired"], one["confirmed"], one["added"], one["rejected"]) == (3, 3, 2, 0) for one in synced.values()
    )
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


def _await(port: int) -> None:
    for _ in range(200):
        try:
            assert httpx.get(f"http://127.0.0.1:{port}/healthz").json() == {"status": "ok"}
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the server did not come up")
