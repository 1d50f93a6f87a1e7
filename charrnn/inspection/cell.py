"""A text painted with the activation of one cell (Karpathy, Johnson & Fei-Fei 2016, figure 2)."""

from __future__ import annotations

import numpy as np

from charrnn.decoding.clamped import parse_unit
from charrnn.inspection.activations import activations, memory
from charrnn.inspection.report import Note, Painted, Report, shown
from charrnn.inspection.subject import Subject


def cell(subject: Subject, address: str) -> Report:
    """What one cell was after each character: tanh(c) of an LSTM, h of the others, both in [−1, 1].

    Raises:
        UsageError: the model has no such cell.
        TextError: the text is empty.
    """
    layer, unit = parse_unit(address, subject.checkpoint.config.model)
    subject.require(1)
    part = memory(subject.checkpoint)
    values = activations(subject.checkpoint, subject.ids, part)[part][:, layer, unit]
    values = (np.tanh(values) if part == "c" else values).astype(np.float64)
    name = "tanh(c)" if part == "c" else "h"
    hovers = [f"{shown(symbol)}  {value:+z.2f}" for symbol, value in zip(subject.symbols, values, strict=True)]
    note = (
        f"{name} after each character: mean {values.mean():+z.2f}, "
        f"from {values.min():+z.2f} to {values.max():+z.2f}; positive and negative have a colour each."
    )
    document = {
        "schema": 1,
        "text": subject.name,
        "layer": layer,
        "unit": unit,
        "part": name,
        "characters": subject.symbols,
        "values": values.tolist(),
    }
    painted = Painted(subject.symbols, values.tolist(), -1.0, 1.0, name, hovers)
    return Report(f"Cell {layer}.{unit}", [Note(note), painted], document)
