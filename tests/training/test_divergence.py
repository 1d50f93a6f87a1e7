"""A training that diverges goes back to where it was well, learns more slowly, and gives up after three times."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import figures, same_end, small_config, small_corpus

from charrnn.checkpoint import Checkpoint
from charrnn.config import Config
from charrnn.data.corpus import Corpus
from charrnn.errors import DivergedError
from charrnn.training import session
from charrnn.training import trainer as trainer_module
from charrnn.training.events import Report, Snapshot, WentBack


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return small_corpus(tmp_path)


def begin(corpus: Corpus, root: Path, given: Config, told: list[str] | None = None) -> session.Session:
    return session.begin(corpus, given, root=root, name="run", notify=(told if told is not None else []).append)


def harm(running: session.Session, step: int, how, times: int = 1) -> None:
    """Do something to the trainer once a step is done, the first so many times it gets there."""
    trainer, advance, left = running.trainer, running.trainer._advance, [times]

    def advance_and_harm() -> None:
        advance()
        if trainer.step == step and left[0]:
            left[0] -= 1
            how(trainer)

    trainer._advance = advance_and_harm


def no_number(trainer) -> None:
    with torch.no_grad():
        trainer.parameters[0].fill_(math.nan)


def astray(trainer) -> None:
    """Weights from which the loss is finite, and far above a guess."""
    with torch.no_grad():
        trainer.model.head.weight.mul_(1e4)


@pytest.mark.parametrize("how", [no_number, astray])
@pytest.mark.parametrize("step", [3, 17, 25])
def test_after_a_divergence_it_goes_on_from_the_last_save_at_half_the_rate(corpus, tmp_path, how, step):
    told: list[str] = []
    running = begin(corpus, tmp_path / "runs", small_config(80, save_every="8", validate_every="20"), told)
    harm(running, step, how)
    events = list(running.events())
    (back,) = (event for event in events if isinstance(event, WentBack))
    saved = back.checkpoint.progress["step"]
    assert saved <= step
    assert all(np.isfinite(array).all() for array in back.checkpoint.weights.values())
    (line,) = (line for line in told if "back to step" in line)
    assert (
        f"back to step {saved:,}, with a learning rate of {running.trainer.config.training.learning_rate / 2:g}" in line
    )
    assert events[-1].reason == "done"
    assert running.trainer.divergences == 1
    # The log has each step once, with the rate that was used in the end.
    steps = [line["step"] for line in figures(running.run.folder)]
    assert steps == sorted(set(steps))
    assert max(line["learning_rate"] for line in figures(running.run.folder)) <= max(
        event.learning_rate for event in events if isinstance(event, Report)
    )
    for name in ("best", "last"):
        assert Checkpoint.load(running.run.folder / f"{name}.safetensors").record["divergences"] == 1


def test_the_second_time_in_a_row_it_goes_further_back(corpus, tmp_path):
    running = begin(corpus, tmp_path / "runs", small_config(80, save_every="8", validate_every="1000"))
    harm(running, 21, no_number, times=2)
    steps = [event.checkpoint.progress["step"] for event in running.events() if isinstance(event, WentBack)]
    assert steps == [16, 8]


def test_what_it_learnt_of_a_divergence_is_kept_over_a_resume(corpus, tmp_path):
    given = small_config(80, save_every="8", validate_every="20")
    whole = begin(corpus, tmp_path / "whole", given)
    harm(whole, 25, no_number)
    list(whole.events())
    part = begin(corpus, tmp_path / "part", given)
    harm(part, 25, no_number)
    for event in part.events():
        if isinstance(event, Report) and event.step == 50:
            part.stop()
    resumed = session.resume(Config(), root=tmp_path / "part", name="run")
    assert resumed.trainer.divergences == 1
    list(resumed.events())
    assert figures(resumed.run.folder) == figures(whole.run.folder)
    assert same_end(resumed.run.folder, whole.run.folder)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("batch", [4, 16])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_an_absurd_learning_rate_never_ends_as_success(corpus, tmp_path, cell, batch, clip):
    told: list[str] = []
    given = small_config(60, cell, learning_rate=1e6, clip=clip, batch_size=batch, warmup=0.0)
    running = begin(corpus, tmp_path / "runs", given, told)
    with pytest.raises(DivergedError, match=r"4 times.*lower --learning-rate") as error:
        list(running.events())
    assert "\n" not in str(error.value)
    assert sum("back to step" in line for line in told) == 3
    last = Checkpoint.load(running.run.last, with_state=True)
    assert all(np.isfinite(array).all() for array in last.weights.values())


def test_nothing_is_saved_while_the_loss_leaps_and_a_request_to_stop_waits(corpus, tmp_path):
    given = small_config(80, save_every="1", validate_every="1000", keep=5)
    running = begin(corpus, tmp_path / "runs", given)
    # What happens after step 32 is seen in step 33, so its own save is bad and it has to go back twice.
    harm(running, 32, astray)
    harm(running, 33, lambda trainer: running.stop())
    *events, finished = running.events()
    assert finished.reason == "stopped"
    saved = [event.checkpoint.progress["step"] for event in events if isinstance(event, Snapshot) and not event.best]
    assert saved[31:34] == [31, 32, 32]
    back = [event.checkpoint.progress["step"] for event in events if isinstance(event, WentBack)]
    assert back == [32, 31]
    last = Checkpoint.load(running.run.last, with_state=True)
    assert last.progress["step"] == finished.step == 32
    assert np.abs(last.state["model.head.weight"]).max() < 100


def sure(trainer) -> None:
    """An output bias that gives all other characters a loss of some 12 nats, which takes long to unlearn."""
    with torch.no_grad():
        trainer.model.head.bias[0] += 16


@pytest.mark.parametrize(
    ("every", "step", "saves"), [({"save_every": "1"}, 32, range(33)), ({"validate_every": "16"}, 47, [0, 16, 32])]
)
def test_a_leap_is_seen_before_a_save_however_many_calm_steps_the_report_will_average_over(
    corpus, tmp_path, monkeypatch, every, step, saves
):
    monkeypatch.setattr(trainer_module, "report_every", lambda step: 40)
    given = small_config(130, **{"save_every": "1000", "validate_every": "1000", "keep": 5, **every})
    running = begin(corpus, tmp_path / "runs", given)
    harm(running, step, sure)
    saved: list[int] = []
    for event in running.events():
        if isinstance(event, WentBack):
            break
        if isinstance(event, Snapshot) and not event.best:
            saved.append(event.checkpoint.progress["step"])
    # The loss of the step that was harmed is that of the weights before.
    assert saved == list(saves)
    assert event.checkpoint.progress["step"] == 32
