"""The network of a kind of model."""

from __future__ import annotations

from importlib import import_module
from typing import cast

import torch

from charrnn.architectures import ARCHITECTURES
from charrnn.config import ModelConfig
from charrnn.errors import UsageError
from charrnn.model.base import Network


def build(config: ModelConfig, symbols: int, generator: torch.Generator | None = None) -> Network:
    """A network with new weights.

    Args:
        config: the architecture, settled.
        symbols: V, size of the vocabulary with ``unknown``.
        generator: source of the initial weights, on the CPU.

    Raises:
        UsageError: the kind of model is none.
    """
    module, _, name = ARCHITECTURES[config.kind].network.partition(":")
    if not module:
        raise UsageError(f"a model of kind {config.kind} counts; there is no network to do this with")
    return cast(Network, getattr(import_module(module), name)(config, symbols, generator))
