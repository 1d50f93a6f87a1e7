"""The character-level recurrent network: embedding → recurrent layers → logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from charrnn.architectures import weight_shapes
from charrnn.cells import CELLS, connect
from charrnn.config import ModelConfig
from charrnn.model import sequence
from charrnn.model.base import Network, State
from charrnn.model.noise import ANY, Noise


class CharRNN(Network):
    """Logits of the next character, given the characters so far.

    Each recurrent layer is one call of a fused kernel (:mod:`charrnn.model.sequence` or oneDNN on a CPU, cuDNN on a
    GPU); what happens between the layers is plain tensor code. The state has per part of the cell's one tensor
    (L, B, H): ``(h,)`` or ``(h, c)``. It is passed in and returned, never kept.

    Args:
        config: the architecture, settled.
        symbols: V, size of the vocabulary with ``unknown``.
        generator: source of the initial weights, on the CPU.
    """

    def __init__(self, config: ModelConfig, symbols: int, generator: torch.Generator | None = None) -> None:
        super().__init__(config, symbols)
        shapes = weight_shapes(config, symbols)
        layer = getattr(nn, CELLS[config.cell].layer)
        H = config.hidden_size
        self.embedding = nn.Embedding(symbols, config.embedding_size)
        self.layers = nn.ModuleList(layer(shapes[f"layers.{k}.weight_ih_l0"][1], H) for k in range(config.num_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(H) for _ in range(config.num_layers if config.layer_norm else 0))
        self.projection: nn.Linear | None = None
        if "projection.weight" in shapes:
            self.projection = nn.Linear(shapes["projection.weight"][1], config.embedding_size, bias=False)
        width = shapes["head.weight"][1] if "head.weight" in shapes else config.embedding_size
        self.head = nn.Linear(width, symbols)
        if config.tie_weights:
            self.head.weight = self.embedding.weight
        self.initialise(generator)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw initial weights: orthogonal recurrent matrices (Saxe et al. 2014), small uniform ones elsewhere, the
        forget gate's bias as configured (Jozefowicz et al. 2015), output weights that start near the uniform model."""
        H = self.config.hidden_size
        for name, parameter in self.named_parameters():
            if name.startswith("norms"):
                continue
            if parameter.dim() == 1:
                parameter.zero_()
            elif "weight_hh" in name:
                for gate in torch.split(parameter, H):
                    nn.init.orthogonal_(gate, generator=generator)
            elif "weight_ih" in name:
                bound = math.sqrt(3 / parameter.shape[1])
                parameter.uniform_(-bound, bound, generator=generator)
            elif name == "embedding.weight" and not self.config.tie_weights:
                parameter.normal_(0, 1, generator=generator)
            else:
                bound = 1 / math.sqrt(parameter.shape[1])
                parameter.uniform_(-bound, bound, generator=generator)
        if self.config.cell == "lstm":
            for layer in self.layers:
                nn.init.constant_(layer.get_parameter("bias_ih_l0")[H : 2 * H], self.config.forget_bias)

    def forward(self, ids: Tensor, state: State, noise: Noise = ANY) -> tuple[Tensor, State]:
        """Run a window.

        Args:
            ids: (T, B) characters.
            state: per part (L, B, H), as left by the window before.
            noise: source of the dropout masks while training.

        Returns:
            logits (T, B, V) in the precision of the computation, and the state after the window.
        """
        config = self.config
        last = config.num_layers - 1
        x = self.embedding(ids)  # (T, B, E)
        x = self._drop(x, config.input_dropout, noise)
        after: list[State] = []
        for k, layer in enumerate(self.layers):
            y, state_k = self._run(layer, x, tuple(part[k : k + 1] for part in state), noise)  # (T, B, H)
            after.append(state_k)
            if config.layer_norm:
                y = self.norms[k](y)
            x = connect(torch, config.connections, x, y)  # (T, B, H), or wider if dense
            x = self._drop(x, config.output_dropout if k == last else config.dropout, noise)
        if self.projection is not None:
            x = self.projection(x)  # (T, B, E)
        logits = self.head(x)  # (T, B, V)
        return logits, tuple(torch.cat(parts) for parts in zip(*after, strict=True))

    def _run(self, layer: nn.Module, x: Tensor, state: State, noise: Noise) -> tuple[Tensor, State]:
        """One fused layer; with DropConnect (Merity et al. 2018) one mask of W_hh holds for the whole window."""
        weights: list[Tensor] = list(layer.parameters())  # W_ih, W_hh, b_ih, b_hh
        dropping = self.training and self.config.weight_dropout > 0
        if dropping:
            weights[1] = weights[1] * _mask(weights[1], weights[1].shape, self.config.weight_dropout, noise.generator)
        if sequence.runs(self.config.cell, x, state):
            return sequence.run(self.config.cell, x, state, weights)
        packed = state if len(state) > 1 else state[0]
        if dropping:
            # What the layer itself calls. Given other weights, the layer would on CUDA first move them all to new
            # places in memory; a captured step would go on with the old ones.
            fused = getattr(torch, str(layer.mode).lower())  # lstm, gru, rnn_tanh
            y, *parts = fused(x, packed, weights, True, 1, 0.0, True, False, False)
            return y, tuple(parts)
        y, after = layer(x, packed)
        return y, after if isinstance(after, tuple) else (after,)

    def _drop(self, x: Tensor, rate: float, noise: Noise) -> Tensor:
        """Dropout with one mask for all steps of the window (Gal & Ghahramani 2016)."""
        if not self.training or rate == 0:
            return x
        return x * noise.drawn(lambda shape: _mask(x, shape, rate, noise.generator), x.shape[1:])


def _mask(like: Tensor, shape: torch.Size, rate: float, generator: torch.Generator | None) -> Tensor:
    """Zeros at ``rate``, the rest scaled so that the mean stays, of the given shape."""
    if like.device.type != "cpu":
        return like.new_empty(shape).bernoulli_(1 - rate, generator=generator).div_(1 - rate)
    # Sixteen random bits for each decide as well as the float that torch draws, in an eighth of its time: for the
    # recurrent weights of a step that is as long as the step itself.
    words = torch.empty(-(-shape.numel() // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    dropped = round(rate * 2**16)
    kept = words.view(torch.int16)[: shape.numel()].view(shape) >= dropped - 2**15
    return kept.to(like.dtype).mul_(2**16 / (2**16 - dropped))
