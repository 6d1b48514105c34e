"""SendGrid's callbacks, 1,000 events a post, against django-anymail and a bare handler: ``benchmarks.callbacks``."""

from __future__ import annotations

from benchmarks.callbacks import benchmark
from benchmarks.frame import main

if __name__ == "__main__":
    main(benchmark(1_000))
