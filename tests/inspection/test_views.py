"""What every view reports: plain JSON, drawable blocks; and what some of them must find."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from charrnn.checkpoint import Checkpoint
from charrnn.errors import TextError, UsageError
from charrnn.evaluation.evaluator import evaluate
from charrnn.inspection import VIEWS, inspect
from charrnn.inspection.activations import activations
from charrnn.inspection.axes import axis_of
from charrnn.inspection.beam import Node, search, verdict
from charrnn.inspection.cells import clamp_bits
from charrnn.inspection.embeddings import cosines, principal_components
from charrnn.inspection.html import page
from charrnn.inspection.report import Branch, Chart, Note, Painted, Report, Series, Table, Tree, shown
from charrnn.inspection.subject import Subject

Model = Callable[..., Checkpoint]
ARGUMENTS = {"cell": ("1.3",), "beam": ("He <b>",)}
ALONE = [name for name in VIEWS if name != "novelty"]  # which needs a corpus: see tests/cli/test_inspect.py


@pytest.mark.parametrize("unit", ["char", "byte"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("name", ALONE)
def test_every_view_gives_plain_json_and_a_page(model: Model, text: str, name: str, cell: str, unit: str) -> None:
    subject = Subject.of(model(cell, unit=unit), text + "é\x1b[31m", "text")
    if (name, cell) == ("gates", "rnn"):
        with pytest.raises(UsageError, match="no gates"):
            inspect(name, subject)
        return
    report = inspect(name, subject, *ARGUMENTS.get(name, ()))
    assert report.document["schema"] == 1
    assert json.loads(json.dumps(report.document, allow_nan=False)) == report.document
    html = page(report)
    assert "<b>bold" not in html
    assert "\x1b" not in html
    assert len(html.encode()) < 2_000_000


@pytest.mark.parametrize("name", [name for name in ALONE if VIEWS[name].length])
@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_short_text_is_refused_or_reported(model: Model, text: str, name: str, length: int) -> None:
    subject = Subject.of(model(), text[:length])
    if length == 0 or name == "cells" or (name == "gradients" and length == 1):
        with pytest.raises(TextError, match=r"^text: has \d+ characters, this view needs \d+"):
            inspect(name, subject, *ARGUMENTS.get(name, ()))
    else:
        json.dumps(inspect(name, subject, *ARGUMENTS.get(name, ())).document, allow_nan=False)


def test_surprisal_adds_up_to_what_eval_says(model: Model, text: str) -> None:
    checkpoint = model()
    subject = Subject.of(checkpoint, text + "ж")  # one character that it has never seen
    figures = evaluate(checkpoint, subject.ids, len((text + "ж").encode()))
    report = inspect("text", subject).document
    assert report["bits_per_char"] == pytest.approx(figures.bits_per_char, abs=1e-5)
    assert all(len(c["likeliest"]) == 5 for c in report["characters"])
    first = report["characters"][0]
    assert sorted((c["probability"] for c in first["likeliest"]), reverse=True) == [
        c["probability"] for c in first["likeliest"]
    ]


def test_what_stands_before_a_surprising_byte_is_short_and_whole(model: Model) -> None:
    report = inspect("text", Subject.of(model(unit="byte"), "日本 " * 20))
    table = next(block for block in report.blocks if isinstance(block, Table))
    for _, before, *_ in table.rows:
        assert isinstance(before, str)
        assert len(before) <= 12
        assert re.fullmatch(r"(\\x[0-9a-f]{2}|␣)*", before)


def test_cells_have_the_fields_of_the_contract(model: Model, text: str) -> None:
    cells = inspect("cells", Subject.of(model(), text), feature=("vowel=[aeiou]",), top=2).document["cells"]
    fields = {"layer", "unit", "feature", "kind", "score", "null", "untrained", "clamp_bits"}
    assert cells
    assert all(set(cell) == fields and cell["kind"] in ("auc", "rho") for cell in cells)
    assert {"quotes", "column", "vowel"} <= {cell["feature"] for cell in cells}
    strengths = [2 * c["score"] - 1 if c["kind"] == "auc" else c["score"] for c in cells]
    assert strengths == sorted(strengths, reverse=True)


def test_a_cell_planted_in_the_weights_ranks_first(model: Model, text: str) -> None:
    """A unit that is sure of nothing but whether the character just read is a vowel."""
    checkpoint = model("rnn")
    E, unit = checkpoint.weights["embedding.weight"], 5
    E[:, 0] = [5.0 if chr(c) in "aeiou" else -5.0 for c in checkpoint.vocabulary.codes] + [0.0]
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        checkpoint.weights[f"layers.0.{name}"][unit] = 0
    checkpoint.weights["layers.0.weight_ih_l0"][:, 0] = np.eye(12)[unit]
    best = inspect("cells", Subject.of(checkpoint, text), feature=("vowel=[aeiou]",)).document["cells"]
    planted = next(cell for cell in best if cell["feature"] == "vowel")
    assert (planted["layer"], planted["unit"], planted["score"]) == (0, unit, 1.0)
    assert best[0] == planted
    assert planted["null"] < 0.65
    assert planted["untrained"] < 1


def test_clamping_a_unit_that_nothing_reads_costs_nothing(model: Model, text: str) -> None:
    checkpoint = model("gru")
    checkpoint.weights["head.weight"][:, 4] = 0
    checkpoint.weights["layers.1.weight_hh_l0"][:, 4] = 0
    checkpoint.weights["layers.1.weight_hh_l0"][[4, 16, 28]] = 0
    ids = checkpoint.vocabulary.encode(text)
    bits = clamp_bits(checkpoint, ids, activations(checkpoint, ids, "h"), [(1, 4), (1, 5)])
    assert bits[1, 4] == pytest.approx(0, abs=1e-6)
    assert abs(bits[1, 5]) > 1e-4


def test_gates_of_extreme_biases_are_open_or_shut(model: Model, text: str) -> None:
    checkpoint = model("lstm")
    bias = checkpoint.weights["layers.0.bias_ih_l0"]
    bias[:12], bias[12:24] = -100, 100  # input shut, forget open
    gates = {(g["layer"], g["gate"]): g for g in inspect("gates", Subject.of(checkpoint, text)).document["gates"]}
    assert gates[0, "i"]["left"] == [1.0] * 12
    assert gates[0, "f"]["right"] == [1.0] * 12
    assert gates[0, "f"]["left"] == [0.0] * 12


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_gates_name_their_units_as_inspect_cell_takes_them(model: Model, text: str, cell: str) -> None:
    checkpoint = model(cell)
    bias = checkpoint.weights["layers.1.bias_ih_l0"]
    bias[3], bias[7] = 100, -100  # of the first gate in layer 1
    report = inspect("gates", Subject.of(checkpoint, text))
    shares = {
        (gate["name"], f"{gate['layer']}.{unit}"): (gate["right"][unit], gate["left"][unit])
        for gate in report.document["gates"]
        for unit in range(12)
    }
    charts = [block for block in report.blocks if isinstance(block, Chart)]
    points = {
        (chart.title.split()[0], series.called(n)): (series.x[n], series.y[n])
        for chart in charts
        for series in chart.series
        for n in range(len(series.x))
    }
    assert points == shares
    tables = [block for block in report.blocks if isinstance(block, Table) and "longest" in block.title]
    for chart, table in zip(charts, tables, strict=True):
        gate = chart.title.split()[0]
        for name, share in ((0, 1), (2, 3)):
            assert [row[share] for row in table.rows] == [
                shares[gate, str(row[name])][name // 2] if row[name] else None for row in table.rows
            ]
            most = sorted((value[name // 2] for (of, _), value in shares.items() if of == gate), reverse=True)
            assert [row[share] or 0 for row in table.rows] == most[: len(table.rows)]
    first, *_ = tables[0].rows
    assert list(first) == ["1.3", 1.0, "1.7", 1.0]
    address = re.findall(r"inspect cell ([\d.]+)", " ".join(b.text for b in report.blocks if isinstance(b, Note)))
    assert inspect("cell", Subject.of(checkpoint, text), *address).title == f"Cell {address[0]}"


@pytest.mark.parametrize("address", ["", "3", "a.b", "2.0", "0.12", "-1.0", "0.1.2", "[bold]"])
def test_a_cell_that_is_not_there_is_one_line(model: Model, text: str, address: str) -> None:
    with pytest.raises(UsageError) as caught:
        inspect("cell", Subject.of(model(), text), address)
    assert "\n" not in str(caught.value)


def test_too_short_a_text_says_how_much_is_needed(model: Model) -> None:
    with pytest.raises(TextError, match="200"):
        inspect("cells", Subject.of(model(), "short"))


class Garden:
    """The garden path: "a" is likelier at first, but what follows "b" is certain."""

    symbols = 4

    def select(self, state: Any, rows: np.ndarray) -> Any:
        return tuple(part[:, rows] for part in state)

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        table = np.log(np.array([[0.34, 0.33, 0.33, 1e-9], [1e-9, 1e-9, 1.0, 1e-9], [0.3, 0.3, 0.4, 1e-9]]))
        return table[ids].astype(np.float32), state


def test_a_beam_finds_what_greedy_misses() -> None:
    first = np.log(np.array([[0.5, 0.4, 0.05, 0.05]], np.float32))
    state = (np.zeros((1, 1, 1), np.float32),)
    garden: Any = Garden()
    greedy = search(garden, first, state, 1, 2, unknown=3)
    beams = search(garden, first, state, 2, 2, unknown=3)
    assert [node.symbol for node in greedy] == [-1, 0, 0]
    best = beams[-2]
    assert (beams[best.parent or 0].symbol, best.symbol) == (1, 2)
    assert best.total > greedy[-1].total
    assert math.exp(best.total) == pytest.approx(0.4 / 0.95, rel=1e-5)  # without unknown's share


def test_beam_document_is_a_tree(model: Model) -> None:
    document = inspect("beam", Subject.of(model(), ""), "He", width=3, depth=5).document
    nodes = document["nodes"]
    assert nodes[0]["parent"] is None
    assert all(node["parent"] < node["id"] for node in nodes[1:])
    assert sum(node["best"] for node in nodes) == len(document["beam"]["text"]) == 5
    steps = sum(map(math.log, document["beam"]["steps"]))
    assert steps == pytest.approx(document["beam"]["log_probability"])


def test_the_same_text_is_not_dropped_by_a_beam_that_finds_it_with_other_noise() -> None:
    def text(symbols: str, total: float) -> list[Node]:
        return [Node(n, n - 1, ord(symbol), total / len(symbols), total) for n, symbol in enumerate(symbols, 1)]

    assert verdict(text("ab", -4.0), text("ab", -4.0 + 3e-6)) == "Both find the same text here."
    assert verdict(text("ab", -4.0), text("ac", -4.0 + 3e-6)).endswith("equally probable.")
    assert verdict(text("ab", -4.0), text("ac", -4.7)).startswith("The beam's text is 2.01 times")
    assert verdict(text("ab", -4.7), text("ac", -4.0)).startswith("The greedy text is 2.01 times")


@pytest.mark.parametrize("width", [1, 2, 8])
def test_the_greedy_path_is_whole_in_the_tree_and_step_by_step(model: Model, width: int) -> None:
    checkpoint = model()
    for name in ("embedding.weight", "layers.0.weight_ih_l0", "layers.1.weight_ih_l0", "head.weight"):
        checkpoint.weights[name] *= 4  # so that what is read matters, and what is likely first may lead astray
    dropped = 0
    for prompt in ("He", "saw", "12 of", "(", "went."):
        report = inspect("beam", Subject.of(checkpoint, ""), prompt, width=width, depth=8)
        greedy, (tree,) = report.document["greedy"], [block for block in report.blocks if isinstance(block, Tree)]
        found, branch = "", tree.root
        while following := [child for child in branch.children if "greedy" in child.remark]:
            (branch,) = following
            found += branch.text
            dropped += "greedy, dropped" in branch.remark
        assert found == shown(greedy["text"])
        kept = "".join(node["character"] for node in report.document["nodes"] if node["greedy"])
        assert greedy["text"].startswith(kept)
        assert (kept == greedy["text"]) == ("alone" not in branch.remark)
        steps = next(block for block in report.blocks if isinstance(block, Table) and "step" in block.columns)
        for search_, at in (("beam", 1), ("greedy", 4)):
            outcome = report.document[search_]
            assert "".join(str(row[at]) for row in steps.rows) == shown(outcome["text"])
            assert [row[at + 1] for row in steps.rows] == outcome["steps"]
            assert steps.rows[-1][at + 2] == outcome["log_probability"]
    assert (dropped > 0) == (width > 1)


def test_principal_components_of_a_plane() -> None:
    random = np.random.default_rng(0)
    plane = random.normal(size=(30, 2)) * [3, 1] @ np.linalg.qr(random.normal(size=(6, 2)))[0].T + 5
    places, shares = principal_components(plane)
    distance = np.linalg.norm(plane[:, None] - plane[None], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(places[:, None] - places[None], axis=-1), distance, atol=1e-9)
    assert shares.sum() == pytest.approx(1)
    assert cosines(np.array([[1.0, 0], [2, 2], [0, 0]]))[0].tolist() == pytest.approx([1, math.sqrt(0.5), 0])


def test_nothing_in_a_page_is_obeyed() -> None:
    bad = "</title><script>alert(1)</script>\x1b[0m[bold]\"'&"
    blocks = [
        Note(bad),
        Painted(list(bad), [0.5] * len(bad), 0, 1, bad, [bad] * len(bad)),
        Table([bad], [[bad]], bad),
        Chart(bad, bad, bad, [Series(bad, [1.0], [2.0]), Series(bad, [1.0], [2.0], [bad])]),
        Tree(bad, Branch(bad, bad, True, [Branch(bad, bad)])),
    ]
    html = page(Report(bad, blocks), bad)
    assert "<script" not in html
    assert html.count("</title>") == 1 + 2  # the page's and the two marks'
    assert "http" not in html
    assert "src=" not in html


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [[], [0.0], [1.0, 1.0], [-3.0, 8.0], [1e-30, 1e5], [2e-9, 2.1e-9]])
def test_axes_hold_their_values(values: list[float], log: bool) -> None:
    axis = axis_of(values, log)
    assert 1 <= len(axis.ticks) <= 9
    assert all(-1e-6 <= axis.at(value) <= 1 + 1e-6 for value in values if axis.holds(value))
