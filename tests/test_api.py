"""The Python API: the same figures and files as the commands."""

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


def test_bad_settings_are_usage_errors(model, tmp_path):
    with pytest.raises(UsageError, match="hiden_size"):
        charrnn.train("t.txt", hiden_size=3)
    with pytest.raises(UsageError):
        model.generate(length=0)
    with pytest.raises(UsageError):
        model.generate(temperature=-1.0)
