"""A local AWS, what terraform/ deploys into it, and the ways in that operators, ESPs and recipients have."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from connectors.simulators.serving import listen
from core.settings import load, load_secrets
from tests.callback_desk import Signed
from tests.installation import Team
from tests.terraform_module import Terraform
from tests.tools import openssl
from webhooks.assembly import Services

ROOT = Path(__file__).parents[2]
REGION = "eu-west-3"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
"""Those of the account's root in ministack."""
MINISTACK = "PIXELPROOF_MINISTACK"
"""Names ministack's program where it is not on the path. It runs the functions with its own Python."""
PYTHONS = ("3.12", "3.13")
"""Those that zips are built for."""
PATIENCE = 120.0
"""Seconds until a test gives up on something that happens by itself."""
FALSE_DIFFERENCES = frozenset({"aws_cloudwatch_metric_alarm"})
"""Types of resources that ministack does not answer as they were made."""

_OVERRIDE = """
provider "aws" {
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  s3_use_path_style           = true
}

module "pixelproof" {
  architecture   = "x86_64"
  python_version = "%s"
  settings = templatefile("${path.module}/test.toml.tftpl", {
    base_url = module.pixelproof.url
    tables   = module.pixelproof.name
    bucket   = module.pixelproof.buckets.store
  })
}
"""


def ministack_program() -> tuple[str, str]:
    """The program of ministack and its Python's version; skips where there is none, or none that zips are for."""
    program = shutil.which(os.environ.get(MINISTACK) or "ministack")
    if program is None:
        pytest.skip(f"ministack is not installed: {MINISTACK} names its program")
    first = Path(program).resolve().read_text("utf-8").partition("\n")[0].removeprefix("#!").strip()
    asked = [first, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - its own
    if version not in PYTHONS:
        pytest.skip(f"ministack runs on Python {version}, and zips are built for {' and '.join(PYTHONS)}")
    return program, version


@dataclass(frozen=True)
class Aws:
    """A local AWS that enforces IAM, over TLS. ``certificate``: whose bearer it is."""

    url: str
    certificate: Path

    @property
    def environment(self) -> dict[str, str]:
        """What AWS's own tools need to speak to it as the account's root."""
        return {**KEYS, "AWS_ENDPOINT_URL": self.url, "AWS_CA_BUNDLE": str(self.certificate)}

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 makes its clients' classes as it goes
        """A client, as the account's root."""
        return boto3.client(  # type: ignore[call-overload]  # any service
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            verify=str(self.certificate),
        )


@contextmanager
def running(program: str, folder: Path) -> Iterator[Aws]:
    """Run ministack in a folder of its own; end it afterwards."""
    key, certificate = folder / "aws.key", folder / "aws.crt"
    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", str(key), "-out", str(certificate)),
    )
    with listen() as free:
        port = int(free.getsockname()[1])
    environment = {
        "PATH": f"{Path(program).resolve().parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "USE_SSL": "1",
        "MINISTACK_SSL_CERT": str(certificate),
        "MINISTACK_SSL_KEY": str(key),
    }
    with (
        (folder / "ministack.log").open("wb") as log,
        subprocess.Popen([program], env=environment, cwd=folder, stdout=log, stderr=log) as process,  # noqa: S603
    ):
        try:
            aws = Aws(f"https://127.0.0.1:{port}", certificate)
            eventually(lambda: _answers(aws))
            yield aws
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _answers(aws: Aws) -> bool:
    try:
        return httpx.get(aws.url, verify=_trusting(aws), timeout=1).is_success
    except httpx.HTTPError:
        return False


def _trusting(aws: Aws) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(aws.certificate))


def eventually(holds: Callable[[], object]) -> None:
    """Wait until something holds; fails when it does not within ``PATIENCE``."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.2)


@dataclass
class Stack:
    """What was deployed. ``said``: the module's outputs. ``folder``: the operator's, with settings and secrets."""

    aws: Aws
    terraform: Terraform
    folder: Path
    said: Mapping[str, Any] = field(default_factory=dict)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Have Terraform do something to it."""
        return self.terraform.run(*words, **self.aws.environment)

    @cached_property
    def clients(self) -> dict[str, Any]:
        """Clients of services, as the account's root."""
        names = ("lambda", "logs", "s3", "secretsmanager", "sqs", "ssm")
        return {name: self.aws.client(name) for name in names}

    @cached_property
    def http(self) -> httpx.Client:
        """Speaks to the HTTP API. Its name is told rather than looked up: not every resolver knows it."""
        host = str(self.said["url"]).removeprefix("https://")
        return httpx.Client(base_url=self.aws.url, headers={"host": host}, verify=_trusting(self.aws), timeout=60)

    @cached_property
    def team(self) -> Team:
        """The installation from an operator's side, over the same tables and bucket."""
        services = Services(load(self.folder / "pixelproof.toml"), load_secrets(self.folder), self.folder)
        return Team(services, str(self.said["url"]))

    def post(self, signed: Signed) -> int:
        """A provider's callback; answers the status."""
        return self.http.post(signed.path, content=signed.body, headers=dict(signed.headers)).status_code

    def do(self, task: str) -> dict[str, Any]:
        """Call the function of the tasks; answers what it says, of success or failure."""
        name = self.said["functions"]["scheduled"]
        answer = self.clients["lambda"].invoke(FunctionName=name, Payload=json.dumps({"task": task}))
        return dict(json.loads(answer["Payload"].read()))

    def listed(self, bucket: str, prefix: str) -> list[str]:
        """The keys of a bucket that begin with something."""
        held = self.clients["s3"].list_objects_v2(Bucket=self.said["buckets"][bucket], Prefix=prefix)
        return [each["Key"] for each in held.get("Contents", [])]

    def covered(self) -> int:
        """How many entries are under the newest checkpoint in the bucket (c2sp.org/tlog-checkpoint)."""
        found = self.clients["s3"].get_object(Bucket=self.said["buckets"]["store"], Key="log/checkpoint")
        return int(found["Body"].read().decode().splitlines()[1])

    def logged(self) -> str:
        """All that the local AWS wrote, the functions' own lines among it."""
        return (self.aws.certificate.parent / "ministack.log").read_text("utf-8", "replace")

    @contextmanager
    def hidden_for(self, queue: str, seconds: int) -> Iterator[None]:
        """Have messages that were not taken come again sooner, so that nobody waits an hour for the last time."""
        url, sqs, name = self.said["queues"][queue], self.clients["sqs"], "VisibilityTimeout"
        usual = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes={name: str(seconds)})
        yield
        sqs.set_queue_attributes(QueueUrl=url, Attributes=usual)

    @contextmanager
    def paused(self, function: str) -> Iterator[None]:
        """Have the function of a queue take nothing meanwhile."""
        functions = self.clients["lambda"]
        (mapping,) = functions.list_event_source_mappings(FunctionName=self.said["functions"][function])[
            "EventSourceMappings"
        ]
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        yield
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    def differences(self) -> set[str]:
        """The types of resources that a new plan would change."""
        done = self.run("plan", "-json", "-input=false", *variables())
        assert done.returncode == 0, done.stdout
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        changes = [each["change"] for each in lines if each["type"] == "planned_change"]
        return {each["resource"]["resource_type"] for each in changes if each["action"] != "noop"}

    def close(self) -> None:
        """Let go of connections."""
        if "team" in self.__dict__:
            self.team.services.close()
            self.team.client.close()
        if "http" in self.__dict__:
            self.http.close()
        for client in self.__dict__.get("clients", {}).values():
            client.close()


def variables() -> list[str]:
    """What the minimal example asks for, as Terraform takes it."""
    zips = ROOT / "dist/lambda"
    chosen = {
        "app_zip": zips / "app-x86_64.zip",
        "bulk_zip": zips / "bulk-x86_64.zip",
        "alarm_email": "alarms@example.com",
        "deletion_protection": "false",
    }
    return [f"-var={name}={value}" for name, value in chosen.items()]


def build(python: str) -> None:
    """Make the zips for ministack's Python."""
    command = [sys.executable, "terraform/lambda/build.py", "--architecture", "x86_64", "--python", python]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 0, done.stderr


def deploy(stack: Stack, settings: str, python: str) -> Stack:
    """Apply the minimal example with these settings, in which ``${…}`` are Terraform's."""
    folder = stack.terraform.folder
    (folder / "test.toml.tftpl").write_text(settings, "utf-8")
    (folder / "test_override.tf").write_text(_OVERRIDE % python, "utf-8")
    done = stack.run("apply", "-auto-approve", "-no-color", "-input=false", "-parallelism=30", *variables())
    assert done.returncode == 0, done.stderr
    outputs = json.loads(stack.run("output", "-json").stdout)
    return replace(stack, said=outputs["pixelproof"]["value"])
