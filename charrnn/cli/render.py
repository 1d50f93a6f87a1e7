"""Reports in a terminal. Colour helps and is never needed: without it, strengths are digits under the characters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from string import ascii_lowercase

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text
from rich.tree import Tree as RichTree

from charrnn.inspection.axes import axis_of, label
from charrnn.inspection.report import (
    Bars,
    Block,
    Branch,
    Chart,
    Note,
    Painted,
    Report,
    Table,
    Tree,
    Value,
    glyph,
    number,
)
from charrnn.visible import show

MARKS = "ox+*#@"
LEVELS = 9
#: Columns by which a level of a tree is indented, and those that are left to its texts.
GUIDE, ROOM = 4, 32
#: Of a word in a table, so much stands on one line; only names of runs are longer.
LONGEST_WORD = 12


def render(console: Console, report: Report) -> None:
    """Print a report."""
    console.print(Text(show(report.title), "bold"))
    for block in report.blocks:
        _block(console, block)


def _block(console: Console, block: Block) -> None:
    match block:
        case Note():
            console.print(Text(show(block.text)))
        case Painted():
            _painted(console, block)
        case Table():
            _table(console, block)
        case Chart():
            _chart(console, block)
        case Bars():
            _bars(console, block)
        case Tree():
            _tree(console, block)


def _table(console: Console, block: Table) -> None:
    headings = [Text(show(column)) for column in block.columns]
    rows = [[_value(value) for value in row] for row in block.rows]
    columns = [[row[k] for row in rows] for k in range(len(headings))]
    numeric = [block.numeric(k) for k in range(len(headings))]
    least, widest = [], []
    for heading, cells, whole in zip(headings, columns, numeric, strict=True):
        sizes = [Measurement.get(console, console.options, cell) for cell in (heading, *cells)]
        widest.append(max(size.maximum for size in sizes))
        # Of what is not to be broken: words, and numbers.
        words = min(LONGEST_WORD, max(size.minimum for size in sizes))
        least.append(max([words, *(size.maximum for size in sizes[1:])]) if whole else words)
    title = Text(show(block.title)) if block.title else None
    for chosen in _pieces(least, console.width):
        table = RichTable(box=SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), title=title,
                          title_justify="left")  # fmt: skip
        widths = _shared([least[k] for k in chosen], [widest[k] for k in chosen], console.width)
        fits = _wide(widths) <= console.width
        for k, width in zip(chosen, widths, strict=True):
            # Where there is no room even so, numbers stay whole and words give way.
            justify: JustifyMethod = "right" if numeric[k] else "left"
            table.add_column(headings[k], justify=justify, overflow="fold", width=width if fits or numeric[k] else None)
        for row in rows:
            table.add_row(*(row[k] for k in chosen))
        console.print(table)
        console.print()
        title = None


def _pieces(widths: Sequence[int], room: int) -> list[list[int]]:
    """The columns of each of the tables that a table too wide is cut into; the first column is in all of them.

    >>> _pieces([4, 10, 10, 10], 30), _pieces([4, 10, 50, 10], 30)
    ([[0, 1, 2], [0, 3]], [[0, 1], [0, 2], [0, 3]])
    """
    pieces = [[0]]
    for k in range(1, len(widths)):
        if len(pieces[-1]) > 1 and _wide([widths[j] for j in (*pieces[-1], k)]) > room:
            pieces.append([0])
        pieces[-1].append(k)
    return pieces


def _shared(least: Sequence[int], widest: Sequence[int], room: int) -> list[int]:
    """Widths of columns: what each needs, and of the room that is left equal parts, but no more than it can use.

    >>> _shared([4, 5, 5], [4, 7, 20], 30)
    [4, 7, 15]
    """
    widths, spare = list(least), max(0, room - _wide(least))
    columns = sorted(range(len(least)), key=lambda k: widest[k] - least[k])
    for left, k in zip(range(len(columns), 0, -1), columns, strict=True):
        more = min(widest[k] - least[k], spare // left)
        widths[k] += more
        spare -= more
    return widths


def _wide(widths: Sequence[int]) -> int:
    """How wide a table of such columns is, with two places between them."""
    return sum(widths) + 2 * (len(widths) - 1)


def _value(value: Value) -> Text | _Items:
    if isinstance(value, tuple):
        return _Items(value)
    return Text(show(value) if isinstance(value, str) else "" if value is None else number(value))


class _Items:
    """The items of a cell, as many on a line as there is room for."""

    def __init__(self, items: Sequence[str]) -> None:
        self.items = [show(item) for item in items]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(max(map(cell_len, self.items), default=0), cell_len("  ".join(self.items)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        lines: list[str] = []
        for item in self.items:
            if lines and cell_len(lines[-1]) + 2 + cell_len(item) <= options.max_width:
                lines[-1] += f"  {item}"
            else:
                lines.append(item)
        yield Text("\n".join(lines))


def _bars(console: Console, block: Bars) -> None:
    console.print(Text(show(block.title), "bold"))
    names = [show(name) for name in block.names]
    widest = max(map(cell_len, names), default=0)
    room = max(10, min(console.width - widest - 10, 60))
    for name, share in zip(names, block.shares, strict=True):
        bar = "█" * round(room * share)
        console.print(Text(f"{name}{' ' * (widest - cell_len(name))} {share:7.1%} {bar}".rstrip(), no_wrap=True))


def _tree(console: Console, block: Tree) -> None:
    """Branches have room for their texts: what lies deeper follows below, as a tree of its own with a number."""
    console.print(Text(show(block.title), "bold"))
    levels = max(1, (console.width - ROOM) // GUIDE)
    pieces = [block.root]
    for n, piece in enumerate(pieces):  # to which each adds what it has no room for
        label = Text(f"\n({n}) ", "dim").append(_label(piece)) if n else _label(piece)
        console.print(_grown(piece, RichTree(label), levels, pieces))


def _grown(branch: Branch, tree: RichTree, levels: int, pieces: list[Branch]) -> RichTree:
    for child in branch.children:
        if levels == 1 and child.children:
            tree.add(_label(child).append(f"  goes on at ({len(pieces)})", "dim"))
            pieces.append(child)
        else:
            _grown(child, tree.add(_label(child)), levels - 1, pieces)
    return tree


def _label(branch: Branch) -> Text:
    said = Text(("* " if branch.best else "") + show(branch.text), "bold" if branch.best else "")
    return said.append(f"  {branch.remark}", "dim")


def _rows(block: Painted, width: int) -> Iterator[list[tuple[str, int]]]:
    """The text as rows of visible characters with their strength, −9 to 9, as wide as the screen."""
    row: list[tuple[str, int]] = []
    used = 0
    for symbol, value in zip(block.symbols, block.values, strict=True):
        sign = glyph(symbol)
        if used + cell_len(sign) > width:
            yield row
            row, used = [], 0
        row.append((sign, round(block.level(value) * LEVELS)))
        used += cell_len(sign)
        if symbol == "\n":
            yield row
            row, used = [], 0
    if row:
        yield row


def _painted(console: Console, block: Painted) -> None:
    coloured = console.color_system is not None and not console.no_color
    for row in _rows(block, console.width):
        text = Text(no_wrap=True)
        for sign, level in row:
            text.append(sign, _style(level) if coloured else "")
        console.print(text)
        if not coloured and any(level for _, level in row):
            console.print(Text("".join(_digit(level).ljust(cell_len(sign)) for sign, level in row), no_wrap=True))
    scale = f"{block.scale}: {label(block.low)} to {label(block.high)}"
    if not coloured:
        scale += f"; below the text, 1 to {LEVELS} is weak to strong" + ("; a to i: negative" if block.low < 0 else "")
    console.print(Text(scale, "dim"))


def _digit(level: int) -> str:
    """``" "`` for none, a digit for a strength, a letter for a negative one."""
    return " " if level == 0 else str(level) if level > 0 else "abcdefghi"[-level - 1]


def _style(level: int) -> str:
    """Black on a background that goes from pale to warm, or to blue for negative strengths."""
    if level == 0:
        return ""
    fade = 230 - 20 * abs(level)
    return (
        f"#000000 on #ff{fade:02x}{fade * 2 // 3:02x}"
        if level > 0
        else f"#000000 on #{fade:02x}{(fade + 255) // 2:02x}ff"
    )


def _chart(console: Console, chart: Chart) -> None:
    width, height = max(20, min(console.width - 12, 72)), 18
    across = axis_of([*chart.limits, *(x for s in chart.series for x in s.x)], chart.log_x)
    up = axis_of([*chart.limits, *(y for s in chart.series for y in s.y)], chart.log_y)
    grid = [[" "] * width for _ in range(height)]
    legend: list[str] = []
    for k, series in enumerate(chart.series):
        places: dict[tuple[int, int], list[str]] = {}
        for n, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            if across.holds(x) and up.holds(y):
                place = round((1 - up.at(y)) * (height - 1)), round(across.at(x) * (width - 1))
                places.setdefault(place, []).append(show(series.labels[n]) if series.labels else MARKS[k % len(MARKS)])
        if series.labels:
            legend += _names(grid, places)
        else:
            for (row, column), (mark, *_) in places.items():
                grid[row][column] = mark
    console.print(Text(f"{chart.title}: {chart.y_label} (up) against {chart.x_label}", "bold"))
    ends = {0: f"{up.high:.3g}", height - 1: f"{up.low:.3g}"}
    for k, line in enumerate(grid):
        console.print(Text(f"{ends.get(k, ''):>9} │{''.join(line)}".rstrip(), no_wrap=True))
    low, high = f"{across.low:.3g}", f"{across.high:.3g}"
    console.print(Text(f"{'':9} └{'─' * width}", no_wrap=True))
    console.print(Text(f"{'':11}{low}{high:>{width - len(low)}}", no_wrap=True))
    if len(chart.series) > 1:
        console.print(Text("   ".join(f"{MARKS[k % len(MARKS)]} {show(s.name)}" for k, s in enumerate(chart.series))))
    if legend:
        console.print(_Items(legend))


def _names(grid: list[list[str]], places: dict[tuple[int, int], list[str]]) -> list[str]:
    """Put names at their places, (row, column), if they all find room; else letters, or in a crowd as many as do.

    Returns:
        what must be said below.
    """
    names = [name for here in places.values() for name in here]
    gap = int(any(len(name) > 1 for name in names))
    free = [line.copy() for line in grid]
    left = sum(len(here) - _write(free[row], column, here[0], gap) for (row, column), here in places.items())
    if left and len(names) <= len(ascii_lowercase):
        for letter, (row, column) in zip(ascii_lowercase, places, strict=False):
            grid[row][column] = letter
        return [f"{letter} {', '.join(here)}" for letter, here in zip(ascii_lowercase, places.values(), strict=False)]
    grid[:] = free
    return [f"{left:,} have no room here"] if left else []


def _write(line: list[str], column: int, name: str, gap: int) -> bool:
    """Put a name on a line of the grid, as far left as it must begin to fit, if it is so far from others; wide
    characters take two places."""
    size = cell_len(name)
    column = max(0, min(column, len(line) - size))
    if size > len(line) or any(sign != " " for sign in line[max(0, column - gap) : column + size + gap]):
        return False
    for character in name:
        if width := cell_len(character):
            line[column : column + width] = [character, *[""] * (width - 1)]
            column += width
        else:  # a mark, upon what is before it
            line[column - 1] += character
    return True
