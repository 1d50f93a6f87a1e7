"""Pairing: what two models have in common does not widen the interval of their difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from charrnn.checkpoint import Checkpoint
from charrnn.errors import TextError
from charrnn.evaluation.comparison import compare, score
from charrnn.evaluation.evaluator import evaluate

Make = Callable[..., Checkpoint]


@pytest.fixture
def ids(tiny_checkpoint: Make) -> np.ndarray:
    random = np.random.default_rng(0)
    text = "".join(random.choice(list("aab cdh\nx"), 3001))  # x is outside the vocabulary
    return tiny_checkpoint().vocabulary.encode(text)


def test_figures_are_those_of_eval_and_blocks_add_up(tiny_checkpoint: Make, ids: np.ndarray) -> None:
    checkpoint = tiny_checkpoint(cell="gru")
    scored = score(checkpoint, ids, len(ids))
    assert scored.figures == evaluate(checkpoint, ids, len(ids))
    assert scored.sums.sum() == pytest.approx(scored.figures.nats)


def test_differences_are_to_the_best_and_pairing_makes_them_sure(tiny_checkpoint: Make, ids: np.ndarray) -> None:
    """The second model is the first with weights moved a little: bad at the same places."""
    first = tiny_checkpoint()
    moved = {name: array * np.float32(1.02) for name, array in first.weights.items()}
    second = Checkpoint(first.config, first.vocabulary, moved)
    best, worse = compare([score(model, ids, len(ids)) for model in (first, second)])
    assert best.difference == 0
    assert best.interval is None
    a, b = best.scored.figures, worse.scored.figures
    assert worse.difference == pytest.approx(b.bits_per_char - a.bits_per_char)
    assert worse.interval is not None
    assert b.bits_interval is not None
    assert worse.interval[0] < worse.difference < worse.interval[1]
    assert sum(worse.interval) / 2 == pytest.approx(worse.difference)
    assert compare([best.scored, worse.scored]) == [best, worse] == compare([worse.scored, best.scored])
    assert worse.interval[1] - worse.interval[0] < 0.5 * (b.bits_interval[1] - b.bits_interval[0])


def test_a_model_beside_itself_differs_by_nothing(tiny_checkpoint: Make, ids: np.ndarray) -> None:
    _, again = compare([score(tiny_checkpoint(), ids, len(ids)) for _ in range(2)])
    assert again.difference == 0
    assert again.interval == (0, 0)


def test_a_model_that_was_never_saved_or_timed_has_no_such_figures(tiny_checkpoint: Make, ids: np.ndarray) -> None:
    scored = replace(score(tiny_checkpoint(), ids, len(ids)), seconds=2.0)
    (one,) = compare([scored])
    document = one.to_json()
    assert [document[key] for key in ("bytes", "training_seconds", "difference_interval")] == [None, None, None]
    assert document["characters_per_second"] == len(ids) / 2
    assert document["bits_per_char_interval"] == list(one.scored.figures.bits_interval or ())
    assert (document["difference"], document["unseen"]) == (0, int((ids == 10).sum()))
    instant = replace(
        one, scored=replace(scored, seconds=0.0, checkpoint=replace(scored.checkpoint, record={"seconds": 3}))
    )
    assert instant.to_json()["characters_per_second"] > 1e9
    assert instant.to_json()["training_seconds"] == 3


def test_a_text_too_short_for_an_interval_has_a_difference(tiny_checkpoint: Make, ids: np.ndarray) -> None:
    models = [score(tiny_checkpoint(seed=seed), ids[:10], 10) for seed in (1, 2)]
    best, other = compare(models)
    assert other.interval is None
    assert other.difference == pytest.approx(other.scored.figures.bits_per_char - best.scored.figures.bits_per_char)
    assert other.difference > 0


def test_an_empty_text_is_refused(tiny_checkpoint: Make) -> None:
    with pytest.raises(TextError):
        score(tiny_checkpoint(), np.zeros(0, np.int64), 0)
