"""Every ESP is one module that ends in PROVIDER, with a vector file; nothing else names it."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import connectors
from connectors import provider, providers
from core.errors import SettingsError
from core.ports import Provider

VECTORS = Path(__file__).parents[1] / "vectors"
COMMON = {"limits", "payloads", "retry", "simulators"}


def modules() -> list[str]:
    """The modules in connectors/ that must be providers."""
    return [info.name for info in pkgutil.iter_modules(connectors.__path__) if info.name not in COMMON]


@pytest.mark.parametrize("name", modules())
def test_a_module_is_a_provider_with_vectors(name: str) -> None:
    """A module in connectors/ ends in PROVIDER, is called like it, and has vectors."""
    found = provider(name)
    assert isinstance(found, Provider)
    assert found.name == name
    assert json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def test_no_vectors_without_a_provider() -> None:
    """A vector file belongs to a provider."""
    assert {file.stem for file in VECTORS.glob("*.json")} == set(providers())


def test_an_unknown_provider_is_named() -> None:
    """A provider that does not exist is an error of the settings that lists those that do."""
    with pytest.raises(SettingsError, match=r"providers\.other.*sendgrid"):
        provider("other")


def test_finding_providers_imports_no_sdk() -> None:
    """The callback path starts without the ESPs' SDKs and without the command line."""
    code = (
        "import sys, webhooks.app; from connectors import providers; providers();"
        "print(sorted({'boto3', 'botocore', 'sendgrid', 'mailchimp_marketing', 'duckdb', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    assert done.stdout.strip() == "[]"
