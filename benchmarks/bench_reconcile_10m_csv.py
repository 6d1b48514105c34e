"""Ten million claims against as many proof records in CSV: see ``benchmarks.reconcile``."""

from __future__ import annotations

from benchmarks.frame import main
from benchmarks.reconcile import benchmark

if __name__ == "__main__":
    main(benchmark("reconcile_10m_csv", 10_000_000, "csv"))
