"""``pixelproof init``: a commented settings file and fresh keys."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from cli.output import Json, emit
from core.errors import SettingsError
from core.settings import DEFAULT_FILE, KEY_BYTES
from core.tokens import KEY_BYTES as TOKEN_KEY_BYTES

Folder = Annotated[Path, typer.Option("--dir", help="Where to write them.", file_okay=False)]


def init(folder: Folder = Path(), as_json: Json = False) -> None:
    """Write a commented pixelproof.toml and a .env with fresh keys. Overwrites nothing."""
    settings, env = folder / DEFAULT_FILE, folder / ".env"
    for file in (settings, env):
        if file.exists():
            raise SettingsError(f"{file.name}: is there already; move it away first if you want a new one")
    folder.mkdir(parents=True, exist_ok=True)
    create(env, fresh_keys(), mode=0o600)
    create(settings, template("pixelproof.toml"), mode=0o644)
    written = [str(env), str(settings)]
    emit(
        {"written": written},
        as_json=as_json,
        show=lambda console: console.print(
            f"Written: {', '.join(written)}\nNext: fill in \\[sender] and one \\[providers.…] section, then"
            " `pixelproof import FILE.csv`.\nKeep .env safe: without its keys no link, no pixel and no ledger"
            " entry can be recognised again."
        ),
    )


def fresh_keys(random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """The text of a ``.env`` file with new random keys."""
    keys = {
        "RECIPIENT_KEY": random_bytes(KEY_BYTES).hex(),
        "TOKEN_KEYS": f"1:{random_bytes(TOKEN_KEY_BYTES).hex()}",
        "LEDGER_KEY": random_bytes(KEY_BYTES).hex(),
        "NOTARY_KEYS": f":1:{random_bytes(KEY_BYTES).hex()}",
    }
    text = template("env")
    for name, key in keys.items():
        text = text.replace(f"<{name}>", key)
    return text


def template(name: str) -> str:
    """The text of one of the files that ``init`` writes."""
    return (resources.files("cli") / "templates" / name).read_text("utf-8")


def create(path: Path, text: str, *, mode: int) -> None:
    """Write a new file of that mode; raises SettingsError when it is there already or cannot be written."""
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SettingsError(f"{path.name}: {error.strerror}") from None
