"""Our import names are generic: nothing else that is installed may bring them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("core", "connectors", "webhooks", "cli")


def foreign(installed: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The distributions other than ours that bring one of our names."""
    found = {name: sorted({*installed.get(name, [])} - {"pixelproof"}) for name in NAMES}
    return {name: others for name, others in found.items() if others}


def test_no_other_distribution_brings_our_names() -> None:
    """No other installed distribution has a top-level package called like one of ours."""
    assert foreign(packages_distributions()) == {}


def test_a_foreign_package_would_be_noticed() -> None:
    """The guard sees a distribution that brings one of the names."""
    assert foreign({"core": ["pixelproof", "other"], "cli": ["pixelproof"]}) == {"core": ["other"]}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_imported_from_here(name: str) -> None:
    """What is imported under our names is this project."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(ROOT)


def test_requirements_name_no_registry() -> None:
    """The locked requirements hold hashes and no address."""
    for file in (ROOT / "requirements").glob("*.txt"):
        text = file.read_text("utf-8")
        assert "--hash=sha256:" in text
        assert "://" not in text
        assert "--index" not in text
