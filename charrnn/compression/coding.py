"""Symbols ↔ bits, by a model's probabilities and the range coder of `constriction
<https://bamler-lab.github.io/constriction/>`_.

A decoder has to compute the very numbers that the encoder had, from the characters that it has decoded so far, one at a
time. So both walk the same way, character by character, with the same calls on arrays of the same shapes; the engines
add up in an order that no number of threads changes (:func:`coding_engine`), and from their logits on everything is
whole numbers (:func:`shares`).

A long text is cut into lanes that go side by side, because a step of several is little slower than a step of one. Each
begins as a text does, after a newline, and the bits of all are in one stream: of each step first those of lane 0.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.checkpoint import Checkpoint
from charrnn.compression.symbols import Symbols
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.engine import Engine, engine_for
from charrnn.decoding.ensemble import Model, engine_of, members
from charrnn.errors import TextError, UsageError

#: Called with characters done and characters in all.
Progress = Callable[[int, int], object]
Words = NDArray[np.uint32]

#: A lane has at least so many characters, for what it does not know of those before it costs some bytes: three for a
#: 2 x 512 LSTM on tiny Shakespeare. More lanes than that are not quicker. Both are part of the format.
LEAST_LANE, MOST_LANES = 1 << 13, 64

#: Probabilities are multiples of 2^-24: constriction's own precision.
WHOLE = 1 << 24
#: Logits are rounded to 1/256 of a doubling, which costs 3e-7 bits a character, and no probability is less than a
#: 2^-26th of the largest before all are made to be at least 2^-24.
_STEPS, _DOUBLINGS = 256, 26
_PER_NAT = np.float32(_STEPS / math.log(2))
_REPORT_EVERY = 64  # steps


def _powers() -> NDArray[np.int64]:
    """⌊2^(32 − d/256)⌋ for d = 0, 1 ... and at last 0: by square roots of whole numbers, so the same everywhere."""
    octave = []
    for d in range(_STEPS):
        number = 1 << 32 * _STEPS - d
        for _ in range(8):
            number = math.isqrt(number)
        octave.append(number)
    return np.array([*(power >> k for k in range(_DOUBLINGS) for power in octave), 0], np.int64)


_POWERS = _powers()


def shares(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each symbol the probability beyond 2^-24, that everyone has, in units of it: whole numbers, (B, V) each.

    Rows add up to 2^24 − V, so that constriction's own conversion changes nothing: it scales by exactly 1 and adds 1.
    The one step in floating point is a difference and a product, rounded as IEEE 754 says everywhere.

    >>> shares(np.log(np.float32([[0.5, 0.25, 0.25]]))).tolist(), WHOLE - 3
    ([[8388607.0, 4194303.0, 4194303.0]], 16777213)
    """
    V = logits.shape[-1]
    depth = (logits.max(-1, keepdims=True) - logits) * _PER_NAT
    # Also of what is no number: whatever a checkpoint holds, there are probabilities.
    weights = _POWERS[np.rint(np.fmin(depth, len(_POWERS) - 1)).astype(np.int64)]  # (B, V)
    total = weights.sum(-1, keepdims=True)
    total += total == 0
    parts = weights * (WHOLE - V) // total
    parts[np.arange(len(parts)), weights.argmax(-1)] += WHOLE - V - parts.sum(-1)
    return np.asarray(parts, np.float64)


def coding_engine(model: Model) -> tuple[tuple[str, ...], Engine]:
    """The engine that computes the same again on this machine, and the kind of each of its members.

    ``kernel``, the compiled one, by integers; ``numpy`` with products that add up in one order; ``counts`` of an n-gram
    model; or ``torch``, which keeps to one thread here (:func:`one_thread`).
    """
    kinds, engines = zip(*map(_coding_engine, members(model)), strict=True)
    return kinds, engine_of(engines, model)


def _coding_engine(checkpoint: Checkpoint) -> tuple[str, Engine]:
    from charrnn.decoding import native_engine
    from charrnn.decoding.numpy_engine import NumpyEngine

    config = checkpoint.config.model
    if config.kind == "recurrent" and not native_engine.runs(config, len(checkpoint.vocabulary)):
        return "numpy", NumpyEngine(config, len(checkpoint.vocabulary), checkpoint.weights, ordered=True)
    kind = {"recurrent": "kernel", "ngram": "counts"}.get(config.kind, "torch")
    return kind, engine_for(checkpoint, "cpu")


@contextlib.contextmanager
def one_thread(kinds: tuple[str, ...]) -> Iterator[None]:
    """What torch computes inside, it computes with one thread: with several, sums depend on how many there are."""
    if "torch" not in kinds:
        yield
        return
    torch: Any = sys.modules["torch"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Walk:
    """N characters in lanes, step by step: at each the lanes that still have one, and what the model expects there.

    Lane b has the characters from b · T on, T of them; the last ones may have fewer.
    """

    def __init__(self, engine: Engine, vocabulary: Vocabulary, count: int) -> None:
        self.lanes = max(1, min(MOST_LANES, count // LEAST_LANE))
        self.length = -(-count // self.lanes)
        self._count, self._engine = count, engine
        self._state = engine.initial_state(self.lanes)
        self._ids = np.full(self.lanes, vocabulary.index("\n"), np.int64)

    def active(self, step: int) -> int:
        """How many lanes, the first ones, have a character at a step."""
        return -(-(self._count - step) // self.length)

    def expected(self, step: int) -> NDArray[np.float64]:
        """What comes in each of these lanes: :func:`shares`, (active, V)."""
        logits, self._state = self._engine.step(self._ids, self._state)
        if logits.shape[1] == 1:  # the coder knows no certainty: beside it stands what never comes
            logits = np.pad(logits, ((0, 0), (0, 1)), constant_values=-np.inf)
        return shares(logits)[: self.active(step)]

    def feed(self, ids: NDArray[np.integer[Any]]) -> None:
        """What came in them, (active,)."""
        self._ids[: len(ids)] = ids


def coder() -> Any:
    """The library's module of streams.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import constriction  # type: ignore[import-untyped]
    except ImportError as error:
        raise UsageError("the coder is not installed; pip install 'charrnn[compress]'") from error
    return constriction.stream


def encode(
    engine: Engine, vocabulary: Vocabulary, symbols: Symbols, values: int, progress: Progress | None = None
) -> Words:
    """The bits of a text.

    Args:
        values: how many ``unknown`` stands for.
    """
    stream = coder()
    walk, family = Walk(engine, vocabulary, len(symbols)), stream.model.Categorical(perfect=False)
    uniform = stream.model.Uniform(values) if values > 1 else None
    encoder = stream.queue.RangeEncoder()
    # In the order of the steps, lanes beside each other: (T, lanes), the last lanes filled up.
    padding = walk.lanes * walk.length - len(symbols)
    ids = np.append(symbols.ids, np.zeros(padding, np.int64)).reshape(walk.lanes, -1).T.astype(np.int32)
    placed = np.zeros(walk.lanes * walk.length, np.int32)
    placed[: len(symbols)][symbols.ids == vocabulary.unknown] = symbols.ranks
    ranks = placed.reshape(walk.lanes, -1).T
    for step in range(walk.length):
        expected = walk.expected(step)
        row = ids[step, : len(expected)]
        encoder.encode(row, family, expected)
        if uniform is not None and (lost := row == vocabulary.unknown).any():
            encoder.encode(ranks[step, : len(row)][lost], uniform)
        walk.feed(row)
        if progress is not None and step % _REPORT_EVERY == 0:
            progress(step * walk.lanes, len(symbols))
    words: Words = encoder.get_compressed()
    return words


def decode(
    engine: Engine, vocabulary: Vocabulary, words: Words, count: int, values: int, progress: Progress | None = None
) -> Symbols:
    """The text of ``count`` characters that :func:`encode` made these bits of.

    Raises:
        TextError: they are bits of nothing.
    """
    stream = coder()
    walk, family = Walk(engine, vocabulary, count), stream.model.Categorical(perfect=False)
    uniform = stream.model.Uniform(values) if values > 1 else None
    decoder = stream.queue.RangeDecoder(words)
    rows, rank_rows = [], []
    try:
        for step in range(walk.length):
            expected = walk.expected(step)
            row = decoder.decode(family, expected)
            ranks = np.zeros(len(row), np.int32)
            if uniform is not None and (lost := row == vocabulary.unknown).any():
                ranks[lost] = decoder.decode(uniform, int(lost.sum()))
            walk.feed(row)
            # The last lanes filled up.
            rows.append(np.append(row, np.zeros(walk.lanes - len(row), np.int32)))
            rank_rows.append(np.append(ranks, np.zeros(walk.lanes - len(row), np.int32)))
            if progress is not None and step % _REPORT_EVERY == 0:
                progress(step * walk.lanes, count)
    except AssertionError as error:  # what constriction raises for bits that no message has
        raise TextError("holds bits that the model cannot have written") from error
    if not rows:
        return Symbols(np.zeros(0, np.int64), np.zeros(0, np.int64))
    ids = np.stack(rows, 1).ravel()[:count].astype(np.int64)
    return Symbols(ids, np.stack(rank_rows, 1).ravel()[:count].astype(np.int64)[ids == vocabulary.unknown])
