"""A small training that tests break, and what two trainings are compared by."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disk import Disk

from charrnn.checkpoint import Checkpoint
from charrnn.config import Config, ModelConfig, TrainingConfig
from charrnn.data.corpus import Corpus, prepare
from charrnn.training import session

TEXT = "".join(f"{n} green bottles hanging on the wall, {n * 7} hanging there.\n" for n in range(40))


def small_corpus(folder: Path) -> Corpus:
    """A prepared text."""
    (folder / "text.txt").write_text(TEXT)
    return prepare([str(folder / "text.txt")], root=folder / "corpora")


def small_config(steps: int = 24, cell: str = "lstm", **training: Any) -> Config:
    """Everything that has a state is on: dropout of every kind, averaging, resets; it saves and validates often."""
    model = ModelConfig(
        cell=cell, num_layers=2, hidden_size=8, embedding_size=4, input_dropout=0.1, dropout=0.2, output_dropout=0.1,
        weight_dropout=0.2,
    )  # fmt: skip
    values = {
        "steps": steps, "batch_size": 4, "sequence_length": 16, "device": "cpu", "precision": "fp32",
        "validate_every": "8", "save_every": "5", "state_reset": 0.1, "averaging": 0.1, **training,
    }  # fmt: skip
    return Config(model, TrainingConfig(**values))


def figures(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``, times aside."""
    times = ("seconds", "characters_per_second")
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in times} for line in found]


def same_end(ours: Path, theirs: Path) -> bool:
    """Whether two runs ended with the same weights, state and samples, bit for bit."""
    mine, yours = (Checkpoint.load(run / "last.safetensors", with_state=True) for run in (ours, theirs))
    best = [Checkpoint.load(run / "best.safetensors").weights for run in (ours, theirs)]
    pairs = [(mine.weights, yours.weights), (mine.state, yours.state), (best[0], best[1])]
    return all(
        a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a) for a, b in pairs
    )


def go_on(folder: Path, given: Config, kill_at: int | None = None, halfway: bool = False) -> None:
    """Begin the run ``run`` of a folder, or go on with it, in a process of its own.

    Args:
        kill_at: the operation on a file before which, or in the middle of which, the process is killed.
        halfway: in the middle.
    """
    os.chdir(folder)
    torch.set_num_threads(1)

    def before(number: int, operation: object, half: Any) -> None:
        if number == kill_at:
            if halfway:
                half()
            os.kill(os.getpid(), signal.SIGKILL)

    Disk(pytest.MonkeyPatch(), before)
    if (folder / "checkpoints" / "run" / "last.safetensors").is_file():
        running = session.resume(Config(), name="run")
    else:
        running = session.begin(Corpus.open("corpora/text"), given, name="run", force=True)
    for _ in running.events():
        pass
