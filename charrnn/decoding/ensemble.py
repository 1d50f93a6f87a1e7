"""Several models as one: the weighted mean of their probabilities, character by character."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.checkpoint import Checkpoint, locate
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.filters import log_softmax
from charrnn.errors import CheckpointError, UsageError

State = tuple[Any, ...]
Floats = NDArray[np.float32]
#: No member has less: so that it can be heard again, and that a share has a logarithm.
LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Ensemble:
    """Models of one vocabulary; where a :class:`~charrnn.checkpoint.Checkpoint` is run, this can be.

    Attributes:
        members: the models, K of them.
        shares: what part each has in the mean, K numbers whose sum is 1; None for equal ones.

    Raises:
        CheckpointError: their vocabularies differ.
    """

    members: tuple[Checkpoint, ...]
    shares: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        first = self.members[0]
        for other in self.members[1:]:
            if (first.vocabulary.unit, first.vocabulary.codes) != (other.vocabulary.unit, other.vocabulary.codes):
                raise CheckpointError(
                    f"{other.path}: has other characters than {first.path}; models that are to speak as one must be "
                    "trained on corpora of the same characters"
                )

    @property
    def vocabulary(self) -> Vocabulary:
        """The characters of every member."""
        return self.members[0].vocabulary

    @property
    def corpus(self) -> dict[str, Any]:
        """What all were trained on; without a name and a fingerprint if that is not one text."""
        first, *others = (member.corpus for member in self.members)
        if any(other.get("fingerprint") != first.get("fingerprint") for other in others):
            return {"utf8": all(member.corpus.get("utf8", True) for member in self.members)}
        return first

    @property
    def path(self) -> str:
        """The members' files, for people."""
        return " + ".join(str(member.path) for member in self.members)


#: What can be sampled from and scored with.
Model = Checkpoint | Ensemble


def members(model: Model) -> tuple[Checkpoint, ...]:
    """The checkpoints that a model consists of."""
    return model.members if isinstance(model, Ensemble) else (model,)


def shares_of(model: Model) -> tuple[float, ...] | None:
    """What part each member has in the mean; None of a single model."""
    if isinstance(model, Ensemble):
        return model.shares or normalised(np.ones(len(model.members)))
    return None


def engine_of(engines: Sequence[Any], model: Model) -> Any:
    """One engine of those of a model's members; of a single one, itself."""
    return EnsembleEngine(engines, model.shares) if isinstance(model, Ensemble) else engines[0]


def load(names: Sequence[str] | None, root: Path = Path("checkpoints"), shares: str | None = None) -> Model:
    """The model of one checkpoint, as :func:`~charrnn.checkpoint.locate` finds it, or the ensemble of several.

    Args:
        shares: what part each has in the mean, as it is typed: ``4,1``; None for equal ones.

    Raises:
        UsageError: there is not one positive share for each of several.
        CheckpointError: one is missing or damaged, or they do not fit together.
    """
    wanted = names or (None,)
    parts = None if shares is None else parse_shares(shares, len(wanted))
    found = tuple(Checkpoint.load(locate(name, root)) for name in wanted)
    return found[0] if len(found) == 1 else Ensemble(found, parts)


def parse_shares(text: str, count: int) -> tuple[float, ...]:
    """Shares whose sum is 1.

    >>> parse_shares("4,1", 2)
    (0.8, 0.2)

    Raises:
        UsageError: there are not so many, or they are not all positive numbers.
    """
    try:
        parts = [float(part) for part in text.split(",")]
    except ValueError:
        parts = []
    if len(parts) != count or count == 1 or not all(0 < part < math.inf for part in parts):
        raise UsageError(f"--shares {text}: expected a positive number for each of several models, such as 4,1")
    return normalised(np.array(parts) / max(parts))  # the sum of the largest numbers is none


def normalised(parts: NDArray[np.float64]) -> tuple[float, ...]:
    """Shares in proportion to these, (K,), whose sum is 1; none is less than about :data:`LEAST_SHARE`."""
    least = np.maximum(parts / parts.sum(), LEAST_SHARE)
    return tuple((least / least.sum()).tolist())


class EnsembleEngine:
    """An :class:`~charrnn.decoding.engine.Engine` whose probabilities are the mean of its members'.

    The mean of probabilities, not of their logarithms: it is normalised as it stands, and by Jensen's inequality its
    surprisal is never more than the mean of the members'.

    Args:
        engines: the members, K of them; the state is the tuple of theirs.
        shares: of each in the mean; None for equal ones.
    """

    def __init__(self, engines: Sequence[Any], shares: Sequence[float] | None = None) -> None:
        self.engines, self.shares = tuple(engines), shares
        self.symbols: int = engines[0].symbols

    def initial_state(self, batch_size: int) -> State:
        """The empty state of B sequences."""
        return tuple(engine.initial_state(batch_size) for engine in self.engines)

    def select(self, state: State, rows: NDArray[np.integer[Any]]) -> State:
        """The state whose sequence b is sequence ``rows[b]`` of ``state``."""
        return tuple(engine.select(part, rows) for engine, part in zip(self.engines, state, strict=True))

    def step(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[Floats, State]:
        """ids (B,) → log-probabilities (B, V), new state."""
        found = [engine.step(ids, part) for engine, part in zip(self.engines, state, strict=True)]
        return mixture([logits for logits, _ in found], self.shares), tuple(after for _, after in found)

    def run(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[Floats, State]:
        """ids (T, B) → log-probabilities (T, B, V), new state; equal to T steps."""
        found = [engine.run(ids, part) for engine, part in zip(self.engines, state, strict=True)]
        return mixture([logits for logits, _ in found], self.shares), tuple(after for _, after in found)


def mixture(logits: Sequence[Floats], shares: Sequence[float] | None = None) -> Floats:
    """log(s₁ p₁ + … + s_K p_K) of K distributions given by logits (..., V), with equal shares 1 / K if none are given;
    of one, its logits as they are.

    >>> a, b = np.log(np.float32([0.9, 0.1])), np.log(np.float32([0.3, 0.7])) + 5
    >>> np.exp(mixture([a, b])).round(4).tolist()
    [0.6000000238418579, 0.4000000059604645]
    >>> np.exp(mixture([a, b], [0.25, 0.75])).round(4).tolist()
    [0.44999998807907104, 0.550000011920929]
    """
    if len(logits) == 1:
        return logits[0]
    # By logarithms throughout: a probability too small for a float64 is still not zero, and its surprisal finite.
    # A character that all hold for impossible stays so.
    shares = shares or [1 / len(logits)] * len(logits)
    parts = [log_softmax(each) + math.log(share) for each, share in zip(logits, shares, strict=True)]
    mean: Floats = np.logaddexp.reduce(parts).astype(np.float32)
    return mean
