"""What training tells its listeners: the run's folder, the terminal view, a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from charrnn.checkpoint import Checkpoint


@dataclass(frozen=True)
class Started:
    """Training begins, or goes on: what is trained, on what, where."""

    parameters: int
    compute: str
    step: int
    windows_per_epoch: int
    batch_size: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """Figures since the last report; one line of ``metrics.jsonl``. ``progress`` is 0..1 of the run."""

    step: int
    epoch: float
    seconds: float
    learning_rate: float
    train_nats_per_char: float
    gradient_norm: float
    characters_per_second: float
    progress: float
    validation_nats_per_char: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As written to ``metrics.jsonl``."""
        line = {
            "step": self.step,
            "epoch": round(self.epoch, 6),
            "seconds": round(self.seconds, 3),
            "learning_rate": self.learning_rate,
            "train_nats_per_char": self.train_nats_per_char,
            "gradient_norm": self.gradient_norm,
            "characters_per_second": round(self.characters_per_second, 1),
        }
        if self.validation_nats_per_char is not None:
            line["validation_nats_per_char"] = self.validation_nats_per_char
        return line


@dataclass(frozen=True)
class Preview:
    """A fresh sample, drawn from the averaged weights after ``step``."""

    step: int
    text: str


@dataclass(frozen=True)
class Snapshot:
    """A state to keep: ``best`` for use, otherwise ``last``, with all that training needs to go on.

    Its arrays may share the model's memory: write them before asking for the next event.
    """

    checkpoint: Checkpoint
    best: bool


@dataclass(frozen=True)
class WentBack:
    """Training diverged, and goes on from this checkpoint with a lower learning rate."""

    checkpoint: Checkpoint


@dataclass(frozen=True)
class Finished:
    """The end: why (``done``, ``early`` or ``stopped``), and the closing figure of ``best``, scored in float32."""

    reason: str
    step: int
    epoch: float
    seconds: float
    characters: int
    best_step: int | None
    validation_nats_per_char: float | None
    validation_characters: int


Event = Started | Report | Preview | Snapshot | WentBack | Finished
