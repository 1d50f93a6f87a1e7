"""``charrnn score`` as a user meets it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import call

from charrnn.checkpoint import Checkpoint
from charrnn.data.vocabulary import Vocabulary

TEXT = "the cat\r\nsét on\r\rthe \x1b[31mmat\n\nend of it" * 3
LINES = ["high winds", "large winds tonight", "é", "high  winds", "winds"]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Callable[..., Checkpoint]) -> None:
    monkeypatch.chdir(tmp_path)
    letters = Vocabulary.of("\n abcdefghilmnorstw")
    tiny_checkpoint(letters).save(Path("chars.safetensors"))
    tiny_checkpoint(Vocabulary(tuple(range(256)), "byte")).save(Path("bytes.safetensors"))
    Path("lines.txt").write_text("\n".join(LINES))
    Path("text.txt").write_text(TEXT, newline="")


def score(*arguments: str, model: str = "chars", **more: str) -> dict[str, Any]:
    done = call("score", *arguments, "--checkpoint", f"{model}.safetensors", "--json", **more)
    assert done.code == 0, done
    return json.loads(done.stdout)


@pytest.mark.parametrize("model", ["chars", "bytes"])
def test_the_ranking_is_that_of_eval_per_line(model: str) -> None:
    rows = json.loads(call("eval", f"{model}.safetensors", "--text", "lines.txt", "--per-line", "--json").stdout)[
        "lines"
    ]
    rows.sort(key=lambda row: row["nats"])
    for found in (score(*LINES, model=model), score("--text", "lines.txt", model=model)):
        alternatives = found["alternatives"]
        assert [one["text"] for one in alternatives] == [row["line"] for row in rows]
        for one, row in zip(alternatives, rows, strict=True):
            assert one["bits_per_char"] == pytest.approx(row["bits_per_char"], rel=1e-5)
            assert one["bits"] == pytest.approx(row["bits_per_char"] * row["characters"], rel=1e-5)
            assert one["times_less_probable"] == pytest.approx(2 ** (one["bits"] - alternatives[0]["bits"]), rel=1e-6)


def test_a_table_for_people() -> None:
    done = call("score", "the cat", "the \x1b[31mcat", "--checkpoint", "chars.safetensors")
    head, best, other = done.stdout.splitlines()
    assert head.split() == ["bits", "per", "char", "less", "likely", "text"]
    assert best.endswith("best  the cat")
    assert other.endswith("the ␛[31mcat")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("model", ["chars", "bytes"])
def test_the_worst_are_those_that_inspect_finds_surprising(model: str) -> None:
    found = score("--text", "text.txt", "--worst", "12", model=model)
    inspected = call("inspect", "text", f"{model}.safetensors", "--text", "text.txt", "--top", "3", "--json")
    characters = json.loads(inspected.stdout)["characters"]
    order = sorted(range(len(characters)), key=lambda at: -characters[at]["bits"])
    assert [one["offset"] for one in found["worst"]] == order[:12]
    assert found["characters"] == len(characters)
    codes = TEXT if model == "chars" else TEXT.encode().decode("latin-1")
    for one in found["worst"]:
        expected = characters[one["offset"]]
        assert one["bits"] == pytest.approx(expected["bits"], abs=1e-4)
        for mine, theirs in zip(one["expected"], expected["likeliest"], strict=True):
            assert mine["character"] == theirs["character"]
            assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-4)
        prefix = codes[: one["offset"]]
        if model == "bytes":  # a byte in the middle of a character is in its column
            prefix = codes[: one["offset"] + 1].encode("latin-1").decode("utf-8", "replace")[:-1]
        if prefix.endswith("\r") and codes[one["offset"]] == "\n":
            prefix = prefix[:-1] + " "  # the two end one line
        before = re.split("\r\n|\r|\n", prefix)
        assert (one["line"], one["column"]) == (len(before), len(before[-1]) + 1)


def test_a_typo_is_shown_in_its_line_and_nothing_is_obeyed() -> None:
    done = call("score", "--text", "text.txt", "--worst", "200", "--checkpoint", "chars.safetensors")
    head, *rows = done.stdout.splitlines()
    assert head.startswith(f"text.txt: {len(TEXT):,} characters, ")
    assert len(rows) == len(TEXT)
    # TEXT three times over: its first é, with what stands around it.
    (row,) = [row for row in rows if row.lstrip().startswith("2:2 ")]
    assert re.search(r" 2:2 +\d+\.\d\d bits  the cat␍⏎s\[é\]t on␍␍the ␛\[  expected \S+ \d+%, \S+ \d+%, ", row)
    assert not any(ord(c) < 32 for c in done.stdout.replace("\n", ""))


@pytest.mark.parametrize("arguments", [[*LINES, "<b>\x1b[31m"], ["--text", "text.txt", "--worst", "200"]])
def test_a_page_has_the_rows_of_the_terminal(arguments: list[str]) -> None:
    done = call("score", *arguments, "--checkpoint", "chars.safetensors", "--html", "page.html")
    assert (done.stdout, done.stderr) == ("", "wrote page.html\n")
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<b>" not in page
    assert "\x1b" not in page
    rows = call("score", *arguments, "--checkpoint", "chars.safetensors").stdout.splitlines()[1:]
    assert page.count("<tr><td") == len(rows)
    for row in rows:
        shown = row.split("bits  ")[1].split("  expected")[0] if "--worst" in arguments else row[35:]
        assert f"<td>{html.escape(shown)}</td>" in page


def test_standard_input_and_what_cannot_be_meant() -> None:
    assert score("--text", "-", stdin="a cat\nsat\n")["text"] == "-"
    assert score("--text", "-", "--worst", "1", stdin="a cat")["worst"][0]["line"] == 1
    for code, arguments in (
        (2, []),
        (2, ["a", ""]),
        (2, ["a", "--text", "text.txt"]),
        (2, ["a", "--worst", "3"]),
        (2, ["a", "--split", "test"]),
        (2, ["--text", "text.txt", "--split", "test"]),
        (2, ["--text", "text.txt", "--worst", "0"]),
        (2, ["a", "--html", "no/such/folder.html"]),
        (3, ["--text", "missing"]),
        (3, ["--worst", "3"]),
        (4, ["a", "--checkpoint", "nowhere"]),
    ):
        done = call("score", "--checkpoint", "chars.safetensors", *arguments)
        assert (done.code, done.stdout) == (code, ""), (arguments, done)
