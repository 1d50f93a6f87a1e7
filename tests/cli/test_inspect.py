"""``charrnn inspect`` as a user meets it: every view in the terminal, as JSON, as a page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from charrnn.checkpoint import Checkpoint
from charrnn.cli import console
from charrnn.cli.inspect import inspect_app
from charrnn.data.corpus import Corpus, prepare
from charrnn.errors import CheckpointError, TextError, UsageError
from charrnn.inspection import VIEWS

TEXT = 'He said "no (never)", [bold]and[/x] <b>went</b>.\n\nShe: "I saw 12 é \x1b[31m of them?"\n\t日本 so\n' * 80
ARGUMENTS = {"cell": ["0.3"], "beam": ["He [/x]"]}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Callable[..., Checkpoint]) -> Corpus:
    """A run under ``checkpoints/`` with the corpus that it might have been trained on."""
    monkeypatch.chdir(tmp_path)
    console.out.cache_clear()
    console.err.cache_clear()
    Path("story.txt").write_text(TEXT, encoding="utf-8")
    corpus = prepare(["story.txt"])
    made = tiny_checkpoint(corpus.vocabulary)
    run = Path("checkpoints/story")
    run.mkdir(parents=True)
    Checkpoint(made.config, made.vocabulary, made.weights, corpus.description(), {"seconds": 1.5}).save(
        run / "best.safetensors"
    )
    return corpus


def run(*arguments: str, stdin: bytes | None = None) -> tuple[str, str]:
    result = CliRunner().invoke(inspect_app, list(arguments), input=stdin)
    if result.exception:
        raise result.exception
    return result.stdout, result.stderr


def test_a_page_is_written_through_a_link_and_into_a_pipe_which_stay_what_they_are() -> None:
    os.symlink("target.html", "link.html")
    run("gates", "story", "--html", "link.html")
    assert os.path.islink("link.html")
    page = Path("target.html").read_text()
    assert page.startswith("<!")
    os.mkfifo("pipe")
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        run("gates", "story", "--html", "pipe")
        assert reader.communicate(timeout=60)[0] == page
    assert not os.path.isfile("pipe")


@pytest.mark.parametrize("name", list(VIEWS))
def test_a_view_of_the_run_trained_last(name: str) -> None:
    stdout, _ = run(name, *ARGUMENTS.get(name, []))
    assert len(stdout.splitlines()) > 3
    assert "\x1b" not in stdout
    document = json.loads(run(name, *ARGUMENTS.get(name, []), "--json")[0])
    assert document["schema"] == 1
    stdout, stderr = run(name, *ARGUMENTS.get(name, []), "story", "--html", "page.html")
    assert (stdout, stderr) == ("", "wrote page.html\n")
    html = Path("page.html").read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert "<b>went" not in html
    assert len(html.encode()) < 2_000_000


def test_the_text_is_the_validation_split_unless_another_is_named(workplace: Corpus) -> None:
    document = json.loads(run("text", "--json", "--length", "50")[0])
    assert "".join(c["character"] for c in document["characters"]) == workplace.text("validation", 0, 50)
    document = json.loads(run("text", "--json", "--text", "-", "--length", "4", stdin="añb cd".encode())[0])
    assert [c["character"] for c in document["characters"]] == list("añb ")


def test_a_corpus_may_be_named_as_eval_takes_it(workplace: Corpus) -> None:
    """By the name that it has below corpora/, by its folder, or as a registered text."""
    expected = workplace.text("validation", 0, 50)
    prepare(["story.txt"], name="shakespeare")  # what was prepared under this name is taken for it
    for name in ("story", "corpora/story", "shakespeare"):
        document = json.loads(run("text", "--json", "--length", "50", "--text", name)[0])
        assert "".join(c["character"] for c in document["characters"]) == expected
    whole = json.loads(run("novelty", "--json", "--text", "story")[0])
    assert whole["sample"] == workplace.text("validation")


@pytest.mark.parametrize("view", ["text", "novelty"])
def test_a_text_of_another_encoding_and_other_line_ends(view: str) -> None:
    Path("old.txt").write_bytes("é said\r\nno".encode("cp1252"))
    with pytest.raises(TextError, match="--encoding cp1252"):
        run(view, "--text", "old.txt")
    told = json.loads(run(view, "--text", "old.txt", "--encoding", "cp1252", "--newlines", "lf", "--json")[0])
    assert (told.get("sample") or "".join(c["character"] for c in told["characters"])) == "é said\nno"
    for text in ([], ["--text", "story"]):
        with pytest.raises(UsageError, match="--encoding, --newlines: "):
            run(view, "--encoding", "cp1252", *text)


def test_without_colour_strengths_are_digits_under_the_characters() -> None:
    Path("t.txt").write_text("日a\x1b[b\n", encoding="utf-8")
    lines = run("text", "--text", "t.txt")[0].splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith("日"))
    assert lines[at] == "日a␛[b⏎"
    digits = lines[at + 1]
    assert digits[1] == " "  # the first character is two columns wide
    assert all(digit in " 123456789" for digit in digits)


def test_names_with_escape_sequences_are_shown_not_obeyed() -> None:
    Path("a\x1b[31m[bold].txt").write_text("text\n" * 100, encoding="utf-8")
    for name in ("cell", "novelty"):
        stdout, _ = run(name, *ARGUMENTS.get(name, []), "--text", "a\x1b[31m[bold].txt")
        assert "\x1b" not in stdout
    assert "a␛[31m[bold].txt" in stdout


def test_novelty_of_a_copy_and_of_something_new(workplace: Corpus) -> None:
    Path("copy.txt").write_text(workplace.text("train", 100, 400), encoding="utf-8")
    assert json.loads(run("novelty", "--text", "copy.txt", "--json")[0])["longest"]["length"] == 300
    new = json.loads(run("novelty", "--text", "-", "--json", stdin=b"ZZZZ")[0])
    assert new["longest"]["length"] == 0
    assert [row["share"] for row in new["unseen_ngrams"]] == [1.0] * 4
    drawn = json.loads(run("novelty", "--length", "30", "--seed", "3", "--json")[0])
    assert len(drawn["sample"]) == 30
    assert drawn == json.loads(run("novelty", "--length", "30", "--seed", "3", "--json")[0])


def test_thousands_are_set_apart_wherever_characters_are_counted(workplace: Corpus) -> None:
    Path("copy.txt").write_text(workplace.text("train", 100, 1600), encoding="utf-8")
    said = " ".join(run("novelty", "--text", "copy.txt")[0].split())
    assert said.count("1,500 characters") == 2  # all of them, and the longest stretch copied
    assert "1500" not in said


def test_errors_are_one_line_and_have_their_kind() -> None:
    for error, arguments in (
        (UsageError, ["cell", "9.9"]),
        (UsageError, ["cells", "--feature", "x=("]),
        (UsageError, ["text", "--html", "no/such/folder/page.html"]),
        (TextError, ["text", "--text", "missing.txt"]),
        (CheckpointError, ["text", "missing"]),
    ):
        with pytest.raises(error) as caught:
            run(*arguments)
        assert "\n" not in str(caught.value)


def test_help_is_quick() -> None:
    """Neither numpy nor torch is needed to say what the commands are."""
    code = (
        "import sys\nfrom charrnn.cli.inspect import inspect_app\nfrom charrnn.cli.compare import compare\n"
        "assert not {'numpy', 'torch'} & set(sys.modules), set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
