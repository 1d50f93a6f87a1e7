"""How surprising each character of a text was, and which characters were likelier (after Karpathy 2015)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from charrnn.evaluation.evaluator import scoring_engine
from charrnn.evaluation.metrics import unknown_cost
from charrnn.inspection.report import Note, Painted, Report, shown
from charrnn.inspection.subject import Subject

#: Bits at which a colour is full: a character that the model gave less than 1 in 256.
FULL = 8.0


#: Characters that are read at once.
WINDOW = 1024


def _logits(subject: Subject) -> NDArray[np.float32]:
    """(T, V); row t is what was expected in the place of character t."""
    engine = scoring_engine(subject.checkpoint, len(subject.ids))
    before = np.append(subject.checkpoint.vocabulary.index("\n"), subject.ids[:-1])[:, None]  # (T, 1)
    state, rows = engine.initial_state(1), []
    for at in range(0, len(before), WINDOW):
        logits, state = engine.run(before[at : at + WINDOW], state)
        rows.append(logits[:, 0])
    return np.concatenate(rows)


def text(subject: Subject, top: int = 5) -> Report:
    """The surprisal of each character in bits, given all before it, and the ``top`` likeliest in its place.

    Raises:
        TextError: the text is empty.
    """
    subject.require(1)
    vocabulary = subject.checkpoint.vocabulary
    logits = _logits(subject).astype(np.float64)  # (T, V)
    logits -= logits.max(-1, keepdims=True)
    nats = np.log(np.exp(logits).sum(-1, keepdims=True)) - logits  # (T, V)
    cost = unknown_cost(vocabulary) * (np.asarray(subject.ids) == vocabulary.unknown)
    bits = (nats[np.arange(len(nats)), subject.ids] + cost) / math.log(2)  # (T,)
    ranks = (nats < nats[np.arange(len(nats)), subject.ids][:, None]).sum(-1) + 1

    nats[:, vocabulary.unknown] = np.inf  # it is never generated, so it is not among what could have come
    likeliest = np.argsort(nats, axis=-1, kind="stable")[:, : min(top, len(vocabulary) - 1)]
    characters, hovers = [], []
    for t, symbol in enumerate(subject.symbols):
        others = [(vocabulary.character(int(i)), math.exp(-nats[t, i])) for i in likeliest[t]]
        characters.append(
            {
                "character": symbol,
                "bits": float(bits[t]),
                "rank": int(ranks[t]),
                "likeliest": [{"character": other, "probability": p} for other, p in others],
            }
        )
        hovers.append(f"{shown(symbol)}  {bits[t]:.2f} bits · " + "  ".join(f"{shown(c)} {p:.2f}" for c, p in others))
    mean = float(bits.mean())
    worst = int(bits.argmax())
    note = f"{len(bits):,} characters, {mean:.3f} bits per character; the first guess was right "
    note += f"{np.mean(ranks == 1):.0%} of the time. The most surprising: {shown(subject.symbols[worst])} at {worst:,}."
    document = {"schema": 1, "text": subject.name, "bits_per_char": mean, "characters": characters}
    painted = Painted(subject.symbols, bits.tolist(), 0.0, FULL, "surprisal, bits", hovers)
    return Report("Surprise", [Note(note), painted], document)
