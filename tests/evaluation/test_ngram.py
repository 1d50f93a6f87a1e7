"""Interpolated modified Kneser-Ney: equal to the formulas written out slowly, to KenLM, and to sums done by hand."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.data.vocabulary import Vocabulary
from charrnn.errors import TextError, UsageError
from charrnn.evaluation import ngram
from charrnn.evaluation.metrics import measure, unknown_cost
from charrnn.evaluation.ngram import FALLBACK, NGram, discounts

Symbols = tuple[object, ...]

#: A training text, a text, and log10 p of its characters and of its end.
KENLM = (
    "How much wood would a woodchuck chuck if a woodchuck could chuck wood? As much wood as a woodchuck would, "
    "if a woodchuck could chuck wood. She sells sea shells by the sea shore; the shells she sells are sea shells, "
    "I am sure.",
    "he woodchucks sell shells? So she said.",
    [-1.4582176, -0.4353502, -0.270898, -1.8606546, -0.0174047, -0.1147348, -0.0254144, -0.3318303, -0.0306371,
     -0.1317057, -0.0244992, -0.1323832, -2.6145649, -0.387239, -0.6765442, -0.3780337, -0.7256814, -0.0387929,
     -1.8452954, -0.8218532, -0.376927, -0.1083863, -0.4234089, -0.0387929, -0.0383235, -2.662034, -0.3491468,
     -1.9282078, -1.6006109, -0.8519133, -0.8218532, -0.376927, -0.1083863, -0.270898, -0.0376087, -2.6882343,
     -1.881788, -1.7116127, -1.1616814, -1.0372468],
)  # fmt: skip


def reference(text: str, num_symbols: int, order: int) -> Callable[[str, str], float]:
    """p(symbol | all before it) from dictionaries, as Chen & Goodman 1999 write it.

    None is what stands before the newline that stands before the text.
    """
    sequence: Symbols = (None, "\n", *text)
    tables: list[dict[Symbols, int]] = []
    for n in range(1, order + 1):
        ends = range(2, len(sequence))  # where a character of the text is predicted
        if n == order:
            tables.append(Counter(sequence[end - n + 1 : end + 1] for end in ends if end - n >= 0))
        else:
            before = defaultdict(set)
            for end in ends:
                if end - n >= 0:
                    before[sequence[end - n + 1 : end + 1]].add(sequence[end - n])
            tables.append({gram: len(symbols) for gram, symbols in before.items()})

    @cache
    def discount(n: int, count: int) -> float:
        many = Counter(tables[n - 1].values())
        if min(many[1], many[2], many[3]) > 0:
            y = many[1] / (many[1] + 2 * many[2])
            found = [c - (c + 1) * y * many[c + 1] / many[c] for c in (1, 2, 3)]
            if all(0 < d <= c for c, d in zip((1, 2, 3), found, strict=True)):
                return [0.0, *found][min(count, 3)]
        return [0.0, 0.5, 1.0, 1.5][min(count, 3)]

    @cache
    def followers(context: Symbols) -> dict[object, int]:
        table = tables[len(context)]
        return {gram[-1]: count for gram, count in table.items() if gram[:-1] == context}

    @cache
    def probability(symbol: str, context: Symbols) -> float:
        lower = probability(symbol, context[1:]) if context else 1 / num_symbols
        counts, n = followers(context), len(context) + 1
        total = sum(counts.values())
        if total == 0:
            return lower
        count = counts.get(symbol, 0)
        left = sum(discount(n, c) for c in counts.values())
        return (count - discount(n, count)) / total + left / total * lower

    return lambda before, symbol: probability(symbol, tuple("\n" + before)[max(0, len(before) + 2 - order) :])


def nats(model: NGram, ids: np.ndarray) -> np.ndarray:
    pieces = list(model.surprisals(ids))
    assert [start for start, _ in pieces] == np.cumsum([0, *(len(part) for _, part in pieces)])[:-1].tolist()
    return np.concatenate([part for _, part in pieces])


def assert_equals_reference(training: str, text: str, order: int) -> None:
    vocabulary = Vocabulary.of(training + "\n")
    model = NGram.of(vocabulary.encode(training).astype(np.uint8), vocabulary, order)
    expected = reference(training, len(vocabulary), order)
    found = nats(model, vocabulary.encode(text).astype(np.uint8))
    assert found == pytest.approx([-math.log(expected(text[:k], text[k])) for k in range(len(text))], abs=1e-9)


@given(st.data(), st.sampled_from(["a", "ab", "a\n", "abc\n", "abcdefgh\n"]), st.integers(1, 6))
def test_equals_the_formulas_on_any_text(data: st.DataObject, alphabet: str, order: int) -> None:
    training = data.draw(st.text(alphabet, min_size=1, max_size=60))
    assert_equals_reference(training, data.draw(st.text(alphabet + "z", min_size=1, max_size=30)), order)


@pytest.mark.parametrize("order", range(1, 7))
def test_equals_the_formulas_where_discounts_come_from_the_counts(order: int) -> None:
    """Words drawn with very different frequencies have all counts, as real text does."""
    random = np.random.default_rng(order)
    words = ["".join(random.choice(list("abcdefgh"), random.integers(1, 6))) for _ in range(60)]
    drawn = random.choice(words, 700, p=(weights := 1 / np.arange(1, 61)) / weights.sum())
    text = "".join(word + random.choice([" ", "\n"]) for word in drawn)
    training, rest = text[:2000], text[2000:2500]
    counts = Counter(zip(training, training[1:], training[2:], strict=False))
    assert discounts(np.array(list(counts.values()))).tolist() != list(FALLBACK)
    assert_equals_reference(training, rest, order)


def test_equals_kenlm() -> None:
    """What KenLM (``lmplz -o 3 --discount_fallback``) says of these lines, characters being its words.

    KenLM's beginning of a sentence is a symbol that nothing else is, as ``unknown`` is here where the vocabulary has
    no newline; "$" is its end.
    """
    training, text, base10 = KENLM
    vocabulary = Vocabulary.of(training + "$")
    model = NGram.of(vocabulary.encode(training + "$"), vocabulary, 3)
    assert nats(model, vocabulary.encode(text + "$")) / -math.log(10) == pytest.approx(base10, abs=1e-6)


def test_an_example_worked_by_hand() -> None:
    """ "ab" stands after a newline: a and b each stand after one symbol, \\na and ab are there once. No count is 2, so
    discounts are 1/2, 1, 3/2. p(a) = p(b) = (1 − 1/2) / 2 + 1/2 · 1/4 = 3/8; newline and unknown get 1/2 · 1/4 = 1/8.
    p(b | a) = (1 − 1/2) / 1 + 1/2 · 3/8 = 11/16, and of the others after a half of what they have alone.
    """
    vocabulary = Vocabulary.of("\nab")
    model = NGram.of(vocabulary.encode("ab"), vocabulary, 2)
    newline, a, b, unknown = 1 / 8, 3 / 8, 3 / 8, 1 / 8
    assert model.distribution(vocabulary.encode("b")) == pytest.approx([newline, a, b, unknown])
    assert model.distribution(vocabulary.encode("ba")) == pytest.approx([newline / 2, a / 2, 11 / 16, unknown / 2])
    assert model.distribution(vocabulary.encode("")) == pytest.approx([newline / 2, 11 / 16, b / 2, unknown / 2])
    assert np.exp(-nats(model, vocabulary.encode("abb"))) == pytest.approx([11 / 16, 11 / 16, 3 / 8])


def test_discounts_worked_by_hand() -> None:
    """Four counts of 1, two of 2, one of 3 and of 4: Y = 4 / (4 + 2 · 2) = 1/2; 1 − 2Y 2/4, 2 − 3Y 1/2, 3 − 4Y 1/1."""
    assert discounts(np.array([1, 1, 1, 1, 2, 2, 3, 4, 9, 9])) == pytest.approx([0, 0.5, 1.25, 1])
    assert discounts(np.array([1, 1, 2, 2, 3, 9])) == pytest.approx([0, 1 / 3, 2 - 1 / 2, 3])
    for counts in ([5], [1, 1, 1], [1, 2, 4, 4], [1, 2, 3, 3, 3, 3]):
        assert discounts(np.array(counts)).tolist() == list(FALLBACK)


@given(st.text("abc\n", min_size=1, max_size=40), st.text("abcz\n", max_size=12), st.integers(1, 8))
def test_every_distribution_is_positive_and_sums_to_one(training: str, context: str, order: int) -> None:
    vocabulary = Vocabulary.of(training)
    distribution = NGram.of(vocabulary.encode(training), vocabulary, order).distribution(vocabulary.encode(context))
    assert distribution.shape == (len(vocabulary),)
    assert distribution.min() > 0
    assert distribution.sum() == pytest.approx(1, abs=1e-12)


@given(st.text("ab\n", min_size=1, max_size=40), st.text("abz\n", min_size=1, max_size=12), st.integers(1, 8))
def test_a_text_costs_what_the_distributions_say(training: str, text: str, order: int) -> None:
    vocabulary = Vocabulary.of(training)
    model, ids = NGram.of(vocabulary.encode(training), vocabulary, order), vocabulary.encode(text)
    expected = [-np.log(model.distribution(ids[:k])[ids[k]]) for k in range(len(ids))]
    assert nats(model, ids) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("order", [1, 2, 5, 20])
def test_pieces_change_nothing(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = Vocabulary.of("abc\n")
    ids = np.random.default_rng(0).integers(0, 4, 500)
    model = NGram.of(ids[:400], vocabulary, order)
    expected = nats(model, ids[300:])
    monkeypatch.setattr(ngram, "PIECE", 7)

    class InFile:
        """Ids of which no more are read at once than a piece and its context."""

        def __len__(self) -> int:
            return 200

        def __getitem__(self, part: slice) -> np.ndarray:
            assert part.stop - part.start <= 7 + order - 1
            return ids[300:][part]

    assert np.array_equal(nats(model, InFile()), expected)  # type: ignore[arg-type]


def test_more_orders_than_the_text_has_symbols_change_nothing() -> None:
    vocabulary = Vocabulary.of("abc\n")
    text, training = vocabulary.encode("abcabacz\nab"), vocabulary.encode("abac")
    expected = nats(NGram.of(training, vocabulary, 5), text)
    for order in (6, 20, 1000):
        assert np.array_equal(nats(NGram.of(training, vocabulary, order), text), expected)


def test_a_pattern_is_learned_from_the_order_that_sees_it_whole() -> None:
    """After aab comes a, after aba, a, after baa, b: two symbols before tell, one does not."""
    vocabulary = Vocabulary.of("ab\n")
    training, text = vocabulary.encode("aab" * 300), vocabulary.encode("aab" * 30)
    costs = [float(nats(NGram.of(training, vocabulary, order), text).mean()) for order in range(1, 9)]
    assert costs[0] > costs[1] > 0.3
    assert max(costs[2:]) < 0.1


@pytest.mark.parametrize("training", ["a", "aaaa", "a" * 1000, "\n", "\n\n\n"])
@pytest.mark.parametrize("order", [1, 2, 20])
def test_a_text_of_one_symbol_gives_finite_figures(training: str, order: int) -> None:
    vocabulary = Vocabulary.of(training)
    model = NGram.of(vocabulary.encode(training), vocabulary, order)
    for text in (training, "z", "zz" + training):
        found = nats(model, vocabulary.encode(text))
        assert np.isfinite(found).all()
        assert (found > 0).all()


def test_what_is_outside_the_vocabulary_costs_unknown_spread_evenly() -> None:
    vocabulary = Vocabulary.of("ab\n")
    model, ids = NGram.of(vocabulary.encode("abba\nab"), vocabulary, 3), vocabulary.encode("abäb")
    figures = measure(model.surprisals(ids), ids, vocabulary, 5)
    cost = -math.log(model.distribution(vocabulary.encode("ab"))[vocabulary.unknown])
    assert (figures.characters, figures.unseen) == (4, 1)
    assert figures.unseen_nats == pytest.approx(cost + unknown_cost(vocabulary))
    assert figures.nats == pytest.approx(nats(model, ids).sum() + unknown_cost(vocabulary))


def test_an_empty_text_and_an_order_below_one_are_refused() -> None:
    vocabulary = Vocabulary.of("a")
    with pytest.raises(TextError):
        NGram.of(np.zeros(0, np.uint8), vocabulary, 3)
    with pytest.raises(UsageError):
        NGram.of(np.zeros(1, np.uint8), vocabulary, 0)


def test_models_of_all_orders_are_those_made_one_by_one() -> None:
    vocabulary = Vocabulary.of("abc\n")
    ids = vocabulary.encode("abcabacab\ncc" * 3)
    models = list(NGram.up_to(ids, vocabulary, 5))
    assert len(models) == 5
    for order, model in enumerate(models, 1):
        alone = NGram.of(ids, vocabulary, order)
        assert len(model.levels) == order
        for level, other in zip(model.levels, alone.levels, strict=True):
            for name in ("keys", "shares", "weights"):
                assert getattr(level, name).tolist() == getattr(other, name).tolist()
    assert len(list(NGram.up_to(ids[:2], vocabulary, 9))) == 3  # no longer ones than the text with its newline has
