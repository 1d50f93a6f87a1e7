"""A text as parallel contiguous streams of windows, for truncated back-propagation through time.

With B = 3 streams and windows of T = 4, a text of 24 characters is read as

    stream 0   h e l l | o   w o        step 1 trains on the windows left of the bars, step 2 on those right of
    stream 1   r l d , |   h e r        them, with the hidden states that step 1 left: each stream is one
    stream 2   e   I   | a m . .        unbroken text, so nothing is forgotten at a window's edge but the gradient.

Every character is a target exactly once per epoch. The streams' boundaries move from epoch to epoch.

Several processes share the streams, each with some of them. Where the streams are depends on the text and on B alone,
so that is the same however many processes there are.
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
        ids: the text (N,), N >= 1; may be in a file.
        batch_size: B, wanted; short texts get fewer streams, so that each fills a window.
        sequence_length: T, longest window.
        first: id of the newline that stands before the text.
        seed: of the boundaries' moves.
        share: which of how many processes this is.
    """

    ids: NDArray[np.integer[Any]]
    wanted: int
    sequence_length: int
    first: int
    seed: int = 0
    share: tuple[int, int] = (0, 1)

    @property
    def batch_size(self) -> int:
        """B, number of streams."""
        return max(1, min(self.wanted, len(self.ids) // self.sequence_length))

    @property
    def here(self) -> slice:
        """Which streams are this process's: consecutive ones, as many as any other has, give or take one."""
        process, processes = self.share
        return slice(*(self.batch_size * k // processes for k in (process, process + 1)))

    @property
    def shares(self) -> list[int]:
        """How many streams each process has."""
        _, processes = self.share
        return np.diff(np.arange(processes + 1) * self.batch_size // processes).tolist()  # type: ignore[no-any-return]

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

    @property
    def bounds(self) -> NDArray[np.int64]:
        """Where each stream begins, counted from stream 0's beginning, and where the last one ends, (B + 1,)."""
        return np.arange(self.batch_size + 1) * len(self.ids) // self.batch_size

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each stream here begins."""
        return self.bounds[:-1][self.here]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Characters of each stream here."""
        return np.diff(self.bounds)[self.here]

    def span(self, index: int) -> tuple[int, int]:
        """The window's steps within its streams: the first, and the one after the last."""
        return index * self.length // self.windows, (index + 1) * self.length // self.windows

    def count(self, index: int) -> int:
        """Targets in a window, of all processes: B at each step, but shorter streams have ended at an epoch's last."""
        begin, end = self.span(index)
        ended = self.batch_size * self.length - len(self.ids) if index + 1 == self.windows else 0
        return (end - begin) * self.batch_size - ended

    def places(self, offset: Any, starts: Any, steps: Any) -> Any:
        """Where in the text the targets stand: (B,) starts and (T, 1) steps → (T, B); in numpy or in torch."""
        return (offset + starts + steps) % len(self.ids)

    def window(self, epoch: int, index: int, count: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs and targets, each (T, B) of the streams here; windows of an epoch differ in length by at most one.

        Targets are ``NOTHING`` where a stream has ended. The first character of the text is preceded by a newline
        also where a stream runs over the text's end into its beginning.

        Args:
            count: how many windows, as one; T is their length together.
        """
        steps = np.arange(self.span(index)[0], self.span(index + count - 1)[1])[:, None]  # (T, 1)
        places = self.places(self.offset(epoch), self.starts, steps)  # (T, B)
        targets = self.ids[places].astype(np.int64)
        inputs = np.where(places == 0, self.first, self.ids[places - 1]).astype(np.int64)
        return inputs, np.where(steps < self.lengths, targets, NOTHING)
