"""What each kind of model is made of, by its settings: shapes of weights and state, and where its network is.

Imports no torch: a checkpoint is checked, and ``info`` answers, without it. A new kind is its settings in
:data:`charrnn.config.MODELS`, a line in ``ARCHITECTURES``, sizes in :mod:`charrnn.presets`, and a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from charrnn.cells import CELLS
from charrnn.config import ModelConfig

Shape = tuple[int, ...]
#: Of each weight, by its name in PyTorch.
Shapes = dict[str, Shape]

#: Weights with a row for each of the V symbols.
BY_SYMBOL = ("embedding.weight", "head.weight", "head.bias")
#: The one tensor of an n-gram model: the ids that it counts, in any unsigned type.
TEXT = "text"


def recurrent_weights(config: ModelConfig, symbols: int) -> Shapes:
    """``layers.K.*`` are PyTorch's names and shapes for one layer of the cell; layer K reads what the layers before it
    leave, which grows with dense connections. ``projection`` is there only where tied weights need another width."""
    H, E = config.hidden_size, config.embedding_size
    G = CELLS[config.cell].num_gates
    shapes: Shapes = {"embedding.weight": (symbols, E)}
    width = E
    for layer in range(config.num_layers):
        shapes |= {
            f"layers.{layer}.weight_ih_l0": (G * H, width),
            f"layers.{layer}.weight_hh_l0": (G * H, H),
            f"layers.{layer}.bias_ih_l0": (G * H,),
            f"layers.{layer}.bias_hh_l0": (G * H,),
        }
        if config.layer_norm:
            shapes |= {f"norms.{layer}.weight": (H,), f"norms.{layer}.bias": (H,)}
        width = width + H if config.connections == "dense" else H
    if not config.tie_weights:
        shapes["head.weight"] = (symbols, width)
    elif width != E:
        shapes["projection.weight"] = (E, width)
    shapes["head.bias"] = (symbols,)
    return shapes


def nn_weights(config: ModelConfig, symbols: int) -> Shapes:
    """A row of the embedding is what a character adds to the hidden layer from each of its C places."""
    C, H = config.context, config.hidden_size
    return {"embedding.weight": (symbols, C * H), "bias": (H,), "head.weight": (symbols, H), "head.bias": (symbols,)}


def tcn_weights(config: ModelConfig, symbols: int) -> Shapes:
    """Each layer's convolution makes a filter and a gate of K taps' channels."""
    H, K = config.hidden_size, config.kernel_size
    shapes: Shapes = {"embedding.weight": (symbols, H)}
    for layer in range(config.num_layers):
        name = f"layers.{layer}"
        shapes |= _norm(f"{name}.norm", H) | _linear(f"{name}.convolution", 2 * H, K * H)
        shapes |= _linear(f"{name}.output", H, H)
    return shapes | _norm("norm", H) | _linear("head", symbols, H)


def transformer_weights(config: ModelConfig, symbols: int) -> Shapes:
    """Each layer: queries, keys and values of H each, their output, and a feed-forward part of 4 H."""
    H = config.hidden_size
    shapes: Shapes = {"embedding.weight": (symbols, H)}
    for layer in range(config.num_layers):
        name = f"layers.{layer}"
        shapes |= _norm(f"{name}.norm_attention", H) | _linear(f"{name}.attention", 3 * H, H)
        shapes |= _linear(f"{name}.output", H, H) | _norm(f"{name}.norm_feed", H)
        shapes |= _linear(f"{name}.widen", 4 * H, H) | _linear(f"{name}.narrow", H, 4 * H)
    return shapes | _norm("norm", H) | _linear("head", symbols, H)


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


@dataclass(frozen=True)
class Architecture:
    """One kind of model.

    Attributes:
        network: module and class, a :class:`torch.nn.Module`; an n-gram model has none.
        weights: shapes by name, given V.
        state: shapes of the parts of the state of B sequences; the second axis is always B, and zeros are the empty
            state.
        kept: numbers that training keeps of each character until the gradient has passed, at least.
        size: what people call its size.
    """

    network: str
    weights: Callable[[ModelConfig, int], Shapes]
    state: Callable[[ModelConfig, int], tuple[Shape, ...]]
    kept: Callable[[ModelConfig], int]
    size: Callable[[ModelConfig], str]


def _layers_by_units(config: ModelConfig) -> str:
    return f"{config.num_layers} x {config.hidden_size}"


def dilation(layer: int) -> int:
    """Characters between the taps of a layer of a TCN: 1, 2, 4 ..."""
    return 1 << layer


ARCHITECTURES = {
    "recurrent": Architecture(
        "charrnn.model.network:CharRNN",
        recurrent_weights,
        lambda c, B: tuple((c.num_layers, B, c.hidden_size) for _ in CELLS[c.cell].state),
        lambda c: c.num_layers * CELLS[c.cell].num_gates * c.hidden_size,
        _layers_by_units,
    ),
    "nn": Architecture(
        "charrnn.baselines.nn:NN",
        nn_weights,
        lambda c, B: ((c.context - 1, B, 1),),
        lambda c: c.hidden_size,
        lambda c: f"{c.context} characters, {c.hidden_size} units",
    ),
    "tcn": Architecture(
        "charrnn.baselines.tcn:TCN",
        tcn_weights,
        lambda c, B: tuple(((c.kernel_size - 1) * dilation(layer), B, c.hidden_size) for layer in range(c.num_layers)),
        lambda c: c.num_layers * (c.kernel_size + 3) * c.hidden_size,
        _layers_by_units,
    ),
    "transformer": Architecture(
        "charrnn.baselines.transformer:Transformer",
        transformer_weights,
        lambda c, B: ((c.context - 1, B, 1), *((c.context - 1, B, 2 * c.hidden_size) for _ in range(c.num_layers))),
        lambda c: c.num_layers * 12 * c.hidden_size,
        _layers_by_units,
    ),
    "ngram": Architecture(
        "", lambda c, V: {TEXT: (0,)}, lambda c, B: ((c.order - 1, B, 1),), lambda c: 0, lambda c: f"order {c.order}"
    ),
}


def weight_shapes(config: ModelConfig, symbols: int) -> Shapes:
    """Name and shape of every weight of a model with this many symbols V."""
    return ARCHITECTURES[config.kind].weights(config, symbols)


def state_shapes(config: ModelConfig, batch_size: int) -> tuple[Shape, ...]:
    """Shape of every part of the state of B sequences."""
    return ARCHITECTURES[config.kind].state(config, batch_size)


def training_memory(config: ModelConfig, symbols: int, steps: int) -> tuple[int, int]:
    """Bytes that training needs at least, for the weights and for each stream with windows of so many steps.

    Beside the weights their average, their gradients, and the optimiser's two averages of those, in float32; of each
    stream its state, and of each character in its window the gates and the logits, in 16 bits.
    """
    weights = sum(map(math.prod, weight_shapes(config, symbols).values()))
    state = sum(map(math.prod, state_shapes(config, 1)))
    return 5 * 4 * weights, 4 * state + 2 * steps * (ARCHITECTURES[config.kind].kept(config) + symbols)


def title(config: ModelConfig) -> str:
    """What people call the model.

    >>> title(ModelConfig(cell="lstm", num_layers=2, hidden_size=256)), title(ModelConfig(model="ngram", order=6))
    ('LSTM 2 x 256', 'n-gram order 6')
    """
    names = {"ngram": "n-gram", "nn": "n-NN", "tcn": "TCN", "transformer": "Transformer"}
    return f"{names.get(config.kind) or config.cell.upper()} {ARCHITECTURES[config.kind].size(config)}"


def description(config: ModelConfig) -> str:
    """Its title, and in what it is more than a stack of cells.

    >>> description(ModelConfig(cell="lstm", num_layers=2, hidden_size=512, connections="dense", layer_norm=True))
    'LSTM 2 x 512, dense, layer normalisation'
    """
    parts = [title(config)]
    if config.connections not in (None, "plain"):
        parts.append(config.connections)
    if config.layer_norm:
        parts.append("layer normalisation")
    if config.tie_weights:
        parts.append("tied weights")
    return ", ".join(parts)
