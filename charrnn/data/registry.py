"""Texts that are always to be had by name: one built from this machine's Python, one downloaded once."""

from __future__ import annotations

import contextlib
import errno
import os
import sysconfig
import time
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from charrnn.data.reading import Progress, Source
from charrnn.errors import ResourceError, TextError
from charrnn.files import TEMPORARY, is_alive, read_chunks, remove, sha256_of

#: Seconds without a byte after which a server counts as gone.
TIMEOUT = 30
#: Seconds that a whole download may take, so that a server that only trickles is given up too.
LIMIT = 600
#: Bytes that are waited for at a time: few, since the time is only looked at between them.
CHUNK = 256


@dataclass(frozen=True)
class Remote:
    """A text at a public address; nothing but these very bytes is ever used."""

    address: str
    sha256: str
    size: int  # bytes


REMOTE: dict[str, Remote] = {
    "shakespeare": Remote(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        1_115_394,
    ),
}
STDLIB = "python-stdlib"

# What lies in the library's folder and is not the library: tests, and what others installed there.
_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


def is_registered(name: str) -> bool:
    """Whether a corpus is registered under that name; ``shakespeare.txt`` is ``shakespeare`` too."""
    return name == STDLIB or name.removesuffix(".txt") in REMOTE


def registered(name: str, folder: Path, progress: Progress | None = None) -> Sequence[Source] | None:
    """The sources of a registered corpus, downloaded to ``folder`` if need be; None where none has that name.

    Raises:
        TextError: it cannot be downloaded, or the library's sources are not installed.
        ResourceError: no room for it.
    """
    if name == STDLIB:
        return stdlib_sources()
    if not is_registered(name):
        return None
    title = name.removesuffix(".txt")
    return [Source(name, download(title, REMOTE[title], folder, progress))]


def stdlib_sources(library: Path | None = None) -> list[Source]:
    """The running interpreter's own library: its ``*.py`` in the order of their paths, without its tests.

    Left out are also the record of how this Python was compiled (``_sysconfigdata*``), which is no program, and
    files whose coding line is wrong.
    """
    library = library or Path(sysconfig.get_path("stdlib"))
    sources = []
    for parent, folders, files in os.walk(library):
        folders[:] = [f for f in folders if f not in _LEFT_OUT and not f.startswith(".")]
        for file in files:
            path = Path(parent, file)
            if path.suffix == ".py" and not file.startswith("_sysconfigdata") and path.is_file():
                with contextlib.suppress(SyntaxError), path.open("rb") as stream:
                    encoding, lines = tokenize.detect_encoding(stream.readline)
                    if lines:
                        known = None if encoding.startswith("utf-8") else encoding
                        sources.append(Source(str(path), path.absolute(), known))
    if not sources:
        raise TextError(f"{STDLIB}: no library sources in {library}; name a text file of your own")
    return sorted(sources, key=lambda source: source.path.relative_to(library.absolute()).as_posix())


def download(name: str, remote: Remote, folder: Path, progress: Progress | None = None) -> Path:
    """The file of a remote text below ``folder``, fetched if it is not there or not whole.

    It is written beside its place, checked against its SHA-256, and only then given its name.

    Raises:
        TextError: no network, the server's refusal, a cut or slow connection, or other bytes than expected.
        ResourceError: no room for it, or the folder or the disk refuses it.
    """
    # Only when it is needed: it takes a while to load.
    import pooch  # type: ignore[import-untyped]

    path = folder / f"{name}.txt"
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    host = urlsplit(remote.address).netloc
    instead = f"try again later, or use {STDLIB}, which needs no network"
    meter = _Meter(progress, remote.size)
    fetch = pooch.HTTPDownloader(progressbar=meter, chunk_size=CHUNK, timeout=TIMEOUT)
    _clear_remains(path)
    try:
        if path.is_file() and _is_whole(path, remote):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        fetch(remote.address, temporary, None)
        if not _is_whole(temporary, remote):
            raise ValueError("other bytes")
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(f"{folder}: no room for {name} ({remote.size} bytes); free some") from error
        # Errors of the disk have a number; those of the network have none.
        if error.errno is not None:
            raise ResourceError(f"{folder}: {name} cannot be kept there ({error.strerror}); {instead}") from error
        raise TextError(f"{name}: {_what_failed(error, host, meter)}; {instead}") from error
    except ValueError as error:
        raise TextError(
            f"{name}: what {host} sent is not the text expected (its SHA-256 differs) and was not kept; {instead}"
        ) from error
    finally:
        remove(temporary)
    return path


def _is_whole(path: Path, remote: Remote) -> bool:
    return sha256_of(read_chunks(path)) == remote.sha256


def _clear_remains(path: Path) -> None:
    """Remove what processes left that were killed while they downloaded the text to ``path``."""
    for remains in path.parent.glob(f".{path.name}.*{TEMPORARY}"):
        process = remains.name.split(".")[-2]
        if process.isdecimal() and not is_alive(int(process)):
            remove(remains)


def _what_failed(error: OSError, host: str, meter: _Meter) -> str:
    """What went wrong between here and a server; errors of the network are OSErrors without a number."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{host} answered {response.status_code} instead of the text"
    if isinstance(error, TimeoutError):
        return f"{host} is too slow, {meter.done:,} of {meter.size:,} bytes came in {LIMIT} seconds"
    if meter.done:
        return f"the connection to {host} was cut"
    return f"cannot be downloaded from {host}: no network or no answer"


class _Meter:
    """Progress in the form in which pooch reports it, a tqdm-like object.

    pooch sets ``total`` to what the server says, which counts compressed bytes, and at the end resets the bar and
    adds that total; so the size is ours and the count never goes back or past it.

    It also ends what would not end: a server that is too slow, and one that sends far more than the text.
    """

    def __init__(self, progress: Progress | None, size: int) -> None:
        self.progress, self.size, self.done, self.total = progress, size, 0, size
        self._received, self._end = 0, time.monotonic() + LIMIT

    def update(self, count: int) -> None:
        if time.monotonic() > self._end:
            raise TimeoutError
        self._received += count
        if self._received > 2 * self.size + (1 << 16):
            raise ValueError("far more bytes than the text has")
        self.done = min(self.done + count, self.size)
        if self.progress:
            self.progress(self.done, self.size)

    def reset(self) -> None:
        self._received = 0

    def close(self) -> None:
        pass
