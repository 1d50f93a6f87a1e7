"""A training's state: all of it comes back, and what is not one is refused by the name of what is wrong."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from runs import small_config, small_corpus

from charrnn.checkpoint import Arrays, Checkpoint
from charrnn.data.corpus import Corpus
from charrnn.errors import CheckpointError
from charrnn.model.compute import choose_compute
from charrnn.presets import settle
from charrnn.training.state import capture, restore
from charrnn.training.trainer import Trainer


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return small_corpus(tmp_path_factory.mktemp("state"))


def trainer(corpus: Corpus, steps: int = 0) -> Trainer:
    settled = settle(small_config(seed=0), characters=corpus.splits["train"].characters, machine="cpu-fp32").config
    made = Trainer(settled, corpus, choose_compute("cpu", "fp32"))
    for _ in range(steps):
        made._advance()
    return made


@pytest.fixture
def last(corpus, tmp_path) -> Checkpoint:
    """The state after three steps as read from a file; no number in it is another's, or what it is at first."""
    made = trainer(corpus, 3)
    made.best_nats, made.best_step, made.without_best, made.divergences, made.leaps = 1.25, 2, 5, 1, 7
    made.seconds, made.validation_seconds, made.last_validation, made.calm_nats = 2.5, 0.75, (2, 1.5), 3.5
    made.best_weights = {name: array + 1 for name, array in made.model.weights().items()}
    arrays, progress = capture(made)
    path = tmp_path / "last.safetensors"
    Checkpoint(made.config, corpus.vocabulary, made.averaged.weights(), state=arrays, progress=progress).save(path)
    return Checkpoint.load(path, with_state=True)


def same(mine: Arrays, theirs: Arrays) -> bool:
    # A file has no arrays without dimensions.
    return mine.keys() == theirs.keys() and all(np.array_equal(np.atleast_1d(mine[k]), theirs[k]) for k in mine)


def test_all_that_is_captured_is_restored(corpus, last):
    again = trainer(corpus)
    restore(again, last)
    arrays, progress = capture(again)
    assert same(arrays, last.state)
    assert progress == last.progress
    assert same(again.averaged.weights(), last.weights)
    assert again.origin is None
    assert same(again.best_weights, {name: array + 1 for name, array in again.model.weights().items()})
    again._advance()  # and may be written to without changing what was read
    assert not same(capture(again)[0], last.state)
    other = trainer(corpus)
    restore(other, last)
    assert same(capture(other)[0], last.state)


def test_what_is_not_there_yet_and_what_older_runs_lack_is_as_at_first(corpus, last):
    progress: dict[str, Any] = {**last.progress, "best_nats": None, "best_step": None, "scaler": {"scale": 65536.0}}
    for name in ("divergences", "calm_nats", "leaps"):
        del progress[name]
    state = {name: array for name, array in last.state.items() if not name.startswith("best.")}
    again = trainer(corpus)
    restore(again, dataclasses.replace(last, state=state, progress=progress))
    assert (again.best_nats, again.best_step, again.best_weights) == (math.inf, None, None)
    assert (again.divergences, again.calm_nats, again.leaps) == (0, None, 0)
    assert capture(again)[1]["best_nats"] is None


@pytest.mark.parametrize("origin", [None, "a file", {"path": 7}, {}, {"path": "x", "sha256": "y"}])
def test_where_the_weights_came_from_is_a_path_or_unknown(corpus, last, origin):
    again = trainer(corpus)
    restore(again, dataclasses.replace(last, record={"init_from": origin}))
    assert again.origin == (origin if origin == {"path": "x", "sha256": "y"} else None)


def test_a_generator_of_another_device_is_a_new_one_that_repeats(corpus, last):
    generator = {"generator": np.zeros(16, np.uint8)}
    draws = []
    for step in (3, 3, 4):
        again = trainer(corpus)
        progress = {**last.progress, "step": step}
        restore(again, dataclasses.replace(last, state={**last.state, **generator}, progress=progress))
        draws.append(again.generator.initial_seed())
    assert draws == [3, 3, 4]  # the seed, 0, and the step


def test_the_scale_of_a_loss_in_half_precision_comes_back(corpus, last, monkeypatch):
    given = []
    for scales in (True, False):
        again = trainer(corpus)
        monkeypatch.setattr(again, "compute", SimpleNamespace(scales_loss=scales, device=again.compute.device))
        monkeypatch.setattr(again, "scaler", SimpleNamespace(load_state_dict=given.append))
        for scale in ({}, {"scale": 8.0}):
            restore(again, dataclasses.replace(last, progress={**last.progress, "scaler": scale}))
    assert given == [{"scale": 8.0}]


NUMBERS = (
    *("step", "characters", "seconds", "best_nats", "best_step", "without_best", "validation_seconds"),
    *("report_characters", "divergences", "calm_nats", "leaps"),
)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_no_training_reaches_is_refused_by_its_name(corpus, last, name):
    again = trainer(corpus)
    for value in (0, 10**15):
        restore(again, dataclasses.replace(last, progress={**last.progress, name: value}))
        assert capture(again)[1][name] == value
    harmed = [{**last.progress, name: value} for value in (-1, 10**15 + 1, math.nan, True, "1", [1])]
    if name not in ("divergences", "calm_nats", "leaps"):
        harmed.append({other: value for other, value in last.progress.items() if other != name})
    for progress in harmed:
        with pytest.raises(CheckpointError, match=f"cannot be resumed .its training state lacks or garbles .*{name}"):
            restore(again, dataclasses.replace(last, progress=progress))


def test_arrays_that_are_not_the_models_are_refused_by_their_name(corpus, last):
    again = trainer(corpus)
    for name, array in last.state.items():
        if name == "generator":
            continue
        harmed = [{**last.state, name: array[None]}, {**last.state, name: np.concatenate([array, array])}]
        if array.shape != (1,):
            harmed.append({**last.state, name: array[:1]})
        harmed.append({other: value for other, value in last.state.items() if other != name})
        for state in harmed:
            with pytest.raises(CheckpointError, match=name.partition(".")[0] if name[:5] == "best." else name):
                restore(again, dataclasses.replace(last, state=state))
    for part in ({"best.x": np.zeros(1, np.float32)}, {"generator": np.zeros((2, 2), np.uint8)}):
        state = {**last.state, **part}
        if "generator" in part:
            restore(again, dataclasses.replace(last, state=state))
        else:
            with pytest.raises(CheckpointError, match="best"):
                restore(again, dataclasses.replace(last, state=state))
    for harm in ({"last_validation": [1]}, {"last_validation": [1, 2, 3]}, {"last_validation": [1, 10**400]}):
        with pytest.raises(CheckpointError, match="cannot be resumed"):
            restore(again, dataclasses.replace(last, progress={**last.progress, **harm}))
