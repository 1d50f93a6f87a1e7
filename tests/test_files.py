"""Files survive power cuts: every state that a disk may be in after one is made and read."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from disk import Disk, Operation

from charrnn import files
from charrnn.checkpoint import Checkpoint
from charrnn.errors import ResourceError, UsageError
from charrnn.files import (
    Hold,
    Log,
    atomic_write,
    clear_temporaries,
    link,
    make_folder,
    read_chunks,
    read_json,
    sha256_of,
)
from charrnn.training.run import Run

#: What becomes of written bytes that were not synced.
KEPT, DROPPED, HALVED = (lambda new, old: new), (lambda new, old: old), (lambda new, old: new[: len(new) // 2])


class Inode:
    """A file's content: what is surely on the disk, and what was written."""

    def __init__(self, synced: bytes = b"") -> None:
        self.synced = self.written = synced


def crash_states(before: dict[str, bytes], operations: list[Operation], first: int = 0) -> Iterator[dict[str, bytes]]:
    """Every content of a folder after a power cut during ``operations``, once the ``first`` are done: changes of names
    reach the disk in order, but no sooner than the folder is synced; a file's bytes when it is synced, or any time
    before."""
    for count in range(first, len(operations) + 1):
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
    new = (run.folder / "last.safetensors").read_bytes()
    assert all(
        state["last.safetensors"] == new for state in crash_states(before, disk.operations, len(disk.operations))
    )
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


@pytest.mark.parametrize(
    ("error", "reason"), [(OSError(28, "No space left on device"), "No space left"), (MemoryError(), "out of memory")]
)
def test_a_log_takes_whole_lines_or_nothing_and_says_once_what_is_lost(tmp_path, monkeypatch, error, reason):
    told: list[str] = []
    log = Log(tmp_path / "log", told.append)
    log.write(b"one\n")
    full = [False]

    def before(number: int, operation: Operation, half) -> None:
        if operation.kind == "write" and full[0]:
            half()
            raise error

    log.close()
    log.close()
    Disk(monkeypatch, before)
    for line, full[0] in ((b"two\n", False), (b"three\n", True), (b"four\n", True), (b"five\n", False)):
        log.write(line)
    assert log.path.read_bytes() == b"one\ntwo\nfive\n"
    assert log.size() == len(b"one\ntwo\nfive\n")
    assert len(told) == 1
    assert reason in told[0]
    log.cut(4)
    assert log.path.read_bytes() == b"one\n"
    log.write(b"six\n")
    assert log.path.read_bytes() == b"one\nsix\n"
    log.close()


def test_a_log_that_cannot_be_cut_says_so_and_takes_more_lines(tmp_path, monkeypatch):
    told: list[str] = []
    log = Log(tmp_path / "log", told.append)
    log.cut(0)
    assert not told  # where there is nothing, there is nothing to take back
    log.write(b"one\ntwo\n")

    def fail(path: Path, size: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "truncate", fail)
        log.cut(100)
        assert not told
        log.cut(4)
        log.cut(4)
    line = f"warning: {log.path}: cannot be cut (Input/output error); lines that are made again will stand there twice"
    assert told == [line]
    log.write(b"two\n")
    log.close()
    assert log.path.read_bytes() == b"one\ntwo\ntwo\n"
    assert told == [line]


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


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device); free some space and repeat"),
        (OSError(5, "Input/output error"), "Input/output error); free some space and repeat"),
        (PermissionError(13, "Permission denied"), "Permission denied)"),
        (OSError("odd"), "odd)"),
        (MemoryError(), "out of memory)"),
    ],
)
def test_what_could_not_be_written_is_said_with_its_reason_and_nothing_is_left(tmp_path, monkeypatch, error, reason):
    def before(number: int, operation: Operation, half) -> None:
        if operation.kind == "replace":
            raise error

    (tmp_path / "source").write_bytes(b"x")
    Disk(monkeypatch, before)
    path = tmp_path / "f"
    with pytest.raises(ResourceError) as raised, atomic_write(path) as stream:
        stream.write(b"x")
    assert str(raised.value) == f"{path}: cannot be written ({reason}"
    with pytest.raises(ResourceError) as raised:
        link(tmp_path / "source", path)
    assert str(raised.value) == f"{path}: cannot be written ({reason}"
    assert [file.name for file in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("error", [None, OSError(95, "Operation not supported"), MemoryError()])
def test_a_link_takes_the_place_of_what_is_there_and_is_a_copy_where_there_are_no_links(tmp_path, monkeypatch, error):
    def before(number: int, operation: Operation, half) -> None:
        if operation.kind == "link" and error is not None:
            raise error

    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    Disk(monkeypatch, before)
    for _ in range(2):  # the second time they are one file already
        link(source, target)
        assert target.read_bytes() == b"new"
        assert target.samefile(source) == (error is None)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_all_that_was_written_is_synced_and_nothing_stays_open(tmp_path, monkeypatch):
    def free() -> list[int]:
        """The numbers that the next files to be opened get."""
        handles = [os.open(tmp_path, os.O_RDONLY) for _ in range(3)]
        for handle in handles:
            os.close(handle)
        return handles

    before, synced = free(), []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle)), fsync(handle)))
    with atomic_write(tmp_path / "f") as stream:
        stream.write(b"12345")
    file, folder = synced
    assert (file.st_ino, file.st_size) == (os.stat(tmp_path / "f").st_ino, 5)
    assert folder.st_ino == os.stat(tmp_path).st_ino
    hold = Hold(tmp_path, "taken")
    with pytest.raises(UsageError):
        Hold(tmp_path, "taken")
    hold.close()
    log = Log(tmp_path / "log", pytest.fail)
    log.write(b"x")
    assert log.size() == 1
    log.close()
    assert free() == before


def test_only_hidden_temporary_files_are_cleared(tmp_path):
    for name in (".a.1.tmp", "a.tmp", ".a", ".a.tmp.b"):
        (tmp_path / name).touch()
    clear_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a", ".a.tmp.b", "a.tmp"]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "[-1e999]", "{", ""])
def test_json_has_finite_numbers_only(text):
    with pytest.raises(ValueError, match=r"is no number|Expecting"):
        read_json(text)
    assert read_json(b"[1e308, -1.5, 7]") == [1e308, -1.5, 7]


def test_a_file_is_hashed_in_pieces_and_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CHUNK", 3)
    (tmp_path / "f").write_bytes(b"abcdefgh")
    assert list(read_chunks(tmp_path / "f")) == [b"abc", b"def", b"gh"]
    assert sha256_of(read_chunks(tmp_path / "f")) == hashlib.sha256(b"abcdefgh").hexdigest()


class Sluggish(io.FileIO):
    """A file that takes few bytes at a time, as it may."""

    def write(self, data) -> int:
        return super().write(bytes(data)[:3])


def test_a_log_writes_on_until_all_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "open", lambda path, mode, buffering: Sluggish(path, "ab"), raising=False)
    log = Log(tmp_path / "log", lambda line: pytest.fail(line))
    log.write(b"a line\n")
    log.write(b"another line\n")
    assert log.path.read_bytes() == b"a line\nanother line\n"
    log.close()


@pytest.mark.parametrize(
    ("error", "reason"), [(OSError(5, "Input/output error"), "Input/output error"), (MemoryError(), "out of memory")]
)
def test_the_size_of_a_log_is_what_is_surely_there(tmp_path, monkeypatch, error, reason):
    told: list[str] = []
    log = Log(tmp_path / "log", told.append)
    assert log.size() == 0
    log.cut(0)
    log.path.write_bytes(b"four")
    assert log.size() == 4
    log.write(b"five!")
    log.cut(100)
    assert (log.size(), told) == (9, [])

    def before(number: int, operation: Operation, half) -> None:
        if operation.kind == "fsync":
            raise error

    log.close()
    with monkeypatch.context() as patch:
        disk = Disk(patch, before)
        log.write(b"!")
        assert log.size() == 10
        assert told == [f"warning: {log.path}: cannot be written ({reason}); going on without it"]
        assert [operation.kind for operation in disk.operations] == ["open", "write", "fsync"]
    log.close()

    def gone(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", gone)
    assert log.size() is None
    log.cut(0)


def test_a_folder_on_a_file_system_without_locks_is_nobodys(tmp_path, monkeypatch):
    import fcntl

    def none(*_) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    holds = [Hold(tmp_path, "taken") for _ in range(2)]
    for hold in holds:
        assert len(hold.inherited) == 1
        hold.close()
        assert hold.inherited == ()
        hold.close()
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    assert Hold(tmp_path, "taken").inherited == ()


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_a_folder_that_cannot_be_made_to_last_is_named(fault: Exception, tmp_path: Path, monkeypatch) -> None:
    def fails(handle: int) -> None:
        raise fault

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(ResourceError, match="runs: cannot be written"):
        make_folder(tmp_path / "runs")
