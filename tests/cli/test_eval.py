"""``charrnn eval`` as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from charrnn.checkpoint import Checkpoint
from charrnn.cli import console
from charrnn.cli.eval import evaluate_command
from charrnn.config import Config
from charrnn.data.corpus import Corpus, prepare
from charrnn.data.vocabulary import Vocabulary
from charrnn.errors import CharRNNError, UsageError
from charrnn.presets import TRAINING

app = typer.Typer()
app.command()(evaluate_command)
TEXT = "the cat sat\nthé dog sät, 日本\r\n\nend\n" * 60


@pytest.fixture(autouse=True)
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Callable[..., Checkpoint]) -> Corpus:
    """A run with the corpus that it might have been trained on, and a model of bytes."""
    monkeypatch.chdir(tmp_path)
    console.out.cache_clear()
    Path("cats.txt").write_text(TEXT, encoding="utf-8", newline="")
    corpus = prepare(["cats.txt"])
    Path("checkpoints/cats").mkdir(parents=True)
    made = tiny_checkpoint(corpus.vocabulary)
    Checkpoint(Config(made.config.model, TRAINING), made.vocabulary, made.weights, corpus.description()).save(
        Path("checkpoints/cats/best.safetensors")
    )
    tiny_checkpoint(Vocabulary(tuple(range(256)), "byte")).save(Path("byte.safetensors"))
    return corpus


def run(*arguments: str, stdin: bytes | None = None) -> str:
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    if result.exception:
        raise result.exception
    return result.stdout


def lines(*arguments: str, stdin: bytes | None = None) -> list[dict]:
    return json.loads(run("--per-line", "--json", *arguments, stdin=stdin))["lines"]


def test_lines_of_a_model_of_bytes_are_scored_as_the_bytes_that_they_are() -> None:
    (bad, good) = lines("byte.safetensors", "--text", "-", stdin=b"caf\xe9\ncaf\xc3\xa9\n")
    assert [bad["characters"], bad["unseen"], good["characters"], good["line"]] == [4, 0, 5, "café"]
    whole = json.loads(run("byte.safetensors", "--text", "-", "--json", stdin=b"caf\xe9"))
    assert bad["nats"] == pytest.approx(whole["nats_per_char"] * 4, abs=1e-4)
    assert bad["bits_per_byte"] == pytest.approx(whole["bits_per_byte"], abs=1e-5)


def test_lines_are_those_of_the_text_that_eval_would_score_whole(corpus: Corpus) -> None:
    split = [line for line in corpus.text("validation").replace("\r", "\n").split("\n") if line]
    assert [row["line"] for row in lines()] == split
    assert lines() == lines("--text", "cats") == lines("--text", str(corpus.path))
    assert [row["line"] for row in lines("--split", "train")][:3] == ["the cat sat", "thé dog sät, 日本", "end"]
    assert [row["line"] for row in lines("--text", "-", stdin=b"a cat\n\nsat")] == ["a cat", "sat"]
    (row,) = lines("--text", "-", stdin="thé 日\ud83d".encode("utf-8", "replace"))
    assert row["bits_per_byte"] * len("thé 日?".encode()) == pytest.approx(row["bits_per_char"] * 6)


def test_a_window_longer_than_the_text_scores_it_whole() -> None:
    one, other = (json.loads(run("--window", str(size), "--json")) for size in (10_000, 10**30))
    assert one["nats_per_char"] == pytest.approx(json.loads(run("--json"))["nats_per_char"], abs=1e-5)
    assert one["nats_per_char"] == other["nats_per_char"]


def test_an_unknown_device_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="foo"):
        run("--device", "foo")


def test_what_says_nothing_together_is_a_usage_error() -> None:
    for arguments in (["--per-line", "--exact"], ["--per-line", "--text", "cats.txt", "--split", "train"]):
        with pytest.raises(CharRNNError) as caught:
            run(*arguments)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_no_character_is_too_rare_for_the_output(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    Path("t\udcff.txt").write_text("日本\n", encoding="utf-8")
    for arguments in (
        ["eval", "--per-line"],
        ["eval", "--text", "t\udcff.txt"],
        ["info", "cats"],
        ["info", "corpora/cats"],
        ["inspect", "text"],
        ["prepare", "cats.txt", "--name", "again", "--force"],
    ):
        done = subprocess.run([sys.executable, "-m", "charrnn", *arguments], capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode(encoding)
    if encoding == "utf-8":
        done = subprocess.run(
            [sys.executable, "-m", "charrnn", "eval", "--per-line"], capture_output=True, env=environment
        )
        assert "thé dog sät, 日本" in done.stdout.decode()


@pytest.mark.parametrize(
    "arguments",
    ["eval --text -", "inspect text --text -", "compare cats cats --text -", "sample --prompt-file -"],
)
def test_a_closed_standard_input_is_one_line(arguments: str) -> None:
    command = f"{sys.executable} -m charrnn {arguments} <&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("charrnn: ")
    assert "standard input is closed" in done.stderr


def test_closed_outputs_are_no_bug() -> None:
    def charrnn(arguments: str) -> subprocess.CompletedProcess:
        command = f"{sys.executable} -m charrnn {arguments}"
        return subprocess.run(["bash", "-c", command], capture_output=True, text=True)

    done = charrnn("sample >&-")
    assert done.returncode == 2
    assert "standard output is closed" in done.stderr
    for arguments in ("eval >&-", "eval --per-line >&-", "compare cats cats >&-", "inspect text >&-", "info >&-"):
        done = charrnn(arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments
    done = charrnn("sample --length 5 2>&-")
    assert done.returncode == 0
    assert len(done.stdout) == 5


def test_several_checkpoints_are_scored_as_one_and_dynamic_evaluation_apart() -> None:
    one = json.loads(run("cats", "--json"))
    assert one["characters"] < 2048  # one lane; of a longer text there are several
    longer = [json.loads(run(*names, "--text", "cats.txt", "--json")) for names in (["cats"], ["cats", "cats"])]
    assert longer[1]["nats_per_char"] == pytest.approx(longer[0]["nats_per_char"], rel=1e-6)
    twins = json.loads(run("cats", "cats", "--json"))
    assert twins["nats_per_char"] == pytest.approx(one["nats_per_char"], rel=1e-6)
    assert twins["checkpoint"] == f"{one['checkpoint']} + {one['checkpoint']}"
    dynamic = json.loads(run("cats", "--json", "--dynamic"))
    assert (dynamic["dynamic"], one["dynamic"]) == (True, False)
    assert (dynamic["dynamic_rate"], one["dynamic_rate"]) == (3e-4, None)
    assert dynamic["nats_per_char"] < one["nats_per_char"]
    assert "dynamic evaluation" in run("cats", "cats", "--dynamic")
    for other in (["--window", "9"], ["--exact"], ["--per-line"]):
        with pytest.raises(UsageError, match="--dynamic"):
            run("cats", "--dynamic", *other)
