"""Prepared corpora: the text comes back, the splits are where they belong, stale and damaged ones are noticed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.data import corpus as corpora
from charrnn.data import writing
from charrnn.data.corpus import Corpus, PrepareSettings, prepare, resolve
from charrnn.data.filearray import FileArray
from charrnn.data.parts import Counted, Part
from charrnn.data.reading import Source, SourceRecord
from charrnn.data.workers import Report
from charrnn.data.writing import boundaries, fingerprint
from charrnn.errors import CharRNNError, ResourceError, TextError, UsageError

SHARED = Path(__file__).parents[3] / "shared" / "corpora"
TRAIN_ONLY = (100, 0, 0)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def file(text: str | bytes, name: str = "a.txt") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    return name


def everything(corpus: Corpus) -> str:
    return "".join(corpus.text(split) for split in corpus.splits)


@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
        lambda text: "\0" not in text and text != "\ufeff"
    ),
    chunk=st.integers(1, 7),
    newlines=st.sampled_from(["keep", "lf"]),
)
def test_any_text_comes_back_whatever_the_chunks(text: str, chunk: int, newlines: str) -> None:
    source = file(text)
    settings = PrepareSettings(newlines=newlines)  # type: ignore[arg-type]
    corpus = prepare([source], settings=settings, force=True, chunk=chunk)
    expected = text.removeprefix("\ufeff")
    if newlines == "lf":
        expected = expected.replace("\r\n", "\n").replace("\r", "\n")
    assert everything(corpus) == expected
    assert corpus.bytes == len(expected.encode())
    assert corpus.characters == len(expected)
    for part in corpus.splits.values():
        assert part.bytes == len(expected[part.start : part.end].encode())
    counts = dict(zip(map(chr, corpus.vocabulary.codes), corpus.vocabulary.counts, strict=True))
    assert counts == Counter(expected)


@given(st.binary(min_size=1), st.integers(1, 7))
def test_any_bytes_come_back(data: bytes, chunk: int) -> None:
    source = file(data)
    corpus = prepare([source], settings=PrepareSettings("byte", TRAIN_ONLY), force=True, chunk=chunk)
    assert corpus.vocabulary.decode_bytes(corpus.ids("train")) == data
    assert corpus.text("train") == data.decode("utf-8", "replace")
    assert corpus.bytes == len(data)


@given(st.text("abcdefgh ", min_size=1), st.integers(1, 5))
def test_rare_characters_become_unknown_as_a_counter_says(text: str, least: int) -> None:
    counts = Counter(text)
    source = file(text)
    settings = PrepareSettings(split=TRAIN_ONLY, min_count=least)
    if max(counts.values()) < least:
        with pytest.raises(UsageError, match="no character occurs that often"):
            prepare([source], settings=settings, force=True)
        return
    corpus = prepare([source], settings=settings, force=True, chunk=3)
    kept = {c for c, n in counts.items() if n >= least}
    assert set(map(chr, corpus.vocabulary.codes)) == kept
    assert corpus.text("train") == "".join(c if c in kept else "\ufffd" for c in text)
    assert corpus.unknown == corpus.splits["train"].unknown == sum(n for c, n in counts.items() if c not in kept)
    assert corpus.distinct == len(counts)


@pytest.mark.parametrize("split", [(90, 5, 5), (80, 10, 10), (33.3, 33.3, 33.4), (100, 0, 0), (50, 0, 50)])
def test_splits_are_contiguous_percentages(split: tuple[float, float, float]) -> None:
    text = "".join(random.Random(1).choices("abcdé世", k=997))
    corpus = prepare([file(text)], settings=PrepareSettings(split=split), chunk=100)
    first, second = int(997 * split[0] / 100), int(997 * round(split[0] + split[1], 9) / 100)
    bounds = [(part.start, part.end) for part in corpus.splits.values()]
    assert bounds == [(0, first), (first, second), (second, 997)]
    for name, (start, end) in zip(corpus.splits, bounds, strict=True):
        assert corpus.text(name) == text[start:end]
        assert corpus.text(name, 3, 7) == text[start:end][3:7]
        if start == end:
            with pytest.raises(TextError, match=f"its {name} split is empty"):
                corpus.ids(name)
        else:
            assert len(corpus.ids(name)) == end - start


def test_the_split_of_the_literature_is_met() -> None:
    assert boundaries(1_115_394, (90, 10, 0)) == [0, 1_003_854, 1_115_394, 1_115_394]


def test_one_character_is_a_corpus() -> None:
    corpus = prepare([file("x")])
    assert everything(corpus) == "x"
    assert len(corpus.vocabulary) == 2


def test_thousands_of_characters_take_two_bytes_each() -> None:
    text = "".join(chr(0x4E00 + i) for i in range(4000)) * 2
    corpus = prepare([file(text)], chunk=1000)
    assert everything(corpus) == text
    assert corpus.ids("train").dtype == np.uint16
    assert corpus.distinct == 4000


@pytest.mark.parametrize(
    ("distinct", "dtype"), [(255, "uint8"), (256, "uint16"), (65_535, "uint16"), (65_536, "uint32")]
)
def test_ids_are_of_the_smallest_type_that_holds_unknown(distinct: int, dtype: str) -> None:
    codes = [c for c in range(0x100, 0x12000) if not 0xD800 <= c < 0xE000][:distinct]
    corpus = prepare([file("".join(map(chr, codes)))])
    assert corpus.dtype == dtype
    assert int(corpus.ids("train").max()) == corpus.splits["train"].end - 1


def test_stale_text_is_noticed_by_its_hash_even_if_size_and_date_agree() -> None:
    source = file("the first text\n" * 9)
    corpus = prepare([source])
    corpus.check_sources()
    date = os.stat(source)
    file("the other text\n" * 9)
    os.utime(source, ns=(date.st_atime_ns, date.st_mtime_ns))
    with pytest.raises(TextError, match=r"changed since .*charrnn prepare .* --name a --force"):
        resolve("a")
    os.remove(source)
    assert resolve("a").fingerprint == corpus.fingerprint  # gone, not changed


def test_a_new_file_in_a_folder_is_noticed() -> None:
    file("one\n", "texts/1.txt")
    prepare(["texts"], name="t")
    resolve("t")
    file("two\n", "texts/2.txt")
    with pytest.raises(TextError, match="has other files since"):
        resolve("t")
    assert everything(resolve("texts")) == "one\ntwo\n"


def test_raw_text_is_prepared_once_and_again_when_it_or_the_settings_change() -> None:
    source = file("some text\n" * 20)
    lines: list[str] = []
    first = resolve(source, notify=lines.append)
    written = (first.path / "ids.npy").stat().st_mtime_ns
    again = resolve(source, notify=lines.append)
    assert again.path == first.path == Path("corpora/a")
    assert (again.path / "ids.npy").stat().st_mtime_ns == written
    assert ["preparing" in lines[0], "unchanged" in lines[1]] == [True, True]
    other = resolve(source, settings=PrepareSettings(split=(80, 10, 10)))
    assert other.path.name == f"a-{other.fingerprint[:8]}"
    file("some more text\n" * 20)
    changed = resolve(source)
    assert everything(changed) == "some more text\n" * 20
    assert len({first.path, other.path, changed.path}) == 3
    assert everything(Corpus.open(first.path)) == "some text\n" * 20  # never touched


def test_a_prepared_corpus_is_taken_as_it_is_or_refused() -> None:
    corpus = prepare([file("text " * 50)], name="mine", settings=PrepareSettings("byte"))
    assert resolve("mine").fingerprint == resolve("corpora/mine").fingerprint == corpus.fingerprint
    assert resolve("mine", settings=PrepareSettings("byte")).fingerprint == corpus.fingerprint
    with pytest.raises(UsageError, match="was not prepared with --unit char --split 80,10,10"):
        resolve("mine", settings=PrepareSettings(split=(80, 10, 10)))
    with pytest.raises(UsageError, match="is a prepared corpus, not text"):
        prepare(["corpora/mine"])


def test_only_the_settings_that_were_given_are_compared() -> None:
    corpus = prepare([file("text " * 50)], name="mine", settings=PrepareSettings(split=(80, 10, 10)))
    unit = PrepareSettings(given=frozenset({"unit"}))
    assert resolve("mine", settings=unit).fingerprint == corpus.fingerprint
    for named in (frozenset({"unit", "split"}), None):
        with pytest.raises(UsageError, match=r"was not prepared with --split 90,5,5; leave"):
            resolve("mine", settings=PrepareSettings(given=named))
    raw = resolve("a.txt", settings=unit)
    assert raw.settings == PrepareSettings()
    assert raw.settings.given is None
    assert resolve("a.txt").path == raw.path


def test_a_corpus_is_found_again_by_its_name_or_else_by_its_path(workplace: Path) -> None:
    source = file("text\n" * 20)
    named = prepare([source], name="a")
    odd = prepare([source], name="-x")
    hidden = prepare([source], name="b")
    Path("b").mkdir()
    away = prepare([source], output=Path("out/c"))
    dash = prepare([source], output=Path("-out/d"))
    expected = {"a": named, "corpora/-x": odd, "corpora/b": hidden, "out/c": away, "./-out/d": dash}
    for word, corpus in expected.items():
        assert corpus.arguments() == Corpus.open(corpus.path.absolute()).arguments() == [word]
        assert resolve(word).path == corpus.path


def test_a_description_for_others_tells_no_folder_above_the_current_one(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = prepare([file("text\n")])
    assert corpus.description()["path"] == "corpora/a"
    assert Corpus.open(workplace / "corpora/a").description()["path"] == "corpora/a"
    Path("below").mkdir()
    monkeypatch.chdir("below")
    assert Corpus.open("../corpora/a").description()["path"] == "../corpora/a"
    assert Corpus.open(workplace / "corpora/a").description()["path"] == str(workplace / "corpora/a")


LONG = "x" * 5000


@pytest.mark.parametrize("use", [resolve, lambda name: prepare([name]), Corpus.open, lambda name: resolve([name, "a"])])
def test_a_name_that_is_too_long_is_one_line(use: Callable[[str], Corpus]) -> None:
    for name in (LONG, f"{LONG}/{LONG}", f"{LONG}*"):
        with pytest.raises(TextError, match="cannot be read"):
            use(name)


def test_a_place_with_too_long_a_name_is_one_line() -> None:
    source = file("text\n")
    with pytest.raises(UsageError, match="must be a plain name"):
        prepare([source], name=LONG)
    with pytest.raises(UsageError, match="cannot be written"):
        prepare([source], output=Path(LONG))
    with pytest.raises(UsageError, match="cannot be written"):
        prepare([source], name="x" * 255)  # leaves no room for a temporary name


def test_corpora_that_may_not_be_looked_into_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    source = file("text\n")
    prepare([source])
    stat = os.stat

    def refuse(path: object, *arguments: object, **options: object) -> object:
        if str(path).startswith("corpora/"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refuse)
    for name in ("a", "other", source, "python-stdlib"):
        with pytest.raises(TextError, match="may not be read"):
            resolve(name)
    with pytest.raises(UsageError, match="cannot be written"):
        prepare([source])


def test_sources_that_may_not_be_looked_at_are_taken_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    file("text\n", "texts/a.txt")
    corpus = prepare(["texts"])
    stat = os.stat

    def refuse(path: object, *arguments: object, **options: object) -> object:
        if "texts/" in f"{path}/" and "corpora" not in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refuse)
    corpus.check_sources()


def test_corpora_that_are_no_folder_are_one_line() -> None:
    source = file("text\n")
    file("not a folder", "corpora")
    for name in ("b", "corpora/b"):
        with pytest.raises(TextError, match=r"no such file|cannot be read"):
            resolve(name)
    for use in (resolve, lambda name: prepare([name])):
        with pytest.raises(UsageError, match="cannot be written"):
            use(source)  # type: ignore[operator]
    with pytest.raises(TextError, match="cannot be read"):
        Corpus.open("corpora/a")


@pytest.mark.skipif(os.name == "nt", reason="names of files are Unicode there")
def test_the_name_of_a_file_need_not_be_utf8() -> None:
    corpus = prepare([file("text\n", os.fsdecode(b"caf\xe9.txt"))])
    assert corpus.name == os.fsdecode(b"caf\xe9")
    corpus.check_sources()


def test_nothing_is_replaced_without_force_and_only_a_corpus_with_it() -> None:
    source = file("text one\n")
    prepare([source])
    with pytest.raises(UsageError, match="is there already; --force"):
        prepare([source])
    file("text two\n")
    assert everything(prepare([source], force=True)) == "text two\n"
    Path("precious").mkdir()
    file("keep me", "precious/thesis.txt")
    with pytest.raises(UsageError, match="is not a corpus"):
        prepare([source], output=Path("precious"), force=True)
    assert Path("precious/thesis.txt").read_text() == "keep me"
    assert sorted(os.listdir("corpora")) == ["a"]
    for name in ("", "../x", ".x", "a/b"):
        with pytest.raises(UsageError, match="must be a plain name"):
            prepare([source], name=name)


def test_what_a_killed_run_left_is_cleared_and_a_corpus_moved_aside_comes_back() -> None:
    source = file("text\n")
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    corpus = prepare([source])
    corpus.path.rename(f"corpora/.a.{finished.pid}.old")
    # Another's, a living process's, and what this program does not make.
    kept = [f".b.{finished.pid}.tmp", f".a.{os.getppid()}.tmp", f".a.{finished.pid}.new", ".a.x.tmp", ".a.b.old"]
    for name in (*kept, f".a.{finished.pid}.tmp", f".a.{os.getpid()}.tmp"):
        Path("corpora", name).mkdir()
    prepare([source], force=True)
    assert sorted(os.listdir("corpora")) == sorted([*kept, "a"])
    Path(f"corpora/.a.{finished.pid}.old").mkdir()  # one that had been replaced
    prepare([source], force=True)
    assert sorted(os.listdir("corpora")) == sorted([*kept, "a"])


def test_remains_of_a_process_of_another_user_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(process: int, signal: int) -> None:
        assert (process, signal) == (123, 0)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", kill)
    Path("corpora/.a.123.tmp").mkdir(parents=True)
    prepare([file("text\n")])
    assert sorted(os.listdir("corpora")) == [".a.123.tmp", "a"]


@pytest.mark.parametrize("name", ["[a]", "*", "?"])
def test_a_name_with_the_marks_of_a_pattern_clears_only_its_own_remains(name: str) -> None:
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    for left in (name, "a"):
        Path(f"corpora/.{left}.{finished.pid}.tmp").mkdir(parents=True)
    prepare([file("text\n")], name=name)
    assert sorted(os.listdir("corpora")) == sorted([f".a.{finished.pid}.tmp", name])


def test_a_failure_keeps_the_old_corpus_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    source = file("text\n")
    prepare([source])

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    # The second: when the old one is aside, and the new one not yet there.
    for place, name, harm in ((writing, "write_ids", full), (os, "rename", full)):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, harm)
            with pytest.raises(ResourceError, match="free some space"):
                prepare([source], force=True)
        assert os.listdir("corpora") == ["a"]
        assert everything(Corpus.open("corpora/a")) == "text\n"


@pytest.mark.parametrize("other", ["two\n", "one\n"])
def test_texts_of_one_name_that_are_prepared_at_once_go_beside_each_other(
    monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    Path("b").mkdir()
    sources = file("one\n"), file(other, "b/a.txt")
    write_ids, corpora_ = writing.write_ids, []

    def overtaken(*arguments: object) -> object:
        if not corpora_:
            corpora_.append(None)
            with monkeypatch.context() as patch:
                patch.setattr(os, "getpid", os.getppid)  # another process's
                corpora_[0] = resolve([sources[1]])
        return write_ids(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(writing, "write_ids", overtaken)
    first = resolve([sources[0]])
    assert (everything(first), everything(corpora_[0])) == ("one\n", other)
    assert (first.path == corpora_[0].path) == (other == "one\n")
    assert len(os.listdir("corpora")) == (1 if other == "one\n" else 2)
    assert first.path.name == ("a" if other == "one\n" else f"a-{first.fingerprint[:8]}")


def test_preparing_by_name_never_takes_the_place_of_what_came_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    source, write_ids = file("one\n"), writing.write_ids

    def overtaken(*arguments: object) -> object:
        monkeypatch.setattr(writing, "write_ids", write_ids)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", os.getppid)  # another process's
            prepare([file("two\n", "b.txt")], name="a")
        return write_ids(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(writing, "write_ids", overtaken)
    with pytest.raises(UsageError, match="meanwhile"):
        prepare([source])
    assert everything(Corpus.open("corpora/a")) == "two\n"
    assert os.listdir("corpora") == ["a"]


def test_a_corpus_that_is_replaced_after_it_was_opened_is_not_taken_for_it() -> None:
    corpus = prepare([file("one\n" * 50)])
    whole = Corpus.open("corpora/a")
    assert "one" in whole.text("train")  # and is in memory now
    prepare([file("two\n" * 50)], force=True)
    with pytest.raises(TextError, match="replaced"):
        corpus.ids("train")
    assert "one" in whole.text("train")


def test_a_corpus_that_a_killed_process_had_moved_aside_is_found_again() -> None:
    prepare([file("one\n", "poem")])
    os.remove("poem")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    os.rename("corpora/poem", f"corpora/.poem.{dead.pid}.old")
    assert everything(resolve("poem")) == "one\n"


def test_a_text_that_changes_while_it_is_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = file("text\n")
    count = writing.count

    def count_and_change(part: Part, report: Report) -> Counted:
        counted = count(part, report)
        file("tent\n")
        return counted

    monkeypatch.setattr(writing, "count", count_and_change)
    with pytest.raises(TextError, match="changed while it was read"):
        prepare([source])
    assert os.listdir("corpora") == []


@pytest.mark.parametrize(
    "key",
    [
        *("format", "name", "fingerprint", "dtype", "distinct", "splits", "encodings", "line_ends", "utf8"),
        *("vocabulary", "sources", "settings", "named"),
    ],
)
def test_a_damaged_description_is_one_line(key: str) -> None:
    corpus = prepare([file("text\n")])
    document = json.loads((corpus.path / "corpus.json").read_text())
    for harm in (None, 7.5, {}, [7], float("inf")):
        assert "\n" not in damaged(corpus, {**document, key: harm})


def damaged(corpus: Corpus, document: object) -> str:
    """What is said of a corpus with that description."""
    text = document if isinstance(document, str) else json.dumps(document)
    (corpus.path / "corpus.json").write_text(text)
    with pytest.raises(TextError, match=r"corpora/a: (is damaged|has corpus format)") as caught:
        Corpus.open(corpus.path)
    return str(caught.value)


def test_damage_deeper_in_a_description_is_one_line() -> None:
    corpus = prepare([file("text\n")])
    document = json.loads((corpus.path / "corpus.json").read_text())
    source = document["sources"][0]
    for text in ("{", "[" * 100_000, "7"):
        damaged(corpus, text)
    for key, harm in (("path", 7), ("size", "7"), ("sha256", None)):
        damaged(corpus, {**document, "sources": [{**source, key: harm}]})
    for key, harm in (("pattern", 7), ("unit", []), ("split", "abc"), ("split", [1e999, 0, 0]), ("min_count", 1.5)):
        damaged(corpus, {**document, "settings": {**document["settings"], key: harm}})
    for name in ("", ".", "..", "../../esc", "/etc", "a/b", "a/", "a\0", "x" * 300):
        damaged(corpus, {**document, "name": name})


@pytest.mark.parametrize("length", [6, 20_000_000])
def test_ids_that_the_vocabulary_lacks_are_noticed(length: int) -> None:
    corpus = prepare([file("ab" * (length // 2))])
    document = json.loads((corpus.path / "corpus.json").read_text())
    vocabulary = {**document["vocabulary"], "codes": document["vocabulary"]["codes"][:0], "counts": []}
    assert "has ids up to 1" in damaged(corpus, {**document, "vocabulary": vocabulary})


def test_every_id_of_a_small_corpus_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "_BLOCK", 3)
    monkeypatch.setattr(corpora, "_BLOCKS", 4)
    for length in range(1, 13):
        corpus = prepare([file("a" * length)], force=True)
        for place in range(length):
            np.save(corpus.path / "ids.npy", np.asarray([2 if i == place else 0 for i in range(length)], np.uint8))
            with pytest.raises(TextError, match="has ids up to 2"):
                Corpus.open(corpus.path)


@pytest.mark.parametrize("harm", ["short", "long", "type", "missing", "nonsense"])
def test_damaged_ids_are_noticed_before_they_are_mapped(harm: str) -> None:
    corpus = prepare([file("text\n")])
    path = corpus.path / "ids.npy"
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm == "type":
        np.save(path, np.zeros(5, np.float32))
    else:
        path.write_bytes({"short": data[:-1], "long": data + b"x", "nonsense": b"nonsense"}[harm])
    with pytest.raises(TextError, match="corpora/a: is "):
        Corpus.open(corpus.path)


def test_sizes_that_no_text_has_are_noticed() -> None:
    corpus = prepare([file("aaaa" * 5)])
    document = json.loads((corpus.path / "corpus.json").read_text())
    train = {"start": 0, "end": 18, "bytes": 18, "unknown": 0}
    fine = [{}, {"bytes": 72, "unknown": 18}]
    odd = [{"bytes": 17}, {"bytes": 73}, {"unknown": 19, "bytes": 72}, {"unknown": -1}]
    gaps = [{"start": 1}, {"end": 17}, {"end": 19}, {"end": 30}]
    for change in (*fine, *odd, *gaps):
        document["splits"]["train"] = {**train, **change}
        if change in fine:
            (corpus.path / "corpus.json").write_text(json.dumps(document))
            assert Corpus.open(corpus.path).splits["train"].characters == 18
        else:
            said = damaged(corpus, document)
            assert ("have impossible sizes" if change in odd else "do not cover the text") in said, change
    document["splits"]["train"] = train
    empty = {"unit": "char", "codes": [], "counts": []}
    assert "its vocabulary is empty" in damaged(corpus, {**document, "vocabulary": empty})
    other = {**document["vocabulary"], "unit": "byte"}
    assert "its vocabulary is another's" in damaged(corpus, {**document, "vocabulary": other})


def test_a_split_that_there_is_not_is_one_line() -> None:
    corpus = prepare([file("text\n")])
    for use in (corpus.ids, corpus.text):
        with pytest.raises(UsageError) as caught:
            use("dev")
        assert str(caught.value) == "dev: no such split; choose one of train, validation, test"


def test_sources_that_may_no_longer_be_read_are_taken_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    source = file("text\n", "texts/a.txt")
    corpus = prepare([source])

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(corpora, "read_chunks", refuse)
        corpus.check_sources()
    folder = prepare(["texts"], name="folder")
    os.remove(source)
    folder.check_sources()  # the folder is there, and nothing in it
    shutil.rmtree("texts")
    folder.check_sources()


def test_a_glob_is_noticed_to_have_other_files_and_to_be_prepared_as_it_was() -> None:
    for name in ("a.txt", "b.txt", "c.md"):
        file("some text\n", f"texts/{name}")
    settings = PrepareSettings("byte", pattern="*.txt")
    prepare(["texts/*.txt", "texts/c.md"], name="g", settings=settings).check_sources()
    file("more\n", "texts/more.md")
    resolve("g")
    file("more\n", "texts/d.txt")
    again = rf"prepare {os.getcwd()}/texts/\*\.txt' {os.getcwd()}/texts/c\.md --name g --unit byte --pattern '\*\.txt' "
    with pytest.raises(TextError, match=again.replace("prepare ", "prepare '") + "--force"):
        resolve("g")


def test_standard_input_is_kept_by_no_name_and_is_no_new_file_of_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"piped\n")

    monkeypatch.setattr("sys.stdin", Stdin)
    file("text\n", "texts/a.txt")
    corpus = prepare(["-", "texts"])
    assert [record.path for record in corpus.sources] == ["-", os.path.abspath("texts/a.txt")]
    corpus.check_sources()


def test_folders_of_bytes_and_names_like_patterns_are_not_taken_as_changed() -> None:
    file(b"a\0b" * 30, "texts/a.bin")
    file("text\n", "texts/a.txt")
    corpus = prepare(["texts"], name="prepared", settings=PrepareSettings("byte"))
    assert (len(corpus.sources), corpus.encodings) == (2, ("bytes",))
    corpus.check_sources()
    prepare([file("text\n", "[a].txt")]).check_sources()
    with pytest.raises(TextError, match="no such file, folder or corpus"):
        resolve(["prepared", "[a].txt"])  # a corpus is not joined with a text
    with pytest.raises(UsageError, match="is a prepared corpus, not text"):
        prepare(["[a].txt", "corpora/prepared"])


def test_a_fingerprint_stays_what_it_was() -> None:
    settings = PrepareSettings("char", (90, 5, 5), "*.py", "utf-8", "lf", 2)
    record, source = SourceRecord("a", 1, "00"), Source("a", Path("a"), "latin-1")
    assert (
        fingerprint([record], [source], settings) == "63177918a6f2718f34c96a4c59207fed380d8f99c9855fcd4534a74849bdb7e9"
    )
    assert (
        fingerprint([SourceRecord("b", 2, "00")], [source], settings)
        == "63177918a6f2718f34c96a4c59207fed380d8f99c9855fcd4534a74849bdb7e9"
    )


def test_a_registered_name_is_prepared_anew_with_other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("poem", Path(file("a poem\n" * 9)))
    monkeypatch.setattr(corpora, "is_registered", lambda name: name == "poem")
    monkeypatch.setattr(corpora, "registered", lambda name, *more: [source] if name == "poem" else None)
    first = resolve("poem")
    assert (first.path, first.named) == (Path("corpora/poem"), ("poem",))
    other = resolve("poem", settings=PrepareSettings("byte"))
    assert other.path == Path(f"corpora/poem-{other.fingerprint[:8]}")
    assert resolve("poem", settings=PrepareSettings("byte")).path == other.path
    assert resolve("poem").path == first.path
    prepare([source.name], name="mine", settings=PrepareSettings("byte"))
    with pytest.raises(UsageError, match="was not prepared with"):
        resolve("mine", settings=PrepareSettings())


def test_what_is_in_the_way_is_never_removed() -> None:
    source = file("text\n" * 9)
    Path("corpora/a").mkdir(parents=True)
    beside = resolve(source).path
    assert beside.name.startswith("a-")
    (beside / "corpus.json").write_text("{")
    with pytest.raises(TextError, match=f"{beside}: is damaged or not a corpus; remove it and run this again"):
        resolve(source)
    with pytest.raises(UsageError, match="no source given"):
        prepare([])


def test_a_corpus_that_is_not_there_is_one_line() -> None:
    with pytest.raises(TextError, match=r"is no prepared corpus .*charrnn prepare"):
        Corpus.open("nowhere")
    with pytest.raises(TextError, match="no such file, folder or corpus"):
        resolve("nowhere")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"split": (90, 5, 4)}, "adds up to 99"),
        ({"split": (0, 50, 50)}, "nothing to train on"),
        ({"split": (110, -5, -5)}, "three percentages"),
        ({"split": (float("nan"), 5, 5)}, "three percentages"),
        ({"unit": "word"}, "must be char or byte"),
        ({"newlines": "crlf"}, "must be keep or lf"),
        ({"min_count": 0}, "must be 1 or more"),
        ({"encoding": "klingon"}, "no text encoding"),
        ({"unit": "byte", "encoding": "utf-8"}, "no meaning with --unit byte"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options: dict[str, object], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        PrepareSettings(**options)  # type: ignore[arg-type]


def test_a_file_of_nothing_but_a_mark_holds_no_text() -> None:
    with pytest.raises(TextError, match="holds no text"):
        prepare([file(b"\xef\xbb\xbf")])
    assert not Path("corpora/a").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_place_without_permission_is_one_line() -> None:
    Path("locked").mkdir(mode=0o500)
    with pytest.raises(CharRNNError, match="choose a place with --output"):
        prepare([file("x")], output=Path("locked/x"))


def test_progress_covers_both_walks() -> None:
    calls: list[tuple[int, int]] = []
    prepare([file("x" * 10_000)], progress=lambda done, total: calls.append((done, total)), chunk=1000)
    assert calls == sorted(calls)
    assert calls[-1] == (20_000, 20_000)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared corpora are not here")
def test_shakespeare_has_its_65_characters() -> None:
    corpus = resolve(str(SHARED / "shakespeare.txt"), settings=PrepareSettings(split=(90, 10, 0)))
    assert len(corpus.vocabulary.codes) == 65
    assert corpus.splits["train"].end == 1_003_854
    text = corpus.text("train") + corpus.text("validation")
    digest = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    assert hashlib.sha256(text.encode()).hexdigest() == corpus.sources[0].sha256 == digest


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared corpora are not here")
def test_war_and_peace_keeps_its_line_ends_and_loses_its_mark() -> None:
    corpus = prepare([str(SHARED / "warpeace.txt")])
    assert corpus.encodings == ("utf-8-sig",)
    assert corpus.line_ends["lf"] == corpus.line_ends["cr"] == 0
    assert corpus.bytes == 3_258_246 - 3
    assert everything(corpus).encode() == (SHARED / "warpeace.txt").read_bytes()[3:]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's peak memory")
def test_memory_does_not_grow_with_the_text() -> None:
    program = (
        "import re, sys; from charrnn.data.corpus import prepare; prepare([sys.argv[1]], force=True); "
        "print(int(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]) // 1024)"
    )
    peaks = []
    for megabytes in (4, 64):
        source = file("All happy families are alike; né.\n" * (megabytes * 30_000))
        environment = {**os.environ, "PYTHONPATH": str(Path(corpora.__file__).parents[2])}
        run = subprocess.run([sys.executable, "-c", program, source], env=environment, capture_output=True, check=True)
        peaks.append(int(run.stdout))
    shutil.rmtree("corpora")
    assert peaks[1] - peaks[0] < 15
    assert peaks[1] < 150


def test_a_long_text_stays_in_its_file_and_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(chr(0x4E00 + i * i % 3000) for i in range(9000))
    corpus = prepare([file(text)])
    monkeypatch.setattr(corpora, "IN_MEMORY", 100)
    lazy = Corpus.open(corpus.path)
    assert isinstance(lazy.ids("train"), FileArray)
    for split in ("train", "validation", "test"):
        assert np.array_equal(np.asarray(lazy.ids(split)), corpus.ids(split))
        assert lazy.text(split) == corpus.text(split)
        assert lazy.text(split, 3, 50) == corpus.text(split, 3, 50)
