"""Filters on distributions small enough to work out by hand, and what holds for all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.decoding.filters import FILTERS, compose, log_softmax, temperature, top_k, top_p
from charrnn.errors import UsageError

HALF = np.log([[0.1, 0.5, 0.15, 0.25]])
logits_of = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=9).map(lambda x: np.array([x], np.float32))


def kept(logits: np.ndarray) -> list[int]:
    return np.flatnonzero(np.isfinite(logits[0])).tolist()


def test_temperature_one_half_squares_the_probabilities() -> None:
    squares = np.array([0.01, 0.25, 0.0225, 0.0625])
    np.testing.assert_allclose(np.exp(log_softmax(temperature(HALF, 0.5)))[0], squares / squares.sum())


@given(logits_of, st.sampled_from([0.1, 1, 1.25, 2, 3.0]))
def test_temperature_takes_powers_whatever_is_added_to_all_logits(logits: np.ndarray, t: float) -> None:
    expected = np.exp(logits.astype(np.float64)) ** (1 / t)
    for added in (0, 1000):
        shifted = logits.astype(np.float64) + added
        np.testing.assert_allclose(
            np.exp(log_softmax(temperature(shifted, t))), expected / expected.sum(), rtol=1e-6, atol=1e-12
        )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("cold", [1e-3, 1e-30, 1e-300, 5e-324])
def test_any_cold_is_greedy_and_never_nan(cold: float) -> None:
    np.testing.assert_allclose(
        np.exp(log_softmax(temperature(HALF.astype(np.float32), cold)))[0], [0, 1, 0, 0], atol=1e-9
    )


def test_top_k() -> None:
    assert kept(top_k(HALF, 1)) == [1]
    assert kept(top_k(HALF, 3)) == [1, 2, 3]
    assert kept(top_k(HALF, 99)) == [0, 1, 2, 3]
    assert kept(top_k(np.array([[1.0, 0.0, 1.0, 1.0]]), 2)) == [0, 2, 3], "ties stay"


@pytest.mark.parametrize("k", [1, 2, 50, 19_998, 19_999, 20_000])
def test_top_k_of_many_are_the_k_largest(k: int) -> None:
    logits = np.random.default_rng(k).permutation(20_000).astype(np.float32)[None]
    assert kept(top_k(logits, k)) == np.flatnonzero(logits[0] >= 20_000 - k).tolist()


def test_top_p_is_the_smallest_set_that_reaches_p() -> None:
    assert kept(top_p(HALF, 0.3)) == [1]
    assert kept(top_p(HALF, 0.51)) == [1, 3]
    assert kept(top_p(HALF, 0.74)) == [1, 3]
    assert kept(top_p(HALF, 0.76)) == [1, 2, 3]
    assert kept(top_p(HALF, 1.0)) == [0, 1, 2, 3]
    np.testing.assert_array_equal(top_p(HALF, 0.51)[0, [1, 3]], HALF[0, [1, 3]])
    assert kept(top_p(np.zeros((1, 2)), 0.5)) == [0], "of equal ones the first, and no more than it takes"
    assert kept(top_p(np.array([[0.0, -100.0]]), 1.0)) == [0, 1], "however improbable"


def test_rows_are_filtered_separately() -> None:
    both = np.concatenate((HALF, HALF[:, ::-1]))
    for run, value in ((top_k, 2), (top_p, 0.6), (temperature, 0.7)):
        found = run(both, value)
        np.testing.assert_array_equal(found[0], run(HALF, value)[0])
        np.testing.assert_array_equal(found[1], run(HALF[:, ::-1], value)[0])


def test_order_is_temperature_then_top_k_then_top_p() -> None:
    assert list(FILTERS) == ["temperature", "top_k", "top_p"]
    # Of 0.5 and 0.25 renormalised, 0.5 has two thirds: enough for 0.6 after top-k, not before.
    assert kept(compose({"top_k": 2, "top_p": 0.6})(HALF)) == [1]
    assert kept(compose({"top_p": 0.6})(HALF)) == [1, 3]
    # Flattened, one character is not enough for 0.5.
    assert kept(compose({"temperature": 10.0, "top_p": 0.5})(HALF)) == [1, 3]


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", value) for value in (0.0, -1.0, math.nan, math.inf, "hot")]
    + [("top_k", value) for value in (0, 2.5, "many")]
    + [("top_p", value) for value in (0.0, -0.1, 1.1, math.nan, "all")],
)
def test_out_of_range_is_a_usage_error(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match="--" + name.replace("_", "-")):
        compose({name: value})


def test_the_ends_of_the_ranges_are_taken() -> None:
    for name, value in (("temperature", 5e-324), ("temperature", 1e308), ("top_k", 1), ("top_p", 1), ("top_p", 1e-9)):
        assert np.isfinite(compose({name: value})(HALF)[0, 1])


@given(logits_of, st.floats(0.01, 5), st.integers(1, 10), st.floats(0.01, 1))
def test_the_likeliest_always_stays_and_nothing_is_added(logits: np.ndarray, t: float, k: int, p: float) -> None:
    before = logits.copy()
    filtered = compose({"temperature": t, "top_k": k, "top_p": p})(logits)
    assert filtered.shape == logits.shape
    assert np.isfinite(filtered[0, logits[0].argmax()])
    assert not np.isnan(filtered).any()
    np.testing.assert_array_equal(logits, before)


@given(logits_of, st.floats(0.01, 0.99))
def test_top_p_reaches_p_and_would_not_without_its_last(logits: np.ndarray, p: float) -> None:
    mass = np.exp(log_softmax(logits))[0]
    stay = kept(top_p(logits, p))
    assert mass[stay].sum() >= p - 1e-9
    assert mass[stay].sum() - mass[stay].min() < p + 1e-9
