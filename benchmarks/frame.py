"""What every benchmark shares: variants run in turn, each in a process of its own, and one line of JSON in the end.

A benchmark is a module ``bench_<name>.py`` that ends in::

    if __name__ == "__main__":
        main(Benchmark(...))

Its variants do the same work in different ways: the product's real path, its peer, its physical limit. They are run
in rounds, in one order and then the other, so that what the machine does meanwhile meets all of them alike. The first
round warms up files and caches and does not count. What is compared is the median.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("PIXELPROOF_BENCH_DATA") or Path.home() / ".cache" / "pixelproof-bench")
"""Where generated data, databases and the peers' environment live: on a real disk, since commits must reach it."""

OURS = Path(sys.executable)
PEERS = DATA / "peers" / "bin" / "python"
"""The interpreter of the peers' environment, which ``make bench`` sets up from ``requirements/bench.txt``."""

FEWEST_RUNS = 5
SECONDS = "seconds"
_MEBIBYTE = 1024 if sys.platform != "darwin" else 1024 * 1024
"""In units of ``ru_maxrss``: kilobytes on Linux, bytes on macOS."""


class BenchmarkError(Exception):
    """A variant failed, answered nonsense, or took too long: nothing was measured."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to do the work.

    Attributes:
        name: In the result.
        work: What is measured, in a process of its own: a function of the benchmark's module, or, where even this
            module would weigh, the text of a program. The function answers, and the program prints as its last line
            of JSON, ``{"seconds": …}`` and whatever else shall stand in the result.
        python: The interpreter: ``OURS`` or ``PEERS``.
    """

    name: str
    work: Callable[[], Mapping[str, Any]] | str
    python: Path = OURS


@dataclass(frozen=True, slots=True)
class Goal:
    """What the product must reach.

    Attributes:
        of: The product's variant.
        against: The variant that it is compared with.
        at_most: The most that its time may be, in times of the other's; the ratio is one of times.
        at_least: How many times as fast it must be at least; the ratio is one of speeds. One of the two is given.
        measure: What is compared: the seconds, or another time that both answer.
    """

    of: str
    against: str
    at_most: float | None = None
    at_least: float | None = None
    measure: str = SECONDS

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("a goal has either at_most or at_least")

    def ratio(self, seconds: Mapping[str, float]) -> float:
        """The ratio that the goal is about, of some seconds by variant."""
        times = seconds[self.of] / seconds[self.against]
        return times if self.at_least is None else 1 / times

    def met(self, ratio: float) -> bool:
        """Whether the goal is reached."""
        return ratio >= self.at_least if self.at_least is not None else ratio <= (self.at_most or 0.0)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A measurement.

    Attributes:
        name: As in ``bench_<name>.py``.
        variants: At least the two that the goal names; in the result all of them.
        goal: What must be reached.
        also: What must be reached besides.
        prepare: Makes what the variants need, such as data in ``DATA``; run once, in a process of its own, because a
            process's peak memory begins with that of the one that started it.
        runs: Rounds that count, from 5.
        timeout: Seconds that one run may take.
    """

    name: str
    variants: Sequence[Variant]
    goal: Goal
    prepare: Callable[[], None] | None = None
    runs: int = FEWEST_RUNS
    timeout: float = 600.0
    also: Sequence[Goal] = ()


@dataclass(slots=True)
class Runs:
    """What the rounds of one variant gave."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    peak_mb: float = 0.0

    def measured(self, measure: str) -> list[float]:
        """One measure, round by round; raises BenchmarkError when it was not told."""
        try:
            return [float(answer[measure]) for answer in self.answers]
        except (KeyError, TypeError, ValueError):
            raise BenchmarkError(f"a variant did not say its {measure}") from None

    @property
    def more(self) -> dict[str, Any]:
        """What the last round told besides the seconds."""
        return {name: value for name, value in self.answers[-1].items() if name != SECONDS}


def main(benchmark: Benchmark, arguments: Sequence[str] | None = None) -> None:
    """Measure and print the result; in a process that this started, do the one thing that it is for.

    ``--runs N``: more or fewer rounds than the benchmark asks for. Ends with status 1 when nothing could be measured;
    a goal that is missed stands in the result alone.
    """
    parser = argparse.ArgumentParser(description=f"Benchmark {benchmark.name}.")
    parser.add_argument("--runs", type=int, default=benchmark.runs)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.runs < FEWEST_RUNS:
        parser.error(f"a median takes at least {FEWEST_RUNS} runs")
    try:
        if options.prepare and benchmark.prepare:
            benchmark.prepare()
        elif options.variant:
            _print(_by_name(benchmark, options.variant))
        else:
            _print(measure(benchmark, options.runs, _module()))
    except BenchmarkError as error:
        sys.exit(f"{benchmark.name}: {error}")


def measure(benchmark: Benchmark, runs: int, module: str) -> dict[str, Any]:
    """Run everything in turn; answers the result. ``module``: the benchmark's, as ``python -m`` takes it.

    Raises:
        BenchmarkError: something failed, and nothing is known.
    """
    DATA.mkdir(parents=True, exist_ok=True)
    if benchmark.prepare:
        _run([str(OURS), "-m", module, "--prepare"], benchmark.timeout)
    results = {variant.name: Runs() for variant in benchmark.variants}
    orders = cycle([benchmark.variants, benchmark.variants[::-1]])
    for number, order in enumerate(islice(orders, runs + 1)):
        for variant in order:
            output, peak = _run(_command(variant, module), benchmark.timeout)
            if number:
                _take(results[variant.name], variant, output, peak)
    return _result(benchmark, runs, results)


def _take(runs: Runs, variant: Variant, output: str, peak: float) -> None:
    try:
        answer = json.loads(output.splitlines()[-1])
        answer[SECONDS] = float(answer[SECONDS])
    except (IndexError, KeyError, ValueError, TypeError, AttributeError):
        raise BenchmarkError(f"{variant.name} did not say how many seconds it took") from None
    runs.peak_mb = max(runs.peak_mb, peak)
    runs.answers.append(answer)


def _result(benchmark: Benchmark, runs: int, results: Mapping[str, Runs]) -> dict[str, Any]:
    medians = {name: statistics.median(result.measured(SECONDS)) for name, result in results.items()}
    also = [_reached(goal, results) for goal in benchmark.also]
    return {
        "name": benchmark.name,
        **_reached(benchmark.goal, results),
        "runs": runs,
        **({"also": also} if also else {}),
        "median_seconds": {name: round(median, 6) for name, median in medians.items()},
        "peak_mb": {name: round(result.peak_mb, 1) for name, result in results.items()},
        "more": {name: result.more for name, result in results.items() if result.more},
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version()},
    }


def _reached(goal: Goal, results: Mapping[str, Runs]) -> dict[str, Any]:
    """How a goal was reached: by the medians, and in single rounds."""
    told = {name: results[name].measured(goal.measure) for name in (goal.of, goal.against)}
    ratio = goal.ratio({name: statistics.median(values) for name, values in told.items()})
    rounds = [goal.ratio(dict(zip(told, values, strict=True))) for values in zip(*told.values(), strict=True)]
    return {
        "ratio": round(ratio, 4),
        "goal": goal.at_most if goal.at_least is None else goal.at_least,
        "goal_is": "at_most" if goal.at_least is None else "at_least",
        "met": goal.met(ratio),
        "of": goal.of,
        "against": goal.against,
        **({"measure": goal.measure} if goal.measure != SECONDS else {}),
        "ratio_range": [round(min(rounds), 4), round(max(rounds), 4)],
    }


def _command(variant: Variant, module: str) -> list[str]:
    if isinstance(variant.work, str):
        return [str(variant.python), "-c", variant.work]
    return [str(variant.python), "-m", module, "--variant", variant.name]


def _run(command: Sequence[str], timeout: float) -> tuple[str, float]:
    """Run a process to its end; answers what it printed and its peak memory in MiB.

    The memory is that of ``getrusage`` for this very process, or for the greatest of its own that it waited for.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own programs
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, cwd=ROOT, env=_environment()
            )
        except OSError:
            raise BenchmarkError(f"{command[0]} cannot be run; `make bench` sets up what is missing") from None
        status, usage = _wait(process, timeout)
        if status:
            raise BenchmarkError(f"a run ended with status {status}: {_last_line(errors)}")
        output.seek(0)
        return output.read(), usage.ru_maxrss / _MEBIBYTE


def _wait(process: subprocess.Popen[bytes], timeout: float) -> tuple[int, resource.struct_rusage]:
    # Not process.kill: it looks after the process itself, and could take its end away from wait4.
    killer = threading.Timer(timeout, os.kill, (process.pid, signal.SIGKILL))
    killer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        raise
    finally:
        killer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def _environment() -> dict[str, str]:
    """Compiled files are written and read, ours as well as the peers', whatever the machine says of them."""
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**ours, "PYTHONPYCACHEPREFIX": str(DATA / "compiled"), "PIXELPROOF_BENCH_DATA": str(DATA)}


def _last_line(errors: IO[str]) -> str:
    errors.seek(0)
    lines = errors.read().strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _by_name(benchmark: Benchmark, name: str) -> Mapping[str, Any]:
    for variant in benchmark.variants:
        if variant.name == name and not isinstance(variant.work, str):
            return variant.work()
    raise BenchmarkError(f"there is no variant {name} to be run so")


def _module() -> str:
    """The benchmark's module as ``python -m`` was given it."""
    spec = sys.modules["__main__"].__spec__
    if spec is None:
        raise BenchmarkError("run it as a module: python -m benchmarks.bench_<name>")
    return spec.name


def _print(line: Mapping[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(line)}\n")
