"""Exact resume: all that the next step of a training depends on, as tensors and numbers, and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charrnn.checkpoint import Arrays, Checkpoint
from charrnn.errors import CheckpointError

if TYPE_CHECKING:
    from charrnn.training.trainer import Trainer


#: No number of a training's progress is larger.
_MOST = 10**15


def capture(trainer: Trainer) -> tuple[Arrays, dict[str, Any]]:
    """The training state for a checkpoint: arrays (that may share the model's memory), and numbers."""
    state: dict[str, Tensor | NDArray[Any]] = {}
    for name, parameter in trainer.model.named_parameters():
        state[f"model.{name}"] = parameter.detach()
        for key, value in trainer.optimizer.state[parameter].items():
            state[f"optimizer.{name}.{key}"] = value
    for part, value in enumerate(trainer.state):
        state[f"hidden.{part}"] = trainer.group.joined(value, trainer.streams.shares)
    state["generator"] = trainer.generator.get_state()
    state["report.nats"] = np.array(trainer.group.total(trainer.sum_nats), np.float32)
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
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        problem = f"its training state lacks or garbles {error}"
        raise CheckpointError(f"{last.path}: cannot be resumed ({problem})") from error
    trainer.averaged.load_weights(last.weights)
    origin = last.record.get("init_from")
    trainer.origin = origin if isinstance(origin, dict) and isinstance(origin.get("path"), str) else None


def _restore(trainer: Trainer, arrays: Arrays, progress: dict[str, Any]) -> None:
    def tensor(name: str, like: Tensor | None = None) -> Tensor:
        found = torch.from_numpy(arrays[name].copy())
        # A file has no tensors without dimensions; and a shape that only fits by broadcasting is another model's.
        if like is not None and found.shape != (like.shape or (1,)):
            raise ValueError(f"{name}, of shape {tuple(found.shape)}")
        return found if like is None else found.reshape(like.shape)

    def of_all_streams(name: str, like: Tensor) -> Tensor:
        """Of the streams here, of the file's; which streams there are does not depend on how many processes."""
        whole = like.new_empty(like.shape[0], trainer.streams.batch_size, *like.shape[2:])
        return tensor(name, whole)[:, trainer.streams.here]

    def number(name: str, default: int | None = None) -> float:
        value: Any = progress.get(name, default)
        if type(value) not in (int, float) or not 0 <= value <= _MOST:
            raise ValueError(name)
        return value  # type: ignore[no-any-return]

    best = {name.removeprefix("best."): array.copy() for name, array in arrays.items() if name.startswith("best.")}
    parameters = dict(trainer.model.named_parameters())
    for name, parameter in parameters.items():
        parameter.data.copy_(tensor(f"model.{name}", parameter))
        for key, value in trainer.optimizer.state[parameter].items():
            value.copy_(tensor(f"optimizer.{name}.{key}", value))
    for part, value in enumerate(trainer.state):
        value.copy_(of_all_streams(f"hidden.{part}", value))
    if best and {name: array.shape for name, array in best.items()} != {
        name: array.shape for name, array in trainer.model.weights().items()
    }:
        raise ValueError("best")
    if arrays["generator"].shape == trainer.generator.get_state().shape:
        trainer.generator.set_state(tensor("generator"))
    else:  # another kind of device, whose generator cannot go on: a new one, that repeats
        trainer.generator.manual_seed(trainer.config.training.seed + int(progress["step"]))
    if progress["scaler"] and trainer.compute.scales_loss:
        trainer.scaler.load_state_dict(progress["scaler"])
    # It is a sum over the processes.
    trainer.sum_nats.copy_(tensor("report.nats", trainer.sum_nats) * trainer.group.leads)
    trainer.norm.copy_(tensor("report.norm", trainer.norm))
    trainer.best_weights = best or None
    trainer.step = int(number("step"))
    trainer.characters = int(number("characters"))
    trainer.seconds = float(number("seconds"))
    trainer.best_nats = math.inf if progress["best_nats"] is None else float(number("best_nats"))
    trainer.best_step = None if progress["best_step"] is None else int(number("best_step"))
    trainer.without_best = int(number("without_best"))
    trainer.validation_seconds = float(number("validation_seconds"))
    step, seconds = progress["last_validation"]
    trainer.last_validation = (int(step), float(seconds))
    trainer.sum_characters = int(number("report_characters"))
    # Older runs watched nothing.
    trainer.divergences = int(number("divergences", 0))
    trainer.calm_nats = None if progress.get("calm_nats") is None else float(number("calm_nats"))
    trainer.leaps = int(number("leaps", 0))
