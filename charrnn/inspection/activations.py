"""A model run by its equations, with all that happens inside on record.

The same few lines run in numpy (to record) and in torch (to differentiate). They are slower than the engine, which is
for generating and scoring, and are tested against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.cells import CELLS, Array, connect
from charrnn.checkpoint import Checkpoint
from charrnn.config import ModelConfig

#: Per layer the parts of its state, each (B, H).
States = list[tuple[Array, ...]]


@dataclass(frozen=True)
class Record:
    """A run over T characters of B texts.

    Attributes:
        logits: (T, B, V), of the character after each.
        parts: per layer and name — ``h``, ``c``, and the gates ``i f g o`` or ``r z n`` — T arrays (B, H); entry t
            is what it was after reading character t.
        inputs: T arrays (B, E), the characters' vectors.
        states: per layer the state after the last character.
    """

    logits: Array
    parts: list[dict[str, list[Array]]]
    inputs: list[Array]
    states: States


def run(
    xp: Any,
    config: ModelConfig,
    weights: Mapping[str, Array],
    ids: Array,
    states: States | None = None,
    *,
    keep: frozenset[str] = frozenset("h"),
    hold: tuple[Array, Array] | None = None,
) -> Record:
    """Run a window, layer by layer.

    Args:
        xp: ``numpy`` or ``torch``; weights and ids are its arrays.
        weights: as in a checkpoint.
        ids: (T, B).
        states: left by the window before; empty if ``None``.
        keep: which parts to record.
        hold: mask and values, (L, B, H): outputs held at a value instead of computed, wherever the mask is true.
    """
    cell = CELLS[config.cell]
    T = len(ids)
    x = weights["embedding.weight"][ids]  # (T, B, E)
    inputs = [x[t] for t in range(T)]
    x = xp.stack(inputs)  # so that the gradient of the loss reaches each step's vector on its own
    parts: list[dict[str, list[Array]]] = []
    after: States = []
    for layer in range(config.num_layers):
        w_ih, w_hh, b_ih, b_hh = (
            weights[f"layers.{layer}.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        from_input = x @ w_ih.T + b_ih  # (T, B, G·H)
        empty = xp.zeros_like(w_hh[: config.hidden_size, 0])[None] + xp.zeros_like(x[0, :, :1])  # (B, H)
        state = (empty,) * len(cell.state) if states is None else states[layer]
        record: dict[str, list[Array]] = {name: [] for name in keep}
        outputs = []
        for t in range(T):
            state, gates = cell.step(xp, from_input[t], state[0] @ w_hh.T + b_hh, state)
            if hold is not None:
                state = (xp.where(hold[0][layer], hold[1][layer], state[0]), *state[1:])
            outputs.append(state[0])
            for name, value in (*zip(cell.state, state, strict=True), *gates.items()):
                if name in keep:
                    record[name].append(value)
        y = xp.stack(outputs)  # (T, B, H)
        if config.layer_norm:
            y = _layer_norm(xp, y, weights[f"norms.{layer}.weight"], weights[f"norms.{layer}.bias"])
        x = connect(xp, config.connections, x, y)
        parts.append(record)
        after.append(state)
    if "projection.weight" in weights:
        x = x @ weights["projection.weight"].T
    head = weights["embedding.weight"] if config.tie_weights else weights["head.weight"]
    return Record(x @ head.T + weights["head.bias"], parts, inputs, after)


def _layer_norm(xp: Any, y: Array, weight: Array, bias: Array) -> Array:
    """(y − mean) / sqrt(variance + 1e-5) over the units, scaled and shifted (Ba et al. 2016)."""
    centred = y - y.mean(-1)[..., None]
    return centred / xp.sqrt((centred**2).mean(-1) + 1e-5)[..., None] * weight + bias


#: What happened while a text was read, by name (T, L, H); entry t is after reading character t.
Activations = dict[str, NDArray[np.float32]]

#: Characters whose logits and intermediate products are in memory at once.
WINDOW = 1024


def activations(checkpoint: Checkpoint, ids: NDArray[np.integer[Any]], names: str = "h") -> Activations:
    """Read a text, as if a newline stood before it, and record what ``names`` lists.

    Args:
        ids: the text in the checkpoint's ids, (T,).
        names: parts of the state and gates, one letter each: ``"hc"``, ``"ifo"``.
    """
    config, T = checkpoint.config.model, len(ids)
    padded = np.append(checkpoint.vocabulary.index("\n"), np.asarray(ids, np.int64))[:, None]  # (T + 1, 1)
    parts = {name: np.empty((T, config.num_layers, config.hidden_size), np.float32) for name in names}
    states: States | None = None
    for at in range(0, T + 1, WINDOW):
        record = run(np, config, checkpoint.weights, padded[at : at + WINDOW], states, keep=frozenset(names))
        states = record.states
        skip = 1 if at == 0 else 0  # nothing is told of the newline before the text
        for name, array in parts.items():
            for layer, kept in enumerate(record.parts):
                values = np.asarray(kept[name][skip:]).reshape(-1, config.hidden_size)
                array[at - 1 + skip : at - 1 + skip + len(values), layer] = values
    return parts


def memory(checkpoint: Checkpoint) -> str:
    """The part of the state that remembers: ``c`` of an LSTM, ``h`` of the others."""
    return CELLS[checkpoint.config.model.cell].state[-1]
