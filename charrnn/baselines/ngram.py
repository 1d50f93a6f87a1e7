"""An n-gram model as a checkpoint that is trained, sampled and scored like any other.

The checkpoint holds the text that is counted, not the counts: those of a book's 20-grams take half a gigabyte, and a
minute to make. ``train`` counts once to say how well the model predicts; every use counts again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.architectures import TEXT
from charrnn.checkpoint import Checkpoint
from charrnn.evaluation.ngram import NGram
from charrnn.evaluation.surprisal import Ids, Piece

State = tuple[NDArray[np.int64], ...]
Floats = NDArray[np.float32]

#: Numbers in the distributions that are worked out at once.
_AT_ONCE = 1 << 22


class NGramEngine:
    """An :class:`~charrnn.decoding.engine.Engine` over counts; its state is the last n − 1 characters' ids plus one,
    (n−1, B, 1), zero where there is none.

    Args:
        model: the counts.
    """

    def __init__(self, model: NGram) -> None:
        self.model = model
        self.symbols = model.num_symbols

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> NGramEngine:
        """Count the text of a checkpoint."""
        return cls(NGram.of(checkpoint.weights[TEXT], checkpoint.vocabulary, checkpoint.config.model.order))

    def initial_state(self, batch_size: int) -> State:
        """Nothing before."""
        return (np.zeros((len(self.model.levels) - 1, batch_size, 1), np.int64),)

    def select(self, state: State, rows: NDArray[np.integer[Any]]) -> State:
        """The state whose sequence b is sequence ``rows[b]`` of ``state``."""
        return tuple(part[:, rows] for part in state)

    def step(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[Floats, State]:
        """ids (B,) → log-probabilities (B, V), new state."""
        logits, after = self.run(np.asarray(ids)[None], state)
        return logits[0], after

    def run(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[Floats, State]:
        """ids (T, B) → log-probabilities (T, B, V), new state; equal to T steps."""
        T, B = ids.shape
        seen = np.concatenate((state[0][..., 0] - 1, ids))  # (n-1 + T, B)
        contexts = np.stack([numbers[len(seen) - T :].ravel() for numbers in self._contexts(seen)])  # (n, T·B)
        logits = np.empty((T * B, self.symbols), np.float32)
        size = _AT_ONCE // self.symbols  # there are fewer symbols, for there are fewer code points
        for at in range(0, T * B, size):
            logits[at : at + size] = np.log(self._distributions(contexts[:, at : at + size]))
        return logits.reshape(T, B, self.symbols), (seen[T:, :, None] + 1,)

    def _contexts(self, seen: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """For k = 0 … n−1 the number of the k-gram that ends at each place, (n-1 + T, B); −1 if the model lacks it.

        Where k-grams would begin before the first place, anything: none of the last T places is one of those.
        """
        numbers = np.zeros_like(seen)
        yield numbers
        for level in self.model.levels[:-1]:
            # After −1 negative, thus not found; nothing, which is −1 too, stands only after nothing.
            numbers = level.find(np.roll(numbers, 1, 0) * self.symbols + seen)
            yield numbers

    def _distributions(self, contexts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probabilities (M, V) after contexts of 0 … n−1 symbols, given by their numbers (n, M)."""
        symbols = np.arange(self.symbols)
        found = np.full((contexts.shape[1], self.symbols), 1 / self.symbols)
        for level, numbers in zip(self.model.levels, contexts, strict=True):
            there = numbers >= 0
            some = numbers[there]
            shares = level.shares[level.find(some[:, None] * self.symbols + symbols)]
            found[there] = found[there] * level.weights[some][:, None] + shares
        return found

    def surprisals(self, ids: Ids) -> Iterator[Piece]:
        """Score a text; see :class:`~charrnn.evaluation.surprisal.Scoring`."""
        return self.model.surprisals(ids)
