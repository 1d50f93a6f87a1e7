"""Errors of planted models: every count is known by hand."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from charrnn.data.vocabulary import to_codes
from charrnn.evaluation.characters import CLASSES, classes_of
from charrnn.evaluation.errors import by_class, by_classes, only_one

TEXT = 'He (a) 7\n"b".'
CLASSES_OF_IT = ["word start", "word inside", "space", "bracket", "word start", "bracket", "space", "digit", "newline",
                 "quote", "word start", "quote", "other"]  # fmt: skip


def model(*wrong: int) -> np.ndarray:
    """Nats of a model that errs at these places only; elsewhere it gives exactly half."""
    probabilities = np.full(len(TEXT), 0.5)
    probabilities[list(wrong)] = 0.49
    return -np.log(probabilities).astype(np.float32)


def test_counts_known_by_hand() -> None:
    classes = classes_of(to_codes(TEXT, "char"))
    assert [CLASSES[c] for c in classes] == CLASSES_OF_IT
    rows = by_classes([model(0, 3, 4), model(0, 4, 7), model()], classes)
    assert [row["class"] for row in rows] == list(CLASSES)
    assert sum(row["characters"] for row in rows) == len(TEXT)
    found = {row["class"]: (row["errors"], row["only_best"], row["only_other"]) for row in rows}
    nothing = ([0, 0, 0], [0, 0], [0, 0])
    assert found == dict.fromkeys(CLASSES, nothing) | {
        "word start": ([2, 2, 0], [0, 2], [0, 0]),
        "bracket": ([1, 0, 0], [1, 1], [0, 0]),
        "digit": ([0, 1, 0], [0, 0], [1, 0]),
    }
    json.dumps(rows, allow_nan=False)


nats = st.lists(st.floats(0, 3, width=32), min_size=len(TEXT), max_size=len(TEXT)).map(lambda v: np.array(v, "f4"))


@given(nats, nats)
def test_swapping_models_swaps_columns_and_classes_partition_the_errors(first: np.ndarray, second: np.ndarray) -> None:
    classes = classes_of(to_codes(TEXT, "char"))
    mine, yours = only_one(first, second, classes)
    again = only_one(second, first, classes)
    assert (yours.tolist(), mine.tolist()) == (again[0].tolist(), again[1].tolist())
    wrong, other = first > np.log(2), second > np.log(2)
    assert int(mine.sum()) - int(yours.sum()) == int(wrong.sum()) - int(other.sum())
    assert by_class(wrong & other, classes).sum() + mine.sum() == wrong.sum()
    assert not any(part.any() for part in only_one(first, first, classes))
