"""Copied lengths against looking everywhere."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.checkpoint import Checkpoint
from charrnn.data.vocabulary import Unit
from charrnn.decoding.engine import engine_for
from charrnn.decoding.generator import Sampling, generate
from charrnn.inspection.novelty import copied_lengths, draw, unseen_shares
from charrnn.inspection.subject import Subject

letters = st.lists(st.integers(0, 2), max_size=30)


def brute_force(sample: list[int], training: list[int]) -> list[int]:
    def occurs(part: list[int]) -> bool:
        return any(training[i : i + len(part)] == part for i in range(len(training) - len(part) + 1))

    return [max(n for n in range(end + 1) if occurs(sample[end - n : end])) for end in range(1, len(sample) + 1)]


@given(letters, letters, letters)
def test_against_looking_everywhere(sample: list[int], first: list[int], second: list[int]) -> None:
    lengths = copied_lengths(sample, [first, second])
    assert lengths == brute_force(sample, first + second)
    if sample:
        for n, share in enumerate(unseen_shares(lengths, 6), 1):
            seen = {tuple((first + second)[i : i + n]) for i in range(len(first + second) - n + 1)}
            grams = [tuple(sample[i : i + n]) for i in range(len(sample) - n + 1)]
            assert share == sum(gram not in seen for gram in grams) / len(grams)


@pytest.mark.parametrize("unit", ["char", "byte"])
def test_what_is_drawn_is_what_sample_draws_with_that_seed(model: Callable[..., Checkpoint], unit: Unit) -> None:
    checkpoint = model("gru", unit)
    drawn = draw(Subject.of(checkpoint, ""), 40, seed=3)
    (sample,) = generate(engine_for(checkpoint), checkpoint.vocabulary, settings=Sampling(length=40, seed=3))
    assert drawn.text == sample.text
    assert len(drawn.ids) == 40
    assert checkpoint.vocabulary.decode(drawn.ids) == sample.text


def test_a_megabyte_takes_seconds(tmp_path: Path) -> None:
    source = random.Random(0)
    training = [source.randrange(40) for _ in range(1_000_000)]
    sample = training[5000:6000] + [source.randrange(40) for _ in range(1000)]
    begin = time.perf_counter()
    lengths = copied_lengths(sample, [training])
    assert max(lengths) == lengths[999] == 1000
    assert time.perf_counter() - begin < 20
