"""Several models on one text: their figures, and their differences with intervals of their own.

Two models find the same passages hard, so the difference of their figures is known much better than either figure:
it is measured block by block on the same blocks of text.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.architectures import title
from charrnn.checkpoint import Checkpoint
from charrnn.errors import TextError, UsageError
from charrnn.evaluation.evaluator import scoring_engine
from charrnn.evaluation.metrics import Figures, block_lengths, measure, ratio_interval, unknown_cost
from charrnn.evaluation.surprisal import Ids, Piece, surprisals


@dataclass(frozen=True)
class Scored:
    """One model's figures on the text, and ``seconds``, the time it took.

    ``nats`` has those of each character, (N,), where they are kept, and is empty where not.
    """

    checkpoint: Checkpoint
    figures: Figures
    seconds: float
    nats: NDArray[np.float32]

    @property
    def sums(self) -> NDArray[np.float64]:
        """The nats of its blocks, for pairing."""
        return np.array(self.figures.block_nats)


@dataclass(frozen=True)
class Compared:
    """A model beside the best one: how many bits per character more it needs, with a 95 % interval.

    The best one's difference is 0 and has no interval; nor has any on a text too short for one.
    """

    scored: Scored
    difference: float
    interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """As ``compare --json`` lists it."""
        checkpoint, figures = self.scored.checkpoint, self.scored.figures
        model = checkpoint.config.model
        seconds = checkpoint.record.get("seconds")
        return {
            "checkpoint": str(checkpoint.path),
            "model": title(model),
            "cell": model.cell,
            "num_layers": model.num_layers,
            "hidden_size": model.hidden_size,
            "parameters": checkpoint.parameters,
            "bytes": checkpoint.path.stat().st_size if checkpoint.path is not None else None,
            "unseen": figures.unseen,
            "nats_per_char": figures.nats_per_char,
            "bits_per_char": figures.bits_per_char,
            "bits_per_char_interval": _listed(figures.bits_interval),
            "perplexity": figures.perplexity,
            "difference": self.difference,
            "difference_interval": _listed(self.interval),
            "training_seconds": float(seconds) if isinstance(seconds, int | float) else None,
            "characters_per_second": figures.characters / max(self.scored.seconds, 1e-9),
        }


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def score(checkpoint: Checkpoint, ids: Ids, num_bytes: int, device: str = "auto", *, keep: bool = False) -> Scored:
    """Score a text, (N,) in the checkpoint's ids, keeping what pairing needs, or the nats of each character too.

    Raises:
        TextError: the text is empty.
    """
    if len(ids) == 0:
        raise TextError("the text to compare on is empty; a perplexity needs at least one character")
    vocabulary = checkpoint.vocabulary
    engine = scoring_engine(checkpoint, len(ids), device)
    kept = np.zeros(len(ids) if keep else 0, np.float32)
    begin = time.perf_counter()
    pieces = surprisals(engine, ids, vocabulary.index("\n"))
    if keep:
        pieces = _kept(pieces, ids, vocabulary.unknown, unknown_cost(vocabulary), kept)
    figures = measure(pieces, ids, vocabulary, num_bytes)
    return Scored(checkpoint, figures, time.perf_counter() - begin, kept)


def _kept(pieces: Iterable[Piece], ids: Ids, unknown: int, cost: float, kept: NDArray[np.float32]) -> Iterator[Piece]:
    """The pieces as they are; on the way their nats, the cost of unseen characters included, are kept, (N,)."""
    for start, nats in pieces:
        stop = start + len(nats)
        kept[start:stop] = nats + cost * (np.asarray(ids[start:stop]) == unknown)
        yield start, nats


def compare(models: Sequence[Scored]) -> list[Compared]:
    """The models, best first, with the paired difference of each to the best.

    Raises:
        UsageError: they were not scored on the same characters.
    """
    if len({model.figures.characters for model in models}) > 1:
        raise UsageError("compare: the models read the text in different units, char and byte; compare them apart")
    ranked = sorted(models, key=lambda model: model.figures.nats)
    best = ranked[0]
    lengths = block_lengths(best.figures.characters)
    compared = [Compared(best, 0.0, None)]
    for model in ranked[1:]:
        nats = model.sums - best.sums
        interval = ratio_interval(nats, lengths)
        bits = None if interval is None else (interval[0] / math.log(2), interval[1] / math.log(2))
        compared.append(Compared(model, float(nats.sum() / lengths.sum()) / math.log(2), bits))
    return compared
