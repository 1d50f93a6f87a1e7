"""Ensembles: the mean of probabilities, whatever is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.checkpoint import Checkpoint
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.beam import BeamSearch, beam_search
from charrnn.decoding.engine import engine_for
from charrnn.decoding.ensemble import Ensemble, EnsembleEngine, load, mixture, parse_shares
from charrnn.decoding.generator import Sampling, generate
from charrnn.decoding.numpy_engine import NumpyEngine
from charrnn.errors import CheckpointError, TextError, UsageError
from charrnn.evaluation.evaluator import evaluate, scoring_engine, text_to_score

Make = Callable[..., Checkpoint]


@pytest.fixture
def models(tiny_checkpoint: Make) -> tuple[Checkpoint, ...]:
    """Three of one vocabulary, of other cells and sizes."""
    return (
        tiny_checkpoint(seed=1),
        tiny_checkpoint(seed=2, cell="gru", hidden_size=7, num_layers=1),
        tiny_checkpoint(seed=3, cell="rnn", connections="dense"),
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@given(st.lists(st.lists(st.floats(-80, 80, width=32), min_size=4, max_size=4), min_size=1, max_size=5))
def test_the_mixture_is_the_mean_of_the_distributions(rows: list[list[float]]) -> None:
    logits = [np.float32(row) for row in rows]
    expected = np.mean([softmax(row) for row in logits], axis=0)
    assert np.allclose(softmax(mixture(logits)), expected, atol=1e-6)
    assert len(rows) == 1 or np.allclose(np.exp(mixture(logits)), expected, atol=1e-6)  # normalised as it stands


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=4), st.integers(0, 99))
def test_with_shares_the_mixture_is_the_weighted_mean(shares: list[float], seed: int) -> None:
    logits = list(np.random.default_rng(seed).normal(0, 3, (len(shares), 6)).astype(np.float32))
    shares = [share / sum(shares) for share in shares]
    expected = np.average([softmax(row) for row in logits], axis=0, weights=shares)
    assert np.allclose(np.exp(mixture(logits, shares)), expected, atol=1e-6)


def test_an_ensemble_with_shares_scores_and_samples_by_them(models: tuple[Checkpoint, ...]) -> None:
    ids = np.random.default_rng(1).integers(0, 9, 300)
    alone = evaluate(models[1], ids, 300).nats
    assert evaluate(Ensemble(models, (0.0001, 0.9998, 0.0001)), ids, 300).nats == pytest.approx(alone, rel=1e-3)
    engine = engine_for(Ensemble(models[:2], (0.25, 0.75)))
    logits, _ = engine.step(np.array([3]), engine.initial_state(1))
    singly = [softmax(one.step(np.array([3]), one.initial_state(1))[0]) for one in map(engine_for, models[:2])]
    assert np.allclose(np.exp(logits), 0.25 * singly[0] + 0.75 * singly[1], atol=1e-6)


@pytest.mark.parametrize("shares", ["1", "1,2,3", "1,-1", "1,0", "1,nan", "1,inf", "a,b", "", "1,,2"])
def test_shares_that_are_not_a_positive_number_for_each_are_refused(shares: str) -> None:
    with pytest.raises(UsageError, match="--shares"):
        parse_shares(shares, 2)
    with pytest.raises(UsageError, match="several"):
        parse_shares("1", 1)


@given(st.lists(st.floats(1e-300, 1e300), min_size=2, max_size=5))
def test_shares_are_in_proportion_add_up_to_one_and_none_is_nothing(parts: list[float]) -> None:
    shares = parse_shares(",".join(map(repr, parts)), len(parts))
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0.9e-4
    if min(parts) > 0.01 * max(parts):
        assert [share / shares[0] for share in shares] == pytest.approx([part / parts[0] for part in parts])


def test_what_is_too_improbable_for_a_float_has_a_finite_surprisal() -> None:
    a, b = np.float32([[0, -900]]), np.float32([[0, -1500]])
    np.testing.assert_allclose(mixture([a, b]), [[0, -900 - np.log(2)]], rtol=1e-6)


@pytest.mark.filterwarnings("error")
def test_a_character_that_every_member_holds_for_impossible_stays_so() -> None:
    one = np.float32([0, -np.inf])
    assert mixture([one, one]).tolist() == [0, -np.inf]
    assert mixture([one - 2000, one + 2000]).tolist() == [0, -np.inf], "what is added to all logits says nothing"
    assert mixture([one]) is one


SHORT, LONG = partial(scoring_engine, characters=9), partial(scoring_engine, characters=10**6)


@pytest.mark.parametrize("make", [engine_for, SHORT, LONG])
def test_a_text_costs_what_the_members_mean_probability_says(models: tuple[Checkpoint, ...], make) -> None:
    ids = np.random.default_rng(0).integers(0, 9, (30, 2))
    engine = make(Ensemble(models))
    assert isinstance(engine, EnsembleEngine)
    logits, state = engine.run(ids, engine.initial_state(2))
    singly = [NumpyEngine.from_checkpoint(model) for model in models]
    expected = np.mean([softmax(one.run(ids, one.initial_state(2))[0]) for one in singly], axis=0)
    tolerance = 0.02 if make is engine_for else 1e-5  # the sampling engine rounds weights to 8 bits
    assert np.abs(np.exp(logits) - expected).max() < tolerance
    stepped = engine.initial_state(2)
    for t in range(30):
        step, stepped = engine.step(ids[t], stepped)
    assert np.allclose(step, logits[-1], atol=1e-3)
    chosen = engine.select(state, np.array([1, 1, 0]))
    after, _ = engine.step(np.array([3, 3, 3]), chosen)
    assert np.array_equal(after[0], after[1])
    assert not np.array_equal(after[0], after[2])


def test_an_ensemble_costs_no_more_than_its_members_on_average_and_one_of_twins_what_they_cost(
    models: tuple[Checkpoint, ...],
) -> None:
    ids = np.random.default_rng(1).integers(0, 9, 500)
    costs = [evaluate(model, ids, 500).nats for model in models]
    assert evaluate(Ensemble(models), ids, 500).nats < np.mean(costs)
    twins = Ensemble((models[0], models[0], models[0]))
    assert evaluate(twins, ids, 500).nats == pytest.approx(costs[0], rel=1e-6)
    long = np.random.default_rng(2).integers(0, 9, 5000)  # in lanes
    exact = evaluate(Ensemble(models), long, 5000, exact=True).nats
    assert evaluate(Ensemble(models), long, 5000).nats == pytest.approx(exact, rel=1e-4)
    alone = evaluate(twins, ids, 500, window=7).nats
    assert alone == pytest.approx(evaluate(models[0], ids, 500, window=7).nats, rel=1e-6)


def test_samples_and_searches_of_twins_are_those_of_one(models: tuple[Checkpoint, ...]) -> None:
    one, twins = models[2], Ensemble((models[2], models[2]))  # its engine in float32: not rounded by blocks
    settings = Sampling(length=40, seed=5, top_k=4)
    texts = [generate(engine_for(model), model.vocabulary, "ab", settings)[0].text for model in (one, twins)]
    assert texts[0] == texts[1]
    search = BeamSearch(beam=3, length=12)
    found = [beam_search(engine_for(model), model.vocabulary, "ab", search)[0].text for model in (one, twins)]
    assert found[0] == found[1]


def test_members_of_other_characters_or_units_are_refused(
    models: tuple[Checkpoint, ...], tiny_checkpoint: Make
) -> None:
    for vocabulary in (Vocabulary.of("\n abcdefgx"), Vocabulary(tuple(range(256)), "byte")):
        with pytest.raises(CheckpointError, match="other characters"):
            Ensemble((models[0], tiny_checkpoint(vocabulary)))


def test_members_trained_on_different_texts_need_a_text_to_be_named(tiny_checkpoint: Make) -> None:
    from dataclasses import replace

    one, other = (replace(tiny_checkpoint(), corpus={"fingerprint": name, "utf8": True}) for name in ("a", "b"))
    with pytest.raises(TextError, match="--text"):
        text_to_score(Ensemble((one, other)), None)
    assert Ensemble((one, one)).corpus["fingerprint"] == "a"
    for models in ((one, other), (one, one, other), (one, other, one)):
        assert Ensemble(models).corpus == {"utf8": True}
    for corpus in ({"fingerprint": "c", "utf8": False}, {"utf8": False}):
        assert Ensemble((one, replace(one, corpus=corpus))).corpus == {"utf8": False}  # what one may write, all may
    assert Ensemble((one, replace(one, corpus={}))).corpus == {"utf8": True}


def test_one_name_gives_its_checkpoint_and_several_their_ensemble(
    models: tuple[Checkpoint, ...], tmp_path: Path
) -> None:
    for name, model in zip("ab", models[:2], strict=True):
        (tmp_path / name).mkdir()
        model.save(tmp_path / name / "best.safetensors")
    assert isinstance(load(["a"], tmp_path), Checkpoint)
    assert isinstance(load(None, tmp_path), Checkpoint)
    both = load(["a", "b"], tmp_path)
    assert isinstance(both, Ensemble)
    unequal = load(["a", "b"], tmp_path, "4,1")
    assert isinstance(unequal, Ensemble)
    assert (both.shares, unequal.shares) == (None, (0.8, 0.2))
    assert both.path == f"{tmp_path / 'a/best.safetensors'} + {tmp_path / 'b/best.safetensors'}"
