"""The same SQL past one machine: Spark finds, verdict by verdict, what DuckDB finds; Athena's dialect takes it too."""

from __future__ import annotations

import json
import os
import random
import subprocess
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from uuid import UUID

import pytest

from core.proofs.workshop import Workshop, quoted, workshop
from core.reconcile import VERDICTS, judge

PYTHON = os.environ.get("PIXELPROOF_SPARK_PYTHON", "")
ROWS = 100_000
PURPOSES = ("performance", "deliverability")
WORDINGS = 64
COLUMNS = "claim, recipient, purpose, verdict, record, collected_at, withdrawn_at"

pytestmark = pytest.mark.skipif(not PYTHON, reason="PIXELPROOF_SPARK_PYTHON names no interpreter that has PySpark")


def fill(work: Workshop) -> None:
    """A hundred thousand claims and as many records, with every fault among them; recipients as text."""
    chance = random.Random(7)  # noqa: S311 - made-up data

    def mostly(probability: float = 0.97) -> bool:
        return chance.random() < probability

    def name(number: int) -> str:
        return UUID(int=number * 7919).hex

    people = ROWS * 2 // 3
    wordings = [
        (n, n % 9, *(mostly(0.88) for _ in range(5)), mostly(0.3), chance.choice([None, None, 20]))
        for n in range(1, WORDINGS + 1)
    ]
    records = [
        (
            number, name(chance.randrange(people)), mostly(), mostly(), chance.randint(10, 60),
            chance.choice([None, chance.randint(10, 90)]), None if mostly() else chance.randint(10, 90),
            chance.randint(1, WORDINGS),
        )
        for number in range(1, ROWS + 1)
    ]  # fmt: skip
    claims = [(number, name(number // 2), PURPOSES[number % 2]) for number in range(ROWS)]
    covers = [(n, purpose) for n, _, _, _, readable, *_ in wordings for purpose in PURPOSES if readable and mostly(0.9)]
    uses = [(name(number), chance.randint(10, 90)) for number in range(0, people, 5)]
    work.fill("claim", "number BIGINT, recipient VARCHAR, purpose VARCHAR", claims)
    work.fill(
        "record",
        "number BIGINT, recipient VARCHAR, sound BOOLEAN, genuine BOOLEAN, collected_at BIGINT, confirmed_at BIGINT,"
        " withdrawn_at BIGINT, wording BIGINT",
        records,
    )
    work.fill(
        "wording",
        "id BIGINT, testimony BIGINT, sound BOOLEAN, genuine BOOLEAN, purposes_readable BOOLEAN,"
        " controller_named BOOLEAN, notice_known BOOLEAN, must_be_confirmed BOOLEAN, notice_since BIGINT",
        wordings,
    )
    work.fill("covers", "wording BIGINT, purpose VARCHAR", covers)
    work.fill("first_use", "recipient VARCHAR, first_used_at BIGINT", uses)


def test_spark_finds_what_duckdb_finds(tmp_path: Path) -> None:
    """Every column of every row; and the text for Athena can be read back."""
    rules = resources.files("core") / "reconcile.sql"
    with workshop(tmp_path / "work") as work:
        fill(work)
        counts = judge(work, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=14))
        assert {*counts} == {*VERDICTS}
        assert sum(counts.values()) == ROWS
        for table in ("claim", "record", "wording", "covers", "repeated", "first_use", "terms"):
            work.run(f"COPY {table} TO {quoted(tmp_path / f'{table}.parquet')} (FORMAT parquet)")
        program = Path(__file__).with_name("on_spark.py")
        done = subprocess.run(  # noqa: S603 - our own program
            [PYTHON, str(program), str(rules), str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2_000:]
        files = quoted(tmp_path / "verdicts" / "*.csv")
        work.run(
            f"CREATE TABLE theirs AS SELECT {COLUMNS} FROM read_csv({files}, header=true, all_varchar=true)"  # noqa: S608
        )
        ours = ", ".join(f"CAST({column} AS VARCHAR) AS {column}" for column in COLUMNS.split(", "))
        assert work.number("SELECT count(*) FROM theirs") == ROWS
        differing = f"SELECT {ours} FROM verdict EXCEPT SELECT {COLUMNS} FROM theirs"  # noqa: S608 - no input
        assert work.number(f"SELECT count(*) FROM ({differing})") == 0  # noqa: S608 - no input
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["same"]
    assert {"claim", "record", "wording", "covers", "first_use", "terms"} <= {*told["tables"]}
