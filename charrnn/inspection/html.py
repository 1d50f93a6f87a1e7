"""A report as one HTML file: no scripts, nothing fetched, every text escaped, light and dark."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence

from charrnn.inspection.axes import axis_of, label
from charrnn.inspection.budget import cut, parts, share
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

#: Bytes that all blocks may take, so that the file stays below 2 MB whatever it is of.
BUDGET = 1_950_000
#: Steps of the colour scale, each way.
LEVELS = 10

STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --page: #fdfdfb; --faint: #8884;
  --warm: 224 86 32; --cool: 38 110 214;
  --s0: #d1495b; --s1: #2e7dd1; --s2: #2a9d5c; --s3: #b8860b; --s4: #8e5bd0; --s5: #777; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e8e6e3; --page: #17181a; --warm: 255 120 60; --cool: 90 160 255; } }
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
.text { font: 15px/1.7 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.text i { font-style: normal; opacity: .35; } em { font: 1em/1 sans-serif; }
.text span:is(:hover, :focus) { outline: 1px solid; }
.text span:focus::after { content: attr(title); position: fixed; left: 1rem; bottom: 1rem; padding: .3rem .8rem;
  background: var(--ink); color: var(--page); white-space: pre-wrap; }
table { display: block; overflow-x: auto; border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .2rem .8rem; border-bottom: 1px solid var(--faint); }
th { text-align: left; } .n { text-align: right; font-variant-numeric: tabular-nums; }
td bdi { display: inline-block; margin-right: 1em; white-space: pre; }
.key bdi { display: inline-block; margin-right: 1.5em; }
td, li { font-family: ui-monospace, monospace; white-space: pre-wrap; }
.tree { overflow-x: auto; } ul { list-style: none; border-left: 1px solid var(--faint); padding-left: 1.5em; }
li { min-width: 20em; overflow-wrap: anywhere; } li b { background: rgb(var(--warm) / .35); } small { opacity: .7; }
svg { display: block; max-width: 100%; height: auto; }
svg text { fill: currentColor; font: 12px system-ui, sans-serif; }
svg .mark { fill-opacity: 1; font: 13px ui-monospace, monospace; text-anchor: middle; dominant-baseline: middle; }
""" + "".join(
    f".p{n} {{ background: rgb(var(--warm) / {n / LEVELS * 0.9:.2f}); }} "
    f".m{n} {{ background: rgb(var(--cool) / {n / LEVELS * 0.9:.2f}); }}\n"
    for n in range(1, LEVELS + 1)
)


def escape(text: str) -> str:
    """A text as HTML shows it; what a browser, or a terminal that is given the file, would obey is made visible."""
    return html.escape(show(text))


def written(text: str) -> str:
    """A text within the page. A mark on its circle is in a font whose marks know their places: that of many fonts with
    letters of one width lies on the letter that follows."""
    return re.sub(r"◌[^\x00-\x7f]", r"<em>\g<0></em>", escape(text))


def page(report: Report, subtitle: str = "") -> str:
    """The whole file."""
    title = escape(report.title)
    body = "\n".join(_fitted(report.blocks))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title} · charrnn</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body><h1>{title}</h1><p><small>{escape(subtitle)}</small></p>\n{body}\n</body></html>\n"
    )


def _fitted(blocks: Sequence[Block]) -> list[str]:
    """The blocks; what the budget does not hold is left out, and said to be."""
    drawn = [_block(block) for block in blocks]
    room = share([len(text.encode()) for text in drawn], BUDGET)
    for n, block in enumerate(blocks):
        whole, what = parts(block)
        kept = whole
        while kept and (size := len(drawn[n].encode())) > room:
            kept = int(0.98 * kept * room / size)
            shorter = cut(block, kept)
            left = whole - parts(shorter)[0]
            drawn[n] = f"{_block(shorter)}<p><small>{left:,} of {whole:,} {what} left out here</small></p>"
    return drawn


def _block(block: Block) -> str:
    match block:
        case Note():
            return f"<p>{written(block.text)}</p>"
        case Painted():
            return _painted(block)
        case Table():
            return _table(block)
        case Chart():
            return _chart(block)
        case Bars():
            return _bars(block)
        case Tree():
            return f'<h2>{escape(block.title)}</h2><div class="tree" tabindex="0"><ul>{_branch(block.root)}</ul></div>'


def _painted(block: Painted) -> str:
    """One span a character, which the pointer and the Tab key reach."""
    spans: list[str] = []
    for t, symbol in enumerate(block.symbols):
        step = round(block.level(block.values[t]) * LEVELS)
        name = f' class="{"p" if step > 0 else "m"}{abs(step)}"' if step else ""
        hover = escape(block.hovers[t]) if block.hovers else f"{block.values[t]:.3g}"
        sign = glyph(symbol)
        inner = escape(sign) if sign == symbol else f"<i>{written(sign)}</i>"
        spans.append(f'<span{name} tabindex="0" title="{hover}">{inner}</span>' + ("\n" if symbol == "\n" else ""))
    scale = f"{block.scale}: {label(block.low)} to {label(block.high)}"
    return f'<div class="text">{"".join(spans)}</div><p><small>{escape(scale)}</small></p>'


def _table(block: Table) -> str:
    def cell(value: Value) -> str:
        if isinstance(value, tuple):
            return f"<td>{' '.join(f'<bdi>{written(item)}</bdi>' for item in value)}</td>"
        if isinstance(value, str):
            return f"<td>{written(value)}</td>"
        return f'<td class="n">{"" if value is None else number(value)}</td>'

    kinds = (' class="n"' if block.numeric(k) else "" for k in range(len(block.columns)))
    head = "".join(f"<th{kind}>{escape(column)}</th>" for kind, column in zip(kinds, block.columns, strict=True))
    rows = "\n".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in block.rows)
    title = f"<h2>{escape(block.title)}</h2>" if block.title else ""
    return f"{title}<table><tr>{head}</tr>\n{rows}</table>"


def _bars(block: Bars) -> str:
    rows = "\n".join(
        f'<tr><td>{escape(name)}</td><td class="n">{share:.1%}</td>'
        f'<td class="bar"><svg width="{400 * share:.1f}" height="14" aria-hidden="true">'
        '<rect width="100%" height="14" fill="var(--s1)"/></svg></td></tr>'
        for name, share in zip(block.names, block.shares, strict=True)
    )
    return f"<h2>{escape(block.title)}</h2><table>\n{rows}</table>"


def _branch(branch: Branch) -> str:
    text = f"<b>{written(branch.text)}</b>" if branch.best else written(branch.text)
    children = f"<ul>{''.join(map(_branch, branch.children))}</ul>" if branch.children else ""
    return f"<li>{text} <small>{escape(branch.remark)}</small>{children}</li>"


WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 400, 70, 45, 15


def _chart(chart: Chart) -> str:
    across = axis_of([*chart.limits, *(x for s in chart.series for x in s.x)], chart.log_x)
    up = axis_of([*chart.limits, *(y for s in chart.series for y in s.y)], chart.log_y)

    def left(x: float) -> float:
        return LEFT + (WIDTH - LEFT - 20) * (0.02 + 0.96 * across.at(x))

    def top(y: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (0.98 - 0.96 * up.at(y))

    floor = HEIGHT - BOTTOM
    parts = [f'<path d="M{LEFT} {TOP}V{floor}H{WIDTH - 20}" fill="none" stroke="currentColor"/>']
    for tick in across.ticks:
        parts.append(f'<text x="{left(tick):.1f}" y="{floor + 16}" text-anchor="middle">{label(tick)}</text>')
    for tick in up.ticks:
        parts.append(f'<text x="{LEFT - 6}" y="{top(tick) + 4:.1f}" text-anchor="end">{label(tick)}</text>')
    middle = (LEFT + WIDTH - 20) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(chart.x_label)}</text>')
    turned = f'transform="translate(14 {floor / 2}) rotate(-90)"'
    parts.append(f'<text {turned} text-anchor="middle">{escape(chart.y_label)}</text>')
    for k, series in enumerate(chart.series):
        colour = f"var(--s{k % 6})"
        points = [
            (left(x), top(y), n)
            for n, (x, y) in enumerate(zip(series.x, series.y, strict=True))
            if across.holds(x) and up.holds(y)
        ]
        if chart.kind == "lines":
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<g fill="{colour}" fill-opacity=".6">')
        for x, y, n in points:
            tip = f"<title>{escape(series.called(n))} ({number(series.x[n])}, {number(series.y[n])})</title>"
            if series.labels:
                parts.append(_mark(series.labels[n], x, y, tip))
            else:
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3">{tip}</circle>')
        parts.append("</g>")
    said = escape(f"{chart.title}: {chart.y_label} against {chart.x_label}")
    return (
        f'<h2>{escape(chart.title)}</h2>{_key(chart)}<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'aria-label="{said}">{"".join(parts)}</svg>{_values(chart)}'
    )


def _values(chart: Chart) -> str:
    """What the pointer is told of each point, for those who have none."""
    rows: list[list[Value]] = [
        [series.called(n), x, y]
        for series in chart.series
        for n, (x, y) in enumerate(zip(series.x, series.y, strict=True))
    ]
    table = _table(Table(["point", chart.x_label, chart.y_label], rows))
    return f"<details><summary>The values as a table</summary>{table}</details>"


def _mark(text: str, x: float, y: float, tip: str) -> str:
    """A label about its point, moved as far as it must be to stand in the picture; a column is 8 wide."""
    half = 4 * sum(2 if unicodedata.east_asian_width(character) in "FW" else 1 for character in text)
    x = max(half, min(x, WIDTH - half))
    return f'<text class="mark" x="{x:.1f}" y="{y:.1f}">{escape(text)}{tip}</text>'


def _key(chart: Chart) -> str:
    """The names of several series; above the picture, for within it they would hide what is drawn there."""
    if len(chart.series) < 2:
        return ""
    names = (
        f'<bdi><b style="color:var(--s{k % 6})">●</b> {escape(series.name)}</bdi>'
        for k, series in enumerate(chart.series)
    )
    return f'<p class="key">{"".join(names)}</p>'
