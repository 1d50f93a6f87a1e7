"""The training of an n-gram model: one step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from charrnn import provenance
from charrnn.architectures import TEXT
from charrnn.checkpoint import Checkpoint
from charrnn.config import Config
from charrnn.data.corpus import Corpus
from charrnn.evaluation.metrics import measure
from charrnn.evaluation.ngram import NGram
from charrnn.training.events import Event, Finished, Report, Snapshot, Started


class Counting:
    """The training of an n-gram model, with what a :class:`~charrnn.training.trainer.Trainer` shows to those who
    follow it.

    Args:
        config: settled settings.
        corpus: the text.
    """

    def __init__(self, config: Config, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus
        self.validation = corpus.ids("validation") if corpus.splits["validation"].characters else None
        self.num_parameters = 0
        self.stop_requested = False
        self.saved: Callable[[int], Checkpoint] | None = None

    def run(self) -> Iterator[Event]:
        """Count, score, and keep what is counted."""
        ids, vocabulary = self.corpus.ids("train"), self.corpus.vocabulary
        yield Started(0, "cpu", 0, 1, 1)
        began = time.monotonic()
        model = NGram.of(ids, vocabulary, self.config.model.order)
        self.num_parameters = sum(len(level.keys) for level in model.levels)
        seconds = time.monotonic() - began
        held = self.validation
        nats = None
        if held is not None:
            nats = measure(model.surprisals(held), held, vocabulary, 1).nats_per_char
        # What it gives its own text says nothing; with discounts it is no maximum of anything either.
        yield Report(1, 1.0, seconds, 0.0, 0.0, 0.0, len(ids) / max(seconds, 1e-9), 1.0, nats)
        record = {
            "steps": 1,
            "epochs": 1.0,
            "seconds": round(seconds, 3),
            "characters": len(ids),
            "best_step": 1,
            "validation_nats_per_char": nats,
            "parameters": self.num_parameters,
            "compute": "cpu",
            "precision": "fp64",
            "environment": provenance.environment(),
        }
        text = np.asarray(ids).astype(np.min_scalar_type(len(vocabulary)))
        checkpoint = Checkpoint(self.config, vocabulary, {TEXT: text}, self.corpus.description(), record)
        yield Snapshot(checkpoint, best=False)  # first: what --resume finds, wherever it is killed
        yield Snapshot(checkpoint, best=True)
        yield Finished("done", 1, 1.0, seconds, len(ids), 1, nats, 0 if held is None else len(held))
