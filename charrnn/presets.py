"""Sensible settings without a flag: what fits the text, the device and the time, and why."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from charrnn.architectures import title, weight_shapes
from charrnn.config import Config, ModelConfig, TrainingConfig, flag
from charrnn.errors import UsageError

#: Everything that does not depend on the text or the machine.
MODEL = ModelConfig(
    cell="lstm",
    num_layers=2,
    hidden_size=256,
    embedding_size=64,
    connections="plain",
    layer_norm=True,
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
    accumulation=1,
    learning_rate=0.01,
    schedule="cosine",
    warmup=0.02,
    final_learning_rate=0.01,
    weight_decay=0.01,
    beta2=0.99,
    clip=1.0,
    averaging=0.02,
    state_reset=0.01,
    scheduled_sampling=0.0,
    save_every="2m",
    keep=2,
    patience=0,
    seed=0,
    device="auto",
    precision="auto",
)

#: Sizes by name: layers, units, size of a character's vector.
SIZES = {"small": (2, 128, 64), "base": (2, 256, 64), "large": (2, 512, 128), "xlarge": (2, 1024, 128)}
PRESETS = ("auto", *SIZES)


def check_preset(preset: str) -> None:
    """Raises UsageError where there is no preset of that name."""
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset}: expected one of {', '.join(PRESETS)}")


#: On CUDA, so that cuDNN may keep the recurrent weights on the chip over a whole window: it asks for float16, one
#: layer a call, H and E multiples of 128, H at most 1,024, B a multiple of 8 and at most 128. Not measured yet.
CUDA_EMBEDDING_SIZE, CUDA_BATCH_SIZE = 128, 128

#: Sustained training speed assumed per kind of machine, in billions of multiply-adds of the forward pass a second.
#: Rough on purpose: they only choose between the sizes above.
SPEED = {"cpu-fp32": 15.0, "cpu-bf16": 50.0, "cpu-amx": 110.0, "mps": 300.0, "cuda": 4000.0}


#: How much slower the baselines are than recurrent layers with a kernel of their own.
SLOWER = 2.0

#: However narrow, no network trains faster than this on a CPU, in characters a second (measured: 2 x 128, 289,000).
FASTEST_ON_CPU = 300_000.0


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
    if given.model.kind != "recurrent":
        return _settle_baseline(given, characters, machine, preset)
    training, reasons = given.training, []
    size, why = _size(characters, machine, training) if preset == "auto" else (preset, "as asked")
    model = given.model.over(_model(size, machine))
    units = model.hidden_size
    if given.model.hidden_size is None:
        reasons.append(f"size {size} ({model.num_layers} x {units}): {why}")
    if not training.lengths():
        known = next(passes for least, passes in KNOWN if units >= least) * max(1.0, KNOWN_TEXT / characters)
        epochs = round(min(known, MOST_EPOCHS, max(1.0, _passes(units, machine) / characters)), 1)
        training = dataclasses.replace(training, epochs=epochs)
        reasons.append(f"{epochs:g} epochs: for this size and a text of {characters:,} characters")
    usual = dataclasses.replace(
        TRAINING, learning_rate=_rate(model), batch_size=CUDA_BATCH_SIZE if machine == "cuda" else TRAINING.batch_size
    )
    passes = expected_epochs(training.over(usual), characters, speed(model, machine))
    if training.batch_size is training.steps is None and machine != "cuda" and passes * characters < FEW:
        usual = dataclasses.replace(usual, batch_size=SMALL_BATCH_SIZE)
        reasons.append(f"batch {SMALL_BATCH_SIZE}: smaller and more steps, for a short training")
    share = _dropout(model, passes, characters)
    suited = ModelConfig(dropout=share, output_dropout=share)
    for recipe in RECIPES:
        if units >= recipe.units and passes > recipe.passes:
            suited, usual = recipe.model, recipe.training.over(usual)
            rate = usual.learning_rate * math.sqrt(recipe.units / units) * _cautious(model)
            usual = dataclasses.replace(usual, learning_rate=round(rate, 4))
            if machine != "cuda":
                usual = dataclasses.replace(usual, batch_size=SMALL_BATCH_SIZE)
            if training.sequence_length is None:
                reasons.append(f"windows of {usual.sequence_length}: for a wide model that passes the text often")
            break
    chosen = {
        name: value for name, value in suited.to_mapping().items() if value and getattr(given.model, name) is None
    }
    if chosen:
        values = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in chosen.items())
        reasons.append(f"{values}: the text is passed about {passes:.0f} times")
    return Choice(Config(given.model.over(suited.over(model)), training.over(usual)), tuple(reasons))


#: Sizes of the baselines by name. A Transformer's are those of nanoGPT's recipes for a CPU and for a GPU, and between.
BASELINES: dict[str, dict[str, ModelConfig]] = {
    "nn": {
        "small": ModelConfig(context=8, hidden_size=512),
        "base": ModelConfig(context=12, hidden_size=1024),
        "large": ModelConfig(context=20, hidden_size=2048),
    },
    "tcn": {
        "small": ModelConfig(num_layers=6, hidden_size=128, kernel_size=3),
        "base": ModelConfig(num_layers=7, hidden_size=256, kernel_size=3),
        "large": ModelConfig(num_layers=8, hidden_size=512, kernel_size=3),
    },
    "transformer": {
        "small": ModelConfig(num_layers=4, hidden_size=128, num_heads=4, context=64),
        "base": ModelConfig(num_layers=6, hidden_size=256, num_heads=4, context=128),
        "large": ModelConfig(num_layers=6, hidden_size=384, num_heads=6, context=256),
    },
    "ngram": {
        "small": ModelConfig(order=5), "base": ModelConfig(order=8), "large": ModelConfig(order=12),
        "xlarge": ModelConfig(order=20),
    },
}  # fmt: skip
#: Their learning rates.
BASELINE_RATES = {"nn": 0.004, "tcn": 0.003, "transformer": 0.002}


def counted(given: Config, preset: str) -> Config:
    """The settings of an n-gram model.

    Raises:
        UsageError: a setting of a training by steps is given.
    """
    for name in given.training.to_mapping():
        raise UsageError(f"{flag(name)}: an ngram model counts its text once; it has no such setting")
    sizes = BASELINES["ngram"]
    return Config(given.model.over(sizes["base" if preset == "auto" else preset]))


def _settle_baseline(given: Config, characters: int, machine: str, preset: str) -> Choice:
    kind = given.model.kind
    sizes = BASELINES[kind]
    if preset not in ("auto", *sizes):
        raise UsageError(f"--preset {preset}: no such size of kind {kind}; there are {', '.join(sizes)}")
    size = ("base" if machine in ("cuda", "mps") else "small") if preset == "auto" else preset
    model, training = given.model.over(sizes[size]), given.training
    model.check_kind()
    reasons = [f"size {size} ({title(model)})"]
    if not training.lengths():
        epochs = round(min(MOST_EPOCHS, max(1.0, _passes(model.hidden_size, machine) / characters)), 1)
        training = dataclasses.replace(training, epochs=epochs)
        reasons.append(f"{epochs:g} epochs: enough for this size on a text of {characters:,} characters")
    settled = training.over(dataclasses.replace(TRAINING, learning_rate=BASELINE_RATES[kind]))
    passes = expected_epochs(settled, characters, speed(model, machine))
    share = _dropout(model, passes, characters)
    return Choice(Config(model.over(ModelConfig(dropout=share)), settled), tuple(reasons))


#: Characters of a training below which it learns more from twice as many steps of half the size, though each step then
#: takes more than half as long: a plain 2 x 256 LSTM on tiny Shakespeare, 2.1 million characters with 32 streams 1.514
#: nats, 2.5 million with 64 in the same 20 s 1.533; in 40 s, 4.1 and 5.0 million, 1.485 and 1.474.
FEW, SMALL_BATCH_SIZE = 3.5e6, 32

#: Passes over the text up to which a share of the units is dropped.
DROPOUT = ((3, 0.0), (8, 0.1), (20, 0.2), (float("inf"), 0.35))


def _dropout(model: ModelConfig, passes: float, characters: int) -> float:
    """The share for a model. One with fewer weights than the text has characters cannot learn it by heart so soon: a
    2 x 128 LSTM, not normalised, that passes tiny Shakespeare 8 times has 1.526 nats with nothing dropped, and 1.545
    with a tenth."""
    known = passes * min(1.0, _weights(model) / characters)
    return next(share for most, share in DROPOUT if known <= most)


def _weights(model: ModelConfig) -> int:
    """How many a model has, but for those of each character."""
    return sum(map(math.prod, weight_shapes(model, 0).values()))


#: Passes over the text when nobody says how many: at most so many,
MOST_EPOCHS = 60.0
#: and from so many units on, so many of a text of a million characters, which the model then knows. Of a shorter one it
#: needs more, or it would have learnt nothing yet.
KNOWN, KNOWN_TEXT = ((1024, 4.0), (512, 8.0), (256, 12.0), (0, MOST_EPOCHS)), 1e6


@dataclass(frozen=True)
class Recipe:
    """From so many units on, and for more passes, what made a 2-layer LSTM of that width predict tiny Shakespeare best
    (benchmarks/RESULTS.md): longer windows, smaller batches, more dropped, a lower rate, which falls with the root of
    the width. What layer normalisation gains a narrower one, the widest have without."""

    units: int
    passes: float
    model: ModelConfig
    training: TrainingConfig


RECIPES = (
    Recipe(
        1024,
        3,
        ModelConfig(layer_norm=False, dropout=0.2, output_dropout=0.2),
        TrainingConfig(sequence_length=128, learning_rate=0.0035),
    ),
    Recipe(
        512,
        5,
        ModelConfig(connections="dense", dropout=0.25, output_dropout=0.25),
        TrainingConfig(sequence_length=128, learning_rate=0.005),
    ),
)


def _model(size: str, machine: str) -> ModelConfig:
    layers, units, embedding = SIZES[size]
    embedding = CUDA_EMBEDDING_SIZE if machine == "cuda" else embedding
    return dataclasses.replace(MODEL, num_layers=layers, hidden_size=units, embedding_size=embedding)


def _rate(model: ModelConfig) -> float:
    """Learning rate for a width: the best found for a plain 2 x 256 LSTM on tiny Shakespeare in 100 s (0.004: 1.489
    nats; 0.008: 1.461; 0.012: 1.457), falling with the root of the width; none higher than 2 x 128 was trained with.

    GRUs want half of it: after two passes over War and Peace one of 2 x 128 has 1.333 nats with 0.014, 1.275 with 0.007
    and 1.287 with 0.0035. So do RNNs (2 x 128: 1.413, 1.381 and 1.407), and wider ones still less; see
    benchmarks/RESULTS.md.

    >>> [_rate(ModelConfig(cell="lstm", hidden_size=units)) for units in (16, 128, 256, 512, 1024)]
    [0.014, 0.014, 0.01, 0.007, 0.005]
    >>> [_rate(ModelConfig(cell="rnn", hidden_size=units)) for units in (128, 256, 512, 1024)]
    [0.007, 0.0035, 0.0018, 0.0009]
    """
    lstm = round(0.01 * math.sqrt(256 / max(model.hidden_size, 128)), 3)
    return round(lstm * _cautious(model), 4)


def _cautious(model: ModelConfig) -> float:
    """What part of an LSTM's learning rate the cell wants."""
    falling = math.sqrt(128 / max(model.hidden_size, 128))
    return {"lstm": 1.0, "gru": 0.5, "rnn": 0.5 * falling}[model.cell]


def speed(model: ModelConfig, machine: str) -> float:
    """Expected training speed in characters per second, by the weights of the layers, as if they were an LSTM's."""
    if model.kind == "ngram":
        return FASTEST_ON_CPU
    if model.kind != "recurrent":
        return SPEED[machine] * 1e9 / _weights(model) / SLOWER
    H, E = model.hidden_size, model.embedding_size
    fastest = FASTEST_ON_CPU if machine.startswith("cpu") else math.inf
    return min(SPEED[machine] * 1e9 / (4 * H * (H + E) + (model.num_layers - 1) * 8 * H * H), fastest)


def _passes(units: int, machine: str) -> float:
    """Characters to train on when nobody says how long: more for wider models, and four times that on CUDA."""
    return min(max(8e6, 62_500.0 * units), 30e6) * (4 if machine == "cuda" else 1)


def _size(characters: int, machine: str, training: TrainingConfig) -> tuple[str, str]:
    if training.time_limit is not None:
        seen = {size: speed(_model(size, machine), machine) * training.time_limit for size in SIZES}
        for size in reversed(SIZES):
            # A wider one is for a text that a narrower one would soon know, or for much time.
            worn = size not in WORN or seen[WORN[size]] > OFTEN * characters or seen[size] > PLENTY
            if seen[size] >= ENOUGH[size] and characters >= LEAST_TEXT[size] and worn:
                return size, f"the largest that {training.time_limit:g} s on this machine and this text can train well"
        return "small", f"all that {training.time_limit:g} s or this text can train"
    for size in reversed(SIZES):
        if characters >= LEAST_TEXT[size] and size in (("large", "base") if machine in ("cuda", "mps") else ("base",)):
            return size, f"for a text of {characters:,} characters on this machine"
    return "small", f"for a short text of {characters:,} characters"


#: Characters that must pass through a size before it does better than the next smaller one in the same time. On tiny
#: Shakespeare, plain, base and small are even after 10 s (1.633 and 1.639 nats); base has 1.464 after 60 s and 1.456
#: after 100, large 1.478 and 1.435. Normalised, both have 1.44 after 80 s.
ENOUGH = {"small": 0.0, "base": 1.0e6, "large": 2.4e6, "xlarge": 4.0e6}
#: A size that does better in the same time once this other one passes a text more than so often, or itself sees so many
#: characters: after 120 s on Python's library, where base has passed 1.2 times, it has 1.631 bits per character, and
#: large 1.785. The second number is a guess.
WORN, OFTEN, PLENTY = {"large": "base", "xlarge": "large"}, 8, 20e6
#: Shortest text that a size is for.
LEAST_TEXT = {"small": 0, "base": 200_000, "large": 1_000_000, "xlarge": 1_000_000}


def expected_epochs(training: TrainingConfig, characters: int, speed: float) -> float:
    """How often the text will be passed, at a speed in characters per second."""
    if training.time_limit is not None:
        return speed * training.time_limit / characters
    if training.steps is not None:
        return training.steps * training.batch_size * training.sequence_length / characters
    return training.epochs
