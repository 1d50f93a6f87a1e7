"""The surprise of each character, against all distributions laid out at once; and its memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from charrnn.checkpoint import Checkpoint
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.numpy_engine import NumpyEngine
from charrnn.evaluation.metrics import unknown_cost
from charrnn.inspection.text import WINDOW, lowest, surprise

LETTERS = "\n abcdefgh"


@pytest.mark.parametrize("prompt", ["", "a bad bed"])
def test_windows_give_what_one_table_of_all_probabilities_gives(
    tiny_checkpoint: Callable[..., Checkpoint], prompt: str
) -> None:
    checkpoint = tiny_checkpoint(Vocabulary.of(LETTERS))
    vocabulary = checkpoint.vocabulary
    text = "".join(np.random.default_rng(0).choice([*LETTERS, "ж"], 3 * WINDOW + 5))
    ids = vocabulary.encode(text)
    engine = NumpyEngine.from_checkpoint(checkpoint)
    found = surprise(engine, vocabulary, ids, top=4, prompt=prompt)

    logits, state = [], engine.initial_state(1)
    for one in vocabulary.encode("\n" + prompt + text)[:-1]:
        row, state = engine.step(np.array([one]), state)
        logits.append(row[0].astype(np.float64))
    probabilities = np.exp(logits[-len(text) :])
    probabilities /= probabilities.sum(1, keepdims=True)
    assert len(found.likeliest) == len(text)
    for t, row in enumerate(probabilities):
        cost = unknown_cost(vocabulary) / np.log(2) * (ids[t] == vocabulary.unknown)
        assert found.bits[t] == pytest.approx(-np.log2(row[ids[t]]) + cost, abs=1e-4)
        assert found.ranks[t] == 1 + (row > row[ids[t]]).sum()
        known = np.argsort(-row[: len(LETTERS)])[:4]
        assert [c for c, _ in found.likeliest[t]] == [vocabulary.character(int(k)) for k in known]
        assert [p for _, p in found.likeliest[t]] == pytest.approx(row[known], abs=1e-5)


def test_memory_grows_with_the_text_and_not_with_its_distributions(tiny_checkpoint: Callable[..., Checkpoint]) -> None:
    vocabulary = Vocabulary.of("\n" + "".join(map(chr, range(0x4E00, 0x4E00 + 3000))))
    engine = NumpyEngine.from_checkpoint(tiny_checkpoint(vocabulary))
    ids = np.arange(12 * WINDOW) % len(vocabulary)
    peaks = []
    for length in (2 * WINDOW, 12 * WINDOW):
        tracemalloc.start()
        surprise(engine, vocabulary, ids[:length])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 10 * WINDOW * 2000  # bytes; of 3000 logits, it was 24,000 a character


@given(arrays(np.float64, (3, 7), elements=st.integers(0, 4)), st.integers(1, 7))
def test_lowest_is_the_beginning_of_a_stable_sort(values: np.ndarray, count: int) -> None:
    assert lowest(values, count).tolist() == np.argsort(values, axis=-1, kind="stable")[:, :count].tolist()
