"""What has been done of a corpus so far, in the folder where it is made: whoever goes on does not do it again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from charrnn import __version__
from charrnn.data.parts import Counted, Part, Placed, Written
from charrnn.data.reading import SourceRecord, stat
from charrnn.data.workers import Report, each
from charrnn.files import read_json

Job = TypeVar("Job", Part, Placed)
Result = TypeVar("Result", Counted, Written)
#: How the names of entries end.
ENTRY = ".done"


def begun(folder: Path) -> int:
    """How many entries a folder has; 0 where there is none."""
    return sum(1 for _ in folder.glob(f"*{ENTRY}"))


class Journal:
    """Entries in a folder, one for each part that a walk is done with.

    Args:
        processes: how many do the work.
        report: told of bytes that are done.
    """

    def __init__(self, folder: Path, processes: int, report: Report) -> None:
        self._folder, self._processes, self._report = folder, processes, report

    def walk(
        self, name: str, work: Callable[[Job, Report], Result], kind: type[Result], jobs: Sequence[Job]
    ) -> list[Result]:
        """The result of each job: done now, or by whoever was at it before, if its files and all else are as then.

        Raises what ``work`` does, and OSError if an entry cannot be written.
        """
        keys = [_key(job) for job in jobs]
        paths = [self._folder / f"{name}-{number}{ENTRY}" for number in range(len(jobs))]
        results = {
            number: kept
            for number, (path, key, job) in enumerate(zip(paths, keys, jobs, strict=True))
            if (kept := _kept(path, key, kind)) is not None and _whole(kept, job)
        }
        if results:
            self._report(sum(record.size for result in results.values() for record in result.records))
        left = [number for number in range(len(jobs)) if number not in results]
        for number in left:  # what an entry is of is no longer so from here on
            paths[number].unlink(missing_ok=True)
        for at, result in each(work, [jobs[number] for number in left], self._processes, self._report):
            number = left[at]
            # A half-written entry is none; what it is of is on the disk already.
            paths[number].write_text(json.dumps({"key": keys[number], "result": asdict(result)}))
            results[number] = result
        return [results[number] for number in range(len(jobs))]

    def clear(self, keep: set[str]) -> None:
        """Remove all entries, and whatever else is there and is not to be kept."""
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in keep:
                path.unlink()


def _key(job: Part | Placed) -> str:
    """What tells a job from others: files by size and date, how they are read, and their place in the text."""
    part, place = (job, None) if isinstance(job, Part) else (job.part, job)
    files = [(source, stat(source)) for source in part.sources]
    facts = {
        "version": __version__,
        "files": [[str(f.path), found.st_size, found.st_mtime_ns, f.encoding] for f, found in files],
        "settings": part.settings.to_json(),
        "place": place and [place.vocabulary.codes, place.before, place.start, place.end, place.bounds],
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _whole(result: Counted | Written, job: Part | Placed) -> bool:
    """Whether what was written is still there."""
    if isinstance(result, Counted) or isinstance(job, Part):
        return True
    return job.path.is_file() and job.path.stat().st_size == result.size


def _kept(path: Path, key: str, kind: type[Result]) -> Result | None:
    """The result in an entry, if it is one of that job."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        entry = read_json(path.read_bytes())
        if entry["key"] == key:
            value = entry["result"]
            return kind(**{**value, "records": [SourceRecord(**record) for record in value["records"]]})
    return None
