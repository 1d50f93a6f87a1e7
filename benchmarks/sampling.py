"""Characters per second of sampling: one stream, 64 at once, beam 5, and ``nn.LSTM`` stepped one at a time.

    python benchmarks/sampling.py [--json FILE] [--device cpu|cuda|mps]

LSTMs with random weights and 66 symbols; every figure is a median of runs in this process, choosing included.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from report import header

from charrnn.checkpoint import Checkpoint
from charrnn.config import Config
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.beam import BeamSearch, beam_search
from charrnn.decoding.engine import engine_for
from charrnn.decoding.generator import Sampling, generate
from charrnn.model.network import CharRNN
from charrnn.presets import MODEL

VOCABULARY = Vocabulary((10, *range(32, 96)))
SIZES = (128, 256, 512)


def random_checkpoint(hidden_size: int) -> Checkpoint:
    """A 2-layer LSTM with random weights."""
    config = dataclasses.replace(MODEL, hidden_size=hidden_size)
    model = CharRNN(config, len(VOCABULARY), torch.Generator().manual_seed(0))
    return Checkpoint(Config(config), VOCABULARY, model.weights())


@torch.inference_mode()
def step_fused(checkpoint: Checkpoint, length: int) -> None:
    """What a sampler without an engine of its own does: torch's fused layer, one character a call."""
    model = CharRNN(checkpoint.config.model, len(VOCABULARY)).eval()
    model.load_weights(checkpoint.weights)
    state, generator = model.initial_state(1), torch.Generator().manual_seed(0)
    ids = torch.zeros(1, 1, dtype=torch.long)
    for _ in range(length):
        logits, state = model(ids, state)
        ids = torch.multinomial(logits[0].softmax(-1), 1, generator=generator)


def rate(run: Callable[[], object], characters: int, runs: int) -> float:
    """Median characters per second, after one run to warm up."""
    seconds = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return characters / statistics.median(seconds[1:])


def measure(hidden_size: int, device: str, runs: int) -> dict[str, float]:
    """Characters per second by kind of decoding; of the search, those of the best text."""
    checkpoint = random_checkpoint(hidden_size)
    one, many = engine_for(checkpoint, device), engine_for(checkpoint, device, 64)
    return {
        "single": rate(lambda: generate(one, VOCABULARY, "", Sampling(length=1000)), 1000, runs),
        "batch_64": rate(lambda: generate(many, VOCABULARY, "", Sampling(length=100, samples=64)), 6400, runs),
        "beam_5": rate(lambda: beam_search(one, VOCABULARY, "", BeamSearch(5, 300)), 300, runs),
        "torch_stepped": rate(lambda: step_fused(checkpoint, 200), 200, runs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "mps"))
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    results = {f"2x{size}": measure(size, arguments.device, arguments.runs) for size in SIZES}
    print(f"{'characters/s':12}{'single':>10}{'64 at once':>12}{'beam 5':>9}{'nn.LSTM stepped':>17}{'ratio':>7}")
    for name, row in results.items():
        ratio = row["single"] / row["torch_stepped"]
        print(
            f"{name:12}{row['single']:10,.0f}{row['batch_64']:12,.0f}{row['beam_5']:9,.0f}"
            f"{row['torch_stepped']:17,.0f}{ratio:6.1f}x"
        )
    if arguments.json:
        document = {
            **header("sampling", arguments.device),
            "characters_per_second": results,
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
