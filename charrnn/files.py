"""Files that are either the old one or the new one, whatever happens in between."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import IO, Any

from charrnn.errors import ResourceError, UsageError

CHUNK = 1 << 20
#: How the names of half-written files end.
TEMPORARY = ".tmp"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def sha256_of(chunks: Iterable[bytes]) -> str:
    """Hexadecimal SHA-256 of the chunks, one after another."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def read_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, a megabyte at a time."""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def read_json(text: str | bytes) -> Any:
    """A JSON document, in which every number is finite: Python's reader also takes NaN, and 1e999 for infinity.

    Raises:
        ValueError: it is none.
    """
    return json.loads(text, parse_float=_finite, parse_constant=_finite)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text:.20} is no number")
    return value


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that does not do this
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, that survives a power cut, where the system can; it may be there already.

    Raises:
        OSError: there cannot be one.
        ResourceError: the device failed.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        try:
            sync_folder(path.parent)
        except (OSError, MemoryError) as error:
            raise _unwritable(path, error) from error


@contextlib.contextmanager
def atomic_write(
    path: Path, needed: int | None = None, before: Callable[[], object] = lambda: None
) -> Iterator[IO[bytes]]:
    """Open a file beside ``path`` for writing; on success it takes the place of ``path``, durably.

    Temporary file, fsync, rename, fsync of the folder: a reader sees the old file or the new one. On any
    failure the temporary file is removed and the old one stays.

    Args:
        needed: bytes that will be written, where that is known, to be said when they find no room.
        before: done once the new file is whole and durable, and the old one is still in its place.

    Raises:
        ResourceError: the disk is full, the quota used up, the folder not writable, or the device failed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        before()
        os.replace(temporary, path)
        sync_folder(path.parent)
    except (OSError, MemoryError) as error:
        raise _unwritable(path, error, needed) from error
    finally:
        remove(temporary)


def _unwritable(path: Path, error: OSError | MemoryError, needed: int | None = None) -> ResourceError:
    size = "" if needed is None else f", {needed:,} bytes"
    full = isinstance(error, OSError) and error.errno in _NO_SPACE
    return ResourceError(
        f"{path}{size}: cannot be written ({_reason(error)}){'; free some space and repeat' if full else ''}"
    )


def _reason(error: OSError | MemoryError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "out of memory"


def remove(path: Path) -> None:
    """Remove a file, if it is there; a failing disk may keep it."""
    with contextlib.suppress(OSError, MemoryError):
        os.unlink(path)


def link(source: Path, target: Path) -> None:
    """Make ``target`` another name of ``source``, atomically; a copy where the file system has no hard links.

    Raises:
        ResourceError: the folder is not writable or the device failed.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}{TEMPORARY}")
    try:
        try:
            os.link(source, temporary)
        except (OSError, MemoryError):
            with open(source, "rb") as whole, open(temporary, "wb") as copy:
                shutil.copyfileobj(whole, copy)
                copy.flush()
                os.fsync(copy.fileno())
        os.replace(temporary, target)
    except (OSError, MemoryError) as error:
        raise _unwritable(target, error) from error
    finally:
        remove(temporary)  # renaming one name of a file to another does nothing


def clear_temporaries(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder that nobody else writes to."""
    for path in folder.glob(f".*{TEMPORARY}"):
        remove(path)


def is_alive(process: int) -> bool:
    """Whether a process runs; where that cannot be asked without harm (Windows), it is taken to."""
    if process == os.getpid():
        return False
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # none has so large a number
        return False
    except OSError:
        return True
    return True


class Log:
    """A file that grows by whole lines. That it cannot be written is said once, and is no reason to stop.

    Args:
        path: of the file; what is there stays.
        notify: told, in a line, that lines are lost.
    """

    def __init__(self, path: Path, notify: Callable[[str], None]) -> None:
        self.path, self._notify = path, notify
        self._file: FileIO | None = None
        self._said: set[str] = set()

    def write(self, data: bytes) -> None:
        """Append ``data``, or nothing of it."""
        try:
            if self._file is None:
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
            before = os.fstat(self._file.fileno()).st_size  # tell() is not told of what is cut off
            try:
                view = memoryview(data)
                while view:
                    view = view[self._file.write(view) :]
            except (OSError, MemoryError):
                with contextlib.suppress(OSError):
                    self._file.truncate(before)
                raise
        except (OSError, MemoryError) as error:
            self._miss(error)

    def _miss(self, error: OSError | MemoryError, what: str = "written", outcome: str = "going on without it") -> None:
        if what not in self._said:
            self._notify(f"warning: {self.path}: cannot be {what} ({_reason(error)}); {outcome}")
        self._said.add(what)

    def size(self) -> int | None:
        """Bytes that are there, also after a power cut; None if the system does not tell."""
        try:
            if self._file is None:
                return self.path.stat().st_size
            try:
                os.fsync(self._file.fileno())
            except (OSError, MemoryError) as error:
                self._miss(error)
            return os.fstat(self._file.fileno()).st_size
        except FileNotFoundError:
            return 0
        except OSError:
            return None

    def cut(self, size: int) -> None:
        """Take back what was written after it had so many bytes."""
        try:
            if self.path.stat().st_size > size:
                os.truncate(self.path, size)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._miss(error, "cut", "lines that are made again will stand there twice")

    def close(self) -> None:
        """Close the file; another write opens it again."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


class Hold:
    """A folder held against other processes that want to write to it, until :meth:`close` or the process's end.

    The system forgets the hold of a process that dies, however it dies. On Windows nobody is kept out.

    Args:
        folder: an existing one.

    Raises:
        UsageError: another process holds it; the line ends with ``refusal``.
    """

    def __init__(self, folder: Path, refusal: str) -> None:
        #: Descriptors that a child process must inherit to hold the folder too.
        self.inherited: tuple[int, ...] = ()
        self._folder = folder.absolute()
        try:
            import fcntl
        except ImportError:
            return
        held = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            raise UsageError(f"{folder}: {refusal}") from None
        except OSError:  # a file system without locks
            pass
        self.inherited = (held,)

    def check(self) -> None:
        """Raises ResourceError if the folder is no longer there under its name, or another one is: what is written
        to it would not be kept, or would be mixed with what others write."""
        for descriptor in self.inherited:
            held = os.fstat(descriptor)
            try:
                there = os.stat(self._folder)
            except FileNotFoundError:
                raise ResourceError(f"{self._folder}: is gone, and with it what was saved there") from None
            if (held.st_dev, held.st_ino) != (there.st_dev, there.st_ino):
                raise ResourceError(f"{self._folder}: another folder has taken the place of the one begun in")

    def close(self) -> None:
        """Let others have it."""
        held, self.inherited = self.inherited, ()
        for descriptor in held:
            os.close(descriptor)

    __del__ = close
