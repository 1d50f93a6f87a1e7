"""A model some of whose cells say the same all the time: what a cell does, seen by what is written without it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from charrnn.checkpoint import Checkpoint
from charrnn.config import ModelConfig
from charrnn.decoding.numpy_engine import Floats, NumpyEngine
from charrnn.errors import UsageError

#: By layer and unit, both counted from 0, the output h that is held.
Clamps = Mapping[tuple[int, int], float]


class ClampedEngine(NumpyEngine):
    """The model with outputs of cells held at a value, after each step and for all that reads them.

    Args:
        checkpoint: a recurrent model.
        clamps: which, and where.
    """

    def __init__(self, checkpoint: Checkpoint, clamps: Clamps) -> None:
        super().__init__(checkpoint.config.model, len(checkpoint.vocabulary), checkpoint.weights)
        self.clamps = clamps

    def _after(self, k: int, from_input: Floats, from_hidden: Floats, before: tuple[Floats, ...]) -> tuple[Floats, ...]:
        after = super()._after(k, from_input, from_hidden, before)
        for (layer, unit), value in self.clamps.items():
            if layer == k:
                after[0][:, unit] = value
        return after


def parse_unit(address: str, config: ModelConfig) -> tuple[int, int]:
    """Layer and unit of ``LAYER.UNIT``, both counted from 0.

    Raises:
        UsageError: not of that form, or the model has no such cell.
    """
    match = re.fullmatch(r"(\d{1,9})\.(\d{1,9})", address)
    if match is None:
        raise UsageError(f"{address!r}: expected LAYER.UNIT, both counted from 0, such as 0.12")
    if config.kind != "recurrent":
        raise UsageError(f"{address}: a model of kind {config.kind} has no cells; take an rnn, an lstm or a gru")
    layer, unit = int(match[1]), int(match[2])
    if layer >= config.num_layers or unit >= config.hidden_size:
        raise UsageError(
            f"{address}: the model has layers 0 to {config.num_layers - 1} and units 0 to {config.hidden_size - 1}"
        )
    return layer, unit


def parse_clamps(given: Sequence[str], config: ModelConfig) -> Clamps:
    """Of options ``LAYER.UNIT=VALUE``.

    Raises:
        UsageError: not of that form, no such cell, or a value that its output cannot have.
    """
    clamps = {}
    for text in given:
        address, equals, value = text.partition("=")
        try:
            number = float(value) if equals else math.nan
        except ValueError:
            number = math.nan
        if not -1 <= number <= 1:
            raise UsageError(f"--clamp {text}: expected LAYER.UNIT=VALUE with a value from -1 to 1, such as 0.12=-1")
        clamps[parse_unit(address, config)] = number
    return clamps
