"""Every benchmark, one after the other; their JSON in ``benchmarks/results/``, and from it the README's tables.

    python benchmarks/all.py [--nanogpt FOLDER]                 # a CPU: about 30 minutes on two quiet cores
    python benchmarks/all.py --device cuda [--nanogpt FOLDER]   # a GPU: what it is for, and the targets beside it

The GPU's half has not been run yet: nothing in it is proven but that it starts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from report import text_file

HERE = Path(__file__).parent
RESULTS = HERE / "results"
#: Script and arguments.
CPU = [
    ("training", []),
    ("time_to_quality", []),
    ("sampling", []),
    ("startup", []),
    ("ngram", []),
    ("growth", ["--sizes", "1", "10", "100", "1000", "--runs", "1"]),
]
CUDA = [
    (
        "training",
        [
            "--cells",
            "lstm",
            "--sizes",
            "2x256",
            "2x512",
            "3x512",
            "3x768",
            "3x1024",
            "--batch-size",
            "128",
            "--profile",
        ],
    ),
    ("time_to_quality", ["--target", "1.4697", "22", "3"]),
    ("sampling", ["--batch", "8192"]),
]


def gpu_targets() -> list[tuple[str, float, float, bool]]:
    """What a GPU's results were to be, and are: what, target, measured, whether more is better. For an H200."""
    training, quality, sampling = (json.loads((RESULTS / f"{name}-cuda.json").read_text()) for name, _ in CUDA)
    row: dict[str, Any] = training["results"]["lstm 3x768"]
    sampled = sampling["results"]["2x256"]
    (run,) = quality["charrnn"]
    seconds = run["wall_seconds"] if run["reached"] == len(run["runs"]) else float("inf")
    targets = [
        ("training 3x768, of the fused layers' bound", 0.8, row["whole_over"]["layers"], True),
        ("training 3x768, characters/s", 3e6, row["characters_per_second"]["whole"], True),
        ("seconds to 1.4697 nats, from process start", 30.0, seconds, False),
        ("sampling 2x256, one stream, characters/s", 30_000.0, sampled["single"], True),
        ("sampling 2x256, 8,192 streams, characters/s", 5e6, sampled["batch"], True),
    ]
    if "ratio" in quality:
        targets.append(("nanoGPT's seconds over charrnn's", 2.0, quality["ratio"], True))
    return targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--nanogpt", type=Path, metavar="FOLDER", help="a checkout of karpathy/nanoGPT, left as it is")
    arguments = parser.parse_args()
    suffix = "" if arguments.device == "cpu" else f"-{arguments.device}"
    with tempfile.TemporaryDirectory() as folder:
        model = ["-m", "charrnn", "train", str(text_file(None, "shakespeare.txt")), "--split", "90,10,0", "--quiet"]
        subprocess.run([sys.executable, *model, "--run", "model", "--time-limit", "80s"], check=True, cwd=folder)
        for name, options in CPU if arguments.device == "cpu" else CUDA:
            command = [sys.executable, str(HERE.resolve() / f"{name}.py"), *options]
            command += ["--json", str(RESULTS.resolve() / f"{name}{suffix}.json")]
            if arguments.device != "cpu":
                command += ["--device", arguments.device]
            if name == "sampling":
                command += ["--checkpoint", "model"]
            if name == "time_to_quality" and arguments.nanogpt:
                command += ["--nanogpt", str(arguments.nanogpt.resolve())]
            print(f"\n{name}", flush=True)
            subprocess.run(command, check=True, cwd=folder)
    if arguments.device == "cuda":
        for what, target, measured, more in gpu_targets():
            met = measured >= target if more else measured <= target
            print(f"{what:45}{measured:14,.2f}  target {target:12,.2f}  {'met' if met else 'MISSED'}")
    else:
        subprocess.run([sys.executable, str(HERE / "table.py"), "--write"], check=True)


if __name__ == "__main__":
    main()
