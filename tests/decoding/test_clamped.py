"""Outputs that are held: the same as the equations with the unit replaced, and nothing else changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from charrnn.checkpoint import Checkpoint
from charrnn.decoding.clamped import ClampedEngine, parse_clamps
from charrnn.decoding.generator import Sampling, generate
from charrnn.decoding.numpy_engine import NumpyEngine
from charrnn.errors import UsageError
from charrnn.inspection.activations import run

Make = Callable[..., Checkpoint]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_held_output_is_what_the_equations_give_with_it_replaced(tiny_checkpoint: Make, cell: str) -> None:
    checkpoint = tiny_checkpoint(cell=cell)
    clamps = parse_clamps(["0.3=1", "1.5=-0.25"], checkpoint.config.model)
    engine = ClampedEngine(checkpoint, clamps)
    ids = np.random.default_rng(0).integers(0, 9, (15, 2))
    mask = np.zeros((2, 2, 12), bool)
    values = np.zeros((2, 2, 12), np.float32)
    for (layer, unit), value in clamps.items():
        mask[layer, :, unit], values[layer, :, unit] = True, value
    expected = run(np, checkpoint.config.model, checkpoint.weights, ids, hold=(mask, values)).logits
    found, after = engine.run(ids, engine.initial_state(2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    state, steps = engine.initial_state(2), []
    for row in ids:
        logits, state = engine.step(row, state)
        steps.append(logits)
    np.testing.assert_allclose(steps, expected, rtol=1e-4, atol=1e-5)
    assert (after[0][0, :, 3] == 1).all()
    assert (after[0][1, :, 5] == -0.25).all()


def test_a_cell_held_where_it_is_anyway_changes_nothing(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(cell="rnn")
    for part in ("weight_ih_l0", "weight_hh_l0"):
        checkpoint.weights[f"layers.0.{part}"][4] = 0
    checkpoint.weights["layers.0.bias_ih_l0"][4] = checkpoint.weights["layers.0.bias_hh_l0"][4] = 0
    held = ClampedEngine(checkpoint, {(0, 4): 0.0})
    settings = Sampling(length=40, seed=3)
    free = generate(NumpyEngine.from_checkpoint(checkpoint), checkpoint.vocabulary, settings=settings)
    assert generate(held, checkpoint.vocabulary, settings=settings) == free


@pytest.mark.parametrize("given", ["0.3", "0.3=", "0.3=x", "0.3=1.01", "0.3=nan", "0.12=0", "2.0=0", "a=0", "-1.0=0"])
def test_what_is_no_clamp_is_refused(tiny_checkpoint: Make, given: str) -> None:
    with pytest.raises(UsageError):
        parse_clamps([given], tiny_checkpoint().config.model)
