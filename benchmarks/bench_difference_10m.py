"""The difference and the plan of ten million recipients, against Python's sets: see ``benchmarks.difference``."""

from __future__ import annotations

from benchmarks.difference import benchmark
from benchmarks.frame import main

if __name__ == "__main__":
    main(benchmark("difference_10m", 10_000_000))
