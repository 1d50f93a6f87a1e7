"""AdamW against torch's own class, and against the equations."""

import subprocess
import sys

import pytest
import torch

from charrnn.training.optimizer import AdamW


def parameters() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((5, 3), (7,), (2, 2))]


@pytest.mark.parametrize("rate", [0.01, torch.tensor(0.01)])
def test_is_torchs_to_the_bit(rate):
    ours, theirs = parameters(), parameters()
    mine = AdamW([(ours[::2], 0.1), (ours[1::2], 0.0)], lr=rate, betas=(0.9, 0.99))
    torchs = torch.optim.AdamW(
        [{"params": theirs[::2], "weight_decay": 0.1}, {"params": theirs[1::2], "weight_decay": 0.0}],
        lr=0.01, betas=(0.9, 0.99), fused=True,
    )  # fmt: skip
    for turn in range(20):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(turn))
            other.grad = one.grad.clone()
        mine.step()
        torchs.step()
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)
            for name, value in torchs.state[other].items():
                assert torch.equal(mine.state[one][name], value)
    mine.zero_grad()
    assert all(one.grad is None for one in ours)


def test_follows_the_equations():
    (x,) = [torch.tensor([2.0, -1.0]).requires_grad_()]
    optimizer = AdamW([([x], 0.5)], lr=0.1, betas=(0.9, 0.8))
    m = v = torch.zeros(2)
    expected = x.detach().clone()
    for t in range(1, 6):
        x.grad = torch.tensor([1.0, -3.0]) * t
        m, v = 0.9 * m + 0.1 * x.grad, 0.8 * v + 0.2 * x.grad**2
        corrected = (m / (1 - 0.9**t)) / ((v / (1 - 0.8**t)).sqrt() + 1e-8)
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * corrected
        optimizer.step()
        torch.testing.assert_close(x.detach(), expected)


def test_an_overflow_changes_nothing():
    (x, *_) = parameters()
    optimizer = AdamW([([x], 0.1)], lr=0.1, betas=(0.9, 0.99))
    x.grad = torch.ones_like(x)
    optimizer.step()
    kept = [x.detach().clone(), *(value.clone() for value in optimizer.state[x].values())]
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    for now, before in zip([x, *optimizer.state[x].values()], kept, strict=True):
        assert torch.equal(now, before)


def test_a_training_step_needs_no_compiler():
    program = """
import sys, tempfile, pathlib
from charrnn.config import Config, ModelConfig, TrainingConfig
from charrnn.data.corpus import prepare
from charrnn.training import session
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "text.txt").write_text("hello world, " * 200)
corpus = prepare([str(folder / "text.txt")], root=folder)
model = ModelConfig(num_layers=1, hidden_size=32, embedding_size=4)
training = TrainingConfig(steps=3, batch_size=4, sequence_length=8, device="cpu")
list(session.begin(corpus, Config(model, training), root=folder / "runs").events())
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
