"""The demo's folder: settings, keys, the consents to import. Everything in it is made up."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cli.setup import fresh_keys
from core.errors import SettingsError
from core.importing import COLUMNS
from core.settings import DEFAULT_FILE

MARKER = ".pixelproof-demo"
PURPOSES = ("performance", "deliverability", "personalisation")
COLLECTED = datetime(2026, 1, 5, 9, tzinfo=UTC)
"""When the first of the imported consents was collected."""

# What people said, and how many of a hundred said so.
_SAYINGS: tuple[tuple[int, dict[str, str]], ...] = (
    (46, {"action": "given", "purposes": ";".join(PURPOSES), "source": "sign-up form", "notice": "2026-11"}),
    (6, {"action": "given", "purposes": "personalisation", "source": "sign-up form", "notice": "2026-11"}),
    (12, {"action": "refused", "purposes": ";".join(PURPOSES), "source": "sign-up form", "notice": "2026-11"}),
    (6, {"action": "given", "purposes": ";".join(PURPOSES), "source": "co-registration", "partner": "example-partner"}),
    (5, {"action": "withdrawn", "purposes": ";".join(PURPOSES), "source": "customer service"}),
    (25, {}),
)


def fresh_folder(folder: Path, chance: random.Random) -> None:
    """Make the demo's folder anew; raises SettingsError rather than touch a folder that is not a demo's.

    Its keys come from ``chance``, so that a seed tells the same story again: they guard made-up people alone.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise SettingsError(f"--data {folder}: is not a folder of an earlier demo; name another one")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    with os.fdopen(os.open(folder / ".env", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write(fresh_keys(chance.randbytes))
    write_settings(folder, "http://127.0.0.1:8080", {})


def write_settings(folder: Path, base_url: str, providers: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write the settings file, all of it or nothing; answers its path."""
    top = {
        "purposes": list(PURPOSES),
        "personalisation_options": ["content"],
        "base_url": base_url,
    }
    sender = {"name": "Marché des Lices", "contact": "privacy desk of Marché des Lices"}
    lines = [*_entries(top), "[sender]", *_entries(sender)]
    for name, role in (("Twilio SendGrid", "processor"), ("Intuit Mailchimp", "processor"), ("AWS", "processor")):
        lines += ["[[parties]]", *_entries({"name": name, "role": role})]
    for name, section in providers.items():
        lines += [f"[providers.{name}]", *_entries(section)]
    new, path = folder / "settings.new", folder / DEFAULT_FILE
    new.write_text("\n".join(lines) + "\n", "utf-8")
    new.replace(path)
    return path


def add_secrets(folder: Path, secrets: Mapping[str, str]) -> None:
    """Add the simulated ESPs' keys to the ``.env`` file."""
    with (folder / ".env").open("a", encoding="utf-8") as file:
        file.writelines(f"{name}='{value}'\n" for name, value in secrets.items())


def write_consents(path: Path, recipients: int, chance: random.Random) -> Path:
    """A consent file of that many made-up people; answers its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(_people(recipients, chance))
    return path


def _people(recipients: int, chance: random.Random) -> Iterator[dict[str, str]]:
    weights, sayings = zip(*_SAYINGS, strict=True)
    for number in range(recipients):
        said = dict(chance.choices(sayings, weights)[0])
        if said:
            said["occurred_at"] = (COLLECTED + timedelta(minutes=number)).isoformat()
        yield {"address": f"person{number:06}@example.com", "locale": chance.choice(("fr", "en")), **said}


def _entries(values: Mapping[str, Any]) -> list[str]:
    """TOML of plain values: for strings, numbers, booleans and lists of them it is written as JSON is."""
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value is not None]
