#!/usr/bin/env python3
"""Builds the zips that terraform/ deploys: ``app.zip``, and ``bulk.zip`` with what reconciliation takes (DuckDB).

Twice the same input gives the same bytes: wheels by their hashes, files in order, all dated 1980, and byte code that is
not compared with its source's time. Byte code is made where a Python of the target's version is at hand.

Beside the module that takes the zips, and no part of what is deployed: nothing in them needs it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
PLATFORMS = {"arm64": "manylinux2014_aarch64", "x86_64": "manylinux2014_x86_64"}
NEWER = {"arm64": "manylinux_2_28_aarch64", "x86_64": "manylinux_2_28_x86_64"}
"""Lambda's Pythons from 3.12 on run on Amazon Linux 2023, whose glibc is 2.34."""
SOURCES = ("core", "connectors", "webhooks")
SERVING = ("uvicorn", "uvloop", "httptools", "typer", "rich", "shellingham", "markdown-it-py", "mdurl", "pygments")
"""What only ``serve`` and the command line import."""
BULK = ("duckdb",)
SERVICES = ("dynamodb", "s3", "secretsmanager", "sesv2", "sns", "sqs", "ssm", "sts")
"""The services of AWS whose descriptions botocore keeps."""
UNUSED = ("bin", "tests", "test", "__pycache__", "simulators")
BEGINNING = (1980, 1, 1, 0, 0, 0)
"""The first date that a zip can hold."""

_REQUIREMENT = re.compile(r"^(?=[a-z0-9])", re.MULTILINE)


def requirements(text: str, without: Sequence[str]) -> str:
    """A requirements file without some packages, their hashes included."""
    kept = [each for each in _REQUIREMENT.split(text) if each.partition("==")[0] not in without]
    return "".join(kept)


def install(target: Path, without: Sequence[str], architecture: str, version: str) -> None:
    """Put the wheels of a platform into a folder; raises CalledProcessError when one cannot be had, or differs."""
    wanted = requirements((ROOT / "requirements/runtime.txt").read_text("utf-8"), without)
    chosen = target.with_suffix(".txt")
    chosen.write_text(wanted, "utf-8")
    platforms = [PLATFORMS[architecture], NEWER[architecture]] if version != "3.11" else [PLATFORMS[architecture]]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-compile", "--require-hashes", "--only-binary=:all:", "--implementation=cp"]
    command += [f"--python-version={version}", *(f"--platform={each}" for each in platforms)]
    subprocess.run([*command, f"--target={target}", f"--requirement={chosen}"], check=True)  # noqa: S603 - pip itself


def prune(folder: Path) -> None:
    """Remove what a function never reads."""
    data = folder / "botocore/data"
    for service in data.iterdir() if data.is_dir() else ():
        if service.is_dir() and service.name not in SERVICES:
            shutil.rmtree(service)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and path.name in UNUSED:
            shutil.rmtree(path)


def compiled(folder: Path, version: str) -> bool:
    """Add byte code; False where no Python of that version is at hand."""
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = sys.executable if version == this else shutil.which(f"python{version}")
    command = [str(python), "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(folder), "-p", "/var/task", str(folder)]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603 - a Python
    except OSError:
        return False


def files(folder: Path) -> Iterator[Path]:
    """The files below a folder, in an order that hangs on their names alone."""
    return iter(sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.as_posix()))


def pack(folder: Path, target: Path) -> None:
    """Zip a folder."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        for path in files(folder):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), BEGINNING)
            entry.external_attr, entry.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
            made.writestr(entry, path.read_bytes())


def build(target: Path, without: Sequence[str], architecture: str, version: str) -> bool:
    """Make one zip; False when it holds no byte code."""
    with TemporaryDirectory() as place:
        folder = Path(place) / "task"
        install(folder, without, architecture, version)
        for source in SOURCES:
            shutil.copytree(ROOT / source, folder / source)
        prune(folder)
        fast = compiled(folder, version)
        target.parent.mkdir(parents=True, exist_ok=True)
        pack(folder, target)
    return fast


def main() -> int:
    """Build both; answers the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--architecture", choices=sorted(PLATFORMS), default="arm64")
    parser.add_argument("--python", choices=("3.11", "3.12", "3.13"), default="3.13", help="as var.python_version")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "lambda")
    asked = parser.parse_args()
    for name, without in (("app.zip", (*SERVING, *BULK)), ("bulk.zip", SERVING)):
        try:
            fast = build(asked.into / name, without, asked.architecture, asked.python)
        except subprocess.CalledProcessError:
            sys.stderr.write(f"{name}: the wheels of requirements/runtime.txt cannot be had for this platform\n")
            return 1
        size = (asked.into / name).stat().st_size
        note = "" if fast else f"; without byte code, for there is no python{asked.python}: it starts more slowly"
        sys.stdout.write(f"{asked.into / name}: {size / 1e6:.1f} MB{note}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
