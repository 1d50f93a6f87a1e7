"""What a page leaves out of blocks that are too large for it, so that a file stays small whatever it is of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from charrnn.inspection.report import Bars, Block, Branch, Chart, Note, Painted, Series, Table, Tree


def share(sizes: Sequence[int], budget: int) -> int:
    """The most that one of several may take so that all fit in a budget: small ones stay whole, large ones get the
    same.

    >>> share([10, 500, 300], 1000), share([10, 500, 300], 410)
    (500, 200)
    """
    for n, size in enumerate(sorted(sizes)):
        equal = budget // (len(sizes) - n)
        if size > equal:
            return equal
        budget -= size
    return max(sizes, default=0)


def parts(block: Block) -> tuple[int, str]:
    """How many parts a block has that can be left out, and what they are."""
    match block:
        case Note():
            return 0, "paragraphs"
        case Painted():
            return len(block.symbols), "characters"
        case Table():
            return len(block.rows), "rows"
        case Chart():
            return sum(len(series.x) for series in block.series), "points"
        case Bars():
            return len(block.shares), "bars"
        case Tree():
            return len(_branches(block.root)), "branches"


def cut(block: Block, most: int) -> Block:
    """So many parts of a block: the first characters, rows and bars; points and branches from all over."""
    match block:
        case Note():
            return block
        case Painted():
            first = {name: getattr(block, name)[:most] for name in ("symbols", "values", "hovers")}
            return dataclasses.replace(block, **first)
        case Table():
            return dataclasses.replace(block, rows=block.rows[:most])
        case Chart():
            total, _ = parts(block)
            series = [_thinned(each, most * len(each.x) // max(1, total), block.kind) for each in block.series]
            return dataclasses.replace(block, series=series)
        case Bars():
            return dataclasses.replace(block, names=block.names[:most], shares=block.shares[:most])
        case Tree():
            # The best path stays whole, and else what is deep goes first.
            ranked = sorted(_branches(block.root), key=lambda branch: not branch.best)
            return dataclasses.replace(block, root=_pruned(block.root, {id(branch) for branch in ranked[:most]}))


def _thinned(series: Series, most: int, kind: str) -> Series:
    """So many points, evenly: of a line the lowest and the highest of each stretch, so that it keeps its peaks."""
    n = len(series.x)
    if n <= most:
        return series
    if kind == "points":
        kept = [k * n // most for k in range(most)]
    else:
        count, at = most // 2, series.y.__getitem__
        stretches = [range(k * n // count, (k + 1) * n // count) for k in range(count)]
        kept = [k for stretch in stretches for k in sorted({min(stretch, key=at), max(stretch, key=at)})]
    chosen: dict[str, Any] = {
        name: [part[k] for k in kept] for name in ("x", "y", "labels", "names") if (part := getattr(series, name))
    }
    return dataclasses.replace(series, **chosen)


def _branches(root: Branch) -> list[Branch]:
    """All of a tree, from the root down, level by level."""
    found = [root]
    for branch in found:
        found += branch.children
    return found


def _pruned(branch: Branch, kept: set[int]) -> Branch:
    return dataclasses.replace(
        branch, children=[_pruned(child, kept) for child in branch.children if id(child) in kept]
    )
