"""Whether the time of an answer tells what became of a request for the hosted pixel.

One connection asks for pixels one after the other, the outcomes in turn and in random order: recorded, no consent, an
unknown person, an altered token, an unknown campaign. Of two answers of which one was recorded, how often did the
slower one tell which? ``told_apart`` is that share, for those outcomes that differ by the person alone, at its worst;
a coin has 0.5. All times come from the same minute of the same server, so that what else the machine does meets them
alike.
"""

from __future__ import annotations

import random
import socket
import statistics
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.frame import DATA, Benchmark, Goal, Variant, main
from benchmarks.pixels import AGENTS, free_port, paths_by_outcome, prepare, product

REQUESTS = 1_500
"""Of each outcome."""
WARM_UP = 200
LONGEST = 4_096
PERSONAL = ("refused", "unknown_person")
"""Outcomes that differ from a recorded open by the person alone."""


def timed() -> Mapping[str, Any]:
    """How well others can be told from a recorded open, and the medians."""
    taken = _taken(paths_by_outcome())
    recorded = taken.pop("recorded")
    slower = {name: round(_longer(recorded, times), 3) for name, times in taken.items()}
    medians = {name: round(statistics.median(times) * 1e6, 1) for name, times in taken.items()}
    return {
        "seconds": statistics.median(recorded),
        "told_apart": max(max(slower[name], 1 - slower[name]) for name in PERSONAL),
        "recorded_slower": slower,
        "median_us": medians,
    }


def coin() -> Mapping[str, Any]:
    """Knows nothing."""
    return {"seconds": 0.0, "told_apart": 0.5}


def _taken(paths: Mapping[str, list[str]]) -> dict[str, list[float]]:
    """Seconds of each request, by outcome."""
    order = [name for name in paths for _ in range(REQUESTS)]
    chance = random.Random(time.time_ns())  # noqa: S311 - another order in every run
    chance.shuffle(order)
    taken: dict[str, list[float]] = {name: [] for name in paths}
    with (
        tempfile.TemporaryDirectory(dir=DATA) as name,
        product(Path(name), port := free_port()),
        socket.create_connection(("127.0.0.1", port), timeout=60) as connection,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for outcome in order[:WARM_UP]:
            _ask(connection, chance.choice(paths[outcome]))
        for outcome in order:
            taken[outcome].append(_ask(connection, chance.choice(paths[outcome])))
    return taken


def _ask(connection: socket.socket, path: str) -> float:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {AGENTS[1]}\r\n\r\n".encode()
    begun = time.perf_counter()
    connection.sendall(request)
    answer = connection.recv(LONGEST)
    seconds = time.perf_counter() - begun
    assert answer.startswith(b"HTTP/1.1 200"), "the pixel was not answered"
    return seconds


def _longer(these: Sequence[float], others: Sequence[float]) -> float:
    """How often one of these took longer than one of the others; half of the ties."""
    ordered = sorted(others)
    wins = sum(bisect_left(ordered, one) + bisect_right(ordered, one) for one in these)
    return wins / 2 / len(these) / len(ordered)


if __name__ == "__main__":
    main(
        Benchmark(
            name="pixel_timing",
            variants=[Variant("pixel", timed), Variant("coin", coin)],
            goal=Goal(of="pixel", against="coin", at_most=1.1, measure="told_apart"),
            prepare=prepare,
        )
    )
