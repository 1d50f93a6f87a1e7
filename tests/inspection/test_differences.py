"""Where models differ, as a terminal without colour and a page show it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from charrnn.cli.render import render
from charrnn.inspection.differences import SERIES, error_blocks, map_blocks
from charrnn.inspection.html import page
from charrnn.inspection.report import Bars, Chart, Note, Report, Table


def errors(models: int) -> dict[str, Any]:
    """A document's ``errors`` of so many models."""
    row = {
        "characters": 1000,
        "errors": [9] * models,
        "only_best": [1] * (models - 1),
        "only_other": [2] * (models - 1),
    }
    bins = [{"from": 2**k, "to": 2 ** (k + 1) - 1, "closings": n, "probabilities": [0.5] * models}
            for k, n in ((0, 40), (3, 5), (4, 4))]  # fmt: skip
    steps = [
        {"step": "after a <space>", "errors": 6, "share": 0.75},
        {"step": "after a newline", "errors": 0, "share": 0},
    ]
    rest = {"errors": 2, "share": 0.25}
    oracles = [
        {"oracle": "word model", "errors": 6, "share": 0.75, "steps": steps},
        {"oracle": "rest", **rest, "steps": [{"step": "", **rest}]},
    ]
    return {
        "below": 0.5,
        "classes": [{"class": "newline", **row}, {"class": "word start", **row}],
        "closings": [
            {"kind": "brace", "closings": 49, "bins": bins},
            {"kind": "quote", "closings": 1, "bins": bins[2:]},
        ],
        "taxonomy": {"model": 0, "checkpoint": "a", "errors": 8, "training_characters": 77, "oracles": oracles},
        "taxonomy_missing": None,
    }


def names(models: int) -> list[str]:
    return [f"model-{k}" for k in range(models)]


def test_one_table_for_two_models_beside_the_best_and_sums_at_the_end() -> None:
    tables = [block for block in error_blocks(errors(4), names(4)) if isinstance(block, Table)]
    assert tables[0].columns == ["class", "characters", "only model-0", "only model-1", "only model-0", "only model-2"]
    assert tables[1].columns == ["class", "characters", "only model-0", "only model-3"]
    assert tables[0].rows[-1] == ["all", 2000, 2, 4, 2, 4]
    assert tables[2].rows == [["word model", "after a <space>", 6, 0.75], ["rest", "", 2, 0.25]]
    alone = next(block for block in error_blocks(errors(1), names(1)) if isinstance(block, Table))
    assert alone.rows == [["newline", 1000, 9], ["word start", 1000, 9], ["all", 2000, 18]]


def test_means_of_few_closings_are_not_drawn_and_no_more_series_than_colours() -> None:
    (chart,) = (block for block in error_blocks(errors(9), names(9)) if isinstance(block, Chart))
    assert [series.name for series in chart.series] == names(SERIES)
    assert [len(series.x) for series in chart.series] == [2] * SERIES
    assert chart.series[0].x[0] == 1
    assert 8 < chart.series[0].x[1] < 15


def test_where_no_closing_is_drawn_it_is_said() -> None:
    said = "No chart of closing brackets and quotes: the text has fewer than 5 at"
    few = [errors(2)["closings"][1]]
    for closings, expected in ((few, True), ([], True), (errors(2)["closings"], False)):
        blocks = error_blocks(errors(2) | {"closings": closings}, names(2))
        assert any(isinstance(block, Chart) for block in blocks) != expected
        assert any(isinstance(block, Note) and said in block.text for block in blocks) == expected


def test_a_missing_training_text_is_said() -> None:
    found = errors(2) | {"taxonomy": None, "taxonomy_missing": "it is gone"}
    blocks = error_blocks(found, names(2))
    assert not any(isinstance(block, Bars) for block in blocks)
    assert any(isinstance(block, Note) and "it is gone" in block.text for block in blocks)
    assert error_blocks(None, names(2)) == map_blocks(None, names(2)) == []


@pytest.mark.parametrize("models", [1, 2, 6])
def test_60_columns_without_colour_and_the_page_is_safe(models: int) -> None:
    places = [{"checkpoint": name, "x": 0.1 * k, "y": 0.2} for k, name in enumerate(names(models))]
    blocks = map_blocks({"variance": [0.5, 0.25], "models": places}, names(models))
    report = Report("Comparison", [*blocks, *error_blocks(errors(models), names(models))])
    console = Console(file=io.StringIO(), width=60, color_system=None)
    render(console, report)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 60
    assert "\x1b" not in text
    assert "word model   75.0% ██████" in text
    shown = page(report)
    assert "after a &lt;space&gt;" in shown
    assert "75.0%" in shown
    assert all(name in shown for name in names(models))
