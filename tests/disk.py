"""What stands between ``charrnn.files`` and the system in tests: it remembers, fails, or kills."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from charrnn import files


@dataclass(frozen=True)
class Operation:
    """Something done to a file or folder: ``open``, ``write``, ``fsync``, ``replace``, ``link`` or ``unlink``."""

    kind: str
    path: Path
    data: bytes = b""
    target: Path | None = None


class Disk:
    """The file layer's every change of the disk, in order.

    Args:
        before: called with the number of an operation, itself, and a way to do half of it (a part of a write; nothing
            of the others), before it is done. It may raise, or end the process.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        before: Callable[[int, Operation, Callable[[], object]], None] | None = None,
    ) -> None:
        self.operations: list[Operation] = []
        self.before = before or (lambda number, operation, half: None)
        self._folders: dict[int, Path] = {}
        monkeypatch.setattr(files, "os", _System(self))
        monkeypatch.setattr(files, "open", self._open, raising=False)

    def act(self, operation: Operation, half: Callable[[], object] = lambda: None) -> None:
        """An operation is about to be done."""
        self.operations.append(operation)
        self.before(len(self.operations) - 1, operation, half)

    def _open(self, path: Path, mode: str, **options: Any) -> _File:
        self.act(Operation("open", Path(path), mode.encode()))
        return _File(self, Path(path), builtins.open(path, mode, **options))


class _File:
    """An open file whose writes are operations."""

    def __init__(self, disk: Disk, path: Path, file: Any) -> None:
        self._disk, self._path, self._file = disk, path, file
        disk._folders[file.fileno()] = path

    def write(self, data: Any) -> int:
        data = bytes(data)

        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._disk.act(Operation("write", self._path, data), half)
        written: int = self._file.write(data)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


class _System:
    """The ``os`` module, with what changes the disk as operations."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Path, flags: int) -> int:
        handle = os.open(path, flags)
        self._disk._folders[handle] = Path(path)
        return handle

    def fsync(self, handle: int) -> None:
        self._disk.act(Operation("fsync", self._disk._folders[handle]))
        os.fsync(handle)

    def replace(self, source: Path, target: Path) -> None:
        self._disk.act(Operation("replace", Path(source), target=Path(target)))
        os.replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        self._disk.act(Operation("link", Path(source), target=Path(target)))
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        if os.path.lexists(path):
            self._disk.act(Operation("unlink", Path(path)))
        os.unlink(path)
