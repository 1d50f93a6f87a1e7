"""The Python API: the same figures and files as the commands."""

import numpy as np
import pytest

import charrnn
from charrnn.errors import UsageError

SETTINGS = {"steps": 30, "num_layers": 1, "hidden_size": 16, "batch_size": 8, "sequence_length": 32, "device": "cpu"}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> charrnn.Model:
    folder = tmp_path_factory.mktemp("api")
    (folder / "t.txt").write_text("the cat sat on the mat\n" * 300)
    events: list = []
    model = charrnn.train(
        folder / "t.txt", root=folder / "runs", corpora=folder / "corpora", on_event=events.append, **SETTINGS
    )
    assert next(type(event).__name__ for event in events) == "Started"
    assert [type(event).__name__ for event in events][-1] == "Finished"
    return model


def test_a_trained_model_can_be_loaded_by_name_or_as_the_latest(model):
    root = model.checkpoint.path.parent.parent
    for name in ("t", None, str(model.checkpoint.path)):
        assert charrnn.load(name, root=root).checkpoint.path == model.checkpoint.path


def test_generation_repeats_with_a_seed_and_searches_with_a_beam(model):
    assert model.generate("the ", length=40, seed=1) == model.generate("the ", length=40, seed=1)
    assert len(model.generate("the ", length=40)) == 40
    best, greedy = model.generate("the ", length=20, beam=8), model.generate("the ", length=20, greedy=True)
    assert model.score("the " + best).nats <= model.score("the " + greedy).nats + 1e-6


def test_scores_are_additive_over_a_text_and_its_parts(model):
    whole, part = model.score("the cat sat"), model.score("the cat")
    assert whole.nats > part.nats > 0
    assert whole.characters == 11
    assert model.score("the dog sat").unseen == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"length": 0}, {"length": 2.5}, {"temperature": -1.0}, {"temperature": "hot"}, {"top_k": 2.5}, {"top_p": 0},
        {"seed": -1}, {"seed": "x"}, {"stop": "end"}, {"stop": [""]}, {"temprature": 1.0}, {"samples": 2},
        {"greedy": True, "top_k": 3}, {"length_penalty": 1.0}, {"beam": 0}, {"beam": 2, "temperature": 0.5},
        {"beam": 2, "seed": 1}, {"beam": 2, "length_penalty": -1}, {"beam": 2, "no_repeat_ngram": 0},
    ],
)  # fmt: skip
def test_bad_settings_of_generate_are_usage_errors(model, settings):
    with pytest.raises(UsageError) as caught:
        model.generate(**settings)
    assert "\n" not in str(caught.value)


def test_settings_may_be_numpys(model):
    settings = {"length": np.int64(5), "seed": np.int64(3), "temperature": np.float32(0.5), "stop": ["zzz"]}
    assert len(model.generate(**settings)) == 5


@pytest.mark.parametrize("settings", [{"hiden_size": 3}, {"preset": "huge"}, {"hidden_size": 0}, {"device": "foo"}])
def test_bad_settings_of_train_are_usage_errors(settings):
    with pytest.raises(UsageError, match=r"hid.en.size|huge|foo"):
        charrnn.train("t.txt", **settings)
    with pytest.raises(UsageError, match="no text"):
        charrnn.train([])
