"""The zips of ``make lambda``, built, unpacked, and run by a Python like Lambda's."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from platform import machine
from typing import Any
from zipfile import ZipFile

import pytest

from tests.runtime_api import RuntimeApi, runtime_api

ROOT = Path(__file__).parents[1]
PYTHON = "3.13"
HERE = "arm64" if machine() in {"arm64", "aarch64"} else "x86_64"
"""The architecture whose zips this machine can run."""


def builder() -> Any:  # noqa: ANN401 - a script, in no package
    """``terraform/lambda/build.py`` as a module."""
    spec = importlib.util.spec_from_file_location("build_lambda", ROOT / "terraform/lambda/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDER = builder()


def built(into: Path, name: str, architecture: str) -> Path:
    """A zip; skips the test where pip cannot fetch its wheels."""
    try:
        made = BUILDER.build(into, name, BUILDER.Target(architecture, PYTHON))
    except subprocess.CalledProcessError as error:
        if "pip" not in error.cmd:
            raise
        pytest.skip(f"the wheels of {name}-{architecture}.zip cannot be fetched here")
    assert isinstance(made, Path)
    return made


def unpacked(zip_file: Path, folder: Path) -> Path:
    """What Lambda has under ``/var/task``."""
    with ZipFile(zip_file) as opened:
        opened.extractall(folder)
    return folder


def python_like_lambdas() -> str:
    """A Python of the zips' version; skips the test where there is none."""
    found = BUILDER.interpreter(PYTHON)
    if not found:
        pytest.skip(f"there is no python{PYTHON} here")
    return str(found)


def runtime_client(folder: Path) -> Path:
    """``awslambdaric`` for the zips' Python: a part of Lambda's Python, and not of the zips."""
    locked = (ROOT / "requirements/dev.txt").read_text("utf-8")
    names = set(re.findall(r"^([a-z0-9][a-z0-9.-]*)==", locked, re.MULTILINE))
    wanted = folder.with_suffix(".txt")
    others = sorted(names - {"awslambdaric", "simplejson", "snapshot-restore-py"})
    wanted.write_text(BUILDER.requirements(locked, others), "utf-8")
    try:
        BUILDER.install(folder, wanted, BUILDER.Target(HERE, PYTHON))
    except subprocess.CalledProcessError:
        pytest.skip("awslambdaric cannot be fetched here")
    return folder


@contextmanager
def function(name: str, task: Path, client: Path, environment: Mapping[str, str]) -> Iterator[RuntimeApi]:
    """A function of the deployment in a process of its own, as Lambda runs it from an unpacked zip."""
    with runtime_api() as api:
        given = {
            **environment,
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "AWS_LAMBDA_FUNCTION_NAME": f"test-{name}",
            "LAMBDA_TASK_ROOT": str(task),
            "PYTHONPATH": os.pathsep.join((str(task), str(client))),
            "PATH": os.defpath,
        }
        command = [python_like_lambdas(), "-s", "-S", "-P", "-m", "awslambdaric", f"webhooks.aws.{name}.handler"]
        process = subprocess.Popen(command, cwd=task, env=given)  # noqa: S603 - the function under test
        try:
            yield api
        finally:
            process.terminate()
            process.wait()
