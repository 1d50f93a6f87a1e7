"""The model on a CPU at the speed of its caches: the engine that ``sample`` uses, in C.

Weights are rounded to 8 bits, with a scale for each row, and so are hidden states where they are multiplied or
normalised; everything else is float32. It costs less than 0.001 bits per character (``benchmarks/sampling.py`` measures
it), and figures are never computed with it. Since integers add up to the same in any order, a seed gives the same text
on every processor and with any number of threads. The kernel is ``_native.c``; where it could not be compiled,
:class:`~charrnn.decoding.numpy_engine.NumpyEngine` does the same in float32, slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from charrnn.cells import COMPILED
from charrnn.config import ModelConfig
from charrnn.data.workers import cores
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
#: Symbols for which all layers, and the output, may have tables of what each character gives them, and layers that may
#: read all below them.
_LARGEST_TABLES, _DEEPEST = 1024, 8


def runs(config: ModelConfig, symbols: int) -> bool:
    """Whether the kernel is there, and is made for this cell, whose states stay within ±1, and these symbols."""
    fits = config.connections == "plain" or (symbols <= _LARGEST_TABLES and config.num_layers <= _DEEPEST)
    return _native is not None and config.cell in COMPILED and fits


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
        plain, L, H = config.connections == "plain", config.num_layers, config.hidden_size
        states = [min(k, 1) if plain else k for k in range(L + 1)]  # that each layer, and the output, reads from below
        self._products = H * (self._cell.num_gates * H * (L + sum(states[:L])) + symbols * states[L])
        self._choices: tuple[int, ...] = (1, max(1, min(cores(), self._products // _PER_THREAD)))
        sizes = (self._cell.num_gates, len(self._cell.state), L, H, symbols)
        kind = (plain, config.layer_norm)
        self._model = _native.model(COMPILED.index(config.cell), *sizes, *kind, _arrays(config, weights))

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


def _arrays(config: ModelConfig, weights: Mapping[str, NDArray[Any]]) -> list[Floats]:
    """What the kernel makes its model of: for each layer, then for the output, what it is given from below."""
    arrays = []
    for k in range(config.num_layers):
        of_input, bias, *of_hidden = (
            weights[f"layers.{k}.{name}_l0"] for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
        )
        arrays += [*_from_below(config, weights, k, of_input, bias), *of_hidden]
    head = weights["embedding.weight" if config.tie_weights else "head.weight"]
    if "projection.weight" in weights:
        head = np.asarray(head, np.float64) @ weights["projection.weight"]
    arrays += _from_below(config, weights, config.num_layers, head, weights["head.bias"])
    return [np.ascontiguousarray(array, np.float32) for array in arrays]


def _from_below(
    config: ModelConfig, weights: Mapping[str, NDArray[Any]], k: int, weight: NDArray[Any], bias: NDArray[Any]
) -> list[NDArray[Any]]:
    """A table, (V, rows) or (rows,), and a matrix (rows, H) for each state, of what reads with ``weight`` (rows, width)
    above k layers. Whatever lies between layers is affine, but for the division by a state's deviation.

    Computed in float64, so that rounding to float32 leaves next to nothing of how the processor's BLAS adds up.
    """
    E, H = config.embedding_size, config.hidden_size
    weight = weight.astype(np.float64)
    of_character: NDArray[Any] | None
    states: list[tuple[int, NDArray[Any]]]  # layer, and what reads its output
    if k and config.connections == "plain":
        of_character, states = None, [(k - 1, weight)]
    elif k and config.connections == "residual":
        of_character, states = weight if E == H else None, [(j, weight) for j in range(k)]
    else:  # side by side; below layer 0 there is only the character's vector
        of_character, *parts = np.split(weight, range(E, weight.shape[1], H), 1)
        states = list(enumerate(parts))
    matrices = []
    for j, matrix in states:
        if config.layer_norm:
            bias = bias + matrix @ weights[f"norms.{j}.bias"].astype(np.float64)
            matrix = matrix * weights[f"norms.{j}.weight"]
            # W (h - mean h) = (W - the mean of each row) h
            matrix -= matrix.mean(1, keepdims=True)
        matrices.append(matrix)
    if k and config.connections == "plain":
        return [bias, *matrices]
    embedding = weights["embedding.weight"]
    table = np.tile(bias.astype(np.float32), (len(embedding), 1))
    if of_character is not None:
        for start in range(0, len(embedding), 256):  # some rows at a time, for there may be many
            rows = slice(start, start + 256)
            table[rows] = embedding[rows].astype(np.float64) @ of_character.T + bias
    return [table, *matrices]


def _whole(ids: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    return np.ascontiguousarray(ids, np.int64)
