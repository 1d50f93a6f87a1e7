"""The axes of a chart, for every renderer: where a value lies and where the ticks are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """From ``low`` to ``high``; in powers of ten if ``log``."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool

    def at(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def holds(self, value: float) -> bool:
        """Whether a value can be drawn at all."""
        return math.isfinite(value) and (value > 0 or not self.log)


def axis_of(values: Sequence[float], log: bool) -> Axis:
    """The axis that holds some values, with up to eight ticks at round numbers.

    >>> axis_of([0.0, 4.0], False).ticks, axis_of([1.0, 200.0], True).ticks
    ((0.0, 1.0, 2.0, 3.0, 4.0), (1.0, 10.0, 100.0))
    """
    usable = [value for value in values if math.isfinite(value) and (value > 0 or not log)] or [1.0]
    low, high = min(usable), max(usable)
    if log:
        return _logarithmic(low, high)
    if low == high:
        low, high = low - 0.5, high + 0.5
    unit = 10.0 ** math.floor(math.log10(high - low))
    step = next(step for step in (unit / 5, unit / 2, unit, unit * 2) if (high - low) / step < 7)
    ticks = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return Axis(low, high, tuple(n * step for n in ticks), False)


def _logarithmic(low: float, high: float) -> Axis:
    """As tight as the values where two powers of ten lie between them, or else from one power of ten to another."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    if last <= first:
        first, last = math.floor(math.log10(low)), max(math.ceil(math.log10(high)), math.floor(math.log10(low)) + 1)
        low, high = 10.0**first, 10.0**last
    every = 1 + (last - first) // 7
    return Axis(low, high, tuple(10.0**n for n in range(first, last + 1, every)), True)


def label(tick: float) -> str:
    """A tick as a chart shows it.

    >>> label(0.25), label(10000.0), label(1e-07), label(1e12)
    ('0.25', '10,000', '1e-07', '1e+12')
    """
    return f"{tick:,.0f}" if 1000 <= abs(tick) < 1e8 and tick == round(tick) else f"{tick:.4g}"
