"""A recurrent layer over a window on a CPU with bfloat16 matrix instructions (Intel AMX), forward and backward.

torch's own layer (oneDNN's LSTM; nothing for GRU and RNN) shares each step's small product out to the threads, which
then wait for each other at every step. In ``_sequence.c`` each thread has some of the sequences, from the first step
to the last. What does not wait for the step before, here, is torch's products over the whole window:

    gates     (T·B, G·H)  X W_ihᵀ          before,  as in Appleyard et al. 2016
    gradients dX = D W_ih,  dW_ih = Dᵀ X,  dW_hh = Dᵀ H₋₁    after,  D being what reached the gates

Precision is that of torch's autocast: products of bfloat16, sums and the LSTM's c in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from charrnn.cells import CELLS, COMPILED

try:
    from charrnn.model import _sequence  # type: ignore[attr-defined]
except ImportError:
    _sequence = None

State = tuple[Tensor, ...]

_available: bool | None = None


def compiled() -> bool:
    """Whether there was a compiler when charrnn was installed."""
    return _sequence is not None


def available() -> bool:
    """Whether the kernel is compiled and the processor has the instructions."""
    global _available
    if _available is None:
        _available = compiled() and bool(_sequence.available())
    return _available


def runs(cell: str, x: Tensor, state: State) -> bool:
    """Whether :func:`run` takes this: on a CPU in bfloat16, H a multiple of 32, no gradient into the state before."""
    return (
        cell in COMPILED
        and x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and state[0].shape[-1] % 32 == 0
        and not any(part.requires_grad for part in state)
        and available()
    )


def run(cell: str, x: Tensor, state: State, weights: Sequence[Tensor]) -> tuple[Tensor, State]:
    """One layer: x (T, B, inputs), state of (1, B, H) → y (T, B, H), state after.

    As torch's fused layer with ``weights`` (W_ih, W_hh, b_ih, b_hh), in autocast to bfloat16, but that the state comes
    back in float32.
    """
    with torch.autocast("cpu", enabled=False):  # here every number's format is chosen by hand
        y, *after = _Sequence.apply(cell, x, *weights, *state)  # type: ignore[no-untyped-call]
    return y, tuple(after)


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cell: str, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        T, B, _ = x.shape
        H = weight_hh.shape[1]
        G = CELLS[cell].num_gates
        x, weight_ih, weight_hh = x.bfloat16(), weight_ih.bfloat16(), weight_hh.bfloat16()
        gates = x.flatten(0, 1) @ weight_ih.t()  # (T·B, G·H); the kernel adds the biases, sooner than torch would
        y = torch.empty(T, B, H, dtype=torch.bfloat16)
        hidden = state[0][0].float().clone(memory_format=torch.contiguous_format)  # (B, H), replaced
        first = hidden.bfloat16()
        # A GRU's W_hn h + b_hn; an LSTM's c before the first step and after each.
        extra = torch.empty_like(y) if cell == "gru" else None
        cells = torch.empty(T + 1, B, H) if cell == "lstm" else None
        if cells is not None:
            cells[0] = state[1][0]
        arrays = (_packed(weight_hh), bias_ih, bias_hh, gates, y, extra, cells, hidden)
        _run(cell, G, T, B, H, False, arrays)
        after = (hidden[None],) if cells is None else (hidden[None], cells[T:].clone())
        ctx.save_for_backward(x, weight_ih, weight_hh, y, first, cells)
        ctx.cell, ctx.replaced = cell, (gates, extra)
        ctx.mark_non_differentiable(*after)
        ctx.set_materialize_grads(False)
        return y, *after

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            return _gradients(ctx, gradient)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Of the inputs of :class:`_Sequence`, given that of y (T, B, H)."""
    x, weight_ih, weight_hh, y, first, cells = ctx.saved_tensors
    if ctx.replaced is None:
        raise RuntimeError("backward through this layer a second time: its gates have been replaced")
    (gates, extra), ctx.replaced = ctx.replaced, None
    T, B, H = y.shape
    G = CELLS[ctx.cell].num_gates
    arrays = (_packed(weight_hh.t().contiguous()), gradient.contiguous(), gates, y, extra, cells, first)
    _run(ctx.cell, G, T, B, H, True, arrays)  # gates are now the gradients of what came from the input
    h_before = torch.cat((first[None], y[:-1])).flatten(0, 1)  # (T·B, H)
    of_input = gates.t() @ x.flatten(0, 1)  # (G·H, inputs)
    bias = gates.sum(0)
    dx = (gates @ weight_ih).view(T, B, -1) if ctx.needs_input_grad[1] else None
    if extra is None:
        return None, dx, of_input, gates.t() @ h_before, bias, bias, *(None for _ in range(2 - (cells is None)))
    # Of a GRU's candidate, the hidden state reaches it through the reset gate.
    extra = extra.flatten(0, 1)
    of_hidden = torch.cat((gates[:, : 2 * H].t() @ h_before, extra.t() @ h_before))
    hidden_bias = torch.cat((bias[: 2 * H], extra.sum(0)))
    return None, dx, of_input, of_hidden, bias, hidden_bias, None


def _packed(weight: Tensor) -> Tensor:
    """(N, K) bfloat16 as tiles of 16 columns and 16 pairs of rows of its transpose: (N/16, K/32, 16, 16, 2)."""
    N, K = weight.shape
    return weight.view(torch.int32).view(N // 16, 16, K // 32, 16).permute(0, 2, 3, 1).contiguous()


def _run(cell: str, G: int, T: int, B: int, H: int, backward: bool, arrays: tuple[Tensor | None, ...]) -> None:
    given = tuple(_bytes(array) for array in arrays if array is not None)
    _sequence.run(COMPILED.index(cell), G, T, B, H, torch.get_num_threads(), backward, given)


def _bytes(array: Tensor) -> Any:
    # numpy has no bfloat16; the kernel takes any buffer of the right size.
    return array.detach().view(torch.uint8).numpy()
