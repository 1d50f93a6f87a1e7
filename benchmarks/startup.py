"""Seconds from Enter to exit: --help against a bare Typer program's, and ``charrnn sample --length 200``.

    python benchmarks/startup.py [--json FILE] [--runs 11]

Targets: help at most 1.5 times the bare program's; sample (2x256 LSTM) at most 0.25 s over ``charrnn --help``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import header
from sampling import random_checkpoint

#: As many commands as charrnn has, and options as its largest have.
COMMANDS, OPTIONS = 8, 25


def bare_program() -> str:
    """A Typer program that does nothing."""
    options = ",\n    ".join(
        f'option_{k}: Annotated[int, typer.Option("--option-{k}", help="Some help.")] = {k}' for k in range(OPTIONS)
    )
    commands = "".join(
        f'\n@app.command()\ndef command_{k}(\n    {options}\n) -> None:\n    "A command."\n' for k in range(COMMANDS)
    )
    return f"from typing import Annotated\nimport typer\napp = typer.Typer()\n{commands}\napp()\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--runs", type=int, default=11)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bare, model = Path(folder, "bare.py"), Path(folder, "model.safetensors")
        bare.write_text(bare_program())
        random_checkpoint(256).save(model)
        charrnn = [sys.executable, "-m", "charrnn"]
        commands = {
            "bare Typer --help": [sys.executable, str(bare), "--help"],
            "bare Typer command --help": [sys.executable, str(bare), "command-1", "--help"],
            "charrnn --help": [*charrnn, "--help"],
            "charrnn train --help": [*charrnn, "train", "--help"],
            "charrnn sample --length 200": [*charrnn, "sample", str(model), "--length", "200"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(arguments.runs + 1):  # in turns, so that a slow moment is everyone's
            for name, command in commands.items():
                began = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                if turn:
                    seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        print(f"{name:30}{median:7.3f} s")
    figures = {
        "help_ratio": medians["charrnn --help"] / medians["bare Typer --help"],
        "train_help_ratio": medians["charrnn train --help"] / medians["bare Typer command --help"],
        "sample_over_help_seconds": medians["charrnn sample --length 200"] - medians["charrnn --help"],
    }
    print(f"help {figures['help_ratio']:.2f}x, train help {figures['train_help_ratio']:.2f}x (target 1.5x)")
    print(f"sample {figures['sample_over_help_seconds']:+.3f} s over help (target +0.250 s)")
    if arguments.json:
        document = {
            **header("startup"),
            "seconds": medians,
            **figures,
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
