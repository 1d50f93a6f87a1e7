"""How well cells track features: rank statistics of all cells at once, chosen on one half, judged on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.inspection.features import Feature, Kind

Floats = NDArray[np.float64]

#: Pieces into which labels are cut for the null, and how many orders of them it is averaged over.
PIECES, ORDERS = 32, 8


def centred_ranks(values: NDArray[Any]) -> Floats:
    """Ranks along axis 0 of (T, C), equal values sharing their mean rank, less the mean of all ranks.

    >>> centred_ranks(np.array([[3.0], [1.0], [3.0]])).ravel().tolist()
    [0.5, -1.0, 0.5]
    """
    ranks = np.empty(values.shape)
    for c in range(values.shape[1]):
        order = np.argsort(values[:, c], kind="stable")
        ordered = values[order, c]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        stops = np.append(starts[1:], len(ordered))
        ranks[order, c] = np.repeat((starts + stops - 1) / 2, stops - starts)
    return ranks - (len(values) - 1) / 2


def association(ranks: Floats, labels: Floats, kind: Kind) -> Floats:
    """AUC or Spearman's rho of each column of centred ranks (T, C) with labels (T,).

    AUC is the chance that the cell is higher at a random 1 than at a random 0, ties counting half (Mann & Whitney
    1947). A constant cell has AUC ½ and rho 0.
    """
    if kind == "auc":
        ones = float(labels.sum())
        auc: Floats = 0.5 + ranks.T @ labels / (ones * (len(labels) - ones))
        return auc
    other = centred_ranks(labels[:, None])[:, 0]
    scale = np.linalg.norm(ranks, axis=0) * np.linalg.norm(other)
    rho: Floats = np.divide(ranks.T @ other, scale, out=np.zeros(ranks.shape[1]), where=scale > 0)
    return rho


def strength(score: Floats, kind: Kind) -> Floats:
    """Both measures on one scale: −1 to 1, 0 for no association (Somers' D = 2 AUC − 1)."""
    return 2 * score - 1 if kind == "auc" else score


def oriented(score: Floats, sign: Floats, kind: Kind) -> Floats:
    """The score of the cell or of its negative, as ``sign`` says."""
    return np.where(sign < 0, 1 - score, score) if kind == "auc" else np.where(sign < 0, -score, score)


def mixed(labels: Floats, random: np.random.Generator) -> Floats:
    """Labels (T,) in pieces of random lengths, put in another order.

    Within a piece they are as slow as they were. Where in its period a piece begins is left to chance: moved by one
    distance throughout, labels of a text whose lines are all as long would still agree with a cell that counts them.
    """
    pieces = np.split(labels, np.sort(random.integers(1, len(labels), PIECES - 1)))
    return np.concatenate([pieces[k] for k in random.permutation(PIECES)])


@dataclass(frozen=True)
class Found:
    """A cell (a column) that tracks a feature: its score on the second half, and what chance gives it there."""

    feature: str
    kind: Kind
    cell: int
    score: float
    null: float

    @property
    def strength(self) -> float:
        """The score on the scale that both kinds share."""
        return float(strength(np.asarray(self.score), self.kind))


def halves(features: Sequence[Feature], T: int) -> list[tuple[Feature, Feature]]:
    """Each feature's two halves, where there is enough of it in both to be judged."""
    pairs = [
        (Feature(f.name, f.kind, f.values[: T // 2]), Feature(f.name, f.kind, f.values[T // 2 :])) for f in features
    ]
    return [(first, second) for first, second in pairs if first.varies and second.varies]


def find(cells: NDArray[Any], features: Sequence[Feature], top: int, seed: int = 0) -> list[Found]:
    """The ``top`` cells for each feature, chosen (with their sign) on the first half of the text, scored on the second.

    The null is the same cell's score, its sign again chosen on the first half, with the labels of each half mixed
    in pieces, averaged over several orders: what the cell's and the feature's own slowness give by chance.

    Args:
        cells: (T, C).
        features: (T,) each.

    Returns:
        best first.
    """
    T = len(cells)
    first, second = centred_ranks(cells[: T // 2]), centred_ranks(cells[T // 2 :])
    random = np.random.default_rng(seed)
    found = []
    for choosing, judging in halves(features, T):
        kind = choosing.kind
        chosen = strength(association(first, choosing.values, kind), kind)
        best = np.argsort(-np.abs(chosen), kind="stable")[:top]
        scores = oriented(association(second[:, best], judging.values, kind), chosen[best], kind)
        nulls = np.zeros(len(best))
        for _ in range(ORDERS):
            sign = strength(association(first[:, best], mixed(choosing.values, random), kind), kind)
            judged = association(second[:, best], mixed(judging.values, random), kind)
            nulls += oriented(judged, sign, kind) / ORDERS
        for cell, score, null in zip(best, scores, nulls, strict=True):
            found.append(Found(choosing.name, kind, int(cell), float(score), float(null)))
    return sorted(found, key=lambda item: -item.strength)
