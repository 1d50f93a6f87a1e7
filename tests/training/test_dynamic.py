"""Dynamic evaluation: learns from what has been scored, never from what has not."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charrnn.architectures import TEXT
from charrnn.checkpoint import Checkpoint
from charrnn.config import Config, ModelConfig, TrainingConfig
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.ensemble import Ensemble, Floats
from charrnn.errors import DivergedError, TextError, UsageError
from charrnn.evaluation.evaluator import evaluate
from charrnn.evaluation.ngram import NGram
from charrnn.evaluation.surprisal import Ids
from charrnn.model.network import CharRNN
from charrnn.training import dynamic
from charrnn.training.dynamic import Adaptation, Readers, Recounter, adapt, reader_of, surprisals_on_the_way
from charrnn.training.learner import STRETCH

Make = Callable[..., Checkpoint]
FAST = Adaptation(learning_rate=0.01, window=8)
NEWLINE = 0


def scores(checkpoints: list[Checkpoint], ids: np.ndarray, how: Adaptation = FAST) -> np.ndarray:
    reader = reader_of(Ensemble(tuple(checkpoints)) if len(checkpoints) > 1 else checkpoints[0], how, "cpu")
    return np.concatenate([nats for _, nats in surprisals_on_the_way(reader, ids, NEWLINE, how.window)])


def counted(text: np.ndarray, order: int = 3) -> Checkpoint:
    """An n-gram model of ids of the vocabulary that the tiny networks have."""
    config = Config(ModelConfig(model="ngram", order=order), TrainingConfig())
    return Checkpoint(config, Vocabulary.of("\n abcdefgh"), {TEXT: text.astype(np.uint8)})


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let n-gram models count anew every second window."""
    monkeypatch.setattr(dynamic, "LEAST_READ", 16)


@pytest.mark.usefixtures("often")
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_score_depends_on_its_own_character_or_on_later_ones(tiny_checkpoint: Make, data: st.DataObject) -> None:
    three = [tiny_checkpoint(seed=1), tiny_checkpoint(seed=2, cell="gru"), counted(np.arange(30) % 9)]
    models = data.draw(st.lists(st.sampled_from(three), min_size=1, max_size=3, unique_by=id))
    V = len(models[0].vocabulary)
    ids = np.array(data.draw(st.lists(st.integers(0, V - 1), min_size=2, max_size=40)))
    place = data.draw(st.integers(0, len(ids) - 1))
    rest = np.array(data.draw(st.lists(st.integers(0, V - 1), max_size=20)), int)
    before = scores(models, ids)[:place]
    probability = 0.0
    for character in range(V):
        found = scores(models, np.concatenate((ids[:place], [character], rest)))
        assert np.array_equal(found[:place], before)  # later characters change nothing, to the bit
        probability += np.exp(-found[place])
    # Over all that could stand there, one distribution, chosen without knowing which does.
    assert probability == pytest.approx(1, abs=1e-5)


def test_it_is_what_a_plain_loop_over_torch_s_own_adam_computes(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(seed=3)
    ids = np.random.default_rng(0).integers(0, 9, 61)
    network = CharRNN(checkpoint.config.model, len(checkpoint.vocabulary))
    network.load_weights(checkpoint.weights)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.0, Adaptation.BETA2))
    state, expected = network.initial_state(1), []
    inputs = torch.tensor([NEWLINE, *ids[:-1].tolist()])
    for start in range(0, 61, 8):
        logits, state = network(inputs[start : start + 8, None], tuple(part.detach() for part in state))
        loss = torch.nn.functional.cross_entropy(logits[:, 0], torch.tensor(ids[start : start + 8]), reduction="none")
        expected += loss.tolist()
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    assert scores([checkpoint], ids) == pytest.approx(expected, abs=1e-4)


def test_nothing_is_dropped_while_it_reads(tiny_checkpoint: Make) -> None:
    ids = np.random.default_rng(0).integers(0, 9, 30)
    dropping = dict.fromkeys(("input_dropout", "dropout", "output_dropout", "weight_dropout"), 0.5)
    for name, share in dropping.items():
        assert np.array_equal(scores([tiny_checkpoint(**{name: share})], ids), scores([tiny_checkpoint()], ids)), name
    adapted, _ = adapt(tiny_checkpoint(**dropping), ids, 30, settings=FAST)
    assert adapted.config.model.dropout == 0.5  # its settings are as they were


def test_a_text_that_repeats_itself_is_learnt_and_without_a_rate_nothing_is(tiny_checkpoint: Make) -> None:
    model = tiny_checkpoint(Vocabulary.of("\n abcdefgh"), seed=4)
    ids = np.tile(model.vocabulary.encode("bad cage\n"), 80)
    static, dynamic = evaluate(model, ids, len(ids)), adapt(model, ids, len(ids), settings=FAST)[1]
    assert dynamic.nats_per_char < 0.5 * static.nats_per_char
    assert dynamic.characters == static.characters == len(ids)
    still = adapt(model, ids, len(ids), settings=Adaptation(learning_rate=0.0, window=8))[1]
    assert still.nats == pytest.approx(static.nats, rel=1e-5)


def test_the_adapted_model_knows_the_text_and_the_first_one_is_as_it_was(tiny_checkpoint: Make) -> None:
    models = tuple(tiny_checkpoint(Vocabulary.of("\n abcdefgh"), seed=seed) for seed in (5, 6))
    copies = [{name: array.copy() for name, array in model.weights.items()} for model in models]
    ids = np.tile(models[0].vocabulary.encode("deaf head\n"), 60)
    for model in (models[0], Ensemble(models)):
        adapted, figures = adapt(model, ids, len(ids), settings=FAST)
        assert type(adapted) is type(model)
        assert (
            evaluate(adapted, ids, len(ids)).nats_per_char
            < figures.nats_per_char
            < evaluate(model, ids, 1).nats_per_char
        )
    for model, copy in zip(models, copies, strict=True):
        assert all(np.array_equal(model.weights[name], array) for name, array in copy.items())


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("length", [2, 40])
@pytest.mark.parametrize("symbols", [2, 9])  # of few, even the longest contexts come again
def test_an_ngram_model_predicts_by_all_that_it_was_made_of_and_has_read_till_it_counted_last(
    length: int, symbols: int
) -> None:
    model = counted(np.random.default_rng(1).integers(0, symbols, length), order=5)
    ids = np.random.default_rng(2).integers(0, symbols, 60)
    expected = []
    for start in range(0, 60, 8):
        read = ids[: start - start % 16]
        text = np.concatenate((model.weights[TEXT], read))
        known = NGram.of(text, model.vocabulary, 5)
        expected += [-np.log(known.distribution(ids[:place])[ids[place]]) for place in range(start, min(start + 8, 60))]
    assert scores([model], ids) == pytest.approx(expected, abs=1e-5)
    adapted, _ = adapt(model, ids, 60, settings=FAST)
    assert adapted.weights[TEXT].tolist() == [*model.weights[TEXT], *ids]
    assert adapted.weights[TEXT].dtype == np.uint8
    assert len(model.weights[TEXT]) == length


def test_counts_learn_from_a_text_of_a_few_hundred_characters_already() -> None:
    ids = np.tile(np.arange(9), 40)
    model = counted(np.random.default_rng(1).integers(0, 9, 300))
    assert adapt(model, ids, 360)[1].nats_per_char < 0.7 * evaluate(model, ids, 360).nats_per_char


def test_a_long_text_is_counted_anew_when_a_share_of_it_was_read_and_a_short_one_not_sooner_than_it_is_worth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dynamic, "LEAST_READ", 16)
    monkeypatch.setattr(dynamic, "READ_SHARE", 1 / 2)
    reader = Recounter(counted(np.zeros(10, np.uint8)))
    lengths = []
    for _ in range(20):
        reader.predict(np.zeros(5, np.int64))
        reader.learn(np.zeros(5, np.int64))
        lengths.append(len(reader.checkpoint.weights[TEXT]))
        assert len(reader.adapted().weights[TEXT]) == 10 + 5 * len(lengths)
    # Due after 16, 16 (half of 30 is less), 25 and 38 characters more: at the end of the window that has the last.
    assert lengths == [10] * 3 + [30] * 4 + [50] * 5 + [75] * 8


class Always:
    """A reader that says the same whatever it reads."""

    def __init__(self, probabilities: list[float]) -> None:
        self.logits = np.log(np.float32(probabilities))

    def predict(self, ids: np.ndarray) -> np.ndarray:
        return np.tile(self.logits, (len(ids), 1))

    def learn(self, targets: np.ndarray) -> None:
        pass


@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
def test_an_ensemble_that_reads_finds_the_shares_that_the_text_was_drawn_with(share: float) -> None:
    # Of no third mixture do these two give the same text a higher probability: the maximum is the truth.
    one, other = [0.8, 0.1, 0.1], [0.05, 0.15, 0.8]
    text = np.random.default_rng(0).choice(3, 40_000, p=share * np.array(one) + (1 - share) * np.array(other))
    readers = Readers([Always(one), Always(other)])
    nats = np.concatenate([nats for _, nats in surprisals_on_the_way(readers, text, 0, 32)])
    assert readers.shares[0] == pytest.approx(share, abs=0.1)
    assert sum(readers.shares) == pytest.approx(1)
    truth = -np.log((share * np.array(one) + (1 - share) * np.array(other))[text])
    assert nats.mean() == pytest.approx(truth.mean(), abs=0.005)


def test_shares_that_are_given_count_for_more_than_a_window_and_are_learnt_on_from() -> None:
    readers = Readers([Always([0.8, 0.1, 0.1]), Always([0.1, 0.1, 0.8])], (0.9, 0.1))
    readers.predict(np.zeros(32, int))
    readers.learn(np.full(32, 2))
    assert 0.8 < readers.shares[0] < 0.9


def test_a_member_that_becomes_useful_late_is_heard_again() -> None:
    readers = Readers([Always([0.98, 0.01, 0.01]), Always([0.01, 0.01, 0.98])])
    text = np.repeat([0, 2], 32 * 400)
    nats = np.concatenate([nats for _, nats in surprisals_on_the_way(readers, text, 0, 32)])
    assert readers.shares[1] > 0.9
    assert nats[-1000:].mean() < 0.1


def test_members_read_and_learn_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=20)  # passed only by two at once

    class Waiting(Always):
        def predict(self, ids: Ids) -> Floats:
            both.wait()
            return super().predict(ids)

        def learn(self, targets: Ids) -> None:
            both.wait()

    readers = Readers([Waiting([0.8, 0.1, 0.1]), Waiting([0.1, 0.1, 0.8])])
    assert readers.predict(np.zeros(4, np.int64)).shape == (4, 3)
    readers.learn(np.zeros(4, np.int64))


def test_the_shares_that_were_found_are_those_of_the_ensemble_that_is_left(tiny_checkpoint: Make) -> None:
    text = np.tile(np.arange(9), 60)
    both = Ensemble((tiny_checkpoint(), counted(text)))
    adapted, figures = adapt(both, text, len(text), settings=Adaptation(learning_rate=0.0))
    assert isinstance(adapted, Ensemble)
    assert adapted.shares is not None
    assert adapted.shares[1] > 0.9
    equal, learnt = (evaluate(each, text, len(text)).nats for each in (Ensemble(adapted.members), adapted))
    assert learnt < equal
    assert learnt < figures.nats


def test_unseen_characters_are_paid_for_as_in_every_figure(tiny_checkpoint: Make) -> None:
    model = tiny_checkpoint()
    ids = model.vocabulary.encode("ab?c?\n")
    still = Adaptation(learning_rate=0.0)
    assert adapt(model, ids, 6, settings=still)[1].nats == pytest.approx(evaluate(model, ids, 6).nats)


def test_progress_reaches_the_end_and_bad_cases_end_in_one_line(tiny_checkpoint: Make) -> None:
    model, ids = tiny_checkpoint(), np.random.default_rng(0).integers(0, 9, 20)
    told: list[tuple[int, int]] = []
    adapt(model, ids, 20, settings=FAST, progress=lambda done, total: told.append((done, total)))
    assert told == [(8, 20), (16, 20), (20, 20)]
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="rate"):
            Adaptation(learning_rate=bad)
    with pytest.raises(TextError):
        adapt(model, ids[:0], 0)
    with pytest.raises(DivergedError, match="rate"):  # spoilt by its last step
        adapt(model, ids[:8], 8, settings=Adaptation(learning_rate=1e39, window=8))
    with pytest.raises(DivergedError, match="rate"):
        adapt(model, np.tile(ids, 9), 180, settings=Adaptation(learning_rate=3e38, window=8))


def test_learning_that_only_makes_things_worse_is_no_result(tiny_checkpoint: Make) -> None:
    model = tiny_checkpoint()
    ids = np.random.default_rng(0).integers(0, 9, 2500)
    # Nor where the other member is calm, so that the two together are no worse than a guess.
    for models in (model, Ensemble((model, model)), Ensemble((model, counted(ids)))):
        with pytest.raises(DivergedError, match="rate"):
            adapt(models, ids, 2500, settings=Adaptation(learning_rate=30.0))
    # A text that the model knows nothing of costs much from the first character on, and is none.
    strange = tiny_checkpoint(seed=1)
    strange.weights["head.bias"][:] = np.linspace(0, 60, len(strange.weights["head.bias"]))
    worse = np.zeros(1500, np.int64)
    assert adapt(strange, worse, 1500)[1].nats_per_char > 2 * np.log(9)


def test_a_network_whose_figures_are_no_longer_numbers_ends_the_reading_there_and_then(tiny_checkpoint: Make) -> None:
    told: list[int] = []
    with pytest.raises(DivergedError, match="rate"):
        adapt(
            tiny_checkpoint(),
            np.arange(900) % 9,
            900,
            settings=Adaptation(learning_rate=1e39, window=8),
            progress=lambda done, total: told.append(done),
        )
    assert told == [8]  # what was scored before its first step


@pytest.mark.parametrize(
    ("first", "rest", "diverged"),
    [
        (0, 9, False),  # of 32 characters 9.05 of such a cost are two guesses among all
        (0, 10, True),  # that the text began so well is no measure
        (15, 10, False),  # that it began worse than a guess is: nothing was learnt yet
        (15, 29, False),
        (15, 31, True),
    ],
)
def test_learning_has_diverged_where_a_stretch_costs_twice_a_guess_or_twice_what_the_first_window_did(
    tiny_checkpoint: Make, first: int, rest: int, diverged: bool
) -> None:
    model = tiny_checkpoint()
    for array in model.weights.values():
        array[:] = 0
    V = len(model.vocabulary)
    model.weights["head.bias"][0] = 2 * np.log(V) * 32 / 9.05  # what all but the first symbol cost; that is free
    ids = np.concatenate([np.arange(32) >= 32 - costly for costly in (first, *[rest] * 99)]).astype(np.int64)
    reader = reader_of(model, Adaptation(learning_rate=0.0), "cpu")
    scored = []
    try:
        for start, _ in surprisals_on_the_way(reader, ids, NEWLINE, 32):
            scored.append(start // 32)
    except DivergedError:
        assert diverged
        assert len(scored) == STRETCH
    else:
        assert not diverged
        assert len(scored) == 100


def test_nothing_is_said_while_it_reads(tiny_checkpoint: Make, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(partial(torch.set_warn_always, torch.is_warn_always_enabled()))
    torch.set_warn_always(True)  # not only the first time, which another test may have been
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapt(Ensemble((tiny_checkpoint(), counted(np.arange(30) % 9))), np.arange(300) % 9, 300)
