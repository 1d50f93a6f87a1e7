"""From the bytes of files to characters: strictly, in pieces, in one walk that never holds a whole file.

    file ──decompress──▶ bytes ──decode──▶ characters ──line ends──▶ joined with the next file

A byte is a character too: with ``unit="byte"`` the bytes are read as Latin-1, which maps each byte to the
character of the same number, so everything after decoding is written once.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from charrnn.data.vocabulary import Unit
from charrnn.errors import TextError, UsageError
from charrnn.files import CHUNK

Newlines = Literal["keep", "lf"]
#: Called with bytes done and bytes in all (0: not known).
Progress = Callable[[int, int], None]

SNIFF = 8192  # bytes looked at to tell text from binary
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError)
_BOMS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Asked about in this order; charset-normalizer's full list names rarities such as cp1257 for plain French.
_LIKELY = [
    *("cp1252", "cp1251", "koi8_r", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256"),
    *("shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"),
]


@dataclass(frozen=True)
class Source:
    """One file of text; ``name`` is what the user calls it, ``path`` where its bytes are.

    ``encoding`` is set where the file's own kind tells it (the coding line of a Python file); ``spooled`` where
    ``path`` is a passing copy, of standard input or of a pipe.
    """

    name: str
    path: Path
    encoding: str | None = None
    spooled: bool = False


@dataclass(frozen=True)
class SourceRecord:
    """What was read: where, how many bytes on disk, and their SHA-256."""

    path: str
    size: int
    sha256: str


class LineEnds:
    """Counts the line ends of one text after another and, on request, folds them all to LF.

    A CR at the end of a piece waits for the next piece, for it may be the first half of a CRLF. Without ``counting``,
    which takes a fifth of all that reading does, the counts are not to be asked for.

    >>> ends = LineEnds("lf")
    >>> [ends.feed("a\\r"), ends.feed("\\nb\\r"), ends.feed("", final=True)], ends.counts()
    (['a', '\\nb', '\\n'], {'lf': 0, 'crlf': 1, 'cr': 1})
    """

    def __init__(self, newlines: Newlines = "keep", counting: bool = True) -> None:
        self.fold, self.counting = newlines == "lf", counting
        self.lf = self.crlf = self.cr = 0
        self._waiting = ""

    def feed(self, text: str, final: bool = False) -> str:
        if not (self.fold or self.counting):
            return text
        text, self._waiting = self._waiting + text, ""
        if not final and text.endswith("\r"):
            text, self._waiting = text[:-1], "\r"
        self.lf += text.count("\n")
        if "\r" in text:
            crlf = text.count("\r\n")
            self.lf, self.crlf, self.cr = self.lf - crlf, self.crlf + crlf, self.cr + text.count("\r") - crlf
            if self.fold:
                text = text.replace("\r\n", "\n").replace("\r", "\n")
        return text

    def counts(self) -> dict[str, int]:
        return {"lf": self.lf, "crlf": self.crlf, "cr": self.cr}


class Reader:
    """One walk over sources: iterate for the text in pieces, then ask what was seen.

    The files are joined; where one does not end in a line end and another follows, a newline is put between.

    Args:
        before: the character that stands before the text, where other files go before these.
        counting: False where another walk has counted the line ends already.

    Attributes, complete once the walk is:
        last: the last character of the text; ``before`` where it has none.
        records: path, size and SHA-256 of each source's bytes on disk.
        line_ends: how many LF, CRLF and lone CR the sources have (before folding).
        encodings: the encodings met, in order of appearance; "utf-8-sig" is UTF-8 with a byte order mark.
        utf8: whether the text in UTF-8, or with ``unit="byte"`` the bytes as they are, is valid UTF-8.

    Raises (while iterating):
        TextError: a source cannot be read, is binary, or does not follow its encoding.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        unit: Unit = "char",
        encoding: str | None = None,
        newlines: Newlines = "keep",
        chunk: int = CHUNK,
        progress: Progress | None = None,
        before: str = "\n",
        counting: bool = True,
    ) -> None:
        self.sources = sources
        self.unit = unit
        self.encoding = encoding
        self.chunk = chunk
        self.records: list[SourceRecord] = []
        self.line_ends = LineEnds(newlines, counting)
        self.encodings: list[str] = []
        self.utf8 = True
        self.last = before
        self._progress = progress
        self._done = 0
        self._total = sum(stat(source).st_size for source in sources) if progress else 0

    def __iter__(self) -> Iterator[str]:
        for source in self.sources:
            fresh = True
            for piece in self._pieces(source):
                if fresh and needs_newline(self.last):
                    yield "\n"
                fresh, self.last = False, piece[-1]
                yield piece

    def _pieces(self, source: Source) -> Iterator[str]:
        """The text of one file in non-empty pieces, line ends already folded."""
        with opened(source) as (stream, raw):
            head = stream.read(SNIFF)
            encoding = self._encoding(source, head)
            decoder = _Decoder(source.name, encoding, self.line_ends)
            validator = codecs.getincrementaldecoder("utf-8")() if self.unit == "byte" else None
            for data in self._chunks(head, stream):
                text = decoder.feed(data)
                if validator is not None and not _valid(validator, data):
                    validator, self.utf8 = None, False
                if self._progress:
                    self._progress(self._done + raw.count, self._total)
                if text:
                    yield text
            if text := decoder.feed(b"", final=True):
                yield text
            if validator is not None and not _valid(validator, b"", final=True):
                self.utf8 = False
        if encoding not in self.encodings:
            self.encodings.append(encoding)
        self._done += raw.count
        self.records.append(SourceRecord(str(source.path), raw.count, raw.digest.hexdigest()))

    def _chunks(self, head: bytes, stream: IO[bytes]) -> Iterator[bytes]:
        for start in range(0, len(head), self.chunk):
            yield head[start : start + self.chunk]
        while data := stream.read(self.chunk):
            yield data

    def _encoding(self, source: Source, head: bytes) -> str:
        if self.unit == "byte":
            return "latin-1"
        if known := self.encoding or source.encoding:
            return codecs.lookup(known).name
        for bom, encoding in _BOMS:
            if head.startswith(bom):
                return encoding
        if (place := head.find(b"\0")) >= 0:
            raise TextError(
                f"{source.name}: is binary, not text (a zero byte at offset {place}); "
                "name its --encoding; prepare and train read it as bytes with --unit byte"
            )
        return "utf-8"


def needs_newline(last: str) -> bool:
    """Whether a newline is put after this character, where another file follows."""
    return last not in "\r\n"


class _Decoder:
    """Strict decoding of one file, with errors that say where in it."""

    def __init__(self, name: str, encoding: str, line_ends: LineEnds) -> None:
        self.name, self.encoding, self.line_ends = name, encoding, line_ends
        # The mark is taken off below, after any codec; offsets reported by "utf-8-sig" would not count it.
        self.decoder = codecs.getincrementaldecoder("utf-8" if encoding == "utf-8-sig" else encoding)()
        self.fed = 0
        self.lines_before = sum(line_ends.counts().values())
        self.at_start = encoding != "latin-1"
        # These refuse halves of surrogate pairs; of the others not all do (UTF-7, Punycode, Python's escapes).
        self.may_split_pairs = encoding not in ("utf-8", "utf-8-sig", "latin-1")

    def feed(self, data: bytes, final: bool = False) -> str:
        state = self.decoder.getstate()
        try:
            text = self.decoder.decode(data, final)
            if self.may_split_pairs:
                text.encode("utf-8")  # a lone surrogate is no character
        except UnicodeDecodeError as error:
            waiting = len(state[0])
            before = ""
            with suppress(UnicodeError):  # a codec may need what comes after to read what is before
                self.decoder.setstate(state)
                before = self.decoder.decode(data[: max(0, error.start - waiting)])
            raise self._bad_byte(error, self.fed - waiting + error.start, before) from error
        except UnicodeError as error:
            raise TextError(f"{self.name}: is not {self.encoding} ({error}); try another --encoding") from error
        self.fed += len(data)
        if self.at_start and text:
            text, self.at_start = text.removeprefix("\ufeff"), False
        return self.line_ends.feed(text, final)

    def _bad_byte(self, error: UnicodeDecodeError, offset: int, before: str) -> TextError:
        self.line_ends.feed(before, final=True)
        line = f" (line {1 + sum(self.line_ends.counts().values()) - self.lines_before})"
        encoding = "UTF-8" if self.encoding.startswith("utf-8") else self.encoding
        byte = error.object[error.start]
        what = f"{self.name}: byte 0x{byte:02x} at offset {offset}{line * self.line_ends.counting} is not {encoding}"
        if error.reason == "unexpected end of data":
            return TextError(f"{what}: the file ends in the middle of a character; fetch it again or mend its end")
        window = error.object[max(0, error.start - (1 << 15)) : error.start + (1 << 15)]
        if guess := likely_encoding(window):
            return TextError(f"{what}; it looks like {guess}: try --encoding {guess}")
        return TextError(f"{what}; mend the byte, or name the file's --encoding")


def likely_encoding(data: bytes) -> str | None:
    """What bytes that are not UTF-8 probably are, or None: mostly UTF-8 with damage, or nothing known."""
    repaired = data.decode("utf-8", "replace")
    bad = repaired.count("\N{REPLACEMENT CHARACTER}")
    good = sum(1 for character in repaired if character > "\x7f") - bad
    if good > 4 * bad:
        return None
    from charset_normalizer import from_bytes  # only when it is needed: it takes a while to load

    matches = list(from_bytes(data, cp_isolation=_LIKELY))
    if not matches:
        # Too short or too odd to tell. Western European text is mostly ASCII, and printable in its commonest encoding.
        western = data.decode("cp1252", "replace")
        rare = sum(1 for character in western if character > "\x7f")
        plain = all(character.isprintable() or character.isspace() for character in western)
        return "cp1252" if plain and rare <= len(western) // 3 and "\N{REPLACEMENT CHARACTER}" not in western else None
    best = matches[0]
    tied = [match for match in matches if (match.chaos, match.coherence) == (best.chaos, best.coherence)]
    for match in tied:  # where nothing tells them apart, the commonest
        if "cp1252" in match.could_be_from_charset:
            return "cp1252"
    return best.encoding


def check_encoding(encoding: str) -> None:
    """Raises UsageError where Python knows no text encoding of that name."""
    try:
        codecs.getincrementaldecoder(encoding)()
        with suppress(UnicodeDecodeError):
            b"a".decode(encoding)  # refuses codecs that are not from bytes to text, such as "base64"
    except (LookupError, ValueError) as error:
        raise UsageError(
            f"--encoding {encoding!r}: no text encoding has that name; try utf-8, cp1252, gb18030"
        ) from error


def _valid(validator: codecs.IncrementalDecoder, data: bytes, final: bool = False) -> bool:
    try:
        validator.decode(data, final)
    except UnicodeDecodeError:
        return False
    return True


def stat(source: Source) -> os.stat_result:
    """What the system knows of a source's file.

    Raises:
        TextError: it is missing, or may not be asked about.
    """
    try:
        return source.path.stat()
    except OSError as error:
        raise unreadable(source.name, error) from error


class _Counted(io.RawIOBase):
    """A file that counts and hashes the bytes read from it, whatever decompresses them."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.count, self.digest = file, 0, hashlib.sha256()

    def readinto(self, buffer: object) -> int:
        data = memoryview(cast(bytearray, buffer))
        count: int = self.file.readinto(data)  # type: ignore[attr-defined]
        self.digest.update(data[:count])
        self.count += count
        return count


@contextmanager
def opened(source: Source) -> Iterator[tuple[IO[bytes], _Counted]]:
    """A source's bytes, decompressed by its suffix (.gz, .bz2, .xz), and the counter of those on disk.

    Raises:
        TextError: the file is missing, may not be read, or is damaged.
    """
    try:
        with source.path.open("rb", buffering=0) as file:
            raw = _Counted(cast(IO[bytes], file))
            yield _decompressed(source.path.suffix.lower(), raw), raw
            while raw.read(CHUNK):  # what follows the compressed data counts for the hash
                pass
    except _DAMAGED as error:
        raise _damaged(source.name, error) from error
    except OSError as error:
        # gzip and bz2 report damage as an OSError that has no number.
        raise (unreadable if error.errno else _damaged)(source.name, error) from error


def _decompressed(suffix: str, raw: _Counted) -> IO[bytes]:
    file = cast(IO[bytes], raw)
    if suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file, mode="rb"))
    if suffix == ".bz2":
        return cast(IO[bytes], bz2.BZ2File(file))
    if suffix == ".xz":
        return cast(IO[bytes], lzma.LZMAFile(file))
    return file


def _damaged(name: str, error: Exception) -> TextError:
    return TextError(f"{name}: the compressed file is damaged or cut short ({error}); fetch it again")


def unreadable(name: str, error: OSError) -> TextError:
    """The one line for a file that the system will not give."""
    if isinstance(error, FileNotFoundError):
        return TextError(f"{name}: no such file; check the name")
    if isinstance(error, PermissionError):
        return TextError(f"{name}: may not be read (permission denied); change its permissions or use a copy")
    return TextError(f"{name}: cannot be read ({error.strerror or error})")
