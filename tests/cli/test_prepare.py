"""``charrnn prepare`` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from charrnn.cli import console, options
from charrnn.cli.prepare import prepare
from charrnn.data.corpus import Corpus, PrepareSettings
from charrnn.errors import TextError, UsageError

app = typer.Typer()
app.command()(prepare)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, stdin: bytes | None = None) -> tuple[str, str]:
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    if result.exception:
        raise result.exception
    return result.stdout, result.stderr


def test_the_report_says_what_was_found() -> None:
    Path("a.txt").write_bytes("caf\u00e9 \u200b zero\r\nlone\rcr [bold] [/x] \x1b[31m\n".encode() * 50)
    stdout, _ = run("a.txt")
    for fact in (
        "corpora/a",
        "1,950 (2,100 bytes)",
        "U+200B ZERO WIDTH SPACE ×50",
        "U+001B ESCAPE ×50",
        "UTF-8",
        "LF ×50, CRLF ×50, lone CR ×50",
        "--newlines lf",
        "train 1,755 · validation 97 · test 98",
        "charrnn train a",
    ):
        assert fact in stdout
    assert "\x1b" not in stdout
    assert "\u200b" not in stdout


def test_markup_in_names_and_text_is_shown_as_it_is() -> None:
    Path("[bold]x[").write_text("[/red]")
    stdout, _ = run("[bold]x[")
    assert "corpora/[bold]x[" in stdout


def test_json_is_one_document_and_alone_on_stdout() -> None:
    Path("a").mkdir()
    Path("a/1.txt").write_text("aab\n", encoding="utf-8")
    Path("a/.x").write_text("hidden")
    stdout, stderr = run("a", "--json", "--min-count", "2", "--split", "50,25,25")
    document = json.loads(stdout)
    assert document["schema"] == 1
    assert (document["corpus"], document["unit"]) == ("a", "char")
    assert (document["characters"], document["bytes"], document["distinct"]) == (4, 4, 3)
    assert (document["vocabulary_size"], document["unknown"]) == (2, 2)
    assert document["splits"]["train"] == {"start": 0, "end": 2, "characters": 2, "bytes": 2, "unknown": 0}
    assert stderr == "left out: 1 hidden\n"
    assert run("a", "--json", "--quiet", "--name", "b")[1] == ""


def test_standard_input_is_text_too() -> None:
    run("-", "--name", "piped", stdin=b"from a pipe\n")
    piped = Corpus.open("corpora/piped")
    assert piped.text("train") == "from a pip"
    assert piped.named == (piped.sources[0].path,) == ("-",)


def test_bytes_and_output_and_force() -> None:
    Path("a.bin").write_bytes(bytes(range(256)))
    stdout, _ = run("a.bin", "--unit", "byte", "--output", "out/here")
    assert "bytes, not UTF-8" in stdout
    assert "charrnn train out/here" in stdout
    assert "charrnn train 'out/o clock'" in run("a.bin", "--unit", "byte", "--output", "out/o clock")[0]
    with pytest.raises(UsageError, match="--force"):
        run("a.bin", "--unit", "byte", "--output", "out/here")
    run("a.bin", "--unit", "byte", "--output", "out/here", "--force")


def test_errors_are_those_of_the_text() -> None:
    with pytest.raises(TextError, match="no such file"):
        run("nothing-here")
    with pytest.raises(UsageError, match="three percentages"):
        run("nothing-here", "--split", "90")


def test_no_option_means_no_settings() -> None:
    assert options.prepare_settings() is None
    settings = options.prepare_settings(split="80,10,10")
    assert settings == PrepareSettings(split=(80, 10, 10))
    assert settings.given == {"split"}


def test_no_bar_where_nobody_looks() -> None:
    with console.progress_bar("x") as progress:
        assert progress is None


def test_the_command_is_declared_without_numpy_or_torch() -> None:
    program = "import sys, charrnn.cli.prepare; sys.exit(bool({'numpy', 'torch', 'rich.console'} & set(sys.modules)))"
    root = Path(console.__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)
