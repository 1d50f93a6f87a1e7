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
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from charrnn.data.journal import Journal, begun
from charrnn.data.parts import Counted, Part, Placed, Written, count, cut, dtype_of, write_ids
from charrnn.data.reading import Progress, Source, SourceRecord, needs_newline, stat
from charrnn.data.settings import PrepareSettings
from charrnn.data.vocabulary import CODE_POINTS, Vocabulary
from charrnn.data.workers import WorkerLostError
from charrnn.errors import ResourceError, TextError, UsageError
from charrnn.files import CHUNK, Hold, is_alive, sync_folder

FORMAT = 1
SPLITS = ("train", "validation", "test")


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
    processes: int = 1,
) -> None:
    """Prepare ``sources`` into ``folder``; what a process that was interrupted or killed has done of it is used.

    Args:
        named: what the user named: remembered, so that a new file in a folder is noticed.
        replace: take the place of a corpus that is there.
        processes: how many read parts of a large text (see :func:`charrnn.data.workers.each`).

    Raises:
        TakenError: another process has made something there meanwhile.
        TextError: a source cannot be read, holds no text, or changed between the two walks.
        UsageError: the settings leave no character, or the folder cannot be written.
        ResourceError: the disk is full.
    """
    sizes = [stat(source).st_size for source in sources]
    parts = [Part(group, settings, chunk) for group in cut(sources, sizes)]
    done = 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, 2 * sum(sizes))

    with _appearing(folder, replace, not any(source.spooled for source in sources)) as temporary:
        journal = Journal(temporary, processes, report)
        counted = journal.walk("counted", count, Counted, parts)
        vocabulary, distinct, places = _placed(parts, counted, temporary)
        written = journal.walk("written", write_ids, Written, places)
        for place, part in zip(places, written, strict=True):
            if place.path.stat().st_size != part.size:
                raise ResourceError(f"{place.path}: has been cut off while the corpus was made; run this again")
        records, again = ([record for part in walk for record in part.records] for walk in (counted, written))
        for source, before, after in zip(sources, records, again, strict=True):
            if before != after:
                raise TextError(f"{source.name}: changed while it was read; run it again when it is finished")
        document = {
            "format": FORMAT,
            "name": name,
            "unit": settings.unit,
            "fingerprint": fingerprint(records, sources, settings),
            "characters": places[-1].end,
            "dtype": dtype_of(vocabulary).name,
            "distinct": distinct,
            "shards": [place.end - place.start for place in places],
            "splits": _splits(places[-1].bounds, written),
            "encodings": ["bytes"] if settings.unit == "byte" else _distinct(part.encodings for part in counted),
            "line_ends": {kind: sum(part.line_ends[kind] for part in counted) for kind in ("lf", "crlf", "cr")},
            "utf8": all(part.utf8 for part in counted),
            "settings": settings.to_json(),
            "named": list(named),
            "sources": [
                {**asdict(record), "path": "-" if source.spooled else record.path}
                for source, record in zip(sources, records, strict=True)
            ],
            "vocabulary": vocabulary.to_json(),
        }
        with (temporary / "corpus.json").open("w", encoding="utf-8") as stream:
            json.dump(document, stream, allow_nan=False)  # as ASCII: names of files need not be UTF-8
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        journal.clear({"corpus.json", *(place.path.name for place in places)})


def _distinct(lists: Iterable[Iterable[str]]) -> list[str]:
    """What is in any of the lists, in order of appearance."""
    return list(dict.fromkeys(chain.from_iterable(lists)))


def shard(number: int) -> str:
    """The name of the file with the ids of a part."""
    return f"ids-{number}.npy" if number else "ids.npy"


def _placed(parts: Sequence[Part], counted: Sequence[Counted], folder: Path) -> tuple[Vocabulary, int, list[Placed]]:
    """The vocabulary of a text, how many distinct characters it has, and the place of each part in it.

    Raises:
        TextError: it has none.
        UsageError: all of them are too rare.
    """
    settings = parts[0].settings
    counts = np.zeros(CODE_POINTS, np.int64)
    befores, ends, last = [], [0], "\n"
    for part in counted:
        counts[np.asarray(part.codes, np.intp)] += np.asarray(part.counts, np.int64)
        joined = bool(part.codes) and needs_newline(last)
        counts[ord("\n")] += joined
        befores.append(last)
        ends.append(ends[-1] + part.characters + joined)
        last = part.last if part.codes else last
    if not ends[-1]:
        raise TextError(f"{parts[0].sources[0].name}: holds no text; name a file with text in it")
    kept = np.flatnonzero(counts >= settings.min_count)
    if not len(kept):
        raise UsageError(f"--min-count {settings.min_count}: no character occurs that often; choose a smaller one")
    vocabulary = Vocabulary(tuple(kept.tolist()), settings.unit, tuple(counts[kept].tolist()))
    bounds = tuple(boundaries(ends[-1], settings.split))
    places = [
        Placed(part, vocabulary, before, start, end, bounds, folder / shard(k))
        for k, (part, before, (start, end)) in enumerate(zip(parts, befores, pairwise(ends), strict=True))
    ]
    return vocabulary, int(np.count_nonzero(counts)), places


def _splits(bounds: Sequence[int], written: Sequence[Written]) -> dict[str, dict[str, int]]:
    """What each split holds."""
    return {
        name: {
            "start": bounds[i],
            "end": bounds[i + 1],
            "characters": bounds[i + 1] - bounds[i],
            "bytes": sum(part.bytes[i] for part in written),
            "unknown": sum(part.unknown[i] for part in written),
        }
        for i, name in enumerate(SPLITS)
    }


class TakenError(UsageError):
    """A folder was made by another process while this one was about to make it."""


@contextlib.contextmanager
def _appearing(folder: Path, replace: bool, lasting: bool) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place on success and is removed on failure.

    What a process that was interrupted or killed had begun there is there again.

    Args:
        lasting: whether what is begun can be gone on with later.

    Raises:
        TakenError: without ``replace``, something is there.
    """
    temporary, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    unfinished, hold = False, None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if (begun_there := clear_remains(folder)) is not None:
            with contextlib.suppress(FileNotFoundError):  # another process goes on with it
                os.rename(begun_there, temporary)
        temporary.mkdir(exist_ok=True)
        hold = Hold(temporary, "another process is making a corpus there")
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
        except (KeyboardInterrupt, WorkerLostError) as error:
            unfinished = lasting and begun(temporary) > 0
            if not unfinished:
                raise
            said = str(error) or "interrupted"
            raise type(error)(f"{said}; the same command goes on ({temporary} has what is done)") from error
        finally:
            hold.close()
            if not unfinished:
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


def clear_remains(folder: Path) -> Path | None:
    """Remove what runs that were killed left beside ``folder``, and put back a corpus they had moved aside.

    What they had begun stays, and of several the one that has most; that is the result.
    """
    furthest = None
    for path in folder.parent.glob(f".{_literal(folder.name)}.*.???"):
        _, process, kind = path.name.rsplit(".", 2)
        if kind not in ("tmp", "old") or not process.isdecimal() or _in_use(path, int(process)):
            continue
        if kind == "old" and not folder.exists():
            os.replace(path, folder)
            continue
        spare: Path | None = path
        if kind == "tmp" and begun(path) > (begun(furthest) if furthest else 0):
            furthest, spare = path, furthest
        if spare:
            shutil.rmtree(spare, ignore_errors=True)
    return furthest


def _in_use(path: Path, process: int) -> bool:
    """Whether somebody is at work there: a process of that number, or one that cannot be seen from this container."""
    if is_alive(process):
        return True
    try:
        Hold(path, "").close()
    except UsageError:
        return True
    except OSError:
        pass
    return False


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
