"""The learning curve of a run, and the losses of a sweep, as SVG pictures without a plotting library."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 720, 400, 56, 44, 40, 20


def loss_plot(metrics: Sequence[dict[str, Any]], title: str) -> str:
    """Training and validation loss in bits per character over steps, from the lines of ``metrics.jsonl``."""
    bits = 1 / math.log(2)
    train = [(m["step"], m["train_nats_per_char"] * bits) for m in metrics]
    validation = [(m["step"], m["validation_nats_per_char"] * bits) for m in metrics if "validation_nats_per_char" in m]
    values = sorted(y for _, y in train + validation) or [0.0, 1.0]
    # The first steps are far above the rest: leave the top twentieth out of the scale.
    high = max(values[int(0.95 * (len(values) - 1))], max((y for _, y in validation), default=0))
    low = values[0]
    margin = _margin(low, high)
    low, high = max(0.0, low - margin), high + margin
    last = max((x for x, _ in train), default=1)

    def place(x: float, y: float) -> str:
        return f"{_across(x / last):.1f},{_down((min(y, high) - low) / (high - low)):.1f}"

    parts = _frame(f"{title}: bits per character", ".train{stroke:#9bb8d9}.validation{stroke:#c4402c}")
    parts += _axes(low, high, [(tick / last, f"{tick:g}") for tick in _ticks(0, last)], "steps")
    for name, points in (("train", train), ("validation", validation)):
        if points:
            line = " ".join(place(x, y) for x, y in points)
            parts.append(f'<polyline class="{name}" fill="none" stroke-width="2" points="{line}"/>')
    if validation:
        best = min(validation, key=lambda point: point[1])
        across, down = place(*best).split(",")
        parts.append(f'<circle class="validation" cx="{across}" cy="{down}" r="4" fill="none" stroke-width="2"/>')
        parts.append(
            f'<text x="{_WIDTH - _RIGHT}" y="24" text-anchor="end">training, <tspan font-weight="bold">validation'
            f"</tspan> (best {best[1]:.3f})</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


#: Colours that can be told apart on white and on black, and as many outlines.
_SERIES = (
    ("#3f86d6", "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z"),
    ("#d65a3f", "M-4.5-4.5h9v9h-9z"),
    ("#2f9e63", "M0-6L5.5 4h-11z"),
    ("#a874c9", "M0-6L6 0 0 6-6 0z"),
    ("#c2932a", "M0 6L5.5-4h-11z"),
    ("#7d8794", "M-5-5L5 5M5-5L-5 5"),
)
_NEAR, _SIDEWAYS = 7, (0, 7, -7, 14, -14, 21, -21)  # pixels


def sweep_plot(document: dict[str, Any]) -> str:
    """Scored loss in nats per character over the number of parameters (logarithmic), from a ``sweep.json``.

    One series for each value of the first setting of the grid that is a word and has few values, such as the cell. A
    mark that would hide another is put beside it: its height is exact, its place across off by a few pixels. It says
    what it is where the pointer rests on it.
    """
    rows = [row for row in document["rows"] if row["nats_per_char"] is not None]
    words = (name for name, values in document["grid"].items() if _are_few_words(values))
    by = next(words, None)
    names = document["grid"][by] if by else []
    sizes, losses = [row["parameters"] for row in rows], [row["nats_per_char"] for row in rows]
    left, right = min(sizes, default=1e5), max(sizes, default=1e6)
    beside = max(1.1, (right / left) ** 0.04)
    left, right = left / beside, right * beside
    low, high = min(losses, default=1.0), max(losses, default=2.0)
    margin = _margin(low, high)
    low, high = low - margin, high + margin

    def share(size: float) -> float:
        return math.log(size / left) / math.log(right / left)

    style = "".join(f".s{k}{{fill:{colour};stroke:{colour}}}" for k, (colour, _) in enumerate(_SERIES))
    title = f"{document['sweep'][:40]}: nats per character, {document['scored']} split"
    parts = _frame(title, style + ".mark{fill-opacity:.15;stroke-width:1.6}.best{fill:none;stroke:#888}")
    parts += _axes(low, high, [(share(tick), _count(tick)) for tick in _log_ticks(left, right)], "parameters")
    across = _WIDTH - _RIGHT
    for k, name in reversed(list(enumerate(names))):
        parts.append(f'<text x="{across}" y="24" text-anchor="end">{html.escape(name)}</text>')
        across -= 8 * len(name) + 8
        parts.append(_mark(k, across, 20))
        across -= 16
    best = min(rows, key=lambda row: row["nats_per_char"], default=None)
    placed: list[tuple[float, float]] = []
    for row in rows:
        x, y = _across(share(row["parameters"])), _down((row["nats_per_char"] - low) / (high - low))
        x = _beside(x, y, placed)
        placed.append((x, y))
        name = row["run"].rpartition("/")[2]
        tip = f"{name}: {row['nats_per_char']:.4f} nats per character, {row['parameters']:,} parameters"
        parts.append(_mark(names.index(row["settings"][by]) if by else 0, x, y, tip))
        if row is best:
            parts.append(f'<circle class="best" cx="{x:.1f}" cy="{y:.1f}" r="10"/>')
    if best is not None:
        said = f"best: {best['run'].rpartition('/')[2][:70]}, {best['nats_per_char']:.4f}"
        parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 4}">{html.escape(said)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _beside(x: float, y: float, placed: Sequence[tuple[float, float]]) -> float:
    """``x``, or the nearest place at the same height where the marks that are there leave room, or most of it."""

    def room(shift: float) -> float:
        return min((math.dist((x + shift, y), other) for other in placed), default=math.inf)

    free = (shift for shift in _SIDEWAYS if room(shift) >= _NEAR)
    shift = next(free, None)
    return x + (max(_SIDEWAYS, key=room) if shift is None else shift)


def _are_few_words(values: Sequence[Any]) -> bool:
    return 1 < len(values) <= len(_SERIES) and all(isinstance(value, str) and value[0].isalpha() for value in values)


def _mark(series: int, x: float, y: float, tip: str = "") -> str:
    title = f"<title>{html.escape(tip)}</title>" if tip else ""
    outline = _SERIES[series][1]
    kind = "mark point" if tip else "mark"
    return f'<path class="{kind} s{series}" transform="translate({x:.1f} {y:.1f})" d="{outline}">{title}</path>'


def _count(number: float) -> str:
    """A round number as it is read on an axis.

    >>> _count(500), _count(20_000), _count(1_500_000)
    ('500', '20k', '1.5M')
    """
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:g}{letter}"
    return f"{number:g}"


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between ``low`` and ``high`` for a logarithmic axis: powers of ten, or what lies between them."""
    powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    for digits in ((1,), (1, 2, 5)):
        ticks = [digit * power for power in powers for digit in digits if low <= digit * power <= high]
        if len(ticks) > 2:
            return ticks
    return _ticks(low, high)


def _across(share: float) -> float:
    """Pixels from the left for a place on the horizontal axis, 0 to 1."""
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share


def _down(share: float) -> float:
    """Pixels from the top for a height on the vertical axis, 0 to 1."""
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share)


def _frame(title: str, style: str) -> list[str]:
    """The beginning of a picture: its colours in light and dark, its background, its title."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="13" role="img">',
        f"<style>.bg{{fill:#fff}}text{{fill:#333}}.grid{{stroke:#ddd}}{style}"
        "@media(prefers-color-scheme:dark){.bg{fill:#16181d}text{fill:#ccc}.grid{stroke:#333}}</style>",
        f'<rect class="bg" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text x="{_LEFT}" y="24" font-size="15">{html.escape(title)}</text>',
    ]


def _axes(low: float, high: float, across: Sequence[tuple[float, str]], label: str) -> list[str]:
    """Lines at round heights between ``low`` and ``high``, and the horizontal axis's ticks as (0 to 1, text)."""
    parts = []
    for tick in _ticks(low, high):
        down = _down((tick - low) / (high - low))
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{down:.1f}" y2="{down:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{down + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for place, text in across:
        parts.append(f'<text x="{_across(place):.1f}" y="{_HEIGHT - 20}" text-anchor="middle">{text}</text>')
    return [*parts, f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">{label}</text>']


def _margin(low: float, high: float) -> float:
    """Room below and above; where there is one value, in proportion to it: a loss that grows without bound has no
    digits for less."""
    return 0.05 * (high - low) or 0.05 * high or 0.1


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between ``low`` and ``high``."""
    rough = max(high - low, 1e-9) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
