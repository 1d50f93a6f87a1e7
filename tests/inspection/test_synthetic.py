"""A network that is really trained on a text of which it is known what there is to find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import charrnn
from charrnn.inspection import inspect
from charrnn.inspection.subject import Subject

WIDTH = 20
BOTH = ("a", "to", "of", "and", "the", "that", "with", "from", "house", "small")
NARRATED, QUOTED = (*BOTH, "he", "she", "said", "went", "were"), (*BOTH, "I", "you", "am", "will", "are")


def quoted_lines(passages: int, seed: int) -> str:
    """Narrated and quoted passages in turn, about 27 characters each, in lines of WIDTH that break anywhere.

    Some words are only narrated and some only quoted, as in real prose; with the same words in both, a training as
    short as this one learns no quotes (AUC 0.56), for they tell too little. Where a line ends only counting tells.
    """
    random = np.random.default_rng(seed)
    drawn = [" ".join(random.choice((NARRATED, QUOTED)[k % 2], random.integers(3, 9))) for k in range(passages)]
    text = " ".join(f'"{words}"' if k % 2 else words for k, words in enumerate(drawn))
    return "".join(text[at : at + WIDTH] + "\n" for at in range(0, len(text), WIDTH))


@pytest.mark.slow
def test_a_trained_network_has_a_quote_cell_and_a_column_cell(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(quoted_lines(11_000, seed=0))
    settings = {"cell": "lstm", "num_layers": 1, "hidden_size": 64, "epochs": 8, "precision": "fp32", "device": "cpu"}
    model = charrnn.train(
        tmp_path / "text.txt", run="lines", preset="small", root=tmp_path / "runs", corpora=tmp_path / "corpora",
        **settings,
    )  # fmt: skip
    subject = Subject.of(model.checkpoint, quoted_lines(800, seed=1), "text of another seed")
    cells = inspect("cells", subject, top=1).document["cells"]
    found = {cell["feature"]: cell for cell in cells}
    for name in ("quotes", "column", "newline"):
        print({key: value if isinstance(value, str) else round(value, 4) for key, value in found[name].items()})
    quotes, column = found["quotes"], found["column"]
    assert quotes["score"] >= 0.95
    assert column["score"] >= 0.8
    assert found["newline"]["score"] >= 0.95
    for cell in cells:
        assert cell["null"] < 0.65 if cell["kind"] == "auc" else abs(cell["null"]) < 0.3, cell
    for cell in (quotes, column):
        assert abs(cell["untrained"]) < cell["score"] - 0.2
        assert cell["clamp_bits"] > 0.05
