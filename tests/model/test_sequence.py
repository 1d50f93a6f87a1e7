"""The layer on matrix instructions against torch's own layer, in float32 on the same rounded numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from charrnn.cells import CELLS
from charrnn.model import sequence
from charrnn.model.network import CharRNN
from charrnn.model.noise import Noise
from charrnn.presets import MODEL

pytestmark = pytest.mark.skipif(
    not sequence.available(), reason="the kernel is not compiled, or not for this processor"
)


def relative(found: Tensor, expected: Tensor) -> float:
    """Length of the difference over the length of what is expected."""
    return float((found.detach().float() - expected.detach().float()).norm() / expected.detach().float().norm())


def both(cell: str, T: int, B: int, inputs: int, H: int, threads: int = 2) -> list[dict[str, Tensor]]:
    """Output, state after and all gradients: of the kernel, and of torch's float32 layer."""
    torch.manual_seed(T * B + H)
    layer = getattr(nn, CELLS[cell].layer)(inputs, H)
    state = tuple(torch.randn(1, B, H) * 0.5 for _ in CELLS[cell].state)
    x, gradient = torch.randn(T, B, inputs).bfloat16().float(), torch.randn(T, B, H)
    found = []
    for kernel in (True, False):
        given = x.clone().requires_grad_()
        layer.zero_grad()
        if kernel:
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert sequence.runs(cell, given, state)
                y, after = sequence.run(cell, given, state, tuple(layer.parameters()))
            (y.float() * gradient).sum().backward()
            torch.set_num_threads(before)
        else:
            y, packed = layer(given, state if len(state) > 1 else state[0])
            after = packed if isinstance(packed, tuple) else (packed,)
            (y * gradient).sum().backward()
        gradients = {name: p.grad.clone() for name, p in layer.named_parameters()}
        found.append(
            {"y": y.detach(), **{f"state {k}": part for k, part in enumerate(after)}, "x": given.grad} | gradients
        )
    return found


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("T", "B", "inputs", "H"), [(1, 1, 5, 32), (7, 16, 12, 32), (30, 40, 64, 96), (12, 67, 96, 64), (64, 64, 32, 256)]
)
def test_forward_and_backward_are_torchs_to_the_precision_of_bfloat16(
    cell: str, T: int, B: int, inputs: int, H: int
) -> None:
    found, expected = both(cell, T, B, inputs, H)
    for name in expected:
        assert relative(found[name], expected[name]) < 0.01, name


@pytest.mark.parametrize("cell", CELLS)
def test_is_no_worse_than_torchs_own_layer_in_bfloat16(cell: str) -> None:
    torch.manual_seed(0)
    layer = getattr(nn, CELLS[cell].layer)(64, 128)
    x = torch.randn(50, 32, 64)
    expected, _ = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        theirs, _ = layer(x)
        ours, _ = sequence.run(
            cell, x, tuple(torch.zeros(1, 32, 128) for _ in CELLS[cell].state), tuple(layer.parameters())
        )
    assert relative(ours, expected) < 1.2 * relative(theirs, expected)


@pytest.mark.parametrize("cell", CELLS)
def test_large_values_saturate(cell: str) -> None:
    layer = getattr(nn, CELLS[cell].layer)(8, 32)
    state = tuple(torch.zeros(1, 16, 32) for _ in CELLS[cell].state)
    for size in (1e4, 1e20):
        x = (torch.randn(5, 16, 8) * size).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, _ = sequence.run(cell, x, state, tuple(layer.parameters()))
        y.float().sum().backward()
        assert y.abs().max() <= 1
        assert x.grad.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = sequence.run(cell, torch.full((5, 16, 8), torch.nan), state, tuple(layer.parameters()))
    assert y.isnan().any()  # so that divergence is seen


@pytest.mark.parametrize("cell", CELLS)
def test_neither_threads_nor_other_sequences_change_a_sequence(cell: str) -> None:
    one, two, three = (both(cell, 20, 70, 16, 64, threads)[0] for threads in (1, 2, 3))
    for name in ("y", "state 0"):
        assert torch.equal(one[name], two[name])
        assert torch.equal(one[name], three[name])
    torch.manual_seed(3)
    layer = getattr(nn, CELLS[cell].layer)(16, 64)
    x, state = torch.randn(20, 50, 16), tuple(torch.randn(1, 50, 64) for _ in CELLS[cell].state)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        whole, _ = sequence.run(cell, x, state, tuple(layer.parameters()))
        part, _ = sequence.run(cell, x[:, 33:47], tuple(s[:, 33:47] for s in state), tuple(layer.parameters()))
    torch.testing.assert_close(part, whole[:, 33:47], atol=1e-2, rtol=1e-2)


def test_a_window_in_two_is_the_window_in_one() -> None:
    torch.manual_seed(1)
    layer = nn.LSTM(16, 64)
    x, state = torch.randn(20, 8, 16), (torch.zeros(1, 8, 64), torch.zeros(1, 8, 64))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        whole, _ = sequence.run("lstm", x, state, tuple(layer.parameters()))
        first, between = sequence.run("lstm", x[:7], state, tuple(layer.parameters()))
        second, _ = sequence.run("lstm", x[7:], between, tuple(layer.parameters()))
    torch.testing.assert_close(torch.cat((first, second)), whole, atol=1e-2, rtol=1e-2)


def test_the_state_before_is_left_as_it_was() -> None:
    layer = nn.LSTM(16, 32)
    state = (torch.randn(1, 4, 32), torch.randn(1, 4, 32))
    kept = [part.clone() for part in state]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, after = sequence.run("lstm", torch.randn(3, 4, 16), state, tuple(layer.parameters()))
        assert not any(part.requires_grad for part in after)
    assert all(torch.equal(a, b) for a, b in zip(state, kept, strict=True))


def test_a_second_backward_is_an_error_and_not_a_wrong_gradient() -> None:
    layer = nn.GRU(16, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = sequence.run("gru", torch.randn(3, 4, 16), (torch.zeros(1, 4, 32),), tuple(layer.parameters()))
    y.float().sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        y.float().sum().backward()


def test_runs_where_its_numbers_are_what_was_asked_for() -> None:
    x, state = torch.zeros(2, 3, 4), (torch.zeros(1, 3, 32), torch.zeros(1, 3, 32))
    assert not sequence.runs("lstm", x, state)  # float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert sequence.runs("lstm", x, state)
        assert not sequence.runs("lstm", x, tuple(part[..., :31] for part in state))
        assert not sequence.runs("lstm", x, tuple(part.clone().requires_grad_() for part in state))
        assert not sequence.runs("another", x, state)
    with torch.autocast("cpu", dtype=torch.float16):
        assert not sequence.runs("lstm", x, state)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("weight_dropout", [0.0, 0.3])
def test_a_network_learns_by_it_what_it_learns_without(
    cell: str, weight_dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(MODEL, cell=cell, hidden_size=64, embedding_size=16, weight_dropout=weight_dropout)
    ids = torch.randint(0, 20, (33, 16), generator=torch.Generator().manual_seed(0))
    losses = []
    for kernel in (True, False):
        monkeypatch.setattr(sequence, "_available", kernel)
        model = CharRNN(config, 20, torch.Generator().manual_seed(1)).train()
        noise = Noise(torch.Generator().manual_seed(2))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        for _ in range(10):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits, _ = model(ids[:-1], model.initial_state(16), noise)
            loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] < 2.9  # from 3


def test_wrong_sizes_are_errors_and_not_crashes() -> None:
    kernel = sequence._sequence
    arrays = tuple(bytearray(8) for _ in range(8))
    for sizes in ((1, 4, 0, 1, 32), (1, 4, 1, 1, 33), (1, 9, 1, 1, 32), (7, 4, 1, 1, 32), (1, 4, 1, -1, 32)):
        with pytest.raises(ValueError, match="units"):
            kernel.run(*sizes, 1, False, arrays)
    with pytest.raises(ValueError, match="array 0: expected 8192 bytes, got 8"):
        kernel.run(1, 4, 1, 1, 32, 1, False, arrays)
    with pytest.raises(IndexError):
        kernel.run(1, 4, 1, 1, 32, 1, False, (bytearray(8192),))
