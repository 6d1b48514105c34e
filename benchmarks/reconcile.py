"""The reconciliation of N claims of a partner with as many proof records, in CSV and in Parquet.

The product's way is the whole command, ``pixelproof proofs reconcile --dry-run --json``: it starts, reads the records
with all their rules, judges every claim, finds the orphans and writes the findings. Its claims stand in a ledger, and
have been taken into the file of claims by an earlier run; ``claims_file_seconds`` tells how long that took once. Its
records name recipients by the pseudonym, as the peers' files do; ``product_addresses`` is the same with addresses,
each of which is normalised and put through HMAC-SHA256 besides.

The peers have the claims ready in a file, and read every column of both files, as the product does: pandas merges them
once and classifies, DuckDB merely reads them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.difference import KEYS
from benchmarks.frame import DATA, PEERS, ROOT, Benchmark, Goal, Variant

if TYPE_CHECKING:
    import duckdb

PARTNER = "Leads Ltd"
CHUNK = 50_000

_PANDAS = """
import json, time
import numpy as np
import pandas as pd
import pyarrow.csv, pyarrow.parquet
claims_file, records_file, call = {claims!r}, {records!r}, {read!r}
begun = time.perf_counter()
if call == "csv":
    claims = pd.read_csv(claims_file, engine="pyarrow")
    records = pd.read_csv(records_file, engine="pyarrow")
else:
    claims, records = pd.read_parquet(claims_file), pd.read_parquet(records_file)
both = claims.merge(records, left_on="recipient", right_on="address", how="left")
doi = both["method"] == "double_opt_in"
verdicts = np.select(
    [both["address"].isna(), both["withdrawn_at"].notna(), both["controller"].ne("Example"),
     both["purposes"].ne(both["purpose"]), both["notice"].ne("leads-3"), doi & both["confirmed_at"].isna()],
    [0, 1, 2, 3, 4, 5], 6)
found = np.bincount(verdicts, minlength=7).tolist()
names = ["missing", "withdrawn_at_partner", "controller_not_named", "purpose_not_covered", "notice_unknown",
         "not_confirmed", "proven"]
print(json.dumps({{"seconds": time.perf_counter() - begun, "findings": dict(zip(names, found))}}))
"""
_READ = """
import json, time
import duckdb
begun = time.perf_counter()
db = duckdb.connect()
db.execute("SET enable_progress_bar = false")
rows = []
for file in ({claims!r}, {records!r}):
    columns = [name for name, *_ in db.execute(f"DESCRIBE FROM '{{file}}'").fetchall()]
    most = ", ".join(f"max(strlen({{name}}::VARCHAR))" for name in columns)  # max alone is answered by statistics
    rows.append(db.execute(f"SELECT count(*), {{most}} FROM '{{file}}'").fetchone()[0])
print(json.dumps({{"seconds": time.perf_counter() - begun, "rows": rows}}))
"""


def benchmark(name: str, claims: int, form: str) -> Benchmark:
    """The measurement for so many claims; ``form``: csv or parquet."""
    folder = DATA / f"reconcile-{claims}"
    files = {"claims": str(folder / f"claims.{form}"), "records": str(folder / f"records.{form}")}
    return Benchmark(
        name=name,
        variants=[
            Variant("product", partial(reconciled, folder, f"records.{form}")),
            Variant("product_addresses", partial(reconciled, folder, f"addresses.{form}")),
            Variant("pandas_merge", _PANDAS.format(read=form, **files), PEERS),
            Variant("duckdb_reading", _READ.format(**files)),
        ],
        goal=Goal(of="product", against="pandas_merge", at_least=3.0),
        also=[Goal(of="product", against="duckdb_reading", at_most=3.5)],
        prepare=partial(prepare, folder, claims),
        timeout=3_600.0,
    )


def reconciled(folder: Path, file: str) -> Mapping[str, Any]:
    """The product's way, from start to end."""
    words = ["proofs", "reconcile", str(folder / file), "--partner", PARTNER, "--dry-run", "--json"]
    begun = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "cli", *words, "--config", str(folder / "pixelproof.toml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - begun
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    found = json.loads(done.stdout)
    if found.get("findings") != expected["findings"] or found["orphans"] != expected["orphans"]:
        raise SystemExit("the findings are not those that were put in")
    for left in (folder / "data" / "proofs" / "findings").iterdir():
        left.unlink()
    return {"seconds": seconds, "inside": found["seconds"], "claims_file_seconds": expected["claims_file_seconds"]}


def prepare(folder: Path, claims: int) -> None:
    """Fill the ledger and write the files, once; takes about six minutes and 12 GB for 10 million."""
    if (folder / "expected.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    import duckdb

    _settings(folder)
    (folder / "made.duckdb").unlink(missing_ok=True)
    with duckdb.connect(folder / "made.duckdb", config={"memory_limit": "4GB"}) as db:
        _make(db, claims)
        _write(db, folder)
        seconds = _fill(db, folder)
        expected = dict(db.execute("SELECT verdict, count(*) FROM made GROUP BY 1").fetchall())
    (folder / "made.duckdb").unlink()
    orphans = expected.get("missing", 0)
    found = {verdict: number for verdict, number in expected.items() if number}
    told = {"findings": found, "orphans": orphans, "claims_file_seconds": round(seconds, 1)}
    (folder / "expected.json").write_text(json.dumps(told), "utf-8")


def _settings(folder: Path) -> None:
    (folder / ".env").write_text("".join(f"{name}={key}\n" for name, key in KEYS.items()), "utf-8")
    (folder / "pixelproof.toml").write_text(
        'base_url = "https://choices.example.com"\npurposes = ["performance", "deliverability", "profiling"]\n'
        f'[sender]\nname = "Example"\n[[partners]]\nname = "{PARTNER}"\ncontrollers = ["Example Group"]\n'
        'notices = [{ version = "leads-3" }]\n',
        "utf-8",
    )


def _make(db: duckdb.DuckDBPyConnection, claims: int) -> None:
    """One row for each claim: what is claimed, what its record says, and what must be found."""
    from core.proofs.reading import _pads

    inner, outer = _pads(bytes.fromhex(KEYS["PIXELPROOF_RECIPIENT_KEY"]))
    db.execute(
        """
        CREATE TABLE made AS
        SELECT *, substr(sha256($outer || unhex(sha256($inner || encode(address)))), 1, 32) AS recipient,
          CASE WHEN fault < 20 THEN 'missing' WHEN fault < 30 THEN 'withdrawn_at_partner'
            WHEN fault < 35 THEN 'controller_not_named' WHEN fault < 55 THEN 'purpose_not_covered'
            WHEN fault < 60 THEN 'notice_unknown' WHEN fault < 70 THEN 'not_confirmed' ELSE 'proven' END AS verdict
        FROM (SELECT i, 'user' || i || '@example.com' AS address, hash(i) % 1000 AS fault,
            ['performance', 'deliverability', 'profiling'][CAST(hash(i, 1) % 3 + 1 AS BIGINT)] AS purpose,
            TIMESTAMP '2025-01-01' + INTERVAL 1 SECOND * CAST(hash(i, 2) % 40000000 AS BIGINT) AS moment
          FROM range($claims) counted(i))
        """,
        {"inner": inner, "outer": outer, "claims": claims},
    )


def _write(db: duckdb.DuckDBPyConnection, folder: Path) -> None:
    time_ = "strftime({}, '%Y-%m-%dT%H:%M:%SZ')"
    doi = "(i % 3 = 0 OR verdict = 'not_confirmed')"
    records = f"""
        SELECT {{name}} AS address, {time_.format("moment")} AS collected_at,
          CASE WHEN verdict = 'purpose_not_covered' THEN 'fraud_detection' ELSE purpose END AS purposes,
          CASE WHEN verdict = 'notice_unknown' THEN 'leads-9' ELSE 'leads-3' END AS notice,
          sha256('notice') AS notice_sha256, 'https://leads.example/form/' || i % 40 AS source_url,
          CASE WHEN verdict = 'controller_not_named' THEN 'Another' ELSE 'Example' END AS controller,
          CASE WHEN {doi} THEN 'double_opt_in' ELSE 'form' END AS method,
          CASE WHEN {doi} AND verdict <> 'not_confirmed' THEN {time_.format("moment + INTERVAL 5 MINUTE")} END
            AS confirmed_at,
          'https://leads.example/evidence/' || i AS evidence_uri, sha256(address) AS evidence_sha256,
          CASE WHEN verdict = 'withdrawn_at_partner' THEN {time_.format("moment + INTERVAL 9 DAY")} END AS withdrawn_at
        FROM made ORDER BY hash(i, 3)
    """  # noqa: S608 - no input
    missing = "CASE WHEN verdict = 'missing' THEN {} ELSE {} END"
    tables = {
        "claims": f"SELECT recipient, purpose, {time_.format('moment')} AS claimed_at FROM made ORDER BY hash(i, 4)",  # noqa: S608
        "records": records.format(name=missing.format("md5(recipient)", "recipient")),
        "addresses": records.format(name=missing.format("'no-' || address", "address")),
    }
    for name, select in tables.items():
        db.execute(f"COPY ({select}) TO '{folder / name}.csv' (FORMAT csv, HEADER)")
        db.execute(f"COPY (FROM read_csv('{folder / name}.csv', all_varchar=true)) TO '{folder / name}.parquet'")


def _fill(db: duckdb.DuckDBPyConnection, folder: Path) -> float:
    """Put the claims into a ledger, in bulk: entries alone. Answers how long the file of claims took to make."""
    from core.proofs.claims import Projection
    from core.proofs.workshop import workshop
    from tests.embedded import database_of
    from webhooks.assembly import PROOFS, Services

    with Services.from_file(folder / "pixelproof.toml") as services:
        cursor = db.execute("SELECT recipient, purpose, strftime(moment, '%Y-%m-%dT%H:%M:%SZ') FROM made")
        position = 0
        while rows := cursor.fetchmany(CHUNK):
            with database_of(services).transaction() as ledger:
                ledger.executemany("INSERT INTO entry VALUES (?,?,1,0,?,?)", _entries(rows, position))
            position += len(rows)
        begun = time.perf_counter()
        projection = Projection(services.data / PROOFS, services.reconciliation.entries)
        with workshop(services.data / PROOFS) as work:
            projection.up_to_date(work)
    return time.perf_counter() - begun


def _entries(rows: list[tuple[str, str, str]], position: int) -> Iterator[tuple[int, bytes, bytes, bytes]]:
    """Entries as an import would have written them."""
    from core.merkle import leaf_hash

    for number, (recipient, purpose, at) in enumerate(rows, position + 1):
        body = (
            f'{{"action":"given","occurred_at":"{at}","partner":"{PARTNER}","purposes":["{purpose}"],'
            f'"received_at":"2026-11-01T00:00:00Z","recipient":"{recipient}","recorded_at":"2026-11-01T00:00:00Z",'
            f'"salt":"{number:032x}","seq":1,"source":"import","v":1}}'
        ).encode()
        yield number, bytes.fromhex(recipient), leaf_hash(body), body
