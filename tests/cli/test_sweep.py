"""``charrnn sweep`` as a user meets it: trained by real processes, killed, gone on with."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from charrnn.checkpoint import Checkpoint, read_document

STEPS = 600
GRID = ["--grid", "learning-rate=0.01,1e6", "--steps", str(STEPS), "--save-every", "20", "--validate-every", "200"]
MODEL = ["--cell", "rnn", "--num-layers", "1", "--hidden-size", "8", "--embedding-size", "4"]
SMALL = [*MODEL, "--batch-size", "4", "--sequence-length", "16"]
COMMAND = ["sweep", "bottles.txt", *GRID, *SMALL, "--precision", "fp32", "--device", "cpu", "--scored", "test"]
GOOD, BAD = "bottles-sweep/learning-rate-0.01", "bottles-sweep/learning-rate-1000000"


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "charrnn", *arguments], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def charrnn(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def workplace(folder: Path) -> Path:
    (folder / "bottles.txt").write_text("".join(f"{n} green bottles, and {n % 7} should fall\n" for n in range(300)))
    return folder


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with a whole sweep, one of whose two points diverges."""
    folder = workplace(tmp_path_factory.mktemp("swept"))
    return folder, charrnn(folder, *COMMAND)


def test_a_diverging_point_does_not_stop_the_sweep_and_sets_its_exit_code(swept):
    folder, done = swept
    assert done.returncode == 5, done.stderr
    assert f"first {BAD}: " in done.stderr.splitlines()[-1]
    assert "lower --learning-rate" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    good, bad = json.loads((folder / "checkpoints/bottles-sweep/sweep.json").read_text())["rows"]
    assert [good["run"], good["status"], bad["run"], bad["status"]] == [GOOD, "done", BAD, "diverged"]
    assert good["characters"] > 10_000
    assert good["parameters"] == Checkpoint.load(folder / "checkpoints" / GOOD / "best.safetensors").parameters
    assert bad["nats_per_char"] is None
    assert bad["exit_code"] == 5


def test_the_figures_are_those_of_the_command_that_the_row_names(swept):
    folder, _ = swept
    row = json.loads((folder / "checkpoints/bottles-sweep/sweep.json").read_text())["rows"][0]
    figures = json.loads(charrnn(folder, *shlex.split(row["eval"])[1:]).stdout)
    assert figures["split"] == "test"
    assert [row["nats_per_char"], row["bits_per_char"]] == [figures["nats_per_char"], figures["bits_per_char"]]
    assert shlex.split(row["train"])[:5] == ["charrnn", "train", "bottles", "--run", GOOD]


def test_the_table_and_the_picture_hold_every_point(swept):
    folder, done = swept
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["run", "parameters", "validation", "test", "bits", "time"]
    assert lines[1].startswith("*  learning-rate-0.01 ")
    assert lines[2].split()[0] == "learning-rate-1000000"
    assert "diverged" in lines[2]
    picture = ElementTree.parse(folder / "checkpoints/bottles-sweep/sweep.svg").getroot()
    assert sum("point" in mark.get("class", "").split() for mark in picture.iter()) == 1


def test_a_run_of_a_sweep_goes_by_its_name_and_is_never_the_run_trained_last(swept):
    folder, _ = swept
    assert charrnn(folder, "sample", GOOD, "--length", "5").returncode == 0
    described = json.loads(charrnn(folder, "info", GOOD, "--json").stdout)
    assert described["path"] == f"checkpoints/{GOOD}/best.safetensors"
    done = charrnn(folder, "info")
    assert (done.returncode, "no trained model" in done.stderr) == (4, True)


def test_a_stopped_and_a_killed_sweep_end_as_an_undisturbed_one(swept, tmp_path):
    whole, _ = swept
    folder = workplace(tmp_path)
    point = folder / "checkpoints" / GOOD
    command = [argument.replace(",1e6", "") for argument in COMMAND]
    for number in (signal.SIGINT, signal.SIGKILL):
        seen = (point / "metrics.jsonl").stat().st_size if point.exists() else 0
        process = start(folder, *command)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if (point / "last.safetensors").exists() and (point / "metrics.jsonl").stat().st_size > seen:
                break
            time.sleep(0.005)
        if number == signal.SIGKILL:
            for child in subprocess.run(
                ["pgrep", "-P", str(process.pid)], capture_output=True, text=True
            ).stdout.split():
                os.kill(int(child), signal.SIGKILL)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), said
        assert 0 < read_document(point / "last.safetensors")["record"]["steps"] < STEPS
        if number == signal.SIGINT:
            assert "go on with: charrnn sweep bottles.txt --grid learning-rate=0.01 " in said
    done = charrnn(folder, *command, "--json")
    assert done.returncode == 0, done.stderr
    rows = [
        json.loads((place / "checkpoints/bottles-sweep/sweep.json").read_text())["rows"] for place in (whole, folder)
    ]
    assert json.loads(done.stdout)["rows"] == rows[1]
    assert {**rows[0][0], "seconds": 0} == {**rows[1][0], "seconds": 0}
    ours, theirs = (
        Checkpoint.load(place / "checkpoints" / GOOD / "best.safetensors").weights for place in (whole, folder)
    )
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--grid", "hidden-sise=1"],
        ["--grid", "hidden-size=8", "--hidden-size", "8"],
        ["--grid", "steps=8", "--epochs", "1"],
        ["--grid", "seed=0", "--scored", "train"],
        ["--grid", "seed=0", "--preset", "huge"],
        ["--grid", "seed=0", "--config", "missing.toml"],
        ["--grid", "seed=0", "--name", "a/b"],
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(tmp_path, monkeypatch, arguments):
    from typer.testing import CliRunner

    from charrnn.cli import app

    monkeypatch.chdir(workplace(tmp_path))
    result = CliRunner().invoke(app, ["sweep", "bottles.txt", *arguments])
    assert result.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["bottles.txt"]


@pytest.mark.parametrize("width", [60, 100])
def test_the_table_fits_the_terminal(swept, monkeypatch, capsys, width):
    from charrnn.cli import console
    from charrnn.config import Config, TrainingConfig
    from charrnn.data.corpus import Corpus
    from charrnn.training.grid import parse_grid
    from charrnn.training.sweep import Row, Sweep

    monkeypatch.chdir(swept[0])
    grid = parse_grid(["cell=lstm,gru", "num-layers=2", "hidden-size=512", "seed=0"])
    made = Sweep(Corpus.open("corpora/bottles"), grid, Config(training=TrainingConfig(steps=1)), scored="test")
    figures = {"parameters": 12_345_678, "seconds": 4000.0, "status": "done", "nats_per_char": 1.25}
    made.rows = {
        run: Row(**{**vars(row), **figures, "validation_nats_per_char": 1.5, "bits_per_char": 1.8})
        for run, row in made.rows.items()
    }
    screen = Console(width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(console, "out", lambda: screen)
    importlib.import_module("charrnn.cli.sweep")._table(made)  # the package's attribute is the command
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= width
    assert sum("12,345,678" in line and "1.2500" in line and "1h06m" in line for line in shown) == 2
