"""The Terraform module, run without AWS: in a copy, with a provider that lies on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MODULE = Path(__file__).parents[1] / "terraform"
PLUGINS_VARIABLE = "PIXELPROOF_TERRAFORM_PLUGINS"
"""Names a folder of providers, as ``terraform providers mirror`` makes it."""

_PROVIDER = "*/hashicorp/aws/*/*/terraform-provider-aws*"
_USUAL = (
    Path.home() / ".terraform.d/plugins",
    Path("/usr/local/share/terraform/plugins"),
    Path("/usr/share/terraform"),
)
_NEVER_COPIED = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfplan", "__pycache__")


@dataclass(frozen=True, slots=True)
class Terraform:
    """Terraform over one folder.

    Attributes:
        program: Terraform.
        plugins: The folder of providers.
        folder: A copy of the module, or an example in it.
    """

    program: str
    plugins: Path
    folder: Path

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command; nothing of this machine's own configuration counts, and nobody is asked for newer versions."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return subprocess.run(  # noqa: S603 - a test's own words
            [self.program, *words],
            cwd=self.folder,
            env={**kept, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def prepare(self) -> None:
        """Make the provider known to the folder; it comes from this machine alone."""
        done = self.run("init", "-no-color", "-input=false", "-backend=false", f"-plugin-dir={self.plugins}")
        assert done.returncode == 0, done.stderr

    def example(self, name: str) -> Terraform:
        """One of the examples, prepared."""
        example = Terraform(self.program, self.plugins, self.folder / "examples" / name)
        example.prepare()
        return example

    def planned(self, run: str, variables: str) -> Iterator[dict[str, Any]]:
        """What a plan would make, with the provider mocked: each resource's change, as Terraform's JSON tells it."""
        test = self.folder / "tests" / "planned.tftest.hcl"
        test.write_text(
            f'mock_provider "aws" {{\n  source = "./tests/mocks"\n}}\n\n'
            f'run "{run}" {{\n  command = plan\n\n  variables {{\n{variables}\n  }}\n}}\n',
            "utf-8",
        )
        done = self.run("test", "-json", "-verbose", "-filter=tests/planned.tftest.hcl")
        test.unlink()
        assert done.returncode == 0, done.stdout
        for line in done.stdout.splitlines():
            yield from json.loads(line).get("test_plan", {}).get("resource_changes", ())


def module(tmp_path: Path) -> Terraform:
    """Terraform over a copy of the module, prepared; skips the test where Terraform or its provider is missing."""
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("terraform is not installed")
    plugins = _plugins()
    if plugins is None:
        pytest.skip(f"the AWS provider of Terraform is not on this machine: set {PLUGINS_VARIABLE} to a mirror of it")
    copy = tmp_path / "terraform"
    shutil.copytree(MODULE, copy, ignore=_NEVER_COPIED)
    terraform = Terraform(program, plugins, copy)
    terraform.prepare()
    return terraform


def _plugins() -> Path | None:
    """The folder of providers: the one that is named, else one that lies where such folders usually lie."""
    named = os.environ.get(PLUGINS_VARIABLE)
    usual = [*_USUAL, *sorted(each for each in Path("/opt").glob("*") if each.is_dir())]
    folders = [Path(named)] if named else usual
    return next((folder for folder in folders if any(folder.glob(_PROVIDER))), None)
