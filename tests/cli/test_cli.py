"""The program as a user meets it: commands, files, JSON, exit codes, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from commands import call

from charrnn.cli import _one_line

TEXT = "".join(f"{n} green bottles hanging on the wall,\nand if {n % 7} should fall ...\n" for n in range(400))
SMALL = ["--num-layers", "1", "--hidden-size", "16", "--batch-size", "8", "--sequence-length", "32", "--device", "cpu"]


def charrnn(folder: Path, *arguments: str, text: str | None = None, **environment: str) -> subprocess.CompletedProcess:
    """Run a command in a folder, its output captured, as in a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "charrnn", *arguments], cwd=folder, input=text, capture_output=True, text=True,
        timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a text, its corpus and a small trained run, all made by the program."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "bottles.txt").write_text(TEXT)
    done = charrnn(folder, "train", "bottles.txt", "--steps", "60", "--json", *SMALL)
    assert done.returncode == 0, done.stderr
    (folder / "train.json").write_text(done.stdout)
    (folder / "train.log").write_text(done.stderr)
    return folder


@pytest.mark.parametrize(
    "command",
    [["--help"], *([name, "--help"] for name in ("prepare", "train", "sweep", "sample", "eval", "info", "inspect"))],
)
def test_help_imports_neither_numpy_nor_torch(command, tmp_path):
    code = (
        "import sys; sys.argv = ['charrnn', *sys.argv[1:]]\nfrom charrnn.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'numpy', 'torch', 'safetensors'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_sampling_imports_no_torch(trained):
    code = (
        "import sys; sys.argv = ['charrnn', 'sample', '--length', '20', '--quiet']\nfrom charrnn.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=trained)
    assert done.returncode == 0, done.stderr


def test_train_reports_the_contract_and_leaves_the_files_it_names(trained):
    report = json.loads((trained / "train.json").read_text())
    assert report["schema"] == 1
    assert report["run"] == "bottles"
    assert report["steps"] == 60
    assert set(report["validation"]) == {"nats_per_char", "bits_per_char", "perplexity"}
    assert {"best", "last", "epochs", "seconds", "characters_per_second", "parameters"} <= set(report)
    names = {path.name for path in (trained / "checkpoints" / "bottles").iterdir()}
    assert names == {
        "best.safetensors", "last.safetensors", "last-1.safetensors", "config.toml", "metrics.jsonl", "samples.txt",
        "README.md", "loss.svg",
    }  # fmt: skip
    needed = {
        "step", "epoch", "seconds", "learning_rate", "train_nats_per_char", "gradient_norm", "characters_per_second",
    }  # fmt: skip
    for line in (trained / "checkpoints" / "bottles" / "metrics.jsonl").read_text().splitlines():
        assert needed <= set(json.loads(line))


def test_help_wraps_paragraphs_not_lines(tmp_path):
    words = charrnn(tmp_path, "train", "--help", COLUMNS="80").stdout.split("Arguments")[0]
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    assert all(len(line) > 50 for line in lines[2:-2])


def test_nothing_is_animated_or_coloured_in_a_pipe(trained):
    log = (trained / "train.log").read_text()
    assert "\x1b" not in log
    assert "\r" not in log
    assert "validation" in log


def test_the_picture_is_well_formed_and_the_card_states_the_figure(trained):
    import xml.etree.ElementTree as ElementTree

    folder = trained / "checkpoints" / "bottles"
    assert ElementTree.parse(folder / "loss.svg").getroot().tag.endswith("svg")
    nats = json.loads((trained / "train.json").read_text())["validation"]["nats_per_char"]
    assert f"{nats:.4f} nats" in (folder / "README.md").read_text()


def test_the_closing_figure_is_what_eval_measures(trained):
    document = json.loads(charrnn(trained, "eval", "--json").stdout)
    report = json.loads((trained / "train.json").read_text())
    assert document["nats_per_char"] == pytest.approx(report["validation"]["nats_per_char"], abs=1e-6)
    assert set(document) >= {
        "schema", "checkpoint", "text", "split", "characters", "unseen", "nats_per_char", "bits_per_char",
        "perplexity", "bits_per_byte", "bits_per_char_interval", "seconds",
    }  # fmt: skip
    assert document["perplexity"] == pytest.approx(np.exp(document["nats_per_char"]))


@pytest.mark.parametrize("figure", ["perplexity", "bits-per-char", "nats-per-char"])
def test_eval_prints_one_number_alone(trained, figure):
    document = json.loads(charrnn(trained, "eval", "--json").stdout)
    done = charrnn(trained, "eval", f"--{figure}")
    assert float(done.stdout) == pytest.approx(document[figure.replace("-", "_")], rel=1e-5)
    assert done.stderr == ""


def test_eval_equals_the_sum_of_the_sampled_log_probabilities(trained):
    done = charrnn(trained, "sample", "--length", "300", "--seed", "5", "--json")
    sample = json.loads(done.stdout)["samples"][0]
    scored = json.loads(charrnn(trained, "eval", "--text", "-", "--json", text=sample["text"]).stdout)
    assert scored["nats_per_char"] * scored["characters"] == pytest.approx(-sample["log_probability"], abs=1e-2)
    assert sample["nats"] == -sample["log_probability"]


def test_beam_search_prints_the_evaluators_log_probability_given_the_prompt(trained):
    done = charrnn(trained, "sample", "--beam", "4", "--prompt", "3 green", "--length", "30", "--json")
    sample = json.loads(done.stdout)["samples"][0]

    def nats(text: str) -> float:
        figures = json.loads(charrnn(trained, "eval", "--text", "-", "--json", text=text).stdout)
        return figures["nats_per_char"] * figures["characters"]

    assert nats("3 green" + sample["text"]) - nats("3 green") == pytest.approx(sample["nats"], abs=1e-3)


def test_a_seed_repeats_a_sample_and_pipes_get_the_exact_text(trained):
    again = [charrnn(trained, "sample", "--seed", seed, "--length", "80").stdout for seed in ("3", "3", "4")]
    assert again[0] == again[1] != again[2]
    from_json = json.loads(charrnn(trained, "sample", "--seed", "3", "--length", "80", "--json").stdout)
    assert again[0].startswith(from_json["samples"][0]["text"])


def test_lines_are_ranked_by_their_own_probability(trained):
    lines = ["7 green bottles hanging on the wall,", "7 bottles green hanging wall the on,"]
    done = charrnn(trained, "eval", "--text", "-", "--per-line", "--bits-per-char", text="\n".join(lines) + "\n\n")
    rows = [row.split("\t") for row in done.stdout.splitlines()]
    assert [row[1] for row in rows] == lines
    assert float(rows[0][0]) < float(rows[1][0])


def test_info_knows_checkpoints_runs_and_corpora(trained):
    run = json.loads(charrnn(trained, "info", "--json").stdout)
    assert run["kind"] == "checkpoint"
    assert run["parameters"] == sum(run["parameters_by_part"].values())
    assert not run["resumable"]
    assert run["training_bytes"] > 5 * 4 * run["parameters"]  # weights, average, gradients, two averages of those
    assert json.loads(charrnn(trained, "info", "checkpoints/bottles/last.safetensors", "--json").stdout)["resumable"]
    corpus = json.loads(charrnn(trained, "info", "corpora/bottles", "--json").stdout)
    assert corpus["kind"] == "corpus"
    assert corpus["characters"] == len(TEXT)
    assert "LSTM 1 x 16, layer normalisation, character vectors of" in charrnn(trained, "info").stdout


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (2, ["train"]),
        (2, ["train", "bottles.txt", "--hidden-size", "0"]),
        (2, ["train", "bottles.txt", "--cell", "transformer"]),
        (2, ["train", "bottles.txt", "--epochs", "2", "--steps", "3"]),
        (2, ["train", "bottles.txt", "--run", "bottles"]),
        (2, ["train", "bottles.txt", "--run", "../x"]),
        (2, ["train", "bottles.txt", "--preset", "huge"]),
        (2, ["train", "bottles.txt", "--config", "missing.toml"]),
        (2, ["train", "--resume", "--run", "bottles"]),
        (2, ["train", "--resume", "--run", "bottles", "--preset", "large"]),
        (2, ["train", "bottles.txt", "--seed", "9" * 400]),
        (2, ["train", "bottles.txt", "--precision", "fp16", "--device", "cpu"]),
        (2, ["train", "bottles.txt", "--split", "50,60,0"]),
        (2, ["sample", "--temperature", "0"]),
        (2, ["eval", "--perplexity", "--bits-per-char"]),
        (2, ["eval", "--text", "bottles.txt", "--split", "test"]),
        (2, ["nonsense"]),
        (3, ["train", "missing.txt"]),
        (3, ["train", "binary.dat"]),
        (3, ["train", "empty.txt"]),
        (3, ["train", "latin.txt"]),
        (3, ["eval", "--text", "missing.txt"]),
        (3, ["eval", "--text", "empty.txt"]),
        (4, ["sample", "nowhere"]),
        (4, ["sample", "bottles.txt"]),
        (4, ["eval", "broken.safetensors"]),
        (4, ["info", "nowhere"]),
        (4, ["train", "--resume", "--run", "nowhere"]),
        (4, ["train", "bottles.txt", "--init-from", "nowhere"]),
        (6, ["train", "bottles.txt", "--device", "cuda"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line_and_its_exit_code(trained, code, arguments):
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    (trained / "binary.dat").write_bytes(bytes(range(256)) * 9)
    (trained / "empty.txt").write_text("")
    (trained / "latin.txt").write_bytes("un café à Orléans, s'il vous plaît; déjà vu\n".encode("latin-1") * 9)
    whole = (trained / "checkpoints" / "bottles" / "best.safetensors").read_bytes()
    (trained / "broken.safetensors").write_bytes(whole[:-5])
    before = sorted(path.name for path in (trained / "checkpoints").iterdir())
    done = charrnn(trained, *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if arguments[0] != "nonsense":  # Typer's own usage errors have a frame
        last = done.stderr.rstrip("\n").splitlines()[-1]
        assert last.startswith("charrnn: ")
        assert len(last) > 30
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == before


@pytest.mark.parametrize("arguments", ["eval --per-line --text bottles.txt", "inspect text", "inspect embeddings"])
def test_a_closed_pipe_ends_quietly(trained, arguments):
    command = f"{sys.executable} -m charrnn {arguments} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=trained, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1


def test_a_reader_that_leaves_does_not_end_a_training(tmp_path):
    (tmp_path / "bottles.txt").write_text(TEXT)
    options = " ".join([*SMALL, "--steps", "60", "--validate-every", "2"])
    command = f"{sys.executable} -m charrnn train bottles.txt {options} 2>&1 | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    last = (tmp_path / "checkpoints" / "bottles" / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["step"] == 60
    assert (tmp_path / "checkpoints" / "bottles" / "best.safetensors").exists()


def test_folders_that_cannot_be_used_are_one_line(trained, tmp_path):
    (tmp_path / "bottles.txt").write_text(TEXT)
    (tmp_path / "checkpoints").write_text("a file where a folder should be")
    done = charrnn(tmp_path, "train", "bottles.txt", "--steps", "2", *SMALL)
    assert done.returncode == 6
    assert "Traceback" not in done.stderr
    assert "checkpoints" in done.stderr.splitlines()[-1]
    done = charrnn(trained, "train", "bottles.txt", "--steps", "2", "--run", "x" * 5000, *SMALL)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_stops_after_the_step_saves_and_says_how_to_go_on(trained, tmp_path, number, code):
    (tmp_path / "bottles.txt").write_text(TEXT)
    command = ["train", "bottles.txt", "--steps", "1000000", "--save-every", "1000000", "--validate-every", "1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "charrnn", *command, *SMALL], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    metrics = tmp_path / "checkpoints" / "bottles" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, log = process.communicate(timeout=60)
    assert process.returncode == code, log
    assert "charrnn train --resume --run bottles" in log.splitlines()[-1]
    stopped = json.loads(metrics.read_text().splitlines()[-1])["step"]
    done = charrnn(tmp_path, "train", "--resume", "--steps", str(stopped + 40), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == stopped + 40
    assert charrnn(tmp_path, "sample", "--length", "5").returncode == 0


@pytest.mark.parametrize("unit", ["char", "byte"])
def test_chinese_and_cyrillic_text_go_all_the_way_in_both_units(tmp_path, unit):
    rng = np.random.default_rng(0)
    characters = [chr(c) for c in range(0x4E00, 0x4E00 + 800)] + list("Привет, мир!")
    text = "".join("".join(rng.choice(characters, 30)) + "。\n" for _ in range(300))
    (tmp_path / "mixed.txt").write_text(text, encoding="utf-8")
    done = charrnn(tmp_path, "prepare", "mixed.txt", "--unit", unit, "--json")
    assert done.returncode == 0, done.stderr
    done = charrnn(tmp_path, "train", "mixed", "--steps", "20", "--json", *SMALL)
    assert done.returncode == 0, done.stderr
    sample = subprocess.run(
        [sys.executable, "-m", "charrnn", "sample", "--length", "200", "--quiet", "--prompt", "Привет"],
        cwd=tmp_path, capture_output=True, timeout=120,
    )  # fmt: skip
    assert sample.returncode == 0, sample.stderr
    assert sample.stdout.decode("utf-8").startswith("Привет")  # strict: valid UTF-8 in both units
    figures = json.loads(charrnn(tmp_path, "eval", "--json").stdout)
    assert figures["unseen"] == 0
    share = 1 if unit == "byte" else figures["bits_per_char"] / figures["bits_per_byte"]
    assert 1 <= share <= 3
    for command in ("eval", "info", "compare", "train", "sample"):
        more = {"train": ["mixed", "--steps", "2", *SMALL], "sample": ["--beam", "2", "--length", "5"]}
        done = charrnn(tmp_path, command, *more.get(command, ["mixed"]))
        said = done.stdout + done.stderr
        assert re.search(r"bits (each )?per character" if unit == "char" else "bits per byte", said), said
        assert unit == "char" or not re.search("per character|[0-9] characters|bits/char|chars/s", said), said


def test_a_changed_text_is_never_trained_on_stale(trained, tmp_path):
    path = tmp_path / "t.txt"
    path.write_text(TEXT)
    first = charrnn(tmp_path, "train", "t.txt", "--steps", "3", "--json", *SMALL)
    path.write_text(TEXT.replace("green", "brown"))
    second = charrnn(tmp_path, "train", "t.txt", "--steps", "3", "--json", *SMALL)
    assert first.returncode == second.returncode == 0, second.stderr
    ids = sorted((tmp_path / "corpora").glob("*/ids.npy"))
    assert len(ids) == 2
    assert not np.array_equal(np.load(ids[0]), np.load(ids[1]))


def test_memory_that_a_cpu_has_not_got_is_one_line(capsys):
    with pytest.raises(typer.Exit) as end, _one_line():
        torch.empty(10**16)
    assert end.value.exit_code == 6
    assert "out of memory" in capsys.readouterr().err


COMMANDS = {
    "train": ["train", "a.txt"],
    "sample": ["sample"],
    "eval": ["eval"],
    "compare": ["compare", "a", "b"],
    "score": ["score", "word"],
    "compress": ["compress", "a.txt"],
    "inspect": ["inspect", "text"],
}


@pytest.mark.parametrize("said", ["", "DefaultCPUAllocator: can't allocate memory", "CUDA out of memory. Tried to"])
@pytest.mark.parametrize("command", COMMANDS)
def test_advice_for_memory_names_options_that_the_command_has(command, said, monkeypatch, tmp_path):
    def fail(*arguments, **options):
        raise RuntimeError(said) if said else MemoryError

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(TEXT)
    for place in ("charrnn.checkpoint.locate", "charrnn.decoding.ensemble.locate", "charrnn.data.corpus.resolve"):
        monkeypatch.setattr(place, fail)
    done = call(*COMMANDS[command])
    (line,) = done.stderr.splitlines()
    assert done.code == 6
    assert line.startswith("charrnn: out of memory" + (" on the device;" if said.startswith("CUDA") else ";"))
    named = re.findall("--[a-z-]+", line)
    known = call(*COMMANDS[command], "--help").stdout
    assert all(option in known for option in named)
    first = {"train": "--batch-size", "sample": "--length", "inspect": "--length"}.get(command)
    assert named[:1] == ([first] if first else []) or (named == ["--device"] and said.startswith("CUDA"))
