"""Which engine runs a model, by device, number of sequences and what is compiled here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from charrnn.checkpoint import Checkpoint
from charrnn.decoding.engine import engine_for
from charrnn.decoding.numpy_engine import ArrayEngine
from charrnn.model.torch_engine import TorchEngine

Make = Callable[..., Checkpoint]


@pytest.mark.parametrize("there", [[], ["mps"]])
def test_auto_takes_an_accelerator_that_is_there_for_64_sequences_or_more(
    tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch, there: list[str]
) -> None:
    made = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    monkeypatch.setattr(TorchEngine, "__init__", lambda self, model, device: made.append(device))
    for batch in (1, 63):
        assert isinstance(engine_for(tiny_checkpoint(), "auto", batch), ArrayEngine)
    assert isinstance(engine_for(tiny_checkpoint(), "auto", 64), TorchEngine if there else ArrayEngine)
    assert isinstance(engine_for(tiny_checkpoint(), "cpu", 64), ArrayEngine)
    assert made == there


def test_where_the_kernel_could_not_be_compiled_numpy_draws(tiny_checkpoint: Make, tmp_path: Path) -> None:
    path = str(tmp_path / "model.safetensors")
    tiny_checkpoint().save(Path(path))
    program = """if True:
        import sys
        sys.modules["charrnn.decoding._native"] = None
        from charrnn.cli import main
        sys.argv[0] = "charrnn"
        main()
    """
    done = subprocess.run([sys.executable, "-c", program, "sample", path, "--length", "20"], capture_output=True)
    assert (done.returncode, len(done.stdout)) == (0, 20), done.stderr
