"""``charrnn sample`` as a user meets it."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from charrnn.checkpoint import Checkpoint
from charrnn.cli.sample import Paper, sample
from charrnn.data.corpus import PrepareSettings, prepare
from charrnn.data.vocabulary import Vocabulary
from charrnn.errors import CharRNNError, TextError, UsageError

Make = Callable[..., Checkpoint]
Run = Callable[..., Result]


@pytest.fixture
def model(tiny_checkpoint: Make, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "tiny" / "best.safetensors"
    path.parent.mkdir(parents=True)
    tiny_checkpoint(Vocabulary.of("\n abcdefgh[/x]é")).save(path)
    return path


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command where ``checkpoints/tiny`` is; errors a user can cause are raised."""
    monkeypatch.chdir(model.parents[2])
    app = typer.Typer()
    app.command()(sample)

    def invoke(*arguments: str, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        if isinstance(result.exception, CharRNNError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result

    return invoke


def test_prompt_and_continuation_on_stdout_and_the_seed_on_stderr(run: Run) -> None:
    result = run("--prompt", "abc", "--length", "40")
    assert result.stdout.startswith("abc")
    assert len(result.stdout) == 43
    seed = result.stderr.split("--seed ")[1].strip()
    again = run("--prompt", "abc", "--length", "40", "--seed", seed)
    assert again.stdout == result.stdout
    assert again.stderr == ""
    assert run("--length", "40", "-q").stderr == ""


def test_default_length_and_named_run(run: Run) -> None:
    assert len(run("tiny", "-q").stdout) == 500


def test_json(run: Run) -> None:
    document = json.loads(run("--json", "--samples", "3", "--seed", "5", "--length", "30", "--prompt", "a").stdout)
    assert document["schema"] == 1
    assert document["checkpoint"].endswith("best.safetensors")
    assert document["prompt"] == "a"
    assert document["characters_per_second"] > 0
    assert [one["seed"] for one in document["samples"]] == [5, 6, 7]
    for one in document["samples"]:
        assert len(one["text"]) == 30
        assert one["log_probability"] == -one["nats"] < 0
    plain = run("--seed", "6", "--length", "30", "--prompt", "a").stdout
    assert plain == "a" + document["samples"][1]["text"]


def test_several_samples_are_kept_apart(run: Run) -> None:
    text = run("--samples", "3", "--seed", "5", "--length", "30").stdout
    assert [line for line in text.splitlines() if line.startswith("--- ")] == [
        f"--- sample {n + 1} of 3, seed {5 + n} ---" for n in range(3)
    ]


def test_beam_reports_its_log_probability(run: Run) -> None:
    result = run("--beam", "4", "--length", "25", "--samples", "2")
    assert result.stderr.count("log-probability -") == 2
    assert "bits per character" in result.stderr
    found = json.loads(run("--beam", "4", "--length", "25", "--samples", "4", "--json").stdout)["samples"]
    assert len(found) == 4
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    assert f"{found[0]['log_probability']:.4f}" in result.stderr


def test_one_beam_is_greedy(run: Run) -> None:
    assert run("--beam", "1", "-q").stdout == run("--greedy", "-q").stdout


def test_prompt_from_stdin_and_file(run: Run, tmp_path: Path) -> None:
    expected = run("--prompt", "é a\n", "--seed", "1").stdout
    assert run("--prompt-file", "-", "--seed", "1", stdin="é a\n".encode()).stdout == expected
    (tmp_path / "prompt").write_bytes("é a\n".encode())
    assert run("--prompt-file", str(tmp_path / "prompt"), "--seed", "1").stdout == expected


def test_a_byte_order_mark_is_no_part_of_the_prompt(run: Run, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_bytes(b"\xef\xbb\xbfab")
    result = run("--prompt-file", str(tmp_path / "prompt"), "--seed", "1")
    assert result.stdout == run("--prompt", "ab", "--seed", "1").stdout
    assert result.stderr == ""


def test_unseen_characters_are_named(run: Run) -> None:
    result = run("--prompt", "xQ字\x1bQ", "--seed", "1")
    assert result.stdout.startswith("xQ字\x1bQ"), "a pipe gets the exact text"
    assert result.stderr.count("\n") == 1
    assert "never seen Q, 字, U+001B ESCAPE" in result.stderr


def test_an_argument_that_is_not_text_does_not_crash(run: Run) -> None:
    assert run("--prompt", "a\udcff", "--length", "5", "--seed", "1").stdout.startswith("a\ufffd")


@pytest.mark.parametrize(
    "arguments",
    [
        "--temperature 0", "--temperature -1", "--temperature nan", "--temperature inf", "--top-k 0", "--top-p 0",
        "--top-p 1.5", "--length 0", "--length -3", "--samples 0", "--beam 0", "--seed -1", "--device tpu",
        "--greedy --beam 2", "--greedy --temperature 1", "--beam 2 --top-k 3", "--beam 2 --seed 1",
        "--greedy --samples 2", "--beam 2 --samples 3", "--length-penalty 1", "--no-repeat-ngram 3",
        "--beam 2 --length-penalty nan", "--beam 2 --no-repeat-ngram 0", "--prompt a --prompt-file b", "--stop=",
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_a_usage_error(run: Run, arguments: str) -> None:
    with pytest.raises(CharRNNError) as caught:
        run(*arguments.split())
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_errors_of_prompt_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"ab\xff")
    for file, said in ((tmp_path / "bad", "not UTF-8 at byte 2"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(CharRNNError, match=said) as caught:
            run("--prompt-file", str(file))
        assert caught.value.exit_code == 3


def test_bytes_to_a_pipe_are_exact(run: Run, tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(Vocabulary((10, 65, 200, 255), "byte"))
    checkpoint.corpus["utf8"] = False
    checkpoint.save(tmp_path / "bytes.safetensors")
    data = run(str(tmp_path / "bytes.safetensors"), "--seed", "1", "--length", "200").stdout_bytes
    assert len(data) == 200
    assert set(data) == {10, 65, 200, 255}


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_shown_what_it_would_obey(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Terminal(raw, encoding="ascii"))
    monkeypatch.setenv("NO_COLOR", "1")
    paper = Paper("p\x1b")
    paper.begin()
    for piece in "[bold][/x]\x07é\u202e\n\tend":
        paper.write(piece)
    paper.end()
    assert raw.getvalue() == b"p\\u241b[bold][/x]\\u2407\\xe9<U+202E>\n\tend\n"


PROGRAM = "import sys, typer; from charrnn.cli.sample import sample; app = typer.Typer(); app.command()(sample)\n"


def test_importing_and_running_needs_no_torch(model: Path) -> None:
    program = PROGRAM + "app(standalone_mode=False); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program, str(model), "--length", "20"], check=True, capture_output=True)


def test_a_reader_that_has_enough_ends_it_quietly(model: Path) -> None:
    command = [sys.executable, "-c", PROGRAM + "app()", str(model), "--length", "1000000", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_text_to_adapt_to_changes_what_is_written_but_not_the_checkpoint(run: Run, model: Path) -> None:
    before = model.read_bytes()
    Path("notes.txt").write_text("abba [cab]\n" * 900, encoding="utf-8")
    plain = run("--length", "60", "--seed", "1").stdout
    adapted = run("--length", "60", "--seed", "1", "--adapt", "notes.txt")
    assert adapted.stdout != plain
    assert adapted.stdout == run("--length", "60", "--seed", "1", "--adapt", "-", stdin=b"abba [cab]\n" * 900).stdout
    assert "learnt from 9,900 characters" in adapted.stderr
    assert model.read_bytes() == before
    with pytest.raises(UsageError, match="standard input"):
        run("--adapt", "-", "--prompt-file", "-", stdin=b"a")
    with pytest.raises(TextError, match=r"none\.txt"):
        run("--adapt", "none.txt")
    with pytest.raises(UsageError, match="--newlines: is for --adapt"):
        run("--newlines", "lf")


def test_a_text_to_adapt_to_is_read_as_one_to_score(run: Run, model: Path) -> None:
    text = "abba [cab]\n" * 90
    Path("notes.txt").write_text(text, encoding="utf-8")
    Path("dos.txt").write_bytes(text.replace("\n", "\r\n").encode("utf-16"))
    prepare(["notes.txt"], settings=PrepareSettings(split=(100.0, 0.0, 0.0)))
    options = ("--length", "60", "--seed", "1", "--adapt")
    plain = run(*options, "notes.txt").stdout
    assert plain == run(*options, "notes").stdout == run(*options, "corpora/notes").stdout
    assert plain == run(*options, "dos.txt", "--encoding", "utf-16", "--newlines", "lf").stdout


def test_several_models_write_together(run: Run) -> None:
    assert run("tiny", "tiny", "--greedy", "--length", "30").stdout == run("tiny", "--greedy", "--length", "30").stdout
    assert json.loads(run("tiny", "tiny", "--json", "--length", "5").stdout)["samples"][0]["characters"] == 5


def test_a_held_cell_changes_what_is_written_and_figures_are_by_the_model_that_wrote_it(run: Run) -> None:
    options = ("--length", "30", "--seed", "1")
    plain, held = (
        json.loads(run(*options, *more, "--json").stdout)["samples"][0] for more in ((), ("--clamp", "0.1=1"))
    )
    assert held["text"] != plain["text"]
    assert run(*options, "--clamp", "0.1=1").stdout == held["text"]
    for clamped in (held, plain):
        shown = run(*options, "--show-probabilities", "--json", *(() if clamped is plain else ("--clamp", "0.1=1")))
        found = json.loads(shown.stdout)["samples"][0]
        bits = sum(one["bits"] for one in found["probabilities"])
        assert bits * math.log(2) == pytest.approx(clamped["nats"], rel=1e-5)
        assert "".join(one["character"] for one in found["probabilities"]) == clamped["text"]
    with pytest.raises(UsageError, match="one model"):
        run("tiny", "tiny", "--clamp", "0.1=1")
    with pytest.raises(UsageError, match="layers 0 to"):
        run("--clamp", "9.1=1")


def test_probabilities_are_shown_for_each_sample_and_beam(run: Run) -> None:
    assert run("--length", "30", "--samples", "2", "--show-probabilities").stdout.count("surprisal, bits") == 2
    assert run("--length", "9", "--beam", "3", "--show-probabilities").stdout.count("The most surprising") == 1


def test_a_page_of_probabilities_has_every_character_of_every_sample(run: Run) -> None:
    options = ("--length", "30", "--samples", "2", "--seed", "3", "--show-probabilities")
    done = run(*options, "--html", "page.html", "--json", "--prompt", "<i>")
    page = Path("page.html").read_text(encoding="utf-8")
    listed = json.loads(done.stdout)["samples"]
    assert page.count('tabindex="0" title="') == sum(len(one["probabilities"]) for one in listed) == 60
    for n, one in enumerate(listed):
        assert f"<p>sample {n + 1} of 2, seed {3 + n}</p>" in page
        assert all(f"  {each['bits']:.2f} bits" in page for each in one["probabilities"])
    assert "after &#x27;&lt;i&gt;&#x27;" in page
    assert "<i>&" not in page.split("</h1>")[1].split("</small>")[0]
    assert run(*options, "--html", "page.html").stdout == ""
    with pytest.raises(UsageError, match="--show-probabilities; add it"):
        run("--html", "page.html")
