"""A team's installation, served over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.setup import fresh_keys
from connectors.simulators.serving import listen, served, url_of
from core import logs
from tests.at_sendgrid import AtSendGrid, installed
from tests.installation import Team
from webhooks.app import create_app
from webhooks.assembly import Services


@pytest.fixture
def logged() -> Iterator[None]:
    """What the product logs goes to stderr, as `pixelproof serve` has it."""
    logger = logging.getLogger(logs.ROOT)
    before = logger.handlers, logger.level
    logs.to_stderr()
    yield
    logger.handlers, logger.level = before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with keys; settings are written once the address is known."""
    (tmp_path / ".env").write_text(fresh_keys(), "utf-8")
    return tmp_path


@pytest.fixture
def team(folder: Path) -> Iterator[Team]:
    """The installation, served."""
    listener = listen()
    (folder / "pixelproof.toml").write_text(
        f'base_url = "{url_of(listener)}"\npurposes = ["performance", "deliverability", "personalisation"]\n'
        'personalisation_options = ["content"]\n[sender]\nname = "Marché des Lices"\ncontact = "privacy desk"\n',
        "utf-8",
    )
    with (
        Services.from_file(folder / "pixelproof.toml") as services,
        served(create_app(services), listener=listener) as url,
    ):
        team = Team(services, url)
        yield team
        team.client.close()


@pytest.fixture
def at_sendgrid(folder: Path) -> Iterator[AtSendGrid]:
    """An installation with a webhook at the simulated SendGrid; three opens that should not be make an incident."""
    with installed(folder, "incident_threshold = 3") as served_one:
        yield served_one
