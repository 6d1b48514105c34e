"""``pixelproof webhooks list|install|rotate|remove``: the callbacks, set up at the ESP, and their keys kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, cast

import typer
from dotenv import dotenv_values, set_key
from rich.console import Console
from rich.markup import escape

from cli.output import FINDINGS, Config, Json, emit, say, services, table
from connectors import provider as provider_of
from core.account import Installed
from core.errors import SettingsError
from core.ports import Capability, InstallsWebhooks
from core.settings import settings_path
from webhooks.assembly import Services

app = typer.Typer(no_args_is_help=True, help="Set the ESPs' callbacks up, change their keys, remove them.")

Provider = Annotated[str, typer.Option("--provider", help="The ESP.")]
Url = Annotated[
    str | None,
    typer.Option("--url", help="Where callbacks arrive (<base_url>/webhooks/<provider>).", show_default=False),
]
GivenUrl = Annotated[str, typer.Option("--url", help="The webhook's URL, as `webhooks list` shows it.")]


@app.command(name="list")
def list_(provider: Provider, config: Config = None, as_json: Json = False) -> None:
    """The webhooks that stand at the ESP. Their URLs may hold a secret."""
    with services(config) as s:
        found = _installer(s, provider).webhooks()
    result = {"webhooks": [{"url": w.url, "enabled": w.enabled, "signed": w.signed} for w in found]}

    def show(console: Console) -> None:
        shown = table(f"Webhooks at {provider}", "url", "enabled", "signed")
        for webhook in found:
            shown.add_row(escape(webhook.url), str(webhook.enabled).lower(), str(webhook.signed).lower())
        console.print(shown)

    emit(result, as_json=as_json, show=show)


@app.command()
def install(provider: Provider, url: Url = None, config: Config = None, as_json: Json = False) -> None:
    """Make a signed webhook there, and keep its key in .env. May be run again."""
    with services(config) as s:
        made = _installer(s, provider).install_webhook(url or s.webhook_url(provider))
    _conclude(provider, made, config, as_json=as_json)


@app.command()
def rotate(provider: Provider, url: Url = None, config: Config = None, as_json: Json = False) -> None:
    """Make a second webhook with a new key beside the first; both are valid until the first is removed."""
    with services(config) as s:
        made = _installer(s, provider).rotate_webhook(url or s.webhook_url(provider))
    _conclude(provider, made, config, as_json=as_json)


@app.command()
def remove(provider: Provider, url: GivenUrl, config: Config = None, as_json: Json = False) -> None:
    """Remove a webhook there. Its key stays in .env: callbacks that are under way are still taken."""
    with services(config) as s:
        gone = _installer(s, provider).remove_webhook(url)
    words = "removed" if gone else "there was none of that URL"
    emit({"removed": gone}, as_json=as_json, show=lambda console: console.print(f"{provider}: {words}"))
    if not gone:
        raise typer.Exit(FINDINGS)


def keep(folder: Path, values: dict[str, str]) -> list[str]:
    """Add each value to the comma-separated list under its name in .env; answers the names that changed.

    Raises:
        SettingsError: the file cannot be written.
    """
    file, changed = folder / ".env", []
    held = dotenv_values(file, interpolate=False) if file.exists() else {}
    for name, value in values.items():
        listed = [part.strip() for part in (held.get(name) or "").split(",") if part.strip()]
        if value in listed:
            continue
        try:
            if not file.exists():
                os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
            set_key(file, name, ",".join([*listed, value]), quote_mode="never")
            file.chmod(0o600)
        except OSError as error:
            raise SettingsError(f".env: {error.strerror}; {name} could not be kept, run this again") from None
        changed.append(name)
    return changed


def _installer(s: Services, provider: str) -> InstallsWebhooks:
    connector = s.connector(provider)
    if Capability.INSTALL_WEBHOOKS not in provider_of(provider).capabilities:
        raise SettingsError(f"providers.{provider}: this ESP's webhooks are set up by hand")
    return cast("InstallsWebhooks", connector)


def _conclude(provider: str, made: Installed, config: Path | None, *, as_json: bool) -> None:
    changed = keep(settings_path(config).parent, dict(made.keep))
    for name in sorted(made.keep.keys() & os.environ.keys()):
        say(f"{name} is set in the environment, which comes before .env: add the new value there too")
    result = {"provider": provider, "url": made.url, "kept": sorted(made.keep), "notes": list(made.notes)}

    def show(console: Console) -> None:
        console.print(f"{provider} posts to {escape(made.url)}", soft_wrap=True)
        if changed:
            console.print(
                f"Kept in .env: {', '.join(changed)}. Restart `pixelproof serve`, which reads it at its start."
            )
        for note in made.notes:
            console.print(f" - {escape(note)}", highlight=False)

    emit(result, as_json=as_json, show=show)
