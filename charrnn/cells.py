"""The recurrent cells by their equations, for numpy and torch alike.

A step takes what the layer's input and its previous output contribute to the gates, and the state:

    from_input   (B, G·H)   W_ih x_t + b_ih
    from_hidden  (B, G·H)   W_hh h_{t-1} + b_hh
    state        tuple of (B, H): (h,) or (h, c)

and returns the new state, whose first part is the layer's output, and the gates' values by name, each (B, H).
Gates are laid out in PyTorch's order, so that the same weights run in the fused layer (``torch.nn.LSTM`` and so on,
cuDNN on a GPU), in the numpy engine, and here to be read, inspected and tested against.

This is the one place where a cell is defined: a new one is a step, and a line in ``CELLS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: A numpy array or a torch tensor; the equations need nothing that only one of them has.
Array = Any
State = tuple[Array, ...]
Gates = dict[str, Array]


def sigmoid(xp: Any, x: Array) -> Array:
    """σ(x) = ½ + ½ tanh(x/2): exact, without overflow, and one vectorised function in every library."""
    return xp.tanh(x * 0.5) * 0.5 + 0.5


def rnn_step(xp: Any, from_input: Array, from_hidden: Array, state: State) -> tuple[State, Gates]:
    """Simple recurrent network (Elman 1990): h' = tanh(W_ih x + W_hh h + b)."""
    return (xp.tanh(from_input + from_hidden),), {}


def lstm_step(xp: Any, from_input: Array, from_hidden: Array, state: State) -> tuple[State, Gates]:
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with forget gate (Gers et al. 2000).

    i, f, o = σ(...), g = tanh(...);  c' = f c + i g;  h' = o tanh(c').
    """
    h, c = state
    H = h.shape[-1]
    z = from_input + from_hidden
    i_f = sigmoid(xp, z[..., : 2 * H])
    i, f = i_f[..., :H], i_f[..., H:]
    g = xp.tanh(z[..., 2 * H : 3 * H])
    o = sigmoid(xp, z[..., 3 * H :])
    c = f * c + i * g
    return (o * xp.tanh(c), c), {"i": i, "f": f, "g": g, "o": o}


def gru_step(xp: Any, from_input: Array, from_hidden: Array, state: State) -> tuple[State, Gates]:
    """Gated recurrent unit (Cho et al. 2014), the reset gate applied after the product, as cuDNN does.

    r, z = σ(...);  n = tanh(W_in x + b_in + r (W_hn h + b_hn));  h' = (1 - z) n + z h.
    """
    (h,) = state
    H = h.shape[-1]
    r_z = sigmoid(xp, from_input[..., : 2 * H] + from_hidden[..., : 2 * H])
    r, z = r_z[..., :H], r_z[..., H:]
    n = xp.tanh(from_input[..., 2 * H :] + r * from_hidden[..., 2 * H :])
    return (n + z * (h - n),), {"r": r, "z": z, "n": n}


@dataclass(frozen=True)
class Cell:
    """One kind of cell: its step, the number of gates G, the parts of its state, its fused layer in ``torch.nn``."""

    step: Callable[[Any, Array, Array, State], tuple[State, Gates]]
    num_gates: int
    state: tuple[str, ...]
    layer: str


CELLS = {
    "rnn": Cell(rnn_step, 1, ("h",), "RNN"),
    "lstm": Cell(lstm_step, 4, ("h", "c"), "LSTM"),
    "gru": Cell(gru_step, 3, ("h",), "GRU"),
}

#: The cells that the compiled kernels have, as ``native.h`` numbers them; any other runs without.
COMPILED = ("rnn", "lstm", "gru")


def connect(xp: Any, kind: str, x: Array, y: Array) -> Array:
    """What the next layer reads, from this layer's input ``x`` and output ``y``.

    ``plain``: y.  ``residual``: x + y where the widths agree (He et al. 2016).  ``dense``: both, side by side
    (Graves 2013; Huang et al. 2017).
    """
    if kind == "dense":
        return xp.concatenate((x, y), -1)
    if kind == "residual" and x.shape[-1] == y.shape[-1]:
        return x + y
    return y
