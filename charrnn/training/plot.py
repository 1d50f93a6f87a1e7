"""The learning curve as an SVG picture, without a plotting library."""

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
    margin = 0.05 * (high - low) or 0.1
    low, high = max(0.0, low - margin), high + margin
    last = max((x for x, _ in train), default=1)

    def place(x: float, y: float) -> str:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / last
        down = _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - min(y, high)) / (high - low)
        return f"{across:.1f},{down:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="13" role="img">',
        "<style>.bg{fill:#fff}text{fill:#333}.grid{stroke:#ddd}.train{stroke:#9bb8d9}.validation{stroke:#c4402c}"
        "@media(prefers-color-scheme:dark){.bg{fill:#16181d}text{fill:#ccc}.grid{stroke:#333}}</style>",
        f'<rect class="bg" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text x="{_LEFT}" y="24" font-size="15">{html.escape(title)}: bits per character</text>',
    ]
    for tick in _ticks(low, high):
        down = place(0, tick).split(",")[1]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{down}" y2="{down}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{float(down) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(0, last):
        across = place(tick, low).split(",")[0]
        parts.append(f'<text x="{across}" y="{_HEIGHT - 20}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">steps</text>')
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


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between ``low`` and ``high``."""
    rough = max(high - low, 1e-9) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
