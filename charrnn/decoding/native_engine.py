"""The model on a CPU at the speed of its caches: the engine that ``sample`` uses, in C.

Weights are rounded to 8 bits, with a scale for each row, and so are hidden states where they are multiplied; everything
else is float32. It costs less than 0.001 bits per character (``benchmarks/sampling.py`` measures it), and figures are
never computed with it. Since integers add up to the same in any order, a seed gives the same text on every processor
and with any number of threads. The kernel is ``_native.c``; where it could not be compiled,
:class:`~charrnn.decoding.numpy_engine.NumpyEngine` does the same in float32, slower.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from charrnn.cells import COMPILED
from charrnn.config import ModelConfig
from charrnn.decoding.alphabet import Alphabet
from charrnn.decoding.engine import Frontier
from charrnn.decoding.numpy_engine import ArrayEngine

try:
    from charrnn.decoding import _native  # type: ignore[attr-defined]
except ImportError:
    _native = None

Floats = NDArray[np.float32]
State = tuple[Floats, ...]

#: Weights that one thread reads sooner than two have met at the end of each layer.
_PER_THREAD = 400_000
#: Products of a call that take longer than to start a thread; and of a block that take some milliseconds.
_WORTH_STARTING, _BLOCK = 10_000_000, 600_000_000


def runs(config: ModelConfig) -> bool:
    """Whether the kernel is there, and is made for this architecture: a plain stack, whose states stay within ±1."""
    return (
        _native is not None
        and config.cell in COMPILED
        and config.connections == "plain"
        and not config.layer_norm
        and (not config.tie_weights or config.embedding_size == config.hidden_size)
    )


class NativeEngine(ArrayEngine):
    """An :class:`~charrnn.decoding.engine.Engine` that also draws by itself; see :func:`runs` for what it takes.

    Args:
        level: highest instruction set: 0 any, 1 AVX2, 2 AVX-512 VNNI; all give the same numbers.
    """

    def __init__(
        self, config: ModelConfig, symbols: int, weights: Mapping[str, NDArray[Any]], *, level: int = 2
    ) -> None:
        super().__init__(config, symbols, weights)
        self.level = level
        self._calls, self._seconds = 0, dict[int, float]()  # per character, by number of threads
        arrays = []
        for k in range(config.num_layers):
            names = [f"layers.{k}.{name}_l0" for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")]
            of_input, bias, *of_hidden = (_contiguous(weights[name]) for name in names)
            if k == 0:
                arrays.append(_table(weights["embedding.weight"], of_input, bias))
            else:
                arrays += [of_input, bias]
            arrays += of_hidden
        head = weights["embedding.weight" if config.tie_weights else "head.weight"]
        arrays += [_contiguous(head), _contiguous(weights["head.bias"])]
        self._products = sum(array.size for array in arrays[1:] if array.ndim == 2)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._choices: tuple[int, ...] = (1, max(1, min(cores, self._products // _PER_THREAD)))
        sizes = (self._cell.num_gates, len(self._cell.state), config.num_layers, config.hidden_size, symbols)
        self._model = _native.model(COMPILED.index(config.cell), *sizes, arrays)

    @property
    def num_bytes(self) -> int:
        """Bytes of weights that every character takes the reading of."""
        return self._products  # one byte each

    def step(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[Floats, State]:
        """ids (B,), state of (L, B, H) → logits (B, V), new state; ``state`` itself is left as it was."""
        logits, after = self.run(ids[None], state)
        return logits[0], after

    def run(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[Floats, State]:
        """ids (T, B), state of (L, B, H) → logits (T, B, V), new state; equal to T steps."""
        T, B = ids.shape
        logits = np.empty((T, B, self.symbols), np.float32)
        after = tuple(part.copy() for part in state)
        self._timed(_native.run, T * B, T, B, (_whole(ids), logits, *after))
        return logits, after

    def block(self, batch_size: int) -> int:
        """See :class:`~charrnn.decoding.engine.Drawing`: some milliseconds' worth, so that text flows."""
        return max(1, min(512 // batch_size + 8, _BLOCK // (batch_size * self._products)))

    def draw(
        self,
        count: int,
        frontier: Frontier,
        generators: Sequence[Generator],
        alphabet: Alphabet,
        temperature: float,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], Frontier]:
        """See :class:`~charrnn.decoding.engine.Drawing`; draws as :func:`charrnn.decoding.choosers.sample` does."""
        T, B = count, len(generators)
        points = np.stack([generator.random(T) for generator in generators], 1)  # (T, B)
        ids, nats = np.empty((T, B), np.int64), np.empty((T, B))
        logits, places = frontier.logits.copy(), frontier.places.copy()
        state = tuple(part.copy() for part in frontier.state)
        arrays = (ids, logits, *state, places, alphabet.mask, alphabet.following, points, nats)
        # However cold, the best stays finite; however hot, it is not what 0 stands for, the likeliest.
        coldness = min(max(1 / temperature, 1e-30), 1e30) if temperature else 0
        self._timed(_native.draw, T * B, T, B, coldness, len(alphabet.mask), arrays)
        return ids, nats, Frontier(logits, state, places)

    def _timed(self, function: Callable[..., None], characters: int, *arguments: Any) -> None:
        """Call the kernel with as many threads as are fastest at present; what it computes does not depend on it.

        On a busy machine threads wait for each other, and one is faster: so both are timed, and the slower one is tried
        again now and then.
        """
        choices = self._choices if characters * self._products > _WORTH_STARTING else self._choices[:1]
        self._calls += 1
        threads = min(choices, key=lambda count: self._seconds.get(count, 0.0))
        if self._calls % 32 == 0:
            threads = choices[self._calls // 32 % len(choices)]
        began = time.perf_counter()
        function(self._model, threads, self.level, *arguments)
        seconds = (time.perf_counter() - began) / characters
        # One slow call may be chance; several in a row are not.
        self._seconds[threads] = min(seconds, 1.1 * self._seconds.get(threads, seconds))


def _table(embedding: NDArray[Any], of_input: Floats, bias: Floats) -> Floats:
    """Whatever the character, embedding and input product give one of V rows: (V, G·H).

    Computed in float64, so that rounding to float32 leaves nothing of how the processor's BLAS adds up; some rows at a
    time, for there may be many.
    """
    table, weight = np.empty((len(embedding), len(of_input)), np.float32), of_input.T.astype(np.float64)
    for start in range(0, len(embedding), 256):
        rows = slice(start, start + 256)
        table[rows] = embedding[rows].astype(np.float64) @ weight + bias
    return table


def _contiguous(array: NDArray[Any]) -> Floats:
    return np.ascontiguousarray(array, np.float32)


def _whole(ids: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    return np.ascontiguousarray(ids, np.int64)
