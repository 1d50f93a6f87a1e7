"""The surprisal of a text: −log p of each character, given all characters before it.

Every character is scored exactly once, in order, with the state carried along, as if a newline stood before the text.
Everything that is measured folds over the pieces that :func:`surprisals` yields.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from charrnn.decoding.engine import Engine, State

Nats = NDArray[np.float64]
Ids = NDArray[np.integer[Any]]
#: Where a piece begins in the text, and the nats of its characters, in order.
Piece = tuple[int, Nats]

WINDOW = 128
MAX_LANES = 128
#: A lane begins with the state left by this many characters before it. A recurrent model has forgotten what lies
#: further back to well below 1e-4 bits on average: a 2 x 256 LSTM on tiny Shakespeare differs from one lane by 4e-9.
WARMUP = 512
MIN_LANE = 2 * WARMUP


class Together(Protocol):
    """Processes that score a text together: this one is ``rank`` of ``size``."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def totals(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of an array over all processes."""
        ...


@runtime_checkable
class Scoring(Protocol):
    """An engine that scores a text sooner than by the distributions of all characters."""

    def surprisals(self, ids: Ids) -> Iterator[Piece]:
        """A text (N,), which stands after a newline, piece by piece in order."""
        ...


def cross_entropy(logits: NDArray[np.float32], targets: Ids) -> Nats:
    """−log softmax(logits)[target] in nats, shape of ``targets``; logits have one more axis, V."""
    top = logits.max(axis=-1, keepdims=True)
    total = np.exp(logits - top).sum(axis=-1, dtype=np.float64)
    chosen = np.take_along_axis(logits, targets[..., None].astype(np.intp), axis=-1) - top
    nats: Nats = np.log(total) - chosen[..., 0]
    return nats


def surprisals(
    engine: Engine,
    ids: Ids,
    first: int,
    *,
    exact: bool = False,
    window: int | None = None,
    together: Together | None = None,
) -> Iterator[Piece]:
    """Score a text, piece by piece.

    Args:
        engine: the model.
        ids: the text, (N,); may be in a file, it is read a window at a time.
        first: id of the newline that is taken to stand before the text.
        exact: walk the text in one lane. Otherwise a long text is scored in parallel lanes, each warmed up on the
            text before it; the lanes depend on N alone, so the figure does not depend on the machine.
        window: score as Transformers are: windows of this many characters, each from an empty state and the
            character before it.
        together: processes that each score some of the lanes.

    Yields:
        pieces that together, those of all processes, cover 0..N-1 once; not in the order of the text if there are
        several lanes.
    """
    if window is not None:
        yield from _windows(engine, ids, first, window)
        return
    if isinstance(engine, Scoring):
        yield from engine.surprisals(ids)
        return
    lanes = 1 if exact else max(1, min(MAX_LANES, len(ids) // MIN_LANE))
    bounds = np.arange(lanes + 1) * len(ids) // lanes
    here = slice(None) if together is None else slice(together.rank, None, together.size)
    starts, stops = bounds[:-1][here], bounds[1:][here]
    if not len(starts):
        return
    state = engine.initial_state(len(starts))
    if lanes > 1:
        for at in range(-WARMUP, 0, WINDOW):
            places = np.maximum(starts, WARMUP) + np.arange(at, min(at + WINDOW, 0))[:, None]
            _, state = engine.run(ids[places - 1], state)
        if starts[0] == 0:
            _empty_first(state)
    for at in range(0, int((stops - starts).max()), WINDOW):
        places = starts + np.arange(at, at + WINDOW)[:, None]  # (T, lanes)
        logits, state = engine.run(_inputs(ids, places, first), state)
        nats = cross_entropy(logits, ids[np.minimum(places, len(ids) - 1)])
        for lane in range(len(starts)):
            left = int(stops[lane] - starts[lane]) - at
            if left > 0:
                yield int(starts[lane]) + at, nats[:left, lane]


def _empty_first(state: State) -> None:
    """Let the first sequence begin with the empty state; an ensemble's state is a tuple of its members'."""
    for part in state:
        if isinstance(part, tuple):
            _empty_first(part)
        else:
            part[:, 0] = 0


def _inputs(ids: Ids, places: NDArray[np.intp], first: int) -> Ids:
    """The character before each place; past the end anything, for nothing there is scored."""
    before = ids[np.minimum(places - 1, len(ids) - 1)]
    return np.where(places == 0, first, before)


def _windows(engine: Engine, ids: Ids, first: int, window: int) -> Iterator[Piece]:
    window = min(window, len(ids))
    batch = max(1, min(256, (1 << 16) // window))
    for begin in range(0, len(ids), batch * window):
        starts = np.arange(begin, min(begin + batch * window, len(ids)), window)
        state = engine.initial_state(len(starts))
        for at in range(0, min(window, len(ids) - begin), WINDOW):
            places = starts + np.arange(at, min(at + WINDOW, window))[:, None]
            logits, state = engine.run(_inputs(ids, places, first), state)
            nats = cross_entropy(logits, ids[np.minimum(places, len(ids) - 1)])
            for lane, start in enumerate(starts):
                left = len(ids) - int(start) - at
                if left > 0:
                    yield int(start) + at, nats[:left, lane]


def surprisals_of_lines(engine: Engine, lines: Sequence[Ids], logits: NDArray[np.float32], state: State) -> list[Nats]:
    """Score each line, of one character or more, on its own, after what gave these logits (1, V) and this state of one
    sequence, such as a newline; lines of like length go together."""
    result: list[Nats] = [np.zeros(0)] * len(lines)
    order = sorted(range(len(lines)), key=lambda k: len(lines[k]))
    for begin in range(0, len(order), MAX_LANES):
        group = order[begin : begin + MAX_LANES]
        longest = len(lines[group[-1]])
        batch = np.zeros((longest, len(group)), np.int64)
        for lane, k in enumerate(group):
            batch[: len(lines[k]), lane] = lines[k]
        rows = np.zeros(len(group), np.int64)
        costs = [cross_entropy(logits[rows], batch[0])[None]]
        after = engine.select(state, rows)
        for at in range(0, longest - 1, WINDOW):
            stop = min(at + WINDOW, longest - 1)
            found, after = engine.run(batch[at:stop], after)
            costs.append(cross_entropy(found, batch[at + 1 : stop + 1]))
        whole = np.concatenate(costs)  # (longest, lanes)
        for lane, k in enumerate(group):
            result[k] = whole[: len(lines[k]), lane]
    return result
