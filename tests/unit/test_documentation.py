"""What the README and the settings template say is what the code does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import typer.main

from cli.main import app
from cli.setup import template
from connectors import provider, providers
from core.importing import COLUMNS
from core.settings import CampaignFile, Settings, load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def commands() -> Iterator[str]:
    """Every command of the command line, groups spelt out."""
    waiting: list[tuple[str, object]] = [("", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        inner = vars(command).get("commands")
        if inner:
            waiting += [(f"{name} {sub}".strip(), each) for sub, each in inner.items()]
        if not inner or vars(command).get("invoke_without_command"):
            yield name


@pytest.mark.parametrize("command", list(commands()))
def test_every_command_is_in_the_readme(command: str) -> None:
    """The README tells of every command."""
    assert re.search(rf"\bpixelproof {command}\b|make {command}\b", README)


def test_the_readme_names_no_other_commands() -> None:
    """What the README shows to be typed exists."""
    typed = {match[1] for match in re.finditer(r"bin/pixelproof (\w[\w-]*(?: \w[\w-]*)*)", README)}
    known = set(commands())
    assert {words for words in typed if not any(f"{words} ".startswith(f"{command} ") for command in known)} == set()
    assert {"campaigns settle spring-2026 tracked-000002", "callbacks dead list"} <= typed


def test_the_first_two_commands_do_everything() -> None:
    """A reader who types the first two commands has run the demo and the tests."""
    block = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    assert block[1].split("\n")[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("column", COLUMNS)
def test_every_import_column_is_in_the_readme(column: str) -> None:
    """The README tells of every column of an import."""
    assert f"`{column}`" in README


def test_the_readme_campaign_is_one() -> None:
    """The campaign that the README shows can be read."""
    block = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert block is not None
    campaign = msgspec.toml.decode(block[1], type=CampaignFile).campaign()
    assert campaign.id == "spring-2026"


def test_the_settings_template_can_be_loaded(tmp_path: Path) -> None:
    """What `init` writes is a valid settings file."""
    (tmp_path / "pixelproof.toml").write_text(template("pixelproof.toml"), "utf-8")
    assert load(tmp_path / "pixelproof.toml").policy == "cnil-2025-draft"


def test_the_settings_template_with_all_examples_can_be_loaded(tmp_path: Path) -> None:
    """Taking the comment signs away from every example leaves a valid settings file that knows all three ESPs."""
    text = re.sub(r"(?m)^#(?=[\w\[\"])", "", template("pixelproof.toml"))
    (tmp_path / "pixelproof.toml").write_text(text, "utf-8")
    sections = load(tmp_path / "pixelproof.toml").providers
    assert sections.keys() == providers().keys()
    for name, section in sections.items():
        msgspec.convert(section, provider(name).settings)


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_every_setting_is_in_the_template(name: str) -> None:
    """The template that `init` writes tells of every setting."""
    assert re.search(rf"(?m)^#?(\[+)?{name}\b", template("pixelproof.toml"))
