"""Training: it learns what there is to learn, goes on bit for bit, and stops when it should."""

import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from charrnn.checkpoint import Checkpoint
from charrnn.config import Config, ModelConfig, TrainingConfig
from charrnn.data import corpus as corpora
from charrnn.data.corpus import Corpus, prepare
from charrnn.errors import DivergedError, TextError, UsageError
from charrnn.evaluation.evaluator import corpus_ids, evaluate
from charrnn.model import sequence
from charrnn.training import session
from charrnn.training.events import Finished, Report, Snapshot

SETTINGS = {
    "num_layers": 2, "hidden_size": 16, "embedding_size": 8, "dropout": 0.2, "output_dropout": 0.1,
    "input_dropout": 0.1, "weight_dropout": 0.2,
}  # fmt: skip


def config(steps: int | None = 60, model: dict | None = None, **training) -> Config:
    values = {
        "steps": steps, "batch_size": 8, "sequence_length": 16, "device": "cpu", "precision": "fp32",
        "validate_every": "25", "state_reset": 0.1, **training,
    }  # fmt: skip
    return Config(ModelConfig(**{**SETTINGS, **(model or {})}), TrainingConfig(**values))


def markov_text(length: int, seed: int = 0) -> tuple[str, float]:
    """A text from a first-order Markov chain of 6 characters, and its entropy rate in nats per character."""
    rng = np.random.default_rng(7)
    chain = rng.dirichlet(np.full(6, 0.5), size=6)
    values, vectors = np.linalg.eig(chain.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    entropy = -float((stationary[:, None] * chain * np.log(np.maximum(chain, 1e-300))).sum())
    draws, cumulative, state, ids = np.random.default_rng(seed).random(length), chain.cumsum(1), 0, []
    for draw in draws:
        state = min(int(np.searchsorted(cumulative[state], draw)), 5)
        ids.append(state)
    return "".join("abcdef"[i] for i in ids), entropy


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    (tmp_path / "text.txt").write_text(markov_text(6000)[0])
    return prepare([str(tmp_path / "text.txt")], root=tmp_path / "corpora")


def train(corpus: Corpus, root: Path, given: Config, **options) -> tuple[session.Session, list]:
    running = session.begin(corpus, given, root=root, **options)
    return running, list(running.events())


def lines(path: Path) -> list[dict]:
    """The metrics, times aside."""
    times = ("seconds", "characters_per_second")
    found = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in times} for line in found]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("extra", [{}, {"scheduled_sampling": 0.5}, {"precision": "bf16"}])
def test_a_stopped_run_goes_on_bit_for_bit_in_the_middle_of_an_epoch(corpus, tmp_path, cell, extra):
    # In bfloat16 a width that the kernel takes.
    given = config(model={"cell": cell, "hidden_size": 32 if extra.get("precision") else 16}, **extra)
    whole, _ = train(corpus, tmp_path / "whole", given)
    assert whole.trainer.streams.windows > 37  # so the stops below are inside the first epoch
    part = session.begin(corpus, given, root=tmp_path / "parts", name="run")
    for stop in (7, 20, 33, 37, 48):
        advance = part.trainer._advance

        def advance_and_stop(part=part, advance=advance, stop=stop):
            advance()
            part.trainer.stop_requested = part.trainer.step == stop

        part.trainer._advance = advance_and_stop
        events = list(part.events())
        assert events[-1].reason == "stopped"
        assert events[-1].step == stop
        part = session.resume(Config(), root=tmp_path / "parts", name="run")
    events = list(part.events())
    assert events[-1].reason == "done"
    ours, theirs = (Checkpoint.load(s.run.last, with_state=True) for s in (part, whole))
    assert ours.state.keys() == theirs.state.keys()
    for name in ours.state:
        assert np.array_equal(ours.state[name], theirs.state[name]), name
    assert all(np.array_equal(ours.weights[name], theirs.weights[name]) for name in theirs.weights)
    assert lines(part.run.folder) == lines(whole.run.folder)
    assert (part.run.folder / "samples.txt").read_text() == (whole.run.folder / "samples.txt").read_text()
    assert events[-1].validation_nats_per_char == list(whole.trainer.run())[-1].validation_nats_per_char


def test_a_killed_run_goes_on_from_its_last_save_and_ends_the_same(corpus, tmp_path):
    given = config(save_every="10")
    whole, _ = train(corpus, tmp_path / "whole", given)
    killed = session.begin(corpus, given, root=tmp_path / "parts", name="run")
    events = killed.events()
    while killed.trainer.step < 49:  # step 45 is saved, later lines of the logs are not vouched for
        next(events)
    events.close()
    resumed = session.resume(Config(), root=tmp_path / "parts", name="run")
    assert resumed.trainer.step == 45
    list(resumed.events())
    assert lines(resumed.run.folder) == lines(whole.run.folder)
    ours, theirs = (Checkpoint.load(s.run.last) for s in (resumed, whole))
    assert all(np.array_equal(ours.weights[name], theirs.weights[name]) for name in theirs.weights)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_one_seed_repeats_and_two_differ_on_any_number_of_threads(corpus, tmp_path, threads, precision):
    torch.set_num_threads(threads)
    try:
        check_seeds(corpus, tmp_path, precision)
    finally:
        torch.set_num_threads(1)


def check_seeds(corpus, tmp_path, precision):
    def given(seed: int) -> Config:
        return config(8, {"hidden_size": 32}, seed=seed, precision=precision)

    runs = [train(corpus, tmp_path / str(k), given(seed))[0] for k, seed in enumerate((1, 1, 2))]
    a, b, c = (Checkpoint.load(run.run.best).weights["head.weight"] for run in runs)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_config_toml_gives_the_same_run_again(corpus, tmp_path):
    first, _ = train(corpus, tmp_path / "a", Config(training=TrainingConfig(steps=6, device="cpu")), preset="small")
    again, _ = train(corpus, tmp_path / "b", Config.read_toml(first.run.folder / "config.toml"))
    assert again.trainer.config == first.trainer.config
    assert lines(again.run.folder) == lines(first.run.folder)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_training_approaches_the_entropy_of_a_markov_chain_and_never_goes_below(tmp_path, cell):
    text, entropy = markov_text(60_000)
    (tmp_path / "text.txt").write_text(text)
    corpus = prepare([str(tmp_path / "text.txt")], root=tmp_path / "corpora")
    given = config(
        300, {"cell": cell, "num_layers": 1, "hidden_size": 32, "dropout": 0.0, "output_dropout": 0.0,
              "input_dropout": 0.0, "weight_dropout": 0.0}, batch_size=32, sequence_length=32, learning_rate=0.01,
        validate_every="150",
    )  # fmt: skip
    running, _ = train(corpus, tmp_path / "runs", given)
    checkpoint = Checkpoint.load(running.run.best)
    ids, num_bytes = corpus_ids(checkpoint, corpus, "test")
    figures = evaluate(checkpoint, ids, num_bytes)
    low, high = figures.interval
    assert figures.nats_per_char < 1.05 * entropy + (high - low) / 2
    assert high > entropy


@pytest.mark.slow
def test_default_training_comes_within_two_percent_of_a_known_entropy_rate(tmp_path):
    text, entropy = markov_text(1_000_000)
    (tmp_path / "text.txt").write_text(text)
    corpus = prepare([str(tmp_path / "text.txt")], root=tmp_path / "corpora")
    given = Config(training=TrainingConfig(steps=800, device="cpu", precision="fp32"))
    running, _ = train(corpus, tmp_path / "runs", given, preset="small")
    checkpoint = Checkpoint.load(running.run.best)
    ids, num_bytes = corpus_ids(checkpoint, corpus, "test")
    figures = evaluate(checkpoint, ids, num_bytes)
    low, high = figures.interval
    print(f"entropy rate {entropy:.5f} nats, measured {figures.nats_per_char:.5f}, interval {low:.5f} to {high:.5f}")
    assert figures.nats_per_char < 1.02 * entropy
    assert high > entropy


def test_truncation_at_the_length_of_the_text_is_full_back_propagation(tmp_path):
    text = markov_text(240)[0]
    (tmp_path / "t.txt").write_text(text)
    corpus = prepare([str(tmp_path / "t.txt")], root=tmp_path / "corpora")
    plain = {"dropout": 0.0, "output_dropout": 0.0, "input_dropout": 0.0, "weight_dropout": 0.0}
    N = corpus.splits["train"].characters
    given = config(1, plain, batch_size=1, sequence_length=N, clip=0.0)
    running = session.begin(corpus, given, root=tmp_path / "runs")
    model = running.trainer.model
    inputs = torch.tensor([corpus.vocabulary.index("\n"), *corpus.ids("train")[:-1].tolist()])[:, None]
    logits, _ = model(inputs, model.initial_state(1))
    targets = torch.from_numpy(corpus.ids("train").astype(np.int64))
    loss = torch.nn.functional.cross_entropy(logits[:, 0], targets)
    norm = torch.stack([g.norm() for g in torch.autograd.grad(loss, list(model.parameters()))]).norm()
    report = next(event for event in running.events() if isinstance(event, Report))
    assert report.train_nats_per_char == pytest.approx(loss.item(), rel=1e-5)
    assert report.gradient_norm == pytest.approx(norm.item(), rel=1e-4)


def test_best_is_the_state_with_the_lowest_validation_and_the_closing_figure_is_its_own(corpus, tmp_path):
    running, events = train(corpus, tmp_path / "runs", config(100, learning_rate=0.02))
    scores = {
        e.step: e.validation_nats_per_char for e in events if isinstance(e, Report) and e.validation_nats_per_char
    }
    finished = events[-1]
    assert finished.best_step == min(scores, key=scores.get)
    best = Checkpoint.load(running.run.best)
    ids, num_bytes = corpus_ids(best, corpus, "validation")
    assert evaluate(best, ids, num_bytes).nats_per_char == pytest.approx(finished.validation_nats_per_char, abs=1e-5)
    assert finished.validation_nats_per_char == pytest.approx(min(scores.values()), abs=1e-4)
    assert best.record["steps"] == finished.best_step


def test_averaged_weights_follow_the_trained_ones(corpus, tmp_path):
    running = session.begin(corpus, config(40, averaging=0.5), root=tmp_path / "runs")
    trainer = running.trainer
    expected = [p.detach().clone() for p in trainer.parameters]
    for step in range(1, 30):
        trainer._advance()
        weight = 1 / max(1.0, 0.5 * step)
        expected = [e + weight * (p.detach() - e) for e, p in zip(expected, trainer.parameters, strict=True)]
    for a, e in zip(trainer.averaged_parameters, expected, strict=True):
        assert torch.allclose(a, e, atol=1e-6)


@pytest.mark.parametrize("steps", [60, 600])
def test_without_an_interval_validation_scores_at_most_a_quarter_of_what_is_trained_on_and_the_end(
    steps, corpus, tmp_path
):
    _, events = train(corpus, tmp_path / "c", config(steps, validate_every=None))
    *before, _ = [e.step for e in events if isinstance(e, Report) and e.validation_nats_per_char]
    scored = len(before) * corpus.splits["validation"].characters
    assert scored <= steps * 8 * 16 / 4
    assert len(before) <= 20
    assert before or steps == 60


def test_early_stopping_counts_validations_without_a_new_best(corpus, tmp_path):
    given = config(5000, learning_rate=0.05, validate_every="5", patience=3)
    _, events = train(corpus, tmp_path / "runs", given)
    scores = [e.validation_nats_per_char for e in events if isinstance(e, Report) and e.validation_nats_per_char]
    assert events[-1].reason == "early"
    assert np.argmin(scores) == len(scores) - 4


def test_weights_that_are_not_finite_at_first_are_an_error_and_leave_no_file_of_them(corpus, tmp_path):
    running = session.begin(corpus, config(400), root=tmp_path / "runs", name="run")
    running.trainer.model.head.weight.data.fill_(math.nan)
    with pytest.raises(DivergedError, match="--learning-rate"):
        list(running.events())
    assert not running.run.last.exists()
    assert not running.run.best.exists()


def test_a_time_limit_anneals_to_its_end(corpus, tmp_path):
    given = dataclasses.replace(config().training, steps=None, time_limit=3.0, validate_every=None)
    _, events = train(corpus, tmp_path / "runs", Config(config().model, given))
    reports = [event for event in events if isinstance(event, Report)]
    assert events[-1].seconds < 5
    assert reports[-1].progress == 1
    assert reports[-1].learning_rate < 0.1 * max(report.learning_rate for report in reports)


def test_a_text_without_validation_still_leaves_a_best_checkpoint(tmp_path):
    (tmp_path / "t.txt").write_text("hello world\n" * 20)
    from charrnn.data.corpus import PrepareSettings

    corpus = prepare([str(tmp_path / "t.txt")], root=tmp_path / "c", settings=PrepareSettings(split=(100, 0, 0)))
    running, events = train(corpus, tmp_path / "runs", config(12))
    assert events[-1].validation_nats_per_char is None
    assert Checkpoint.load(running.run.best).record["steps"] == 12


@pytest.mark.parametrize("text", ["ab", "a" * 50, "hello world\n"])
def test_tiny_texts_train(tmp_path, text):
    (tmp_path / "t.txt").write_text(text)
    from charrnn.data.corpus import PrepareSettings

    corpus = prepare([str(tmp_path / "t.txt")], root=tmp_path / "c", settings=PrepareSettings(split=(100, 0, 0)))
    _, events = train(corpus, tmp_path / "runs", config(3))
    assert isinstance(events[-1], Finished)


def test_fine_tuning_keeps_the_rows_of_known_characters(corpus, tmp_path):
    first, _ = train(corpus, tmp_path / "runs", config(20), name="first")
    (tmp_path / "other.txt").write_text("fedxyz" * 200)
    other = prepare([str(tmp_path / "other.txt")], root=tmp_path / "corpora")
    notes: list[str] = []
    given = Config(training=TrainingConfig(steps=5, device="cpu", precision="fp32"))
    tuned = session.begin(other, given, root=tmp_path / "runs", init_from="first", notify=notes.append)
    old, new = Checkpoint.load(first.run.best), tuned.trainer.model.weights()
    for character in "def":
        i, j = old.vocabulary.index(character), other.vocabulary.index(character)
        assert np.array_equal(new["embedding.weight"][j], old.weights["embedding.weight"][i])
        assert new["head.bias"][j] == old.weights["head.bias"][i]
    assert np.array_equal(new["layers.1.weight_hh_l0"], old.weights["layers.1.weight_hh_l0"])
    assert any("3 characters kept, 3 new, 3 dropped" in note for note in notes)
    list(tuned.events())
    with pytest.raises(UsageError, match="fine-tuning keeps the model"):
        session.begin(other, Config(ModelConfig(hidden_size=99)), root=tmp_path / "runs", init_from="first")


def test_an_existing_run_is_never_touched_without_force(corpus, tmp_path):
    first, _ = train(corpus, tmp_path / "runs", config(3), name="run")
    before = first.run.best.read_bytes()
    with pytest.raises(UsageError, match="--resume"):
        session.begin(corpus, config(3), root=tmp_path / "runs", name="run")
    assert first.run.best.read_bytes() == before
    named = [session.begin(corpus, config(3), root=tmp_path / "runs").run.name for _ in range(3)]
    assert named == ["text", "text-2", "text-3"]
    (first.run.folder / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="other files"):
        session.begin(corpus, config(3), root=tmp_path / "runs", name="run", force=True)
    assert (first.run.folder / "mine.txt").read_text() == "keep"


def test_resume_says_what_it_cannot_do(corpus, tmp_path):
    train(corpus, tmp_path / "runs", config(6), name="run")
    with pytest.raises(UsageError, match="finished"):
        session.resume(Config(), root=tmp_path / "runs", name="run")
    with pytest.raises(UsageError, match="--hidden-size"):
        session.resume(Config(ModelConfig(hidden_size=99)), root=tmp_path / "runs", name="run")
    longer = session.resume(Config(training=TrainingConfig(steps=9)), root=tmp_path / "runs", name="run")
    events = list(longer.events())
    assert events[-1].step == 9
    assert isinstance(events[-2], Snapshot | Report)


def test_a_run_that_cannot_start_does_not_take_the_place_of_another(corpus, tmp_path):
    first, _ = train(corpus, tmp_path / "runs", config(3), name="run")
    before = first.run.best.read_bytes()
    (tmp_path / "one.txt").write_text("abcdefghij")
    from charrnn.data.corpus import PrepareSettings

    one = prepare([str(tmp_path / "one.txt")], root=tmp_path / "c", settings=PrepareSettings(split=(10, 90, 0)))
    with pytest.raises(TextError, match="at least 2"):
        session.begin(one, config(3), root=tmp_path / "runs", name="run", force=True)
    assert first.run.best.read_bytes() == before
    with pytest.raises(TextError, match="at least 2"):
        session.begin(one, config(3), root=tmp_path / "runs", name="other")
    assert not (tmp_path / "runs" / "other").exists()


def test_force_without_a_name_replaces_the_run_of_the_corpus(corpus, tmp_path):
    for _ in range(2):
        assert session.begin(corpus, config(3), root=tmp_path / "runs", force=True).run.name == "text"


def test_a_run_may_have_one_folder_before_its_name_and_both_are_checked(corpus, tmp_path):
    root = tmp_path / "runs"
    running, _ = train(corpus, root, config(3), name="grid/lstm-2")
    assert running.run.best == root / "grid" / "lstm-2" / "best.safetensors"
    assert running.run.name == "grid/lstm-2"
    assert "charrnn sample grid/lstm-2\n" in (running.run.folder / "README.md").read_text()
    longer = session.resume(config(5), root=root, name="grid/lstm-2")
    assert longer.run.name == "grid/lstm-2"
    before = sorted(path for path in tmp_path.rglob("*"))
    for name in ("", "/", "a/", "/a", "a/b/c", "../a", "a/..", ".a/b", "a/.b", "-a/b", "a\n/b", "grid/lstm-2/x"):
        with pytest.raises(UsageError, match="--run"):
            session.begin(corpus, config(3), root=root, name=name)
    train(corpus, root, config(3), name="alone")
    with pytest.raises(UsageError, match="is a run itself"):
        session.begin(corpus, config(3), root=root, name="alone/lstm-2")
    assert {path for path in tmp_path.rglob("*") if "alone" not in path.parts} == set(before)


def test_early_stopping_is_final_until_more_patience_is_given(corpus, tmp_path):
    given = config(5000, learning_rate=0.05, validate_every="5", patience=2)
    stopped, events = train(corpus, tmp_path / "runs", given, name="run")
    assert events[-1].reason == "early"
    with pytest.raises(UsageError, match="--patience"):
        session.resume(Config(), root=tmp_path / "runs", name="run")
    more = session.resume(Config(training=TrainingConfig(patience=4)), root=tmp_path / "runs", name="run")
    assert list(more.events())[-1].step > stopped.trainer.step


def test_a_stopped_run_does_not_wait_for_the_closing_figure(corpus, tmp_path):
    running = session.begin(corpus, config(1000), root=tmp_path / "runs")
    running.stop()
    finished = list(running.events())[-1]
    assert finished.reason == "stopped"
    assert finished.validation_nats_per_char is None


def test_a_generator_of_another_kind_of_device_is_replaced_and_the_run_goes_on(corpus, tmp_path):
    running = session.begin(corpus, config(60), root=tmp_path / "runs", name="run")
    running.stop()
    list(running.events())
    last = Checkpoint.load(running.run.last, with_state=True)
    progress = {**last.progress, "scaler": {"scale": 65536.0}}
    state = {**last.state, "generator": np.zeros(16, np.uint8)}  # CUDA's size
    dataclasses.replace(last, state=state, progress=progress).save(running.run.last)
    resumed = session.resume(Config(), root=tmp_path / "runs", name="run")
    assert list(resumed.events())[-1].step == 60


def test_the_record_says_where_the_weights_came_from_also_after_a_resume(corpus, tmp_path):
    first, _ = train(corpus, tmp_path / "runs", config(3), name="first")
    given = Config(training=TrainingConfig(steps=40, device="cpu", precision="fp32"))
    tuned = session.begin(corpus, given, root=tmp_path / "runs", name="tuned", init_from="first")
    assert "--init-from first" in (tuned.run.folder / "config.toml").read_text()
    tuned.stop()
    list(tuned.events())
    resumed = session.resume(Config(), root=tmp_path / "runs", name="tuned")
    list(resumed.events())
    origin = Checkpoint.load(resumed.run.best).record["init_from"]
    assert origin["path"] == str(first.run.best)
    assert len(origin["sha256"]) == 64
    with pytest.raises(UsageError, match="--preset large"):
        session.begin(corpus, given, root=tmp_path / "runs", init_from="first", preset="large")


def test_a_longer_run_rewrites_its_settings(corpus, tmp_path):
    train(corpus, tmp_path / "runs", config(6), name="run")
    longer = session.resume(Config(training=TrainingConfig(steps=9)), root=tmp_path / "runs", name="run")
    assert Config.read_toml(longer.run.folder / "config.toml").training.steps == 9
    both = Config(training=TrainingConfig(steps=9, epochs=3))
    with pytest.raises(UsageError, match="only one"):
        session.resume(both, root=tmp_path / "runs", name="run")


def test_resume_refuses_another_corpus_without_touching_anything(corpus, tmp_path):
    running = session.begin(corpus, config(60), root=tmp_path / "runs", name="run")
    running.stop()
    list(running.events())
    with pytest.raises(UsageError, match="needs no CORPUS"):
        session.resume(Config(), root=tmp_path / "runs", name="run", named=["other.txt"])
    assert session.resume(Config(), root=tmp_path / "runs", name="run", named=["text.txt"]).trainer.step == 1


def test_a_moved_project_still_finds_its_corpus(corpus, tmp_path, monkeypatch):
    running = session.begin(corpus, config(60), root=tmp_path / "runs", name="run")
    running.stop()
    list(running.events())
    (tmp_path / "elsewhere").mkdir()
    for part in ("corpora", "runs"):
        (tmp_path / part).rename(tmp_path / "elsewhere" / part)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert session.resume(Config(), root=Path("runs"), name="run").trainer.step == 1


def test_a_text_that_stays_in_its_file_is_trained_on_the_same_and_cut_off_it_is_one_line(corpus, tmp_path, monkeypatch):
    given = config(30, validate_every="10")
    whole, _ = train(corpus, tmp_path / "whole", given)
    monkeypatch.setattr(corpora, "IN_MEMORY", 0)
    lazy, _ = train(Corpus.open(corpus.path), tmp_path / "lazy", given)
    assert lines(lazy.run.folder) == lines(whole.run.folder)
    running = session.begin(Corpus.open(corpus.path), config(1000), root=tmp_path / "cut")
    events = running.events()
    while running.trainer.step < 30:
        next(events)
    os.truncate(corpus.path / "ids.npy", 1000)
    with pytest.raises(TextError, match="cut off"):
        list(events)
    Checkpoint.load(running.run.last, with_state=True)


def test_training_figures_pay_for_unknown_characters_as_validation_does(tmp_path):
    from charrnn.data.corpus import PrepareSettings
    from charrnn.evaluation.metrics import unknown_cost

    (tmp_path / "t.txt").write_text("ab" * 500 + "x" + "ab" * 500)
    settings = PrepareSettings(split=(100, 0, 0), min_count=2)
    corpus = prepare([str(tmp_path / "t.txt")], root=tmp_path / "c", settings=settings)
    plain = {"dropout": 0.0, "output_dropout": 0.0, "input_dropout": 0.0, "weight_dropout": 0.0}
    running = session.begin(corpus, config(1, plain, batch_size=1, sequence_length=4000), root=tmp_path / "runs")
    start = Checkpoint(running.trainer.config, corpus.vocabulary, running.trainer.model.weights())
    start = dataclasses.replace(start, weights={k: v.copy() for k, v in start.weights.items()})
    report = next(event for event in running.events() if isinstance(event, Report))
    ids, num_bytes = corpus_ids(start, corpus, "train")
    figures = evaluate(start, ids, num_bytes)
    assert figures.unseen == 1
    assert figures.unseen_nats > unknown_cost(corpus.vocabulary)
    assert report.train_nats_per_char == pytest.approx(figures.nats_per_char, rel=1e-4)


def test_without_a_compiler_training_works_and_says_that_it_could_be_faster(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(sequence, "_sequence", None)
    monkeypatch.setattr(sequence, "_available", None)
    notices = []
    running = session.begin(corpus, config(3, precision="bf16"), root=tmp_path, notify=notices.append)
    assert list(running.events())[-1].reason == "done"
    assert sum("C compiler" in notice for notice in notices) == 1
    monkeypatch.setattr(sequence, "_available", None)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_each_stream_begins_anew_as_often_as_asked_for_and_otherwise_goes_on(corpus, tmp_path, rate):
    running = session.begin(corpus, config(40, batch_size=50, state_reset=rate), root=tmp_path)
    trainer, forward = running.trainer, running.trainer.model.forward
    before: list[torch.Tensor] = []
    empty = []

    def seen(ids, state, generator):
        begun = torch.stack([(part == 0).all(dim=(0, 2)) for part in state]).all(0)  # (B,)
        if before and trainer.step % trainer.streams.windows:
            empty.append(begun.float().mean())
            assert torch.equal(state[0][:, ~begun], before[-1][:, ~begun])
        logits, after = forward(ids, state, generator)
        before.append(after[0].detach().clone())
        return logits, after

    trainer.model.forward = seen
    list(trainer.run())
    assert np.mean(empty) == pytest.approx(rate, abs=0.1)
    assert rate == 0.5 or set(map(float, empty)) == {rate}


def test_a_run_from_before_states_were_emptied_goes_on_and_empties_none(corpus, tmp_path):
    running, _ = train(corpus, tmp_path, config(20, state_reset=0.0))
    last = Checkpoint.load(running.run.last, with_state=True)
    older = dataclasses.replace(last.config.training, state_reset=None)
    dataclasses.replace(last, config=Config(last.config.model, older)).save(running.run.last)
    again = session.resume(Config(training=TrainingConfig(steps=30)), root=tmp_path, name=running.run.name)
    list(again.events())
    assert again.trainer.step == 30
    assert again.trainer.config.training.state_reset == 0


@pytest.mark.parametrize("parts", [2, 3, 8])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_step_in_parts_is_the_step_as_a_whole(corpus, tmp_path, cell, parts):
    model = {"cell": cell, "num_layers": 2, "input_dropout": 0.1, "dropout": 0.2, "weight_dropout": 0.2}
    ended = []
    for accumulation in (1, parts):
        given = config(20, model, state_reset=0.1, scheduled_sampling=0.2, accumulation=accumulation)
        running, _ = train(corpus, tmp_path / str(accumulation), given)
        ended.append((lines(running.run.folder), running.trainer))
    (whole, one), (apart, other) = ended
    for mine, yours in zip(whole, apart, strict=True):
        assert mine["train_nats_per_char"] == pytest.approx(yours["train_nats_per_char"], rel=1e-5)
    for mine, yours in zip(one.parameters, other.parameters, strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-3, atol=1e-5)
    assert torch.equal(one.generator.get_state(), other.generator.get_state())


def test_more_parts_than_streams_are_refused(corpus, tmp_path):
    with pytest.raises(UsageError, match=r"--accumulation 9: there are only \d streams"):
        train(corpus, tmp_path, config(20, batch_size=8, accumulation=9))
