"""The numpy engine against the torch model, which it must equal for every architecture."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from charrnn.cells import CELLS
from charrnn.checkpoint import LARGEST_WEIGHT, Checkpoint
from charrnn.decoding.engine import engine_for
from charrnn.decoding.filters import log_softmax
from charrnn.decoding.numpy_engine import NumpyEngine
from charrnn.errors import ResourceError
from charrnn.model.torch_engine import TorchEngine

Make = Callable[..., Checkpoint]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("connections", ["plain", "residual", "dense"])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_agrees_with_torch(
    tiny_checkpoint: Make, cell: str, connections: str, layer_norm: bool, tie_weights: bool, num_layers: int
) -> None:
    checkpoint = tiny_checkpoint(
        cell=cell, connections=connections, layer_norm=layer_norm, tie_weights=tie_weights, num_layers=num_layers
    )
    ours, torchs = NumpyEngine.from_checkpoint(checkpoint), TorchEngine.from_checkpoint(checkpoint)
    T, B = 17, 3
    ids = np.random.default_rng(0).integers(0, ours.symbols, (T, B))
    expected, expected_state = torchs.run(ids, torchs.initial_state(B))
    expected_log = log_softmax(expected)

    found, state = ours.run(ids, ours.initial_state(B))
    np.testing.assert_allclose(log_softmax(found), expected_log, atol=1e-4)
    for ours_part, torchs_part in zip(state, expected_state, strict=True):
        np.testing.assert_allclose(ours_part, torchs_part, atol=1e-4)

    state = ours.initial_state(B)
    for t in range(T):
        logits, state = ours.step(ids[t], state)
        np.testing.assert_allclose(log_softmax(logits), expected_log[t], atol=1e-4)

    state = ours.initial_state(1)  # one sequence takes the matrix-vector path
    for t in range(T):
        logits, state = ours.step(ids[t, :1], state)
        np.testing.assert_allclose(log_softmax(logits), expected_log[t, :1], atol=1e-4)
    for length in (1, T):
        window, _ = ours.run(ids[:length, :1], ours.initial_state(1))
        np.testing.assert_allclose(log_softmax(window), expected_log[:length, :1], atol=1e-4)


def test_residual_input_of_the_hidden_size_is_added(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(connections="residual", embedding_size=12)
    ours, torchs = NumpyEngine.from_checkpoint(checkpoint), TorchEngine.from_checkpoint(checkpoint)
    ids = np.array([[1, 2], [3, 4]])
    expected, _ = torchs.run(ids, torchs.initial_state(2))
    found, _ = ours.run(ids, ours.initial_state(2))
    np.testing.assert_allclose(log_softmax(found), log_softmax(expected), atol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("connections", ["plain", "residual", "dense"])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize("alike", [False, True])  # all of one sign add up to the most
def test_with_the_largest_weights_that_a_checkpoint_may_have_nothing_overflows(
    tiny_checkpoint: Make, cell: str, connections: str, layer_norm: bool, tie_weights: bool, alike: bool
) -> None:
    how = {"cell": cell, "connections": connections, "layer_norm": layer_norm, "tie_weights": tie_weights}
    checkpoint = tiny_checkpoint(hidden_size=64, num_layers=4, **how)
    for array in checkpoint.weights.values():
        array[:] = LARGEST_WEIGHT * (1 if alike else np.sign(array))
    for ordered in (False, True):
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            engine = NumpyEngine(
                checkpoint.config.model, len(checkpoint.vocabulary), checkpoint.weights, ordered=ordered
            )
            ids = np.random.default_rng(0).integers(0, engine.symbols, (9, 2))
            logits, state = engine.run(ids, engine.initial_state(2))
            more, _ = engine.step(ids[0], state)
        assert np.isfinite(logits).all()
        assert np.isfinite(more).all()


@pytest.mark.parametrize("kind", [NumpyEngine, TorchEngine])
def test_state_is_a_value_and_select_takes_rows(
    tiny_checkpoint: Make, kind: type[NumpyEngine] | type[TorchEngine]
) -> None:
    engine = kind.from_checkpoint(tiny_checkpoint())
    _, state = engine.step(np.array([1, 2, 3]), engine.initial_state(3))  # type: ignore[arg-type]
    before = [np.asarray(part).copy() for part in state]
    first, _ = engine.step(np.array([4, 4, 4]), state)  # type: ignore[arg-type]
    again, _ = engine.step(np.array([4, 4, 4]), state)  # type: ignore[arg-type]
    np.testing.assert_array_equal(first, again)
    for part, kept in zip(state, before, strict=True):
        np.testing.assert_array_equal(np.asarray(part), kept)
    chosen = engine.select(state, np.array([2, 0, 0, 1]))  # type: ignore[arg-type]
    for part, kept in zip(chosen, before, strict=True):
        np.testing.assert_array_equal(np.asarray(part), kept[:, [2, 0, 0, 1]])


def test_a_device_that_is_not_there_is_an_error(tiny_checkpoint: Make) -> None:
    import torch

    if torch.backends.mps.is_available():
        pytest.skip("it is there")
    with pytest.raises(ResourceError, match="--device mps"):
        engine_for(tiny_checkpoint(), "mps")


def test_decoding_imports_no_torch() -> None:
    modules = "charrnn.decoding.generator, charrnn.decoding.beam, charrnn.decoding.engine, charrnn.cli.sample"
    subprocess.run([sys.executable, "-c", f"import sys, {modules}; assert 'torch' not in sys.modules"], check=True)
