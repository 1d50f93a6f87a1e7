"""What training does when the disk fails: every operation on a file is made to, once and for good."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from disk import Disk, Operation
from runs import small_config, small_corpus
from typer.testing import CliRunner

from charrnn.checkpoint import Checkpoint
from charrnn.cli import app
from charrnn.config import Config
from charrnn.errors import UsageError
from charrnn.training import session
from charrnn.training.run import Run

FAULTS: dict[str, Callable[[], BaseException]] = {
    "EIO": lambda: OSError(errno.EIO, "Input/output error"),
    "ENOSPC": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "EFBIG": lambda: OSError(errno.EFBIG, "File too large"),
    "MemoryError": MemoryError,
}
#: Files without which a training goes on.
MISSED = {"metrics.jsonl", "samples.txt", "loss.svg", "README.md"}


def wanted(operations: list[Operation], number: int) -> str:
    """The file that an operation is for: a temporary one has its name, and a folder is synced for what was renamed."""
    operation = operations[number]
    if operation.kind == "fsync" and operation.path.name == "run":
        operation = operations[number - 1]
    name = (operation.target or operation.path).name
    return name.removeprefix(".").rsplit(".", 2)[0] if name.endswith(".tmp") else name


def train(folder: Path, monkeypatch: pytest.MonkeyPatch, before: Callable | None = None):
    """``charrnn train`` in this process; its result, and what it did to files."""
    monkeypatch.chdir(folder)
    disk = Disk(monkeypatch, before)
    result = CliRunner().invoke(app, ["train", "text", "--config", "settings.toml", "--run", "run"])
    monkeypatch.undo()
    return result, disk.operations


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, list[Operation]]:
    """A place with a corpus and a run that nothing happened to, and what that did to files."""
    folder = tmp_path_factory.mktemp("whole")
    small_corpus(folder)
    (folder / "settings.toml").write_text(small_config().to_toml(""))
    with pytest.MonkeyPatch.context() as monkeypatch:
        result, operations = train(folder, monkeypatch)
    assert result.exit_code == 0, result.output
    return folder, operations


def injected(whole, fault: str, stride: int, start: int) -> int:
    """Let every ``stride``-th operation fail, alone and with all that follow; how many trainings that were."""
    folder, operations = whole
    count = 0
    for number in range(start, len(operations), stride):
        for for_good in (False, True):
            count += 1
            place = folder.parent / f"{folder.name}-{fault}-{number}-{for_good}"
            shutil.copytree(folder, place, ignore=shutil.ignore_patterns("checkpoints"))

            def before(at: int, operation: Operation, half, number=number, for_good=for_good) -> None:
                if at == number or (for_good and at > number):
                    half()
                    raise FAULTS[fault]()

            with pytest.MonkeyPatch.context() as monkeypatch:
                result, done = train(place, monkeypatch, before)
                monkeypatch.chdir(place)
                check(result, done, number, for_good, place, folder)
            shutil.rmtree(place)
    return count


def check(result, done: list[Operation], number: int, for_good: bool, place: Path, whole: Path) -> None:
    """What must be true after a fault."""
    failed = done[number:] if for_good else done[number : number + 1]
    names = {wanted(done, number + k) for k in range(len(failed))}
    said = result.output
    assert result.exit_code in (0, 6), said
    assert "Traceback" not in said
    run = place / "checkpoints" / "run"
    if result.exit_code == 0:
        # Where it was only a picture, a log, a link (copied then), or a removal (which the next start does).
        if failed[0].kind not in ("unlink", "link"):
            assert names <= MISSED, names
            assert "warning: " in said, names
    else:
        assert any(name in said for name in names), (names, said)
        if wanted(done, number) in ("best.safetensors", "last.safetensors"):
            assert " bytes: cannot be written" in said, said
    if not (run / "last.safetensors").is_file():
        return
    Checkpoint.load(run / "last.safetensors")
    with contextlib.suppress(UsageError):  # it was the last save
        list(session.resume(Config(), name="run").events())
    ours, theirs = (Checkpoint.load(r / "last.safetensors") for r in (run, whole / "checkpoints" / "run"))
    assert all((ours.weights[name] == theirs.weights[name]).all() for name in theirs.weights)
    assert not list(run.glob(".*")), list(run.iterdir())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_disk_ends_training_in_one_line_or_not_at_all_and_loses_nothing(whole, fault):
    start = list(FAULTS).index(fault)
    assert injected(whole, fault, stride=43, start=start) >= 4


def test_a_disk_that_is_full_after_a_damaged_save_was_passed_over_leaves_the_good_one(whole):
    folder, _ = whole
    good = Checkpoint.load(folder / "checkpoints/run/last-1.safetensors", with_state=True).progress["step"]
    number = total = 0
    while number <= total:
        place = folder.parent / f"{folder.name}-passed-over-{number}"
        shutil.copytree(folder, place)
        last = place / "checkpoints/run/last.safetensors"
        data = bytearray(last.read_bytes())
        data[-1] ^= 1
        last.write_bytes(data)

        def before(at: int, operation: Operation, half, number=number) -> None:
            if at >= number:
                half()
                raise FAULTS["ENOSPC"]()

        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.chdir(place)
            disk = Disk(monkeypatch, before)
            result = CliRunner().invoke(app, ["train", "--resume", "--run", "run", "--steps", "30", "-q"])
            monkeypatch.undo()
            total = max(total, len(disk.operations) + 3) if result.exit_code else total
        assert result.exit_code in (0, 6), result.output
        found = Run(place / "checkpoints/run").saved(lambda line: None)
        assert found.progress["step"] >= good
        shutil.rmtree(place)
        number += 3


def test_the_counting_of_an_n_gram_model_too_says_which_log_it_goes_on_without(tmp_path, monkeypatch):
    small_corpus(tmp_path)
    monkeypatch.chdir(tmp_path)

    def before(at: int, operation: Operation, half) -> None:
        if operation.path.name == "metrics.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device")

    Disk(monkeypatch, before)
    result = CliRunner().invoke(app, ["train", "text", "--model", "ngram", "--run", "run"])
    assert result.exit_code == 0, result.output
    assert result.stderr.count("metrics.jsonl: cannot be written (No space left on device); going on") == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_every_operation_may_fail(whole, fault, capsys):
    count = injected(whole, fault, stride=1, start=0)
    with capsys.disabled():
        print(f"\n{fault}: {count} faults injected")
