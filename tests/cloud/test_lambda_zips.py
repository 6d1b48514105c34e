"""The zips that ``make lambda`` builds: the same bytes twice, nothing that does not belong, and a Python runs them."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import simulated
from tests.aws_ground import Ground
from tests.callback_desk import by_sendgrid
from tests.lambda_functions import ADDRESS, Deployed, at, deployed
from tests.lambda_zips import BUILDER, HERE, ROOT, built, function, python_like_lambdas, runtime_client, unpacked
from webhooks.aws import http, worker
from webhooks.pixel import GIF

MEGABYTE = 1_000_000
BUILT = (("app", HERE), ("bulk", HERE), ("bulk", "x86_64" if HERE == "arm64" else "arm64"))
FUNCTIONS = {"http": "app", "worker": "app", "scheduled": "app", "stream": "app", "proofs": "bulk"}
"""Each function, and the zip that terraform/ gives it."""
CHECK = "import sys; assert not [each for each in sys.path if 'site-packages' in each]; import {}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the zips lie."""
    return tmp_path_factory.mktemp("zips")


@pytest.fixture(scope="module")
def zips(folder: Path) -> dict[tuple[str, str], Path]:
    """Zips by name and architecture."""
    return {(name, architecture): built(folder, name, architecture) for name, architecture in BUILT}


@pytest.fixture(scope="module")
def tasks(zips: dict[tuple[str, str], Path], folder: Path) -> dict[str, Path]:
    """Unpacked zips for this machine, by name."""
    return {name: unpacked(zips[name, HERE], folder / name) for name in ("app", "bulk")}


@pytest.fixture(scope="module")
def client(folder: Path) -> Path:
    """The part of Lambda that calls handlers."""
    return runtime_client(folder / "client")


@pytest.fixture
def cloud(ground: Callable[[str], Ground], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Deployed]:
    """What the functions find in AWS."""
    simulator = SendGridSimulator()
    providers, secrets = {"sendgrid": {"api_url": simulator.base_url}}, {"SENDGRID_API_KEY": simulator.api_key}
    with simulated(simulator), deployed(ground("moto"), monkeypatch, tmp_path, providers, secrets) as made:
        yield made


def test_the_same_input_gives_the_same_bytes(zips: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    """A zip that is built once more, elsewhere, does not differ in a single byte."""
    again = built(tmp_path / "again", "app", HERE)
    assert again.read_bytes() == zips["app", HERE].read_bytes()


@pytest.mark.parametrize("which", BUILT, ids="-".join)
def test_nothing_that_does_not_belong(zips: dict[tuple[str, str], Path], which: tuple[str, str]) -> None:
    """No command line, no simulators, no tests, no programs, and no notes of the installation."""
    with ZipFile(zips[which]) as opened:
        names = opened.namelist()
        assert names == sorted(names)
        assert {entry.date_time for entry in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in opened.infolist()} == {0o100644}
    odd = (
        r"(^|/)(bin|tests?|simulators)/|^(cli|tests|benchmarks|uvicorn|typer|rich|fpdf)/|\.dist-info/RECORD$|/\.|\.pyi$"
    )
    assert [name for name in names if re.search(odd, name)] == []
    assert {"webhooks/templates/choices.html", "webhooks/static/page.css", "webhooks/api/examples.json"} <= {*names}
    assert {"webhooks/locales/fr/LC_MESSAGES/messages.po", "core/notice_texts/SHA256SUMS"} <= {*names}
    assert any(name.startswith("duckdb/") for name in names) is (which[0] == "bulk")
    services = {name.split("/")[2] for name in names if re.match(r"botocore/data/[^/]+/", name)}
    assert services == BUILDER.SERVICES


@pytest.mark.parametrize("which", BUILT, ids="-".join)
def test_no_path_of_this_machine(zips: dict[tuple[str, str], Path], which: tuple[str, str]) -> None:
    """Neither the tree, nor the folder where it was put together, stands in any of our files or any byte code."""
    with ZipFile(zips[which]) as opened:
        read = [name for name in opened.namelist() if name.endswith(".pyc") or name.split("/")[0] in BUILDER.SOURCES]
        found = [name for name in read if re.search(rb"/tmp/tmp|" + re.escape(str(ROOT).encode()), opened.read(name))]
    assert found == []


@pytest.mark.parametrize("which", BUILT, ids="-".join)
def test_lambda_takes_them(zips: dict[tuple[str, str], Path], which: tuple[str, str]) -> None:
    """Below 50 MB, as uploaded, and below 250 MB unpacked: the quotas of Lambda."""
    assert zips[which].stat().st_size < 50 * MEGABYTE
    with ZipFile(zips[which]) as opened:
        assert sum(entry.file_size for entry in opened.infolist()) < 250 * MEGABYTE


@pytest.mark.parametrize("which", BUILT, ids="-".join)
def test_native_code_is_of_the_architecture(zips: dict[tuple[str, str], Path], which: tuple[str, str]) -> None:
    """Each shared object is for the processor that the zip is named after: ``e_machine`` of its ELF header."""
    with ZipFile(zips[which]) as opened:
        objects = [name for name in opened.namelist() if re.search(r"\.so(\.\d+)*$", name)]
        machines = {opened.read(name)[18:20] for name in objects}
    assert len(objects) > 3
    assert machines == {{"x86_64": b"\x3e\x00", "arm64": b"\xb7\x00"}[which[1]]}


def test_every_module_has_byte_code_that_lambda_takes_as_it_is(zips: dict[tuple[str, str], Path]) -> None:
    """Each of our modules, with flags that say: not to be compared with its source (PEP 552)."""
    python_like_lambdas()
    with ZipFile(zips["app", HERE]) as opened:
        names = {*opened.namelist()}
        modules = [name for name in names if name.endswith(".py") and name.split("/")[0] in BUILDER.SOURCES]
        code = {re.sub(r"([^/]+)\.py$", r"__pycache__/\1.cpython-313.pyc", name) for name in modules}
        assert code <= names
        assert {opened.read(name)[4:8] for name in code} == {b"\x01\x00\x00\x00"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_handler_is_loaded_from_its_zip_alone(tasks: dict[str, Path], name: str) -> None:
    """With nothing but the standard library beside the zip, and with nothing written into it."""
    task = tasks[FUNCTIONS[name]]
    command = [python_like_lambdas(), "-s", "-S", "-P", "-c", CHECK.format(f"webhooks.app, webhooks.aws.{name}")]
    done = subprocess.run(  # noqa: S603 - Python itself
        command, cwd="/", env={"PYTHONPATH": str(task)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_callbacks_and_pixels_from_the_zip(
    tasks: dict[str, Path], client: Path, cloud: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under Lambda's own client: a pixel is answered in base64; a callback is queued, and a withdrawal comes of it."""
    given = {key: value for key, value in os.environ.items() if key.startswith(("AWS_", "PIXELPROOF_", "TMPDIR"))}
    with (
        function("http", tasks["app"], client, given) as front,
        function("worker", tasks["app"], client, given) as back,
    ):
        monkeypatch.setattr(http, "handler", lambda event, _context: front.invoke(event))
        monkeypatch.setattr(worker, "handler", lambda event, _context: back.invoke(event))
        image = cloud.ask("GET", "/o/unknown.gif")
        assert (image["isBase64Encoded"], base64.b64decode(image["body"])) == (True, GIF)
        event = {"event": "spamreport", "email": ADDRESS, "timestamp": at(cloud.services), "sg_event_id": "1"}
        signed = by_sendgrid(json.dumps([event]).encode(), at(cloud.services))
        assert cloud.post(signed.but(x_twilio_email_event_webhook_signature="AAAA")) == 403
        assert cloud.post(signed) == 200
        (message,) = cloud.waiting()
        foreign = {**message, "messageId": "foreign", "body": "{}"}
        assert cloud.work_on(foreign, message) == ["foreign"]
    assert cloud.team.state("performance") == "withdrawn"
