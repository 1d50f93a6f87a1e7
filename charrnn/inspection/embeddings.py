"""The characters' vectors: a map of them in two dimensions, and each one's nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.errors import UsageError
from charrnn.inspection.report import Chart, Note, Report, Series, Table, Value, shown
from charrnn.inspection.subject import Subject

Floats = NDArray[np.float64]


def principal_components(vectors: Floats, count: int = 2) -> tuple[Floats, Floats]:
    """Coordinates (V, count) of vectors (V, E) along their principal components, and the share of variance of each.

    The sign of a component is free; it is chosen so that its largest coordinate is positive.
    """
    centred = vectors - vectors.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    coordinates = np.zeros((len(vectors), count))
    shares = np.zeros(count)
    kept = min(count, len(s))
    coordinates[:, :kept] = u[:, :kept] * s[:kept]
    if (total := float((s**2).sum())) > 0:
        shares[:kept] = s[:kept] ** 2 / total
    signs = np.sign(coordinates[np.abs(coordinates).argmax(0), np.arange(count)])
    return coordinates * np.where(signs == 0, 1, signs), shares


def cosines(vectors: Floats) -> Floats:
    """Cosine of each pair of vectors, (V, V); 0 for a vector of length zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1)
    result: Floats = unit @ unit.T
    return result


def embeddings(subject: Subject, top: int = 5) -> Report:
    """The map and the ``top`` neighbours of each character; ``unknown`` is left out.

    Raises:
        UsageError: the model has no such vectors.
    """
    vocabulary = subject.checkpoint.vocabulary
    if "embedding.weight" not in subject.checkpoint.weights:
        raise UsageError("inspect embeddings: an n-gram model knows characters apart, and no vectors of them")
    count = len(vocabulary.codes)
    vectors = subject.checkpoint.weights["embedding.weight"][:count].astype(np.float64)
    names = [vocabulary.character(i) for i in range(count)]
    places, shares = principal_components(vectors)
    alike = cosines(vectors)
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, : min(top, count - 1)]

    rows: list[list[Value]] = []
    found: list[dict[str, Any]] = []
    for i, name in enumerate(names):
        neighbours = [(names[j], float(alike[i, j])) for j in nearest[i]]
        rows.append([shown(name), tuple(f"{shown(other)} {cosine:+z.2f}" for other, cosine in neighbours)])
        found.append(
            {
                "character": name,
                "x": float(places[i, 0]),
                "y": float(places[i, 1]),
                "neighbours": [{"character": other, "cosine": cosine} for other, cosine in neighbours],
            }
        )
    series = Series("characters", places[:, 0].tolist(), places[:, 1].tolist(), [shown(name) for name in names])
    chart = Chart("The characters", f"{shares[0]:.0%} of variance", f"{shares[1]:.0%} of variance", [series])
    note = (
        f"{count:,} vectors of {vectors.shape[1]} numbers. The map keeps {shares.sum():.0%} of their variance; "
        "neighbours are by the cosine of the whole vectors."
    )
    document = {"schema": 1, "variance": shares.tolist(), "characters": found}
    return Report("Embeddings", [Note(note), chart, Table(["character", "nearest"], rows)], document)
