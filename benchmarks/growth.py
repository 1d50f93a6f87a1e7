"""How time and memory grow with the text, and training's speed with width, batch and window.

    python benchmarks/growth.py [--json FILE] [--device cpu|cuda] [--sizes 1 10 100] [--runs 3]
    python benchmarks/growth.py --sizes 1000

Texts of so many million bytes are War and Peace, repeated into a temporary folder, where each of their bytes takes two.
For each size, medians over the runs of:

- ``charrnn prepare``, with a validation split of always 100,000 bytes, so that what follows depends on the size of the
  corpus alone;
- ``charrnn train`` of a 2x128 LSTM for 20 steps, one validation at the end. ``until step`` is how long after its start
  it made its ``config.toml``, which it does just before the first step;
- ``charrnn eval`` of that model on the validation split.

Seconds are from the start of the process to its end, and memory is its peak (ru_maxrss), which counts those pages of a
mapped file that were touched. Then characters per second of the whole training step (see training.py) of an LSTM,
hidden size, batch and window each varied around 2x256, 64, 64; all take turns in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import header, in_turns, text_file

MEGABYTE = 1_000_000
VALIDATION = 0.1  # megabytes
#: What one of the shape (hidden size, batch, window) becomes while the others stay.
MIDDLE = (256, 64, 64)
VARIED = {
    "hidden size": (64, 128, 256, 512, 1024),
    "batch": (8, 16, 32, 64, 128, 256),
    "window": (16, 32, 64, 128, 256),
}


def repeat(source: Path, megabytes: int, target: Path) -> None:
    """Write a text of this size: whole copies of another, then its beginning as far as there is room."""
    text = source.read_text(encoding="utf-8-sig").encode()
    whole, rest = divmod(megabytes * MEGABYTE, len(text))
    with target.open("wb") as stream:
        for _ in range(whole):
            stream.write(text)
        stream.write(text[:rest].decode(errors="ignore").encode())


def run(folder: str, *arguments: str) -> dict[str, float]:
    """Seconds and peak megabytes of one ``charrnn`` command.

    A process's peak is at least that of the one that started it, so this one has not loaded PyTorch yet.
    """
    began = time.perf_counter()
    command = [sys.executable, "-m", "charrnn", *arguments, "--quiet", "--json"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"charrnn {arguments[0]} ended with exit code {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, "megabytes": usage.ru_maxrss * unit / MEGABYTE}


def commands(source: Path, megabytes: int, runs: int, device: str) -> dict[str, dict[str, float]]:
    """Medians of prepare, train and eval on a text of this size."""
    share = 100 * VALIDATION / megabytes
    taken: dict[str, list[dict[str, float]]] = {"prepare": [], "train": [], "eval": []}
    with tempfile.TemporaryDirectory() as folder:
        repeat(source, megabytes, Path(folder, "text.txt"))
        split = f"{100 - share:.6f},{share:.6f},0"
        shape = ("--hidden-size", "128", "--num-layers", "2", "--steps", "20", "--validate-every", "20")
        for _ in range(runs):
            taken["prepare"].append(run(folder, "prepare", "text.txt", "--split", split, "--name", "text", "--force"))
            began = time.time()
            figures = run(folder, "train", "corpora/text", *shape, "--run", "run", "--force", "--device", device)
            figures["until_step"] = Path(folder, "checkpoints/run/config.toml").stat().st_mtime - began
            taken["train"].append(figures)
            taken["eval"].append(run(folder, "eval", "run", "--device", device))
    return {
        name: {key: statistics.median(figures[key] for figures in list_) for key in list_[0]}
        for name, list_ in taken.items()
    }


def throughput(text: Path, device: str, seconds: float) -> dict[str, dict[int, float]]:
    """Characters per second of the whole step, by what is varied and its value."""
    from training import begin, synchronise, whole  # not before: they load PyTorch

    from charrnn.data.corpus import prepare
    from charrnn.model.compute import choose_compute

    compute = choose_compute(device)
    shapes = {
        (name, value): tuple(value if k == place else middle for k, middle in enumerate(MIDDLE))
        for place, (name, values) in enumerate(VARIED.items())
        for value in values
    }
    with tempfile.TemporaryDirectory() as folder:
        corpus = prepare([str(text)], output=Path(folder, "text"))
        steps = {str(shape): whole(begin(corpus, compute, "lstm", 2, *shape)) for shape in set(shapes.values())}
        rates = in_turns(steps, seconds, synchronise(device))
    return {name: {value: rates[str(shapes[name, value])] for value in values} for name, values in VARIED.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--text", type=Path, metavar="FILE", help="default: War and Peace from the shared corpora")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 10, 100], metavar="MEGABYTES")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each shape of the throughput")
    arguments = parser.parse_args()
    text = text_file(arguments.text, "warpeace.txt")
    needed, free = 2 * max(arguments.sizes) * MEGABYTE, shutil.disk_usage(tempfile.gettempdir()).free
    if needed > 0.9 * free:
        raise SystemExit(f"{tempfile.gettempdir()}: {free:,} bytes are free, about {needed:,} are needed; set TMPDIR")
    sizes: dict[int, dict[str, dict[str, float]]] = {}
    print(f"{'':9}{'prepare':>18}{'train':>20}{'until step':>12}{'eval':>20}", flush=True)
    for size in arguments.sizes:
        sizes[size] = row = commands(text, size, arguments.runs, arguments.device)
        cells = {name: f"{of['seconds']:8.2f} s {of['megabytes']:6,.0f} MB" for name, of in row.items()}
        until = row["train"]["until_step"]
        print(f"{size:6,} MB{cells['prepare']}  {cells['train']}{until:10.2f} s  {cells['eval']}", flush=True)
    rates = throughput(text, arguments.device, arguments.seconds)
    print("\ncharacters/s of training, LSTM 2x256, batch 64, window 64 but for")
    for name, row_of in rates.items():
        print(f"{name:12}" + "".join(f"{f'{value}: {rate:,.0f}':>16}" for value, rate in row_of.items()))
    if arguments.json:
        document = {
            **header("growth", arguments.device),
            "text": text.name,
            "megabytes": sizes,
            "characters_per_second": rates,
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
