"""Nothing that charrnn prints is obeyed by a terminal, whatever the model, the files and the options hold."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from terminals import Charrnn, Said

from charrnn.checkpoint import Checkpoint
from charrnn.config import Config
from charrnn.data.corpus import prepare
from charrnn.data.vocabulary import Vocabulary
from charrnn.presets import TRAINING

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
#: Sequences that colour, move, ask, copy to the clipboard and link; controls of seven and of eight bits.
CONTROLS = (
    "\x1b[35;5m\x1b[2J\x1b[6n\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://x.org\x1b\\link\x1b]8;;\x1b\\"
    "\x9b35m\x85\x90\x9c\x9d\x07\x08\x0b\x0c\x7f"
)
#: What Rich, or Typer with it, would obey.
MARKUP = "[bold] [/x] :smile:"
LINE = f"{MARKUP} {CONTROLS}{BIDI} after\rover é 日本\n"
#: A file's name cannot have a slash.
NAME = "[bold] :smile: \x1b[2J\x1b]52;c;ZXZpbA==\x07\x9b35m\x08\u202eevil\r"
TEXT, HOSTILE, MISSING = f"{NAME}.txt", f"{NAME}.safetensors", f"{NAME} is not there"
SMALL = ["--num-layers", "1", "--hidden-size", "8", "--batch-size", "4", "--sequence-length", "16", "--device", "cpu"]

#: All that Rich sends to a terminal here: colours, the cursor hidden, moved up and shown, lines cleared.
RICH = re.compile(r"\x1b\[(?!35;5m)[\d;]*m|\r?\x1b\[2K|\r?\x1b\[\d*A|\x1b\[\?25[lh]")
TERMINALS: dict[str, dict[str, Any]] = {
    "dumb": {"columns": 20, "TERM": "dumb"},  # Rich takes it to be 80 wide
    "narrow": {"columns": 20},
}
MORE_TERMINALS: dict[str, dict[str, Any]] = {
    "wide": {"columns": 200},
    "without colour": {"columns": 40, "NO_COLOR": "1"},
    "of ASCII": {"columns": 20, "NO_COLOR": "1", "TERM": "dumb"},
    "taken for a pipe": {"columns": 80, "TTY_COMPATIBLE": "0", "FORCE_COLOR": ""},
}

#: Exit codes, and commands that end with them.
COMMON: list[tuple[int, list[str]]] = [
    (0, ["sample", "evil", "--length", "80", "--seed", "1", "--prompt", LINE]),
    (0, ["sample", "evil", HOSTILE, "--samples", "2", "--length", "40", "--stop", f"{NAME}Q", "--seed", "1"]),
    (0, ["sample", "evil", "--beam", "3", "--length", "20", "--prompt", LINE]),
    (0, ["sample", "bytes.safetensors", "--length", "300", "--seed", "1"]),
    (3, ["sample", "evil", "--prompt-file", MISSING]),
    (4, ["sample", MISSING]),
    (2, ["sample", "--device", NAME]),
    (2, ["sample", "--length", NAME]),
    (2, [f"--{NAME}"]),
    (2, ["sample", f"--{NAME}"]),
    (2, ["info", "evil", NAME]),
    (2, [NAME]),
    (0, ["info", HOSTILE]),
    (0, ["info", "corpora/evil"]),
    (0, ["inspect", "text", "evil", "--text", TEXT, "--length", "150"]),
    (0, ["inspect", "cells", HOSTILE, "--text", TEXT, "--feature", f"{NAME}=e", "--length", "300"]),
    (0, ["inspect", "embeddings", HOSTILE]),
    (0, ["inspect", "beam", LINE, "--depth", "6"]),
    (0, ["inspect", "novelty", "--length", "80"]),
    (0, ["compare", "evil", HOSTILE, "bytes.safetensors", "--text", "ascii.txt"]),
    (0, ["compare", *["evil", HOSTILE] * 3, "--errors"]),
    (0, ["eval", HOSTILE, "--text", TEXT]),
    (0, ["eval", "--text", TEXT, "--per-line"]),
    (3, ["eval", "--text", MISSING]),
    (0, ["prepare", TEXT, "--force", "--name", "again"]),
    (2, ["prepare", TEXT, "--newlines", NAME]),
    (2, ["train", "evil.txt", "--preset", NAME]),
    (2, ["sweep", "evil.txt", "--grid", NAME]),
    (2, ["sweep", "evil.txt", "--grid", "cell=rnn", "--name", NAME]),
]
RARER: list[tuple[int, list[str]]] = [
    (0, ["sample", "bytes.safetensors", "--beam", "2", "--length", "30", "--prompt", LINE]),
    (0, ["sample", "evil", "--adapt", TEXT, "--length", "9"]),
    (2, ["sample", "--temperature", NAME]),
    (2, ["inspect", NAME]),
    (2, ["sample", f"--json={NAME}"]),
    (4, ["info", MISSING]),
    (4, ["info", TEXT]),
    (0, ["inspect", "cell", "0.3", "evil", "--text", TEXT]),
    (0, ["inspect", "gates", "evil", "--text", TEXT]),
    (0, ["inspect", "gradients", "evil", "--text", TEXT]),
    (0, ["inspect", "novelty", "evil", "--text", TEXT]),
    (0, ["inspect", "embeddings", "bytes.safetensors"]),
    (0, ["inspect", "text", "bytes.safetensors", "--text", TEXT]),
    (2, ["inspect", "cell", NAME]),
    (2, ["inspect", "cells", "evil", "--text", TEXT, "--feature", f"{NAME}=("]),
    (3, ["inspect", "text", "--text", MISSING]),
    (0, ["inspect", "text", "--html", f"{NAME}.html"]),
    (2, ["inspect", "text", "--html", f"{MISSING}/x.html"]),
    (4, ["compare", "evil", HOSTILE, MISSING]),
    (2, ["eval", "--split", NAME]),
    (2, ["eval", "--text", TEXT, "--encoding", NAME]),
    (0, ["eval", "--dynamic", "--text", TEXT]),
    (0, ["prepare", TEXT, "--force"]),
    (0, ["prepare", TEXT, "--force", "--output", f"{NAME} corpus"]),
    (2, ["prepare", TEXT, "--name", "k", "--encoding", NAME]),
    (2, ["prepare", TEXT, "--name", "k", "--split", NAME]),
    (2, ["prepare", TEXT, "--name", "k", "--unit", NAME]),
    (3, ["prepare", ".", "--name", "k", "--pattern", NAME]),
    (2, ["prepare", TEXT, "--min-count", NAME]),
    (0, ["train", TEXT, "--run", "plain", "--force", "--steps", "9", *SMALL]),
    (2, ["train", "evil.txt", "--run", NAME, *SMALL]),
    (2, ["train", "evil.txt", "--config", NAME]),
    (2, ["train", "evil.txt", "--cell", NAME]),
    (2, ["train", "evil.txt", "--time-limit", NAME]),
    (4, ["train", "--resume", "--run", MISSING]),
    (4, ["train", "evil.txt", "--init-from", MISSING, *SMALL]),
    (2, ["sweep", "evil.txt", "--grid", f"cell={NAME}"]),
    (2, ["sweep", "evil.txt", "--grid", "cell=rnn", "--scored", NAME]),
    (0, ["sweep", TEXT, "--grid", "cell=rnn", "--name", "swept", "--force", "--steps", "9", *SMALL]),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Callable[..., Checkpoint]) -> Path:
    """A hostile text under a tame and under a hostile name; models of it, one with a hostile history, one of bytes."""
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("evil.txt", TEXT):
        (folder / name).write_text(LINE * 15, encoding="utf-8", newline="")
    (folder / "ascii.txt").write_text("[bold] over [/x] after\n" * 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        corpus = prepare(["evil.txt"])
    record = {
        "steps": 10, "epochs": 0.5, "seconds": 3.0, "characters": 1000, "compute": NAME, "init_from": NAME,
        "validation_nats_per_char": 1.5, "environment": {NAME: NAME},
    }  # fmt: skip
    made = tiny_checkpoint(corpus.vocabulary)
    config = Config(made.config.model, TRAINING)
    history = corpus.description() | {"path": str(folder / "corpora" / "evil")}
    whole = dataclasses.replace(made, config=config, corpus=history)
    (folder / "checkpoints" / "evil").mkdir(parents=True)
    whole.save(folder / "checkpoints" / "evil" / "best.safetensors")
    dataclasses.replace(whole, corpus=history | {"name": NAME}, record=record).save(folder / HOSTILE)
    of_bytes = tiny_checkpoint(Vocabulary(tuple(range(1, 256)), "byte"))
    dataclasses.replace(of_bytes, corpus={"utf8": False}).save(folder / "bytes.safetensors")
    return folder


@pytest.fixture(scope="module")
def charrnn(folder: Path) -> Iterator[Charrnn]:
    """The program where those are."""
    program = Charrnn(folder)
    yield program
    program.close()


def obeyed(text: str) -> list[str]:
    """What a terminal would obey of an output, with what stands around it."""
    text = RICH.sub("", text).replace("\r\n", "\n")
    return [
        ascii(text[max(0, at - 30) : at + 30])
        for at, c in enumerate(text)
        if (c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs")) or c in BIDI
    ]


def check(commands: Sequence[tuple[int, list[str]]], said: Sequence[Said], dumb: bool) -> None:
    """Each ended as it should; nothing is obeyed, nor is any of Rich's own sequences there for a dumb terminal."""
    for (code, arguments), one in zip(commands, said, strict=True):
        assert one.code == code, (arguments, one.text)
        assert "Traceback" not in one.text, arguments
        assert obeyed(one.text) == [], arguments
        assert not dumb or "\x1b" not in one.text, arguments


@pytest.mark.parametrize("terminal", list(TERMINALS))
def test_a_terminal_obeys_nothing(charrnn: Charrnn, terminal: str) -> None:
    said = charrnn.run([arguments for _, arguments in COMMON], **TERMINALS[terminal])
    check(COMMON, said, dumb=terminal == "dumb")
    assert sum("␛" in one.text for one in said) > 15, "controls are shown, not left out"


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [*TERMINALS, *MORE_TERMINALS])
def test_a_terminal_of_any_kind_obeys_nothing_of_anything(folder: Path, terminal: str) -> None:
    commands = [*COMMON, *RARER]
    kind = (TERMINALS | MORE_TERMINALS)[terminal]
    program = Charrnn(folder, "ascii" if terminal == "of ASCII" else None)
    said = program.run([arguments for _, arguments in commands], **kind)
    program.close()
    check(commands, said, dumb=kind.get("TERM") == "dumb")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_no_encoding_of_a_pipe_makes_anything_fail_and_texts_in_it_are_exact(folder: Path, encoding: str) -> None:
    prompt = ["--length", "9", "--seed", "1", "--prompt", LINE]
    commands = [
        (0, ["sample", "evil", *prompt]), (0, ["sample", "bytes.safetensors", *prompt]),
        (0, ["eval", "--text", TEXT, "--per-line"]), (0, ["info", HOSTILE]), (0, ["info", "corpora/evil"]),
        (0, ["inspect", "text", "--length", "90"]), (0, ["inspect", "beam", LINE, "--depth", "3"]),
        (0, ["compare", "evil", HOSTILE]), (2, [f"--{NAME}"]), (4, ["info", MISSING]), (0, ["--help"]),
        (0, ["train", "--help"]),
    ]  # fmt: skip
    program = Charrnn(folder, encoding)
    said = program.run([arguments for _, arguments in commands], COLUMNS="20")
    program.close()
    for (code, arguments), one in zip(commands, said, strict=True):
        assert one.code == code, (arguments, one.text)
        if (code, arguments) not in commands[:3]:
            assert obeyed(one.data.decode(encoding)) == [], arguments
    for one in said[:2]:
        assert LINE.encode() in one.data
    for part in LINE.splitlines(keepends=False)[0].split("\r"):
        assert part.encode(encoding, "backslashreplace") in said[2].data


def test_no_terminal_is_too_narrow_for_a_fact(charrnn: Charrnn) -> None:
    figure = charrnn.run([["eval", "--bits-per-byte"]])[0].text.strip()[:5]
    (said,) = charrnn.run([["eval"]], columns=20)
    assert f"bits per byte  {figure}" in re.sub(" {3,}", "  ", RICH.sub("", said.text))


def test_markup_is_printed_as_it_was_written(charrnn: Charrnn) -> None:
    typed = f"{MARKUP}x"
    commands = [
        ["sample", "evil", "--prompt", typed, "--length", "3"], ["sample", typed], [typed], [f"--{typed}"],
        ["info", "evil", typed], ["eval", "--per-line", "--text", "evil.txt"],
        ["inspect", "beam", typed], ["compare", "evil", typed], ["eval", "--text", typed], ["prepare", typed],
        ["train", typed], ["train", "evil.txt", "--preset", typed], ["sweep", "evil.txt", "--grid", typed],
    ]  # fmt: skip
    for arguments, one in zip(commands, charrnn.run(commands, columns=100), strict=True):
        words = RICH.sub("", one.text)
        for word in MARKUP.split():
            assert word in words, (arguments, words)


def test_the_live_view_shows_its_samples_and_obeys_nothing(charrnn: Charrnn) -> None:
    train = ["train", "evil.txt", "--run", "live", "--force", "--steps", "400", "--validate-every", "20", *SMALL]
    (said,) = charrnn.run([train], columns=60)
    assert said.code == 0, said.text
    assert "sample after step" in said.text
    assert "␛" in said.text
    assert obeyed(said.text) == []


def test_a_page_holds_nothing_that_is_obeyed(charrnn: Charrnn, folder: Path) -> None:
    commands = [
        ["inspect", "cells", HOSTILE, "--text", TEXT, "--feature", f"{NAME}=e", "--html", "cells.html"],
        ["inspect", "text", HOSTILE, "--text", TEXT, "--html", "text.html"],
        ["inspect", "embeddings", HOSTILE, "--html", "embeddings.html"],
        ["compare", "evil", HOSTILE, "checkpoints/evil/best.safetensors", "--html", "compare.html"],
    ]
    for arguments, one in zip(commands, charrnn.run(commands), strict=True):
        assert one.code == 0, one.text
        page = (folder / arguments[-1]).read_text(encoding="utf-8")
        assert obeyed(page) == [], arguments
        assert "[bold]" in page
        assert "&lt;U+202E&gt;evil" in page


def test_a_name_of_several_lines_is_one_line(charrnn: Charrnn, folder: Path) -> None:
    forged = "a\ncharrnn: all is well"
    (folder / forged).write_text("notes\n" * 50)
    said = charrnn.run([["info", forged], ["eval", "--text", f"{forged}.txt"], ["prepare", forged]])
    for one in said:
        assert "a␊charrnn: all is well" in one.text
        assert "\ncharrnn: all" not in one.text


@pytest.mark.parametrize("name", [TEXT, "a\udcff.txt"], ids=["hostile", "not UTF-8"])
def test_the_files_of_a_run_are_text_whatever_its_source_was_called(charrnn: Charrnn, folder: Path, name: str) -> None:
    (folder / name).write_text(LINE * 15, encoding="utf-8", newline="")
    (said,) = charrnn.run([["train", name, "--run", "named", "--force", "--steps", "3", *SMALL]])
    assert said.code == 0, said.text
    made = folder / "checkpoints" / "named"
    tomllib.loads((made / "config.toml").read_text(encoding="utf-8"))
    for file in ("config.toml", "README.md", "loss.svg"):
        assert obeyed((made / file).read_text(encoding="utf-8")) == []


PRINTING = [
    ["--help"], ["--version"], ["train", "--help"], ["inspect"], ["sample", "-q"], ["sample", "--beam", "2", "-q"],
    ["sample", "--json"], ["info"], ["info", "--json"], ["inspect", "text"], ["inspect", "text", "--json"],
    ["compare", "evil", "evil"], ["eval"], ["eval", "--perplexity"], ["eval", "--per-line", "--text", TEXT],
    ["prepare", "evil.txt", "--force", "-q"],
    ["train", "evil.txt", "--run", "unread", "--force", "--steps", "3", "-q", "--json", *SMALL],
]  # fmt: skip


def test_a_reader_that_has_left_ends_everything_quietly(charrnn: Charrnn) -> None:
    for arguments, one in zip(PRINTING, charrnn.run(PRINTING, output="closed"), strict=True):
        assert (one.code, one.text) == (0, ""), arguments


@pytest.mark.parametrize("arguments", [["info"], ["--version"]], ids=" ".join)
def test_nor_does_the_interpreter_complain_when_it_ends(folder: Path, arguments: list[str]) -> None:
    """Without PyTorch the process ends as others do: what is still buffered is written once more."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "charrnn", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_that_cannot_be_written_is_one_line_and_never_success(charrnn: Charrnn) -> None:
    for arguments, one in zip(PRINTING, charrnn.run(PRINTING, output="/dev/full"), strict=True):
        assert one.code == 6, (arguments, one.text)
        assert re.fullmatch(r"charrnn: .*No space left on device\n", one.text), (arguments, one.text)
