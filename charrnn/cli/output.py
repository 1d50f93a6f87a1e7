"""Files that a user names for a result."""

from __future__ import annotations

from pathlib import Path

from charrnn.errors import UsageError


def check_output(option: str, path: Path) -> None:
    """Raises UsageError where no file can be written; ``option`` is what named it."""
    if not path.name or path.is_dir():
        raise UsageError(f"{option} {path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no such folder; make it, or name another file")


def write_output(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; a link stays one, and a pipe or a device is written to, and not replaced.

    Raises:
        ResourceError: it cannot be written there.
    """
    from charrnn.files import atomic_write

    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    with atomic_write(path.resolve(), len(data)) as stream:
        stream.write(data)
