"""Characters per second of sampling: one stream, many at once, beam 5; and when the first character comes.

    python benchmarks/sampling.py [--json FILE] [--device cpu|cuda|mps] [--sizes 128 256 512] [--batch 64]

2-layer LSTMs with random weights and 66 symbols; every figure is a median of runs in this process, choosing included.
Beside them:

- ``stepped``: ``nn.LSTM`` given one character a call, as a sampler without an engine of its own does.
- ``limit``, on a CPU: every weight has to be read once for a character. Bytes of the engine's weights over the
  bandwidth at which the fastest of several library routines (sums and matrix-vector products of numpy and torch, on one
  thread and on all) reads as many bytes, or twice or four times as many, for less is not read more slowly.
- ``first``: seconds from the start of ``charrnn sample`` to its first byte, less those of all of ``charrnn --help``.

With ``--checkpoint``, what the engine's rounded weights cost: bits per character of the checkpoint's validation split.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from report import header

from charrnn.checkpoint import Checkpoint, locate
from charrnn.config import Config
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.beam import BeamSearch, beam_search
from charrnn.decoding.engine import engine_for
from charrnn.decoding.generator import Sampling, generate
from charrnn.decoding.native_engine import NativeEngine
from charrnn.evaluation.evaluator import corpus_ids, evaluate, trained_on
from charrnn.model.network import CharRNN
from charrnn.presets import MODEL

VOCABULARY = Vocabulary((10, *range(32, 96)))


def random_checkpoint(hidden_size: int) -> Checkpoint:
    """A 2-layer LSTM with random weights, not normalised: what reading them costs is the same."""
    config = dataclasses.replace(MODEL, hidden_size=hidden_size, layer_norm=False)
    model = CharRNN(config, len(VOCABULARY), torch.Generator().manual_seed(0))
    return Checkpoint(Config(config), VOCABULARY, model.weights())


@torch.inference_mode()
def step_fused(checkpoint: Checkpoint, device: str, length: int) -> str:
    """What a sampler without an engine of its own does: torch's fused layer, one character a call."""
    model = CharRNN(checkpoint.config.model, len(VOCABULARY)).eval()
    model.load_weights(checkpoint.weights)
    model.to(device)
    state, generator = model.initial_state(1), torch.Generator(device).manual_seed(0)
    ids, text = torch.zeros(1, 1, dtype=torch.long, device=device), []
    for _ in range(length):
        logits, state = model(ids, state)
        ids = torch.multinomial(logits[0].softmax(-1), 1, generator=generator)
        text.append(VOCABULARY.character(int(ids)))
    return "".join(text)


def rate(run: Callable[[], object], characters: int, runs: int) -> float:
    """Median characters per second, after one run to warm up."""
    seconds = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return characters / statistics.median(seconds[1:])


def bandwidth(size: int) -> float:
    """Bytes per second at which so many bytes are read, again and again, by the routine that is fastest at it."""
    columns, threads, rates = 1024, torch.get_num_threads(), []
    for rows in (size // 4 // columns * times for times in (1, 2, 4)):
        matrix, vector = np.ones((rows, columns), np.float32), np.ones(columns, np.float32)
        tensor, operand = torch.from_numpy(matrix), torch.from_numpy(vector)
        routines = (tensor.sum, partial(torch.mv, tensor, operand), partial(np.dot, matrix, vector))
        for count in {1, threads}:
            torch.set_num_threads(count)
            rates += [rate(routine, matrix.nbytes, 200) for routine in routines]
    torch.set_num_threads(threads)
    return max(rates)


def measure(hidden_size: int, device: str, batch: int, runs: int) -> dict[str, float]:
    """Characters per second by kind of decoding; of the search, those of the best text."""
    checkpoint = random_checkpoint(hidden_size)
    one, many = engine_for(checkpoint, device), engine_for(checkpoint, device, batch)
    length = 512 if device == "cuda" else 128
    row = {
        "single": rate(lambda: generate(one, VOCABULARY, "", Sampling(length=4096)), 4096, runs),
        "batch": rate(
            lambda: generate(many, VOCABULARY, "", Sampling(length=length, samples=batch)), length * batch, runs
        ),
        "beam_5": rate(lambda: beam_search(one, VOCABULARY, "", BeamSearch(5, 300)), 300, runs),
        "stepped": rate(lambda: step_fused(checkpoint, device, 200), 200, runs),
        "first": first_character(checkpoint, device, runs),
    }
    row["single_over_stepped"] = row["single"] / row["stepped"]
    if isinstance(one, NativeEngine):
        row["bytes"] = one.num_bytes
        row["bandwidth"] = bandwidth(one.num_bytes)
        row["limit"] = row["bandwidth"] / one.num_bytes
        row["single_over_limit"] = row["single"] / row["limit"]
    return row


def first_character(checkpoint: Checkpoint, device: str, runs: int) -> float:
    """Seconds to the first byte of a sample, less those of ``charrnn --help``; medians, in turns."""
    command = [sys.executable, "-m", "charrnn"]
    seconds: dict[str, list[float]] = {"help": [], "sample": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        checkpoint.save(path)
        for _ in range(runs + 1):
            began = time.perf_counter()
            subprocess.run([*command, "--help"], check=True, capture_output=True)
            seconds["help"].append(time.perf_counter() - began)
            began = time.perf_counter()
            arguments = [*command, "sample", str(path), "--length", "2000", "--device", device]
            with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                assert process.stdout is not None
                process.stdout.read(1)
                seconds["sample"].append(time.perf_counter() - began)
                process.stdout.read()
    return statistics.median(seconds["sample"][1:]) - statistics.median(seconds["help"][1:])


def cost_of_rounding(name: str) -> dict[str, float | str]:
    """Bits per character of a checkpoint's validation split, in float32 and by the engine that samples."""
    checkpoint = Checkpoint.load(locate(name))
    ids, num_bytes = corpus_ids(checkpoint, trained_on(checkpoint), "validation")
    exact = evaluate(checkpoint, ids, num_bytes, device="cpu").bits_per_char
    rounded = evaluate(checkpoint, ids, num_bytes, engine=NativeEngine.from_checkpoint(checkpoint)).bits_per_char
    return {"checkpoint": name, "float32": exact, "rounded": rounded, "difference": rounded - exact}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "mps"))
    parser.add_argument("--sizes", nargs="+", type=int, default=(128, 256, 512), metavar="H")
    parser.add_argument("--batch", type=int, default=64, help="streams at once; thousands on a GPU")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--checkpoint", nargs="*", default=(), help="trained models whose loss by rounding to measure")
    arguments = parser.parse_args()
    results = {}
    names = ("single", "batch", "beam_5", "stepped")
    print(f"{'characters/s':13}" + "".join(f"{name:>12}" for name in names) + f"{'limit':>22}{'first':>10}")
    for size in arguments.sizes:
        row = results[f"2x{size}"] = measure(size, arguments.device, arguments.batch, arguments.runs)
        print(f"2x{size:<11}" + "".join(f"{row[name]:12,.0f}" for name in names), end="")
        limit = f"{row['limit']:,.0f} ({row['single_over_limit']:.2f}x)" if "limit" in row else "-"
        print(f"{limit:>22}{row['first']:+8.3f} s; single is {row['single_over_stepped']:.1f}x stepped", flush=True)
    costs = [cost_of_rounding(name) for name in arguments.checkpoint]
    for cost in costs:
        print("{checkpoint}: {float32:.5f} bits per character, rounded {difference:+.5f}".format(**cost))
    if arguments.json:
        document = {
            **header("sampling", arguments.device), "batch": arguments.batch, "results": results, "rounding": costs,
        }  # fmt: skip
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
