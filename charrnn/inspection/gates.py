"""How long each gate is shut or open (Karpathy, Johnson & Fei-Fei 2016, figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.errors import UsageError
from charrnn.inspection.activations import activations
from charrnn.inspection.report import Block, Chart, Note, Report, Series, Table, Value
from charrnn.inspection.subject import Subject

SHUT, OPEN = 0.1, 0.9
GATES = {
    "lstm": {"i": "input", "f": "forget", "o": "output"},
    "gru": {"r": "reset", "z": "update"},
}

#: The gate that keeps what is remembered when it is open.
REMEMBERS = {"lstm": "f", "gru": "z"}
#: Units of each gate that are named.
NAMED = 5


def extremes(title: str, units: Sequence[str], right: NDArray[np.floating], left: NDArray[np.floating]) -> Table:
    """The units that are right- and left-saturated longest; those that never are have no place.

    Args:
        right: share of time of each unit, (L, H); so is ``left``.
    """
    named: list[list[tuple[str, float | None]]] = []
    for shares in (right.ravel(), left.ravel()):
        order = np.argsort(-shares, kind="stable")[:NAMED]
        named.append([(units[n], float(shares[n])) if shares[n] else ("", None) for n in order])
    rows = [[*opened, *shut] for opened, shut in zip(*named, strict=True)]
    return Table(["open", "share > 0.9", "shut", "share < 0.1"], rows, title)


def gates(subject: Subject) -> Report:
    """Per gate and unit, the share of time that it is left-saturated (< 0.1) and right-saturated (> 0.9).

    Raises:
        UsageError: a simple recurrent network, which has no gates.
        TextError: the text is empty.
    """
    config = subject.checkpoint.config.model
    names, H = GATES.get(config.cell), config.hidden_size
    if names is None:
        raise UsageError(f"inspect gates: a model of {config.cell} cells has no gates; take an lstm or a gru")
    subject.require(1)
    parts = activations(subject.checkpoint, subject.ids, "".join(names))
    left = {gate: (parts[gate] < SHUT).mean(0) for gate in names}  # (L, H) each
    right = {gate: (parts[gate] > OPEN).mean(0) for gate in names}

    rows: list[list[Value]] = []
    units = [f"{k}.{unit}" for k in range(config.num_layers) for unit in range(config.hidden_size)]
    found: list[dict[str, Any]] = []
    blocks: list[Block] = []
    for gate, name in names.items():
        layers = range(config.num_layers)
        for k in layers:
            shut, opened = left[gate][k], right[gate][k]
            means = [float(values.mean()) for values in (shut, opened, parts[gate][:, k])]
            rows.append([k, f"{gate} ({name})", *means])
            found.append({"layer": k, "gate": gate, "name": name, "left": shut.tolist(), "right": opened.tolist()})
        series = [
            Series(f"layer {k}", right[gate][k].tolist(), left[gate][k].tolist(), names=units[k * H : (k + 1) * H])
            for k in layers
        ]
        blocks.append(Chart(f"{name} gate", "share of time > 0.9", "share of time < 0.1", series, limits=(0.0, 1.0)))
        blocks.append(extremes(f"{name} gate: open and shut longest", units, right[gate], left[gate]))
    remembers = REMEMBERS[config.cell]
    note = (
        f"{len(subject.ids):,} characters. A unit at the right edge has its gate open nearly always, one at the top "
        f"has it shut; a unit whose {names[remembers]} gate is at the right edge remembers for long. Look at one "
        f"by its name, LAYER.UNIT: charrnn inspect cell {units[int(right[remembers].argmax())]}"
    )
    table = Table(["layer", "gate", "shut (< 0.1)", "open (> 0.9)", "mean"], rows, "Share of time, mean over units")
    return Report("Gates", [Note(note), table, *blocks], {"schema": 1, "text": subject.name, "gates": found})
