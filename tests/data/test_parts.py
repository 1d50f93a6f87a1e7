"""A text that is read in parts, by several processes, again after it was interrupted, is the text read at once."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import charrnn
from charrnn.data import parts, workers, writing
from charrnn.data.corpus import Corpus, PrepareSettings, prepare
from charrnn.data.parts import Counted, Part, Placed, Written, cut
from charrnn.data.reading import Source
from charrnn.data.workers import Report
from charrnn.errors import ResourceError, TextError
from charrnn.files import Hold

TEXTS = ["an old\n", "one, né", "\ufeff", "zwei\r", "\n漢字\r\n", "x" * 40, "🙂 end"]
SPLIT = PrepareSettings(split=(60, 30, 10))


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts, "PART", 10)


def files(texts: list[str] = TEXTS) -> list[str]:
    shutil.rmtree("texts", ignore_errors=True)
    Path("texts").mkdir()
    for number, text in enumerate(texts):
        Path(f"texts/{number:03}.txt").write_bytes(text.encode())
    return [f"texts/{number:03}.txt" for number in range(len(texts))]


def facts(corpus: Corpus) -> dict[str, Any]:
    """All that a corpus says of itself and its ids, but for the files they are in."""
    known = dataclasses.asdict(corpus)
    ids = np.concatenate([np.asarray(corpus.ids(split)) for split in corpus.splits if corpus.splits[split].characters])
    return {**known, "ids": ids.tolist(), "shards": None, "path": None}


def whole(names: list[str], how: PrepareSettings = SPLIT) -> dict[str, Any]:
    """The facts of a text that is read at once."""
    part, parts.PART = parts.PART, 1 << 30
    corpus = prepare(names, name="texts", settings=how, force=True)
    parts.PART = part
    assert corpus.shards == (corpus.characters,)
    return facts(corpus)


@settings(max_examples=30)
@given(
    texts=st.lists(st.text(st.sampled_from("ab\n\ré漢🙂"), min_size=1), min_size=1, max_size=8),
    part=st.integers(1, 20),
    unit=st.sampled_from(["char", "byte"]),
    newlines=st.sampled_from(["keep", "lf"]),
    least=st.integers(1, 2),
)
def test_parts_make_up_the_text(texts: list[str], part: int, unit: Any, newlines: Any, least: int) -> None:
    names, least = files(texts), least if len("".join(texts)) > 12 else 1
    how = PrepareSettings(unit=unit, newlines=newlines, split=(60, 30, 10), min_count=least)
    parts.PART = part
    corpus = prepare(names, name="texts", settings=how, force=True, chunk=3)
    there = ["corpus.json", *(writing.shard(number) for number in range(len(corpus.shards)))]
    assert sorted(os.listdir(corpus.path)) == sorted(there)
    assert facts(corpus) == whole(names, how)


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=400), part=st.integers(1, 60), most=st.integers(1, 9))
def test_parts_are_large_enough_and_not_too_many(sizes: list[int], part: int, most: int) -> None:
    parts.PART, before = part, parts.MOST
    parts.MOST = most
    sources = [Source(str(number), Path(str(number))) for number in range(len(sizes))]
    groups = cut(sources, sizes)
    parts.MOST = before
    assert [source for group in groups for source in group] == sources
    enough = max(part, -(-sum(sizes) // most))
    assert len(groups) <= max(1, min(most, -(-sum(sizes) // part)))
    for number, group in enumerate(groups):
        of = [sizes[int(source.name)] for source in group]
        last = max((n for n, size in enumerate(of) if size), default=0)
        assert sum(of[:last]) < enough
        assert number == len(groups) - 1 or sum(of) >= enough


def test_several_processes_make_the_same_corpus_and_tell_how_far_they_are() -> None:
    names, told = files(), []
    corpus = prepare(names, name="texts", settings=SPLIT, processes=2, progress=lambda *done: told.append(done))
    assert len(corpus.shards) > 3
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] == 2 * sum(len(text.encode()) for text in TEXTS)
    assert facts(corpus) == whole(names)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_bad_byte_in_any_part_is_one_line_and_leaves_nothing(processes: int) -> None:
    names = files()
    Path(names[-2]).write_bytes(b"x" * 20 + b"\xff" + b"x" * 20)
    with pytest.raises(TextError, match=r"005.txt: byte 0xff at offset 20 \(line 1\) is not UTF-8"):
        prepare(names, name="texts", settings=SPLIT, processes=processes)
    assert os.listdir("corpora") == []


def die(job: int, report: Report) -> int:
    if job == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def test_a_worker_that_is_killed_is_one_line() -> None:
    with pytest.raises(ResourceError, match="killed"):
        list(workers.each(die, range(9), 2, lambda more: None))


def fail_or_go_on(job: int, report: Report) -> None:
    if job == 0:
        time.sleep(0.5)
        raise TextError("bad")
    for _ in range(1000):
        time.sleep(0.1)
        report(1)


def test_a_failure_stops_the_other_workers() -> None:
    began = time.monotonic()
    with pytest.raises(TextError, match="bad"):
        list(workers.each(fail_or_go_on, range(4), 2, lambda more: None))
    assert time.monotonic() - began < 60  # of 100 s


class Counting:
    """The two walks, counted; the one numbered ``last`` is interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int = 10**9) -> None:
        self.done, self.last = 0, last
        monkeypatch.setattr(writing, "count", self._counted(parts.count))
        monkeypatch.setattr(writing, "write_ids", self._counted(parts.write_ids))

    def _counted(self, work: Callable[[Any, Report], Any]) -> Callable[[Any, Report], Any]:
        def run(job: Part | Placed, report: Report) -> Counted | Written:
            if self.done == self.last:
                raise KeyboardInterrupt
            self.done += 1
            return work(job, report)

        return run


@pytest.mark.parametrize("place", range(8))
def test_what_was_done_before_an_interruption_is_not_done_again(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    names = files()
    expected = whole(names)
    shutil.rmtree("corpora")
    total = 2 * len(cut([Source(name, Path(name)) for name in names], [os.path.getsize(name) for name in names]))
    assert total == 8
    Counting(monkeypatch, place)
    with pytest.raises(KeyboardInterrupt, match="goes on" if place else None):
        prepare(names, name="texts", settings=SPLIT)
    assert len(os.listdir("corpora")) == (1 if place else 0)
    again = Counting(monkeypatch)
    told: list[tuple[int, int]] = []
    corpus = prepare(names, name="texts", settings=SPLIT, progress=lambda *done: told.append(done))
    assert again.done == total - place
    assert told[-1][0] == told[-1][1]
    assert facts(corpus) == expected
    assert os.listdir("corpora") == ["texts"]


@pytest.mark.parametrize("harm", ["text", "settings", "entry", "other files", "ids are gone", "ids are cut off"])
def test_what_is_no_longer_so_is_done_again(harm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names, how = files(), SPLIT
    Counting(monkeypatch, 7)
    with pytest.raises(KeyboardInterrupt):
        prepare(names, name="texts", settings=how)
    (left,) = Path("corpora").iterdir()
    assert len(list(left.glob("written-*.done"))) == 3
    if harm == "text":
        Path(names[1]).write_text("newer")
    elif harm == "settings":
        how = dataclasses.replace(SPLIT, newlines="lf")
    elif harm == "entry":
        for number, path in enumerate(sorted(left.glob("*.done"))):
            path.write_bytes((b"", b"[1]", json.dumps({"key": None}).encode())[number % 3])
    elif harm == "ids are gone":
        (left / "ids-1.npy").unlink()
    elif harm == "ids are cut off":
        os.truncate(left / "ids-1.npy", 130)
    else:
        names = names[2:]
    Counting(monkeypatch)
    corpus = prepare(names, name="texts", settings=how)
    assert facts(corpus) == whole(names, how)
    assert os.listdir("corpora") == ["texts"]


@pytest.mark.parametrize("entered", [True, False])
def test_ids_of_one_preparation_are_not_taken_for_those_of_another(
    entered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, other = files(["abcabcabd!\n"] * 4), dataclasses.replace(SPLIT, min_count=5)
    expected = whole(names)
    Counting(monkeypatch, 7)
    with pytest.raises(KeyboardInterrupt):
        prepare(names, name="texts", settings=SPLIT, force=True)
    done: list[Placed] = []

    def interrupted(job: Placed, report: Report) -> Written:
        """The second part is written, and its entry perhaps not."""
        if len(done) == 2:
            raise KeyboardInterrupt
        written = parts.write_ids(job, report)
        done.append(job)
        if len(done) == 2 and not entered:
            raise KeyboardInterrupt
        return written

    Counting(monkeypatch)
    monkeypatch.setattr(writing, "write_ids", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(names, name="texts", settings=other, force=True)
    assert len(done) == 2
    Counting(monkeypatch)
    assert facts(prepare(names, name="texts", settings=SPLIT, force=True)) == expected
    assert os.listdir("corpora") == ["texts"]


def test_what_is_cut_off_while_a_corpus_is_made_takes_no_other_ones_place(monkeypatch: pytest.MonkeyPatch) -> None:
    names = files()
    expected = whole(names)

    def harmed(job: Placed, report: Report) -> Written:
        written = parts.write_ids(job, report)
        if job.path.name == "ids-2.npy":
            os.truncate(job.path.with_name("ids-1.npy"), 100)
        return written

    monkeypatch.setattr(writing, "write_ids", harmed)
    with pytest.raises(ResourceError, match=r"ids-1\.npy: has been cut off"):
        prepare(names, name="texts", settings=SPLIT, force=True)
    assert facts(Corpus.open("corpora/texts")) == expected
    assert os.listdir("corpora") == ["texts"]


def test_what_standard_input_gave_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    names = files()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a text\n")))
    Counting(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        prepare(["-", *names], name="texts", settings=SPLIT)
    assert os.listdir("corpora") == []


def test_a_folder_that_somebody_holds_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    names = files()
    Counting(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        prepare(names, name="texts", settings=SPLIT)
    (left,) = Path("corpora").iterdir()
    left = left.rename("corpora/.texts.99999999.tmp")  # of a process that cannot be seen from here
    held = Hold(left, "mine")
    again = Counting(monkeypatch)
    prepare(names, name="texts", settings=SPLIT)
    assert again.done == 8
    held.close()
    again = Counting(monkeypatch)
    prepare(names, name="texts", settings=SPLIT, force=True)
    assert again.done == 5
    assert os.listdir("corpora") == ["texts"]


PROGRAM = """
import sys
from charrnn.data import parts
from charrnn.data.corpus import prepare
if __name__ == "__main__":
    parts.PART = 10_000
    prepare(sys.argv[1:], name="texts", chunk=1000, processes=2)
"""


@pytest.fixture
def start() -> Callable[[], subprocess.Popen[str]]:
    """Starts a process that prepares forty files with two workers; all are a group of their own."""
    names = files([f"{number} {'né ' * 2000}\n" for number in range(40)])
    Path("program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(charrnn.__file__).parents[1])}
    command = [sys.executable, "program.py", *names]
    return lambda: subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True)


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def entries() -> set[str]:
    return {path.name for path in Path("corpora").glob(".texts.*.tmp/*.done")}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_stopped_while_workers_read_it_goes_on_and_no_worker_stays(by: int, start: Any) -> None:
    first = start()
    wait_until(lambda: len(entries()) > 4 or first.poll() is not None)
    if by == signal.SIGINT:
        os.killpg(first.pid, by)  # as a terminal does
        assert "KeyboardInterrupt: interrupted; the same command goes on (corpora/.texts." in first.communicate()[1]
    else:
        first.kill()
    first.wait()
    wait_until(lambda: not _group_lives(first.pid))
    done = entries()
    assert len(done) > 4
    second = start()
    wait_until(lambda: len(entries()) > len(done) or second.poll() is not None)
    assert done < entries()
    assert second.wait() == 0
    assert os.listdir("corpora") == ["texts"]
    names = sorted(str(path) for path in Path("texts").iterdir())
    assert facts(Corpus.open("corpora/texts")) == whole(names, PrepareSettings())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_worker_that_is_killed_takes_nothing_with_it(start: Any) -> None:
    first = start()
    wait_until(lambda: len(entries()) > 4)
    (worker, *_) = [
        int(process)
        for process in Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        if b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    ]
    os.kill(worker, signal.SIGKILL)
    assert "the same command goes on" in first.communicate()[1]
    assert len(entries()) > 4
    assert start().wait() == 0
    assert os.listdir("corpora") == ["texts"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_at_any_moment_it_ends_the_same(start: Any) -> None:
    names = sorted(str(path) for path in Path("texts").iterdir())
    expected = whole(names, PrepareSettings())
    chance = random.Random(1)
    for _ in range(4):
        shutil.rmtree("corpora")
        for _ in range(5):
            process = start()
            time.sleep(chance.uniform(0.2, 1))
            process.kill()
            process.communicate()
            wait_until(lambda group=process.pid: not _group_lives(group))
            if os.path.isdir("corpora/texts"):
                break
        else:
            assert start().wait() == 0
        assert os.listdir("corpora") == ["texts"]
        assert facts(Corpus.open("corpora/texts")) == expected


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
