"""Rank statistics against pairs counted one by one, and cells planted in noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.inspection.association import association, centred_ranks, find
from charrnn.inspection.features import Feature, features_of

small = st.integers(0, 4)


@given(st.lists(st.tuples(small, st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    ones, zeros = [v for v, one in pairs if one], [v for v, one in pairs if not one]
    if not ones or not zeros:
        return
    expected = np.mean([(a > b) + 0.5 * (a == b) for a in ones for b in zeros])
    ranks = centred_ranks(np.array([[float(v)] for v, _ in pairs]))
    assert association(ranks, np.array([float(one) for _, one in pairs]), "auc")[0] == pytest.approx(expected)


@given(st.lists(st.tuples(small, small), min_size=2, max_size=40))
def test_rho_is_pearsons_r_of_mean_ranks(pairs: list[tuple[int, int]]) -> None:
    def rank(values: list[int]) -> list[float]:
        return [sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]

    a, b = rank([x for x, _ in pairs]), rank([y for _, y in pairs])
    expected = 0.0 if len(set(a)) == 1 or len(set(b)) == 1 else float(np.corrcoef(a, b)[0, 1])
    values, labels = np.array(pairs, float)[:, :1], np.array(pairs, float)[:, 1]
    assert association(centred_ranks(values), labels, "rho")[0] == pytest.approx(expected, abs=1e-9)


def lines() -> str:
    random = np.random.default_rng(0)
    words = ["a", "bit", '"of', 'text"', "here", "and", "there", "(and)", "so\n"]
    return " ".join(random.choice(words, 1500))


def test_planted_cells_rank_first() -> None:
    text, random = lines(), np.random.default_rng(1)
    features = {f.name: f for f in features_of(text)}
    cells = random.normal(size=(len(text), 30))
    cells[:, 7] = -features["quotes"].values + 0.2 * random.normal(size=len(text))
    cells[:, 11] = np.tanh(features["column"].values / 50)
    found = find(cells, list(features.values()), top=2)
    quotes, column = (next(f for f in found if f.feature == name) for name in ("quotes", "column"))
    assert (quotes.cell, column.cell) == (7, 11)
    assert quotes.score > 0.98
    assert column.score > 0.98
    assert quotes.null < 0.65
    assert abs(column.null) < 0.3


@pytest.mark.parametrize("width", [20, 40, 79])
def test_mixed_labels_are_at_chance_also_where_all_lines_are_as_long(width: int) -> None:
    """Moved by one distance throughout, labels of a period would still agree with a cell of the same period."""
    random = np.random.default_rng(width)
    words = " ".join(random.choice(["a", '"of', 'text"', "there", "so"], 5000))
    text = "".join(words[at : at + width] + "\n" for at in range(0, len(words), width))
    column = np.arange(len(text)) % (width + 1)
    cells = random.normal(size=(len(text), 30))
    cells[:, 3] += 4 * column / width
    cells[:, 5] += column > width - 5
    found = {f.feature: f for f in find(cells, features_of(text), top=1)}
    assert {found["column"].cell, found["newline"].cell} <= {3, 5}
    assert found["column"].score > 0.5
    assert found["newline"].score > 0.7
    for name in ("quotes", "space", "newline"):
        assert abs(found[name].null - 0.5) < 0.1
    for name in ("column", "since space", "indentation"):
        assert abs(found[name].null) < 0.2


def test_noise_scores_as_chance_although_the_best_was_chosen() -> None:
    text, random = lines(), np.random.default_rng(2)
    found = find(random.normal(size=(len(text), 200)), features_of(text), top=1)
    assert found
    assert all(abs(f.strength) < 0.12 for f in found)


def test_a_cell_whose_sign_turns_between_the_halves_scores_badly() -> None:
    labels = np.tile([0.0, 1.0, 1.0, 0.0], 50)
    cell = labels * np.repeat([1, -1], 100)
    (found,) = find(cell[:, None], [Feature("flip", "auc", labels)], top=1)
    assert found.score == 0
