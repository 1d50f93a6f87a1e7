"""A grid of settings: which values each of them takes, and the points where they meet."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeVar

from charrnn.architectures import weight_shapes
from charrnn.config import Config, ModelConfig, Setting, Settings, TrainingConfig, flag, plain
from charrnn.errors import UsageError
from charrnn.presets import expected_epochs, settle, speed

#: Settings by name, each with its values, in the order given.
Grid = dict[str, tuple[Any, ...]]
#: More trainings than anyone waits for, and a longer name than a file system takes: slips.
MOST_POINTS, LONGEST_NAME = 1_000, 200

Group = TypeVar("Group", bound=Settings)
_SETTINGS: dict[str, Setting] = {
    field.name: field.metadata["setting"]
    for group in (ModelConfig, TrainingConfig)
    for field in dataclasses.fields(group)
}


@dataclass(frozen=True)
class Point:
    """One value for each setting of a grid, and the whole of what is then given to a training."""

    settings: dict[str, Any]
    config: Config

    @property
    def name(self) -> str:
        """Its folder: the cell and the size as people write them, every other setting with its name.

        >>> settings = {"hidden_size": 256, "cell": "lstm", "num_layers": 2, "dropout": 0.1}
        >>> Point(settings, Config()).name
        '2x256_lstm_dropout-0.1'
        """
        parts = []
        sized = {"num_layers", "hidden_size"} <= self.settings.keys()
        for name, value in self.settings.items():
            if name == "cell":
                parts.append(value)
            elif not (sized and name in ("num_layers", "hidden_size")):
                parts.append(f"{flag(name)[2:]}-{plain(value)}")
            elif (size := f"{self.settings['num_layers']}x{self.settings['hidden_size']}") not in parts:
                parts.append(size)
        return "_".join(parts)


def parse_grid(given: Sequence[str]) -> Grid:
    """The grid that options such as ``--grid cell=rnn,lstm --grid num-layers=1,2`` describe.

    >>> parse_grid(["cell=rnn,lstm", "num-layers=1,2"])
    {'cell': ('rnn', 'lstm'), 'num_layers': (1, 2)}

    Raises:
        UsageError: an unknown setting, a bad value, one that is there twice, or none at all.
    """
    grid: Grid = {}
    for text in given:
        title, equals, values = text.partition("=")
        name = title.strip().replace("-", "_")
        if name not in _SETTINGS:
            known = ", ".join(flag(known)[2:] for known in _SETTINGS)
            raise UsageError(f"--grid {text}: {title!r} is no setting; known are {known}")
        if name in grid:
            raise UsageError(f"--grid {text}: {title} is in the grid already; give all its values at once")
        if not equals or not all(value.strip() for value in values.split(",")):
            raise UsageError(f"--grid {text}: expected values with commas between them, such as hidden-size=64,128")
        try:
            grid[name] = tuple(_value(name, value.strip()) for value in values.split(","))
        except UsageError as error:
            raise UsageError(f"--grid {text}: {error}") from None
        if len(set(grid[name])) < len(grid[name]):
            raise UsageError(f"--grid {text}: a value is there twice")
    if not grid:
        raise UsageError("no grid; try: --grid hidden-size=64,128,256")
    return grid


def _value(name: str, text: str) -> Any:
    """A value of a setting, of its type, from what was typed."""
    setting = _SETTINGS[name]
    value: Any = text
    try:
        if setting.kind in ("int", "float"):
            value = int(text) if setting.kind == "int" else float(text)
        elif setting.kind == "bool":
            value = {"true": True, "false": False}.get(text.lower(), text)
    except ValueError:
        pass  # the setting says better what it expects
    return setting.check(name, value)


def common_settings(grid: Grid, given: Config, base: Config) -> Config:
    """What all points of a grid share: what was given, over a file's settings, where the grid is silent.

    Raises:
        UsageError: a setting is given and in the grid too, or the length of training is said in two ways.
    """
    for name in grid:
        if name in given.to_mapping()["model"] | given.to_mapping()["training"]:
            raise UsageError(f"{flag(name)}: is in the grid too; give it once")
    in_grid = [name for name in TrainingConfig.LENGTHS if name in grid]
    lengths = in_grid + given.training.lengths()
    if len(lengths) > 1:
        raise UsageError(f"{', '.join(map(flag, lengths))}: only one of them can say how long to train")
    merged = given.over(base)
    merged.training.check_one_length()
    silent = {*grid, *(TrainingConfig.LENGTHS if in_grid else ())}
    return Config(_without(merged.model, silent), _without(merged.training, silent))


def _without(group: Group, names: Set[str]) -> Group:
    cleared: dict[str, Any] = dict.fromkeys(names & set(group.names()))
    return dataclasses.replace(group, **cleared)


def points_of(grid: Grid, common: Config) -> list[Point]:
    """All points of a grid, the last setting varying fastest; ``common`` holds where the grid is silent.

    Raises:
        UsageError: too many points, or settings.
    """
    count = math.prod(map(len, grid.values()))
    if count > MOST_POINTS:
        raise UsageError(f"the grid has {count:,} points; {MOST_POINTS:,} are the most")
    points = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        model, training = (
            {name: value for name, value in settings.items() if name in group.names()}
            for group in (ModelConfig, TrainingConfig)
        )
        points.append(Point(settings, Config(ModelConfig(**model), TrainingConfig(**training)).over(common)))
    if max(len(point.name) for point in points) > LONGEST_NAME:
        raise UsageError(f"the grid has {len(grid)} settings, too many for the name of a folder")
    return points


def cheapest_first(points: Sequence[Point], *, characters: int, symbols: int, preset: str, cuda: bool) -> list[Point]:
    """The points in the order of the work that they are expected to be, so that a table exists early.

    Args:
        characters: N, length of the training text.
        symbols: V, size of the vocabulary.
    """

    def work(point: Point) -> float:
        machine = "cuda" if cuda else "cpu-fp32"
        if point.config.model.kind == "ngram":
            return float(point.config.model.order or 0)
        config = settle(point.config, characters=characters, machine=machine, preset=preset).config
        if config.training.time_limit is not None:
            return config.training.time_limit
        weights = sum(math.prod(shape) for shape in weight_shapes(config.model, symbols).values())
        return weights * expected_epochs(config.training, characters, speed(config.model, machine))

    return sorted(points, key=work)
