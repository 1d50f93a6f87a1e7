"""The baseline that counts: a character n-gram model with interpolated modified Kneser-Ney smoothing.

Chen & Goodman, "An empirical study of smoothing techniques for language modeling", 1999; the 20-gram that Karpathy,
Johnson & Fei-Fei, "Visualizing and understanding recurrent networks", 2016, set beside their networks. With h' for the
context h without its first symbol, the probability of a symbol w after h is, at each order,

    p(w | h) = (c(hw) − D(c(hw))) / c(h·) + weight(h) p(w | h'),    weight(h) = Σ_w D(c(hw)) / c(h·)

and 1 / V below the first, so that every symbol has some. In the highest order c counts how often an n-gram occurs, in
those below after how many different symbols. A text stands after a newline, and the beginning, before that newline,
counts as one more symbol that an n-gram can stand after. A context that the text lacks leaves all to the order below.

    model = NGram.of(corpus.ids("train"), corpus.vocabulary, order=6)
    figures = measure(model.surprisals(ids), ids, corpus.vocabulary, num_bytes)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from charrnn.data.vocabulary import Vocabulary
from charrnn.errors import TextError, UsageError
from charrnn.evaluation.surprisal import Ids, Piece

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

#: So many characters are scored at once; what that takes in memory does not grow with the text.
PIECE = 1 << 20
#: Discounts where the counts of counts are no basis for any; those of KenLM's ``--discount_fallback``.
FALLBACK = (0.0, 0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Level:
    """The n-grams of one length, U of them, and what follows the C that are one symbol shorter, their contexts.

    An n-gram's number is its place in ``keys``; there is one context, number 0, of the n-grams of one symbol.

    Attributes:
        keys: (U,), ascending: the number of an n-gram's context, times V, plus its last symbol.
        shares: (U + 1,), its probability by this order alone; at the end 0, of those that are not here.
        weights: (C + 1,), what contexts leave to the order below; at the end 1, for those that are not here.
    """

    keys: Indices
    shares: Floats
    weights: Floats

    @classmethod
    def of(cls, keys: Indices, counts: Indices, num_contexts: int, num_symbols: int) -> Level:
        """From the n-grams' keys and c, each (U,)."""
        contexts = keys // num_symbols
        taken = discounts(counts)[np.minimum(counts, 3)]
        totals = np.bincount(contexts, counts, num_contexts + 1)
        left = np.bincount(contexts, taken, num_contexts + 1)
        last = totals == 0  # nothing follows: the context at the text's end, and the one that stands for all others
        totals[last] = left[last] = 1
        return cls(keys, np.append((counts - taken) / totals[contexts], 0.0), left / totals)

    def find(self, keys: Indices) -> Indices:
        """Numbers of the n-grams with these keys, in their shape; −1 for those that are not here."""
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, places, -1)


def discounts(counts: Indices) -> Floats:
    """What is taken from a count of 0, 1, 2, and of 3 or more, (4,), given all counts of an order.

    By Chen & Goodman's estimate from how many counts are 1, 2, 3 and 4. Where there are none of 1, 2 or 3, or where a
    discount would be more than the count, or nothing and so leave none for what was not seen, :data:`FALLBACK`.
    """
    _, one, two, three, four = np.bincount(np.minimum(counts, 5), minlength=6)[:5].tolist()
    if one and two and three:
        y = one / (one + 2 * two)
        found = (y, 2 - 3 * y * three / two, 3 - 4 * y * four / three)
        if all(0 < discount <= count for count, discount in enumerate(found, 1)):
            return np.array((0.0, *found))
    return np.array(FALLBACK)


@dataclass(frozen=True)
class NGram:
    """A model; it takes 24 bytes for each different n-gram of 1 to n symbols. All arithmetic is in float64.

    Attributes:
        levels: the n-grams of 1, 2, ... n symbols; no longer ones than the text with its newline has.
        num_symbols: V, the vocabulary's, ``unknown`` included.
        first: id of the newline that is taken to stand before every text.
    """

    levels: tuple[Level, ...]
    num_symbols: int
    first: int

    @classmethod
    def of(cls, ids: Ids, vocabulary: Vocabulary, order: int) -> NGram:
        """The model of a text.

        Besides the model it takes about 110 bytes per character, and the time of one sort of the text for each order.

        Args:
            ids: the text, (N,); may be in a file.
            vocabulary: the text's.
            order: n, the symbols of the longest n-grams; contexts have one less.

        Raises:
            TextError: the text is empty.
            UsageError: the order is below 1.
        """
        ((lower, highest),) = deque(_counted(ids, vocabulary, order), maxlen=1)
        return cls((*lower, highest()), len(vocabulary), vocabulary.index("\n"))

    @classmethod
    def up_to(cls, ids: Ids, vocabulary: Vocabulary, order: int) -> Iterator[NGram]:
        """The models of order 1, 2, ... of a text, each as :meth:`of` makes it; all in little more than its time."""
        for lower, highest in _counted(ids, vocabulary, order):
            yield cls((*lower, highest()), len(vocabulary), vocabulary.index("\n"))

    def surprisals(self, ids: Ids) -> Iterator[Piece]:
        """Score a text, (M,) in the vocabulary's ids, piece by piece in order; may be in a file.

        What is outside the vocabulary costs the nats of ``unknown``; ``metrics.measure`` adds the rest.
        """
        for start in range(0, len(ids), PIECE):
            stop = min(start + PIECE, len(ids))
            yield start, -np.log(self._probabilities(self._text(ids, start, stop))[start - stop :])

    def distribution(self, ids: Ids) -> Floats:
        """Probabilities of all symbols, (V,), to stand next in a text that begins with ids, (M,)."""
        text = np.append(self._text(ids, len(ids), len(ids)), 0)
        texts = np.repeat(text[:, None], self.num_symbols, axis=1)
        texts[-1] = np.arange(self.num_symbols)
        last: Floats = self._probabilities(texts)[-1]
        return last

    def _text(self, ids: Ids, start: int, stop: int) -> Indices:
        """``ids[start:stop]`` after the context of the first of them, and before that the newline: where the text
        begins it is part of the context, elsewhere it counts for nothing."""
        begin = max(0, start - len(self.levels) + 1)
        return np.concatenate(([self.first], ids[begin:stop]), dtype=np.int64)

    def _probabilities(self, text: Indices) -> Floats:
        """p of each symbol after those before it along the first axis, (T, ...), in the text's shape."""
        probabilities = np.full(text.shape, 1 / self.num_symbols)
        numbers = np.zeros(text.shape, np.int64)  # of the n-gram that begins here; -1 if the model lacks it
        for length, level in enumerate(self.levels, 1):
            ends = text[length - 1 :]
            contexts = numbers[: len(ends)]
            numbers = level.find(contexts * self.num_symbols + ends)  # negative, thus not found, after -1
            probabilities[length - 1 :] *= level.weights[contexts]
            probabilities[length - 1 :] += level.shares[numbers]
        return probabilities


def _counted(ids: Ids, vocabulary: Vocabulary, order: int) -> Iterator[tuple[tuple[Level, ...], Callable[[], Level]]]:
    """For n = 1, 2, ... the levels of a model of order n that are below n, and what makes its highest."""
    if len(ids) == 0:
        raise TextError("the text to count is empty; an n-gram model needs at least one character")
    if order < 1:
        raise UsageError(f"order: expected at least 1, got {order}")
    num_symbols, first = len(vocabulary), vocabulary.index("\n")
    text = np.concatenate(([first], ids), dtype=np.int64)
    order = min(order, len(text))  # there are no longer ones, and orders without any change no probability
    levels: tuple[Level, ...] = ()
    # Of the n-grams one symbol shorter: how many contexts they have, their keys, and which begins at each place.
    contexts, keys, numbers = 1, np.zeros(1, np.int64), np.zeros(len(text), np.int64)
    for length in range(1, order + 1):
        # Ranked by what they begin with, then by their last symbol: n-grams are numbered in lexicographic order.
        ends = text[length - 1 :]
        longer, begins, following, counts = np.unique(
            numbers[: len(ends)] * num_symbols + ends, return_index=True, return_inverse=True, return_counts=True
        )
        if length > 1:
            # As many symbols stand before one as there are different ones longer by a symbol before it.
            before = np.bincount(numbers[begins + 1], minlength=len(keys))
            if length > 2:
                before[numbers[0]] += 1  # the text's beginning
            levels += (Level.of(keys, before, contexts, num_symbols),)
            contexts = len(keys)
        keys, numbers = longer, following
        if length == 1:
            counts[numbers[0]] -= 1  # the newline before the text is a context, and was not to be predicted
        yield levels, partial(Level.of, keys, counts, contexts, num_symbols)
