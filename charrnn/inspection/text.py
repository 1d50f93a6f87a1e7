"""How surprising each character of a text was, and which characters were likelier (after Karpathy 2015)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.engine import Engine
from charrnn.decoding.filters import log_softmax
from charrnn.decoding.generator import read
from charrnn.evaluation.evaluator import scoring_engine
from charrnn.evaluation.metrics import unknown_cost
from charrnn.inspection.report import Note, Painted, Report, Table, Value, shown
from charrnn.inspection.subject import Subject

#: Bits at which a colour is full: a character that the model gave less than 1 in 256.
FULL = 8.0
#: Characters whose distributions are in memory at once.
WINDOW = 128
#: As many characters of the text before stand in the table; fewer where they are spelled with several.
BEFORE = 12


def _last(symbols: Sequence[str]) -> str:
    """As many of the last symbols as :data:`BEFORE` characters show.

    >>> _last(["four"] * 5)
    'fourfourfour'
    """
    before = ""
    for sign in map(shown, reversed(symbols)):
        if len(sign) + len(before) > BEFORE:
            break
        before = sign + before
    return before


@dataclass(frozen=True)
class Surprise:
    """Of each of T characters, given all before it: bits (T,); rank (T,), 1 for the first guess; and the likeliest
    characters in its place, each with its probability."""

    bits: NDArray[np.float64]
    ranks: NDArray[np.int64]
    likeliest: list[list[tuple[str, float]]]

    def to_json(self, symbols: Sequence[str]) -> list[dict[str, Any]]:
        """One object for each character."""
        return [
            {
                "character": symbol,
                "bits": float(bits),
                "rank": int(rank),
                "likeliest": [{"character": other, "probability": p} for other, p in others],
            }
            for symbol, bits, rank, others in zip(symbols, self.bits, self.ranks, self.likeliest, strict=True)
        ]

    def painted(self, symbols: Sequence[str]) -> Painted:
        """The text in colours of surprise."""
        hovers = [
            f"{shown(symbol)}  {bits:.2f} bits · " + "  ".join(f"{shown(c)} {p:.2f}" for c, p in others)
            for symbol, bits, others in zip(symbols, self.bits, self.likeliest, strict=True)
        ]
        return Painted(symbols, self.bits.tolist(), 0.0, FULL, "surprisal, bits", hovers)

    def table(self, symbols: Sequence[str], most: int = 10) -> Table:
        """The most surprising characters, in the order of the text."""
        places = np.sort(np.argsort(-self.bits, kind="stable")[:most]).tolist()
        rows: list[list[Value]] = []
        for t in places:
            before = _last(symbols[max(0, t - BEFORE) : t])
            likelier = tuple(f"{shown(c)} {p:.2f}" for c, p in self.likeliest[t])
            rows.append([t, before, shown(symbols[t]), 2.0 ** -float(self.bits[t]), likelier])
        return Table(["at", "after", "character", "probability", "likeliest"], rows, "The most surprising")


def surprise(
    engine: Engine, vocabulary: Vocabulary, ids: NDArray[np.integer[Any]], top: int = 5, prompt: str = ""
) -> Surprise:
    """How surprising each character of a text is.

    Args:
        ids: the text, (T,).
        top: how many of the likeliest to keep for each.
        prompt: what stands before the text, after a newline.
    """
    ids = np.asarray(ids, np.int64)
    bits, ranks = np.empty(len(ids)), np.empty(len(ids), np.int64)
    others: list[list[tuple[str, float]]] = []
    for logits in _logits(engine, vocabulary, ids, prompt):
        place = slice(len(others), len(others) + len(logits))
        nats = -log_softmax(logits)  # (n, V)
        truth = np.take_along_axis(nats, ids[place, None], -1)
        cost = unknown_cost(vocabulary) * (ids[place] == vocabulary.unknown)
        bits[place], ranks[place] = (truth[:, 0] + cost) / math.log(2), (nats < truth).sum(-1) + 1
        nats[:, vocabulary.unknown] = np.inf  # it is never generated, so it is not among what could have come
        likeliest = lowest(nats, min(top, len(vocabulary) - 1)).tolist()
        for row, columns in zip(nats, likeliest, strict=True):
            others.append([(vocabulary.character(i), math.exp(-row[i])) for i in columns])
    return Surprise(bits, ranks, others)


def _logits(
    engine: Engine, vocabulary: Vocabulary, ids: NDArray[np.integer[Any]], prompt: str
) -> Iterator[NDArray[np.float32]]:
    """The logits of each character of a text, (T, V), a few rows at a time: all of them might not fit in memory."""
    first, state = read(engine, vocabulary, prompt)
    yield first[: len(ids)]
    for at in range(0, len(ids) - 1, WINDOW):
        logits, state = engine.run(ids[at : min(at + WINDOW, len(ids) - 1), None], state)
        yield logits[:, 0]


def lowest(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """The columns of the lowest values of each row, (T, count), in order; of equal ones the first.

    >>> lowest(np.array([[3.0, 1, 2, 1, 1]]), 2).tolist()
    [[1, 3]]
    """
    # Thousands of columns of which few are wanted: sorting them all would take many times as long.
    edge = np.partition(values, count - 1, axis=-1)[:, count - 1, None]
    below, level = values < edge, values == edge
    taken = below | level & (level.cumsum(-1) <= count - below.sum(-1, keepdims=True))
    columns = taken.nonzero()[1].reshape(-1, count)
    order = np.argsort(np.take_along_axis(values, columns, -1), axis=-1, kind="stable")
    return np.take_along_axis(columns, order, -1)


def text(subject: Subject, top: int = 5) -> Report:
    """The surprisal of each character in bits, given all before it, and the ``top`` likeliest in its place.

    Raises:
        TextError: the text is empty.
    """
    subject.require(1)
    engine = scoring_engine(subject.checkpoint, len(subject.ids))
    found = surprise(engine, subject.checkpoint.vocabulary, subject.ids, top)
    mean, worst = float(found.bits.mean()), int(found.bits.argmax())
    note = f"{len(found.bits):,} characters, {mean:.3f} bits per character; the first guess was right "
    note += f"{np.mean(found.ranks == 1):.0%} of the time. "
    note += f"The most surprising: {shown(subject.symbols[worst])} at {worst:,}."
    document = {
        "schema": 1,
        "text": subject.name,
        "bits_per_char": mean,
        "characters": found.to_json(subject.symbols),
    }
    return Report("Surprise", [Note(note), found.painted(subject.symbols), found.table(subject.symbols)], document)
