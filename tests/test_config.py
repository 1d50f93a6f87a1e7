"""Settings: checked once, said plainly, the same again from a file."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.config import MODELS, Config, ModelConfig, TrainingConfig, due, parse_duration, parse_interval
from charrnn.errors import UsageError
from charrnn.presets import BASELINE_RATES, MODEL, PRESETS, SIZES, SPEED, TRAINING, settle


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("2m", 120), ("1h", 3600), ("1.5h", 5400), ("45", 45), (30, 30), ("1d", 86400)]
)
def test_durations(text, seconds):
    assert parse_duration("--time-limit", text) == seconds


@pytest.mark.parametrize("text", ["", "2 minutes", "-3s", "h", "1e3s", "nan", True])
def test_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(UsageError, match="90s, 2m or 1h"):
        parse_duration("--time-limit", text)


def test_intervals_are_steps_or_times():
    assert parse_interval("--save-every", "0500") == "500"
    assert parse_interval("--save-every", 20) == "20"
    assert due("500", 500, 0)
    assert not due("500", 499, 1e9)
    assert due("2m", 0, 120)
    assert not due("2m", 10**9, 119)
    for bad in ("0", "0s", "-1", "x", ""):
        with pytest.raises(UsageError):
            parse_interval("--save-every", bad)


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        (ModelConfig, "hidden_size", 0),
        (ModelConfig, "hidden_size", 2.5),
        (ModelConfig, "hidden_size", True),
        (ModelConfig, "cell", "transformer"),
        (ModelConfig, "dropout", 1.0),
        (ModelConfig, "dropout", math.nan),
        (TrainingConfig, "learning_rate", -1),
        (TrainingConfig, "learning_rate", math.inf),
        (TrainingConfig, "batch_size", -(2**70)),
        (TrainingConfig, "time_limit", "soon"),
        (TrainingConfig, "precision", "fp8"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_option(group, name, value):
    with pytest.raises(UsageError) as error:
        group(**{name: value})
    assert str(error.value).startswith("--" + name.replace("_", "-"))
    assert "\n" not in str(error.value)


def test_every_setting_has_a_settled_default_or_a_stated_reason_to_have_none():
    chosen = settle(Config(), characters=10**6, machine="cpu-bf16").config
    missing = [
        f.name for group in (chosen.model, chosen.training)
        for f in dataclasses.fields(group) if getattr(group, f.name) is None
    ]  # fmt: skip
    # "model" is the recurrent one, and the next four are other kinds'.
    others = ["model", "context", "kernel_size", "num_heads", "order"]
    assert missing == [*others, "steps", "time_limit", "validate_every"]


configs = st.builds(
    Config,
    st.builds(
        ModelConfig,
        cell=st.sampled_from(["lstm", "gru", "rnn", None]),
        hidden_size=st.none() | st.integers(1, 4096),
        dropout=st.none() | st.floats(0, 0.95),
        layer_norm=st.none() | st.booleans(),
    ),
    st.builds(
        TrainingConfig,
        learning_rate=st.none() | st.floats(0, 10),
        epochs=st.none() | st.floats(0.1, 100),
        save_every=st.none() | st.sampled_from(["500", "2m"]),
        seed=st.none() | st.integers(0, 2**63 - 1),
    ),
)


@given(configs)
def test_toml_gives_the_same_settings_again(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_text(config.to_toml("a comment\nof two lines"))
    assert Config.read_toml(path) == config


@given(configs, configs)
def test_given_settings_hold_over_others_and_a_given_length_replaces_theirs(given_, base):
    merged = given_.over(base)
    for group in ("model", "training"):
        for name in type(getattr(base, group)).names():
            mine = getattr(getattr(given_, group), name)
            if mine is not None:
                assert getattr(getattr(merged, group), name) == mine
    assert len(merged.training.lengths()) <= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\nhiden_size = 3", "hiden_size"),
        ("[modell]\n", "modell"),
        ("model = 3", r"\[model\]"),
        ("[model]\nhidden_size = 'x'", "whole number"),
        ("hidden_size = ", "not a TOML file"),
    ],
)
def test_a_bad_config_file_is_named_with_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        Config.read_toml(path)
    assert "run.toml" in str(error.value)


@given(
    st.integers(2, 10**10),
    st.sampled_from(sorted(SPEED)),
    st.sampled_from(PRESETS),
    st.sampled_from([{}, {"time_limit": 1}, {"time_limit": 10**6}, {"steps": 7}, {"epochs": 0.5}]),
)
def test_presets_settle_any_text_on_any_machine(characters, machine, preset, length):
    given_ = Config(ModelConfig(cell="gru"), TrainingConfig(batch_size=3, **length))
    config = settle(given_, characters=characters, machine=machine, preset=preset).config
    assert config.model.cell == "gru"
    assert config.training.batch_size == 3
    assert len(config.training.lengths()) == 1
    assert set(config.model.to_mapping()) == set(MODELS["recurrent"])


@given(
    st.integers(2, 10**10),
    st.sampled_from(sorted(SPEED)),
    st.sampled_from(sorted(BASELINE_RATES)),
    st.sampled_from(("auto", "small", "base", "large")),
    st.sampled_from([{}, {"time_limit": 1}, {"time_limit": 10**6}, {"steps": 7}, {"epochs": 0.5}]),
)
def test_presets_settle_every_baseline_on_any_machine(characters, machine, kind, preset, length):
    given_ = Config(ModelConfig(model=kind, hidden_size=192), TrainingConfig(batch_size=3, **length))
    config = settle(given_, characters=characters, machine=machine, preset=preset).config
    assert config.model.hidden_size == 192
    assert config.training.batch_size == 3
    assert len(config.training.lengths()) == 1
    assert set(config.model.to_mapping()) == {"model", *MODELS[kind]}


@given(
    st.integers(2, 10**10),
    st.sampled_from(PRESETS),
    st.sampled_from([{}, {"time_limit": 1}, {"time_limit": 100}, {"time_limit": 10**6}, {"steps": 7}, {"epochs": 0.5}]),
)
def test_on_cuda_every_preset_meets_the_conditions_of_the_fastest_recurrent_kernels(characters, preset, length):
    given_ = Config(training=TrainingConfig(**length))
    config = settle(given_, characters=characters, machine="cuda", preset=preset).config
    assert config.model.hidden_size % 128 == 0
    assert config.model.hidden_size <= 1024
    assert config.model.embedding_size % 128 == 0
    assert config.training.batch_size % 8 == 0
    assert config.training.batch_size <= 128


def test_rate_length_and_dropout_are_those_of_the_width_in_use_whichever_preset_it_changes():
    def settled(preset, characters=2 * 10**6, **model):
        return settle(Config(ModelConfig(**model)), characters=characters, machine="cpu-fp32", preset=preset).config

    for size, (layers, units, embedding) in SIZES.items():
        for other in SIZES:
            same = settled(other, num_layers=layers, hidden_size=units, embedding_size=embedding)
            assert same == settled(size)
    rates = [settled("small", hidden_size=units).training.learning_rate for units in (1, 128, 256, 512, 1024, 16384)]
    assert rates == [
        0.014,
        0.014,
        0.01,
        0.005,
        0.0035,
        0.0009,
    ]  # the last three are those of wide models that pass the text often
    long = 5 * 10**6  # of a shorter text both make as many passes as they know it after
    assert settled("base", long, hidden_size=512).training.epochs > settled("base", long).training.epochs


@pytest.mark.parametrize("epochs", [2.0, 20.0])
def test_a_gru_has_half_the_learning_rate_of_an_lstm_and_an_rnn_less_the_wider_it_is(epochs):
    def rate(cell, units):
        given = Config(ModelConfig(cell=cell, hidden_size=units), TrainingConfig(epochs=epochs))
        return settle(given, characters=10**6, machine="cpu-amx").config.training.learning_rate

    for units in (64, 128, 512, 1024):
        assert rate("gru", units) == pytest.approx(rate("lstm", units) / 2, rel=0.05)
    for units, part in ((64, 2), (128, 2), (512, 4)):
        assert rate("rnn", units) == pytest.approx(rate("lstm", units) / part, rel=0.05)


def test_a_wider_model_passes_the_text_less_often_in_the_same_time_and_drops_less():
    def dropped(**model):
        given_ = Config(ModelConfig(**model), TrainingConfig(time_limit=600))
        return settle(given_, characters=10**6, machine="cpu-bf16", preset="small").config.model.dropout

    assert dropped() > dropped(hidden_size=1024)


def test_a_model_with_fewer_weights_than_the_text_has_characters_drops_less_and_the_narrowest_nothing():
    def dropped(units, characters):
        given_ = Config(ModelConfig(hidden_size=units), TrainingConfig(epochs=12.0))
        model = settle(given_, characters=characters, machine="cpu-amx").config.model
        return model.dropout, model.output_dropout

    assert dropped(64, 10**4) == dropped(256, 10**5) == dropped(256, 10**6) == (0.2, 0.2)
    assert dropped(64, 10**6) == dropped(256, 10**7) == (0.0, 0.0)
    assert dropped(256, 3 * 10**6) == (0.1, 0.1)


def test_more_time_never_chooses_a_smaller_model():
    sizes = [
        settle(
            Config(training=TrainingConfig(time_limit=t)), characters=10**6, machine="cpu-bf16"
        ).config.model.hidden_size
        for t in (1, 10, 60, 120, 300, 600, 3600, 10**5)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


@pytest.mark.parametrize("preset", SIZES)
@pytest.mark.parametrize("characters", [500, 10_000, 300_000, 1_000_000])
def test_every_preset_sees_enough_of_a_short_text_to_learn_it(preset, characters):
    training = settle(Config(), characters=characters, machine="cpu-amx", preset=preset).config.training
    assert training.epochs * characters >= min(60 * characters, 4_000_000) - characters


def test_settled_constants_are_complete():
    assert set(MODEL.to_mapping()) == set(MODELS["recurrent"])
    optional = {*TrainingConfig.LENGTHS, "validate_every"}
    assert all(getattr(TRAINING, name) is not None for name in TrainingConfig.names() if name not in optional)


@pytest.mark.parametrize(
    ("characters", "seconds", "units", "batch"),
    [
        (10**6, 4, 128, 32),
        (10**6, 20, 256, 32),
        (10**6, 60, 256, 64),
        (10**6, 80, 512, 32),
        (10**6, 600, 1024, 32),
        (3 * 10**7, 120, 256, 64),
    ],
)
def test_time_and_text_choose_the_size_that_was_measured_to_be_best(characters, seconds, units, batch):
    given = Config(training=TrainingConfig(time_limit=seconds))
    settled = settle(given, characters=characters, machine="cpu-amx").config
    assert (settled.model.hidden_size, settled.training.batch_size) == (units, batch)


def test_only_a_wide_model_that_passes_its_text_often_has_the_recipe_for_it_and_what_is_given_holds():
    def settled(units, epochs, **given):
        model = ModelConfig(hidden_size=units, **{k: v for k, v in given.items() if k in ModelConfig.names()})
        training = TrainingConfig(epochs=epochs, **{k: v for k, v in given.items() if k in TrainingConfig.names()})
        return settle(Config(model, training), characters=10**6, machine="cpu-amx").config

    recipe = settled(512, 8)
    assert (recipe.model.connections, recipe.model.layer_norm) == ("dense", True)
    assert (recipe.model.dropout, recipe.model.output_dropout, recipe.model.weight_dropout) == (0.25, 0.25, 0.0)
    assert (recipe.training.sequence_length, recipe.training.batch_size) == (128, 32)
    assert (recipe.training.learning_rate, recipe.training.averaging) == (0.005, 0.02)
    wider = settled(1024, 6)
    assert (wider.model.connections, wider.model.layer_norm) == ("plain", False)
    assert (wider.model.dropout, wider.model.output_dropout, wider.model.weight_dropout) == (0.2, 0.2, 0.0)
    assert (wider.training.sequence_length, wider.training.batch_size) == (128, 32)
    assert (wider.training.learning_rate, wider.training.averaging) == (0.0035, 0.02)
    for units, epochs in ((1024, 3), (512, 3), (256, 20)):
        other = settled(units, epochs)
        assert (other.model.connections, other.model.layer_norm) == ("plain", True)
        assert other.model.weight_dropout == 0
        assert (other.training.sequence_length, other.training.averaging) == (64, 0.02)
    own = settled(512, 20, connections="plain", dropout=0.1, sequence_length=50)
    assert (own.model.connections, own.model.dropout, own.model.output_dropout) == ("plain", 0.1, 0.25)
    assert (own.training.sequence_length, own.training.batch_size) == (50, 32)


@pytest.mark.parametrize("preset", SIZES)
def test_presets_are_what_the_figures_of_results_were_measured_with(preset):
    results = json.loads((Path(__file__).parents[1] / "benchmarks" / "results" / "quality.json").read_text())
    row = "shakespeare" if preset == "xlarge" else preset
    measured = results["rows"][row]["runs"][0]["record"]["config"]
    settled = settle(Config(), characters=1_003_854, machine="cpu-amx", preset=preset).config.to_mapping()
    assert settled["model"] == measured["model"]
    own = {"keep": 2, "accumulation": 1, "validate_every": None}  # of the row, or of a day before there was a choice
    assert settled["training"] | own == measured["training"] | own
