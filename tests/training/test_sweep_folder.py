"""A sweep's folder: whose it is, who runs in it, and its picture."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from charrnn.config import Config, TrainingConfig
from charrnn.data.corpus import Corpus, prepare
from charrnn.data.sources import gather
from charrnn.errors import CheckpointError, ResourceError, TextError, UsageError
from charrnn.training import sweep as module
from charrnn.training.grid import parse_grid
from charrnn.training.plot import sweep_plot
from charrnn.training.sweep import Row, Sweep

FIGURES = {
    "parameters": 10,
    "validation_nats_per_char": 1.5,
    "nats_per_char": 1.25,
    "bits_per_char": 1.25 / math.log(2),
}


@pytest.fixture(autouse=True)
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the cat sat\n" * 60)
    return prepare(["text.txt"])


def swept(corpus: Corpus, *grid: str, **settings: Any) -> Sweep:
    common = Config(training=TrainingConfig(steps=settings.pop("steps", 5)))
    return Sweep(corpus, parse_grid(grid or ("cell=rnn,lstm", "seed=0,1,2")), common, **settings)


def finish(sweep: Sweep, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[str]:
    """Run a sweep whose trainings are made up; the runs that were trained."""
    ran = []

    def point(row: Row, environment: Any) -> Row:
        row.folder.mkdir(parents=True)
        (row.folder / "best.safetensors").touch()
        ran.append(row.run)
        return dataclasses.replace(row, **{"status": "done", "exit_code": 0, **FIGURES, **settings})

    monkeypatch.setattr(sweep, "_point", point)
    with sweep.opened():
        sweep.run([{}])
    return ran


def test_finished_and_diverged_points_are_not_trained_again_and_failed_ones_are(corpus, monkeypatch):
    assert len(finish(swept(corpus), monkeypatch)) == 6
    assert finish(swept(corpus), monkeypatch) == []
    path = Path("checkpoints/text-sweep/sweep.json")
    document = json.loads(path.read_text())
    for row, status in zip(document["rows"], ("diverged", "stopped", "failed"), strict=False):
        row["status"] = status
        Path("checkpoints", row["run"], "best.safetensors").unlink()
        Path("checkpoints", row["run"]).rmdir()
    path.write_text(json.dumps(document))
    assert finish(swept(corpus), monkeypatch) == [row["run"] for row in document["rows"][1:3]]


@pytest.mark.parametrize(
    ("said", "status"),
    [("x: the run is finished (5 steps); go on", "done"), ("--precision fp16: needs a GPU", "failed")],
)
def test_a_finished_training_whose_row_was_lost_is_scored_and_not_trained_again(
    corpus, monkeypatch, tiny_checkpoint, said, status
):
    sweep, called = swept(corpus, "seed=0"), []

    def call(row: Row, arguments: list[str], environment: Any) -> tuple[int, bytes]:
        called.append(arguments[:2])
        row.log.write_text(f"charrnn: {said}\n")
        return (2, b"") if arguments[0] == "train" else (0, json.dumps(FIGURES).encode())

    folder = Path("checkpoints/text-sweep/seed-0")
    with sweep.opened():
        folder.mkdir()
        made = dataclasses.replace(tiny_checkpoint(), record={"parameters": 3, "characters": 4, "seconds": 5.0})
        made.save(folder / "last.safetensors")
        monkeypatch.setattr(sweep, "_call", call)
        sweep.run([{}])
    (row,) = sweep.rows.values()
    assert row.status == status
    assert called == [["train", "--resume"], ["eval", row.run]][: 2 if status == "done" else 1]
    assert row.error == (None if status == "done" else said)
    assert (row.parameters, row.characters, row.seconds) == (3, 4, 5.0)


def test_other_settings_under_the_same_name_are_refused_unless_forced(corpus, monkeypatch):
    finish(swept(corpus), monkeypatch)
    before = Path("checkpoints/text-sweep/sweep.json").read_bytes()
    for other in (swept(corpus, "seed=0,1"), swept(corpus, steps=6), swept(corpus, scored="test")):
        with pytest.raises(UsageError, match="--force"), other.opened():
            pass
    assert Path("checkpoints/text-sweep/sweep.json").read_bytes() == before
    with (other := swept(corpus, "seed=0")).opened(force=True):
        assert [row.status for row in other.rows.values()] == ["waiting"]
    assert {path.name for path in other.folder.iterdir()} == {"sweep.json", "sweep.svg"}


def test_what_is_no_sweep_is_never_taken_or_removed(corpus, monkeypatch):
    folder = Path("checkpoints/text-sweep")
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "notes.txt").touch()
    for force in (False, True):
        with pytest.raises(UsageError, match="is no sweep"), swept(corpus).opened(force=force):
            pass
    (folder / "mine").rename("mine")
    finish(swept(corpus), monkeypatch)
    Path("mine").rename(folder / "mine")
    with pytest.raises(UsageError, match="no part of a sweep"), swept(corpus).opened(force=True):
        pass
    assert (folder / "mine" / "notes.txt").exists()
    assert len(list(folder.iterdir())) == 9
    garbled = json.loads((folder / "sweep.json").read_text())
    garbled["rows"][0]["nats_per_char"] = "x"
    for text in ("{", json.dumps(garbled)):
        (folder / "sweep.json").write_text(text)
        with pytest.raises(CheckpointError, match="damaged"), swept(corpus).opened():
            pass


def test_a_running_sweep_keeps_others_out(corpus):
    with swept(corpus).opened(), pytest.raises(UsageError, match="running"), swept(corpus).opened(force=True):
        pass
    with swept(corpus).opened():
        pass


def test_each_device_has_one_process_at_a_time_and_all_have_work(corpus, monkeypatch):
    sweep, busy, seen, lock = swept(corpus), set(), set(), threading.Lock()

    def point(row: Row, environment: dict[str, str]) -> Row:
        device = environment["CUDA_VISIBLE_DEVICES"]
        with lock:
            assert device not in busy
            busy.add(device)
            seen.add(device)
        time.sleep(0.02)
        with lock:
            busy.remove(device)
        return dataclasses.replace(row, status="done", exit_code=0, **FIGURES)

    monkeypatch.setattr(sweep, "_point", point)
    with sweep.opened():
        sweep.run([{"CUDA_VISIBLE_DEVICES": name} for name in "357"])
    assert seen == set("357")
    assert all(row["status"] == "done" for row in json.loads((sweep.folder / "sweep.json").read_text())["rows"])


def test_visible_devices_are_counted_and_named_as_the_user_restricted_them(monkeypatch):
    import torch

    assert module.environments(None) == module.environments("cpu") == [{}]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert module.environments("cuda") == [{"CUDA_VISIBLE_DEVICES": name} for name in "01"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert module.environments("cuda") == [{"CUDA_VISIBLE_DEVICES": name} for name in "47"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ResourceError, match="no such device"):
        module.environments("cuda")


def test_an_error_in_one_point_stops_the_rest(corpus, monkeypatch):
    sweep, ran = swept(corpus), []

    def point(row: Row, environment: Any) -> Row:
        ran.append(row.run)
        raise ResourceError("the disk is full")

    monkeypatch.setattr(sweep, "_point", point)
    with pytest.raises(ResourceError), sweep.opened():
        sweep.run([{}])
    assert len(ran) < 6


def test_names_and_splits_that_cannot_be_are_refused(corpus):
    for name in ("", "a/b", "..", "-a"):
        with pytest.raises(UsageError, match="--name"):
            swept(corpus, name=name)
    whole = prepare(
        ["text.txt"], name="whole", settings=module.Corpus.open(corpus.path).settings.__class__(split=(95, 5, 0))
    )
    with pytest.raises(TextError, match="test split is empty"):
        swept(whole, scored="test")


def test_a_sweep_is_no_text_to_train_on(corpus, monkeypatch):
    finish(swept(corpus), monkeypatch)
    with gather(["."], skip_binary=True) as found:
        assert [source.path.name for source in found.sources] == ["text.txt"]


def test_the_picture_is_well_formed_and_shows_every_point_beside_the_others():
    def rows(count: int) -> list[dict[str, Any]]:
        return [
            {
                "run": f"<&>/{cell}_{n}",
                "settings": {"cell": cell, "seed": n},
                "parameters": 10 ** (4 + n % 3),
                "nats_per_char": 1.5,
            }
            for n in range(count)
            for cell in ("rnn", "lstm")
        ]

    for count in (0, 1, 2, 9):
        document = {"sweep": "<&>", "scored": "test", "grid": {"cell": ["rnn", "lstm"]}, "rows": rows(count)}
        document["rows"].append({**rows(1)[0], "nats_per_char": None})
        root = ElementTree.fromstring(sweep_plot(document))
        marks = [mark for mark in root.iter("{http://www.w3.org/2000/svg}path") if "point" in mark.get("class").split()]
        assert len(marks) == 2 * count
        assert len({mark.get("transform") for mark in marks}) == 2 * count
        assert {mark.get("class").split()[-1] for mark in marks} == ({"s0", "s1"} if count else set())
        assert all("1.5000 nats" in mark[0].text for mark in marks)
