"""Beam search against greedy choice at one end and exhaustive search at the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from charrnn.checkpoint import Checkpoint
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.beam import BeamSearch, Histories, beam_search, normalised
from charrnn.decoding.filters import log_softmax
from charrnn.decoding.generator import Sampling, generate
from charrnn.decoding.numpy_engine import NumpyEngine
from charrnn.errors import UsageError
from charrnn.model.torch_engine import TorchEngine

Make = Callable[..., Checkpoint]


def scores_of(checkpoint: Checkpoint, prompt: str, texts: list[str]) -> list[float]:
    """Log-probabilities of texts after newline and prompt: whole sequences at once, by torch."""
    vocabulary = checkpoint.vocabulary
    engine = TorchEngine.from_checkpoint(checkpoint)
    longest = max(map(len, texts))
    ids = np.stack([vocabulary.encode("\n" + prompt + text.ljust(longest, "\n")) for text in texts], 1)  # (T, B)
    logits, _ = engine.run(ids[:-1], engine.initial_state(len(texts)))
    each = np.take_along_axis(log_softmax(logits), ids[1:, :, None], 2)[:, :, 0]
    return [float(each[len(prompt) : len(prompt) + len(text), b].sum()) for b, text in enumerate(texts)]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("stop", [(), ("a",), ("bc", "\n")])
def test_one_beam_is_greedy(tiny_checkpoint: Make, cell: str, stop: tuple[str, ...]) -> None:
    for seed in range(5):
        checkpoint = tiny_checkpoint(cell=cell, seed=seed)
        engine = NumpyEngine.from_checkpoint(checkpoint)
        (greedy,) = generate(engine, checkpoint.vocabulary, "abc", Sampling(length=80, greedy=True, stop=stop))
        (best,) = beam_search(engine, checkpoint.vocabulary, "abc", BeamSearch(beam=1, length=80, stop=stop))
        assert best.text == greedy.text
        assert best.nats == pytest.approx(greedy.nats, abs=1e-6)


def test_a_beam_as_wide_as_the_space_is_exhaustive(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(Vocabulary.of("\nabc"), seed=3)
    every = {"".join(text) for text in product("\nabc", repeat=4)}
    found = beam_search(
        NumpyEngine.from_checkpoint(checkpoint), checkpoint.vocabulary, "ab", BeamSearch(beam=256, length=4)
    )
    texts = sorted(every)
    expected = sorted(zip(scores_of(checkpoint, "ab", texts), texts, strict=True), reverse=True)
    assert [sample.text for sample in found] == [text for _, text in expected]
    np.testing.assert_allclose([sample.log_probability for sample in found], [s for s, _ in expected], atol=1e-4)


def test_the_penalty_of_a_length_is_that_of_wu_et_al() -> None:
    """Equation 14: log p over ((5 + |Y|) / (5 + 1))^α."""
    assert normalised(-6.0, 1, 0.6) == -6
    assert normalised(-6.0, 19, 0.5) == pytest.approx(-3)
    assert normalised(-6.0, 19, 0.0) == -6
    assert normalised(-6.0, 10**6, 1e308) == 0


def test_settings_are_the_documented_ones_and_bad_ones_are_refused() -> None:
    assert BeamSearch() == BeamSearch(beam=5, length=500, length_penalty=0.6, no_repeat_ngram=None, stop=())
    BeamSearch(beam=1, length=1, length_penalty=0, no_repeat_ngram=1, stop=["a"])  # type: ignore[arg-type]
    BeamSearch(beam=1 << 16, length=10**9, length_penalty=1e308, no_repeat_ngram=10**9)
    bad: list[dict[str, Any]] = [
        {"beam": 0}, {"beam": (1 << 16) + 1}, {"beam": 2.5}, {"length": 0}, {"no_repeat_ngram": 0}, {"stop": ("",)},
        {"length_penalty": -1e-9}, {"length_penalty": math.inf}, {"length_penalty": math.nan}, {"length_penalty": "a"},
    ]  # fmt: skip
    for settings in bad:
        with pytest.raises(UsageError, match="--" + next(iter(settings)).replace("_", "-")):
            BeamSearch(**settings)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_exhaustive_with_stop_and_length_penalty(tiny_checkpoint: Make, alpha: float) -> None:
    checkpoint = tiny_checkpoint(Vocabulary.of("\nabc"), seed=4)
    every = {"".join(text) for text in product("\nabc", repeat=4)}
    every = {text[: text.index("a") + 1] if "a" in text else text for text in every}
    settings = BeamSearch(beam=300, length=4, stop=("a",), length_penalty=alpha)
    found = beam_search(NumpyEngine.from_checkpoint(checkpoint), checkpoint.vocabulary, "", settings)
    texts = sorted(every)
    raw = scores_of(checkpoint, "", texts)
    scores = {text: normalised(score, len(text), alpha) for text, score in zip(texts, raw, strict=True)}
    assert [sample.text for sample in found] == sorted(every, key=lambda text: -scores[text])
    np.testing.assert_allclose([sample.score for sample in found], sorted(scores.values(), reverse=True), atol=1e-4)


def test_log_probability_is_the_models_own(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(seed=5)
    found = beam_search(NumpyEngine.from_checkpoint(checkpoint), checkpoint.vocabulary, "dab", BeamSearch(4, 60))
    assert len(found) == 4
    assert [sample.score for sample in found] == sorted((sample.score for sample in found), reverse=True)  # type: ignore[type-var]
    scores = scores_of(checkpoint, "dab", [sample.text for sample in found])
    for sample, score in zip(found, scores, strict=True):
        assert sample.characters == len(sample.text) == 60
        assert sample.log_probability == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_twice(tiny_checkpoint: Make, n: int) -> None:
    checkpoint = tiny_checkpoint(seed=6)
    length = 9 if n == 1 else 40
    settings = BeamSearch(beam=3, length=length, no_repeat_ngram=n)
    for sample in beam_search(NumpyEngine.from_checkpoint(checkpoint), checkpoint.vocabulary, "a", settings):
        grams = [sample.text[i : i + n] for i in range(len(sample.text) - n + 1)]
        assert len(set(grams)) == len(grams)


def test_where_nothing_else_is_left_it_repeats(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(Vocabulary.of("\na"))
    settings = BeamSearch(beam=2, length=30, no_repeat_ngram=2)
    (best, *_) = beam_search(NumpyEngine.from_checkpoint(checkpoint), checkpoint.vocabulary, "", settings)
    assert best.characters == 30


def test_bytes_stay_utf8(tiny_checkpoint: Make) -> None:
    vocabulary = Vocabulary.of("\n aé你🎉", "byte")
    for seed in range(5):
        checkpoint = tiny_checkpoint(vocabulary, seed=seed)
        for sample in beam_search(NumpyEngine.from_checkpoint(checkpoint), vocabulary, "é", BeamSearch(5, 20)):
            assert sample.data.decode("utf-8") == sample.text
            assert 20 <= sample.characters <= 23


def test_histories_equal_plain_lists() -> None:
    rng = np.random.default_rng(0)
    histories, lists = Histories(1), [[]]  # type: ignore[var-annotated]
    for step in range(400):
        width = int(rng.integers(1, 7))
        parents = rng.integers(0, len(lists), width) if step % 3 else np.full(width, rng.integers(0, len(lists)))
        ids = rng.integers(0, 100, width)
        histories.extend(parents, ids)
        lists = [[*lists[parent], int(id_)] for parent, id_ in zip(parents, ids, strict=True)]
        if step % 5 == 0 and width > 2:
            histories.select(np.array([2, 0]))
            lists = [lists[2], lists[0]]
        assert histories.ids.tolist() == lists


def test_the_tail_of_a_text_is_as_long_as_the_longest_ending_or_as_the_text() -> None:
    histories = Histories(1)
    for length in range(1, 9):
        histories.extend(np.zeros(1, np.int64), np.array([length]))
        for longest in range(6):
            tail = list(range(1, length + 1))[max(0, length - longest) :]
            assert histories.tail(0, [[9] * longest, [9]] if longest else []) == tail


def test_of_equally_likely_texts_those_with_lower_ids_are_found(tiny_checkpoint: Make) -> None:
    vocabulary = Vocabulary(tuple(range(0x100, 0x1C8)))
    checkpoint = tiny_checkpoint(vocabulary)
    checkpoint.weights["head.weight"][:] = 0
    checkpoint.weights["head.bias"][:] = np.arange(201) % 2  # the odd ones are likelier
    found = beam_search(NumpyEngine.from_checkpoint(checkpoint), vocabulary, "", BeamSearch(beam=150, length=1))
    assert [sample.text for sample in found] == [chr(0x100 + n) for n in [*range(1, 200, 2), *range(0, 100, 2)]]
