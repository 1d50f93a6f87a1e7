"""The model on a CPU without torch, in float32: it scores short texts, and samples where the compiled engine cannot.

One character at a time, a recurrent network is a handful of matrix-vector products, and what a framework does around
each of them costs more than the products themselves. Here the embedding and layer 0's input product are one table
lookup, and the rest is BLAS and the cell's own equations (:data:`charrnn.cells.CELLS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from charrnn.cells import CELLS, connect
from charrnn.checkpoint import Checkpoint
from charrnn.config import ModelConfig

Floats = NDArray[np.float32]
State = tuple[Floats, ...]

_EPSILON = 1e-5  # torch.nn.LayerNorm's

#: Cells whose gates see only the sum of what input and hidden state contribute, so that the two products can be one.
#: Only speed depends on it: a cell that is not here runs with two.
_SUMMING = frozenset({"lstm", "rnn"})


class ArrayEngine:
    """What engines have in common whose state is numpy arrays.

    Args:
        config: the architecture, settled.
        symbols: V, with ``unknown``.
        weights: arrays under the names of a checkpoint.
    """

    def __init__(self, config: ModelConfig, symbols: int, weights: Mapping[str, NDArray[Any]]) -> None:
        self.config = config
        self.symbols = symbols
        self._cell = CELLS[config.cell]

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> Self:
        """The engine of a loaded checkpoint."""
        return cls(checkpoint.config.model, len(checkpoint.vocabulary), checkpoint.weights)

    def initial_state(self, batch_size: int) -> State:
        """The empty state: zeros, one (L, B, H) per part."""
        shape = (self.config.num_layers, batch_size, self.config.hidden_size)
        return tuple(np.zeros(shape, np.float32) for _ in self._cell.state)

    def select(self, state: State, rows: NDArray[np.integer[Any]]) -> State:
        """The state whose sequence b is sequence ``rows[b]`` of ``state``."""
        return tuple(part[:, rows] for part in state)


class NumpyEngine(ArrayEngine):
    """An :class:`~charrnn.decoding.engine.Engine` in float32 on the CPU.

    Args:
        ordered: add up in an order that is the same with any number of threads, slower: BLAS promises none.
    """

    def __init__(
        self, config: ModelConfig, symbols: int, weights: Mapping[str, NDArray[Any]], *, ordered: bool = False
    ) -> None:
        super().__init__(config, symbols, weights)
        embedding = weights["embedding.weight"]
        linear = _Ordered if ordered else _Linear
        self._layers = [_Layer(k, weights, config.cell in _SUMMING, linear) for k in range(config.num_layers)]
        # Whatever the character, embedding and input product give one of V rows: (V, G·H).
        self._table = self._layers[0].input(embedding)
        self._norms = [
            (weights[f"norms.{k}.weight"], weights[f"norms.{k}.bias"])
            for k in range(config.num_layers if config.layer_norm else 0)
        ]
        # Only sums and concatenations of vectors read the embedding itself again.
        self._embedding = embedding if config.connections != "plain" else None
        projection = weights.get("projection.weight")
        self._projection = None if projection is None else linear(projection)
        self._head = linear(embedding if config.tie_weights else weights["head.weight"], weights["head.bias"])

    def step(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[Floats, State]:
        """ids (B,), state of (L, B, H) → logits (B, V), new state; ``state`` itself is left as it was."""
        after = tuple(np.empty_like(part) for part in state)
        x = self._embedding[ids] if self._embedding is not None else self._table  # (B, E), or never read
        for k, layer in enumerate(self._layers):
            before = tuple(part[k] for part in state)
            if k == 0:
                from_input, from_hidden = self._table[ids], layer.hidden(before[0])  # (B, G·H)
            else:
                from_input, from_hidden = layer.both(x, before[0])
            parts = self._after(k, from_input, from_hidden, before)
            for whole, part in zip(after, parts, strict=True):
                whole[k] = part
            x = self._between(k, x, parts[0])
        return self._logits(x), after

    def run(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[Floats, State]:
        """ids (T, B), state of (L, B, H) → logits (T, B, V), new state; equal to T steps.

        Layer by layer, so that what does not wait for the step before is one product for the whole window.
        """
        T, B = ids.shape
        H = self.config.hidden_size
        after = tuple(np.empty_like(part) for part in state)
        x = self._embedding[ids] if self._embedding is not None else self._table
        for k, layer in enumerate(self._layers):
            from_input = self._table[ids] if k == 0 else layer.input(x)  # (T, B, G·H)
            y = np.empty((T, B, H), np.float32)
            parts: tuple[Floats, ...] = tuple(part[k] for part in state)
            for t in range(T):
                parts = self._after(k, from_input[t], layer.hidden(parts[0]), parts)
                y[t] = parts[0]
            for whole, part in zip(after, parts, strict=True):
                whole[k] = part
            x = self._between(k, x, y)
        return self._logits(x), after

    def _after(self, k: int, from_input: Floats, from_hidden: Floats, before: tuple[Floats, ...]) -> tuple[Floats, ...]:
        """Layer k's state after a step, per part (B, H), given what comes to its gates, (B, G·H) each."""
        after, _ = self._cell.step(np, from_input, from_hidden, before)
        return after

    def _between(self, k: int, x: Floats, y: Floats) -> Floats:
        """What layer k + 1 reads, from layer k's input and output, both (..., width)."""
        if self._norms:
            y = _layer_norm(y, *self._norms[k])
        read: Floats = connect(np, self.config.connections, x, y)
        return read

    def _logits(self, x: Floats) -> Floats:
        return self._head(x if self._projection is None else self._projection(x))


class _Layer:
    """The products of layer k: of its input, of its hidden state, and of both at once."""

    def __init__(self, k: int, weights: Mapping[str, NDArray[Any]], summing: bool, linear: type[_Linear]) -> None:
        name = f"layers.{k}."
        of_input, of_hidden = weights[name + "weight_ih_l0"], weights[name + "weight_hh_l0"]
        bias, hidden_bias = weights[name + "bias_ih_l0"], weights[name + "bias_hh_l0"]
        self.bias = bias + hidden_bias if summing else bias
        self.joint: _Linear | None = None
        if summing and k > 0:
            merged = np.concatenate((of_input, of_hidden), 1, dtype=np.float32)  # (G·H, inputs + H)
            of_input, of_hidden = np.split(merged, [of_input.shape[1]], 1)  # views: the weights are held once
            self.joint = linear(merged)
        self.input = linear(of_input, self.bias)
        # Unless the gates see only the sum, b_hh belongs to this side: a GRU multiplies it by the reset gate.
        self.hidden = linear(of_hidden, None if summing else hidden_bias)

    def both(self, x: Floats, h: Floats) -> tuple[Floats, Floats]:
        """What x (B, inputs) and h (B, H) contribute to the gates; merged, it is all in the first, but the biases."""
        if self.joint is None:
            return self.input(x), self.hidden(h)
        return self.joint(np.concatenate((x, h), 1)), self.bias


class _Linear:
    """x → W x + b for x (..., inputs), by the fastest BLAS call for the number of rows."""

    def __init__(self, weight: NDArray[Any], bias: NDArray[Any] | None = None) -> None:
        self.weight: Floats = np.asarray(weight, np.float32)  # (outputs, inputs)
        self.bias: Floats | None = bias

    @cached_property
    def transposed(self) -> Floats:
        """(inputs, outputs), contiguous: a few rows times this is much faster than times a transposed view."""
        return np.ascontiguousarray(self.weight.T)

    def __call__(self, x: Floats) -> Floats:
        y: Floats
        if x.size == x.shape[-1]:  # one row: matrix-vector
            y = np.dot(self.weight, x.reshape(-1)).reshape(*x.shape[:-1], -1)
        else:  # as one product, whatever the leading axes
            y = (x.reshape(-1, x.shape[-1]) @ self.transposed).reshape(*x.shape[:-1], -1)
        if self.bias is not None:
            y += self.bias
        return y


class _Ordered(_Linear):
    """The same without BLAS, by numpy's own loops: one thread, and one order for arrays of one shape."""

    def __call__(self, x: Floats) -> Floats:
        rows = np.ascontiguousarray(x.reshape(-1, x.shape[-1]))
        y: Floats = np.einsum("bi,oi->bo", rows, self.weight).reshape(*x.shape[:-1], -1)
        if self.bias is not None:
            y += self.bias
        return y


def _layer_norm(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """Layer normalisation over the last axis (Ba et al. 2016), as ``torch.nn.LayerNorm``."""
    centred = x - x.mean(-1, keepdims=True)
    variance = np.square(centred).mean(-1, keepdims=True)
    normed: Floats = centred / np.sqrt(variance + np.float32(_EPSILON)) * weight + bias
    return normed
