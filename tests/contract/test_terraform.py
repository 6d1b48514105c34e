"""The Terraform module: its form, its validations, what it plans, and what its README says of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terraform_module import MODULE, Terraform, module

FILES = sorted(each.relative_to(MODULE).as_posix() for each in MODULE.rglob("*.tf") if ".terraform" not in each.parts)
_EMPTY_REASON = re.compile(r"#\s*(?:checkov|tfsec|trivy|nag)\S*:(?:skip|ignore)=?\S*\s*$", re.MULTILINE)


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """A copy of the module, with the provider known."""
    return module(tmp_path_factory.mktemp("module"))


def documented(folder: Path) -> subprocess.CompletedProcess[str]:
    """Whether the README of a copy of the module is up to date."""
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, MODULE / "document.py", "--check", "--folder", folder],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_readme_tells_of_every_input_and_output() -> None:
    """The tables in the module's README are those that its variables and outputs give."""
    done = documented(MODULE)
    assert done.returncode == 0, done.stderr
    text = (MODULE / "README.md").read_text("utf-8")
    for name in ("variables.tf", "outputs.tf"):
        for found in re.findall(r'^(?:variable|output) "(\w+)"', (MODULE / name).read_text("utf-8"), re.MULTILINE):
            assert f"| `{found}` |" in text


@pytest.mark.parametrize("file", ["variables.tf", "outputs.tf", "README.md"])
def test_a_readme_that_drifted_is_noticed(file: str, tmp_path: Path) -> None:
    """Another word in a description, or in the README's own tables, is told."""
    copy = shutil.copytree(MODULE, tmp_path / "terraform", ignore=shutil.ignore_patterns(".terraform"))
    text = (copy / file).read_text("utf-8")
    (copy / file).write_text(text.replace("Where recipients", "Why recipients").replace("every resource's", "each"))
    assert documented(copy).returncode == 1


@pytest.mark.parametrize("file", FILES)
def test_every_suppression_has_its_reason(file: str) -> None:
    """Whatever a linter is told to leave out is explained where it is."""
    assert not _EMPTY_REASON.search((MODULE / file).read_text("utf-8"))


def test_every_validation_is_tried() -> None:
    """Each variable that is validated has at least as many tests as validations."""
    tried = re.findall(r"expect_failures = \[var\.(\w+)\]", (MODULE / "tests/validation.tftest.hcl").read_text("utf-8"))
    variables = re.split(r'^variable "', (MODULE / "variables.tf").read_text("utf-8"), flags=re.MULTILINE)[1:]
    lacking = {
        text.partition('"')[0]: text.count("validation {") - tried.count(text.partition('"')[0]) for text in variables
    }
    assert {name: missing for name, missing in lacking.items() if missing > 0} == {}


def test_every_variable_and_output_is_described_and_typed() -> None:
    """Whoever uses the module is told what everything is."""
    for name, needed in (("variables.tf", ("description", "type")), ("outputs.tf", ("description",))):
        for block in re.split(r'^(?:variable|output) "', (MODULE / name).read_text("utf-8"), flags=re.MULTILINE)[1:]:
            assert all(re.search(rf"(?m)^  {word} +=", block) for word in needed), block.partition('"')[0]


def test_it_is_formatted(terraform: Terraform) -> None:
    """Every file is as ``terraform fmt`` would write it."""
    done = terraform.run("fmt", "-check", "-recursive", "-list=true", "-no-color")
    assert (done.returncode, done.stdout) == (0, "")


def test_it_is_valid(terraform: Terraform) -> None:
    """The provider's own schema knows every argument."""
    done = terraform.run("validate", "-no-color")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["complete", "minimal"])
def test_the_examples_are_valid(terraform: Terraform, name: str) -> None:
    """Both examples fit the module."""
    done = terraform.example(name).run("validate", "-no-color")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", ["iam", "unit", "validation"])
def test_the_module_keeps_what_it_promises(terraform: Terraform, file: str) -> None:
    """The module's own tests, with the provider mocked."""
    done = terraform.run("test", "-no-color", f"-filter=tests/{file}.tftest.hcl")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Success! \d\d? passed, 0 failed", done.stdout)


def test_no_test_of_the_module_is_left_out() -> None:
    """Those run above are all there are."""
    assert sorted(each.name for each in (MODULE / "tests").glob("*.tftest.hcl")) == [
        "iam.tftest.hcl",
        "unit.tftest.hcl",
        "validation.tftest.hcl",
    ]
