"""A grid: the product of its values, each point with a folder's name of its own."""

from __future__ import annotations

import itertools

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from charrnn.cli.settings import config_of
from charrnn.cli.train import train
from charrnn.config import Config, ModelConfig, TrainingConfig, flag, plain
from charrnn.errors import UsageError
from charrnn.training.grid import cheapest_first, common_settings, parse_grid, points_of
from charrnn.training.run import is_name

VALUES = {
    "cell": st.sampled_from(["rnn", "lstm", "gru"]),
    "num_layers": st.integers(1, 64),
    "hidden_size": st.integers(1, 16384),
    "tie_weights": st.booleans(),
    "forget_bias": st.floats(-10, 10),
    "learning_rate": st.floats(0, 1e9),
    "time_limit": st.floats(1, 1e9).map(plain).map(float),
    "validate_every": st.sampled_from(["1", "11", "1s", "1m", "1.5m"]),
    "device": st.sampled_from(["auto", "cpu"]),
    "precision": st.sampled_from(["auto", "fp32"]),
    "seed": st.integers(0, 2**63 - 1),
}
GRIDS = st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries(
        {name: st.lists(VALUES[name], min_size=1, max_size=3, unique=True) for name in names}
    )
)


@given(GRIDS)
def test_points_are_the_product_and_their_names_are_unique_and_safe(values):
    texts = [f"{flag(name)[2:]}={','.join(map(plain, each))}" for name, each in values.items()]
    grid = parse_grid(texts)
    assert grid == {name: tuple(each) for name, each in values.items()}
    points = points_of(grid, Config())
    assert [tuple(point.settings.values()) for point in points] == list(itertools.product(*values.values()))
    names = [point.name for point in points]
    assert len(set(names)) == len(names)
    assert all(is_name(name) and "/" not in name and len(name) < 200 for name in names)


app = typer.Typer()
app.command()(train)
TRAIN = get_command(app)


@settings(max_examples=25)
@given(GRIDS)
def test_the_options_of_a_point_give_its_settings_again(values):
    point = points_of({name: tuple(each) for name, each in values.items()}, Config())[-1]
    parsed = TRAIN.make_context("train", ["text", *point.config.to_options()]).params
    assert config_of(parsed) == point.config


def test_names_are_as_people_write_sizes():
    (point,) = points_of(parse_grid(["cell=lstm", "num-layers=2", "hidden_size=256", "seed=0"]), Config())
    assert point.name == "lstm_2x256_seed-0"


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "--grid hidden-size=64"),
        (["hidden-sise=4"], "known are model, cell, num-layers, hidden-size"),
        (["hidden-size"], "expected values"),
        (["hidden-size="], "expected values"),
        (["hidden-size=4,"], "expected values"),
        (["hidden-size=4,x"], "expected a whole number"),
        (["hidden-size=4,1.5"], "expected a whole number"),
        (["hidden-size=0"], "1 to 16384"),
        (["seed=" + "9" * 5000], "whole number"),
        (["dropout=nan"], "0 to 0.95"),
        (["cell=rnn,transformer"], "one of lstm, gru, rnn"),
        (["tie-weights=maybe"], "true or false"),
        (["time-limit=soon"], "a time such as"),
        (["learning-rate=0.1,0.10"], "twice"),
        (["seed=1", "seed=2"], "already"),
        (["epochs=1,2", "steps=3"], "how long"),
        (["steps=" + ",".join(map(str, range(1, 1002)))], "1,001 points"),
    ],
)
def test_what_is_no_grid_is_refused_in_a_line(texts, said):
    with pytest.raises(UsageError, match=said):
        points_of(grid := parse_grid(texts), common_settings(grid, Config(), Config()))


def test_an_option_may_not_contradict_the_grid_but_a_file_gives_way_to_both():
    grid = parse_grid(["epochs=1,2", "hidden-size=4,8"])
    file = Config(ModelConfig(hidden_size=2, num_layers=3), TrainingConfig(steps=9, seed=5))
    common = common_settings(grid, Config(training=TrainingConfig(seed=1)), file)
    assert common.to_mapping() == {"model": {"num_layers": 3}, "training": {"seed": 1}}
    assert points_of(grid, common)[0].config.training == TrainingConfig(epochs=1, seed=1)
    for options in (Config(ModelConfig(hidden_size=4)), Config(training=TrainingConfig(steps=3))):
        with pytest.raises(UsageError, match=r"--hidden-size|--steps"):
            common_settings(grid, options, file)


def test_the_cheapest_come_first_and_equals_stay_in_order():
    grid = parse_grid(["hidden-size=64,8", "seed=1,0", "epochs=2,1"])
    points = cheapest_first(points_of(grid, Config()), characters=9000, symbols=50, preset="auto", cuda=False)
    told = [tuple(point.settings.values()) for point in points]
    assert told == [(h, s, e) for h, e in ((8, 1), (8, 2), (64, 1), (64, 2)) for s in (1, 0)]
