"""The map of models: its distances are those of their probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from charrnn.evaluation import likeness
from charrnn.evaluation.likeness import map_of


def nats(probabilities: np.ndarray) -> list[np.ndarray]:
    return list(-np.log(probabilities).astype(np.float32))


def distances(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors[:, None] - vectors[None], axis=2)


def test_models_in_a_plane_keep_their_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    plane = 0.5 + 0.1 * random.uniform(-1, 1, (6, 2)) @ random.uniform(-1, 1, (2, 40))
    monkeypatch.setattr(likeness, "PIECE", 7)
    places, shares = map_of(nats(plane))
    assert distances(places) == pytest.approx(distances(plane) / np.sqrt(40), abs=1e-6)
    assert shares.sum() == pytest.approx(1, abs=1e-6)
    assert shares[0] >= shares[1]
    assert places.sum(0) == pytest.approx([0, 0], abs=1e-6)
    assert (np.abs(places).max(0) == places.max(0)).all()


def test_copies_coincide_and_the_outlier_is_far_out() -> None:
    random = np.random.default_rng(1)
    first, second, third = random.uniform(0.1, 0.9, (3, 500))
    places, _ = map_of(nats(np.stack([first, second, first, first, third, second])))
    assert distances(places[[0, 2, 3]]) == pytest.approx(np.zeros((3, 3)), abs=1e-6)
    assert places[1] == pytest.approx(places[5], abs=1e-6)
    assert np.linalg.norm(places[0] - places[1]) == pytest.approx(np.sqrt(((first - second) ** 2).mean()), abs=1e-6)


@pytest.mark.parametrize("noise", [0, 1e-7])
def test_nothing_but_copies_is_one_point_and_has_no_variance(noise: float) -> None:
    """What is left by rounding, of the models' float32 or of the map's own sums, is no difference."""
    random = np.random.default_rng(0)
    probabilities = random.uniform(0.1, 0.9, 100) * (1 + noise * random.uniform(-1, 1, (5, 100)))
    places, shares = map_of(nats(probabilities))
    assert places.tolist() == [[0, 0]] * 5
    assert shares.tolist() == [0, 0]
    assert map_of(nats(np.full((1, 100), 0.3)))[0].tolist() == [[0, 0]]
