"""What may be named as text, and the one line each thing that is wrong with it gets."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.data.reading import LineEnds, Reader, Source, check_encoding, likely_encoding
from charrnn.data.sources import corpus_name, gather
from charrnn.errors import CharRNNError, TextError, UsageError


def read(*names: object, chunk: int = 1 << 20, pattern: str | None = None, **options: object) -> str:
    with gather([str(name) for name in names], pattern=pattern) as found:
        return "".join(Reader(found.sources, chunk=chunk, **options))  # type: ignore[arg-type]


def complaint(*names: object, pattern: str | None = None, **options: object) -> str:
    with pytest.raises(TextError) as caught:
        read(*names, pattern=pattern, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_text_equals_plain(tmp_path: Path, pack: object) -> None:
    text = "Schöne Grüße, 世界\r\n" * 5000
    suffix = {gzip.compress: "gz", bz2.compress: "bz2", lzma.compress: "xz"}[pack]  # type: ignore[index]
    path = tmp_path / f"a.txt.{suffix}"
    path.write_bytes(pack(text.encode()))  # type: ignore[operator]
    assert read(path) == text
    assert corpus_name(str(path)) == "a"


@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, "gz"), (bz2.compress, "bz2"), (lzma.compress, "xz")])
@pytest.mark.parametrize("harm", ["cut", "overwritten", "plain"])
def test_damaged_archives_are_one_line(tmp_path: Path, pack: object, suffix: str, harm: str) -> None:
    whole: bytes = pack(os.urandom(20_000).hex().encode())  # type: ignore[operator]
    data = {"cut": whole[:-9000], "overwritten": whole[:50] + b"\x55" * 500 + whole[550:], "plain": b"just text\n"}
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data[harm])
    assert "damaged or cut short" in complaint(path)


def test_the_hash_is_of_the_bytes_on_disk(tmp_path: Path) -> None:
    import hashlib

    data = bz2.compress(b"hello\n") + b"something after it" * 100_000
    path = tmp_path / "a.bz2"
    path.write_bytes(data)
    reader = Reader([Source("a", path)], chunk=2)
    assert "".join(reader) == "hello\n"
    assert reader.records[0].sha256 == hashlib.sha256(data).hexdigest()
    assert reader.records[0].size == len(data)


@given(
    before=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff\0")),
    chunk=st.integers(1, 9),
    bad=st.sampled_from([b"\xe9t\xe9", b"\xff", b"\x80", b"\xf5", b"\xed\xa0\x80", b"\xc0\xaf"]),
)
def test_a_bad_byte_is_found_where_it_is(
    tmp_path_factory: pytest.TempPathFactory, before: str, chunk: int, bad: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bad.txt"
    path.write_bytes(before.encode() + bad + b" and more text")
    line = 1 + before.replace("\r\n", "\n").replace("\r", "\n").count("\n")
    message = complaint(path, chunk=chunk)
    place = f"byte 0x{bad[0]:02x} at offset {len(before.encode())} (line {line}) is not UTF-8"
    assert f"{path}: {place}" in message


def test_a_bad_byte_names_the_likely_encoding(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(("line\n" * 16 + "Le café très agréable, déjà vu\n").encode("cp1252"))
    assert complaint(path) == (
        f"{path}: byte 0xe9 at offset 86 (line 17) is not UTF-8; it looks like cp1252: try --encoding cp1252"
    )
    assert read(path, encoding="cp1252").endswith("café très agréable, déjà vu\n")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Съешь же ещё этих мягких французских булок да выпей чаю"),
        ("koi8_r", "Съешь же ещё этих мягких французских булок да выпей чаю"),
        ("gb18030", "我能吞下玻璃而不伤身体。今天天气很好,我们去公园散步吧。"),
        ("shift_jis", "いろはにほへと ちりぬるを わかよたれそ つねならむ 今日は良い天気です"),
        ("cp1252", "café"),
        # These are possible in cp1252 too, but less likely.
        ("cp1250", "Dvořák wrote nine symphonies; Janáček wrote operas"),
        ("cp1254", "Erdoğan met the mayor of İstanbul and Beşiktaş won 3:1"),
    ],
)
def test_common_encodings_are_recognised(encoding: str, text: str) -> None:
    assert likely_encoding(text.encode(encoding)) == encoding


def test_damage_in_utf8_is_not_called_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Съешь же ещё этих булок\n".encode() * 20 + b"\xff" + "да выпей чаю\n".encode())
    assert "mend the byte" in complaint(path)


def test_it_is_damage_only_where_good_characters_are_many_more_than_bad_bytes() -> None:
    guesses = [likely_encoding(b"plain words " + "é ".encode() * good + b"and \xe9 more\n") for good in range(12)]
    assert None not in guesses[:5]  # two Western letters may chance to look like one of UTF-8
    assert guesses[5:] == [None] * 7


@pytest.mark.parametrize("data", [b"\x7fELF\x01\x01\xe9abc", b"a bell \x07 and \xe9", b"\xb1 3\xb0", b"\x93\x94\x81"])
def test_bytes_that_are_like_no_text_are_not_given_an_encoding(data: bytes) -> None:
    assert likely_encoding(data) is None


def test_a_file_cut_inside_a_character_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("abc\n世".encode()[:-1])
    message = complaint(path)
    assert "offset 4 (line 2)" in message
    assert "ends in the middle of a character" in message


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_byte_order_marks_are_obeyed_and_removed(tmp_path: Path, encoding: str, chunk: int) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("naïve 世界 🎭\r\n".encode(encoding))
    assert read(path, chunk=chunk) == "naïve 世界 🎭\r\n"


def test_big_endian_marks_are_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for encoding, mark in (("utf-16-be", b"\xfe\xff"), ("utf-32-be", b"\0\0\xfe\xff")):
        path.write_bytes(mark + "naïve".encode(encoding))
        assert read(path) == "naïve"
    path.write_bytes("\ufeffnaïve".encode("utf-16-le"))
    assert read(path, encoding="utf-16-le") == "naïve"


@pytest.mark.parametrize("chunk", range(1, 8))
def test_offsets_count_the_byte_order_mark(tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfab\xff")
    assert "offset 5 (line 1)" in complaint(path, chunk=chunk)


def test_the_encoding_given_goes_before_that_of_a_file_s_kind_and_the_text_is_utf8_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes("é\n".encode("cp1252"))
    for asked, known in (("cp1252", None), ("cp1252", "utf-8"), (None, "cp1252")):
        reader = Reader([Source("a", path, known)], encoding=asked)
        assert "".join(reader) == "é\n"
        assert (reader.encodings, reader.utf8) == (["cp1252"], True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "gb18030"])
def test_only_the_first_character_of_a_file_can_be_its_mark(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    data = "\ufeff\ufeffa\ufeff\ufeffb\ufeff".encode(encoding)
    path.write_bytes(data)
    for chunk in range(1, len(data) + 1):
        assert read(path, encoding=encoding, chunk=chunk) == "\ufeffa\ufeff\ufeffb\ufeff"


def test_each_encoding_is_named_once_in_the_order_in_which_it_was_met(tmp_path: Path) -> None:
    encodings = ["utf-16", "utf-8", "utf-8-sig", "utf-8", "utf-16", "utf-32"]
    sources = [Source(str(place), tmp_path / str(place)) for place in range(len(encodings))]
    for source, encoding in zip(sources, encodings, strict=True):
        source.path.write_text("é\n", encoding=encoding)
    reader = Reader(sources)
    assert "".join(reader) == "é\n" * 6
    assert reader.encodings == list(dict.fromkeys(encodings))


@given(st.text("ab\r\n"), st.integers(1, 4), st.sampled_from(["keep", "lf"]))
def test_line_ends_are_counted_and_folded_across_pieces(text: str, size: int, newlines: str) -> None:
    ends = LineEnds(newlines)  # type: ignore[arg-type]
    pieces = [ends.feed(text[i : i + size]) for i in range(0, len(text), size)]
    result = "".join(pieces) + ends.feed("", final=True)
    folded = io.IncrementalNewlineDecoder(None, translate=True).decode(text, final=True)
    assert result == (folded if newlines == "lf" else text)
    bare = text.replace("\r\n", "")
    assert ends.counts() == {"crlf": text.count("\r\n"), "lf": bare.count("\n"), "cr": bare.count("\r")}


def test_files_are_joined_with_a_newline_only_where_one_lacks(tmp_path: Path) -> None:
    for name, text in (("a", "one"), ("b", "two\n"), ("c", "three\r"), ("d", "four")):
        (tmp_path / name).write_bytes(text.encode())
    paths = [tmp_path / name for name in "abcd"]
    assert read(*paths) == "one\ntwo\nthree\rfour"
    assert read(*reversed(paths)) == "four\nthree\rtwo\none"


def test_a_folder_is_read_in_order_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    files = {"b/2.py": "b2\n", "a.py": "a\n", "b.py": "b\n", "b/1.py": "b1\n", "b/x.txt": "x\n"}
    files |= {".hidden.py": "no\n", ".git/y.py": "no\n", "bin.py": "no\0", "empty.py": ""}
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with gather([str(tmp_path)], pattern="*.py") as found:
        assert "".join(Reader(found.sources)) == "a\nb\nb1\nb2\n"
        assert (found.hidden, found.binary, found.empty) == (2, 1, 1)
        assert found.skipped() == "2 hidden, 1 binary, 1 empty"
    assert read(tmp_path) == "a\nb\nb1\nb2\nx\n"
    assert read(tmp_path, pattern="b/*.py") == "b1\nb2\n"
    assert read(tmp_path / "b" / "*.py") == "b1\nb2\n"
    assert read(tmp_path / "**" / "[12].py") == "b1\nb2\n"
    assert read(tmp_path, pattern="[12].py") == "b1\nb2\n"
    assert read(tmp_path, pattern=".h*") == "no\n"  # who names hidden files wants them


def test_a_folder_s_files_with_marks_are_text_in_spite_of_their_zero_bytes(tmp_path: Path) -> None:
    for encoding in ("utf-16-be", "utf-16-le", "utf-32-be", "utf-32-le"):
        (tmp_path / encoding).write_bytes(f"\ufeff{encoding}\n".encode(encoding))
        (tmp_path / f"{encoding} without").write_bytes("no\n".encode(encoding))
    assert read(tmp_path) == "utf-16-be\nutf-16-le\nutf-32-be\nutf-32-le\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_only_files_of_a_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / "b.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "c.txt")  # nobody writes to it
    (tmp_path / "d.txt").mkdir()
    (tmp_path / "e.txt").symlink_to(tmp_path / "a.txt")
    assert read(tmp_path) == read(tmp_path / "*") == "a\na\n"


def test_what_this_program_made_below_a_folder_is_no_text(tmp_path: Path) -> None:
    made = {"corpora/a": ("corpus.json", "ids.npy"), "runs/a": ("best.safetensors",), "runs/b": ("last.safetensors",)}
    for folder, names in made.items():
        for name in (*names, "README.md", "more/samples.txt"):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("not this\n")
    (tmp_path / "a.txt").write_text("this\n")
    assert read(tmp_path) == "this\n"
    with gather([str(tmp_path)]) as found:
        assert found.skipped() == "3 made by charrnn"


def test_standard_input_is_read_and_its_copy_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO("grüß\n".encode())

    monkeypatch.setattr("sys.stdin", Stdin)
    with gather(["-"]) as found:
        assert found.name == "stdin"
        for _ in range(2):
            assert "".join(Reader(found.sources)) == "grüß\n"
        copy = found.sources[0].path
        assert found.sources[0].spooled
    assert not copy.exists()
    with pytest.raises(TextError, match="standard input: is empty"), gather(["-"]):
        pass
    monkeypatch.setattr("sys.stdin", None)
    assert "standard input is closed" in complaint("-")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("from a pipe\n",))
    writer.start()
    assert read(pipe) == "from a pipe\n"
    writer.join()


def test_what_cannot_be_used_gets_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"abc\0def")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert "no such file, folder or corpus" in complaint(tmp_path / "missing")
    assert "is empty" in complaint(tmp_path / "empty")
    assert "no file there holds text" in complaint(tmp_path / "folder")
    assert "no file there" in complaint(tmp_path / "*.nothing")
    assert "is a link to nothing" in complaint(tmp_path / "dangling")
    assert "is binary, not text (a zero byte at offset 3)" in complaint(tmp_path / "binary")
    assert read(tmp_path / "binary", unit="byte") == "abc\0def"
    assert read(tmp_path / "binary", encoding="ascii") == "abc\0def"
    assert "matches '*.py' and holds text" in complaint(tmp_path / "folder", pattern="*.py")
    assert "no file there holds text" in complaint(tmp_path / "*.nothing", pattern="*.py")  # it is for folders
    assert "cannot be the name of a file" in complaint("a\0b")
    assert "cannot be read" in complaint("x" * 5000)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_file_without_permission_gets_one_line(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(0)
    assert "permission denied" in complaint(path)


def test_refused_permission_is_one_line_for_any_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_text("x")

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert complaint(path) == f"{path}: may not be read (permission denied); change its permissions or use a copy"


def test_a_folder_in_a_folder_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "a.txt").write_text("x")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    secret = tmp_path / "secret"
    assert complaint(tmp_path) == f"{secret}: may not be read (permission denied); change its permissions or use a copy"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_standard_input_without_room_for_a_copy_is_one_line(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    class Stdin:
        buffer = io.BytesIO(b"text\n")

    def full(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("sys.stdin", Stdin)
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(CharRNNError) as caught:
        read("-")
    if number == errno.EIO:
        assert (caught.value.exit_code, str(caught.value)) == (3, "-: cannot be read (Input/output error)")
    else:
        assert caught.value.exit_code == 6
        assert re.fullmatch(
            r"standard input: no room for a copy in \S+; set TMPDIR to a larger disk", str(caught.value)
        )


def test_a_missing_file_is_one_line_also_where_progress_is_shown(tmp_path: Path) -> None:
    for progress in (None, lambda done, total: None):
        with pytest.raises(TextError, match="no such file"):
            list(Reader([Source("a", tmp_path / "a")], progress=progress))


def test_a_corpus_is_called_after_what_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "poems" / "old.d").mkdir(parents=True)
    (tmp_path / "poems" / "[x].txt").touch()
    (tmp_path / "poems" / "link.txt").symlink_to("[x].txt")
    monkeypatch.chdir(tmp_path / "poems")
    expected = {
        ".": "poems", "old.d/..": "poems", "old.d": "old.d", "*.txt": "text", "[x].txt": "[x]", "a/b*/c": "a",
        "..a": "text", "a.TXT.XZ": "a", "a.tar.gz": "a", "...": "text", ".gz": "gz", "a.b.txt": "a.b",
        "link.txt": "link", "/": "text",
    }  # fmt: skip
    assert {name: corpus_name(name) for name in expected} == expected
    (tmp_path / "poems" / "[x].txt").write_text("x\n")
    with gather(["link.txt", "[x].txt"]) as found:
        assert found.name == "link"  # the first of several


def test_codecs_that_are_not_text_encodings_are_refused() -> None:
    for encoding in ("klingon", "base64", "rot13", "undefined", "", "utf\0"):
        with pytest.raises(UsageError, match="no text encoding"):
            check_encoding(encoding)
    check_encoding("gb18030")


@pytest.mark.parametrize("encoding", ["utf-7", "punycode", "unicode-escape", "raw-unicode-escape"])
def test_half_a_surrogate_pair_is_not_text(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    for half in "\ud800", "\udfff":
        path.write_bytes(f"a{half}b".encode(encoding))
        assert f"is not {encoding}" in complaint(path, encoding=encoding)


@given(st.binary(min_size=1), st.integers(1, 5))
def test_bytes_are_read_as_they_are(tmp_path_factory: pytest.TempPathFactory, data: bytes, chunk: int) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(data)
    reader = Reader([Source("bytes", path)], unit="byte", chunk=chunk)
    assert "".join(reader).encode("latin-1") == data
    try:
        data.decode()
    except UnicodeDecodeError:
        assert not reader.utf8
    else:
        assert reader.utf8


@pytest.mark.parametrize("chunk", range(1, 8))
def test_bytes_are_known_to_be_utf8_whatever_the_pieces(tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "bytes"
    for text, valid in (("aé世🎭".encode(), True), ("aé世🎭".encode()[:-1], False), (b"a\xe9" + "世".encode(), False)):
        path.write_bytes(text)
        reader = Reader([Source("bytes", path)], unit="byte", chunk=chunk)
        list(reader)
        assert reader.utf8 == valid
    sources = [Source("bad", path), Source("good", tmp_path / "good")]
    sources[1].path.write_text("good\n")
    for order in (sources, sources[::-1]):
        reader = Reader(order, unit="byte", chunk=chunk)
        list(reader)
        assert not reader.utf8


def test_progress_ends_at_the_size_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"abc\n" * 10_000))
    calls: list[tuple[int, int]] = []
    list(Reader([Source("a", path)] * 2, chunk=1000, progress=lambda done, total: calls.append((done, total))))
    size = path.stat().st_size
    assert calls[-1] == (2 * size, 2 * size)
    assert calls == sorted(calls)


@pytest.mark.parametrize("text", ["Où?", "déjà vu café\n", "“Yes,” she said — it’s true…\n"])
def test_a_short_western_text_is_recognised_too(tmp_path: Path, text: str) -> None:
    assert likely_encoding(text.encode("cp1252")) == "cp1252"
