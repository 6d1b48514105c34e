#!/usr/bin/env python3
"""Builds the zips that terraform/ deploys: ``app``, and ``bulk`` with what reconciliation takes (DuckDB).

    terraform/lambda/build.py                                # dist/lambda/{app,bulk}-{arm64,x86_64}.zip
    terraform/lambda/build.py --architecture arm64 --python 3.12

The same input gives the same bytes: wheels by their hashes, files in order, all dated 1980, and byte code that is not
compared with its source's date. Byte code is made by a Python of the target's version, where one is at hand. (Another
zlib may press the same files to other bytes.)

Standard library and pip alone. It stands beside the module that takes the zips, as nothing in them needs it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = "requirements/lambda.txt"
SOURCES = ("core", "connectors", "webhooks")
ZIPS = {"app": ("duckdb",), "bulk": ()}
"""The zips, and the requirements that each leaves out."""

PLATFORMS = {
    "arm64": ("manylinux2014_aarch64", "manylinux_2_28_aarch64"),
    "x86_64": ("manylinux2014_x86_64", "manylinux_2_28_x86_64"),
}
"""Lambda's Pythons from 3.12 on stand on Amazon Linux 2023, whose glibc is 2.34; DuckDB's wheels need 2.28."""
PYTHONS = ("3.12", "3.13")

SERVICES = frozenset({"dynamodb", "s3", "secretsmanager", "sesv2", "sns", "sqs", "ssm", "sts"})
"""The services of AWS whose descriptions stay."""
UNUSED = re.compile(
    r"(^|/)(bin|tests?|__pycache__)/"
    r"|^connectors/simulators/"
    r"|^boto3/examples/|^botocore/data/.*/examples-1\.json(\.gz)?$"
    r"|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json)$"  # pip's own notes of this installation
    r"|(^|/)\.[^/]+$|\.py[co]$|\.pyi$"
)
"""Paths that no function reads. The descriptions of AWS's services and of the world's languages are cut besides."""

BEGINNING = (1980, 1, 1, 0, 0, 0)
"""The first date that a zip can hold."""
TASK = "/var/task"
"""Where Lambda unpacks them: what byte code names as its source, instead of a folder of this machine."""

_REQUIREMENT = re.compile(r"^(?=[a-z0-9])", re.MULTILINE)
_SERVICE = re.compile(r"^boto(?:3|core)/data/([^/]+)/")
_LANGUAGE = re.compile(r"^babel/locale-data/([a-z]+)[^/]*\.dat$")


class Target(NamedTuple):
    """What zips are built for: ``architecture`` and ``python_version`` of the module."""

    architecture: str
    python: str


def requirements(text: str, without: Sequence[str]) -> str:
    """A requirements file without some packages, their hashes included."""
    return "".join(each for each in _REQUIREMENT.split(text) if each.partition("==")[0] not in without)


@lru_cache(maxsize=1)
def languages() -> frozenset[str]:
    """Those that pages are written in, and the one from which Babel derives all others."""
    return frozenset({"root", *(each.name for each in (ROOT / "webhooks/locales").iterdir())})


def needed(name: str) -> bool:
    """Whether a file is, by its path in the zip."""
    service, language = _SERVICE.match(name), _LANGUAGE.match(name)
    return not (
        UNUSED.search(name) or (service and service[1] not in SERVICES) or (language and language[1] not in languages())
    )


def install(folder: Path, chosen: Path, target: Target) -> None:
    """Put a platform's wheels into a folder; raises CalledProcessError when one cannot be had, or differs."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--no-deps"]
    command += ["--no-compile", "--require-hashes", "--only-binary=:all:", "--implementation=cp"]
    command += [f"--python-version={target.python}", *(f"--platform={each}" for each in PLATFORMS[target.architecture])]
    command += [f"--target={folder}", f"--requirement={chosen}"]
    subprocess.run(command, check=True)  # noqa: S603 - pip itself


def stage(folder: Path, zip_name: str, target: Target) -> None:
    """Put together what one zip holds, byte code apart; raises CalledProcessError as ``install`` does."""
    chosen = folder.with_suffix(".txt")
    chosen.write_text(requirements((ROOT / REQUIREMENTS).read_text("utf-8"), ZIPS[zip_name]), "utf-8")
    install(folder, chosen, target)
    for source in SOURCES:
        shutil.copytree(ROOT / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
    for file in list(files(folder)):
        if not needed(file.relative_to(folder).as_posix()):
            file.unlink()


def interpreter(version: str) -> str | None:
    """A Python of this version: the one that runs, one on the path, or one of pyenv's; None where there is none."""
    named = [sys.executable, shutil.which(f"python{version}") or ""]
    named += [str(each) for each in sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))]
    return next((each for each in named if each and _version(each) == version), None)


def _version(python: str) -> str:
    asked = [python, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()  # noqa: S603
    except OSError:
        return ""


def compile_all(folder: Path, python: str) -> None:
    """Add byte code to every module, in one order and with one seed of hashes, so that sets come out alike.

    Raises CalledProcessError when a module cannot be compiled.
    """
    command = [python, "-s", "-S", "-m", "compileall", "-q", "-f", "--invalidation-mode=unchecked-hash"]
    command += ["-s", str(folder), "-p", TASK, str(folder)]
    subprocess.run(command, check=True, env={"PYTHONHASHSEED": "0"})  # noqa: S603 - a Python found above


def files(folder: Path) -> Iterator[Path]:
    """The files below a folder, in an order that depends on their names alone."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return iter(sorted(found, key=lambda path: path.relative_to(folder).as_posix()))


def pack(folder: Path, zip_file: Path) -> None:
    """Zip a folder; the zip is there whole, or not at all."""
    zip_file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = zip_file.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w") as made:
        for path in files(folder):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), BEGINNING)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # Unix, and readable by whoever runs it
            made.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    unfinished.replace(zip_file)


def build(into: Path, zip_name: str, target: Target) -> Path:
    """Make one zip; raises CalledProcessError as ``install`` and ``compile_all`` do."""
    made = into / f"{zip_name}-{target.architecture}.zip"
    with TemporaryDirectory() as place:
        folder = Path(place) / "task"
        stage(folder, zip_name, target)
        python = interpreter(target.python)
        if python:
            compile_all(folder, python)
        pack(folder, made)
    return made


def main() -> int:
    """Build what is asked for; answers the exit code."""
    parser = argparse.ArgumentParser(description="The zips that terraform/ deploys.")
    parser.add_argument("--architecture", choices=sorted(PLATFORMS), action="append", help="by default, each")
    parser.add_argument("--python", choices=PYTHONS, default=PYTHONS[-1], help="python_version of the module")
    parser.add_argument("--into", type=Path, default=ROOT / "dist/lambda", help="the folder that they are put into")
    asked = parser.parse_args()
    if not interpreter(asked.python):
        sys.stderr.write(f"there is no python{asked.python} here: no byte code, and functions start more slowly\n")
    for architecture in asked.architecture or sorted(PLATFORMS):
        for zip_name in ZIPS:
            try:
                made = build(asked.into, zip_name, Target(architecture, asked.python))
            except subprocess.CalledProcessError:
                sys.stderr.write(f"{zip_name}-{architecture}.zip: not built; what stopped it stands above\n")
                return 1
            sys.stdout.write(f"{made}: {made.stat().st_size / 1e6:.1f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
