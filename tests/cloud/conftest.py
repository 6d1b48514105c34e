"""The deployed stack, once for all tests of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.demo.files import add_secrets, write_settings
from cli.setup import fresh_keys
from connectors.simulators.mailchimp import MailchimpSimulator
from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import simulated
from core.settings import load_secrets
from tests.callback_desk import SECRETS
from tests.cloud.stack import Stack, build, deploy, ministack_program, running
from tests.contract.conftest import ground, servers
from tests.terraform_module import module

__all__ = ["ground", "servers"]  # fixtures of others that these tests take

PARTNER = '\n[[partners]]\nname = "Leads Ltd"\ncontrollers = ["Marché des Lices"]\n'
STORE = '\n[store]\nkind = "dynamodb"\ntables = "${tables}"\nbucket = "${bucket}"\n'


@pytest.fixture(scope="session")
def sendgrid() -> Iterator[SendGridSimulator]:
    """A simulated SendGrid, whose API key the team holds."""
    simulator = SendGridSimulator()
    with simulated(simulator):
        yield simulator


@pytest.fixture(scope="session")
def mailchimp() -> Iterator[MailchimpSimulator]:
    """A simulated Mailchimp, whose API key the team holds."""
    simulator = MailchimpSimulator()
    with simulated(simulator):
        yield simulator


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory, sendgrid: SendGridSimulator, mailchimp: MailchimpSimulator
) -> Iterator[Stack]:
    """The minimal example, applied; settings and secrets are those of a team with two ESPs and a partner."""
    program, python = ministack_program()
    terraform = module(tmp_path_factory.mktemp("module")).example("minimal")
    folder = tmp_path_factory.mktemp("operator")
    build(python)
    account = mailchimp.account(purposes=("performance",), subject="", html="")
    sections = {"sendgrid": {"api_url": sendgrid.base_url}, "mailchimp": account.settings}
    template = write_settings(folder, "${base_url}", sections).read_text("utf-8") + PARTNER + STORE
    (folder / ".env").write_text(fresh_keys(), "utf-8")
    add_secrets(folder, {**SECRETS, "SENDGRID_API_KEY": sendgrid.api_key, **account.secrets})
    with running(program, tmp_path_factory.mktemp("aws")) as aws, pytest.MonkeyPatch.context() as patch:
        for name, value in aws.environment.items():
            patch.setenv(name, value)
        made = deploy(Stack(aws, terraform, folder), template, python)
        _configure(made, folder)
        yield made
        made.close()


def _configure(made: Stack, folder: Path) -> None:
    """Fill the secret, as the operator does by hand; keep the settings, as the functions read them."""
    env = (folder / ".env").read_text("utf-8")
    names = {line.partition("=")[0] for line in env.splitlines() if "=" in line and not line.startswith("#")}
    held = {name: value for name, value in load_secrets(folder).values.items() if name in names}
    made.clients["secretsmanager"].put_secret_value(SecretId=made.said["secrets_arn"], SecretString=json.dumps(held))
    parameter = made.clients["ssm"].get_parameter(Name=made.said["settings_location"].removeprefix("ssm:"))
    (folder / "pixelproof.toml").write_text(parameter["Parameter"]["Value"], "utf-8")
