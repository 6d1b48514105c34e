"""``pixelproof keys create|list|rotate|revoke``: who may call the API, and what for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cli.output import Config, Json, emit, services, table
from core.api_keys import ApiKey, Scope

app = typer.Typer(no_args_is_help=True, help="The keys of the API: create, list, replace and end them.")

Name = Annotated[str, typer.Option("--name", help="What the key is for, such as 'sign-up form'.")]
Scopes = Annotated[list[Scope], typer.Option("--scope", help="What it may do; may be given several times.")]
Expires = Annotated[
    int | None, typer.Option("--expires-days", help="After how many days it ends by itself.", show_default="never")
]
Overlap = Annotated[int, typer.Option("--overlap-days", help="For how many days the old secret stays valid beside it.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `keys list` shows it.")]


@app.command()
def create(
    name: Name, scope: Scopes, expires_days: Expires = None, config: Config = None, as_json: Json = False
) -> None:
    """Make a key and print it: this once, for only a hash of it is kept. A running `serve` takes it at once."""
    with services(config) as s:
        lasts = timedelta(days=expires_days) if expires_days is not None else None
        key, text = s.api_keys.create(name, scope, lasts)
    _hand_over(key, text, as_json=as_json)


@app.command(name="list")
def list_(config: Config = None, as_json: Json = False) -> None:
    """All keys, with the day on which each was last used."""
    with services(config) as s:
        keys, now = s.key_store.listed(), s.now()
    result = {"keys": [_told(key) | {"state": _state(key, now)} for key in keys]}

    def show(console: Console) -> None:
        shown = table("API keys", "id", "name", "scopes", "state", "expires", "last used")
        for key in keys:
            expires, used = _day(key.expires_at), str(key.last_used or "")
            scopes = " ".join(sorted(key.scopes))
            shown.add_row(key.id, escape(key.name), scopes, _state(key, now), expires, used)
        console.print(shown)

    emit(result, as_json=as_json, show=show)


@app.command()
def rotate(id_: Id, overlap_days: Overlap = 7, config: Config = None, as_json: Json = False) -> None:
    """Make a new secret for a key and print it: this once. The old one ends after the overlap; 0 ends it at once."""
    with services(config) as s:
        key, text = s.api_keys.rotate(id_, timedelta(days=overlap_days))
    _hand_over(key, text, as_json=as_json)


@app.command()
def revoke(id_: Id, config: Config = None, as_json: Json = False) -> None:
    """End a key at once, for a running `serve` too."""
    with services(config) as s:
        key = s.api_keys.revoke(id_)
    emit(_told(key), as_json=as_json, show=lambda console: console.print(f"Revoked: {key.id}", highlight=False))


def _hand_over(key: ApiKey, text: str, *, as_json: bool) -> None:
    def show(console: Console) -> None:
        console.print(text, highlight=False, soft_wrap=True)
        console.print("Keep it now: it is not shown again. It goes into the header Authorization: Bearer …")

    emit({"key": text, **_told(key)}, as_json=as_json, show=show)


def _told(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created_at": _time(key.created_at),
        "expires_at": _time(key.expires_at),
        "revoked_at": _time(key.revoked_at),
        "last_used": key.last_used.isoformat() if key.last_used else None,
        "secrets": [{"created_at": _time(s.created_at), "expires_at": _time(s.expires_at)} for s in key.secrets],
    }


def _state(key: ApiKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.usable(now) else "expired"


def _time(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None


def _day(at: datetime | None) -> str:
    return at.date().isoformat() if at else ""
