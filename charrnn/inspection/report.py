"""What a view has found: a JSON document, and blocks that every renderer (terminal, HTML) knows how to draw.

A new view is made of these blocks, so it needs no renderer of its own. Nothing here is escaped or coloured: texts are
texts, and each renderer makes them safe for where they go.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Note:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Painted:
    """A text, character by character, coloured by a value each.

    ``low`` and ``high`` are the values at the ends of the colour scale; a scale with ``low`` < 0 has two colours.
    ``hovers`` says more about each character, or is empty.
    """

    symbols: Sequence[str]
    values: Sequence[float]
    low: float
    high: float
    scale: str
    hovers: Sequence[str] = ()

    def level(self, value: float) -> float:
        """The value on the scale: 0 to 1, or −1 to 1 where the scale has two colours."""
        if self.low < 0:
            return max(-1.0, min(1.0, value / max(self.high, -self.low)))
        return max(0.0, min(1.0, (value - self.low) / (self.high - self.low)))


#: What a cell of a table has.
Value = str | float | int | tuple[str, ...] | None


@dataclass(frozen=True)
class Table:
    """Rows of words and numbers; ``None`` is a gap, a tuple a list of which no item is broken into two lines."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    title: str = ""

    def numeric(self, column: int) -> bool:
        """Whether a column has numbers, by its first row."""
        return bool(self.rows) and not isinstance(self.rows[0][column], str | tuple)


@dataclass(frozen=True)
class Series:
    """Points of one name; ``labels`` are drawn in their places, ``names`` say which is which; or both are empty."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str] = ()
    names: Sequence[str] = ()

    def called(self, point: int) -> str:
        """What one of the points is called."""
        return (self.labels or self.names or [self.name] * len(self.x))[point]


@dataclass(frozen=True)
class Chart:
    """Series in one frame, as points or joined by lines; logarithmic axes leave out what is not positive.

    Both axes hold the values of ``limits`` too.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    kind: Literal["points", "lines"] = "points"
    log_x: bool = False
    log_y: bool = False
    limits: tuple[float, ...] = ()


@dataclass(frozen=True)
class Bars:
    """Parts of a whole, each 0 to 1, as bars with their names; shown in per cent."""

    title: str
    names: Sequence[str]
    shares: Sequence[float]


@dataclass(frozen=True)
class Branch:
    """A node of a tree: its text, what is said of it, whether it is on the path that won, and what follows it."""

    text: str
    remark: str
    best: bool = False
    children: Sequence[Branch] = ()


@dataclass(frozen=True)
class Tree:
    """A tree with a title."""

    title: str
    root: Branch


Block = Note | Painted | Table | Chart | Bars | Tree


@dataclass(frozen=True)
class Report:
    """The outcome of a view. ``document`` is plain JSON without NaN, and begins with ``"schema": 1``."""

    title: str
    blocks: Sequence[Block]
    document: dict[str, Any] = field(default_factory=dict)


def glyph(character: str) -> str:
    """A visible stand-in for a character that would be obeyed instead of shown: line ends, controls, direction marks.

    >>> [glyph(c) for c in "a\\n\\t\\x1b"]
    ['a', '⏎', '⇥', '␛']
    """
    if character in "\n\t\x7f":
        return {"\n": "⏎", "\t": "⇥", "\x7f": "␡"}[character]
    if len(character) == 1 and ord(character) < 32:
        return chr(0x2400 + ord(character))
    if any(unicodedata.category(c)[0] in "CZ" and c != " " for c in character):
        return "".join(f"U+{ord(c):04X}" for c in character)
    if unicodedata.category(character[0])[0] == "M":
        return "◌" + character  # a mark needs something to stand on
    return character


def shown(text: str) -> str:
    """A short text on one line, in glyphs, with spaces visible."""
    return "".join("␣" if c == " " else glyph(c) for c in text)


def number(value: float | int) -> str:
    """A number as tables show it: whole ones in full, others to four figures; zero has no sign.

    >>> number(13_324_314), number(12_345.0), number(0.00012), number(-0.0)
    ('13,324,314', '12,345', '1.20e-04', '0')
    """
    if abs(value) < 1e9 and value == round(value):
        value = round(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2e}" if abs(value) < 1e-3 else f"{value:,.4g}"
