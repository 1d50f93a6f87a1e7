"""Several processes, started by ``torchrun``, train as one does."""

from __future__ import annotations

import itertools
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import TEXT, figures, same_end

from charrnn.checkpoint import Checkpoint
from charrnn.data.streams import Streams
from charrnn.errors import ResourceError
from charrnn.model.noise import Noise
from charrnn.training.group import meet

#: Five streams, so that neither two nor four processes have equal shares; everything that draws random numbers is on.
OPTIONS = shlex.split(
    "train text.txt --num-layers 2 --hidden-size 8 --embedding-size 4 --batch-size 5 --sequence-length 16 "
    "--input-dropout 0.1 --dropout 0.2 --output-dropout 0.1 --weight-dropout 0.2 --state-reset 0.1 --averaging 0.1 "
    "--schedule constant --validate-every 6 --save-every 4 --device cpu --precision fp32 --split 70,30,0"
)


def launch(
    folder: Path, processes: int, *arguments: str, disasters: Any = (), restarts: int = 0, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """``torchrun`` in a folder; what its processes print."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["--max-restarts", str(restarts), "--monitor-interval", "0.1"]
    return subprocess.run(
        # The two dashes keep torchrun from taking --run for one of its own options.
        [sys.executable, *command, "--", str(Path(__file__).with_name("process.py")), *arguments],
        cwd=folder,
        env=os.environ | {"DISASTERS": json.dumps(disasters), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        input=text,
        text=True,
        timeout=600,
    )


def train(folder: Path, processes: int, name: str, *more: str, **how: Any) -> Path:
    """A run of so many processes."""
    arguments = [*(OPTIONS if "--resume" not in more else ["train"]), "--run", name, *more]
    if processes == 1:
        done = subprocess.run(
            [sys.executable, "-m", "charrnn", *arguments], cwd=folder, capture_output=True, text=True, timeout=300
        )
    else:
        done = launch(folder, processes, *arguments, **how)
    assert done.returncode == 0, done.stderr
    return folder / "checkpoints" / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("group")
    (folder / "text.txt").write_text(TEXT)
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    return train(folder, 1, "alone", "--steps", "24")


@pytest.fixture(scope="module")
def two(folder: Path, alone: Path) -> Path:
    return train(folder, 2, "two", "--steps", "24")


def alike(ours: Path, theirs: Path) -> None:
    """Two runs end with the same figures and state up to rounding, and have drawn the same random numbers."""
    for mine, yours in zip(figures(ours), figures(theirs), strict=True):
        assert mine.keys() == yours.keys()
        assert all(mine[key] == pytest.approx(yours[key], rel=1e-5) for key in mine)
    mine, yours = (Checkpoint.load(run / "last.safetensors", with_state=True) for run in (ours, theirs))
    assert mine.state.keys() == yours.state.keys()
    for name in mine.state:
        np.testing.assert_allclose(mine.state[name], yours.state[name], rtol=1e-3, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(mine.state["generator"], yours.state["generator"])


def test_two_processes_train_as_one_does_and_leave_one_run(alone: Path, two: Path) -> None:
    alike(alone, two)
    assert {path.name for path in two.iterdir()} == {path.name for path in alone.iterdir()}


def test_what_two_have_saved_in_parts_one_and_four_go_on_with(folder: Path, alone: Path) -> None:
    begun = train(folder, 2, "begun", "--steps", "12", "--accumulation", "2")
    for processes, parts in ((1, 5), (4, 1)):
        shutil.copytree(begun, folder / "checkpoints" / f"on-{processes}")
        more = ("--resume", "--steps", "24", "--accumulation", str(parts))
        alike(train(folder, processes, f"on-{processes}", *more), alone)


def test_after_a_killed_process_all_begin_again_at_the_last_save_and_end_as_if_nothing_had_been(
    folder: Path, two: Path
) -> None:
    disasters = [(1, 2, signal.SIGKILL), (0, 14, signal.SIGKILL)]  # before the first save but one, and after others
    ended = train(folder, 2, "killed", "--steps", "24", disasters=disasters, restarts=2)
    assert figures(ended) == figures(two)
    assert same_end(ended, two)


@pytest.mark.slow
def test_twenty_kills_of_random_processes_at_random_steps_change_nothing(folder: Path, two: Path) -> None:
    draw = random.Random(0)
    disasters = [(draw.randrange(2), min(23, 4 + k + draw.randrange(4)), signal.SIGKILL) for k in range(20)]
    ended = train(folder, 2, "twenty", "--steps", "24", disasters=disasters, restarts=20)
    assert figures(ended) == figures(two)
    assert same_end(ended, two)


def test_a_signal_to_one_process_stops_all_at_one_step_and_they_can_go_on(folder: Path, two: Path) -> None:
    done = launch(folder, 2, *OPTIONS, "--run", "stopped", "--steps", "24", disasters=[(1, 9, signal.SIGTERM)])
    assert done.returncode != 0
    assert done.stderr.count("stopped and saved at step 10; go on with: charrnn train --resume --run stopped") == 1
    ended = train(folder, 2, "stopped", "--resume")
    assert figures(ended) == figures(two)
    assert same_end(ended, two)


@pytest.mark.slow
def test_an_error_of_another_process_than_the_first_reaches_the_user_in_one_line(folder: Path) -> None:
    done = launch(folder, 2, *OPTIONS, "--run", "failed", "--steps", "24", disasters=[(1, 9, "the disk is on fire")])
    assert done.returncode != 0
    assert "charrnn: process 1: the disk is on fire" in done.stderr


def test_more_processes_than_streams_are_refused(folder: Path) -> None:
    done = launch(folder, 2, *OPTIONS, "--run", "none", "--steps", "24", "--batch-size", "1")
    assert done.returncode != 0
    assert "2 processes: there are 1 streams to share" in done.stderr


def test_what_ended_by_itself_is_not_begun_again(folder: Path, two: Path) -> None:
    before = {path.name: path.read_bytes() for path in two.iterdir()}
    for arguments, disasters, said in (
        (["--run", "two"], [], "a run of that name exists"),
        (["--run", "signalled"], [(1, 9, signal.SIGTERM)], "stopped and saved at step 10"),
    ):
        done = launch(folder, 2, *OPTIONS, *arguments, "--steps", "30", disasters=disasters, restarts=1)
        assert done.returncode != 0
        assert done.stderr.count(said) == 1
        assert "RuntimeError" not in done.stderr
    assert {path.name: path.read_bytes() for path in two.iterdir()} == before


@pytest.mark.slow
def test_standard_input_is_read_once_for_all(folder: Path) -> None:
    done = launch(folder, 2, "train", "-", *OPTIONS[2:], "--run", "piped", "--steps", "2", "-q", text=TEXT)
    assert done.returncode == 0, done.stderr
    assert (folder / "checkpoints" / "piped" / "best.safetensors").is_file()


class Store(dict[str, bytes]):
    """What torchrun keeps, for threads."""

    def set(self, key: str, value: str) -> None:
        self[key] = value.encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)

    def get(self, key: str) -> bytes:  # type: ignore[override]
        return self[key]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_processes_meet_under_a_new_name_each_time_in_whatever_order_they_come(size: int) -> None:
    store, names = Store(), []
    for turn in range(5):
        order = random.Random(turn).sample(range(size), size)
        found: dict[int, str] = {}

        def come(rank: int, found: dict[int, str] = found) -> None:
            found[rank] = meet(store, rank, size, patience=20)

        threads = [threading.Thread(target=come, args=(rank,)) for rank in order]
        for thread in threads:
            thread.start()
            time.sleep(0.01)
        for thread in threads:
            thread.join()
        assert set(found) == set(range(size))
        assert len(set(found.values())) == 1
        names.append(found[0])
    assert len(set(names)) == 5


def test_who_waits_in_vain_says_so() -> None:
    store = Store()
    for rank in (0, 1):
        with pytest.raises(ResourceError, match="have not come"):
            meet(store, rank, 2, patience=0.05)


@given(st.integers(2, 200), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2))
def test_every_character_is_a_target_once_however_many_processes(N: int, B: int, T: int, W: int, epoch: int) -> None:
    whole = Streams(np.arange(N), B, T, first=0, seed=1)
    parts = [Streams(np.arange(N), B, T, first=0, seed=1, share=(rank, W)) for rank in range(W)]
    assert sum(parts[0].shares) == whole.batch_size
    for index in range(whole.windows):
        inputs, targets = whole.window(epoch, index)
        found = [part.window(epoch, index) for part in parts]
        np.testing.assert_array_equal(np.concatenate([mine for mine, _ in found], 1), inputs)
        np.testing.assert_array_equal(np.concatenate([mine for _, mine in found], 1), targets)
        assert {part.count(index) for part in parts} == {whole.count(index)}


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1))
def test_masks_of_a_stream_are_the_same_in_whichever_process(B: int, W: int, axis: int) -> None:
    def drawn(noise: Noise, streams: int) -> torch.Tensor:
        shape = torch.Size((streams, 3) if axis == 0 else (3, streams))
        return noise.drawn(lambda shape: torch.rand(shape, generator=noise.generator), shape, axis)

    whole = drawn(Noise(torch.Generator().manual_seed(1)), B)
    bounds = [B * rank // W for rank in range(W + 1)]
    parts = [
        drawn(Noise(torch.Generator().manual_seed(1), slice(begin, end), B), end - begin)
        for begin, end in itertools.pairwise(bounds)
    ]
    assert torch.equal(torch.cat(parts, axis), whole)
