"""The benchmarks' frame: what it compares, in which order it runs, and that only what was measured is reported."""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import frame
from benchmarks.frame import Benchmark, BenchmarkError, Goal, Variant, main, measure

QUICK = Goal(of="product", against="peer", at_most=0.5)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps the benchmarks' data out of the real place."""
    monkeypatch.setattr(frame, "DATA", tmp_path / "data")
    return tmp_path


def program(data: Path, name: str, seconds: str, *, more: str = "") -> Variant:
    """Notes that it ran, and says how long it took; ``seconds`` may make use of ``run``, the number of the run."""
    log = data / "log"
    return Variant(
        name,
        f"import json, pathlib\nlog = pathlib.Path({str(log)!r})\nlog.touch()\n"
        f"run = log.read_text().split().count({name!r})\nlog.write_text(log.read_text() + ' {name}')\n{more}\n"
        f"print('chatter')\nprint(json.dumps({{'seconds': {seconds}, 'run': run}}))",
    )


def test_medians_are_compared_in_turn(data: Path) -> None:
    """The first round does not count, nor does one that was disturbed; the order changes from round to round."""
    product = program(data, "product", "100 if run == 0 else 9 if run == 3 else 1")
    peer = program(data, "peer", "4")
    result = measure(Benchmark("x", [product, peer], QUICK), 5, "")
    assert (result["ratio"], result["goal"], result["goal_is"], result["met"]) == (0.25, 0.5, "at_most", True)
    assert result["median_seconds"] == {"product": 1, "peer": 4}
    assert (result["name"], result["runs"], result["ratio_range"]) == ("x", 5, [0.25, 2.25])
    assert result["more"]["product"] == {"run": 5}
    assert (data / "log").read_text().split() == ["product", "peer", "peer", "product"] * 3


@pytest.mark.parametrize(
    ("goal", "ratio", "met"),
    [
        (Goal("a", "b", at_most=0.25), 0.25, True),
        (Goal("a", "b", at_most=0.24), 0.25, False),
        (Goal("a", "b", at_least=4), 4, True),
        (Goal("a", "b", at_least=4.1), 4, False),
        (Goal("b", "a", at_most=4), 4, True),
        (Goal("b", "a", at_least=0.3), 0.25, False),
    ],
)
def test_goals(goal: Goal, ratio: float, met: bool) -> None:
    """So much of the other's time at most, or so many times its speed at least."""
    assert goal.ratio({"a": 1, "b": 4}) == ratio
    assert goal.met(ratio) == met


@pytest.mark.parametrize("bounds", [(None, None), (1.0, 1.0)])
def test_a_goal_has_one_bound(bounds: tuple[float | None, float | None]) -> None:
    """Neither none nor two."""
    with pytest.raises(ValueError, match="either"):
        Goal("a", "b", *bounds)


def test_peak_memory_is_that_of_the_variant(data: Path) -> None:
    """In MiB, and never below what the process had that started it: one that takes 200 more is seen to take them."""
    floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    product = program(data, "product", "1", more=f"held = b'x' * ({floor + 200} << 20)")
    peaks = measure(Benchmark("x", [product, program(data, "peer", "1")], QUICK), 5, "")["peak_mb"]
    assert 190 < peaks["product"] - floor < 420
    assert peaks["peer"] < floor + 30


@pytest.mark.parametrize(
    ("work", "words"),
    [
        ("import sys; sys.exit('the store is full')", "status 1: the store is full"),
        ("print('fast')", "did not say"),
        ("print('{}')", "did not say"),
        ("print('[1]')", "did not say"),
        ("print('{\"seconds\": null}')", "did not say"),
        ("", "did not say"),
        ("import time; time.sleep(600)", "status -9"),
    ],
)
def test_what_was_not_measured_is_not_reported(data: Path, work: str, words: str) -> None:
    """A variant that fails, says nothing or hangs ends the benchmark."""
    variants = [Variant("product", work), program(data, "peer", "1")]
    with pytest.raises(BenchmarkError, match=words):
        measure(Benchmark("x", variants, QUICK, timeout=2), 5, "")


def test_a_missing_environment_is_named(data: Path) -> None:
    """And so is what sets it up."""
    variants = [program(data, "product", "1"), Variant("peer", "", data / "python")]
    with pytest.raises(BenchmarkError, match="make bench"):
        measure(Benchmark("x", variants, QUICK), 5, "")


def worked() -> Mapping[str, Any]:
    """A variant that is a function."""
    return {"seconds": 0.5, "calls": 3}


def test_a_process_does_what_it_was_started_for(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One variant, or what prepares them all."""
    benchmark = Benchmark(
        "x", [Variant("product", worked), Variant("peer", "")], QUICK, prepare=(data / "prepared").touch
    )
    main(benchmark, ["--variant", "product"])
    assert json.loads(capsys.readouterr().out) == {"seconds": 0.5, "calls": 3}
    assert not (data / "prepared").exists()
    main(benchmark, ["--prepare"])
    assert (data / "prepared").exists()
    with pytest.raises(SystemExit, match="no variant peer"):
        main(benchmark, ["--variant", "peer"])
    with pytest.raises(SystemExit, match="2"):
        main(benchmark, ["--runs", "4"])
    assert "at least 5 runs" in capsys.readouterr().err
