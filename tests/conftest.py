"""What tests of several rooms share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import settings

from charrnn.checkpoint import Checkpoint
from charrnn.config import Config, ModelConfig, TrainingConfig
from charrnn.data.vocabulary import Vocabulary
from charrnn.model.network import CharRNN

# On a busy machine an example may take long; that is no failure.
settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")
# Tiny models gain nothing from threads, and lose much where other programs run.
torch.set_num_threads(1)

TINY: dict[str, Any] = {
    "cell": "lstm",
    "num_layers": 2,
    "hidden_size": 12,
    "embedding_size": 6,
    "connections": "plain",
    "layer_norm": False,
    "tie_weights": False,
    "forget_bias": 1.0,
    "input_dropout": 0.0,
    "dropout": 0.0,
    "output_dropout": 0.0,
    "weight_dropout": 0.0,
}


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Callable[..., Checkpoint]:
    """``tiny_checkpoint(vocabulary, seed=0, **model settings)``: a small model with random weights and biases.

    Weights are larger than those training starts from, so that the distributions are far from uniform.
    """

    def make(vocabulary: Vocabulary | None = None, seed: int = 0, **overrides: Any) -> Checkpoint:
        vocabulary = vocabulary or Vocabulary.of("\n abcdefgh")
        config = Config(ModelConfig(**(TINY | overrides)), TrainingConfig())
        generator = torch.Generator().manual_seed(seed)
        model = CharRNN(config.model, len(vocabulary), generator)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.empty_like(parameter).normal_(0, 0.5, generator=generator))
        weights = {name: array.copy() for name, array in model.weights().items()}
        return Checkpoint(config, vocabulary, weights)

    return make
