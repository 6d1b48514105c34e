"""One million claims against as many proof records in Parquet: see ``benchmarks.reconcile``."""

from __future__ import annotations

from benchmarks.frame import main
from benchmarks.reconcile import benchmark

if __name__ == "__main__":
    main(benchmark("reconcile_1m_parquet", 1_000_000, "parquet"))
