"""A run's folder: what may be one, what is written to it and read from it again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from runs import small_config

from charrnn.checkpoint import Checkpoint
from charrnn.errors import CheckpointError, UsageError
from charrnn.files import Log
from charrnn.training.events import Finished, Preview, Report, Snapshot, WentBack
from charrnn.training.run import Run, is_name, refuse_if_trained, rewind, save_name

REPORT = Report(1, 0.5, 1.0, 0.01, 2.0, 1.0, 1000.0, 0.1)
FINISHED = Finished("done", 1, 0.5, 1.0, 100, 1, None, 0)


@pytest.fixture
def run(tmp_path) -> Run:
    (tmp_path / "runs" / "run").mkdir(parents=True)
    return Run(tmp_path / "runs" / "run", tmp_path / "runs")


def create(root: Path, name: str | None = None, force: bool = False) -> Run:
    return Run.create(root, name, "poems", small_config(), ["charrnn", "train", "poems"], force=force)


def test_a_run_may_be_called_what_a_folder_may_and_an_option_or_another_place_may_not():
    fine = ["a", "1", "a b", "a.b", "é", "a..", "_"]
    bad = ["", ".", "..", ".a", "-a", "a/b", "/a", "a/", "a\n", "\x1b", "a\u202e"]
    assert [name for name in fine + bad if is_name(name)] == fine


def test_only_what_runs_write_may_be_replaced(run):
    own = ["best.safetensors", "last.safetensors", "last-1.safetensors", "last-12.safetensors", "config.toml"]
    own += ["metrics.jsonl", "samples.txt", "loss.svg", "README.md", ".x.tmp"]
    others = [
        "last-0.safetensors",
        "last-01.safetensors",
        "last-.safetensors",
        "last-x.safetensors",
        "last--1.safetensors",
    ]
    others += [
        "last",
        "last-1",
        "lastx.safetensors",
        "x-last.safetensors",
        "1.safetensors",
        "best-1.safetensors",
        "tmp",
        "x",
    ]
    assert [save_name(number) for number in (0, 1, 12)] == [own[1], own[2], own[3]]
    for name in own:
        (run.folder / name).touch()
        assert not is_name(name)  # or a run in a folder of runs could be taken for a file of one
    (run.folder / "tensorboard").mkdir()
    assert Run.holds_only_its_own(run.folder)
    (run.folder / "loss.svg").unlink()
    (run.folder / "loss.svg").mkdir()
    assert not Run.holds_only_its_own(run.folder)
    (run.folder / "loss.svg").rmdir()
    for name in others:
        (run.folder / name).touch()
        assert not Run.holds_only_its_own(run.folder), name
        (run.folder / name).unlink()


def test_a_corpus_whose_name_no_run_can_have_gives_another(tmp_path):
    for corpus in ("-x", ".x", "a\nb", "last.safetensors"):
        assert Run.create(tmp_path, None, corpus, small_config(), ["charrnn"]).name.startswith("run")


def test_a_run_without_a_name_takes_the_first_number_that_is_free_and_a_replaced_one_is_emptied(tmp_path):
    root = tmp_path / "runs"
    names = []
    for _ in range(3):
        made = create(root)
        made.hold.close()
        names.append(made.name)
    assert names == ["poems", "poems-2", "poems-3"]
    (root / "poems-2" / "config.toml").unlink()
    (root / "poems-2").rmdir()
    assert create(root).name == "poems-2"
    (root / "poems" / "tensorboard").mkdir()
    (root / "poems" / "tensorboard" / "events").touch()
    (root / "poems" / "last-1.safetensors").touch()
    replaced = create(root, force=True)
    assert [path.name for path in replaced.folder.iterdir()] == ["config.toml"]
    assert (
        f"charrnn train poems --config {replaced.folder}/config.toml"
        in replaced.folder.joinpath("config.toml").read_text()
    )
    with pytest.raises(UsageError, match="is being trained by another process"):
        create(root, "poems", force=True)
    with pytest.raises(UsageError, match="is being trained by another process"):
        refuse_if_trained(replaced.folder)
    replaced.hold.close()
    refuse_if_trained(replaced.folder)
    refuse_if_trained(root / "nowhere")
    (root / "empty").mkdir()
    assert create(root, "empty").name == "empty"
    for file in ("best.safetensors", "last.safetensors", "config.toml"):
        (root / file.partition(".")[0]).mkdir()
        (root / file.partition(".")[0] / file).touch()
        with pytest.raises(UsageError, match="is a run itself"):
            create(root, f"{file.partition('.')[0]}/x")


def test_events_are_written_as_they_come_and_passed_on(run, tiny_checkpoint):
    record = {"environment": {"charrnn": "0"}, "compute": "cpu", "steps": 1}
    checkpoint = dataclasses.replace(tiny_checkpoint(), record=record)
    events = [
        REPORT,
        Preview(1, "a sample"),
        Snapshot(checkpoint, best=False),
        Snapshot(checkpoint, best=True),
        FINISHED,
    ]
    recorded = run.record(iter(events), pytest.fail)
    seen = [next(recorded)]
    assert (run.folder / "samples.txt").read_text() == ""
    assert json.loads((run.folder / "metrics.jsonl").read_text()) == REPORT.to_json()
    assert [*seen, *recorded] == events
    assert run.metrics() == [REPORT.to_json()]
    assert (run.folder / "samples.txt").read_text() == "──── step 1\na sample\n\n"
    sizes = {
        "metrics.jsonl": len(json.dumps(REPORT.to_json())) + 1,
        "samples.txt": len("──── step 1\na sample\n\n".encode()),
    }
    assert run.saved(pytest.fail).progress == {"files": sizes}
    assert Checkpoint.load(run.best, with_state=True).progress == {}
    assert {path.name for path in run.folder.iterdir()} == {
        "best.safetensors", "last.safetensors", "metrics.jsonl", "samples.txt", "loss.svg", "README.md"
    }  # fmt: skip


def test_a_run_without_a_best_checkpoint_has_no_card(run):
    list(run.record([FINISHED], pytest.fail))
    assert {path.name for path in run.folder.iterdir()} == {"metrics.jsonl", "samples.txt", "loss.svg"}


def test_a_card_that_cannot_be_made_is_a_warning(run, tiny_checkpoint):
    told: list[str] = []
    run.best.write_bytes(b"damaged")
    list(run.record([FINISHED], told.append))
    for record in ({}, {"environment": []}, {"environment": {"charrnn": "0"}, "compute": "cpu", "steps": "x"}):
        dataclasses.replace(tiny_checkpoint(), record=record).save(run.best)
        list(run.record([FINISHED], told.append))
    assert len(told) == 4
    assert f"{run.best}: not a charrnn checkpoint (no safetensors header)" in told[0]
    assert told[1] == f"warning: {run.best}: its record lacks or garbles 'environment'"
    assert {path.name for path in run.folder.iterdir()} == {
        "best.safetensors", "metrics.jsonl", "samples.txt", "loss.svg"
    }  # fmt: skip


def test_metrics_are_the_lines_that_are_reports_and_no_other_ends_a_training(run):
    assert run.metrics() == []
    fine = [REPORT.to_json(), {"step": 2, "train_nats_per_char": 0, "validation_nats_per_char": 1.5}]
    odd: list[object] = [[], 7, None, "x", {}, {"step": 1}, {"train_nats_per_char": 1.0}, [[]] * 3]
    for name in ("step", "train_nats_per_char", "validation_nats_per_char"):
        odd += [{**fine[1], name: value} for value in ("1", None, True, -1, 10**400, 1e15, [1])]
    odd += [{**fine[1], "step": 0}, {**fine[1], "step": float("nan")}, {**fine[1], "x": float("inf")}]
    lines = [fine[0], *odd, fine[1]]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode() + b"\xff\n" + b"[" * 9999 + b'\n\n{"st'
    (run.folder / "metrics.jsonl").write_bytes(data)
    assert run.metrics() == fine
    list(run.record([FINISHED], pytest.fail))
    assert "polyline" in (run.folder / "loss.svg").read_text()


def saves(run: Run, checkpoint: Checkpoint, numbers: range) -> None:
    for number in numbers:
        dataclasses.replace(checkpoint, progress={"step": number}).save(run.folder / save_name(number))


def test_a_run_goes_on_from_the_latest_save_that_is_whole_and_has_all_later_ones(run, tiny_checkpoint):
    with pytest.raises(CheckpointError, match=r"last\.safetensors: no such checkpoint"):
        run.saved(pytest.fail)
    saves(run, tiny_checkpoint(), range(4))
    assert [run.saved(pytest.fail, first).progress["step"] for first in range(6)] == [0, 1, 2, 3, 3, 3]
    told: list[str] = []

    def damage(number: int) -> None:
        (run.folder / save_name(number)).unlink(missing_ok=True)  # other names of it stay whole
        (run.folder / save_name(number)).write_bytes(b"")

    for number in (0, 1):
        damage(number)
    assert run.saved(told.append).progress["step"] == 2
    assert [line.partition(": not")[0] for line in told] == [f"warning: {run.last}"]
    assert told[0].endswith(f"; going on from the one before it, {run.folder / save_name(2)}")
    # It is the latest now, so that the next save keeps it and not the damaged one.
    assert run.saved(pytest.fail).progress["step"] == 2
    run.last.unlink()
    (run.folder / save_name(1)).unlink()
    saves(run, tiny_checkpoint(), range(1, 2))
    assert run.saved(told.append).progress["step"] == 1
    assert "no such checkpoint" in told[1]
    for number in range(4):
        damage(number)
    with pytest.raises(CheckpointError, match=r"last\.safetensors: not a"):
        run.saved(pytest.fail)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_a_save_keeps_as_many_as_asked_for_and_removes_only_saves(run, tiny_checkpoint, keep):
    saves(run, tiny_checkpoint(), range(5))
    (run.folder / "last-mine.txt").touch()
    for step in (10, 11, 12):
        run._save(dataclasses.replace(tiny_checkpoint(), progress={"step": step}), keep)
    kept = [Checkpoint.load(run.folder / save_name(number), with_state=True).progress["step"] for number in range(keep)]
    assert kept == [12, 11, 10][:keep]
    assert len(list(run.folder.iterdir())) == keep + 1


def test_logs_are_cut_to_what_a_save_vouches_for_and_never_by_what_is_no_size(run, tiny_checkpoint):
    logs = [Log(run.folder / name, pytest.fail) for name in ("a", "b")]
    for files, sizes in (
        (None, [9, 9]), ([1], [9, 9]), ({"a": -1, "b": "1"}, [9, 9]), ({"a": None}, [9, 9]), ({"a": 3}, [3, 9]),
        ({"a": 20, "b": 0}, [9, 0]),
    ):  # fmt: skip
        for log in logs:
            log.path.write_bytes(b"123456789")
        checkpoint = dataclasses.replace(tiny_checkpoint(), progress={"files": files})
        rewind(logs, checkpoint)
        assert [log.path.stat().st_size for log in logs] == sizes
    events = [REPORT, WentBack(dataclasses.replace(tiny_checkpoint(), progress={"files": {"metrics.jsonl": 0}}))]
    list(run.record(events, pytest.fail))
    assert run.metrics() == []
