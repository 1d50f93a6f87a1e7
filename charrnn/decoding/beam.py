"""Beam search: the likeliest texts, as far as a search over K at a time finds them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.alphabet import Alphabet
from charrnn.decoding.engine import Engine
from charrnn.decoding.filters import is_number, log_softmax
from charrnn.decoding.generator import (
    MOST_AT_ONCE,
    Sample,
    check_stop,
    check_whole,
    ends_with,
    finished,
    read,
    stop_ids,
)
from charrnn.errors import UsageError


@dataclass(frozen=True)
class BeamSearch:
    """How to search. Lengths are in the model's unit: characters, or bytes.

    ``length_penalty`` is α of :func:`normalised`; ``no_repeat_ngram`` = n allows no n characters in a row twice in the
    generated text.

    Raises:
        UsageError: a value out of range.
    """

    beam: int = 5
    length: int = 500
    length_penalty: float = 0.6
    no_repeat_ngram: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_whole(1, length=self.length)
        check_whole(1, MOST_AT_ONCE, beam=self.beam)
        if self.no_repeat_ngram is not None:
            check_whole(1, no_repeat_ngram=self.no_repeat_ngram)
        if not is_number(self.length_penalty) or not 0 <= self.length_penalty < math.inf:
            raise UsageError(f"--length-penalty: expected 0 or more, got {self.length_penalty!r}")
        check_stop(self.stop)


def normalised(log_probability: float, length: int, alpha: float) -> float:
    """Log-probability over ((5 + length) / 6)^α: 0 favours short texts (Wu et al. 2016, equation 14)."""
    return log_probability * float(((5 + length) / 6) ** -alpha)  # however large α is, no overflow


def beam_search(
    engine: Engine,
    vocabulary: Vocabulary,
    prompt: str = "",
    settings: BeamSearch | None = None,
    *,
    utf8: bool = True,
) -> list[Sample]:
    """The likeliest continuations of newline and prompt that were found, best first; K at most.

    All hypotheses of a step are one batch. One that ends — by length, or with a stop string, as in
    :class:`~charrnn.decoding.generator.Generation` — keeps its place of the K, so that K = 1 is the greedy choice and a
    K as wide as the space is exhaustive search. Probabilities are the model's own.
    """
    settings = settings or BeamSearch()
    alphabet = Alphabet(vocabulary, utf8)
    stops = stop_ids(vocabulary, settings.stop)
    n = settings.no_repeat_ngram
    V = len(vocabulary)

    logits, state = read(engine, vocabulary, prompt)
    scores, places = np.zeros(1), alphabet.start(1)  # log-probability and place of each hypothesis, (B,)
    texts = Histories(1)
    ended: list[Sample] = []
    while True:
        mask = alphabet.mask[places]  # (B, V)
        if n:
            mask = _without_repeats(mask, texts.ids, n)
        candidates = scores[:, None] + (log_softmax(logits) + mask)  # (B, V)
        best = _largest(candidates.reshape(-1), settings.beam - len(ended))
        parents, ids = np.divmod(best, V)
        scores, places = candidates[parents, ids], alphabet.following[places[parents], ids]
        texts.extend(parents, ids)

        long_enough = texts.length >= settings.length
        complete = alphabet.complete(places)
        keep = []
        for row in range(len(ids)):
            if (long_enough and complete[row]) or ends_with(texts.tail(row, stops), stops):
                score = normalised(float(scores[row]), texts.length, settings.length_penalty)
                ended.append(finished(vocabulary, vocabulary.units(texts.ids[row]), -float(scores[row]), score=score))
            else:
                keep.append(row)
        if not keep:
            return sorted(ended, key=lambda sample: -(sample.score or 0.0))
        rows = np.array(keep)
        if len(keep) < len(ids):
            parents, ids, scores, places = parents[rows], ids[rows], scores[rows], places[rows]
            texts.select(rows)
        logits, state = engine.step(ids, engine.select(state, parents))


class Histories:
    """The ids of each hypothesis so far, as one compact array (B, length).

    What all hypotheses have in common is not copied when they branch: once all descend from one hypothesis of some
    step, everything up to that step is settled, and only the columns since then move.
    """

    def __init__(self, batch_size: int) -> None:
        self.length = 0
        self._columns = np.zeros((batch_size, 64), np.int32)
        self._rows = batch_size
        self._settled = 0  # columns that are, and stay, the same in every row
        self._marked = 0  # a later step, and of which of its hypotheses each one descends
        self._origins = np.arange(batch_size)

    @property
    def ids(self) -> NDArray[np.int32]:
        """(B, length)."""
        return self._columns[: self._rows, : self.length]

    def extend(self, parents: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
        """Hypothesis b becomes hypothesis ``parents[b]`` and one more character."""
        self.select(parents)
        if self.length == self._columns.shape[1]:
            self._columns = np.concatenate((self._columns, np.zeros_like(self._columns)), 1)
        self._columns[: self._rows, self.length] = ids
        self.length += 1

    def select(self, rows: NDArray[np.int64]) -> None:
        """Hypothesis b becomes hypothesis ``rows[b]``."""
        if len(rows) > len(self._columns):
            added = np.zeros((len(rows) - len(self._columns), self._columns.shape[1]), np.int32)
            self._columns = np.concatenate((self._columns, added))
            self._columns[:, : self._settled] = self._columns[0, : self._settled]
        moving = slice(self._settled, self.length)
        self._columns[: len(rows), moving] = self._columns[rows, moving]
        self._rows = len(rows)
        self._origins = self._origins[rows]
        if (self._origins == self._origins[0]).all():
            settled = slice(self._settled, self._marked)
            self._columns[:, settled] = self._columns[0, settled]
            self._settled, self._marked = self._marked, self.length
            self._origins = np.arange(self._rows)

    def tail(self, row: int, endings: list[list[int]]) -> list[int]:
        """The last ids of a hypothesis, as many as the longest of the endings."""
        longest = max(map(len, endings), default=0)
        tail: list[int] = self.ids[row, max(0, self.length - longest) :].tolist()
        return tail


def _largest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Indices of the ``count`` largest finite values, largest first; of equal ones those with the lower index."""
    count = min(count, len(values))
    least = np.partition(values, -count)[-count]
    found = np.flatnonzero((values >= least) & np.isfinite(values))
    return found[np.argsort(-values[found], kind="stable")[:count]]


def _without_repeats(mask: NDArray[np.float32], ids: NDArray[np.int32], n: int) -> NDArray[np.float32]:
    """The mask (B, V) without characters that would complete an n-gram a second time, ids being (B, length).

    A hypothesis that has nothing else left may repeat: a text that cannot go on is of no use.
    """
    length = ids.shape[1]
    if length < n:
        return mask
    starts = length - n + 1  # of the n-grams so far
    same = np.ones((len(ids), starts), bool)
    for offset in range(n - 1):
        same &= ids[:, offset : offset + starts] == ids[:, length - n + 1 + offset, None]
    rows, columns = np.nonzero(same)
    stricter = mask.copy()
    stricter[rows, ids[rows, columns + n - 1]] = -np.inf
    open_ = np.isfinite(stricter).any(1, keepdims=True)
    return np.where(open_, stricter, mask)
