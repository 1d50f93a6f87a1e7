"""A prepared corpus: a folder with ``corpus.json`` (what it is) and ``ids.npy`` (the text, as ids; of a text of many
files, which are read at the same time, also ``ids-1.npy`` and so on).

The ids are read when they are looked at: a corpus of any size opens at once. Splits are contiguous, so that no
validation text lies between training text.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from glob import has_magic
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from charrnn.data.filearray import FileArray
from charrnn.data.reading import Newlines, Progress, Source, SourceRecord, opened, unreadable
from charrnn.data.registry import is_registered, registered
from charrnn.data.settings import PrepareSettings
from charrnn.data.sources import Found, corpus_name, gather
from charrnn.data.vocabulary import Vocabulary
from charrnn.data.writing import FORMAT, SPLITS, TakenError, clear_remains, fingerprint, shard, write
from charrnn.errors import TextError, UsageError
from charrnn.files import CHUNK, read_chunks, read_json, sha256_of

__all__ = ["SPLITS", "Corpus", "Newlines", "PrepareSettings", "Split", "is_corpus", "prepare", "resolve"]

#: Called with one line about what was done, for the user.
Notify = Callable[[str], None]
ROOT = Path("corpora")
_DTYPES = {"uint8", "uint16", "uint32"}
#: Bytes of ids that are held in memory as a whole.
IN_MEMORY = 32 << 20
_BLOCK, _BLOCKS = 1 << 18, 16  # ids looked at together on opening, and how often
_T = TypeVar("_T")


@dataclass(frozen=True)
class Split:
    """A stretch of the corpus: symbols ``start`` to ``end``, their size in UTF-8 bytes, how many are unknown."""

    start: int
    end: int
    bytes: int
    unknown: int

    @property
    def characters(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus.

    Attributes:
        fingerprint: SHA-256 over the sources' hashes and the settings.
        distinct: how many different characters the text has, those below ``min_count`` included.
        encodings: the encodings of the sources; "bytes" where nothing was decoded.
        line_ends: how many "lf", "crlf" and lone "cr" the sources have, before any folding.
        utf8: whether the text in UTF-8, or its bytes with unit "byte", is valid UTF-8.
        named: what the user named: absolute paths and globs, "-", registered names.
        shards: how many ids each of its files has; the text is one all the same.
    """

    path: Path
    name: str
    vocabulary: Vocabulary
    fingerprint: str
    settings: PrepareSettings
    splits: dict[str, Split]
    sources: tuple[SourceRecord, ...]
    named: tuple[str, ...]
    distinct: int
    encodings: tuple[str, ...]
    line_ends: dict[str, int]
    utf8: bool
    dtype: str
    shards: tuple[int, ...]

    @classmethod
    def open(cls, path: Path | str) -> Corpus:
        """Open a corpus's folder.

        To open at once whatever the size, of more than four million ids only a part, evenly spread, is compared
        with the vocabulary: a wrong id elsewhere is not noticed here.

        Raises:
            TextError: there is none, it is damaged, or another version of the program wrote it.
        """
        path = Path(path)
        try:
            document = read_json((path / "corpus.json").read_text(encoding="utf-8"))
            version = document["format"]
            if version != FORMAT:
                raise TextError(
                    f"{path}: has corpus format {version}, this program reads {FORMAT}; run charrnn prepare again"
                )
            corpus = cls._from_json(path, document)
            corpus._check_files()
            corpus._check_ids()
        except FileNotFoundError as error:
            missing = Path(error.filename or "").name
            raise TextError(f"{path}: is no prepared corpus (no {missing}); make one with charrnn prepare") from error
        except (
            ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError, UsageError
        ) as error:  # fmt: skip
            raise TextError(f"{path}: is damaged ({error}); run charrnn prepare again with --force") from error
        except OSError as error:
            raise TextError(f"{path}: cannot be read ({error.strerror})") from error
        return corpus

    @classmethod
    def _from_json(cls, path: Path, document: dict[str, object]) -> Corpus:
        value: dict[str, Any] = document
        splits = {
            name: Split(*(_typed(int, value["splits"][name][key]) for key in ("start", "end", "bytes", "unknown")))
            for name in SPLITS
        }
        ends = [0, *(split.end for split in splits.values())]
        if ends != [split.start for split in splits.values()] + [value["characters"]] or ends != sorted(ends):
            raise ValueError("its splits do not cover the text")
        if value["dtype"] not in _DTYPES:
            raise ValueError(f"its ids are of type {value['dtype']}")
        if not _is_component(name := _typed(str, value["name"])):
            raise ValueError(f"its name {name!r:.99} is none")
        vocabulary, settings = Vocabulary.from_json(value["vocabulary"]), PrepareSettings.from_json(value["settings"])
        longest = 1 if vocabulary.unit == "byte" else 4  # bytes of a character
        for split in splits.values():
            if not (0 <= split.unknown <= split.characters <= split.bytes <= longest * split.characters):
                raise ValueError("its splits have impossible sizes")
        if settings.unit != vocabulary.unit:
            raise ValueError("its vocabulary is another's")
        return cls(
            path=path,
            name=name,
            vocabulary=vocabulary,
            fingerprint=_typed(str, value["fingerprint"]),
            settings=settings,
            splits=splits,
            sources=tuple(
                SourceRecord(_typed(str, s["path"]), _typed(int, s["size"]), _typed(str, s["sha256"]))
                for s in _typed(list, value["sources"])
            ),
            named=_strings(value["named"]),
            distinct=_typed(int, value["distinct"]),
            encodings=_strings(value["encodings"]),
            line_ends={kind: _typed(int, value["line_ends"][kind]) for kind in ("lf", "crlf", "cr")},
            utf8=_typed(bool, value["utf8"]),
            dtype=_typed(str, value["dtype"]),
            shards=_shards(value),
        )

    def _check_files(self) -> None:
        """Compare the files of ids with what ``corpus.json`` says."""
        for number, characters in enumerate(self.shards):
            name = shard(number)
            with (self.path / name).open("rb") as stream:
                try:
                    np.lib.format.read_magic(stream)
                    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
                except Exception as error:  # a Python expression: whatever its parser raises
                    raise ValueError(f"{name} does not begin as it should") from error
                expected = stream.tell() + characters * dtype.itemsize
                found = os.fstat(stream.fileno()).st_size
            if shape != (characters,) or dtype.name != self.dtype:
                raise ValueError(f"{name} holds {shape} {dtype}, corpus.json says ({characters},) {self.dtype}")
            if found != expected:
                raise ValueError(f"{name} has {found} bytes, expected {expected}")

    def _check_ids(self) -> None:
        """Compare the ids with the vocabulary: all of them up to ``_BLOCK * _BLOCKS``, else blocks evenly spread."""
        stored, last = self._stored(2**32), max(0, self.characters - _BLOCK)
        for start in sorted({last * block // (_BLOCKS - 1) for block in range(_BLOCKS)}):
            highest = np.asarray(stored[start : start + _BLOCK]).max()
            if highest >= len(self.vocabulary):
                raise ValueError(f"has ids up to {highest}, the vocabulary {len(self.vocabulary)} symbols")
        if not self.vocabulary.codes:
            raise ValueError("its vocabulary is empty")

    @property
    def characters(self) -> int:
        """Characters (or bytes, with unit "byte") of all splits together."""
        return self.splits[SPLITS[-1]].end

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of all splits together."""
        return sum(split.bytes for split in self.splits.values())

    @property
    def unknown(self) -> int:
        """Characters of all splits that ``min_count`` made ``unknown``."""
        return sum(split.unknown for split in self.splits.values())

    def description(self) -> dict[str, Any]:
        """What a checkpoint records of the text it was trained on."""
        return {
            "name": self.name,
            "path": self._place.as_posix(),
            "fingerprint": self.fingerprint,
            "utf8": self.utf8,
            "characters": {name: split.characters for name, split in self.splits.items()},
            "sources": len(self.sources),
        }

    @property
    def _place(self) -> Path:
        """The folder as others may know it: relative where it is below the current one, else as it was given."""
        here = Path.cwd()
        return self.path.relative_to(here) if self.path.is_relative_to(here) else self.path

    def arguments(self) -> list[str]:
        """What to type after ``charrnn train`` for this corpus: its name where that finds it, else its path."""
        place = self._place
        if not place.name.startswith("-") and _prepared(place.name, ROOT) == place:
            return [place.name]
        return [f"./{place}" if str(place).startswith("-") else str(place)]

    def _stored(self, below: int) -> NDArray[np.unsignedinteger]:
        """The ids, read where they are looked at; each must be less."""
        dtype = np.dtype(self.dtype)
        paths = [self.path / shard(number) for number in range(len(self.shards))]
        array = FileArray(
            [
                (path, path.stat().st_size - characters * dtype.itemsize, characters)
                for path, characters in zip(paths, self.shards, strict=True)
            ],
            dtype,
            below,
        )
        # From here on the files are open. Another corpus may have come to this place before that.
        if read_json((self.path / "corpus.json").read_text(encoding="utf-8"))["fingerprint"] != self.fingerprint:
            raise TextError(f"{self.path}: has been replaced while it was in use; run this again")
        return cast("NDArray[np.unsignedinteger]", array)

    @cached_property
    def _all(self) -> NDArray[np.unsignedinteger]:
        """The ids of all splits: in memory where that is little, else in their file."""
        stored = self._stored(len(self.vocabulary))
        return np.asarray(stored) if self.characters * stored.dtype.itemsize <= IN_MEMORY else stored

    def ids(self, split: str) -> NDArray[np.unsignedinteger]:
        """The ids of a split, shape (N,); of a long text a :class:`~charrnn.data.filearray.FileArray`.

        Raises:
            TextError: the split has no text, or the file is not what it was when the corpus was opened.
            UsageError: there is no split of that name.
        """
        part = self._split(split)
        if not part.characters:
            raise TextError(f"{self.path}: its {split} split is empty; prepare it with another --split, or more text")
        return self._all[part.start : part.end]

    def text(self, split: str, start: int = 0, stop: int | None = None) -> str:
        """The text of a split, or of its symbols ``start`` to ``stop`` as in a slice; U+FFFD where unknown.

        Raises:
            UsageError: there is no split of that name.
        """
        part = self._split(split)
        ids = self._all[part.start : part.end][start:stop]
        byte = self.vocabulary.unit == "byte"
        # What is unknown shows as U+FFFD in both units: 0xFF is never part of UTF-8.
        codes = np.asarray([*self.vocabulary.codes, 0xFF if byte else 0xFFFD], np.uint8 if byte else "<u4")
        data: builtins.bytes = codes[ids].tobytes()
        return data.decode("utf-8", "replace") if byte else data.decode("utf-32-le")

    def _split(self, name: str) -> Split:
        if name not in self.splits:
            raise UsageError(f"{name}: no such split; choose one of {', '.join(SPLITS)}")
        return self.splits[name]

    def check_sources(self) -> None:
        """Notice text that changed after it was prepared; a source that is no longer there is no reason.

        A different size needs no further look; otherwise the file is hashed, whatever its date says.

        Raises:
            TextError: a source's content changed, or a folder holds other files than it did.
        """
        for record in self.sources:
            path = Path(record.path)
            if record.path == "-" or not os.path.isfile(path):
                continue
            try:
                same = path.stat().st_size == record.size and sha256_of(read_chunks(path)) == record.sha256
            except OSError:
                continue  # may no longer be read: the corpus is all there is
            if not same:
                raise self._stale(path, "changed")
        self._check_folders()

    def _check_folders(self) -> None:
        """Notice files that came to or went from a folder or glob since."""
        many = [n for n in self.named if os.path.isdir(n) or (has_magic(n) and not os.path.exists(n))]
        if not many or any(map(is_registered, self.named)):
            return
        try:
            with gather(many, pattern=self.settings.pattern, skip_binary=_skips(self.settings)) as found:
                files = {str(source.path) for source in found.sources}
        except TextError:
            return  # moved away as a whole, as single files may be
        if files != {record.path for record in self.sources} - {"-", *self.named}:
            raise self._stale(Path(many[0]), "has other files")

    def _stale(self, path: Path, what: str) -> TextError:
        options = self.settings.differences(PrepareSettings())
        again = f"charrnn prepare {shlex.join(self.named)} --name {shlex.quote(self.name)} {options}".rstrip()
        return TextError(f"{path}: {what} since {self.path} was prepared; run {again} --force")


def is_corpus(path: Path) -> bool:
    """Whether a folder looks like a prepared corpus.

    Raises:
        TextError: the system does not tell.
    """
    try:
        return (path / "corpus.json").is_file()
    except OSError as error:
        raise unreadable(str(path), error) from error


def prepare(
    names: Sequence[str],
    *,
    root: Path = ROOT,
    name: str | None = None,
    output: Path | None = None,
    settings: PrepareSettings | None = None,
    force: bool = False,
    progress: Progress | None = None,
    notify: Notify | None = None,
    chunk: int = CHUNK,
    processes: int = 1,
) -> Corpus:
    """Make a corpus from whatever ``names`` stand for, in ``output`` or ``root``/``name``.

    Args:
        processes: how many read a large text of several files (see :func:`charrnn.data.workers.each`).

    Raises:
        TextError: a source cannot be used.
        UsageError: options that cannot be meant, or a corpus is there and ``force`` is not given.
        ResourceError: the disk is full.
    """
    settings = settings or PrepareSettings()
    if not names:
        raise UsageError("no source given; name a text file, or python-stdlib")
    for source in names:
        if is_corpus(Path(source)):
            raise UsageError(f"{source}: is a prepared corpus, not text; charrnn train takes it as it is")
    if name is not None and (not name.strip() or name.startswith(".") or not _is_component(name)):
        raise UsageError(f"--name {name!r}: must be a plain name; --output takes a folder")
    title = name or (output.resolve().name if output else corpus_name(names[0]))
    folder = output or root / title
    _refuse_existing(folder, force)
    with _found(names, root, settings, progress, notify) as found:
        return _written(found, names, folder, title, settings, progress, processes, chunk, replace=force)


def resolve(
    names: str | Sequence[str],
    *,
    root: Path = ROOT,
    settings: PrepareSettings | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
    processes: int = 1,
) -> Corpus:
    """The corpus that ``names`` stand for: a prepared one, or raw text that is prepared on the way.

    In this order: a corpus's folder; a file, folder, glob or ``-``; the name of a corpus below ``root``; a
    registered name. Raw text is prepared once and the corpus reused while the text and the settings stay the
    same; it never takes the place of another corpus, but goes beside it under NAME-FINGERPRINT.

    Args:
        settings: how to prepare raw text, and what of a prepared corpus must agree (see ``PrepareSettings.given``).
            None takes a prepared corpus as it is, and prepares raw text in the usual way.
        processes: as for :func:`prepare`.

    Raises:
        TextError: nothing has that name, or its sources changed since it was prepared.
        UsageError: ``settings`` differ from those of the prepared corpus that was named.
        ResourceError: the disk is full.
    """
    names = [names] if isinstance(names, str) else list(names)
    say = notify or (lambda line: None)
    if len(names) == 1 and (folder := _prepared(names[0], root)) is not None:
        corpus = Corpus.open(folder)
        other = settings.differences(corpus.settings) if settings else ""
        if not other:
            corpus.check_sources()
            return corpus
        if not is_registered(names[0]):
            raise UsageError(
                f"{folder}: was not prepared with {other}; leave that out, or prepare it anew with another --name"
            )
    settings = settings or PrepareSettings()
    with _found(names, root, settings, progress, notify) as found:
        folder = root / found.name
        if not _exists(folder):
            say(f"{', '.join(names)}: preparing into {folder}")
            with contextlib.suppress(TakenError):  # by a process that may prepare another text of that name
                return _written(found, names, folder, folder.name, settings, progress, processes)
        mark = _fingerprint(found, settings)
        beside = folder.with_name(f"{folder.name}-{mark[:8]}")
        for candidate in (folder, beside):
            if (corpus_or_none := _matching(candidate, mark)) is not None:
                say(f"{', '.join(names)}: unchanged, using {candidate}")
                return corpus_or_none
        if _exists(beside):
            raise TextError(f"{beside}: is damaged or not a corpus; remove it and run this again")
        say(f"{', '.join(names)}: preparing into {beside}")
        return _written(found, names, beside, beside.name, settings, progress, processes)


def _prepared(name: str, root: Path) -> Path | None:
    """The folder of the prepared corpus that ``name`` means, if it means one."""
    path = Path(name)
    if is_corpus(path):
        return path
    if not path.exists() and path.name == name:
        for folder in (root / name, root / name.removesuffix(".txt")):
            clear_remains(folder)  # it may have been moved aside by a process that was killed
            if is_corpus(folder) and (folder.name == name or is_registered(name)):
                return folder
    return None


def _matching(folder: Path, mark: str) -> Corpus | None:
    """The corpus in ``folder`` if it is whole and has that fingerprint."""
    try:
        corpus = Corpus.open(folder)
    except TextError:
        return None
    return corpus if corpus.fingerprint == mark else None


def _typed(kind: type[_T], value: object) -> _T:
    """A value of a JSON document, if it is what it should be."""
    if type(value) is not kind:  # True is no number
        raise ValueError(f"{value!r:.40} is no {kind.__name__}")
    return value


def _strings(value: object) -> tuple[str, ...]:
    return tuple(_typed(str, item) for item in _typed(list, value))


def _shards(document: dict[str, Any]) -> tuple[int, ...]:
    """How many ids each file has; a corpus that does not say has one."""
    shards = tuple(_typed(int, length) for length in _typed(list, document.get("shards", [document["characters"]])))
    if not shards or min(shards) < 0 or sum(shards) != document["characters"]:
        raise ValueError("its files do not make up the text")
    return shards


def _is_component(name: str) -> bool:
    """Whether a name can be that of a file or folder, and leads nowhere else when joined to a path."""
    plain = name not in ("", ".", "..") and Path(name).name == name and "\0" not in name
    return plain and len(os.fsencode(name)) <= 255


def _exists(path: Path) -> bool:
    """Whether something is there; raises TextError where the system does not tell."""
    try:
        return path.exists()
    except OSError as error:
        raise unreadable(str(path), error) from error


def _refuse_existing(folder: Path, force: bool) -> None:
    try:
        if not folder.exists():
            return
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); choose a place with --output") from error
    if not is_corpus(folder):  # never replaced: it may be anything
        raise UsageError(f"{folder}: is there and is not a corpus; choose another place with --output or --name")
    if not force:
        raise UsageError(f"{folder}: is there already; --force replaces it, --name NAME puts the new one beside it")


@contextmanager
def _found(
    names: Sequence[str],
    root: Path,
    settings: PrepareSettings,
    progress: Progress | None,
    notify: Notify | None,
) -> Iterator[Found]:
    """The sources that names stand for, registered ones fetched, with a word on what was left out."""

    def fetched(name: str) -> Sequence[Source] | None:
        return registered(name, root / ".downloads", progress)

    with gather(names, pattern=settings.pattern, skip_binary=_skips(settings), registered=fetched) as found:
        if notify and (skipped := found.skipped()):
            notify(f"left out: {skipped}")
        yield found


def _skips(settings: PrepareSettings) -> bool:
    """Whether files with zero bytes are left out: not as bytes, nor in an encoding of the user's (UTF-16)."""
    return settings.unit == "char" and settings.encoding is None


def _fingerprint(found: Found, settings: PrepareSettings) -> str:
    records = []
    for source in found.sources:
        with opened(source) as (_, raw):
            while raw.read(CHUNK):
                pass
        records.append(SourceRecord(str(source.path), raw.count, raw.digest.hexdigest()))
    return fingerprint(records, found.sources, settings)


def _written(
    found: Found,
    names: Sequence[str],
    folder: Path,
    title: str,
    settings: PrepareSettings,
    progress: Progress | None,
    processes: int,
    chunk: int = CHUNK,
    replace: bool = False,
) -> Corpus:
    named = [name if name == "-" or is_registered(name) else os.path.abspath(name) for name in names]
    write(found.sources, folder, title, settings, named, progress, chunk, replace, processes)
    return Corpus.open(folder)
