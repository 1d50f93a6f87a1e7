"""Sensible settings without a flag: what fits the text, the device and the time, and why."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from charrnn.config import Config, ModelConfig, TrainingConfig

#: Everything that does not depend on the text or the machine.
MODEL = ModelConfig(
    cell="lstm",
    num_layers=2,
    hidden_size=256,
    embedding_size=64,
    connections="plain",
    layer_norm=False,
    tie_weights=False,
    forget_bias=1.0,
    input_dropout=0.0,
    dropout=0.0,
    output_dropout=0.0,
    weight_dropout=0.0,
)
TRAINING = TrainingConfig(
    sequence_length=64,
    batch_size=64,
    learning_rate=0.01,
    schedule="cosine",
    warmup=0.02,
    final_learning_rate=0.01,
    weight_decay=0.01,
    beta2=0.99,
    clip=1.0,
    averaging=0.02,
    scheduled_sampling=0.0,
    save_every="2m",
    patience=0,
    seed=0,
    device="auto",
    precision="auto",
)

#: Sizes by name: layers, units, size of a character's vector, learning rate. The rates are the best found for a
#: 2 x 256 LSTM on tiny Shakespeare in 100 s (0.004: 1.489 nats; 0.008: 1.461; 0.012: 1.457), falling with width.
SIZES = {"small": (2, 128, 64, 0.014), "base": (2, 256, 64, 0.01), "large": (2, 512, 128, 0.007)}
PRESETS = ("auto", *SIZES)

#: Sustained training speed assumed per kind of machine, in billions of multiply-adds of the forward pass a second.
#: Rough on purpose: they only choose between the sizes above.
SPEED = {"cpu-fp32": 15.0, "cpu-bf16": 50.0, "mps": 300.0, "cuda": 4000.0}


@dataclass(frozen=True)
class Choice:
    """A settled configuration, and one line for each thing that was chosen."""

    config: Config
    reasons: tuple[str, ...]


def settle(given: Config, *, characters: int, machine: str, preset: str = "auto") -> Choice:
    """Fill in every setting that was not given.

    Args:
        given: what the user set; it always holds.
        characters: N, length of the training text.
        machine: a key of ``SPEED``.
        preset: a size by name, or ``auto`` for the one that the text and the time allow.
    """
    training, reasons = given.training, []
    size, why = _size(characters, machine, training) if preset == "auto" else (preset, "as asked")
    layers, units, embedding, rate = SIZES[size]
    if given.model.hidden_size is None:
        reasons.append(f"size {size} ({given.model.num_layers or layers} x {units}): {why}")
    if not training.lengths():
        epochs = round(min(60.0, max(1.0, _passes(size, machine) / characters)), 1)
        training = dataclasses.replace(training, epochs=epochs)
        reasons.append(f"{epochs:g} epochs: enough for this size on a text of {characters:,} characters")
    passes = expected_epochs(training, size, characters, machine)
    drop = next(share for most, share in DROPOUT if passes <= most)
    if drop:
        reasons.append(f"dropout {drop:g}: the text is passed about {passes:.0f} times")
    chosen = Config(
        dataclasses.replace(
            MODEL, num_layers=layers, hidden_size=units, embedding_size=embedding, dropout=drop, output_dropout=drop
        ),
        dataclasses.replace(TRAINING, learning_rate=rate),
    )
    return Choice(Config(given.model, training).over(chosen), tuple(reasons))


#: Passes over the text up to which a share of the units is dropped.
DROPOUT = ((3, 0.0), (8, 0.1), (20, 0.2), (float("inf"), 0.35))


def _work(size: str) -> float:
    """Multiply-adds per character, forward: the weights of the recurrent layers."""
    layers, units, embedding, _ = SIZES[size]
    return 4 * units * (units + embedding) + (layers - 1) * 8 * units * units


def speed(size: str, machine: str) -> float:
    """Expected training speed in characters per second."""
    return SPEED[machine] * 1e9 / _work(size)


def _passes(size: str, machine: str) -> float:
    """Characters to train on when nobody says how long: ten to thirty per weight, and four times that on CUDA."""
    return {"small": 8e6, "base": 16e6, "large": 30e6}[size] * (4 if machine == "cuda" else 1)


def _size(characters: int, machine: str, training: TrainingConfig) -> tuple[str, str]:
    if training.time_limit is not None:
        for size in reversed(SIZES):
            seen = speed(size, machine) * training.time_limit
            if seen >= ENOUGH[size] and characters >= LEAST_TEXT[size]:
                return size, f"the largest that {training.time_limit:g} s on this machine and this text can train well"
        return "small", f"all that {training.time_limit:g} s or this text can train"
    for size in reversed(SIZES):
        if characters >= LEAST_TEXT[size] and (size != "large" or machine in ("cuda", "mps")):
            return size, f"for a text of {characters:,} characters on this machine"
    return "small", f"for a short text of {characters:,} characters"


#: Characters that must pass through a size before it does better than the next smaller one.
ENOUGH = {"small": 0.0, "base": 1.0e6, "large": 6.0e6}
#: Shortest text that a size is for.
LEAST_TEXT = {"small": 0, "base": 200_000, "large": 1_000_000}


def expected_epochs(training: TrainingConfig, size: str, characters: int, machine: str) -> float:
    """How often the text will be passed."""
    if training.time_limit is not None:
        return speed(size, machine) * training.time_limit / characters
    if training.steps is not None:
        batch = training.batch_size or TRAINING.batch_size
        window = training.sequence_length or TRAINING.sequence_length
        return training.steps * batch * window / characters
    return training.epochs
