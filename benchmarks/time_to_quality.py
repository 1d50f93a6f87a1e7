"""Seconds until a model reaches given nats per character on the validation split of tiny Shakespeare, 90/10.

    python benchmarks/time_to_quality.py [--json FILE] [--device cpu|cuda] [--nanogpt FOLDER]
    python benchmarks/time_to_quality.py --target 1.4697 100 3

For each target ``charrnn train FILE --split 90,10,0 --time-limit SECONDS`` runs as many times as asked, each with
another seed and in an empty folder. ``wall`` is from the start of the process to its end: loading PyTorch, preparing
the text, training, and the closing score; ``trained`` is without start-up, what ``train --json`` says. ``nats`` is then
measured by ``charrnn eval``: float32, state carried, every character of the split once; the target counts as reached
if that is at most the target. ``first at`` is the earliest validation on the way at or below it, without start-up.
Wall and trained are given as the median over the runs.

With ``--nanogpt``, a checkout of karpathy/nanoGPT trains after them on the same characters, in a copy: on a CPU by its
README's recipe for one, on a GPU by its ``config/train_shakespeare_char.py`` as it is. Its figure is its own: the mean
over random windows, each from an empty context, of which the last and the lowest that it printed are given. Its text is
prepared beforehand, outside its time. The ratio is of the seconds to its lowest and to the target nearest to that.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from report import header, text_file

#: Nats per character, the time limit that should do, how many runs.
TARGETS = ((1.886, 4, 3), (1.4697, 40, 3))
#: nanoGPT's own for a CPU, and for a GPU no more than its file says.
CPU_RECIPE = [
    "--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=1", "--block_size=64", "--batch_size=12",
    "--n_layer=4", "--n_head=4", "--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0",
]  # fmt: skip
RECIPES = {"cpu": CPU_RECIPE, "cuda": []}


def charrnn(text: Path, target: float, limit: float, seed: int, device: str) -> dict[str, Any]:
    """One training in an empty folder, and its score."""
    command = [sys.executable, "-m", "charrnn"]
    options = ["--split", "90,10,0", "--time-limit", f"{limit}s", "--seed", str(seed), "--device", device]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        trained = output([*command, "train", str(text), *options, "--quiet", "--json"], folder)
        wall = time.perf_counter() - began
        scored = output([*command, "eval", "--split", "validation", "--device", device, "--json"], folder)
        run = Path(folder, json.loads(trained)["best"]).parent
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    nats = json.loads(scored)["nats_per_char"]
    low = [line["seconds"] for line in lines if line.get("validation_nats_per_char", np.inf) <= target]
    return {
        "seed": seed,
        "wall_seconds": wall,
        "trained_seconds": json.loads(trained)["seconds"],
        "nats_per_char": nats,
        "reached": nats <= target,
        "first_at_seconds": min(low, default=None),
    }


def output(command: list[str], folder: str) -> str:
    """What a program prints; what it complains of is shown."""
    return subprocess.run(command, check=True, cwd=folder, stdout=subprocess.PIPE, text=True).stdout


def nanogpt(checkout: Path, text: Path, recipe: list[str]) -> dict[str, Any]:
    """Train nanoGPT in a copy of its checkout, and read what it prints as it prints it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "nanoGPT")
        shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"))
        write_data(text, copy / "data" / "shakespeare_char")
        command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *recipe]
        validations = []
        began = time.perf_counter()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(command, cwd=copy, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.match(r"step \d+: .*val loss ([\d.]+)", line):
                    validations.append((float(found[1]), time.perf_counter() - began))
        wall = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"nanoGPT ended with exit code {process.returncode}")
    lowest, seconds = min(validations)
    return {
        "wall_seconds": wall,
        "last_nats_per_char": validations[-1][0],
        "lowest_nats_per_char": lowest,
        "lowest_at_seconds": seconds,
    }


def write_data(text: Path, folder: Path) -> None:
    """What nanoGPT's own prepare.py writes, without its download."""
    characters = text.read_text(encoding="utf-8")
    symbols = sorted(set(characters))
    number = {symbol: k for k, symbol in enumerate(symbols)}
    ids = np.array([number[character] for character in characters], np.uint16)
    cut = int(len(ids) * 0.9)
    ids[:cut].tofile(folder / "train.bin")
    ids[cut:].tofile(folder / "val.bin")
    meta = {"vocab_size": len(symbols), "itos": dict(enumerate(symbols)), "stoi": number}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--text", type=Path, metavar="FILE", help="default: tiny Shakespeare from the shared corpora")
    parser.add_argument(
        "--target", nargs=3, action="append", metavar=("NATS", "SECONDS", "RUNS"), help="instead of the usual two"
    )
    parser.add_argument("--nanogpt", type=Path, metavar="FOLDER", help="a checkout of karpathy/nanoGPT, left as it is")
    arguments = parser.parse_args()
    text = text_file(arguments.text, "shakespeare.txt")
    results: list[dict[str, Any]] = []
    print(f"{'target':>8}{'seed':>6}{'wall':>9}{'trained':>9}{'nats':>9}{'first at':>10}", flush=True)
    for nats, limit, count in arguments.target or TARGETS:
        target, runs = float(nats), []
        for seed in range(int(count)):
            run = charrnn(text, target, float(limit), seed, arguments.device)
            runs.append(run)
            at = "never" if run["first_at_seconds"] is None else f"{run['first_at_seconds']:.1f} s"
            print(
                f"{target:8}{seed:6}{run['wall_seconds']:7.1f} s{run['trained_seconds']:7.1f} s"
                f"{run['nats_per_char']:9.4f}{at:>10}" + ("" if run["reached"] else "  missed"),
                flush=True,
            )
        medians = {key: statistics.median(run[key] for run in runs) for key in ("wall_seconds", "trained_seconds")}
        reached = sum(run["reached"] for run in runs)
        results.append({"target": target, "time_limit": float(limit), "reached": reached, **medians, "runs": runs})
        print(f"{target:8} reached by {reached} of {len(runs)}; wall {medians['wall_seconds']:.1f} s, median")
    document = {**header("time_to_quality", arguments.device), "text": text.name, "charrnn": results}
    if arguments.nanogpt:
        other = nanogpt(arguments.nanogpt, text, RECIPES[arguments.device])
        nearest = min(results, key=lambda result: abs(result["target"] - other["lowest_nats_per_char"]))
        print(
            f" nanoGPT{other['wall_seconds']:13.1f} s{other['last_nats_per_char']:18.4f} last, "
            f"{other['lowest_nats_per_char']:.4f} lowest, after {other['lowest_at_seconds']:.1f} s"
        )
        document["nanogpt"] = other
        if nearest["reached"] == len(nearest["runs"]):
            ratio = other["lowest_at_seconds"] / nearest["wall_seconds"]
            document |= {"ratio": ratio, "ratio_for_target": nearest["target"]}
            print(f"{ratio:.1f} times charrnn's wall for {nearest['target']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
