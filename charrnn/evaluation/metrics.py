"""Figures over surprisals: sums of nats and counts of characters, never averages of averages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from charrnn.data.vocabulary import Vocabulary
from charrnn.evaluation.surprisal import Ids, Piece, Together

BLOCKS = 64


@dataclass(frozen=True)
class Figures:
    """What was measured on one text.

    ``nats`` and ``characters`` are the sums; ``unseen`` counts the characters outside the vocabulary and
    ``unseen_nats`` is their part of ``nats``; ``bytes`` is the text's length in UTF-8. ``interval`` is a 95 %
    confidence interval of the nats per character from the means of 64 contiguous blocks, which allows for
    neighbouring characters not being independent; ``None`` for a text too short for it. ``block_nats`` are the sums of
    these blocks.
    """

    characters: int
    unseen: int
    nats: float
    unseen_nats: float
    bytes: int
    interval: tuple[float, float] | None
    block_nats: tuple[float, ...] = field(default=(), repr=False)

    @property
    def nats_per_char(self) -> float:
        """Cross-entropy in nats per character."""
        return self.nats / self.characters

    @property
    def bits_per_char(self) -> float:
        """Cross-entropy in bits per character."""
        return self.nats_per_char / math.log(2)

    @property
    def bits_per_byte(self) -> float:
        """Bits over the bytes of the text in UTF-8: comparable between units and vocabularies."""
        return self.nats / math.log(2) / self.bytes

    @property
    def perplexity(self) -> float:
        """exp(nats per character)."""
        return perplexity(self.nats_per_char)

    @property
    def perplexity_seen(self) -> float | None:
        """Perplexity over the characters that the vocabulary has; ``None`` if there are none."""
        seen = self.characters - self.unseen
        return perplexity((self.nats - self.unseen_nats) / seen) if seen else None

    @property
    def bits_interval(self) -> tuple[float, float] | None:
        """The interval in bits per character."""
        return None if self.interval is None else (self.interval[0] / math.log(2), self.interval[1] / math.log(2))


def perplexity(nats: float) -> float:
    """exp of nats per character; finite however bad the model, for JSON has no infinity."""
    return math.exp(min(nats, 709.0))


#: The figures that ``eval`` can print alone, by option name.
METRICS: dict[str, Callable[[Figures], float]] = {
    "perplexity": lambda figures: figures.perplexity,
    "bits_per_char": lambda figures: figures.bits_per_char,
    "nats_per_char": lambda figures: figures.nats_per_char,
    "bits_per_byte": lambda figures: figures.bits_per_byte,
}


def unknown_cost(vocabulary: Vocabulary) -> float:
    """Nats added to −log p(unknown) for a character outside the vocabulary.

    The symbol's probability is spread evenly over everything that it stands for, so that probabilities of all texts
    still sum to one and perplexity is finite and honest on any of them.
    """
    return math.log(max(1, vocabulary.outside))


def measure(
    pieces: Iterable[Piece], ids: Ids, vocabulary: Vocabulary, num_bytes: int, together: Together | None = None
) -> Figures:
    """Fold the surprisals of a text into its figures.

    Args:
        pieces: as :func:`charrnn.evaluation.surprisal.surprisals` yields them.
        ids: the text, (N,), N >= 1.
        vocabulary: the model's.
        num_bytes: length of the text in UTF-8.
        together: processes that have the pieces between them.
    """
    lengths = block_lengths(len(ids))
    sums = np.zeros(len(lengths))
    unseen, unseen_nats, cost = 0, 0.0, unknown_cost(vocabulary)
    for start, nats in pieces:
        missing = np.asarray(ids[start : start + len(nats)]) == vocabulary.unknown
        if missing.any():
            nats = nats + cost * missing
            unseen += int(missing.sum())
            unseen_nats += float(nats[missing].sum())
        sums += by_block(start, nats, lengths)
    if together is not None:
        *blocks, missed, unseen_nats = together.totals(np.array([*sums, unseen, unseen_nats])).tolist()
        sums, unseen = np.array(blocks), int(missed)
    return Figures(
        len(ids), unseen, float(sums.sum()), unseen_nats, num_bytes, ratio_interval(sums, lengths), tuple(sums.tolist())
    )


def block_lengths(characters: int) -> NDArray[np.int64]:
    """Characters of each contiguous block of a text that has any; the last takes what is left over."""
    blocks = min(BLOCKS, characters)
    lengths = np.full(blocks, characters // blocks)
    lengths[-1] += characters % blocks
    return lengths


def by_block(start: int, nats: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """The nats of a piece of a text, added up by its blocks, which have these lengths."""
    block = np.minimum(np.arange(start, start + len(nats)) // lengths[0], len(lengths) - 1)
    return np.asarray(np.bincount(block, nats, len(lengths)), np.float64)


def ratio_interval(sums: NDArray[np.float64], lengths: NDArray[np.int64]) -> tuple[float, float] | None:
    """95 % interval of sum(sums)/sum(lengths), a ratio estimate, by Student's t with Cornish-Fisher quantiles."""
    n = len(sums)
    if n < 16:
        return None
    mean = sums.sum() / lengths.sum()
    error = math.sqrt(float(((sums - mean * lengths) ** 2).sum()) * n / (n - 1)) / float(lengths.sum())
    z, freedom = NormalDist().inv_cdf(0.975), n - 1
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return float(mean - t * error), float(mean + t * error)
