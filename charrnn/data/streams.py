"""A text as parallel contiguous streams of windows, for truncated back-propagation through time.

With B = 3 streams and windows of T = 4, a text of 24 characters is read as

    stream 0   h e l l | o   w o        step 1 trains on the windows left of the bars, step 2 on those right of
    stream 1   r l d , |   h e r        them, with the hidden states that step 1 left: each stream is one
    stream 2   e   I   | a m . .        unbroken text, so nothing is forgotten at a window's edge but the gradient.

Every character is a target exactly once per epoch. The streams' boundaries move from epoch to epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Target of a place where a stream has already ended; ``ignore_index`` of the loss.
NOTHING = -1


@dataclass(frozen=True)
class Streams:
    """Windows of a text by position: a pure function of (epoch, index), so that a run can go on anywhere.

    Args:
        ids: the text (N,), N >= 1; may be memory-mapped.
        batch_size: B, wanted; short texts get fewer streams, so that each fills a window.
        sequence_length: T, longest window.
        first: id of the newline that stands before the text.
        seed: of the boundaries' moves.
    """

    ids: NDArray[np.integer[Any]]
    wanted: int
    sequence_length: int
    first: int
    seed: int = 0

    @property
    def batch_size(self) -> int:
        """B, number of streams."""
        return max(1, min(self.wanted, len(self.ids) // self.sequence_length))

    @property
    def length(self) -> int:
        """Characters of the longest stream; the others have as many, or one fewer."""
        return -(-len(self.ids) // self.batch_size)

    @property
    def windows(self) -> int:
        """Windows per epoch, so also optimiser steps."""
        return -(-self.length // self.sequence_length)

    def offset(self, epoch: int) -> int:
        """Where in the text stream 0 begins in this epoch; the streams run in a circle through the text."""
        if epoch == 0:
            return 0
        return int(np.random.default_rng((self.seed, epoch)).integers(len(self.ids)))

    def window(self, epoch: int, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs and targets, each (T, B); windows of an epoch differ in length by at most one.

        Targets are ``NOTHING`` where a stream has ended. The first character of the text is preceded by a newline
        also where a stream runs over the text's end into its beginning.
        """
        N, B = len(self.ids), self.batch_size
        begin = index * self.length // self.windows
        end = (index + 1) * self.length // self.windows
        starts = np.arange(B) * N // B
        lengths = np.append(starts[1:], N) - starts
        steps = np.arange(begin, end)[:, None]  # (T, 1)
        places = (self.offset(epoch) + starts + steps) % N  # (T, B)
        targets = self.ids[places].astype(np.int64)
        inputs = np.where(places == 0, self.first, self.ids[places - 1]).astype(np.int64)
        return inputs, np.where(steps < lengths, targets, NOTHING)
