"""What a user may name as text: a file, several, a folder, a glob, ``-``, a registered corpus."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

from charrnn.data.reading import SNIFF, Source, opened, unreadable
from charrnn.errors import ResourceError, TextError

#: A registered name → its sources, or None where nothing is registered under it.
Registered = Callable[[str], "Sequence[Source] | None"]
_COMPRESSED = {".gz", ".bz2", ".xz"}
#: A folder with all files of one of these is this program's work: a prepared corpus, a run, or a sweep.
_MADE = ({"corpus.json", "ids.npy"}, {"best.safetensors"}, {"last.safetensors"}, {"sweep.json", "sweep.svg"})


@dataclass(frozen=True)
class Found:
    """The files that names stand for, in the order in which they are joined.

    ``name`` is what a corpus of them is called by default; ``hidden`` files and folders and ``binary`` and
    ``empty`` files below folders were left out, and folders that this program ``made``: corpora and runs.
    """

    sources: tuple[Source, ...]
    name: str
    hidden: int
    binary: int
    empty: int
    made: int

    def skipped(self) -> str:
        """What was left out, in words; "" where nothing was."""
        counts = {"hidden": self.hidden, "binary": self.binary, "empty": self.empty, "made by charrnn": self.made}
        return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


@contextmanager
def gather(
    names: Sequence[str],
    *,
    pattern: str | None = None,
    skip_binary: bool = True,
    registered: Registered = lambda name: None,
) -> Iterator[Found]:
    """The files that ``names`` stand for; copies made of standard input and pipes are gone afterwards.

    Args:
        pattern: which files of a folder to take: matched against their names or, where it holds a "/",
            against their paths below the folder.
        skip_binary: leave out binary files met in folders and globs. A binary file named outright is the
            reader's to refuse.

    Raises:
        TextError: a name stands for nothing, for nothing readable, or for an empty file.
        ResourceError: no room for the copy of standard input.
    """
    with ExitStack() as stack:
        search = _Search(stack, pattern, skip_binary)
        for name in names:
            search.add(name, registered)
        left_out = (search.hidden, search.binary, search.empty, search.made)
        yield Found(tuple(search.sources), corpus_name(names[0]), *left_out)


def corpus_name(name: str) -> str:
    """What a corpus made of ``name`` is called by default.

    >>> [corpus_name(n) for n in ("-", "books/war.txt.gz", "src/**/*.py", "books/", "python-stdlib")]
    ['stdin', 'war', 'src', 'books', 'python-stdlib']
    """
    if name == "-":
        return "stdin"
    path = Path(name)
    if not path.exists():
        for index, part in enumerate(path.parts):
            if glob.has_magic(part):
                path = Path(*path.parts[:index]) if index else Path("text")
                break
    if path.name in ("", ".."):
        path = path.resolve()
    if path.is_dir():
        return path.name.strip(".") or "text"
    if path.suffix.lower() in _COMPRESSED:
        path = path.with_suffix("")
    return path.stem.strip(".") or "text"


class _Search:
    """The files found so far, and how many were left out."""

    def __init__(self, stack: ExitStack, pattern: str | None, skip_binary: bool) -> None:
        self.stack, self.pattern, self.skip_binary = stack, pattern, skip_binary
        self.sources: list[Source] = []
        self.hidden = self.binary = self.empty = self.made = 0

    def add(self, name: str, registered: Registered) -> None:
        path = Path(name)
        try:
            if name == "-":
                self.sources.append(self._standard_input())
            elif path.is_dir():
                self._many(name, self._walk(path))
            elif path.is_file():
                self._one(Source(name, Path(os.path.abspath(path))))
            elif path.exists():  # a pipe or a device can be read only once
                with path.open("rb") as stream:
                    self.sources.append(self._spooled(name, stream))
            elif glob.has_magic(name):
                self._many(name, sorted(p for p in map(Path, glob.glob(name, recursive=True)) if p.is_file()))
            elif (sources := registered(name)) is not None:
                self.sources.extend(sources)
            else:
                path.lstat()  # raises what is wrong
                raise TextError(f"{name}: is a link to nothing; check where it points")
        except FileNotFoundError as error:
            raise TextError(
                f"{name}: no such file, folder or corpus; check the name (registered names: python-stdlib, shakespeare)"
            ) from error
        except OSError as error:
            raise unreadable(name, error) from error
        except ValueError as error:  # a NUL in the name
            raise TextError(f"{name!r}: cannot be the name of a file") from error

    def _one(self, source: Source) -> None:
        if source.path.stat().st_size == 0:
            raise TextError(f"{source.name}: is empty; name a file with text in it")
        self.sources.append(source)

    def _many(self, name: str, paths: Sequence[Path]) -> None:
        before = len(self.sources)
        for path in paths:
            source = Source(str(path), Path(os.path.abspath(path)))
            if path.stat().st_size == 0:
                self.empty += 1
            elif self.skip_binary and _binary(source):
                self.binary += 1
            else:
                self.sources.append(source)
        if len(self.sources) == before:
            which = f" matches {self.pattern!r} and" if self.pattern and Path(name).is_dir() else ""
            raise TextError(f"{name}: no file there{which} holds text; check the name, or choose with --pattern")

    def _walk(self, folder: Path) -> list[Path]:
        """The files below a folder, sorted by path, without hidden ones, prepared corpora and runs."""
        paths: list[Path] = []

        def refuse(error: OSError) -> None:
            raise unreadable(str(error.filename), error)

        for parent, folders, files in os.walk(folder, onerror=refuse):
            if any(made.issubset(files) for made in _MADE):
                self.made += 1
                folders.clear()
                continue
            shown = [f for f in folders if not f.startswith(".")]
            wanted = [f for f in files if self._wanted(Path(parent, f), folder)]
            seen = [f for f in wanted if not f.startswith(".") or (self.pattern or "").startswith(".")]
            self.hidden += len(folders) - len(shown) + len(wanted) - len(seen)
            folders[:] = shown
            paths += [Path(parent, f) for f in seen]
        return sorted((p for p in paths if p.is_file()), key=lambda path: path.relative_to(folder).as_posix())

    def _wanted(self, path: Path, folder: Path) -> bool:
        if self.pattern is None:
            return True
        where = path.relative_to(folder).as_posix() if "/" in self.pattern else path.name
        return fnmatch(where, self.pattern)

    def _standard_input(self) -> Source:
        if sys.stdin is None:
            raise TextError("standard input is closed; pipe a text into it, or name a file")
        return self._spooled("standard input", sys.stdin.buffer)

    def _spooled(self, name: str, stream: IO[bytes]) -> Source:
        """A copy of a stream in a temporary file: a text is read twice."""
        folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="charrnn-"))
        path = Path(folder, "text")
        try:
            with path.open("wb") as copy:
                shutil.copyfileobj(stream, copy)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ResourceError(f"{name}: no room for a copy in {folder}; set TMPDIR to a larger disk") from error
            raise
        if path.stat().st_size == 0:
            raise TextError(f"{name}: is empty; pipe a text into it")
        return Source(name, path, spooled=True)


def _binary(source: Source) -> bool:
    """A zero byte near the start and no byte order mark of UTF-16 or UTF-32."""
    with opened(source) as (stream, _):
        head = stream.read(SNIFF)
    return b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff"))
