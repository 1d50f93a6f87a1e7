"""Any text: it is prepared and trained on, or refused in one line with exit code 3."""

from __future__ import annotations

import encodings.aliases
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from commands import ends_well, refused

from charrnn.data.corpus import Corpus, PrepareSettings, prepare
from charrnn.data.reading import Reader, Source, check_encoding
from charrnn.errors import TextError, UsageError

SMALL = ["--num-layers", "1", "--hidden-size", "4", "--embedding-size", "3", "--device", "cpu", "--precision", "fp32"]
#: Characters of one to four bytes, line ends of every kind, and a bidirectional mark.
MIXED = "aé世🎭\r\nb\rc\n\u202ed\u0301𝄞\x1b[31m"


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(corpus: Corpus) -> str:
    return "".join(corpus.text(split) for split in corpus.splits)


def goes(data: bytes, *options: str, train: int = 0, prepared: int = 0) -> None:
    """Prepare a file of these bytes and train two steps on it; with these exit codes."""
    Path("t.txt").write_bytes(data)
    assert ends_well("prepare", "t.txt", "--force", *options, codes={prepared}) == prepared
    ends_well("train", "t.txt", "--steps", "2", *SMALL, "--run", "t", "--force", *options, codes={train})


def every_plane() -> str:
    """Sixteen characters of each plane of Unicode, its last two, which are none, among them."""
    codes = [plane * 0x10000 + code for plane in range(17) for code in (*range(0x100, 0x10E), 0xFFFE, 0xFFFF)]
    return "".join(map(chr, codes))


FINE = {
    "one distinct character": b"a" * 3000,
    "two characters": b"ab" * 2,
    "shorter than a window": b"hello\n",
    "shorter than a batch of windows": b"a line\n" * 30,
    "nothing but line ends": b"\n\r\n\r" * 50,
    "nothing but spaces": b" " * 50,
    "a mark in the middle": "abc\ufeffdef".encode() * 9,
    "every plane": every_plane().encode() * 3,
    "every plane in UTF-16": every_plane().encode("utf-16") * 1,
    "every plane in UTF-32": every_plane().encode("utf-32"),
    "combining marks alone": "\u0301\u0300".encode() * 40,
    "control characters": bytes(range(1, 128)) * 3,
}
REFUSED = {
    "empty": b"",
    "nothing but a mark": b"\xef\xbb\xbf",
    "a zero byte first": b"\0abc",
    "nothing but zero bytes": bytes(5000),
    "half a surrogate pair in UTF-8": b"ab\xed\xa0\x80cd",
    "a surrogate pair in UTF-8": b"ab\xed\xa0\xbd\xed\xb8\x80cd",
    "half a surrogate pair in UTF-16": b"\xff\xfea\x00\x00\xd8b\x00",
    "the other half in UTF-16": b"\xfe\xff\x00a\xdc\x00\x00b",
    "half a surrogate pair at the end of UTF-16": b"\xff\xfea\x00\x00\xd8",
    "an odd number of bytes in UTF-16": b"\xff\xfea\x00b",
    "a surrogate in UTF-32": b"\xff\xfe\0\0" + (0xD800).to_bytes(4, "little"),
    "a number beyond Unicode in UTF-32": b"\xff\xfe\0\0" + (0x110000).to_bytes(4, "little"),
    "a number beyond Unicode in UTF-8": b"abc\xf4\x90\x80\x80",
    "the longer form of a slash": b"abc\xc0\xaf",
}


@pytest.mark.parametrize("kind", FINE)
def test_a_strange_text_is_prepared_and_trained_on(kind: str) -> None:
    goes(FINE[kind])


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_text_is_refused_in_one_line(kind: str) -> None:
    goes(REFUSED[kind], train=3, prepared=3)


def test_a_single_character_can_be_prepared_but_not_trained_on() -> None:
    goes(b"x", train=3)
    assert everything(Corpus.open("corpora/t")) == "x"


@pytest.mark.parametrize("kind", ["empty", *(kind for kind in REFUSED if kind not in ("empty", "nothing but a mark"))])
def test_as_bytes_all_but_nothing_is_text(kind: str) -> None:
    data = REFUSED[kind]
    code = 0 if data else 3
    goes(data, "--unit", "byte", "--split", "100,0,0", prepared=code, train=code)
    if data:
        corpus = Corpus.open("corpora/t")
        assert corpus.vocabulary.decode_bytes(np.asarray(corpus.ids("train"))) == data


@pytest.mark.parametrize("bad", [b"\xff", b"\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe4\xb8"])
def test_a_bad_byte_is_named_wherever_it_is_and_however_the_file_is_read(bad: bytes) -> None:
    data = (MIXED * 2).encode()
    for at in range(len(data) + 1):
        if at < len(data) and data[at] & 0xC0 == 0x80:
            continue  # inside a character
        Path("t.txt").write_bytes(data[:at] + bad + data[at:])
        for chunk in (1, 2, 3, 5, 1 << 20):
            with pytest.raises(TextError) as error:
                prepare(["t.txt"], chunk=chunk)
            assert f"t.txt: byte 0x{bad[0]:02x} at offset {at} (line" in str(error.value)
            assert "\n" not in str(error.value)
    ends_well("train", "t.txt", "--steps", "2", *SMALL, codes={3})


def test_a_text_that_is_cut_off_anywhere_is_a_shorter_text_or_refused_in_one_line() -> None:
    data = (MIXED * 2).encode()
    for length in range(1, len(data)):
        Path("t.txt").write_bytes(data[:length])
        try:
            expected = data[:length].decode()
        except UnicodeDecodeError:
            with pytest.raises(TextError, match="the file ends in the middle of a character"):
                prepare(["t.txt"], force=True, chunk=3)
        else:
            assert everything(prepare(["t.txt"], force=True, chunk=3)) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-be", "gb18030", "utf-7"])
def test_a_character_may_lie_across_any_border_between_pieces(encoding: str) -> None:
    for padding in range(4):
        text = "x" * padding + MIXED
        data = text.encode(encoding)
        Path("t.txt").write_bytes(data)
        for chunk in range(1, len(data) + 1):
            reader = Reader([Source("t", Path("t.txt"))], encoding=encoding, chunk=chunk)
            assert "".join(reader) == text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Python's unicode_escape
def test_any_bytes_in_any_encoding_are_text_or_refused_in_one_line() -> None:
    chance, source = random.Random(0), Source("t", Path("t.txt"))
    for encoding in sorted({*encodings.aliases.aliases.values(), "idna", "punycode", "unicode_escape", "utf_8_sig"}):
        try:
            check_encoding(encoding)
        except UsageError:
            continue
        for turn in range(12):
            length = chance.choice((1, 2, 9, 60))
            data = bytes(chance.randrange(256) for _ in range(length))
            if turn % 3 == 0:
                with suppress(UnicodeError):
                    data = MIXED.encode(encoding, "ignore")[:length] + data
            elif turn % 3 == 1:
                data = bytes(byte % 128 for byte in data)
            source.path.write_bytes(data)
            reader = Reader([source], encoding=encoding, chunk=chance.choice((1, 3, 100)))
            text = refused(partial("".join, reader), TextError)
            (text or "").encode()  # no surrogate among them


def test_ten_thousand_distinct_characters_are_trained_on() -> None:
    Path("t.txt").write_text("".join(map(chr, range(0x3400, 0x3400 + 10_000))) * 2, encoding="utf-8")
    ends_well("train", "t.txt", "--steps", "2", "--batch-size", "2", *SMALL, codes={0})


@pytest.mark.parametrize("name", ["a\nb.txt", "caf\udce9.txt", "\x1b[31m.txt", "-x.txt", " .txt", "[a].txt", "é" * 100])
def test_a_file_of_any_name_is_prepared_and_trained_on_or_refused_in_one_line(name: str) -> None:
    Path(name).write_text("some text\n" * 30)
    source = f"./{name}"
    assert ends_well("prepare", source, codes={0}) == 0
    code = ends_well("train", source, "--steps", "2", *SMALL)
    if code:
        assert ends_well("train", source, "--steps", "2", *SMALL, "--run", "t", codes={0}) == 0
    ends_well("sample", "--length", "5", codes={0})
    ends_well("eval", codes={0})
    ends_well("info", codes={0})


# ---------------------------------------------------------------------- a file that changes

LINES = "".join(f"line {n} é 世\n" for n in range(300)).encode()
CHANGES: dict[str, Callable[[Path], object]] = {
    "grows": lambda path: path.write_bytes(LINES + b"more\n"),
    "grows by new characters": lambda path: path.write_bytes(LINES + "ßøπ".encode()),
    "shrinks": lambda path: os.truncate(path, len(LINES) // 2),
    "shrinks into a character": lambda path: os.truncate(path, LINES.index("世".encode(), 2000) + 1),
    "becomes empty": lambda path: os.truncate(path, 0),
    "becomes another of the same size": lambda path: path.write_bytes(LINES[::-1].replace(b"\n", b" ")[: len(LINES)]),
    "becomes other text of the same size": lambda path: path.write_bytes(LINES.replace(b"line", b"LINE")),
    "becomes binary": lambda path: path.write_bytes(bytes(len(LINES))),
    "goes": lambda path: path.unlink(),
    "becomes a folder": lambda path: (path.unlink(), path.mkdir()),
    "may no longer be read": lambda path: (path.unlink(), path.symlink_to("/nowhere")),
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("unit", ["char", "byte"])
def test_a_file_that_changes_while_it_is_read_is_refused_in_one_line_or_read_whole(kind: str, unit: str) -> None:
    path = Path("t.txt")
    path.write_bytes(LINES)
    steps: list[int] = []
    settings = PrepareSettings(unit, (100, 0, 0))  # type: ignore[arg-type]
    prepare(["t.txt"], force=True, settings=settings, chunk=500, progress=lambda done, total: steps.append(done))
    whole = LINES.decode()
    for when in range(len(steps)):
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(LINES)
        calls: list[int] = []

        def change(done: int, total: int, when: int = when, calls: list[int] = calls) -> None:
            if len(calls) == when:
                CHANGES[kind](path)
            calls.append(done)

        read = partial(prepare, ["t.txt"], force=True, settings=settings, chunk=500, progress=change)
        corpus = refused(read, TextError)
        if corpus is None:
            assert everything(Corpus.open("corpora/t")) == whole  # what was there stays
        else:
            whole = everything(corpus)
            assert whole == LINES.decode() or whole.encode() == path.read_bytes()


# ---------------------------------------------------------------------- large

MEASURED = r"""
import re, sys
from pathlib import Path
from charrnn.cli import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    peak = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]
    print(f"code {end.code or 0} megabytes {int(peak) // 1024}", file=sys.stderr)
"""


def measured(*arguments: str) -> tuple[int, int]:
    """Exit code, and most memory in megabytes, of a command in a process of its own."""
    done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True)
    _, code, _, megabytes = done.stderr.splitlines()[-1].split()
    return int(code), int(megabytes)


def line_of(megabytes: int) -> None:
    """``t.txt``: a single line of this length."""
    with open("t.txt", "wb") as stream:
        for _ in range(megabytes):
            stream.write(b"0123456789abcdef" * (1 << 16))


def test_a_line_of_twenty_megabytes_is_a_text() -> None:
    line_of(20)
    assert ends_well("prepare", "t.txt", codes={0}) == 0
    ends_well("train", "t", "--steps", "2", "--split", "90,5,5", "--validate-every", "9", *SMALL, codes={0, 2})
    assert Corpus.open("corpora/t").characters == 20 << 20


proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")


@pytest.mark.slow
@proc
def test_a_line_of_a_gigabyte_is_a_text_and_takes_no_more_memory() -> None:
    line_of(1024)
    code, megabytes = measured("prepare", "t.txt")
    assert (code, megabytes < 150) == (0, True), megabytes
    code, megabytes = measured("train", "t.txt", "--steps", "2", "--split", "99.9,0.1,0", *SMALL)
    assert (code, megabytes < 700) == (0, True), megabytes


@pytest.mark.slow
@proc
def test_a_hundred_thousand_distinct_characters_are_trained_on() -> None:
    codes = [code for code in range(0x100, 0x20000) if not 0xD800 <= code < 0xE000][:100_000]
    Path("t.txt").write_text("".join(map(chr, codes)), encoding="utf-8")
    code, megabytes = measured("prepare", "t.txt")
    assert (code, megabytes < 200) == (0, True), megabytes
    code, megabytes = measured("train", "t.txt", "--steps", "2", *SMALL)
    assert (code, megabytes < 8000) == (0, True), megabytes
