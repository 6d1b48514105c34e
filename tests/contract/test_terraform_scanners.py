"""What scanners say of the Terraform module. Each is a program on the path; none asks anybody for anything.

checkov reads the files; tf-nag and tfprivesc read a plan, which moto's server answers for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.terraform_module import MODULE, Terraform, module

ROOT = """
provider "aws" {
  region                      = "eu-west-3"
  access_key                  = "testing"
  secret_key                  = "testing"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
}

module "scanned" {
  source = "../.."

  app_zip           = "main.tf"
  bulk_zip          = "main.tf"
  settings_location = "/var/task/pixelproof.toml"
  secrets_arn       = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:pixelproof-AbCdEf"
  alarm_actions     = ["arn:aws:sns:eu-west-3:123456789012:on-call"]
  ses               = {}
  tracing           = true
}
"""

UNSEEN = {"AwsSolutions-S10", "AwsSolutions-SQS4"}
"""tf-nag cannot tell whose policy one is before queues and buckets exist; the module's own tests look at TLS."""


def needs(name: str) -> pytest.MarkDecorator:
    """Skips a test, before a plan is made for it, where a scanner is missing."""
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")


def scanned(name: str, *words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a scanner; nothing of this machine's own configuration counts."""
    kept = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
    return subprocess.run([name, *words], cwd=folder, env=kept, capture_output=True, text=True, check=False)  # noqa: S603


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole plan of the module, SES included, as Terraform's JSON."""
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    copied = module(tmp_path_factory.mktemp("scanned"))
    folder = copied.folder / "examples" / "scanned"
    folder.mkdir()
    (folder / "main.tf").write_text(ROOT, "utf-8")
    terraform = Terraform(copied.program, copied.plugins, folder)
    terraform.prepare()
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        done = terraform.run("plan", "-no-color", "-out=plan", AWS_ENDPOINT_URL=f"http://{host}:{port}")
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
    shown = folder / "plan.json"
    shown.write_text(terraform.run("show", "-json", "plan").stdout, "utf-8")
    return shown


@needs("checkov")
def test_checkov_has_nothing_to_say(tmp_path: Path) -> None:
    """The files break no rule of checkov but those whose breach is explained beside the resource."""
    copy = shutil.copytree(MODULE, tmp_path / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    done = scanned(
        "checkov", "-d", copy, "--framework", "terraform", "--skip-download", "-o", "json", "--quiet", folder=tmp_path
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert [(each["check_id"], each["resource"]) for each in found["results"]["failed_checks"]] == []
    assert found["summary"]["passed"] > 100
    assert found["summary"]["parsing_errors"] == 0


@needs("tf-nag")
def test_tf_nag_has_nothing_to_say(plan: Path) -> None:
    """tf-nag finds nothing but what .tfnag.json explains."""
    suppressions = MODULE / ".tfnag.json"
    words = ("scan", "--plan-json", plan, "--suppressions", suppressions, "--format", "json")
    done = scanned("tf-nag", *words, folder=plan.parent)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert [
        (each["rule_id"], each["address"])
        for each in found
        if each["level"] == "ERROR" and not each["suppression"] and each["rule_id"] not in UNSEEN
    ] == []
    assert any(each["suppression"] for each in found)


@needs("tfprivesc")
def test_nobody_can_raise_their_rights(plan: Path) -> None:
    """No role can get more rights than it has, as far as tfprivesc knows; it has looked at every role."""
    done = scanned("tfprivesc", plan, "--format", "json", folder=plan.parent)
    said = json.loads(done.stdout)
    assert (said["findings"], said["coverage"]["principals"], said["coverage"]["unresolved"]) == ([], 6, [])
