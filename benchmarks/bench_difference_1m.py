"""The difference and the plan of a million recipients, against Python's sets: see ``benchmarks.difference``."""

from __future__ import annotations

from benchmarks.difference import benchmark
from benchmarks.frame import main

if __name__ == "__main__":
    main(benchmark("difference_1m", 1_000_000))
