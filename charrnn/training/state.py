"""Exact resume: all that the next step of a training depends on, as tensors and numbers, and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from charrnn.checkpoint import Arrays, Checkpoint
from charrnn.errors import CheckpointError

if TYPE_CHECKING:
    from charrnn.training.trainer import Trainer


def capture(trainer: Trainer) -> tuple[Arrays, dict[str, Any]]:
    """The training state for a checkpoint: arrays (that may share the model's memory), and numbers."""
    state: dict[str, Tensor | NDArray[Any]] = {}
    for name, parameter in trainer.model.named_parameters():
        state[f"model.{name}"] = parameter.detach()
        for key, value in trainer.optimizer.state[parameter].items():
            state[f"optimizer.{name}.{key}"] = value
    for part, value in enumerate(trainer.state):
        state[f"hidden.{part}"] = value
    state["generator"] = trainer.generator.get_state()
    state["report.nats"] = trainer.sum_nats.reshape(1)
    state["report.norm"] = trainer.norm.reshape(1)
    if trainer.best_weights is not None:
        state |= {f"best.{name}": array for name, array in trainer.best_weights.items()}
    progress = {
        "step": trainer.step,
        "characters": trainer.characters,
        "seconds": trainer.seconds,
        "best_nats": None if math.isinf(trainer.best_nats) else trainer.best_nats,
        "best_step": trainer.best_step,
        "without_best": trainer.without_best,
        "validation_seconds": trainer.validation_seconds,
        "last_validation": list(trainer.last_validation),
        "report_characters": trainer.sum_characters,
        "divergences": trainer.divergences,
        "calm_nats": trainer.calm_nats,
        "leaps": trainer.leaps,
        "scaler": trainer.scaler.state_dict(),
    }
    arrays = {name: value.cpu().numpy() if isinstance(value, Tensor) else value for name, value in state.items()}
    return arrays, progress


def restore(trainer: Trainer, last: Checkpoint) -> None:
    """Put a new trainer into the state that :func:`capture` took.

    Raises:
        CheckpointError: the checkpoint lacks a part of it, or holds something else there.
    """
    try:
        _restore(trainer, last.state, last.progress)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        problem = f"its training state lacks or garbles {error}"
        raise CheckpointError(f"{last.path}: cannot be resumed ({problem})") from error
    trainer.averaged.load_weights(last.weights)
    trainer.origin = last.record.get("init_from")


def _restore(trainer: Trainer, arrays: Arrays, progress: dict[str, Any]) -> None:
    def tensor(name: str) -> Tensor:
        return torch.from_numpy(arrays[name].copy())

    names = [name for name, _ in trainer.model.named_parameters()]
    trainer.model.load_weights({name: arrays[f"model.{name}"] for name in names})
    for name, parameter in trainer.model.named_parameters():
        for key, value in trainer.optimizer.state[parameter].items():
            value.copy_(tensor(f"optimizer.{name}.{key}").reshape(value.shape))
    for part, value in enumerate(trainer.state):
        value.copy_(tensor(f"hidden.{part}"))
    if arrays["generator"].shape == trainer.generator.get_state().shape:
        trainer.generator.set_state(tensor("generator"))
    else:  # another kind of device, whose generator cannot go on: a new one, that repeats
        trainer.generator.manual_seed(trainer.config.training.seed + int(progress["step"]))
    if progress["scaler"] and trainer.compute.scales_loss:
        trainer.scaler.load_state_dict(progress["scaler"])
    trainer.sum_nats.copy_(tensor("report.nats").reshape(()))
    trainer.norm.copy_(tensor("report.norm").reshape(()))
    best = {name.removeprefix("best."): array.copy() for name, array in arrays.items() if name.startswith("best.")}
    trainer.best_weights = best or None
    trainer.step = int(progress["step"])
    trainer.characters = int(progress["characters"])
    trainer.seconds = float(progress["seconds"])
    trainer.best_nats = math.inf if progress["best_nats"] is None else float(progress["best_nats"])
    trainer.best_step = None if progress["best_step"] is None else int(progress["best_step"])
    trainer.without_best = int(progress["without_best"])
    trainer.validation_seconds = float(progress["validation_seconds"])
    step, seconds = progress["last_validation"]
    trainer.last_validation = (int(step), float(seconds))
    trainer.sum_characters = int(progress["report_characters"])
    # Older runs watched nothing.
    trainer.divergences = int(progress.get("divergences", 0))
    calm = progress.get("calm_nats")
    trainer.calm_nats = None if calm is None else float(calm)
    trainer.leaps = int(progress.get("leaps", 0))
