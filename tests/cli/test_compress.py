"""``charrnn compress`` and ``decompress`` as a user meets them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Done, call

from charrnn.checkpoint import Checkpoint
from charrnn.data.vocabulary import Vocabulary

TEXT = b"the cat sat on the mat\r\n\0" * 30 + "été".encode() + b"\xff"


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Callable[..., Checkpoint]) -> None:
    """Two runs, and a file."""
    monkeypatch.chdir(tmp_path)
    for n, (name, vocabulary) in enumerate({"chars": Vocabulary.of("\n acehmnost"), "bytes": None}.items()):
        path = Path("checkpoints", name, "best.safetensors")
        path.parent.mkdir(parents=True)
        tiny_checkpoint(vocabulary or Vocabulary(tuple(range(256)), "byte"), hidden_size=8).save(path)
        os.utime(path, (n, n))  # "bytes" is the run trained last
    Path("notes.txt").write_bytes(TEXT)


def fails(code: int, said: str, *arguments: str) -> None:
    done = call(*arguments)
    assert (done.code, done.stdout, len(done.stderr.splitlines())) == (code, "", 1), done
    assert said in done.stderr


def test_a_file_comes_back_and_the_figures_are_its_own() -> None:
    done = call("compress", "notes.txt", "chars", "--json")
    said = json.loads(done.stdout)
    size = Path("notes.txt.crnn").stat().st_size
    assert (said["schema"], said["bytes"], said["compressed_bytes"]) == (1, len(TEXT), size)
    assert said["ratio"] == size / len(TEXT)
    assert said["bits_per_byte"] == 8 * size / len(TEXT)
    assert said["characters"] == len(TEXT.decode("utf-8", "replace"))
    assert said["unseen"] == 30 * 2 + 3  # CR and NUL; é twice, and the byte that is not UTF-8
    Path("notes.txt").unlink()
    # The run trained last is another one; the file says which it was.
    done = call("decompress", "notes.txt.crnn", "--json")
    assert json.loads(done.stdout)["checkpoint"].endswith("checkpoints/chars/best.safetensors")
    assert Path("notes.txt").read_bytes() == TEXT
    assert call("decompress", "notes.txt.crnn", "chars", "--output", "again").code == 0
    assert Path("again").read_bytes() == TEXT


def test_it_is_as_large_as_eval_says() -> None:
    text = b"the mean cat hates the santa\n" * 150  # nothing that eval reads in another way
    Path("notes.txt").write_bytes(text)
    promised = json.loads(call("eval", "bytes", "--text", "notes.txt", "--json").stdout)
    size = json.loads(call("compress", "notes.txt", "--json").stdout)["compressed_bytes"]
    assert size == pytest.approx(promised["nats_per_char"] / math.log(2) * len(text) / 8, rel=0.01, abs=58 + 8)


def test_the_empty_file_and_several_checkpoints() -> None:
    Path("empty").touch()
    assert call("compress", "empty", "--quiet").code == 0
    assert call("decompress", "empty.crnn", "--force").code == 0
    assert Path("empty").read_bytes() == b""
    assert call("compress", "notes.txt", "bytes", "bytes").code == 0
    fails(4, "no run under", "decompress", "notes.txt.crnn", "--force")
    fails(4, "another checkpoint", "decompress", "notes.txt.crnn", "bytes", "--force")
    assert call("decompress", "notes.txt.crnn", "bytes", "bytes", "--output", "again").code == 0
    assert Path("again").read_bytes() == TEXT


def test_what_is_there_is_not_touched_without_force() -> None:
    Path("notes.txt.crnn").write_text("mine")
    fails(2, "is there already; add --force", "compress", "notes.txt")
    assert Path("notes.txt.crnn").read_text() == "mine"
    assert call("compress", "notes.txt", "--force").code == 0
    fails(2, "is there already; add --force", "decompress", "notes.txt.crnn")
    Path("notes.txt").write_text("another")
    assert call("decompress", "notes.txt.crnn", "--force").code == 0
    assert Path("notes.txt").read_bytes() == TEXT
    assert sorted(path.name for path in Path().iterdir()) == ["checkpoints", "notes.txt", "notes.txt.crnn"]


def test_what_cannot_be_is_one_line_and_its_code() -> None:
    assert call("compress", "notes.txt", "chars").code == 0
    whole = Path("notes.txt.crnn").read_bytes()
    Path("cut.crnn").write_bytes(whole[:-1])
    Path("text.crnn").write_bytes(TEXT)
    Path("later.crnn").write_bytes(whole[:4] + b"\2" + whole[5:])
    fails(3, "damaged or cut short", "decompress", "cut.crnn")
    fails(3, "damaged or cut short", "decompress", "cut.crnn", "chars")
    fails(3, "is not a file that charrnn compress has written", "decompress", "text.crnn", "chars")
    fails(3, "format 2", "decompress", "later.crnn", "chars")
    fails(4, "another checkpoint", "decompress", "notes.txt.crnn", "bytes", "--force")
    fails(2, "--output FILE", "decompress", "notes.txt", "chars")
    fails(2, "there is no such folder", "compress", "notes.txt", "--output", "no/where")
    fails(2, "is a folder", "compress", "notes.txt", "--output", "checkpoints")
    fails(3, "no such file", "compress", "missing")
    fails(3, "is a folder", "compress", "checkpoints")
    fails(4, "nowhere", "compress", "notes.txt", "nowhere", "--output", "x")
    assert not [path for path in Path().iterdir() if path.name in ("cut", "text", "later", "x")]


def test_reports_are_for_people_and_obey_nothing() -> None:
    Path("a\x1b[31m.txt").write_bytes(TEXT)
    done: Done = call("compress", "a\x1b[31m.txt", "chars")
    assert "63 characters of the file are not in the model's vocabulary" in done.stderr
    assert "decodes to the same" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    done = call("decompress", "a\x1b[31m.txt.crnn", "--force")
    assert f"{len(TEXT):,} bytes, the same as were compressed" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
