"""The equations against the engine, and against the fused layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from charrnn.checkpoint import Checkpoint
from charrnn.decoding.numpy_engine import NumpyEngine
from charrnn.inspection import activations as module
from charrnn.inspection.activations import activations, run
from charrnn.model.network import CharRNN

Model = Callable[..., Checkpoint]
SHAPES: list[dict[str, Any]] = [
    {},
    {"layer_norm": True, "connections": "residual"},
    {"connections": "dense", "tie_weights": True},
]


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("changes", SHAPES)
def test_logits_are_the_engines(model: Model, text: str, cell: str, changes: dict[str, Any]) -> None:
    checkpoint = model(cell, **changes)
    ids = checkpoint.vocabulary.encode(text[:150])
    engine = NumpyEngine.from_checkpoint(checkpoint)
    inputs = np.append(checkpoint.vocabulary.index("\n"), ids[:-1])
    expected, _ = engine.run(inputs[:, None], engine.initial_state(1))
    first = run(np, checkpoint.config.model, checkpoint.weights, inputs[:37, None])
    then = run(np, checkpoint.config.model, checkpoint.weights, inputs[37:, None], first.states)
    np.testing.assert_allclose(np.concatenate((first.logits, then.logits)), expected, atol=1e-5)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_states_are_the_fused_layers(model: Model, text: str, cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 7)  # so that the text takes several windows
    checkpoint = model(cell)
    network = CharRNN(checkpoint.config.model, len(checkpoint.vocabulary))
    network.load_weights(checkpoint.weights)
    ids = checkpoint.vocabulary.encode(text[:20])
    parts = activations(checkpoint, ids, "hc" if cell == "lstm" else "h")
    state = network.initial_state(1)
    with torch.no_grad():
        _, state = network(torch.tensor([[checkpoint.vocabulary.index("\n")]]), state)
        for t, symbol in enumerate(ids.tolist()):
            _, state = network(torch.tensor([[symbol]]), state)
            for name, part in zip(parts, state, strict=True):
                np.testing.assert_allclose(parts[name][t], part[:, 0].numpy(), atol=1e-6)


def test_a_held_unit_keeps_its_value_and_the_others_lanes_are_untouched(model: Model, text: str) -> None:
    checkpoint = model()
    config = checkpoint.config.model
    mask = np.zeros((2, 2, 12), bool)
    mask[0, 1, 3] = True
    ids = np.repeat(checkpoint.vocabulary.encode(text[:9])[:, None], 2, 1)
    free = run(np, config, checkpoint.weights, ids)
    held = run(np, config, checkpoint.weights, ids, hold=(mask, np.full(mask.shape, 0.25, np.float32)))
    assert all(h[1, 3] == 0.25 for h in held.parts[0]["h"])
    np.testing.assert_array_equal(held.logits[:, 0], free.logits[:, 0])
    assert not np.allclose(held.logits[:, 1], free.logits[:, 1])
