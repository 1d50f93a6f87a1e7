"""A text in parts, files that follow each other, so that several processes can turn it into ids, each a part.

First all parts are counted. From the counts follow the vocabulary, where each part begins in the text, and whether a
newline goes before it; with these, each is written into a file of ids of its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.data.reading import Reader, Source, SourceRecord
from charrnn.data.settings import PrepareSettings
from charrnn.data.vocabulary import CODE_POINTS, Vocabulary
from charrnn.data.workers import Report

#: Bytes of files from which on a part is large enough; of large texts parts are larger, for there are not more of them
#: than ``MOST``: the file of each stays open while the text is in use.
PART, MOST = 64 << 20, 64


@dataclass(frozen=True)
class Part:
    """Files that follow each other in a text, and how they are read."""

    sources: tuple[Source, ...]
    settings: PrepareSettings
    chunk: int

    def reader(self, report: Report, before: str = "\n", counting: bool = True) -> Reader:
        """A walk over its text; ``before`` is the character that stands before it, ``counting`` as the reader's."""
        told = 0

        def progress(done: int, total: int) -> None:
            nonlocal told
            report(done - told)
            told = done

        settings = self.settings
        return Reader(
            self.sources,
            unit=settings.unit,
            encoding=settings.encoding,
            newlines=settings.newlines,
            chunk=self.chunk,
            progress=progress,
            before=before,
            counting=counting,
        )


@dataclass(frozen=True)
class Counted:
    """What is in a part: how often each code point occurs, its last character, and what else its reader has seen."""

    codes: list[int]
    counts: list[int]
    last: str
    records: list[SourceRecord]
    encodings: list[str]
    line_ends: dict[str, int]
    utf8: bool

    @property
    def characters(self) -> int:
        """How many it has."""
        return sum(self.counts)


@dataclass(frozen=True)
class Placed:
    """A part with its place: characters ``start`` to ``end`` of the text, the first of them perhaps a newline after
    ``before``; ``bounds`` are where the text's three splits begin, and where the last one ends."""

    part: Part
    vocabulary: Vocabulary
    before: str
    start: int
    end: int
    bounds: tuple[int, ...]
    path: Path


@dataclass(frozen=True)
class Written:
    """What was written of a part: bytes and unknown characters in each split, the file's size, and what was read."""

    bytes: list[int]
    unknown: list[int]
    size: int
    records: list[SourceRecord]


def cut(sources: Sequence[Source], sizes: Sequence[int]) -> list[tuple[Source, ...]]:
    """Files, of so many bytes each, in groups that follow each other: the parts of their text."""
    enough = max(PART, -(-sum(sizes) // MOST))
    groups: list[list[Source]] = []
    size = enough
    for source, more in zip(sources, sizes, strict=True):
        if not groups or (size >= enough and more):
            groups.append([])
            size = 0
        groups[-1].append(source)
        size += more
    return [tuple(group) for group in groups]


def count(part: Part, report: Report) -> Counted:
    """The first walk over a part.

    Raises:
        TextError: a file cannot be read, or holds no such text.
    """
    reader = part.reader(report)
    counts = np.zeros(CODE_POINTS, np.int64)
    for text in reader:
        found = _counts(_codes(text))
        counts[: len(found)] += found
    codes = np.flatnonzero(counts)
    return Counted(
        codes.tolist(),
        counts[codes].tolist(),
        reader.last,
        reader.records,
        reader.encodings,
        reader.line_ends.counts(),
        reader.utf8,
    )


def write_ids(placed: Placed, report: Report) -> Written:
    """The second walk over a part: write its ids as a ``.npy`` file.

    Raises:
        TextError: a file cannot be read any more.
        OSError: the ids cannot be written.
    """
    vocabulary, bounds = placed.vocabulary, placed.bounds
    table = _table(vocabulary)
    bytes_in, unknown_in = [0, 0, 0], [0, 0, 0]
    place = placed.start
    little = table.dtype.newbyteorder("<")
    reader = placed.part.reader(report, placed.before, counting=False)
    # A new file: into one that is there, a process that was killed may still be writing.
    placed.path.unlink(missing_ok=True)
    with placed.path.open("xb") as stream:
        shape = (placed.end - placed.start,)
        header = {"descr": np.lib.format.dtype_to_descr(little), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for text in reader:
            ids = table.take(_codes(text))
            stream.write(ids.astype(little, copy=False).data)
            for split in range(3):
                start, stop = max(bounds[split] - place, 0), min(bounds[split + 1] - place, len(text))
                if start < stop:
                    piece = text[start:stop]
                    whole = reader.unit == "byte" or piece.isascii()
                    bytes_in[split] += len(piece) if whole else len(piece.encode())
                    unknown_in[split] += int(np.count_nonzero(ids[start:stop] == vocabulary.unknown))
            place += len(text)
        stream.flush()
        os.fsync(stream.fileno())
        size = stream.tell()
    return Written(bytes_in, unknown_in, size, reader.records)


def _counts(codes: NDArray[np.unsignedinteger]) -> NDArray[np.intp]:
    """How often each code occurs, (number of codes,)."""
    if codes.dtype != np.uint8:
        return np.bincount(codes)
    # Two at a time, for numpy takes as long for a pair as for one.
    even = len(codes) // 2 * 2
    pairs = np.bincount(codes[:even].view(np.uint16), minlength=1 << 16).reshape(256, 256)
    single = np.bincount(codes[even:], minlength=256)
    return np.asarray(pairs.sum(0) + pairs.sum(1) + single, np.intp)


def dtype_of(vocabulary: Vocabulary) -> np.dtype[Any]:
    """The smallest type that holds its ids."""
    return np.dtype(np.min_scalar_type(vocabulary.unknown))


def _table(vocabulary: Vocabulary) -> NDArray[np.unsignedinteger]:
    """From code points to ids."""
    table = np.full(CODE_POINTS, vocabulary.unknown, dtype_of(vocabulary))
    table[list(vocabulary.codes)] = np.arange(len(vocabulary.codes))
    return table


def _codes(text: str) -> NDArray[np.unsignedinteger]:
    """Code points of a text, shape (N,): one byte each where they fit, which most texts do."""
    try:
        return np.frombuffer(text.encode("latin-1"), np.uint8)
    except UnicodeEncodeError:
        return np.frombuffer(text.encode("utf-32-le"), np.dtype("<u4"))
