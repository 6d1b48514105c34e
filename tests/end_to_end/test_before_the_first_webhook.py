"""An installation that has no key of an ESP's callbacks yet: it is served, because the ESP asks before it gives one."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from connectors.simulators.serving import served
from core.errors import SettingsError
from core.model import PurposeId
from core.settings import Secrets, Sender, Settings
from webhooks.app import create_app
from webhooks.assembly import Services

KEYS = {
    "PIXELPROOF_LEDGER_KEY": "11" * 32,
    "PIXELPROOF_RECIPIENT_KEY": "22" * 32,
    "PIXELPROOF_TOKEN_KEYS": f"1:{'33' * 64}",
}
PROVIDERS: dict[str, dict[str, object]] = {
    "sendgrid": {},
    "mailchimp": {"list_id": "abc123"},
    "ses": {"region": "eu-west-3"},
}


def services(folder: Path, providers: dict[str, dict[str, object]]) -> Services:
    """An installation without any secret of an ESP."""
    settings = Settings(
        sender=Sender(name="Example"),
        base_url="https://choices.example.com",
        purposes=(PurposeId("performance"),),
        providers=providers,
    )
    return Services(settings, Secrets(KEYS), folder)


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_an_address_without_a_key_answers_and_takes_nothing(tmp_path: Path, name: str) -> None:
    """GET is answered 200; a callback that nobody could verify 503, so that it is sent again."""
    with services(tmp_path, {name: PROVIDERS[name]}) as built, served(create_app(built)) as url:
        assert httpx.get(f"{url}/webhooks/{name}").status_code == 200
        assert httpx.post(f"{url}/webhooks/{name}", content=b"[]").status_code == 503
        assert built.store.size() == 0


def test_a_key_that_cannot_be_one_is_an_error_at_once(tmp_path: Path) -> None:
    """Only a key that is missing is waited for; a wrong one is told before anything is served."""
    with (
        services(tmp_path, {"sendgrid": {"webhook_public_keys": ["wrong"]}}) as built,
        pytest.raises(SettingsError, match="webhook_public_keys"),
    ):
        create_app(built)
