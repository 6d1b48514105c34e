"""An installation with Mailchimp, served, for the contract tests that end in the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connectors.simulators.serving import listen, served, url_of
from core.model import PurposeId
from core.settings import Secrets, Sender, Settings
from tests.installation import Team
from webhooks.app import create_app
from webhooks.assembly import Services

KEYS = {
    "PIXELPROOF_LEDGER_KEY": "11" * 32,
    "PIXELPROOF_RECIPIENT_KEY": "22" * 32,
    "PIXELPROOF_TOKEN_KEYS": f"1:{'33' * 64}",
}


@contextmanager
def installed(
    folder: Path,
    section: Mapping[str, Any],
    secrets: Mapping[str, str],
    topics: Mapping[str, tuple[PurposeId, ...]] | None = None,
) -> Iterator[Team]:
    """A team that uses Mailchimp, with these settings and secrets; its stores stay in the folder."""
    listener = listen()
    settings = Settings(
        sender=Sender(name="Example"),
        base_url=url_of(listener),
        purposes=(PurposeId("performance"), PurposeId("personalisation")),
        personalisation_options=("content",),
        topics=dict(topics or {}),
        providers={"mailchimp": dict(section)},
    )
    with (
        Services(settings, Secrets({**KEYS, **secrets}), folder) as services,
        served(create_app(services), listener=listener) as url,
    ):
        team = Team(services, url)
        yield team
        team.client.close()
