"""Characters per second of training: charrnn's whole step against a bare loop, the machine, a character at a time.

    python benchmarks/training.py [--json FILE] [--device cpu|cuda] [--cells lstm ...] [--sizes 2x256 ...] [--profile]

``whole`` is the Trainer's own step, as ``charrnn train`` begins it (dropout off): the windows cut from the prepared
text, forward, backward, clipping, AdamW, averaged weights. Beside it, with the same shapes:

- ``autocast`` and ``fp32``: a bare loop around torch's multi-layer cell, the least that any program pays: embedding,
  cell, linear layer, cross entropy, backward, fused AdamW; text already on the device, nothing clipped or averaged.
  Autocast is bfloat16 on a CPU, and float16 with loss scaling on a GPU.
- ``stepped``: the fp32 loop given one character a call, the losses summed, one backward and one AdamW step a window.
- ``limit``: floating-point operations of a step, 6 for every weight of its products and character (the recurrent
  layers and the head; looking up a character's vector is free), at the rate of large square ``torch.mm`` in the format
  that charrnn computes in.
- ``layers``, on a GPU: batch * window / (layers * time of one fused layer's forward and backward, H inputs, half).

All of a cell and size take turns in this process, the matrices too; figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from report import header, in_turns, text_file
from torch import Tensor, nn

from charrnn.architectures import weight_shapes
from charrnn.cells import CELLS
from charrnn.config import Config, ModelConfig, TrainingConfig
from charrnn.data.corpus import Corpus, prepare
from charrnn.model.compute import Compute, choose_compute
from charrnn.presets import settle
from charrnn.training.session import machine
from charrnn.training.trainer import Trainer

#: One optimiser step; returns how many characters it trained on.
Step = Callable[[], int]
SIZES = ("2x128", "2x256", "2x512", "3x512", "3x1024")
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Per device the format of autocast, and the width of square matrices that are large there.
HALF = {"cpu": torch.bfloat16, "cuda": torch.float16}
LARGE = {"cpu": 2048, "cuda": 8192}
KERNELS = 15


def begin(
    corpus: Corpus, compute: Compute, cell: str, layers: int, hidden_size: int, batch_size: int, sequence_length: int
) -> Trainer:
    """A trainer as ``charrnn train`` makes it, of layers such as the bare loops have: nothing is normalised or dropped,
    and each reads the one below. The run is so long that the learning rate stays low."""
    model = ModelConfig(
        cell=cell, num_layers=layers, hidden_size=hidden_size, connections="plain", layer_norm=False, dropout=0.0,
        output_dropout=0.0,
    )  # fmt: skip
    training = TrainingConfig(batch_size=batch_size, sequence_length=sequence_length, steps=1_000_000)
    characters = corpus.splits["train"].characters
    choice = settle(Config(model, training), characters=characters, machine=machine(compute))
    return Trainer(choice.config, corpus, compute, notify=print)


def whole(trainer: Trainer) -> Step:
    """The trainer's step. Its windows may be a character shorter than asked for, so it is asked how many it did."""

    def step() -> int:
        before = trainer.characters
        trainer._advance()
        return trainer.characters - before

    return step


class Bare:
    """The least that trains a network of these shapes.

    Args:
        dtype: of autocast; None is fp32 throughout.
        stepped: one character a call of the cell, as char-rnn.pytorch trains.
    """

    def __init__(
        self, config: Config, corpus: Corpus, device: str, dtype: torch.dtype | None = None, *, stepped: bool = False
    ) -> None:
        model, training, symbols = config.model, config.training, len(corpus.vocabulary)
        self.embedding = nn.Embedding(symbols, model.embedding_size)
        self.cell = getattr(nn, CELLS[model.cell].layer)(model.embedding_size, model.hidden_size, model.num_layers)
        self.head = nn.Linear(model.hidden_size, symbols)
        network = nn.ModuleList([self.embedding, self.cell, self.head]).to(device)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
        self.scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
        self.autocast = torch.autocast(device, dtype=dtype, enabled=dtype is not None)
        ids = torch.from_numpy(corpus.ids("train").astype("int64"))
        length = len(ids) // training.batch_size
        self.text = ids[: length * training.batch_size].view(-1, length).t().contiguous().to(device)
        self.window, self.at = training.sequence_length, 0
        self.state: Any = None  # as the cell gives it: h, or (h, c)
        self.loss = self.stepped_loss if stepped else self.fused_loss

    def __call__(self) -> int:
        """One optimiser step."""
        part = self.text[self.at : self.at + self.window + 1]
        self.at = self.at + self.window if self.at + 2 * self.window < len(self.text) else 0
        inputs, targets = part[:-1], part[1:]
        with self.autocast:
            loss = self.loss(inputs, targets)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        h = self.state
        self.state = tuple(part.detach() for part in h) if isinstance(h, tuple) else h.detach()
        return targets.numel()

    def fused_loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The whole window in one call."""
        y, self.state = self.cell(self.embedding(inputs), self.state)
        return F.cross_entropy(self.head(y).float().flatten(0, 1), targets.flatten())

    def stepped_loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """A call for each character."""
        losses = []
        for character, target in zip(inputs, targets, strict=True):
            y, self.state = self.cell(self.embedding(character)[None], self.state)
            losses.append(F.cross_entropy(self.head(y[0]).float(), target))
        return torch.stack(losses).sum()


def product(compute: Compute) -> Step:
    """A product of two large square matrices; the step returns its floating-point operations."""
    n, dtype = LARGE[compute.device.type], TYPES[compute.precision]
    a, b = (torch.randn(n, n, device=compute.device).to(dtype) for _ in range(2))

    def step() -> int:
        torch.mm(a, b)
        return 2 * n**3

    return step


def fused_layer(config: Config, device: str) -> Step:
    """Forward and backward of one layer alone, weights and all in half precision."""
    H, B, T = config.model.hidden_size, config.training.batch_size, config.training.sequence_length
    layer = getattr(nn, CELLS[config.model.cell].layer)(H, H).to(device, HALF[device])
    x = torch.randn(T, B, H, device=device, dtype=HALF[device], requires_grad=True)
    sources, gradient = [x, *layer.parameters()], torch.randn_like(x)

    def step() -> int:
        torch.autograd.grad(layer(x)[0], sources, gradient)
        return B * T

    return step


def operations(config: Config, symbols: int) -> int:
    """Floating-point operations per character, forward and backward, of the matrix products."""
    shapes = weight_shapes(config.model, symbols)
    return 6 * sum(math.prod(s) for name, s in shapes.items() if len(s) == 2 and name != "embedding.weight")


def measure(trainer: Trainer, corpus: Corpus, seconds: float) -> dict[str, Any]:
    """Rates of one cell and size, and what they are of each other."""
    config, compute, device = trainer.config, trainer.compute, trainer.compute.device.type
    steps: dict[str, Step] = {
        "whole": whole(trainer),
        "autocast": Bare(config, corpus, device, HALF[device]),
        "fp32": Bare(config, corpus, device),
        "stepped": Bare(config, corpus, device, stepped=True),
        "matrices": product(compute),
    }
    if device == "cuda":
        steps["layers"] = fused_layer(config, device)
    rates = in_turns(steps, seconds, synchronise(device))
    work, matrices = operations(config, len(corpus.vocabulary)), rates.pop("matrices")
    rates["limit"] = matrices / work
    if device == "cuda":
        rates["layers"] /= config.model.num_layers
    return {
        "characters_per_second": rates,
        "gflops": rates["whole"] * work / 1e9,
        "matrix_gflops": matrices / 1e9,
        "whole_over": {name: rates["whole"] / rate for name, rate in rates.items() if name != "whole"},
    }


def synchronise(device: str) -> Callable[[], object]:
    """What waits for the device."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def kernels(step: Step, device: str) -> list[dict[str, Any]]:
    """The kernels that one step spends most time in; on a CPU, torch's operators."""
    activities = torch.profiler.ProfilerActivity
    chosen = [activities.CPU, activities.CUDA] if device == "cuda" else [activities.CPU]
    with torch.profiler.profile(activities=chosen) as profile:
        step()
        synchronise(device)()
    events = [event for event in profile.key_averages() if event.device_type.name.lower() == device]
    attribute = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    events.sort(key=lambda event: -getattr(event, attribute))
    return [
        {"milliseconds": getattr(event, attribute) / 1e3, "calls": event.count, "name": event.key}
        for event in events[:KERNELS]
    ]


def table_row(row: dict[str, Any], names: Iterable[str]) -> str:
    """The whole step's rate; then each other's, and how many times that the whole step is."""
    rates, over = row["characters_per_second"], row["whole_over"]
    return f"{rates['whole']:12,.0f}" + "".join(f"{rates[name]:12,.0f} ({over[name]:5.2f}x)" for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--text", type=Path, metavar="FILE", help="default: tiny Shakespeare from the shared corpora")
    parser.add_argument("--cells", nargs="+", default=["rnn", "lstm", "gru"], choices=tuple(CELLS), metavar="CELL")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="LxH")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--sequence-length", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each contender of a cell and size")
    parser.add_argument("--profile", action="store_true", help="also the kernels of charrnn's step")
    arguments = parser.parse_args()
    text, compute = text_file(arguments.text, "shakespeare.txt"), choose_compute(arguments.device)
    names = ["autocast", "fp32", "stepped", "limit", *(["layers"] if arguments.device == "cuda" else [])]
    results: dict[str, dict[str, Any]] = {}
    print(f"{compute}; in brackets how many times as fast the whole step is")
    print(f"{'characters/s':13}{'whole':>12}" + "".join(f"{name:>12}{'':9}" for name in names), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus = prepare([str(text)], output=Path(folder, "text"))
        for cell in arguments.cells:
            for size in arguments.sizes:
                layers, hidden_size = map(int, size.split("x"))
                shape = (cell, layers, hidden_size, arguments.batch_size, arguments.sequence_length)
                trainer = begin(corpus, compute, *shape)
                row = measure(trainer, corpus, arguments.seconds)
                results[f"{cell} {size}"] = row
                print(f"{cell + ' ' + size:13}" + table_row(row, names), flush=True)
                if arguments.profile:
                    row["kernels"] = kernels(whole(trainer), arguments.device)
                    for kernel in row["kernels"]:
                        print("{milliseconds:12.3f} ms {calls:5} x {name:.90}".format(**kernel))
    if arguments.json:
        document = {
            **header("training", arguments.device),
            "compute": str(compute),
            "text": text.name,
            "batch_size": arguments.batch_size,
            "sequence_length": arguments.sequence_length,
            "results": results,
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
