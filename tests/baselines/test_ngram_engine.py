"""An n-gram model behind a network's interface: the distributions that the counts give, and the same commands."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from commands import call
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from charrnn.architectures import TEXT
from charrnn.baselines import ngram
from charrnn.baselines.ngram import NGramEngine
from charrnn.checkpoint import Checkpoint
from charrnn.data.vocabulary import Vocabulary
from charrnn.errors import CheckpointError
from charrnn.evaluation.ngram import NGram
from charrnn.evaluation.surprisal import cross_entropy, surprisals

texts = st.lists(st.integers(0, 3), min_size=1, max_size=40)
VOCABULARY = Vocabulary.of("\nab")  # and unknown


def run(*command: str, code: int = 0) -> str:
    """A command's standard output, or its last word where it is to fail."""
    done = call(*command)
    assert done.code == code, (command, done)
    return done.stdout if code == 0 else done.stderr


@given(text=texts, others=st.tuples(texts, texts), order=st.integers(1, 6), cut=st.integers(0, 40))
def test_steps_and_windows_give_the_distributions_of_the_counts(
    text: list[int], others: tuple[list[int], list[int]], order: int, cut: int
) -> None:
    model = NGram.of(np.array(text), VOCABULARY, order)
    engine = NGramEngine(model)
    length = min(map(len, others))
    ids = np.array([other[:length] for other in others]).T  # (T, 2)
    state = engine.initial_state(2)
    assert state[0].shape == (len(model.levels) - 1, 2, 1)
    _, state = engine.run(np.full((1, 2), VOCABULARY.index("\n")), state)
    parts = []
    for window in np.split(ids, [min(cut, length)]):
        logits, state = engine.run(window, state)
        parts.append(logits)
        assert state[0].shape == (len(model.levels) - 1, 2, 1)
    found = np.exp(np.concatenate(parts))
    for b in range(2):
        for t in range(length):
            np.testing.assert_allclose(found[t, b], model.distribution(ids[: t + 1, b]), rtol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)


@given(text=texts, other=texts, order=st.integers(1, 5))
def test_scoring_by_the_counts_is_scoring_by_steps(text: list[int], other: list[int], order: int) -> None:
    engine = NGramEngine(NGram.of(np.array(text), VOCABULARY, order))
    ids, first = np.array(other), VOCABULARY.index("\n")
    ((_, quick),) = surprisals(engine, ids, first)
    logits, _ = engine.run(np.append(first, ids[:-1])[:, None], engine.initial_state(1))
    np.testing.assert_allclose(quick, cross_entropy(logits[:, 0], ids), rtol=1e-5, atol=1e-6)


def test_no_more_distributions_are_worked_out_at_once_than_fit_and_that_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []

    class Watched(NGramEngine):
        def _distributions(self, contexts: NDArray[np.int64]) -> NDArray[np.float64]:
            found = super()._distributions(contexts)
            sizes.append(found.size)
            return found

    random = np.random.default_rng(0)
    engine = Watched(NGram.of(random.integers(0, 4, 200), VOCABULARY, 3))
    ids = random.integers(0, 4, (7, 3))
    expected, _ = engine.run(ids, engine.initial_state(3))
    assert sizes == [7 * 3 * 4]
    del sizes[:]
    monkeypatch.setattr(ngram, "_AT_ONCE", 23)  # numbers, of which each distribution has 4
    found, _ = engine.run(ids, engine.initial_state(3))
    np.testing.assert_array_equal(found, expected)
    assert sizes == [20, 20, 20, 20, 4]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("".join(f"{n} men went to mow, {n % 7} men and a dog.\n" for n in range(150)))
    return tmp_path


def test_it_is_trained_sampled_scored_and_described_by_the_same_commands(folder: Path) -> None:
    trained = json.loads(run("train", "text.txt", "--model", "ngram", "--order", "4", "--json", "-q"))
    scored = json.loads(run("eval", "--json", "-q"))
    assert scored["nats_per_char"] == pytest.approx(trained["validation"]["nats_per_char"])
    checkpoint = Checkpoint.load(folder / "checkpoints/text/best.safetensors")
    model = NGram.of(checkpoint.weights[TEXT], checkpoint.vocabulary, 4)
    assert trained["parameters"] == sum(len(level.keys) for level in model.levels)
    described = json.loads(run("info", "--json"))
    assert described["parameters"] == trained["parameters"]
    assert described["config"] == {"model": {"model": "ngram", "order": 4}, "training": {}}
    sample = run("sample", "--length", "40", "--seed", "3")
    assert sample == run("sample", "--length", "40", "--seed", "3")
    assert set(sample) <= set((folder / "text.txt").read_text())
    greedy, beam = (json.loads(run("sample", *way, "--length", "12", "--json"))["samples"][0]["nats"]
                    for way in (["--greedy"], ["--beam", "5"]))  # fmt: skip
    assert beam <= greedy + 1e-6


def test_counting_says_how_many_n_grams_there_are_and_nothing_of_steps(folder: Path) -> None:
    done = call("train", "text.txt", "--model", "ngram", "--order", "3")
    said = done.stdout + done.stderr
    checkpoint = Checkpoint.load(folder / "checkpoints/text/best.safetensors")
    assert f"{checkpoint.parameters:,} n-grams in" in said
    assert "n-gram order 3, counting" in said
    assert "steps" not in said
    assert "0 parameters" not in said


def test_an_ensemble_with_a_network_is_the_mean_of_their_probabilities(folder: Path) -> None:
    run("train", "text.txt", "--model", "ngram", "--run", "counts", "-q")
    run("train", "text.txt", "--hidden-size", "8", "--steps", "5", "--device", "cpu", "--run", "network", "-q")
    each = [float(run("eval", name, "--nats-per-char", "-q")) for name in ("counts", "network")]
    both = float(run("eval", "counts", "network", "--nats-per-char", "-q"))
    assert min(each) < both < min(each) + np.log(2)


def test_what_cannot_be_done_with_counts_is_one_line(folder: Path) -> None:
    run("train", "text.txt", "--model", "ngram", "-q")
    for code, *command in [
        (2, "train", "text.txt", "--model", "ngram", "--learning-rate", "0.1"),
        (2, "train", "--resume"),
        (2, "eval", "--dynamic", "--dynamic-rate", "0.1"),
        (2, "sample", "--adapt", "text.txt", "--adapt-rate", "0.1"),
        (2, "train", "text.txt", "--init-from", "text", "--run", "b"),
        (2, "inspect", "gates"),
        (2, "inspect", "cells"),
        (2, "inspect", "cell", "0.1"),
        (2, "inspect", "gradients"),
        (2, "inspect", "embeddings"),
    ]:
        last = run(*command, code=code).splitlines()[-1]
        assert last.startswith("charrnn: ")
        assert "gram" in last


def test_views_that_need_only_probabilities_work_with_counts(folder: Path) -> None:
    run("train", "text.txt", "--model", "ngram", "-q")
    scored = json.loads(run("eval", "--text", "text.txt", "--json", "-q"))
    seen = json.loads(run("inspect", "text", "--text", "text.txt", "--length", "100000", "--json"))
    assert seen["bits_per_char"] == pytest.approx(scored["bits_per_char"], rel=1e-5)
    assert json.loads(run("inspect", "beam", "men ", "--json"))["beam"]["text"]
    assert json.loads(run("inspect", "novelty", "--length", "200", "--json"))


def test_a_text_that_is_none_is_refused(folder: Path) -> None:
    run("train", "text.txt", "--model", "ngram", "-q")
    checkpoint = Checkpoint.load(folder / "checkpoints/text/best.safetensors")
    good = checkpoint.weights[TEXT]
    for bad in (good.astype(np.float32), good[:0], good.reshape(-1, 1), np.where(good == 0, 200, good)):
        path = folder / "bad.safetensors"
        dataclasses.replace(checkpoint, weights={TEXT: bad}).save(path)
        with pytest.raises(CheckpointError):
            Checkpoint.load(path)
    dataclasses.replace(checkpoint, record={}).save(path)
    with pytest.raises(CheckpointError, match="n-grams"):
        Checkpoint.load(path)
