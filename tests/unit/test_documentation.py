"""What the README and the settings template say is what the code does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import typer.main

from cli.main import app
from cli.setup import template
from connectors import provider, providers
from core import settings as core_settings
from core.importing import COLUMNS
from core.incidents import IncidentKind
from core.settings import CampaignFile, Settings, load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
ON_AWS = {name: (ROOT / "docs" / name).read_text("utf-8") for name in ("deploy.md", "operations.md")}
TERRAFORM = {file.name: file.read_text("utf-8") for file in (ROOT / "terraform").glob("*.tf")}


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


def code(text: str) -> Iterator[str]:
    """Each line of a page's blocks of code, and each piece of code within its sentences."""
    parts = text.split("```")
    for block in parts[1::2]:
        yield from block.replace("\\\n", " ").split("\n")
    for prose in parts[::2]:
        yield from (" ".join(each.split()) for each in re.findall(r"`([^`]+)`", prose))


def options(command: str) -> set[str]:
    """The options that a command takes."""
    found: object = typer.main.get_command(app)
    for word in command.split():
        found = vars(found)["commands"][word]
    return {name for each in vars(found)["params"] for name in (*each.opts, *each.secondary_opts)}


def alarms() -> Iterator[str]:
    """The names of the alarms of terraform/, without the deployment's own."""
    named = {
        "functions)": re.findall(r"(?m)^    (\w+) = \{\n      description", TERRAFORM["functions.tf"]),
        "queues)": re.findall(r"(\w+) += \{ function = ", TERRAFORM["queues.tf"]),
    }
    named["dead_letter_queues"] = [*named["queues)"], "stream", "tasks"]
    for over, prefix in re.findall(r"for name in (?:keys\()?local\.(\S+) : \"([a-z-]+)\$", TERRAFORM["alarms.tf"]):
        yield from (f"{prefix}{name}" for name in named[over])
    yield from re.findall(r"(?m)^      ([a-z][\w-]+) = \{\n        about", TERRAFORM["alarms.tf"])
    yield from re.findall(r"alarm_name += \"\$\{var\.name\}-([a-z-]+)\"", TERRAFORM["alarms.tf"])


def slugs(file: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", file.read_text("utf-8"))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_alarm_has_its_remedy_and_no_other() -> None:
    """The page for those on call has a heading for each alarm, and tells what it means, where to look, what to do."""
    sections = re.findall(r"(?ms)^### (`.+?)\n(.+?)(?=^##)", ON_AWS["operations.md"])
    told = [name for heading, _ in sections for name in re.findall(r"`([^`]+)`", heading)]
    assert sorted(told) == sorted(alarms())
    assert len(told) > 20
    assert all("**Means**" in text and "**Look**" in text and "**Do**" in text for _, text in sections)


@pytest.mark.parametrize("page", ON_AWS)
def test_the_pages_about_aws_name_commands_that_exist(page: str) -> None:
    """Whatever they show to be typed exists, with its options."""
    known = sorted(commands(), key=len, reverse=True)
    typed = [each for line in code(ON_AWS[page]) for each in re.findall(r"\bpixelproof ([a-z].*)", line)]
    assert len(typed) > 20
    for line in typed:
        command = next((each for each in known if f"{line} ".startswith(f"{each} ")), None)
        assert command is not None, line
        assert set(re.findall(r"(?<!\S)--?[a-z-]+", line.split("#")[0])) <= options(command), line


@pytest.mark.parametrize("page", ON_AWS)
def test_the_pages_about_aws_name_variables_and_settings_that_exist(page: str) -> None:
    """Environment variables, settings, and the module's inputs and outputs."""
    ours = "".join(
        file.read_text("utf-8") for part in ("core", "connectors", "webhooks") for file in (ROOT / part).rglob("*.py")
    )
    variables = set(re.findall(r"\b(?:PIXELPROOF|SENDGRID|MAILCHIMP|MANDRILL|SES|AWS)_[A-Z_]+\b", ON_AWS[page]))
    assert {name for name in variables if f'"{name}"' not in ours} == set()
    structs = [each for each in vars(core_settings).values() if isinstance(each, type)]
    structs += [provider(name).settings for name in providers()]
    fields = {field for each in structs for field in getattr(each, "__struct_fields__", ())}
    module = {name for text in TERRAFORM.values() for name in re.findall(r'(?:variable|output) "(\w+)"', text)}
    others = {"open_tracking", "enable_key_rotation", *IncidentKind}  # of SendGrid's requests; of a key of AWS
    prose = "".join(ON_AWS[page].split("```")[::2])
    assert set(re.findall(r"`([a-z]+(?:_[a-z]+)+)(?: = [^`]*)?`", prose)) <= fields | module | others


def test_the_settings_and_the_module_of_the_deployment_page_can_be_used(tmp_path: Path) -> None:
    """Its settings can be loaded, for all three ESPs, and its root module names inputs of the module alone."""
    block, module = (re.search(rf"```{kind}\n(.*?)```", ON_AWS["deploy.md"], re.DOTALL) for kind in ("toml", "hcl"))
    assert block is not None
    assert module is not None
    (tmp_path / "pixelproof.toml").write_text(block[1], "utf-8")
    sections = load(tmp_path / "pixelproof.toml").providers
    assert sections.keys() == providers().keys()
    for name, section in sections.items():
        msgspec.convert(section, provider(name).settings)
    inputs = set(re.findall(r'variable "(\w+)"', TERRAFORM["variables.tf"]))
    assert set(re.findall(r"(?m)^  (\w+) += ", module[1])) - {"source"} <= inputs


@pytest.mark.parametrize("page", ON_AWS)
def test_the_links_of_the_pages_about_aws_lead_somewhere(page: str) -> None:
    """To files of the project, and to headings that are there."""
    links = re.findall(r"\]\(([^)\s]+)\)", ON_AWS[page])
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        file = (ROOT / "docs" / (name or page)).resolve()
        assert file.exists(), link
        assert not anchor or anchor in slugs(file), link


def test_the_metrics_are_those_that_functions_write() -> None:
    """The page for those on call names each metric of the product, and no other."""
    row = re.search(r"(?m)^\| metrics of the product \|(.*)$", ON_AWS["operations.md"])
    assert row is not None
    trees = [ast.parse(file.read_text("utf-8")) for file in (ROOT / "webhooks" / "aws").glob("*.py")]
    calls = [each for tree in trees for each in ast.walk(tree) if isinstance(each, ast.Call)]
    counted = [each for each in calls if isinstance(each.func, ast.Name) and each.func.id == "count"]
    written = {word.arg for each in counted for word in each.keywords}
    assert set(re.findall(r"`([A-Z]\w+)`", row[1])) == written
