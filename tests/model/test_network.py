"""The network: textbook steps and fused layers agree; regularisation does what its papers say."""

import dataclasses
import math

import pytest
import torch

from charrnn.architectures import weight_shapes
from charrnn.cells import CELLS, connect
from charrnn.config import ModelConfig
from charrnn.model.network import CharRNN, _mask
from charrnn.model.noise import Noise
from charrnn.presets import MODEL

V = 7


def config(**changes) -> ModelConfig:
    return dataclasses.replace(MODEL, **{"hidden_size": 6, "embedding_size": 4, **changes})


def network(**changes) -> CharRNN:
    model = CharRNN(config(**changes), V, torch.Generator().manual_seed(1)).double()
    for parameter in model.parameters():  # no zeros: a bias in the wrong place must show
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)).double()
    return model


def by_steps(model: CharRNN, ids: torch.Tensor, state: tuple) -> torch.Tensor:
    """The same network, one character at a time, by the equations of charrnn.cells."""
    cell, c = CELLS[model.config.cell], model.config
    states = [tuple(part[k] for part in state) for k in range(c.num_layers)]
    rows = []
    for now in ids:
        x = model.embedding(now)
        for k, layer in enumerate(model.layers):
            from_input = x @ layer.weight_ih_l0.T + layer.bias_ih_l0
            from_hidden = states[k][0] @ layer.weight_hh_l0.T + layer.bias_hh_l0
            states[k], _ = cell.step(torch, from_input, from_hidden, states[k])
            y = model.norms[k](states[k][0]) if c.layer_norm else states[k][0]
            x = connect(torch, c.connections, x, y)
        if model.projection is not None:
            x = model.projection(x)
        rows.append(model.head(x))
    return torch.stack(rows)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("connections", ["plain", "residual", "dense"])
@pytest.mark.parametrize(("layer_norm", "tie_weights"), [(False, False), (True, True)])
def test_readable_steps_and_fused_layers_agree_forward_and_gradient(cell, connections, layer_norm, tie_weights):
    model = network(cell=cell, connections=connections, layer_norm=layer_norm, tie_weights=tie_weights)
    ids = torch.randint(0, V, (9, 3), generator=torch.Generator().manual_seed(3))
    state = tuple(torch.randn(part.shape).double() for part in model.initial_state(3))
    fused, _ = model(ids, state)
    slow = by_steps(model, ids, state)
    assert torch.allclose(fused, slow, atol=1e-12)
    weights = torch.randn(fused.shape).double()
    parameters = list(model.parameters())
    for a, b in zip(
        torch.autograd.grad((fused * weights).sum(), parameters),
        torch.autograd.grad((slow * weights).sum(), parameters),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("built", [{}, {"connections": "dense", "layer_norm": True}, {"connections": "residual"}])
def test_gradients_equal_finite_differences(cell, depth, built):
    model = network(cell=cell, num_layers=depth, hidden_size=3, **built)
    ids = torch.randint(0, V, (5, 2), generator=torch.Generator().manual_seed(3))

    def loss() -> torch.Tensor:
        logits, _ = model(ids, model.initial_state(2))
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())

    gradients = torch.autograd.grad(loss(), list(model.parameters()))
    generator = torch.Generator().manual_seed(4)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        direction = torch.randn(parameter.shape, generator=generator).double()
        with torch.no_grad():
            parameter += 1e-6 * direction
            above = loss()
            parameter -= 2e-6 * direction
            below = loss()
            parameter += 1e-6 * direction
        assert math.isclose((above - below) / 2e-6, (gradient * direction).sum(), rel_tol=1e-5, abs_tol=1e-8)


@pytest.mark.parametrize("cell", CELLS)
def test_windows_with_carried_state_equal_one_long_window(cell):
    model = network(cell=cell)
    ids = torch.randint(0, V, (12, 2))
    whole, end = model(ids, model.initial_state(2))
    first, state = model(ids[:5], model.initial_state(2))
    second, state = model(ids[5:], state)
    assert torch.allclose(whole, torch.cat((first, second)), atol=1e-12)
    assert all(torch.allclose(a, b) for a, b in zip(end, state, strict=True))


@pytest.mark.parametrize("connections", ["plain", "residual", "dense"])
@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_weights_have_the_names_and_shapes_that_a_checkpoint_expects(connections, tie_weights, layer_norm):
    for cell in CELLS:
        c = config(cell=cell, connections=connections, tie_weights=tie_weights, layer_norm=layer_norm, num_layers=3)
        model = CharRNN(c, V)
        expected = weight_shapes(c, V)
        assert {name: array.shape for name, array in model.weights().items()} == expected
        assert sum(p.numel() for p in model.parameters()) == sum(math.prod(shape) for shape in expected.values())
        other = CharRNN(c, V)
        other.load_weights(model.weights())
        ids = torch.randint(0, V, (4, 2))
        assert torch.equal(model(ids, model.initial_state(2))[0], other(ids, other.initial_state(2))[0])


def test_dropout_is_locked_over_time_and_off_in_evaluation():
    model = CharRNN(config(hidden_size=50, input_dropout=0.5), V).train()
    x = torch.ones(20, 3, 50)
    dropped = model._drop(x, 0.4, Noise(torch.Generator().manual_seed(0)))
    assert (dropped == dropped[0]).all()
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.6], rel=1e-4)
    assert (model.eval()._drop(x, 0.4, None) == x).all()


@pytest.mark.parametrize("rate", [0.001, 0.3, 0.5, 0.95])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_drop_the_share_asked_for_each_place_on_its_own_and_keep_the_mean(rate, dtype):
    N = 500_000
    mask = _mask(torch.empty(0, dtype=dtype), torch.Size((N, 2)), rate, torch.Generator().manual_seed(2)).double()
    dropped = (mask == 0).double()
    deviation = math.sqrt(rate * (1 - rate) / N)
    assert (dropped.mean(0) - rate).abs().max() < 5 * deviation + 1e-5
    assert mask.mean() == pytest.approx(1, abs=5 * deviation / (1 - rate) + (0.01 if dtype == torch.bfloat16 else 0))
    flat = dropped.flatten() - rate
    for lag in (1, 2, 3, 4, 8, 512):
        assert abs((flat[lag:] * flat[:-lag]).mean()) < 5 * rate * (1 - rate) / math.sqrt(N)


def test_a_seeded_generator_repeats_dropout_and_dropconnect():
    model = network(dropout=0.3, weight_dropout=0.5).train()
    ids = torch.randint(0, V, (6, 2))
    runs = [model(ids, model.initial_state(2), Noise(torch.Generator().manual_seed(seed)))[0] for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_dropconnect_passes_gradients_only_through_the_kept_weights():
    model = network(weight_dropout=0.5, num_layers=1).train()
    ids = torch.randint(0, V, (6, 2))
    model(ids, model.initial_state(2), Noise(torch.Generator().manual_seed(1)))[0].sum().backward()
    share = (model.layers[0].weight_hh_l0.grad == 0).double().mean()
    assert 0.3 < share < 0.7


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_dropconnect_is_the_plain_layer_with_fewer_weights_and_leaves_its_own_in_place(cell, monkeypatch):
    dropping, plain = (network(cell=cell, num_layers=1, weight_dropout=rate).train() for rate in (0.5, 0.0))
    plain.load_state_dict(dropping.state_dict())
    weight = plain.layers[0].weight_hh_l0
    weight.data *= _mask(weight, weight.shape, 0.5, torch.Generator().manual_seed(1))
    # On CUDA this would move the weights, behind the back of a captured step.
    monkeypatch.setattr(torch.nn.RNNBase, "flatten_parameters", lambda layer: pytest.fail("moved"))
    ids = torch.randint(0, V, (6, 2))
    logits, state = dropping(ids, dropping.initial_state(2), Noise(torch.Generator().manual_seed(1)))
    expected, expected_state = plain(ids, plain.initial_state(2))
    assert torch.equal(logits, expected)
    assert all(torch.equal(a, b) for a, b in zip(state, expected_state, strict=True))


def test_forget_gate_starts_open_and_recurrent_weights_orthogonal():
    model = CharRNN(config(forget_bias=1.5), V)
    H = 6
    layer = model.layers[0]
    assert (layer.bias_ih_l0[H : 2 * H] == 1.5).all()
    assert layer.bias_ih_l0[:H].abs().max() == 0
    for gate in layer.weight_hh_l0.split(H):
        assert torch.allclose(gate @ gate.T, torch.eye(H), atol=1e-5)
