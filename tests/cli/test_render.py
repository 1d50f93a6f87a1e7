"""Reports as a narrow terminal and a page lay them out."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from charrnn.cli.render import render
from charrnn.inspection.html import WIDTH, page
from charrnn.inspection.report import Block, Branch, Chart, Painted, Report, Series, Table, Tree, number

CELLS = Table(
    ["cell", "feature", "kind", "score", "mixed labels", "untrained", "bits lost if clamped"],
    [
        ["0.812", "since sentence end", "auc", 0.987, 0.514, 0.944, 0.0073],
        ["1.17", "indentation", "rho", 0.911, -0.048, -0.019, -0.0012],
    ],
)
LIKELIEST = Table(["at", "likeliest"], [[7, ("A 0.12", "T 0.10", "日 0.07", "B 0.07", "S 0.06")], [8, ("x 0.99",)]])


def printed(block: Block, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    render(console, Report("Title", [block]))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


COSTS = Table(
    ["run", "model", "parameters", "bytes", "trained, s", "chars/s"],
    [
        ["attention", "Transformer 4 x 64", 208_578, 841_080, 64.14, 5731],
        ["window", "n-NN 10 characters, 64 units", 46_594, 188_824, 5.595, 72_784],
    ],
)


@pytest.mark.parametrize("width", [40, 55, 60, 80, 120])
@pytest.mark.parametrize("table", [CELLS, COSTS])
def test_no_word_and_no_number_of_a_table_is_broken(table: Table, width: int) -> None:
    """Columns that find no room stand below, each row again with its name."""
    text = printed(table, width)
    assert max(map(len, text.splitlines())) <= width
    shown = [*table.columns, *(number(v) if isinstance(v, int | float) else str(v) for row in table.rows for v in row)]
    assert {word for value in shown for word in value.split()} <= set(text.split())
    pieces = text.count(f"{table.columns[0]} ")
    assert [text.split().count(str(row[0])) for row in table.rows] == [pieces] * 2
    assert pieces == 1 or width < 80


def test_a_table_that_has_room_keeps_its_headings_on_one_line() -> None:
    block = Table(["layer", "gate", "shut (< 0.1)", "open (> 0.9)", "mean"], [[0, "f (forget)", 0.3668, 0.4, 0.519]])
    heading = printed(block, 60).splitlines()[1]
    assert re.split(" {2,}", heading.strip()) == list(block.columns)


def test_names_too_long_for_their_column_fold_and_numbers_do_not() -> None:
    long = "a-run-of-a-very-long-name-" * 3
    text = printed(Table(["run", f"only {long}", "bytes"], [[long, 12, 13_324_314]]), 60)
    assert max(map(len, text.splitlines())) <= 60
    assert "13,324,314" in text


@pytest.mark.parametrize("width", [20, 60])
def test_items_of_a_cell_stay_whole(width: int) -> None:
    lines = printed(LIKELIEST, width).splitlines()
    items = [item for line in lines[3:] for item in re.split(" {2,}", line.strip()) if item]
    assert items == ["7", *LIKELIEST.rows[0][1], "8", "x 0.99"]
    assert len(lines) == (8 if width == 20 else 6)


def test_a_page_has_items_that_stay_whole_and_headings_above_their_numbers() -> None:
    html = page(Report("Title", [LIKELIEST, CELLS]))
    assert "<bdi>A 0.12</bdi> <bdi>T 0.10</bdi>" in html
    assert '<th class="n">at</th><th>likeliest</th>' in html
    assert '<th class="n">score</th>' in html


def test_a_page_has_the_values_of_a_chart_as_a_table_too() -> None:
    """The pointer alone reaches a title in a picture; a table that opens is there for the keyboard and the ear."""
    series = [Series("a", [1.0, 12345.0], [0.5, -0.0]), Series("b", [3.0], [0.25], names=["1.37"])]
    html = page(Report("Title", [Chart("Points", "x", "y", series)]))
    (table,) = re.findall(r"<details><summary>.*?</summary>(.*?)</details>", html, re.S)
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>.*?</tr>", table)]
    assert rows == [["point", "x", "y"], ["a", "1", "0.5"], ["a", "12,345", "0"], ["1.37", "3", "0.25"]]
    assert re.findall(r"<title>(.*?)</title>", html)[1:] == ["a (1, 0.5)", "a (12,345, 0)", "1.37 (3, 0.25)"]


def test_names_of_series_are_beside_the_frame_and_labels_within_it() -> None:
    name = "a-run-of-a-long-name, clipped at 1"
    lines = [Series(name, [1.0, 2.0], [1.0, 2.0]), Series("日本", [1.0, 2.0], [2.0, 1.0])]
    html = page(Report("Title", [Chart("Lines", "x", "y", lines, "lines")]))
    drawn = html[html.index("<svg") : html.index("</svg>")]
    assert name not in re.sub(r"<title>.*?</title>", "", drawn)
    assert f"●</b> {name}</bdi>" in html
    labelled = Series("models", [1.0, 1e6], [1.0, 2.0], ["a-model-of-a-long-name", "日本" * 6])
    html = page(Report("Title", [Chart("Points", "x", "y", [labelled], log_x=True)]))
    middles = [float(x) for x in re.findall(r'class="mark" x="([\d.]+)"', html)]
    assert [n for n, x in zip((22, 24), middles, strict=True) if not 4 * n <= x <= WIDTH - 4 * n] == []
    assert ">1,000,000</text>" in html


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_tree_of_any_depth_has_every_branch_and_breaks_none(width: int) -> None:
    root, texts = Branch("end", "0.1"), ["end  0.1"]
    for n in range(60):
        side = Branch(f"side{n}", "0.0123, dropped")
        root = Branch(f"trunk{n}", "0.5", n % 2 == 0, [root, side])
        texts += [f"trunk{n}  0.5", f"side{n}  0.0123, dropped"]
    lines = printed(Tree("Tree", root), width).splitlines()[2:]
    assert max(map(len, lines)) <= width
    goes_on = re.findall(r"(\w+)  0.5  goes on at \((\d+)\)", "\n".join(lines))
    assert goes_on == [(trunk, n) for n, trunk in re.findall(r"^\((\d+)\) [* ]*(\w+)", "\n".join(lines), re.M)]
    whole = [line.lstrip("│├└─ *") for line in lines if line and not line.startswith("(")]
    assert sorted(line.split("  goes on")[0] for line in whole) == sorted(texts)


def drawn(points: Series, width: int) -> tuple[list[str], list[str]]:
    """The words in the frame of a chart in a terminal, and the lines below it."""
    lines = printed(Chart("Points", "x", "y", [points]), width).splitlines()
    end = next(k for k, line in enumerate(lines) if "└" in line)
    return [word for line in lines[2:end] for word in line.split("│")[1].split()], lines[end + 2 :]


PLACES = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=12)


@given(PLACES, st.sampled_from([40, 60, 100]), st.integers(1, 9))
@example([(0, 0), (50, 50), (52, 50), (99, 99)], 60, 5)
@example([(1, 1)] * 3, 60, 1)
@example([(0, 0)] * 4, 40, 7)
def test_names_in_a_chart_are_whole_or_have_a_letter_each(
    places: list[tuple[int, int]], width: int, length: int
) -> None:
    names = [f"{'model-日本'[:length]}{k}" for k in range(len(places))]
    words, below = drawn(Series("models", *map(list, zip(*places, strict=True)), names), width)
    if not below:
        assert sorted(words) == sorted(names)
        return
    # Those at one place may need more than a line.
    items = re.split(r"\s+(?=[a-z] )", "\n" + "\n".join(below))[1:]
    told = dict(" ".join(item.split()).split(" ", 1) for item in items)
    assert sorted("".join(words)) == sorted(told)
    assert sorted(name for stand in told.values() for name in stand.split(", ")) == sorted(names)


def test_of_a_crowd_those_that_find_room_are_drawn_and_the_others_counted() -> None:
    random = np.random.default_rng(0)
    symbols = [chr(0x100 + k) for k in range(200)]
    words, below = drawn(Series("all", *random.normal(size=(2, 200)).tolist(), symbols), 60)
    seen = "".join(words)
    assert len(set(seen)) == len(seen) > 150
    assert set(seen) <= set(symbols)
    assert below == [f"{200 - len(seen)} have no room here"]


def test_a_painted_text_in_a_terminal_without_colour_has_digits() -> None:
    painted = Report("Title", [Painted("ab", [0.0, 8.0], 0.0, 8.0, "bits")])
    for settings, expected in (({"no_color": True}, ["ab", " 9"]), ({"no_color": False}, ["a\x1b"])):
        console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", **settings)
        render(console, painted)
        lines = console.file.getvalue().splitlines()[1:]  # type: ignore[attr-defined]
        assert all(line.startswith(start) for line, start in zip(lines, expected, strict=False))
        assert ("1 to 9 is weak to strong" in lines[-1]) == settings["no_color"]
