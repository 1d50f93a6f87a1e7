"""Figures: sums and counts, whatever pieces they come in, and an interval that Student's t table confirms."""

import itertools
import math

import numpy as np
import pytest

from charrnn.data.vocabulary import Vocabulary
from charrnn.evaluation.metrics import Figures, block_lengths, measure, perplexity, ratio_interval, unknown_cost


def test_probabilities_of_all_characters_sum_to_one_with_unknown_spread_over_the_rest():
    vocabulary = Vocabulary.of("abcdefgh")
    share = np.full(len(vocabulary), 1 / len(vocabulary))
    total = share[:-1].sum() + vocabulary.outside * share[-1] * math.exp(-unknown_cost(vocabulary))
    assert total == pytest.approx(1)


def test_unseen_characters_are_counted_and_cost_the_spread_probability():
    vocabulary = Vocabulary.of("abc")
    ids = vocabulary.encode("abżc")
    figures = measure([(0, np.full(4, 1.0))], ids, vocabulary, 5)
    cost = math.log(0x110000 - 0x800 - 3)
    assert figures.unseen == 1
    assert figures.nats == pytest.approx(4 + cost)
    assert figures.perplexity_seen == pytest.approx(math.e)
    assert figures.bits_per_byte == pytest.approx((4 + cost) / math.log(2) / 5)


def test_the_interval_covers_the_true_mean_about_95_times_in_100():
    rng, hits = np.random.default_rng(0), 0
    vocabulary = Vocabulary.of("ab")
    for _ in range(400):
        nats = rng.exponential(1.0, 2000)
        low, high = measure([(0, nats)], np.zeros(2000, int), vocabulary, 2000).interval
        hits += low <= 1.0 <= high
    assert 0.92 <= hits / 400 <= 0.98
    assert measure([(0, nats[:10])], np.zeros(10, int), vocabulary, 10).interval is None


def test_figures_do_not_depend_on_how_the_pieces_are_cut():
    rng = np.random.default_rng(0)
    nats, ids, vocabulary = rng.exponential(1, 777), rng.integers(0, 3, 777), Vocabulary.of("ab")
    one = measure([(0, nats)], ids, vocabulary, 777)
    cuts = [0, *sorted(rng.choice(776, 20, replace=False) + 1), 777]
    pieces = [(a, nats[a:b]) for a, b in itertools.pairwise(cuts)]
    rng.shuffle(pieces)
    other = measure(pieces, ids, vocabulary, 777)
    assert other.nats == pytest.approx(one.nats, rel=1e-12)
    assert other.interval == pytest.approx(one.interval)
    assert other.unseen == one.unseen == int((ids == 2).sum())


#: Student's t, two-sided 95 %, by degrees of freedom; the quantile that is computed is an expansion.
STUDENT = {15: 2.131450, 63: 1.998341}


@pytest.mark.parametrize(("freedom", "tolerance"), [(15, 4e-4), (63, 6e-6)])
def test_the_interval_is_students(freedom, tolerance):
    sums = np.random.default_rng(freedom).exponential(1, freedom + 1)
    half = STUDENT[freedom] * sums.std(ddof=1) / math.sqrt(freedom + 1)
    low, high = ratio_interval(7 * sums, np.full(freedom + 1, 7))
    assert (high + low) / 2 == pytest.approx(sums.mean(), rel=1e-12)
    assert 0 < 1 - (high - low) / 2 / half < tolerance, "terms that are left out would add a little"


def test_an_interval_takes_16_blocks():
    assert ratio_interval(np.ones(15), np.ones(15, int)) is None
    assert ratio_interval(np.ones(16), np.ones(16, int)) == (1, 1)


def test_blocks_are_as_many_as_characters_and_at_most_64():
    for characters in (1, 2, 63, 64, 65, 127, 128, 6401):
        lengths = block_lengths(characters)
        assert (len(lengths), lengths.sum()) == (min(64, characters), characters)
        assert (lengths[:-1] == characters // len(lengths)).all()


def test_a_block_is_a_run_of_neighbours():
    """All nats in the last block: the ratio estimate's error, written out."""
    nats = np.zeros(6401)
    nats[6300:] = 2.0
    low, high = measure([(0, nats)], np.zeros(6401, int), Vocabulary.of("ab"), 6401).interval
    mean, lengths = 202 / 6401, np.array([100] * 63 + [101])
    error = math.sqrt((np.square(np.array([0] * 63 + [202]) - mean * lengths)).sum() * 64 / 63) / 6401
    assert (low + high) / 2 == pytest.approx(mean)
    assert (high - low) / 2 == pytest.approx(STUDENT[63] * error, rel=1e-5)


def test_figures_in_other_units_and_of_nothing_seen():
    figures = Figures(10, 0, 20.0, 0.0, 40, (1.0, 3.0))
    assert figures.bits_per_char == pytest.approx(2 / math.log(2))
    assert figures.bits_per_byte == pytest.approx(0.5 / math.log(2))
    assert figures.bits_interval == pytest.approx((1 / math.log(2), 3 / math.log(2)))
    assert Figures(10, 10, 20.0, 20.0, 40, None).perplexity_seen is None
    assert Figures(10, 9, 20.0, 19.0, 40, None).perplexity_seen == pytest.approx(math.e)
    assert Figures(10, 0, 20.0, 0.0, 40, None).bits_interval is None


def test_perplexity_is_finite_however_bad_the_model():
    assert perplexity(0.0) == 1
    assert perplexity(709.0) == math.exp(709)
    assert perplexity(1e9) == perplexity(709.0)


def test_unknown_costs_nothing_more_where_it_stands_for_one_character_or_none():
    assert unknown_cost(Vocabulary(tuple(range(256)), "byte")) == 0
    assert unknown_cost(Vocabulary(tuple(range(255)), "byte")) == 0
    assert unknown_cost(Vocabulary(tuple(range(254)), "byte")) == pytest.approx(math.log(2))
