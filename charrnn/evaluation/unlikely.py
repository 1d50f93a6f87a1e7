"""The least likely characters of a text, and what was expected in their place: where typing errors are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.engine import Engine
from charrnn.decoding.ensemble import Model
from charrnn.decoding.filters import log_softmax
from charrnn.errors import TextError
from charrnn.evaluation.evaluator import scoring_engine
from charrnn.evaluation.metrics import unknown_cost
from charrnn.evaluation.surprisal import WARMUP, Ids, surprisals


@dataclass(frozen=True)
class Unlikely:
    """A character: its place in the text, its surprisal in bits, and the likeliest ids there with their probability."""

    at: int
    bits: float
    expected: tuple[tuple[int, float], ...]


def least_likely(
    model: Model, ids: Ids, count: int, device: str = "auto", top: int = 3
) -> tuple[float, list[Unlikely]]:
    """Bits per character of a text given as the model's ids, (N,), and its ``count`` least likely characters.

    Scored as ``eval`` does; the least likely first, and of several that are as unlikely, the first in the text.

    Raises:
        TextError: the text is empty.
    """
    if len(ids) == 0:
        raise TextError("the text to score is empty; name one with a character in it")
    vocabulary = model.vocabulary
    engine = scoring_engine(model, len(ids), device)
    nats = unknown_cost(vocabulary) * (np.asarray(ids) == vocabulary.unknown)
    for start, piece in surprisals(engine, ids, vocabulary.index("\n")):
        nats[start : start + len(piece)] += piece
    bits = nats / math.log(2)
    places = np.argsort(-bits, kind="stable")[:count].tolist()
    worst = [Unlikely(at, float(bits[at]), _expected(engine, vocabulary, ids, at, top)) for at in places]
    return float(bits.mean()), worst


def _expected(engine: Engine, vocabulary: Vocabulary, ids: Ids, at: int, top: int) -> tuple[tuple[int, float], ...]:
    """The likeliest ids at a place, as lanes know it: after what stands before it, as far back as matters."""
    before = np.append(vocabulary.index("\n"), ids[max(0, at - WARMUP) : at])[at >= WARMUP :]
    logits, _ = engine.run(before[:, None], engine.initial_state(1))
    probabilities = np.exp(log_softmax(logits[-1, 0].astype(np.float64)))
    probabilities[vocabulary.unknown] = 0  # it stands for many, and none of them is expected
    likeliest = np.argsort(-probabilities, kind="stable")[: min(top, len(vocabulary) - 1)].tolist()
    return tuple((k, float(probabilities[k])) for k in likeliest)
