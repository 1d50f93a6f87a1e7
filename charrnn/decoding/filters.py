"""Filters: functions from logits to logits, that reshape the distribution a character is drawn from.

Logits are (B, V); a removed character has -inf. Characters that may not be generated at all are removed first (see
:mod:`charrnn.decoding.alphabet`); then the filters run in the order of ``FILTERS``: temperature → top-k → top-p. The
order matters: top-p reads the tempered distribution, renormalised over what top-k left. At least one character stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.errors import UsageError

Logits = NDArray[np.floating[Any]]
Filter = Callable[[Logits], Logits]


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    """Log-probabilities over the last axis, in nats, float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
    return shifted


def temperature(logits: Logits, value: float) -> Logits:
    """Divide by the temperature: below 1 sharper, above 1 flatter, 1 the model's own distribution."""
    if value == 1:
        return logits
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)  # so that however cold, the best stays finite
    with np.errstate(over="ignore"):
        shifted /= value
    return shifted


def top_k(logits: Logits, value: int) -> Logits:
    """Keep the ``value`` likeliest characters, and those that tie with the last of them."""
    if value >= logits.shape[-1]:
        return logits
    lowest = np.partition(logits, -value, -1)[..., -value, None]  # (B, 1)
    return np.where(logits >= lowest, logits, -np.inf)


def top_p(logits: Logits, value: float) -> Logits:
    """Keep the smallest set of likeliest characters whose probability reaches ``value`` (Holtzman et al. 2020)."""
    if value >= 1:
        return logits
    order = np.argsort(-logits, -1, kind="stable")
    sorted_logits = np.take_along_axis(logits, order, -1)
    mass = np.exp(log_softmax(sorted_logits))
    before = np.cumsum(mass, -1) - mass  # what the likelier ones have already
    kept = np.where(before < value, sorted_logits, -np.inf)
    kept[..., 0] = sorted_logits[..., 0]
    filtered = np.empty_like(kept)
    np.put_along_axis(filtered, order, kept, -1)
    return filtered


def is_number(value: Any) -> bool:
    """Whether it is a real number, Python's or numpy's."""
    return isinstance(value, Real)


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, Python's or numpy's."""
    return isinstance(value, Integral)


@dataclass(frozen=True)
class Setting:
    """A filter's function, the values its setting takes, and how to say which."""

    run: Callable[[Logits, Any], Logits]
    accepts: Callable[[Any], bool]
    expected: str


#: Every filter by the name of its setting, in the order in which they run.
FILTERS = {
    "temperature": Setting(temperature, lambda v: is_number(v) and 0 < v < math.inf, "a number above 0"),
    "top_k": Setting(top_k, lambda v: is_whole(v) and v >= 1, "a whole number of at least 1"),
    "top_p": Setting(top_p, lambda v: is_number(v) and 0 < v <= 1, "above 0 and at most 1"),
}


def option(name: str) -> str:
    """How a setting is written on the command line, and named in errors: ``--top-k``."""
    return "--" + name.replace("_", "-")


def compose(values: Mapping[str, Any]) -> Filter:
    """The filters that have a value, as one.

    Raises:
        UsageError: a value that the filter does not take.
    """
    active = [(spec, values[name]) for name, spec in FILTERS.items() if values.get(name) is not None]
    for name, value in values.items():
        if value is not None and not FILTERS[name].accepts(value):
            raise UsageError(f"{option(name)}: expected {FILTERS[name].expected}, got {value!r}")

    def run_all(logits: Logits) -> Logits:
        for spec, value in active:
            logits = spec.run(logits, value)
        return logits

    return run_all
