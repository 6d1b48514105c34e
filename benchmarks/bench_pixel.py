"""The hosted pixel's requests a second, against nginx and a bare Starlette route: ``benchmarks.pixels``."""

from __future__ import annotations

from functools import partial

from benchmarks.frame import Benchmark, Goal, Variant, main
from benchmarks.pixels import measured, nginx, prepare, product, starlette

if __name__ == "__main__":
    main(
        Benchmark(
            name="pixel",
            variants=[
                Variant("product", partial(measured, product)),
                Variant("nginx", partial(measured, nginx)),
                Variant("starlette", partial(measured, starlette)),
            ],
            goal=Goal(of="product", against="nginx", at_least=0.30),
            also=[Goal(of="product", against="starlette", at_least=1.6)],
            prepare=prepare,
        )
    )
