"""Every setting once: its name, default, unit and range.

The command line makes its options from these fields, ``config.toml`` has their names as keys, and a checkpoint
stores their values. A field whose value is ``None`` is chosen by the preset (see :mod:`charrnn.presets`): the
types below are those of a settled configuration, which is what all code but the presets and the command line sees.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from charrnn.errors import CharRNNError, UsageError

CELL_NAMES = ("lstm", "gru", "rnn")
#: Kinds of models, and the settings that each has.
MODELS = {
    "recurrent": (
        "cell", "num_layers", "hidden_size", "embedding_size", "connections", "layer_norm", "tie_weights",
        "forget_bias", "input_dropout", "dropout", "output_dropout", "weight_dropout",
    ),
    "ngram": ("order",),
    "nn": ("context", "hidden_size", "dropout"),
    "tcn": ("num_layers", "hidden_size", "kernel_size", "dropout"),
    "transformer": ("num_layers", "hidden_size", "num_heads", "context", "dropout"),
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What a field accepts; ``kind`` is ``int``, ``float``, ``str``, ``bool``, ``duration`` or ``interval``."""

    kind: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> Any:
        """``value`` in this setting's type, from a flag, a TOML value or Python.

        Raises:
            UsageError: wrong type or out of range; says which values are taken.
        """
        if value is None:
            return None
        option = flag(name)
        if type(value) is int and value.bit_length() > _LONGEST:
            value = math.inf if value > 0 else -math.inf
        if self.kind == "duration":
            value = parse_duration(option, value)
        elif self.kind == "interval":
            value = parse_interval(option, value)
        elif self.kind == "float" and type(value) is int:
            value = float(value)
        expected = {"int": int, "float": float, "bool": bool, "str": str}.get(self.kind)
        if expected is not None and type(value) is not expected:
            raise UsageError(f"{option}: expected {_article(self.kind)}, got {_shown(value)}")
        if self.choices and value not in self.choices:
            raise UsageError(f"{option}: expected one of {', '.join(self.choices)}, got {_shown(value)}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            low = -float("inf") if self.minimum is None else self.minimum
            high = float("inf") if self.maximum is None else self.maximum
            if not low <= value <= high:
                asked = f"at least {low:g}" if high == float("inf") else f"{low:g} to {high:g}"
                raise UsageError(f"{option}: expected {asked}, got {_shown(value)}")
        return value


#: Bits of the longest whole numbers that are looked at: longer ones have no float, and some no decimal form either.
_LONGEST = 1000


def _shown(value: Any) -> str:
    """A value for a message, cut to a length that leaves it a line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number too long to be written
        text = f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."


def _article(kind: str) -> str:
    return {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word"}[kind]


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(option: str, value: Any) -> float:
    """Seconds of ``90s``, ``2m``, ``1.5h``, ``1d`` or a number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _DURATION.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None:
        raise UsageError(f"{option}: expected a time such as 90s, 2m or 1h, got {_shown(value)}")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def parse_interval(option: str, value: Any) -> str:
    """A number of steps (``500``) or a time (``90s``, ``2m``), as normalised text."""
    text = str(value).strip().lower() if isinstance(value, str | int | float) else ""
    if text.isascii() and text.isdigit() and 0 < float(text) <= 1e12:
        return str(int(text))
    match = _DURATION.fullmatch(text)
    if match is None or match[2] is None or float(match[1]) == 0:
        raise UsageError(f"{option}: expected steps such as 500, or a time such as 90s or 2m, got {_shown(value)}")
    return text


def due(interval: str, steps: int, seconds: float) -> bool:
    """Whether ``steps`` or ``seconds`` since the last time fill the interval."""
    if interval.isdigit():
        return steps >= int(interval)
    return seconds >= parse_duration("interval", interval)


def setting(
    default: Any,
    kind: str,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that carries its :class:`Setting`."""
    return field(default=default, metadata={"setting": Setting(kind, help, minimum, maximum, choices)})


@dataclass(frozen=True)
class Settings:
    """Base of the setting groups: checked on creation, convertible to and from plain mappings."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            spec: Setting = item.metadata["setting"]
            object.__setattr__(self, item.name, spec.check(item.name, getattr(self, item.name)))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The settings' names, in order."""
        return tuple(item.name for item in dataclasses.fields(cls))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str, error: type[CharRNNError] = UsageError) -> Self:
        """Settings from a mapping that may come from a file.

        Raises:
            error: an unknown name or a bad value; the line begins with ``where``.
        """
        unknown = sorted(set(values) - set(cls.names()))
        if unknown:
            raise error(f"{where}: unknown setting {unknown[0]!r}; known are {', '.join(cls.names())}")
        try:
            return cls(**values)
        except UsageError as problem:
            raise error(f"{where}: {problem}") from None

    def to_mapping(self) -> dict[str, Any]:
        """The settings that have a value."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}

    def over(self, base: Self) -> Self:
        """These settings where they have a value, ``base``'s elsewhere."""
        return dataclasses.replace(base, **self.to_mapping())


@dataclass(frozen=True)
class ModelConfig(Settings):
    """The architecture; with the vocabulary it fixes every tensor's shape.

    A setting that a kind of model does not have stays ``None`` (see :data:`MODELS`).
    """

    model: str = setting(
        None, "str", "Kind of model: recurrent, or a baseline to set beside it.", choices=tuple(MODELS)
    )
    cell: str = setting(None, "str", "Recurrent cell.", choices=CELL_NAMES)
    num_layers: int = setting(None, "int", "Layers L.", minimum=1, maximum=64)
    hidden_size: int = setting(None, "int", "Units per layer H.", minimum=1, maximum=16384)
    embedding_size: int = setting(None, "int", "Size of a character's vector E.", minimum=1, maximum=16384)
    connections: str = setting(
        None, "str", "Between layers: plain stack, residual sums, or dense concatenation.",
        choices=("plain", "residual", "dense"),
    )  # fmt: skip
    layer_norm: bool = setting(None, "bool", "Normalise each layer's output.")
    tie_weights: bool = setting(None, "bool", "Use the character vectors as output weights too.")
    forget_bias: float = setting(None, "float", "Initial bias of the LSTM's forget gate.", minimum=-10, maximum=10)
    input_dropout: float = setting(
        None, "float", "Share of the character vector dropped, locked over time.", minimum=0, maximum=0.95
    )
    dropout: float = setting(
        None, "float", "Share of units dropped between layers, locked over time.", minimum=0, maximum=0.95
    )
    output_dropout: float = setting(
        None, "float", "Share of units dropped before the output, locked over time.", minimum=0, maximum=0.95
    )
    weight_dropout: float = setting(
        None, "float", "Share of recurrent weights dropped (DropConnect).", minimum=0, maximum=0.95
    )
    context: int = setting(
        None, "int", "Characters that a layer of an nn or a transformer sees.", minimum=1, maximum=4096
    )
    kernel_size: int = setting(None, "int", "Taps of a tcn's convolutions.", minimum=2, maximum=64)
    num_heads: int = setting(None, "int", "Attention heads of a transformer.", minimum=1, maximum=256)
    order: int = setting(None, "int", "Characters of an ngram model's longest n-grams.", minimum=1, maximum=20)

    @property
    def kind(self) -> str:
        """The kind of model; recurrent unless another is asked for."""
        return self.model or "recurrent"

    def check_kind(self) -> None:
        """Raises UsageError for a setting that this kind of model does not have."""
        for name in self.to_mapping():
            if name != "model" and name not in MODELS[self.kind]:
                kinds = [kind for kind, names in MODELS.items() if name in names]
                raise UsageError(f"{flag(name)}: of {', '.join(kinds)}; a model of kind {self.kind} has none")
        if self.num_heads is not None and self.hidden_size is not None and self.hidden_size % (2 * self.num_heads):
            raise UsageError(
                f"--hidden-size {self.hidden_size}: expected a multiple of twice --num-heads {self.num_heads}"
            )


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """How a model is trained. One of epochs, steps and time limit says how long."""

    sequence_length: int = setting(
        None, "int", "Window of truncated back-propagation T, characters.", minimum=1, maximum=65536
    )
    batch_size: int = setting(None, "int", "Parallel streams B.", minimum=1, maximum=65536)
    accumulation: int = setting(
        None, "int", "Parts that a step is computed in, one after another, to save memory.", minimum=1, maximum=65536
    )
    epochs: float = setting(None, "float", "Length in passes over the training text.", minimum=0.001, maximum=1e6)
    steps: int = setting(None, "int", "Length in optimiser steps.", minimum=1, maximum=10**12)
    time_limit: float = setting(
        None, "duration", "Length in time: 90s, 2m, 1h; the schedule anneals to it.", minimum=1, maximum=1e9
    )
    learning_rate: float = setting(None, "float", "Highest learning rate of AdamW.", minimum=0, maximum=1e9)
    schedule: str = setting(None, "str", "Learning rate after the warm-up.", choices=("cosine", "linear", "constant"))
    warmup: float = setting(None, "float", "Share of training over which it rises.", minimum=0, maximum=1)
    final_learning_rate: float = setting(
        None, "float", "Where it ends, as a share of its highest.", minimum=0, maximum=1
    )
    weight_decay: float = setting(None, "float", "AdamW's weight decay, on matrices only.", minimum=0, maximum=10)
    beta2: float = setting(None, "float", "AdamW's decay of squared gradients.", minimum=0, maximum=0.99999)
    clip: float = setting(None, "float", "Largest global gradient norm; 0 does not clip.", minimum=0, maximum=1e9)
    averaging: float = setting(
        None,
        "float",
        "Share of the steps so far that averaged weights cover; 0 = none.",
        minimum=0,
        maximum=1,
    )
    state_reset: float = setting(
        None, "float", "Probability that a stream's state is emptied before a window.", minimum=0, maximum=1
    )
    scheduled_sampling: float = setting(
        None, "float", "Share of inputs drawn from the model at the end of training.", minimum=0, maximum=1
    )
    validate_every: str = setting(
        None, "interval", "Steps, or a time; by default each 5 % of the run, or rarer where that would cost too much."
    )
    save_every: str = setting(None, "interval", "Steps, or a time such as 90s, between saves.")
    keep: int = setting(None, "int", "Latest saves to keep, to go on from.", minimum=1, maximum=1000)
    patience: int = setting(
        None,
        "int",
        "Stop after this many validations without a new best; 0 = never.",
        minimum=0,
        maximum=10**6,
    )
    seed: int = setting(None, "int", "Seed of initial weights, dropout and draws.", minimum=0, maximum=2**63 - 1)
    device: str = setting(None, "str", "Where to compute.", choices=("auto", "cpu", "cuda", "mps"))
    precision: str = setting(None, "str", "Number format of the products.", choices=("auto", "fp32", "bf16", "fp16"))

    LENGTHS: ClassVar[tuple[str, ...]] = ("epochs", "steps", "time_limit")

    def lengths(self) -> list[str]:
        """Which of epochs, steps and time limit are given."""
        return [name for name in self.LENGTHS if getattr(self, name) is not None]

    def check_one_length(self) -> None:
        """Raises UsageError where more than one of them is given."""
        lengths = self.lengths()
        if len(lengths) > 1:
            raise UsageError(f"{', '.join(map(flag, lengths))}: only one of them can say how long to train")


@dataclass(frozen=True)
class Config:
    """A whole run: architecture and training."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str, error: type[CharRNNError] = UsageError) -> Config:
        """From ``{"model": {...}, "training": {...}}``."""
        extra = sorted(set(values) - {"model", "training"})
        if extra or not all(isinstance(values.get(part, {}), Mapping) for part in ("model", "training")):
            raise error(
                f"{where}: expected the tables [model] and [training]" + (f", found {extra[0]!r}" if extra else "")
            )
        return cls(
            ModelConfig.from_mapping(values.get("model", {}), f"{where}: [model]", error),
            TrainingConfig.from_mapping(values.get("training", {}), f"{where}: [training]", error),
        )

    def to_mapping(self) -> dict[str, dict[str, Any]]:
        """As stored in a checkpoint and in ``config.toml``."""
        return {"model": self.model.to_mapping(), "training": self.training.to_mapping()}

    def over(self, base: Config) -> Config:
        """These settings where they have a value, ``base``'s elsewhere; a given length replaces the base's."""
        training = base.training
        if self.training.lengths():
            cleared: dict[str, Any] = dict.fromkeys(TrainingConfig.LENGTHS)
            training = dataclasses.replace(training, **cleared)
        return Config(self.model.over(base.model), self.training.over(training))

    def to_toml(self, comment: str = "") -> str:
        """The text of a ``config.toml`` that gives these settings again."""
        lines = [f"# {line}" for line in comment.splitlines()]
        for table, values in self.to_mapping().items():
            lines += ["", f"[{table}]", *(f"{name} = {_toml(value)}" for name, value in values.items())]
        return "\n".join(lines).lstrip("\n") + "\n"

    def to_options(self) -> list[str]:
        """The options of ``charrnn train`` that give these settings.

        >>> Config(ModelConfig(cell="gru", tie_weights=False), TrainingConfig(epochs=2)).to_options()
        ['--cell', 'gru', '--no-tie-weights', '--epochs', '2']
        """
        settings = (item for values in self.to_mapping().values() for item in values.items())
        return [word for name, value in settings for word in typed(name, value)]

    @classmethod
    def read_toml(cls, path: Path) -> Config:
        """Read a ``config.toml``.

        Raises:
            UsageError: missing, not TOML, unknown names or bad values.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:  # of a number with too many digits, or tables without end, too
            raise UsageError(f"{path}: not a TOML file ({error})") from error
        return cls.from_mapping(values, str(path))


def flag(name: str) -> str:
    """A setting's option.

    >>> flag("num_layers")
    '--num-layers'
    """
    return "--" + name.replace("_", "-")


def typed(name: str, value: object) -> list[str]:
    """A setting as it is typed.

    >>> typed("num_layers", 2), typed("layer_norm", False)
    (['--num-layers', '2'], ['--no-layer-norm'])
    """
    if isinstance(value, bool):
        return [flag(name if value else f"no_{name}")]
    return [flag(name), plain(value)]


def plain(value: object) -> str:
    """A setting's value as it is typed after its option, whole numbers without a point.

    >>> plain(20.0), plain(0.001), plain("lstm"), plain(True)
    ('20', '0.001', 'lstm', 'true')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return str(value)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)
