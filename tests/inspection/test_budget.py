"""Pages stay small whatever they are of, and say what they leave out."""

from __future__ import annotations

import re

import numpy as np
import pytest

from charrnn.inspection.budget import cut, share
from charrnn.inspection.html import page
from charrnn.inspection.report import Bars, Block, Branch, Chart, Note, Painted, Report, Series, Table, Tree

N = 60_000
NUMBERS = [float(n) for n in range(N)]
#: Blocks that are too large, how a page draws one of their parts, and what else of theirs it draws so.
LARGE: dict[str, tuple[Block, str, int]] = {
    "characters": (Painted(["x"] * N, [0.5] * N, 0, 1, "scale", ["y" * 50] * N), "<span", 0),
    "rows": (Table(["a", "b"], [[k, "<b>" * 10] for k in range(N)]), "<tr>", 1),
    "points": (Chart("Points", "x", "y", [Series("&", NUMBERS, NUMBERS)]), "<circle", 0),
    "bars": (Bars("Bars", ["name"] * N, [0.5] * N), "<tr>", 0),
    "branches": (Tree("Tree", Branch("root", "", children=[Branch("<b>", "1, dropped") for _ in range(N)])), "<li>", 0),
}


@pytest.mark.parametrize("what", LARGE)
def test_a_page_of_one_large_block_is_small_and_counts_what_it_leaves_out(what: str) -> None:
    block, part, more = LARGE[what]
    html = page(Report("Large", [block]))
    assert 1_800_000 < len(html.encode()) < 2_000_000
    (said,) = re.findall(rf"([\d,]+) of ([\d,]+) {what} left out here", html)
    left, whole = (int(number.replace(",", "")) for number in said)
    assert whole == N + (what == "branches")
    assert html.count(part) - more == whole - left


def test_large_blocks_share_a_page_and_small_ones_stay_whole() -> None:
    small = Table(["small"], [[f"row {k}"] for k in range(100)])
    html = page(Report("All", [Note("note"), *(block for block, *_ in LARGE.values()), small]))
    assert len(html.encode()) < 2_000_000
    assert re.findall(r"(\w+) left out here", html) == list(LARGE)
    assert all(f"row {k}<" in html for k in range(100))


def test_a_line_keeps_its_peaks_and_a_tree_its_best_path() -> None:
    y = np.random.default_rng(0).normal(size=5000)
    y[[0, 1234, 4999]] = 50, -70, 90
    lines = Chart("Lines", "x", "y", [Series("line", NUMBERS[:5000], y.tolist())], "lines")
    thin = cut(lines, 101)
    assert isinstance(thin, Chart)
    (series,) = thin.series
    assert 50 <= len(series.x) <= 100
    assert list(series.x) == sorted(series.x)
    assert {50.0, -70.0, 90.0} <= set(series.y)
    assert [y[int(x)] for x in series.x] == list(series.y)

    root = Branch("best", "", True)
    for _ in range(30):
        root = Branch("best", "", True, [Branch("side", "", children=[Branch("deep", "")]), root])
    tree = cut(Tree("Tree", root), 40)
    assert isinstance(tree, Tree)
    text = page(Report("", [tree]))
    assert (text.count(">best<"), text.count(">side"), text.count(">deep")) == (31, 5, 4)  # level by level


def test_shares_fit_and_none_could_be_larger() -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        sizes = random.integers(0, 100, random.integers(1, 8)).tolist()
        budget = int(random.integers(0, 400))
        most = share(sizes, budget)
        if sum(sizes) > budget:
            assert sum(min(size, most) for size in sizes) <= budget < sum(min(size, most + 1) for size in sizes)
        else:
            assert most == max(sizes)
