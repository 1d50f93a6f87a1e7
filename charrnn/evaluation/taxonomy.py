"""The errors of a model taken apart: oracles, one after the other, each remove those of one kind.

After section 4.4 of Karpathy, Johnson & Fei-Fei, "Visualizing and understanding recurrent networks", 2016, whose own
program was not there to be compared with: shares are for setting models beside each other, not beside the paper's. The
order of the oracles decides what an error that several could remove is counted as: easily removed ones come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.data.vocabulary import Vocabulary, from_codes
from charrnn.evaluation.characters import NEWLINE, QUOTE, SPACE, Codes, classes_of, punctuation_in, words_of
from charrnn.evaluation.errors import HALF, LIMIT, Surprisals
from charrnn.evaluation.ngram import NGram

Indices = NDArray[np.intp]
#: For places in the text the step, 0 ... S − 1, at which an oracle removes an error there; S where it does not.
Steps = Callable[[Indices], NDArray[np.integer[Any]]]

#: Orders of the n-gram models, up to this one; after the paper.
ORDER = 9
#: Characters that the memory reaches back; after the paper, which has 5000 too.
MEMORY = (100, 500, 1000)
#: Times that a rare word occurs in the training text, at most; after the paper.
RARE = 5
#: What is added to the probability of the true character.
BOOSTS = (0.1, 0.2, 0.3, 0.4, 0.5)
#: n-grams and words are counted in this many characters at the end of the training text, so that memory (110 bytes
#: each) and time do not grow with it.
TRAINING = 10_000_000


@dataclass(frozen=True)
class Oracle:
    """What an oracle removes of the errors that those before it have left.

    Attributes:
        name: of the kind of errors.
        steps: names of ever stronger forms of the oracle; one, empty, where there is but one form.
        errors: how many each step removes that the one before has left, as many as steps.
    """

    name: str
    steps: tuple[str, ...]
    errors: tuple[int, ...]

    def to_json(self, total: int) -> dict[str, Any]:
        """As ``compare --errors --json`` lists it; shares are of ``total`` errors, and 0 if there are none."""

        def counted(errors: int) -> dict[str, Any]:
            return {"errors": errors, "share": errors / max(1, total)}

        steps = [{"step": step, **counted(errors)} for step, errors in zip(self.steps, self.errors, strict=True)]
        return {"oracle": self.name, **counted(sum(self.errors)), "steps": steps}


def taxonomy(nats: Surprisals, codes: Codes, training: Codes, vocabulary: Vocabulary) -> list[Oracle]:
    """The errors of a model on a text by what removes them; all are removed in the end.

    1. n-gram: of the n-gram models of order 1 to 9 (modified Kneser-Ney, see :class:`NGram`) of the training text at
       least one gives the character half the probability or more; step by step with the model of one order more.
    2. long memory: the character is in a word, but not its first, and the word stands somewhere in the 1000
       characters before it, as a word or within another ("dynamic n-long memory"); steps of 100 and 500 before that.
    3. rare word: the character is in a word that the training text has at most 5 times; steps from never to 5.
    4. word model: the character follows a space or a quote, or, second step, a newline. The text's first follows one.
    5. punctuation: the character is punctuation or a symbol.
    6. rest: the probability, with as much added as the step says, is half or more ("boost").

    Words are those of :func:`~charrnn.evaluation.characters.words_of`, capitals and small letters told apart.

    Args:
        nats: −log p of each character, (N,).
        codes: the text, (N,).
        training: the training text, (M,); of more than :data:`TRAINING` characters the last so many count.
        vocabulary: the model's; what it lacks the n-gram models get wrong too.
    """
    training = training[-TRAINING:]
    left = np.flatnonzero(nats > LIMIT)
    found = []
    for name, steps, oracle in _oracles(nats, codes, training, vocabulary):
        removed = oracle(left)
        errors = np.bincount(removed, minlength=len(steps) + 1)
        found.append(Oracle(name, steps, tuple(errors[:-1].tolist())))
        left = left[removed == len(steps)]
    return found


def _oracles(
    nats: Surprisals, codes: Codes, training: Codes, vocabulary: Vocabulary
) -> Iterator[tuple[str, tuple[str, ...], Steps]]:
    unit = vocabulary.unit
    classes = classes_of(codes, unit)
    before = np.append(NEWLINE, classes[:-1])
    words = _Words(from_codes(codes), *words_of(classes))
    lengths = tuple(f"n up to {n}" for n in range(1, ORDER + 1))
    yield "n-gram", lengths, lambda places: lowest_order(places, codes, training, vocabulary) - 1
    reaches = tuple(f"in the last {n:,}" for n in MEMORY)
    yield "long memory", reaches, lambda places: np.searchsorted(MEMORY, words.distances(places))
    times = ("never seen", *(f"seen up to {n}x" for n in range(1, RARE + 1)))
    yield "rare word", times, lambda places: words.counts(places, from_codes(training), classes_of(training, unit))
    follows = np.where(before == NEWLINE, 1, np.where((before == SPACE) | (before == QUOTE), 0, 2))
    yield "word model", ("after a space or quote", "after a newline"), lambda places: follows[places]
    yield "punctuation", ("",), lambda places: np.where(punctuation_in(codes, unit)[places], 0, 1)
    missing = HALF - np.exp(-nats.astype(np.float64))
    yield "rest", tuple(f"boost of {b:g}" for b in BOOSTS), lambda places: np.searchsorted(BOOSTS[:-1], missing[places])


def lowest_order(places: Indices, codes: Codes, training: Codes, vocabulary: Vocabulary) -> NDArray[np.int64]:
    """For places in a text, (K,), the lowest order of the n-gram models of another text that get the character right:
    give it half the probability. ``ORDER + 1`` where none does."""
    lowest = np.full(len(places), ORDER + 1)
    ids = vocabulary.encode_codes(codes)
    known = ids[places] != vocabulary.unknown
    for order, model in enumerate(NGram.up_to(vocabulary.encode_codes(training), vocabulary, ORDER), 1):
        for start, nats in model.surprisals(ids):
            here = slice(*np.searchsorted(places, (start, start + len(nats))))
            right = known[here] & (nats[places[here] - start].astype(np.float32) <= LIMIT)
            lowest[here][right] = np.minimum(lowest[here][right], order)
    return lowest


@dataclass(frozen=True)
class _Words:
    """The words of a text: where they start and stop, (W,) each."""

    text: str
    starts: Indices
    stops: Indices

    def _around(self, places: Indices) -> Iterator[tuple[int, int, int] | None]:
        """For each place its distance from the start of the word there, and where that starts and stops."""
        number = np.searchsorted(self.starts, places, "right") - 1
        for place, k in zip(places.tolist(), number.tolist(), strict=True):
            if k >= 0 and place < self.stops[k]:
                yield place - int(self.starts[k]), int(self.starts[k]), int(self.stops[k])
            else:
                yield None

    def distances(self, places: Indices) -> NDArray[np.int64]:
        """How far before the word at each place, in its second character or later, the same letters last began.

        More than the last of :data:`MEMORY` where they did not within that, or there is no such word.
        """
        reach, found = MEMORY[-1], []
        for word in self._around(places):
            distance = reach + 1
            if word is not None and word[0]:
                _, start, stop = word
                last = self.text.rfind(self.text[start:stop], max(0, start - reach), start)
                distance = start - last if last >= 0 else distance
            found.append(distance)
        return np.array(found, np.int64)

    def counts(self, places: Indices, training: str, classes: NDArray[np.uint8]) -> NDArray[np.int64]:
        """How often a training text has the word at each place; ``RARE + 1`` if more often, or there is no word."""
        here = [None if word is None else self.text[word[1] : word[2]] for word in self._around(places)]
        wanted = set(here)
        spans = zip(*(ends.tolist() for ends in words_of(classes)), strict=True)
        times = Counter(word for start, stop in spans if (word := training[start:stop]) in wanted)
        return np.array([RARE + 1 if word is None else min(times[word], RARE + 1) for word in here], np.int64)
