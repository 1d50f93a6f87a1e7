"""Choosers draw what the distribution says, and each sequence for itself."""

from __future__ import annotations

import numpy as np

from charrnn.decoding.choosers import greedy, sample


def test_greedy_takes_the_likeliest_and_of_equals_the_first() -> None:
    logits = np.array([[0.0, 2.0, 1.0], [1.0, 3.0, 3.0], [-np.inf, -5.0, -np.inf]])
    assert greedy(logits, []).tolist() == [1, 1, 1]


def test_draws_follow_the_distribution() -> None:
    """Pearson's χ² of 100,000 draws; with 5 degrees of freedom it exceeds 20.5 once in a thousand seeds."""
    logits = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.04, 0.01], np.float32)) + 7
    N = 100_000
    generator = np.random.default_rng(1)
    block = np.tile(logits, (1000, 1))
    drawn = np.concatenate([sample(block, [generator] * 1000) for _ in range(N // 1000)])
    expected = N * np.array([0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
    chi_square = ((np.bincount(drawn, minlength=6) - expected) ** 2 / expected).sum()
    assert chi_square < 20.5


class Edge:
    """A generator that says one number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


LAST = Edge(1 - 2**-53)


def test_a_draw_is_where_the_cumulative_distribution_passes_the_number() -> None:
    """Of 1/8, 2/8, 4/8, 1/8; what is added to all logits changes nothing, however much it is."""
    logits = np.log([[1.0, 2.0, 4.0, 1.0]])
    for point, expected in ((0.0, 0), (0.124, 0), (0.126, 1), (0.374, 1), (0.376, 2), (0.874, 2), (0.876, 3)):
        for added in (-2000, 0, 2000):
            assert sample(logits + added, [Edge(point)]) == [expected]  # type: ignore[list-item]


def test_characters_too_rare_for_a_sum_in_float32_are_drawn() -> None:
    logits = np.array([[0.0, *[-18.0] * 100]], np.float32)
    assert sample(logits, [LAST]) == [100]  # type: ignore[list-item]


def test_removed_characters_are_never_drawn() -> None:
    logits = np.array([[-np.inf, 0.0, -np.inf, -60.0, -np.inf]])
    for value in (0.0, 0.5, 1 - 2**-53):
        assert sample(logits, [Edge(value)])[0] in (1, 3)  # type: ignore[list-item]
    for total in np.linspace(1, 2, 50):  # the largest number below one, times totals of every mantissa
        padded = np.log(np.array([[total, 1.0, 0.0]]), where=[[True, True, False]], out=np.full((1, 3), -np.inf))
        assert sample(padded, [Edge(1 - 2**-53)])[0] == 1  # type: ignore[list-item]


def test_a_seed_repeats_and_a_batch_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((50, 4, 9)).astype(np.float32)
    together = [np.random.default_rng(10 + n) for n in range(4)]
    batch = np.array([sample(step, together) for step in logits])  # (50, 4)
    for n in range(4):
        alone = [np.random.default_rng(10 + n)]
        assert [int(sample(step[n : n + 1], alone)[0]) for step in logits] == batch[:, n].tolist()
