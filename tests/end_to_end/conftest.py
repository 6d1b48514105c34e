"""A team's installation, served over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.setup import fresh_keys
from connectors.simulators.serving import listen, served, url_of
from tests.installation import Team
from webhooks.app import create_app
from webhooks.assembly import Services


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
