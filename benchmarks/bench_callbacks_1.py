"""SendGrid's callbacks with one event a post, against django-anymail and a bare handler: ``benchmarks.callbacks``."""

from __future__ import annotations

from benchmarks.callbacks import benchmark
from benchmarks.frame import main

if __name__ == "__main__":
    main(benchmark(1))
