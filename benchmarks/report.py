"""What the benchmarks share: the beginning of their JSON, their texts, and rates measured in turns."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

#: A turn is this share of everyone's time; however slow the steps are, there are at least so many rounds.
TURN, LEAST_ROUNDS = 1 / 8, 3


def header(benchmark: str, device: str = "cpu") -> dict[str, object]:
    """Name, date, machine and versions."""
    return {
        "benchmark": benchmark,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "device": device,
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "torch": metadata.version("torch"),
    }


def processor() -> str:
    """The processor's name, as well as the system knows it."""
    information = Path("/proc/cpuinfo")
    for line in information.read_text().splitlines() if information.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def text_file(given: Path | None, name: str) -> Path:
    """The text named with ``--text``, or that of this name among the shared corpora beside the repository.

    Raises:
        SystemExit: it is not there.
    """
    path = given or Path(__file__).resolve().parents[2] / "shared" / "corpora" / name
    if not path.is_file():
        raise SystemExit(f"skipped: there is no {path}; name a text with --text FILE")
    return path.resolve()


def in_turns(
    steps: Mapping[str, Callable[[], int]], seconds: float, synchronise: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """What each contender gets done in a second. Everyone has a turn in every round, so that a slow moment is
    everyone's; the figures are medians over the rounds.

    Args:
        steps: by name, a step, which returns how much it did.
        seconds: time for each, besides a turn or two to warm up and to see how long a step takes.
        synchronise: waits until the device has done what it was given.
    """

    def rate_and_time(step: Callable[[], int], count: int) -> tuple[float, float]:
        synchronise()
        began = time.perf_counter()
        done = sum(step() for _ in range(count))
        synchronise()
        taken = time.perf_counter() - began
        return done / taken, taken

    def steps_in_a_turn(step: Callable[[], int]) -> int:
        step()  # kernels are loaded, buffers made
        times: list[float] = []
        while sum(times) < seconds * TURN:
            times.append(rate_and_time(step, 1)[1])
        return max(1, round(seconds * TURN / min(times)))

    counts = {name: steps_in_a_turn(step) for name, step in steps.items()}
    rates: dict[str, list[float]] = {name: [] for name in steps}
    spent, rounds = 0.0, 0
    while spent < seconds * len(steps) or rounds < LEAST_ROUNDS:
        for name, step in steps.items():
            rate, taken = rate_and_time(step, counts[name])
            rates[name].append(rate)
            spent += taken
        rounds += 1
    return {name: statistics.median(values) for name, values in rates.items()}
