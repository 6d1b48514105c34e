"""The build of the choices page: what was shown besides the notice's text, and which forms of it count."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.model import Party, Role
from tests.choices_in_memory import SETTINGS, ChoicesInMemory
from tests.pages_read import PAGE, PAGES, Tree, body, call, press, visit
from webhooks.page_build import is_manifest
from webhooks.pages import HERE, Pages


@pytest.fixture
def choices() -> ChoicesInMemory:
    """One recipient who has said nothing yet."""
    return ChoicesInMemory()


def test_a_build_is_named_by_its_manifest() -> None:
    """The digest is that of the manifest, which names every part with its digest; the page shows and forms quote it."""
    lines = dict(line.split("  ")[::-1] for line in PAGES.build.manifest.splitlines())
    assert PAGES.build.digest == hashlib.sha256(PAGES.build.manifest.encode()).hexdigest()
    for name in (
        "webhooks/templates/base.html",
        "webhooks/templates/choices.html",
        "webhooks/static/page.css",
        "webhooks/locales/fr/LC_MESSAGES/messages.po",
        "core/notice_texts/2026-11.en.toml",
    ):
        assert lines[name] == hashlib.sha256((HERE.parent / name).read_bytes()).hexdigest()
    assert {"settings", "page.en.html", "page.fr.html"} < lines.keys()
    tree = Tree(body(PAGES.choices("en", visit())))
    assert PAGES.build.digest[:12] in tree.text
    assert len(tree.all("input", name="build", value=PAGES.build.digest)) == 2
    assert is_manifest(PAGES.build.manifest)
    assert not is_manifest(PAGES.notice("en").text)


def test_every_page_names_its_build() -> None:
    """So does the one of somebody without an address who has not answered, of whose page the build is made."""
    for whose in (visit(), visit(address=None)):
        forms = Tree(body(PAGES.choices("en", whose))).all("input", name="build")
        assert [form["value"] for form in forms] == [PAGES.build.digest] * 2


def test_the_same_page_is_the_same_build() -> None:
    """Two processes of one release agree on the build."""
    assert Pages(SETTINGS).build == PAGES.build


@pytest.mark.parametrize(
    "change",
    [
        {"accent": "#2f5f8b"},
        {"retention_months": 12},
        {"default_language": "fr"},
        {"logo_url": "data:image/png;base64,iVBORw0KGgo="},
        {"sender": Party("Librairie du Port", Role.CONTROLLER)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_settings_are_another_build(change: dict[str, Any]) -> None:
    """Whatever shows on the page is part of its build."""
    assert Pages(replace(SETTINGS, **change)).build.digest != PAGES.build.digest


def test_another_template_is_another_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One altered word of a template, of which the notice's text knows nothing, is another build."""
    for folder in ("templates", "static"):
        shutil.copytree(HERE / folder, tmp_path / folder)
    template = tmp_path / "templates" / "choices.html"
    template.write_text(template.read_text("utf-8").replace('class="pair"', 'class="pairs"'), "utf-8")
    monkeypatch.setattr("webhooks.pages.HERE", tmp_path)
    other = Pages(SETTINGS)
    assert other.build.digest != PAGES.build.digest
    assert other.notice("en") == PAGES.notice("en")


@pytest.mark.parametrize(
    ("build", "known", "status"),
    [("a" * 64, True, 303), ("a" * 64, False, 409), ("", False, 409), (None, False, 409)],
    ids=["known", "unknown", "empty", "none"],
)
@pytest.mark.parametrize("action", ["accept_all", "refuse_all", "save"])
def test_a_form_of_another_build_counts_when_that_build_is_known(
    choices: ChoicesInMemory, action: str, build: str | None, known: bool, status: int
) -> None:
    """The same text on a page that can be told is the same statement, and the ledger gets the build that was shown."""
    choices.builds = {build} if known and build else set()
    fields = {"lang": "en", "notice": PAGES.notice("en").sha256, "action": action, "seen": "7"}
    answer = call(choices, "POST", PAGE, data=fields if build is None else {**fields, "build": build})
    assert answer.status_code == status
    assert [notice.build for _given, _refused, notice, _text in choices.recorded] == ([build] if known else [])
    assert choices.seen == ([7] if known else [])


def test_withdrawing_from_an_unknown_build_counts(choices: ChoicesInMemory) -> None:
    """Only what cannot be told is left out: the withdrawal stands."""
    assert press(choices, "withdraw", build="b" * 64, seen="x").status_code == 303
    assert (choices.withdrawn, choices.seen) == ([None], [None])
