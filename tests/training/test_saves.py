"""Which saves are kept, and which of them a run goes on from when the latest is damaged."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest
from runs import figures, same_end, small_config, small_corpus
from typer.testing import CliRunner

from charrnn.checkpoint import Checkpoint
from charrnn.cli import app
from charrnn.config import Config, ModelConfig, TrainingConfig
from charrnn.data.corpus import Corpus
from charrnn.errors import CheckpointError, ResourceError, TextError, UsageError
from charrnn.training import session
from charrnn.training.events import Report, Snapshot
from charrnn.training.run import Run
from charrnn.training.trainer import Trainer


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return small_corpus(tmp_path)


def stopped(corpus: Corpus, root: Path, step: int, **training: object) -> Path:
    """The folder of a run that was stopped after a report."""
    running = session.begin(corpus, small_config(60, **training), root=root, name="run")
    for event in running.events():
        if isinstance(event, Report) and event.step >= step:
            running.stop()
    return running.run.folder


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "pickle"])
def test_a_damaged_latest_save_is_said_and_the_one_before_it_taken_and_the_end_is_the_same(corpus, tmp_path, harm):
    whole = session.begin(corpus, small_config(60), root=tmp_path / "whole", name="run")
    list(whole.events())
    run = stopped(corpus, tmp_path / "part", 30)
    last = run / "last.safetensors"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes({"cut": data[:-9], "flip": data, "empty": b"", "pickle": b"\x80\x04N."}[harm])
    told: list[str] = []
    resumed = session.resume(Config(), root=tmp_path / "part", name="run", notify=told.append)
    (line,) = (line for line in told if line.startswith("warning: "))
    assert str(last) in line
    assert "last-1.safetensors" in line
    list(resumed.events())
    assert figures(run) == figures(whole.run.folder)
    assert same_end(run, whole.run.folder)


def test_if_none_is_whole_the_line_is_about_the_latest_and_nothing_is_touched(corpus, tmp_path):
    run = stopped(corpus, tmp_path / "runs", 30)
    for path in run.glob("last*"):
        path.write_bytes(path.read_bytes()[:-1])
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(CheckpointError, match=r"last\.safetensors: damaged"):
        session.resume(Config(), root=tmp_path / "runs", name="run")
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_as_many_saves_are_kept_as_asked_for_each_whole_and_older_than_the_one_before(corpus, tmp_path, keep):
    running = session.begin(corpus, small_config(60, keep=keep), root=tmp_path / "runs", name="run")
    for _ in running.events():
        assert len(list(running.run.folder.glob("last*"))) <= keep
    steps = [running.run.saved(print, number).progress["step"] for number in range(keep)]
    assert steps == [60, 56, 53, 48][:keep]  # every 5 steps from the last save on, and with each validation
    fewer = session.resume(Config(training=TrainingConfig(steps=70, keep=1)), root=tmp_path / "runs", name="run")
    list(fewer.events())
    assert [path.name for path in running.run.folder.glob("last*")] == ["last.safetensors"]


def test_what_a_killed_process_left_half_written_is_cleared_at_the_next_start(corpus, tmp_path):
    run = stopped(corpus, tmp_path / "runs", 20)
    (run / ".last.safetensors.123.tmp").write_bytes(b"half")
    session.resume(Config(), root=tmp_path / "runs", name="run")
    assert not list(run.glob(".*"))


def test_a_run_that_was_killed_before_its_first_step_goes_on_from_there(corpus, tmp_path):
    running = session.begin(corpus, small_config(), root=tmp_path / "runs", name="run")
    events = running.events()
    for _ in range(2):  # the start, and the first save
        next(events)
    events.close()
    resumed = session.resume(Config(), root=tmp_path / "runs", name="run")
    assert resumed.trainer.step == 0
    assert list(resumed.events())[-1].step == 24


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            Config(ModelConfig(layer_norm=False)),
            "--no-layer-norm: the run has true; for other settings train a new run",
        ),
        (
            Config(training=TrainingConfig(learning_rate=0.5)),
            "--learning-rate 0.5: the run has 0.014; for other settings use --init-from",
        ),
    ],
)
def test_resume_says_of_another_setting_what_was_typed_and_what_to_do_instead(corpus, tmp_path, given, said):
    list(session.begin(corpus, small_config(2), root=tmp_path / "runs", name="run").events())
    with pytest.raises(UsageError) as error:
        session.resume(given, root=tmp_path / "runs", name="run")
    assert str(error.value) == said


@pytest.mark.parametrize("patience", [0, 1], ids=["finished", "stopped early"])
def test_a_run_that_was_killed_between_its_last_save_and_its_end_is_ended_and_then_refused(corpus, tmp_path, patience):
    # Weights that leap about find no new best for long.
    training = {"patience": patience, **({"validate_every": "1", "learning_rate": 0.3} if patience else {})}
    whole = session.begin(corpus, small_config(**training), root=tmp_path / "whole", name="run")
    end = list(whole.events())[-1]
    assert end.reason == ("early" if patience else "done")
    running = session.begin(corpus, small_config(**training), root=tmp_path / "part", name="run")
    with contextlib.closing(running.events()) as events:
        while not (Run(running.run.folder).last.is_file() and running.run.saved(print).progress["step"] == end.step):
            next(events)
    assert not running.run.has_card
    resumed = session.resume(Config(), root=tmp_path / "part", name="run")
    (_, again) = resumed.events()
    assert (again.reason, again.step) == (end.reason, end.step)
    assert again.validation_nats_per_char == end.validation_nats_per_char
    assert figures(running.run.folder) == figures(whole.run.folder)
    assert same_end(running.run.folder, whole.run.folder)
    assert running.run.has_card
    with pytest.raises(UsageError, match="the run is finished" if not patience else "the run stopped early"):
        session.resume(Config(), root=tmp_path / "part", name="run")


def test_a_count_that_was_killed_before_its_card_is_made_again_by_resume_and_then_refused(corpus, tmp_path):
    given = Config(ModelConfig(model="ngram", order=3))
    running = session.begin(corpus, given, root=tmp_path / "runs", name="run")
    nats = list(running.events())[-1].validation_nats_per_char
    (running.run.folder / "README.md").unlink()
    for other in (ModelConfig(order=4), TrainingConfig(steps=5)):
        settings = Config(other) if isinstance(other, ModelConfig) else Config(training=other)
        with pytest.raises(UsageError, match=r"--order 4|--steps"):
            session.resume(settings, root=tmp_path / "runs", name="run")
    resumed = session.resume(Config(), root=tmp_path / "runs", name="run")
    assert list(resumed.events())[-1].validation_nats_per_char == nats
    assert running.run.has_card
    assert len(figures(running.run.folder)) == 1
    with pytest.raises(UsageError, match="counts once"):
        session.resume(Config(), root=tmp_path / "runs", name="run")


@pytest.mark.parametrize("event", [Report, Snapshot])
def test_a_count_that_was_killed_before_it_is_kept_is_made_again(corpus, tmp_path, event):
    given = Config(ModelConfig(model="ngram", order=3))
    whole = session.begin(corpus, given, root=tmp_path / "whole", name="run")
    nats = list(whole.events())[-1].validation_nats_per_char
    part = session.begin(corpus, given, root=tmp_path / "part", name="run")
    with contextlib.closing(part.events()) as events:
        next(each for each in events if isinstance(each, event))
    assert not part.run.best.is_file()
    if event is Report:  # nothing is kept yet: it is begun again, as the message says
        with pytest.raises(CheckpointError):
            session.resume(Config(), root=tmp_path / "part", name="run")
        part = session.begin(corpus, given, root=tmp_path / "part", name="run", force=True)
    else:
        part = session.resume(Config(), root=tmp_path / "part", name="run")
    assert list(part.events())[-1].validation_nats_per_char == nats
    assert part.run.best.is_file()


def test_a_card_of_an_earlier_end_is_gone_while_a_run_goes_on(corpus, tmp_path):
    running = session.begin(corpus, small_config(), root=tmp_path / "runs", name="run")
    list(running.events())
    assert running.run.has_card
    longer = session.resume(Config(training=TrainingConfig(steps=40)), root=tmp_path / "runs", name="run")
    for event in longer.events():
        if isinstance(event, Report):
            assert not running.run.has_card
    assert "40 steps" in (running.run.folder / "README.md").read_text()


@pytest.mark.parametrize("at", ["threads", "torch", "compute"])
def test_another_environment_is_said_on_resume(corpus, tmp_path, at):
    run = stopped(corpus, tmp_path / "runs", 20)
    last = Run(run).saved(print)
    if at == "compute":
        last.record["compute"] = "another machine"
    else:
        last.record["environment"][at] = "another"
    last.save(run / "last.safetensors")
    told: list[str] = []
    session.resume(Config(), root=tmp_path / "runs", name="run", notify=told.append)
    assert sum(f"{at} was another" in line for line in told) == 1


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGHUP")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_stops_and_saves_but_where_that_is_ignored(tmp_path, monkeypatch, ignored):
    small_corpus(tmp_path)
    (tmp_path / "settings.toml").write_text(small_config(30).to_toml(""))
    monkeypatch.chdir(tmp_path)
    step = Trainer._step

    def hung_up(trainer: Trainer, length: int) -> None:
        if trainer.step == 12:
            signal.raise_signal(signal.SIGHUP)
        step(trainer, length)

    monkeypatch.setattr(Trainer, "_step", hung_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        done = CliRunner().invoke(app, ["train", "text", "--config", "settings.toml", "--run", "run"])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert done.exit_code == (0 if ignored else 75)
    assert Run(tmp_path / "checkpoints" / "run").saved(print).progress["step"] == (30 if ignored else 13)


def test_a_folder_that_was_taken_away_or_replaced_is_not_written_to(corpus, tmp_path):
    for other in (None, "gru"):
        root = tmp_path / str(other)
        events = session.begin(corpus, small_config(), root=root, name="run").events()
        for event in events:
            if isinstance(event, Report) and event.step == 10:
                break
        shutil.rmtree(root / "run")
        if other:
            list(session.begin(corpus, small_config(cell=other), root=root, name="run").events())
        with pytest.raises(ResourceError, match="is gone" if other is None else "another folder"):
            list(events)
        if other:
            best = Checkpoint.load(root / "run" / "best.safetensors")
            assert best.config.model.cell == other
            assert [line["step"] for line in figures(root / "run")] == [8, 10, 16, 20, 24]


def test_a_corpus_that_is_gone_is_said_with_what_to_do_and_a_damaged_other_one_is_no_hindrance(corpus, tmp_path):
    stopped(corpus, tmp_path / "runs", 10)
    renamed = corpus.path.rename(corpus.path.with_name("renamed"))
    (corpus.path.with_name("bad")).mkdir()
    (corpus.path.with_name("bad") / "corpus.json").write_text("{")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(tmp_path)
        with contextlib.closing(session.resume(Config(), root=tmp_path / "runs", name="run").events()) as events:
            next(events)
        shutil.rmtree(renamed)
        with pytest.raises(TextError, match="is gone or has changed; put it back, or begin anew"):
            session.resume(Config(), root=tmp_path / "runs", name="run")


@pytest.mark.parametrize("times", [1, 2])
def test_one_ctrl_c_stops_after_the_step_and_saves_and_a_second_leaves_at_once_without_harm(
    tmp_path, monkeypatch, times
):
    small_corpus(tmp_path)
    (tmp_path / "settings.toml").write_text(small_config(60, save_every="5").to_toml(""))
    monkeypatch.chdir(tmp_path)
    step = Trainer._step

    def interrupted(trainer: Trainer, length: int) -> None:
        for _ in range(times if trainer.step == 22 else 0):
            signal.raise_signal(signal.SIGINT)
        step(trainer, length)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        done = CliRunner().invoke(app, ["train", "text", "--config", "settings.toml", "--run", "run"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.exit_code == 130
    saved = Run(tmp_path / "checkpoints" / "run").saved(print).progress["step"]
    if times == 1:
        assert saved == 23
        assert "stopped and saved at step 23" in done.output
    else:
        assert saved == 21
        assert done.output.splitlines()[-1] == "charrnn: interrupted"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    resumed = session.resume(Config(), name="run")
    assert list(resumed.events())[-1].step == 60


def test_logs_that_cannot_be_cut_are_said_and_the_run_goes_on_to_the_same_end(corpus, tmp_path, monkeypatch):
    whole = session.begin(corpus, small_config(60), root=tmp_path / "whole", name="run")
    list(whole.events())
    run = stopped(corpus, tmp_path / "part", 30)
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"step": 1000}\n')  # as if written after the save
    told: list[str] = []

    def fail(path: Path, size: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "truncate", fail)
        resumed = session.resume(Config(), root=tmp_path / "part", name="run", notify=told.append)
    (line,) = (line for line in told if line.startswith("warning: "))
    assert "metrics.jsonl: cannot be cut (Input/output error)" in line
    list(resumed.events())
    assert same_end(run, whole.run.folder)
    assert {"step": 1000} in figures(run)
    assert [line for line in figures(run) if line["step"] <= 60] == figures(whole.run.folder)
