"""Files survive power cuts: every state that a disk may be in after one is made and read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from disk import Disk, Operation

from charrnn.checkpoint import Checkpoint
from charrnn.errors import ResourceError, UsageError
from charrnn.files import Hold, Log, atomic_write, clear_temporaries
from charrnn.training.run import Run

#: What becomes of written bytes that were not synced.
KEPT, DROPPED, HALVED = (lambda new, old: new), (lambda new, old: old), (lambda new, old: new[: len(new) // 2])


class Inode:
    """A file's content: what is surely on the disk, and what was written."""

    def __init__(self, synced: bytes = b"") -> None:
        self.synced = self.written = synced


def crash_states(before: dict[str, bytes], operations: list[Operation]) -> Iterator[dict[str, bytes]]:
    """Every content of a folder after a power cut during ``operations``: changes of names reach the disk in order, but
    no sooner than the folder is synced; a file's bytes when it is synced, or any time before."""
    for count in range(len(operations) + 1):
        inodes = {name: Inode(data) for name, data in before.items()}
        names = [dict(inodes)]  # as after each change since the folder was last synced
        for operation in operations[:count]:
            now = dict(names[-1])
            name = operation.path.name
            match operation.kind:
                case "open" if operation.data == b"wb":
                    now[name] = Inode()
                case "write":
                    now[name].written += operation.data
                case "fsync" if name in now:
                    now[name].synced = now[name].written
                case "fsync":  # of the folder
                    names = []
                case "replace":
                    now[operation.target.name] = now.pop(name)
                case "link":
                    now[operation.target.name] = now[name]
                case "unlink":
                    del now[name]
            names.append(now)
        for folder, fate in itertools.product(names, (KEPT, DROPPED, HALVED)):
            yield {
                name: fate(inode.written, inode.synced) if inode.written != inode.synced else inode.synced
                for name, inode in folder.items()
            }


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_after_any_power_cut_a_run_has_its_old_checkpoint_or_its_new_one(keep, tiny_checkpoint, tmp_path, monkeypatch):
    steps = [tiny_checkpoint(seed=seed) for seed in range(4)]
    for number, checkpoint in enumerate(steps):
        checkpoint.progress["step"] = number
        checkpoint.state["number"] = np.array([number])
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    for checkpoint in steps[:3]:
        run._save(checkpoint, keep)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    assert len(before) == keep
    disk = Disk(monkeypatch)
    run._save(steps[3], keep)
    monkeypatch.undo()
    assert {operation.kind for operation in disk.operations} >= {"open", "write", "fsync", "replace"}
    states = {tuple(sorted(state.items())) for state in crash_states(before, disk.operations)}
    assert len(states) >= 4
    found = set()
    for number, state in enumerate(states):
        crashed = Run(tmp_path / str(number))
        crashed.folder.mkdir()
        for name, data in state:
            (crashed.folder / name).write_bytes(data)
        told: list[str] = []
        checkpoint = crashed.saved(told.append)
        assert checkpoint.progress["step"] == checkpoint.state["number"] in (2, 3)
        assert not told
        found.add(checkpoint.progress["step"])
        clear_temporaries(crashed.folder)
        assert not [path for path in crashed.folder.iterdir() if path.suffix == ".tmp"]
        for path in crashed.folder.iterdir():
            Checkpoint.load(path)
    assert found == {2, 3}


def test_a_file_without_its_sync_would_be_found_damaged(tiny_checkpoint, tmp_path, monkeypatch):
    """The simulation finds what it is there to find."""
    run = Run(tmp_path)
    disk = Disk(monkeypatch)
    run._save(tiny_checkpoint(), 1)
    monkeypatch.undo()
    careless = [operation for operation in disk.operations if operation.kind != "fsync"]
    assert any(not state.get("last.safetensors", b"x") for state in crash_states({}, careless))


def test_a_log_takes_whole_lines_or_nothing_and_says_once_what_is_lost(tmp_path, monkeypatch):
    told: list[str] = []
    log = Log(tmp_path / "log", told.append)
    log.write(b"one\n")
    full = [False]

    def before(number: int, operation: Operation, half) -> None:
        if operation.kind == "write" and full[0]:
            half()
            raise OSError(28, "No space left on device")

    log.close()
    Disk(monkeypatch, before)
    for line, full[0] in ((b"two\n", False), (b"three\n", True), (b"four\n", True), (b"five\n", False)):
        log.write(line)
    assert log.path.read_bytes() == b"one\ntwo\nfive\n"
    assert log.size() == len(b"one\ntwo\nfive\n")
    assert len(told) == 1
    assert "No space left" in told[0]
    log.cut(4)
    assert log.path.read_bytes() == b"one\n"
    log.write(b"six\n")
    assert log.path.read_bytes() == b"one\nsix\n"
    log.close()


def test_a_folder_that_is_held_is_refused_until_it_is_let_go(tmp_path):
    hold = Hold(tmp_path, "taken")
    with pytest.raises(UsageError, match="taken"):
        Hold(tmp_path, "taken")
    hold.close()
    Hold(tmp_path, "taken").close()


def test_a_folder_that_cannot_be_written_is_named_with_the_bytes_that_were_to_be(tmp_path, monkeypatch):
    def before(number: int, operation: Operation, half) -> None:
        raise OSError(28, "No space left on device")

    Disk(monkeypatch, before)
    line = r"f, 1,234 bytes: cannot be written \(No space left on device\); free"
    with pytest.raises(ResourceError, match=line), atomic_write(Path(tmp_path, "f"), 1234):
        pass
