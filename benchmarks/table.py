"""The README's tables of speed, from ``benchmarks/results/``: printed, or put in their place.

python benchmarks/table.py [--write]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- benchmarks: python benchmarks/table.py --write -->\n", "<!-- end of benchmarks -->\n"


def results(name: str) -> dict[str, Any]:
    """The JSON of a benchmark."""
    document: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text())
    return document


def rounded(value: float) -> str:
    """Two significant digits are more than a shared machine repeats; three, so that a ratio can be checked."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    """A table; the first column is words, the others are figures."""
    columns = head.split(" | ")
    lines = [f"| {head} |", "|---|" + "---:|" * (len(columns) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def put(path: Path, begin: str, text: str, end: str) -> None:
    """Replace what stands in a file between two marks."""
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(before + begin + "\n" + text + "\n" + end + after, encoding="utf-8")


def training() -> str:
    """Characters per second of training, and how many times that is of others."""
    document = results("training")
    rows = []
    for name, row in document["results"].items():
        over = row["whole_over"]
        figures = [rounded(row["characters_per_second"]["whole"])]
        figures += [f"{over[other]:.2f}" for other in ("autocast", "fp32", "stepped", "limit")]
        rows.append([name, *figures])
    shape = f"batch {document['batch_size']}, window {document['sequence_length']}, bfloat16"
    return (
        f"Training of plain layers, characters/s of the whole step ({shape};\n"
        "`python benchmarks/training.py`), and how many times that is of a bare loop around torch's layers in\n"
        "autocast, in fp32, of one character a call, and of the machine's rate of large bfloat16 products:\n\n"
        + table("cell, layers x units | whole step | / autocast | / fp32 | / stepped | / limit", rows)
    )


def quality() -> str:
    """Seconds until validation of tiny Shakespeare is as low as a figure."""
    document = results("time_to_quality")
    rows = []
    for one in document["charrnn"]:
        nats = sorted(run["nats_per_char"] for run in one["runs"])[len(one["runs"]) // 2]
        reached = f"{one['reached']} of {len(one['runs'])}"
        figures = [f"{one['wall_seconds']:.1f}", f"{one['trained_seconds']:.1f}", f"{nats:.4f}", reached]
        rows.append([f"{one['target']:g} (`--time-limit {one['time_limit']:g}s`)", *figures])
    text = (
        "Time to quality: tiny Shakespeare, 90/10, float32, state carried (`python benchmarks/time_to_quality.py`;"
        f" {document['date'][:10]}):\n\n"
        + table("nats per character to reach | seconds from Enter | training | reached (median) | runs", rows)
    )
    if "ratio" in document:
        other = document["nanogpt"]
        text += (
            f"\nnanoGPT's recipe for a CPU takes {other['lowest_at_seconds']:.0f} s on the same machine to its"
            f" {other['lowest_nats_per_char']:.3f}: {document['ratio']:.1f} times as long as"
            f" {document['ratio_for_target']:g} takes here.\n"
        )
    return text


def sampling() -> str:
    """Characters per second of sampling."""
    document = results("sampling")
    rows = []
    for name, row in document["results"].items():
        figures = [rounded(row[kind]) for kind in ("single", "batch", "beam_5")]
        figures += [f"{row['single_over_limit']:.2f}", f"{row['single_over_stepped']:.0f}", f"{row['first']:.2f} s"]
        rows.append([name, *figures])
    text = (
        f"Sampling from plain LSTMs, characters/s (`python benchmarks/sampling.py`; {document['date'][:10]}); one\n"
        "stream over the limit that reading the 8-bit weights sets, and over `nn.LSTM` called a character at a time;\n"
        "and how long after `charrnn --help` ends the first character is there:\n\n"
        + table(
            f"layers x units | one stream | {document['batch']} at once | beam 5 | / limit | / stepped | first", rows
        )
    )
    for cost in document["rounding"]:
        text += (
            f"\nRounding weights and states to 8 bits costs {cost['difference']:.5f} bits per character"
            f" (a plain model of 80 s on tiny Shakespeare, {cost['float32']:.4f} in float32).\n"
        )
    return text


def growth() -> str:
    """Seconds and megabytes against the size of the text."""
    document = results("growth")
    rows = []
    for size, row in document["megabytes"].items():
        figures = [
            f"{row[name]['seconds']:.1f} s, {row[name]['megabytes']:.0f} MB" for name in ("prepare", "train", "eval")
        ]
        rows.append([f"{int(size):,} MB", *figures, f"{row['train']['until_step']:.1f} s"])
    return "Growth with the text (`python benchmarks/growth.py`): time and peak memory, of one run each.\n\n" + table(
        "text | prepare | train, 20 steps | eval, 100 kB | from Enter to the first step", rows
    )


def text() -> str:
    """All of it."""
    header = results("training")
    where = (
        f"Measured on {header['machine']}, Python {header['python']}, torch {header['torch']},"
        f" {header['date'][:10]}; medians. Nothing was measured on a GPU yet:\n"
        "`python benchmarks/all.py --device cuda` is unproven.\n"
    )
    return "\n".join([where, training(), quality(), sampling(), growth()])


def main() -> None:
    if "--write" not in sys.argv[1:]:
        print(text(), end="")
        return
    put(README, BEGIN, text(), END)


if __name__ == "__main__":
    main()
