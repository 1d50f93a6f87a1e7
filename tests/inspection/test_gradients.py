"""Gradients by autograd against finite differences, the fused layers and a closed form."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from charrnn.cells import CELLS
from charrnn.checkpoint import Checkpoint
from charrnn.config import Config, TrainingConfig
from charrnn.inspection.activations import run
from charrnn.inspection.gradients import distances, gradient_norms, gradients, while_trained
from charrnn.inspection.report import Chart, Note, Series, Table
from charrnn.inspection.subject import Subject
from charrnn.model.network import CharRNN

Model = Callable[..., Checkpoint]


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_against_finite_differences(model: Model, text: str, cell: str) -> None:
    """The gradient at the state before the last characters, from a run that begins with that state moved a little."""
    checkpoint = model(cell)
    config = checkpoint.config.model
    weights = {name: array.astype(np.float64) for name, array in checkpoint.weights.items()}
    ids = checkpoint.vocabulary.encode(text[:7])[:, None]
    norms = gradient_norms(checkpoint, ids)
    k = 4  # h_{t-k} is the state once ids[6 - k] was read
    before = run(np, config, weights, ids[: 7 - k], keep=frozenset("o" if cell == "lstm" else ""))

    def loss(states: list[tuple[np.ndarray, ...]]) -> float:
        logits = run(np, config, weights, ids[7 - k : -1], states).logits[-1, 0]
        return float(np.log(np.exp(logits).sum()) - logits[ids[-1, 0]])

    # Of the top layer, for moving its state moves nothing else of that time.
    slopes = []
    for part in range(len(CELLS[cell].state)):
        slope = np.zeros(config.hidden_size)
        for unit in range(config.hidden_size):
            for step in (1e-5, -1e-5):
                moved = [tuple(array.copy() for array in layer) for layer in before.states]
                moved[-1][part][0, unit] += step
                slope[unit] += loss(moved) / (2 * step)
        slopes.append(slope)
    assert norms["h layer 1"][k - 1] == pytest.approx(np.linalg.norm(slopes[0]), rel=1e-5)
    if cell == "lstm":  # c moves h = o tanh(c) of its own time too
        through_h = slopes[0] * before.parts[-1]["o"][-1][0] * (1 - np.tanh(before.states[-1][1][0]) ** 2)
        assert norms["c layer 1"][k - 1] == pytest.approx(np.linalg.norm(slopes[1] + through_h), rel=1e-5)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_input_gradients_are_those_of_the_fused_layers(model: Model, text: str, cell: str) -> None:
    checkpoint = model(cell)
    network = CharRNN(checkpoint.config.model, len(checkpoint.vocabulary)).double()
    network.load_weights(checkpoint.weights)
    caught: list[torch.Tensor] = []
    network.embedding.register_forward_hook(lambda module, inputs, output: caught.append(output))
    ids = torch.from_numpy(checkpoint.vocabulary.encode(text[:30]))
    logits, _ = network(ids[:-1, None], network.initial_state(1))
    loss = torch.nn.functional.cross_entropy(logits[-1], ids[-1:])
    (gradient,) = torch.autograd.grad(loss, caught)
    norms = gradient_norms(checkpoint, ids.numpy()[:, None])
    np.testing.assert_allclose(norms["input"], gradient[:, 0].norm(dim=-1).flip(0).numpy(), rtol=1e-6)


def test_a_contracting_network_forgets_at_the_rate_of_its_weights(model: Model, text: str) -> None:
    checkpoint = model("rnn", num_layers=1)
    weights = checkpoint.weights
    weights["layers.0.weight_hh_l0"][:] = 0.5 * np.eye(12, dtype=np.float32)
    for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
        weights[f"layers.0.{name}"][:] = 0  # so that h stays 0, where tanh' is 1
    norms = gradient_norms(checkpoint, checkpoint.vocabulary.encode(text[:20])[:, None])["h layer 0"]
    np.testing.assert_allclose(norms[1:] / norms[:-1], 0.5)


def test_distances() -> None:
    assert distances(200) == [1, 2, 4, 8, 16, 32, 64, 128, 200]
    assert distances(8) == [1, 2, 4, 8]
    assert distances(1) == [1]


def test_models_side_by_side_show_what_each_shows_alone(model: Model, text: str) -> None:
    subjects = [Subject.of(dataclasses.replace(model(cell), path=Path(cell) / "best.safetensors"), text[:120])
                for cell in ("rnn", "lstm")]  # fmt: skip
    both = gradients(*subjects, reach=20, places=3)
    for subject, found in zip(subjects, both.document["models"], strict=True):
        alone = gradients(subject, reach=20, places=3).document
        assert alone["norms"] == found["norms"]
        assert alone["cell"] == found["cell"] == subject.checkpoint.config.model.cell
    norms = {model["cell"]: model["norms"] for model in both.document["models"]}
    shown = [
        {"rnn": norms["rnn"]["input"], "lstm": norms["lstm"]["input"]},
        {"rnn, h": norms["rnn"]["h layer 1"], "lstm, h": norms["lstm"]["h layer 1"],
         "lstm, c": norms["lstm"]["c layer 1"]},
    ]  # fmt: skip
    charts = [block for block in both.blocks if isinstance(block, Chart)]  # nothing was trained here
    assert [{series.name: series.y for series in chart.series} for chart in charts] == shown
    tables = [block for block in both.blocks if isinstance(block, Table)]
    for table, lines in zip(tables, shown, strict=True):
        names, (ks, *columns) = table.columns, zip(*table.rows, strict=True)
        assert list(ks) == both.document["distances"]
        assert dict(zip(names[1:], map(list, columns), strict=True)) == lines
    titles = [block.title for block in (*charts, *tables)]
    assert titles == [f"{what} at {where}" for what in ("Gradient", "Norms")
                      for where in ("the input", "the state of the last layer")]  # fmt: skip


def test_what_a_short_text_has_no_room_for_is_said(model: Model, text: str) -> None:
    def notes(length: int, reach: int, places: int) -> str:
        report = gradients(Subject.of(model("rnn"), text[:length]), reach=reach, places=places)
        assert report.document["distances"][-1] == min(reach, length - 1)
        return " ".join(block.text for block in report.blocks if isinstance(block, Note))

    said = notes(50, reach=2000, places=2)
    assert "The text reaches back 49 characters, and not 2,000." in said
    assert "mean over 1 place (the text has no room for 2);" in said
    said = notes(50, reach=49, places=1)
    assert "reaches back" not in said
    assert "mean over 1 place;" in said
    said = notes(300, reach=20, places=3)
    assert "mean over 3 places;" in said
    assert "room" not in said


def test_norms_while_training_are_those_of_the_run_with_its_clipping(model: Model, text: str, tmp_path: Path) -> None:
    lines = [{"step": 10 * n, "train_nats_per_char": 2.0, "gradient_norm": norm}
             for n, norm in enumerate((0.5, 0.0, "x", 0.25), start=1)]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for clip, said in ((0.0, "not clipped"), (2.0, "clipped at 2")):
        config = Config(model().config.model, TrainingConfig(clip=clip))
        checkpoint = dataclasses.replace(model(), config=config, path=tmp_path / "best.safetensors")
        found = while_trained("run", Subject.of(checkpoint, text[:50]))
        assert found == Series(f"run, {said}", [10.0, 40.0], [0.5, 0.25])
    assert while_trained("run", Subject.of(dataclasses.replace(checkpoint, path=tmp_path / "b" / "x"), text)) is None


def test_what_is_said_of_a_gradient_that_fades_and_of_one_that_does_not(model: Model, text: str) -> None:
    subject = Subject.of(model("rnn"), text)
    notes = [block.text for block in gradients(subject, reach=2).blocks if isinstance(block, Note)]
    assert notes[1].endswith("the gradient at the input is more than 1 % of that at k = 1 for 2 characters.")
    subject.checkpoint.weights["layers.0.weight_hh_l0"][:] = 0  # nothing is remembered
    subject.checkpoint.weights["layers.1.weight_hh_l0"][:] = 0
    notes = [block.text for block in gradients(subject, reach=2).blocks if isinstance(block, Note)]
    assert notes[1].endswith("the gradient at the input falls below 1 % of that at k = 1 after 2 characters.")
