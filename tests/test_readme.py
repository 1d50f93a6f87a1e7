"""The README says what is true: its commands run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import charrnn.cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if "pip install" not in line]
SCALE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
#: Of the document on scale; torchrun is tried from the README.
COMMANDS += [line for block in re.findall(r"```sh\n(.*?)```", SCALE, re.DOTALL) for line in block.splitlines()
             if line.startswith("charrnn")]  # fmt: skip
#: Long trainings are cut short here; everything else runs as it is written.
SHORT = " --hidden-size 16 --num-layers 1 --steps 4 --batch-size 4 --sequence-length 32"


def test_both_first_commands_install_the_pinned_torch_and_ci_runs_the_second():
    first, second = (line for block in BLOCKS for line in block.splitlines() if "pip install" in line)
    assert "pip install torch==2.13.0" in first
    assert "charrnn train python-stdlib --time-limit 2m" in first
    assert second in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    prose = "".join(
        f"Once upon a time, {n} people like apples, I am told.\ndef main():\n    pass\n" for n in range(150)
    )
    for name in ("notes.txt", "poems.txt", "shakespeare.txt"):
        (folder / name).write_text(prose)
    (folder / "old.txt").write_bytes("déjà vu\r\n".encode("cp1252") * 50)
    (folder / "src").mkdir()
    (folder / "src" / "a.py").write_text(prose)
    return folder


def shortened(command: str) -> str:
    """The command as it is run here: a training without its own model gets a small one and few steps."""
    command = command.split("   #")[0].strip()
    if command.startswith("torchrun"):
        launcher, alone = command.split(" -- ")
        return f"{launcher} -- {shortened(alone)}"
    if command.startswith("charrnn sweep"):  # the first value of each setting, and few steps
        command = re.sub(r"(--grid [\w-]+=[^,\s]+)\S*", r"\1", re.sub(r" --epochs \S+", "", command))
        return command + " --steps 4 --batch-size 4 --sequence-length 32"
    if not command.startswith("charrnn train"):
        return command
    if "--resume" in command:
        return command + (" --steps 6" if "--epochs" not in command else "")
    if "--config" in command or "--model ngram" in command:
        return command
    if "--model" in command:
        return command + " --hidden-size 16 --batch-size 4" + (" --num-heads 2" if "transformer" in command else "")
    command = re.sub(r" --(time-limit|epochs) \S+", "", command)
    for option in re.findall(r"--[a-z-]+", SHORT):
        command = re.sub(rf" {option} \S+", "", command)
    return command + SHORT


def test_every_command_runs_as_it_stands(workplace):
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    ran = 0
    for command in COMMANDS:
        if command.startswith(("charrnn train shakespeare ", "torchrun --nnodes")):  # these need a network
            continue
        command = shortened(command)
        done = subprocess.run(
            command, shell=True, cwd=workplace, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout or "wrote" in done.stderr
        ran += 1
    assert ran >= 30


def test_what_cannot_be_run_here_has_options_that_there_are():
    (script,) = re.findall(r"```bash\n(.*?)```", SCALE, re.DOTALL)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    app = typer.main.get_command(charrnn.cli.app)
    ours = {option for parameter in app.commands["train"].params for option in parameter.opts}
    after = [text.split("```")[0].split("\n\n")[0] for text in re.split(r"charrnn train|launch\[@\]\}\"", SCALE)[1:]]
    named = {option for text in after for option in re.findall(r"(?<= )--[a-z-]+", text.split("`")[0])}
    assert {"--resume", "--run", "--batch-size", "--save-every"} <= named <= ours
    launcher = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--help"], capture_output=True, text=True, check=True
    ).stdout
    texts = re.findall(r"torchrun (--[^`#]*?) -m -- charrnn", SCALE)
    given = {option for text in texts for option in re.findall(r"--[a-z-]+", text)}
    assert len(texts) == 3
    assert all(option in launcher for option in given)


def test_its_pictures_are_there_and_small():
    pictures = re.findall(r"!\[[^\]]*\]\((docs/[^)]+)\)", README)
    assert len(pictures) == 3
    for picture in pictures:
        assert 0 < (ROOT / picture).stat().st_size < 150_000


def test_the_python_example_runs(workplace, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(workplace)
    (workplace / "notes.txt").write_text("Once upon a time there was a text.\n" * 60)
    exec(compile(example, "README.md", "exec"), {})
    assert float(capsys.readouterr().out.splitlines()[-1]) > 0


def test_every_room_is_in_the_picture_and_every_named_room_exists():
    table = README.split("| room |")[1]
    named = {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`([\w/.]+)`", row.split("|")[1])
    }
    there = {
        path.name + ("/" if path.is_dir() else "")
        for path in (ROOT / "charrnn").iterdir()
        if not path.name.startswith("_") and (path.is_dir() or path.suffix == ".py")
    }
    assert named <= there
    assert there - named <= {"provenance.py", "api.py"}


def test_its_tables_of_speed_are_those_of_the_committed_results():
    printed = subprocess.run(
        [sys.executable, "benchmarks/table.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"table.py --write -->\n\n{printed.stdout}\n<!-- end" in README


def test_the_tables_of_results_are_what_was_measured():
    printed = subprocess.run(
        [sys.executable, "benchmarks/quality.py", "--tables"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    assert f"quality.py --tables -->\n\n{printed.stdout}\n<!-- end" in results
    for picture in re.findall(r"\((curves/[^)]+)\)", results):
        assert (ROOT / "benchmarks" / picture).is_file()


def test_an_interleaved_text_split_in_percent_is_the_split_of_each_stream(tmp_path):
    text = "".join(
        chr(0x4E00 + n // 10) + str(n % 10) for n in range(21_000)
    )  # any ten characters say where they stand
    (tmp_path / "text").write_text(text)
    command = [sys.executable, "benchmarks/interleave.py", tmp_path / "text", tmp_path / "out", "--split", "80,15,5"]
    subprocess.run(command, cwd=ROOT, check=True)
    out = (tmp_path / "out").read_text()
    length = len(text) // 10_000 * 100  # of a stream
    assert len(out) == 100 * length
    pieces = {(0, 80): 0, (80, 95): 80 * length, (95, 100): 95 * length}
    for (begin, end), at in pieces.items():
        size = length * (end - begin) // 100
        for stream in range(100):
            first = stream * length + length * begin // 100
            assert out[at + stream * size : at + (stream + 1) * size] == text[first : first + size]


def test_the_figures_of_how_good_are_those_of_the_committed_results():
    def measured(name):
        return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())

    def mean(row, way):
        runs = measured("quality")["rows"][row]["runs"]
        return sum(run["figures"][way]["nats_per_char"] for run in runs) / len(runs)

    (timed,) = (one for one in measured("time_to_quality")["charrnn"] if one["time_limit"] == 40)
    carried, windows, dynamic = "state carried", "`--window 256`", "`--dynamic`"
    said = README.partition("## How good")[2].partition("## How fast")[0]
    for figure in (
        sorted(run["nats_per_char"] for run in timed["runs"])[1],
        mean("base", carried),
        mean("shakespeare", carried),
        mean("shakespeare", windows),
    ):
        assert f" {figure:.3f} nats per character" in said
    table = README.partition("| preset | LSTM |")[2].partition("\n\n")[0]
    for row in ("small", "base", "large", "shakespeare"):
        assert f" {mean(row, carried):.3f} |" in table
    assert f"{mean('large', dynamic):.3f} nats per character with it and {mean('large', carried):.3f}" in README
    novel = mean("warpeace", carried), mean("warpeace", "`--dynamic`, with `warpeace-plain` and a 12-gram")
    assert "has {:.3f} alone, and {:.3f} with it, another and a 12-gram".format(*novel) in " ".join(README.split())


def test_the_sizes_of_compressed_text_are_those_of_the_committed_results():
    found = json.loads((ROOT / "benchmarks" / "results" / "compress.json").read_text())["texts"]["validation"]
    assert f"The validation split of tiny Shakespeare, {found['bytes']:,} bytes" in README
    for name, command in (("gzip", "gzip -9"), ("bzip2", "bzip2 -9"), ("xz", "xz -9e")):
        assert f"| {command} | {found[name]['bytes']:,} | | |" in README
    for one in found["charrnn"]:
        size = f"{one['bytes']:,} | {one['over_promise'] * 100:.2f} %"
        assert f"| {one['model']} | {size} | {one['with_model']:,} |" in README
