"""How surprising each character of a text was, and which characters were likelier (after Karpathy 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.engine import Engine
from charrnn.decoding.filters import log_softmax
from charrnn.evaluation.evaluator import scoring_engine
from charrnn.evaluation.metrics import unknown_cost
from charrnn.inspection.report import Note, Painted, Report, Table, Value, shown
from charrnn.inspection.subject import Subject

#: Bits at which a colour is full: a character that the model gave less than 1 in 256.
FULL = 8.0
#: Characters that are read at once.
WINDOW = 1024
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
    before = vocabulary.encode("\n" + prompt)
    read, T = np.concatenate((before, ids[:-1]))[:, None], len(ids)
    state, rows = engine.initial_state(1), []
    for at in range(0, len(read), WINDOW):
        logits, state = engine.run(read[at : at + WINDOW], state)
        rows.append(logits[:, 0])
    nats = -log_softmax(np.concatenate(rows)[-T:])  # (T, V)
    truth = nats[np.arange(T), ids]
    cost = unknown_cost(vocabulary) * (np.asarray(ids) == vocabulary.unknown)
    ranks = (nats < truth[:, None]).sum(-1) + 1
    nats[:, vocabulary.unknown] = np.inf  # it is never generated, so it is not among what could have come
    likeliest = np.argsort(nats, axis=-1, kind="stable")[:, : min(top, len(vocabulary) - 1)]
    others = [[(vocabulary.character(int(i)), math.exp(-nats[t, i])) for i in likeliest[t]] for t in range(T)]
    return Surprise((truth + cost) / math.log(2), ranks, others)


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
