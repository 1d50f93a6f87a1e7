"""A prepared corpus, written: two walks over the text, then a folder that appears all at once.

The first walk counts every character; from the counts come the vocabulary and the places of the splits. The
second turns characters into ids through a table and writes them. Neither holds more than a piece of the text.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from charrnn.data.reading import Newlines, Progress, Reader, Source, SourceRecord, check_encoding
from charrnn.data.vocabulary import Unit, Vocabulary
from charrnn.errors import ResourceError, TextError, UsageError
from charrnn.files import CHUNK, is_alive, sync_folder

FORMAT = 1
SPLITS = ("train", "validation", "test")
_CODE_POINTS = 0x110000


@dataclass(frozen=True)
class PrepareSettings:
    """What decides, together with the text, what the prepared corpus is.

    Attributes:
        split: percentages of the characters, in the order train, validation, test.
        pattern: which files of a folder to take, such as ``*.py``.
        encoding: a codec's name; None is strict UTF-8, or what a byte order mark says.
        newlines: "keep" leaves line ends as they are, "lf" makes CRLF and CR into LF.
        min_count: characters that occur less often become ``unknown``.
        given: the names of the settings that were asked for; None is all of them. What was not is a default
            for text yet to be prepared, and no demand on a corpus that is there.

    Raises:
        UsageError: a value that cannot be meant.
    """

    unit: Unit = "char"
    split: tuple[float, float, float] = (90, 5, 5)
    pattern: str | None = None
    encoding: str | None = None
    newlines: Newlines = "keep"
    min_count: int = 1
    given: frozenset[str] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.unit not in ("char", "byte"):
            raise UsageError(f"--unit {self.unit}: must be char or byte")
        if self.newlines not in ("keep", "lf"):
            raise UsageError(f"--newlines {self.newlines}: must be keep or lf")
        shares = ",".join(f"{share:g}" for share in self.split)
        if len(self.split) != 3 or not all(0 <= share <= 100 for share in self.split):
            raise UsageError(f"--split {shares}: must be three percentages, such as 90,5,5")
        if abs(sum(self.split) - 100) > 1e-6:
            raise UsageError(f"--split {shares}: adds up to {sum(self.split):g}, not to 100")
        if self.split[0] <= 0:
            raise UsageError(f"--split {shares}: leaves nothing to train on; its first number must be above 0")
        if self.min_count < 1:
            raise UsageError(f"--min-count {self.min_count}: must be 1 or more")
        if self.encoding is not None:
            if self.unit == "byte":
                raise UsageError(f"--encoding {self.encoding}: has no meaning with --unit byte; leave one of them out")
            check_encoding(self.encoding)

    def to_json(self) -> dict[str, object]:
        return {**{name: getattr(self, name) for name in _settings()}, "split": [float(share) for share in self.split]}

    @classmethod
    def from_json(cls, value: dict[str, object]) -> PrepareSettings:
        known = {name: value[name] for name in _settings()}
        if not isinstance(known["pattern"], str | None) or not isinstance(known["min_count"], int):
            raise ValueError("its settings are of other types")
        known["split"] = tuple(cast("list[float]", known["split"]))
        return cls(**known)  # type: ignore[arg-type]

    def differences(self, other: PrepareSettings) -> str:
        """How what was given differs from ``other``, as options: "--unit byte --split 80,10,10"; "" if it does not."""
        mine, others = self.to_json(), other.to_json()
        compared = mine if self.given is None else [name for name in mine if name in self.given]
        return " ".join(
            f"--{name.replace('_', '-')} {_shown(mine[name])}" for name in compared if mine[name] != others[name]
        )


def _settings() -> list[str]:
    """The names of what decides, which is stored and compared."""
    return [field.name for field in fields(PrepareSettings) if field.compare]


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(f"{share:g}" for share in value)
    return "(none)" if value is None else shlex.quote(str(value))


def fingerprint(records: Sequence[SourceRecord], sources: Sequence[Source], settings: PrepareSettings) -> str:
    """What tells one prepared corpus from another: the sources' hashes, in order, and the settings."""
    facts = {
        "format": FORMAT,
        "sources": [[record.sha256, source.encoding] for record, source in zip(records, sources, strict=True)],
        "settings": settings.to_json(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def boundaries(characters: int, split: Sequence[float]) -> list[int]:
    """Where the splits begin and the last one ends, in characters from the start of the text.

    >>> boundaries(1_115_394, (90, 10, 0))
    [0, 1003854, 1115394, 1115394]
    """
    shares = np.round(np.cumsum([0.0, *split]), 9)
    return [int(characters * float(share) / 100) for share in shares]


def write(
    sources: Sequence[Source],
    folder: Path,
    name: str,
    settings: PrepareSettings,
    named: Sequence[str] = (),
    progress: Progress | None = None,
    chunk: int = CHUNK,
    replace: bool = False,
) -> None:
    """Prepare ``sources`` into ``folder``.

    Args:
        named: what the user named: remembered, so that a new file in a folder is noticed.
        replace: take the place of a corpus that is there.

    Raises:
        TakenError: another process has made something there meanwhile.
        TextError: a source cannot be read, holds no text, or changed between the two walks.
        UsageError: the settings leave no character, or the folder cannot be written.
        ResourceError: the disk is full.
    """

    def walk(half: int) -> Reader:
        def report(done: int, total: int) -> None:
            if progress:
                progress(done + half * total, 2 * total)

        return Reader(
            sources,
            unit=settings.unit,
            encoding=settings.encoding,
            newlines=settings.newlines,
            chunk=chunk,
            progress=report,
        )

    first, second = walk(0), walk(1)
    counts = _count(first)
    characters = int(counts.sum())
    if not characters:
        raise TextError(f"{sources[0].name}: holds no text; name a file with text in it")
    vocabulary, table = _vocabulary(counts, settings)
    bounds = boundaries(characters, settings.split)
    with _appearing(folder, replace) as temporary:
        splits = _write_ids(second, temporary / "ids.npy", table, vocabulary.unknown, bounds)
        for source, before, after in zip(sources, first.records, second.records, strict=True):
            if before != after:
                raise TextError(f"{source.name}: changed while it was read; run it again when it is finished")
        document = {
            "format": FORMAT,
            "name": name,
            "unit": settings.unit,
            "fingerprint": fingerprint(first.records, sources, settings),
            "characters": characters,
            "dtype": table.dtype.name,
            "distinct": int(np.count_nonzero(counts)),
            "splits": splits,
            "encodings": ["bytes"] if settings.unit == "byte" else first.encodings,
            "line_ends": first.line_ends.counts(),
            "utf8": first.utf8,
            "settings": settings.to_json(),
            "named": list(named),
            "sources": [
                {**asdict(record), "path": "-" if source.spooled else record.path}
                for source, record in zip(sources, first.records, strict=True)
            ],
            "vocabulary": vocabulary.to_json(),
        }
        with (temporary / "corpus.json").open("w", encoding="utf-8") as stream:
            json.dump(document, stream, allow_nan=False)  # as ASCII: names of files need not be UTF-8
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())


def _codes(text: str) -> NDArray[np.unsignedinteger]:
    """Code points of a text, shape (N,): one byte each where they fit, which most texts do."""
    try:
        return np.frombuffer(text.encode("latin-1"), np.uint8)
    except UnicodeEncodeError:
        return np.frombuffer(text.encode("utf-32-le"), np.dtype("<u4"))


def _count(reader: Reader) -> NDArray[np.int64]:
    """How often each code point occurs, shape (0x110000,)."""
    counts = np.zeros(_CODE_POINTS, np.int64)
    for text in reader:
        found = np.bincount(_codes(text))
        counts[: len(found)] += found
    return counts


def _vocabulary(counts: NDArray[np.int64], settings: PrepareSettings) -> tuple[Vocabulary, NDArray[np.unsignedinteger]]:
    """The vocabulary and the table from code points to ids, of the smallest type that holds V."""
    kept = np.flatnonzero(counts >= settings.min_count)
    if not len(kept):
        raise UsageError(f"--min-count {settings.min_count}: no character occurs that often; choose a smaller one")
    vocabulary = Vocabulary(tuple(kept.tolist()), settings.unit, tuple(counts[kept].tolist()))
    table = np.full(_CODE_POINTS, vocabulary.unknown, np.min_scalar_type(vocabulary.unknown))
    table[kept] = np.arange(len(kept))
    return vocabulary, table


def _write_ids(
    reader: Reader, path: Path, table: NDArray[np.unsignedinteger], unknown: int, bounds: Sequence[int]
) -> dict[str, dict[str, int]]:
    """Write the ids as a ``.npy`` file while reading; return what each split holds."""
    bytes_in, unknown_in = [0, 0, 0], [0, 0, 0]
    place = 0
    little = table.dtype.newbyteorder("<")
    with path.open("wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(little), "fortran_order": False, "shape": (bounds[-1],)}
        np.lib.format.write_array_header_1_0(stream, header)
        for text in reader:
            ids = table.take(_codes(text))
            stream.write(ids.astype(little, copy=False).data)
            for split in range(3):
                start, stop = max(bounds[split] - place, 0), min(bounds[split + 1] - place, len(text))
                if start < stop:
                    part = text[start:stop]
                    whole = reader.unit == "byte" or part.isascii()
                    bytes_in[split] += len(part) if whole else len(part.encode())
                    unknown_in[split] += int(np.count_nonzero(ids[start:stop] == unknown))
            place += len(text)
        stream.flush()
        os.fsync(stream.fileno())
    return {
        name: {
            "start": bounds[i],
            "end": bounds[i + 1],
            "characters": bounds[i + 1] - bounds[i],
            "bytes": bytes_in[i],
            "unknown": unknown_in[i],
        }
        for i, name in enumerate(SPLITS)
    }


class TakenError(UsageError):
    """A folder was made by another process while this one was about to make it."""


@contextlib.contextmanager
def _appearing(folder: Path, replace: bool) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place on success and is removed on failure.

    Raises:
        TakenError: without ``replace``, something is there.
    """
    temporary, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        clear_remains(folder)
        temporary.mkdir()
        try:
            yield temporary
            sync_folder(temporary)
            if replace and folder.exists():
                os.replace(folder, old)
            try:
                os.rename(temporary, folder)  # which no folder with something in it gives way to
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise TakenError(f"{folder}: another process has made it meanwhile; run this again") from error
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if old.exists() and not folder.exists():
                os.replace(old, folder)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise ResourceError(
                f"{folder}: cannot be written ({error.strerror}); free some space and repeat"
            ) from error
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); choose a place with --output") from error


def clear_remains(folder: Path) -> None:
    """Remove what runs that were killed left beside ``folder``, and put back a corpus they had moved aside."""
    for path in folder.parent.glob(f".{_literal(folder.name)}.*.???"):
        _, process, kind = path.name.rsplit(".", 2)
        if kind not in ("tmp", "old") or not process.isdecimal() or is_alive(int(process)):
            continue
        if kind == "old" and not folder.exists():
            os.replace(path, folder)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
