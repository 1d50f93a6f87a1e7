"""A run that is killed again and again, at any moment, ends as if it had never been."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from disk import Disk
from runs import figures, go_on, same_end, small_config, small_corpus

from charrnn.config import Config
from charrnn.data.corpus import Corpus
from charrnn.training import session

#: Seconds after which a process that should have ended hangs; on a busy machine it may take a minute.
DEADLINE = 300

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["runs"])


def start(folder: Path, given: Config, **options: object) -> multiprocessing.Process:
    """A process that begins or goes on with the run; it ends with this one, if a test fails before it waits."""
    process = processes.Process(target=go_on, args=(folder, given), kwargs=options, daemon=True)
    process.start()
    return process


def wait(process: multiprocessing.Process) -> None:
    """Wait for a process's end. One that hangs is a failure, and is not left behind."""
    process.join(DEADLINE)
    if process.is_alive():
        process.kill()
        process.join()
        pytest.fail(f"a training has not ended within {DEADLINE} seconds")


@pytest.fixture
def whole(request, tmp_path, monkeypatch) -> tuple[Path, Config, int]:
    """A place with a run that nothing happened to, its settings, and how often it touched the disk; for a cell and a
    number of steps."""
    cell, steps = request.param
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for the server to find what it loads ahead
    folder = tmp_path / "whole"
    folder.mkdir()
    small_corpus(folder)
    given = small_config(steps, cell, validate_every="50", save_every="20")
    monkeypatch.chdir(folder)
    disk = Disk(monkeypatch)
    list(session.begin(Corpus.open("corpora/text"), given, name="run").events())
    return folder, given, len(disk.operations)


def place_beside(whole: Path) -> tuple[Path, Path]:
    """A new place with the same corpus, and its run's folder."""
    folder = whole.parent / "part"
    folder.mkdir()
    small_corpus(folder)
    return folder, folder / "checkpoints" / "run"


def check(run: Path, whole: Path) -> None:
    """Both ended the same, and nothing is left over."""
    assert figures(run) == figures(whole)
    assert (run / "samples.txt").read_bytes() == (whole / "samples.txt").read_bytes()
    assert same_end(run, whole)
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}


def killed_at_random(whole: tuple[Path, Config, int], kills: int) -> int:
    """Kill a run at random moments until it has survived so many, then let it end; how many that were."""
    folder, given, _ = whole
    part, run = place_beside(folder)
    moments = random.Random(0)
    survived = 0
    while survived < kills:
        process = start(part, given)
        time.sleep(moments.uniform(0.05, 0.8))
        process.kill()
        wait(process)
        if process.exitcode == -signal.SIGKILL:
            survived += 1
        else:  # it was done, or there was nothing left to do: another one
            check(run, folder / "checkpoints" / "run")
            shutil.rmtree(run)
    wait(start(part, given))
    check(run, folder / "checkpoints" / "run")
    return survived


def killed_inside(whole: tuple[Path, Config, int], numbers: Iterable[int]) -> int:
    """Kill a run before and in the middle of these operations on files, counted anew each time; how often it was."""
    folder, given, _ = whole
    part, run = place_beside(folder)
    survived = 0
    for number, halfway in itertools.product(numbers, (False, True)):
        process = start(part, given, kill_at=number, halfway=halfway)
        wait(process)
        assert process.exitcode == -signal.SIGKILL
        survived += 1
    wait(start(part, given))
    check(run, folder / "checkpoints" / "run")
    return survived


LONG = pytest.mark.parametrize("whole", [("lstm", 6000), ("gru", 6000)], indirect=True, ids=["lstm", "gru"])


@pytest.mark.parametrize("whole", [("gru", 400)], indirect=True, ids=["gru"])
def test_killed_at_random_moments_it_ends_the_same(whole):
    assert killed_at_random(whole, 3) == 3


@pytest.mark.parametrize("whole", [("lstm", 400)], indirect=True, ids=["lstm"])
def test_killed_inside_a_save_it_ends_the_same(whole):
    assert killed_inside(whole, (12, 14, 29, 47)) == 8


@pytest.mark.slow
@LONG
def test_killed_at_fifty_random_moments_it_ends_the_same(whole, capsys):
    survived = killed_at_random(whole, 50)
    with capsys.disabled():
        print(f"\n{survived} kills survived")
    assert survived == 50


@pytest.mark.slow
@LONG
def test_killed_before_and_inside_each_of_sixty_operations_it_ends_the_same(whole, capsys):
    survived = killed_inside(whole, range(60))
    with capsys.disabled():
        print(f"\n{survived} kills survived")


def test_a_training_that_hangs_is_a_failure_and_not_left_behind(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "DEADLINE", 0.5)
    process = processes.Process(target=time.sleep, args=(600,))
    process.start()
    with pytest.raises(pytest.fail.Exception, match="has not ended"):
        wait(process)
    assert process.exitcode == -signal.SIGKILL


def test_two_trainings_of_one_run_are_refused_and_a_dead_one_lets_go(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    small_corpus(tmp_path)
    given = small_config(100_000)
    run = tmp_path / "checkpoints" / "run"
    first = start(tmp_path, given)
    end = time.monotonic() + DEADLINE
    while not (run / "metrics.jsonl").is_file():
        assert first.is_alive()
        assert time.monotonic() < end
        time.sleep(0.02)
    before = {path: path.read_bytes() for path in run.iterdir() if path.suffix == ".toml"}
    for options in (["--resume"], ["text", "--force"], ["text"]):
        second = subprocess.run(
            [sys.executable, "-m", "charrnn", "train", *options, "--run", "run"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert second.returncode == 2
        assert "run of that name exists" in second.stderr or "trained by another process" in second.stderr
        if "--force" in options or "--resume" in options:
            assert "loading" not in second.stderr  # so it is refused in the time that Python needs to start
    assert first.is_alive()
    assert {path: path.read_bytes() for path in before} == before
    first.kill()
    wait(first)
    monkeypatch.chdir(tmp_path)
    session.resume(Config(), name="run")
